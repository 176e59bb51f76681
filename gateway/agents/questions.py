"""What an agent asks its user (ACP elicitation): a form, or an address to open. Pure.

An agent describes a form by a flat JSON Schema. It becomes a list of fields, and answers are checked against
those, so that no page and no other client reads a schema that an agent wrote.

Guarantees: a form has bounds (`FORM_BYTES`, `FIELDS`, `CHOICES`), and one past them, or with a field that no
form can show, is refused in words that name the field; an agent's regular expression is never run (`pattern`
is shown and not checked); an address is http or https, in ASCII, without a user's name, and its host is
shown; an answer fits its fields, or the error names the one that it does not fit.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from gateway.errors import InvalidField
from gateway.events import facts as ev
from worker import acp
from worker.foreign import LARGEST, Amount, Count, Name, OnOdd

FORM_BYTES: Final = 64 * 1024
"""A form's schema is at most so long."""
FIELDS: Final = 50
CHOICES: Final = 200
"""Of one field."""
MESSAGE_CHARACTERS: Final = 4_000
TITLE_CHARACTERS: Final = 300
DESCRIPTION_CHARACTERS: Final = 1_000
VALUE_CHARACTERS: Final = 500
"""Of a choice, which the agent gets back as it is: a longer one is refused, not cut."""
NAME_CHARACTERS: Final = 200
URL_CHARACTERS: Final = 4_096
TEXT_CHARACTERS: Final = 16_000
"""An answer's text is at most so long, whatever the agent allows."""

FORMATS: Final = ("email", "uri", "date", "date-time")
"""Those that are checked; text of another is any text."""
_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")


class UnshowableQuestion(ValueError):
    """A question that cannot be shown; the text says why."""


class ElicitationParams(Struct, rename="camel"):
    """ACP `elicitation/create`; `requested_schema` of a form, `url` and `elicitation_id` of an address."""

    message: str
    mode: str = "form"
    requested_schema: Raw = Raw(b"{}")
    url: str = ""
    elicitation_id: Name = ""
    tool_call_id: Name | None = None


class _Choice(Struct):
    const: Name
    title: str | None = None
    description: str | None = None


class _Items(Struct, rename={"any_of": "anyOf", "one_of": "oneOf"}):
    enum: list[Name] | None = None
    any_of: list[_Choice] | None = None
    one_of: list[_Choice] | None = None


class _Property(Struct, rename="camel"):
    type: str
    title: str | None = None
    description: str | None = None
    enum: list[Name] | None = None
    enum_names: list[Name] | None = None
    one_of: list[_Choice] | None = None
    items: _Items | None = None
    format: str | None = None
    pattern: str | None = None
    min_length: Count | None = None
    max_length: Count | None = None
    minimum: Amount | None = None
    maximum: Amount | None = None
    min_items: Count | None = None
    max_items: Count | None = None
    default: Any = None


class _Schema(Struct):
    properties: dict[str, Raw] = {}
    required: list[Name] | None = None


# -- asking -----------------------------------------------------------------------------------------------


def form(schema: Raw, on_odd: OnOdd) -> tuple[ev.QuestionField, ...]:
    """The fields of a form. Raises UnshowableQuestion."""
    try:
        parsed = acp.parse(schema, _Schema, on_odd, limit_bytes=FORM_BYTES)
    except msgspec.DecodeError as error:
        raise UnshowableQuestion(f"The form cannot be read: {error}") from None
    if len(parsed.properties) > FIELDS:
        raise UnshowableQuestion(f"A form has at most {FIELDS} fields, this one {len(parsed.properties)}.")
    required = frozenset(parsed.required or ())
    if missing := sorted(required - parsed.properties.keys()):
        raise UnshowableQuestion(
            f"The form requires the field {missing[0][:NAME_CHARACTERS]!r}, which it does not have."
        )
    return tuple(_field(name, body, required, on_odd) for name, body in parsed.properties.items())


def _field(name: str, body: Raw, required: frozenset[str], on_odd: OnOdd) -> ev.QuestionField:
    if len(name) > NAME_CHARACTERS:
        raise UnshowableQuestion(f"The name of a field has at most {NAME_CHARACTERS} characters.")
    try:
        given = acp.parse(body, _Property, on_odd)
    except msgspec.DecodeError as error:
        raise UnshowableQuestion(f"The field {name!r} cannot be read: {error}") from None
    kind, choices = _kind(name, given, on_odd)
    low, high = _bounds(kind, given)
    if low is not None and high is not None and low > high:
        raise UnshowableQuestion(f"The field {name!r} takes no value: its minimum is above its maximum.")
    field = ev.QuestionField(
        name,
        kind,
        (given.title or name)[:TITLE_CHARACTERS],
        (given.description or "")[:DESCRIPTION_CHARACTERS],
        is_required=name in required,
        choices=choices,
        format=given.format if given.format in FORMATS and kind == "text" else "",
        pattern=(given.pattern or "")[:TITLE_CHARACTERS] if kind == "text" else "",
        minimum=low,
        maximum=high,
    )
    return msgspec.structs.replace(field, default=_default(field, given.default, on_odd))


def _kind(name: str, given: _Property, on_odd: OnOdd) -> tuple[ev.FieldKind, tuple[ev.QuestionChoice, ...]]:
    match given.type:
        case "string" if given.one_of is not None or given.enum is not None:
            names = given.enum_names or ()
            plain = [
                _Choice(value, names[at] if at < len(names) else None)
                for at, value in enumerate(given.enum or ())
            ]
            return "choice", _choices(name, given.one_of or plain, on_odd)
        case "array":
            items = given.items or _Items()
            several = items.any_of or items.one_of or [_Choice(value) for value in items.enum or ()]
            return "choices", _choices(name, several, on_odd)
        case "string":
            return "text", ()
        case "number":
            return "number", ()
        case "integer":
            return "integer", ()
        case "boolean":
            return "boolean", ()
    raise UnshowableQuestion(
        f"The field {name!r} is of the type {given.type[:40]!r}, which no form can show."
    )


def _choices(name: str, given: Sequence[_Choice], on_odd: OnOdd) -> tuple[ev.QuestionChoice, ...]:
    """Each value once: of two with the same value, the agent could not tell which was meant."""
    if not 0 < len(given) <= CHOICES:
        raise UnshowableQuestion(
            f"The field {name!r} offers {len(given)} choices; 1 to {CHOICES} can be shown."
        )
    unique: dict[str, ev.QuestionChoice] = {}
    for choice in given:
        if len(choice.const) > VALUE_CHARACTERS:
            raise UnshowableQuestion(
                f"A choice of the field {name!r} has more than {VALUE_CHARACTERS} characters."
            )
        if choice.const in unique:
            on_odd("choices")
            continue
        title = (choice.title or choice.const)[:TITLE_CHARACTERS]
        unique[choice.const] = ev.QuestionChoice(
            choice.const, title, (choice.description or "")[:DESCRIPTION_CHARACTERS]
        )
    return tuple(unique.values())


def _bounds(kind: ev.FieldKind, given: _Property) -> tuple[float | None, float | None]:
    match kind:
        case "text":
            return given.min_length, given.max_length
        case "number" | "integer":
            return given.minimum, given.maximum
        case "choices":
            return given.min_items, given.max_items
    return None, None


def _default(field: ev.QuestionField, value: Any, on_odd: OnOdd) -> Any:
    """What the form begins with; a value that is no answer counts as absent."""
    if value is None:
        return None
    try:
        return _checked(field, value)
    except InvalidField:
        on_odd("default")
        return None


def host_of(url: str) -> str:
    """The host of an address that a person may open. Raises UnshowableQuestion."""
    if len(url) > URL_CHARACTERS or _URL.fullmatch(url) is None:
        raise UnshowableQuestion(
            "An address begins with http:// or https://, is plain ASCII and has at most "
            f"{URL_CHARACTERS} characters."
        )
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise UnshowableQuestion(f"The address cannot be read: {error}.") from None
    if not host or "@" in parts.netloc:
        raise UnshowableQuestion("An address names a host, and no user before it.")
    return parts.netloc


# -- answering --------------------------------------------------------------------------------------------

Action = Literal["accept", "decline", "cancel"]


def checked_content(
    asked: ev.QuestionAsked, action: Action, content: Mapping[str, Any] | None
) -> dict[str, ev.AnswerValue] | None:
    """The answer as the agent gets it. Raises InvalidField, naming the field that does not fit."""
    if action != "accept" or asked.mode == "url":
        if content:
            raise InvalidField("Only an accepted form has content.", field=("body", "content"))
        return None
    given = content or {}
    fields = {field.name: field for field in asked.fields}
    for name in given:
        if name not in fields:
            raise _refused(name[:NAME_CHARACTERS], f"is no field of this form; it has {_listed(fields)}")
    for field in asked.fields:
        if field.is_required and given.get(field.name) is None:
            raise _refused(field.name, "must be answered")
    return {name: _checked(fields[name], value) for name, value in given.items() if value is not None}


def _checked(field: ev.QuestionField, value: Any) -> ev.AnswerValue:
    match field.kind:
        case "boolean":
            if not isinstance(value, bool):
                raise _refused(field.name, "is true or false")
            return value
        case "number" | "integer":
            return _number(field, value)
        case "choice":
            return _choice(field, value)
        case "choices":
            return _several(field, value)
    return _text(field, value)


def _number(field: ev.QuestionField, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(field.name, "is a number")
    if field.kind == "integer":
        if value != int(value) or abs(value) > LARGEST:
            raise _refused(field.name, "is a whole number")
        value = int(value)
    number: int | float = value
    low, high = field.minimum, field.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise _refused(field.name, f"is {_between(low, high)}")
    return number


def _choice(field: ev.QuestionField, value: Any) -> str:
    values = {choice.value: choice for choice in field.choices}
    if not isinstance(value, str) or value not in values:
        raise _refused(field.name, f"is one of {_listed(values)}")
    return value


def _several(field: ev.QuestionField, value: Any) -> list[str]:
    if not isinstance(value, list | tuple):
        raise _refused(field.name, "is a list of choices")
    chosen = [_choice(field, one) for one in value]
    if len(set(chosen)) != len(chosen):
        raise _refused(field.name, "names each choice once")
    low, high = field.minimum, field.maximum
    if (low is not None and len(chosen) < low) or (high is not None and len(chosen) > high):
        raise _refused(field.name, f"takes {_between(low, high)} choices")
    return chosen


def _text(field: ev.QuestionField, value: Any) -> str:
    if not isinstance(value, str):
        raise _refused(field.name, "is a text")
    low, high = field.minimum, min(field.maximum or TEXT_CHARACTERS, TEXT_CHARACTERS)
    if (low is not None and len(value) < low) or len(value) > high:
        raise _refused(field.name, f"has {_between(low, high)} characters")
    if field.format and not _fits(field.format, value):
        raise _refused(field.name, _FORMAT_WORDS[field.format])
    return value


_FORMAT_WORDS: Final = {
    "email": "is an e-mail address",
    "uri": "is an address such as https://example.org",
    "date": "is a date such as 2026-01-31",
    "date-time": "is a date and time such as 2026-01-31T12:00:00Z",
}


def _fits(form: str, value: str) -> bool:
    if form in ("email", "uri"):
        return (_EMAIL if form == "email" else _URI).fullmatch(value) is not None
    try:
        if form == "date":
            return len(datetime.date.fromisoformat(value).isoformat()) == len(value)
        return "T" in value and datetime.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:.17g}"
    return f"at least {low:.17g}" if high is None else f"{low:.17g} to {high:.17g}"


def _listed(names: Iterable[str], *, at_most: int = 20) -> str:
    all_names = list(names)
    shown = ", ".join(repr(name[:60]) for name in all_names[:at_most])
    return f"{shown}, …" if len(all_names) > at_most else shown or "none"


def _refused(name: str, words: str) -> InvalidField:
    return InvalidField(f"{name!r} {words} - at `$.content.{name}`.", field=("body", "content", name))


# -- an answer that no agent waits for any more --------------------------------------------------------------


KnownAnswer = tuple[str, Sequence[ev.QuestionField], Mapping[str, ev.AnswerValue]]
"""What was asked, the fields of the form, and the content of the answer."""


def retold_answers(answers: Sequence[KnownAnswer]) -> str:
    """Answers as a message of the user's: the agent that asked is gone, and its successor has only that."""
    lines = ["My answer to what you asked before the gateway was restarted:"]
    for message, fields, content in answers:
        titles = {field.name: field.title for field in fields}
        lines += ["", message]
        lines += [f"- {titles.get(name, name)}: {_said(value)}" for name, value in content.items()]
    return "\n".join(lines)


def _said(value: ev.AnswerValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
