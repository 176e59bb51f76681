"""What the dialects share: bodies as members, addresses as lists of what is allowed. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from gateway.models.dialects.contract import AskedCall, CallRules, ModelCallRefused, Operation

T = TypeVar("T")

BYTES_A_TOKEN: Final = 4
MOST_BRACKETS: Final = 1_000_000
"""A request of more lists and objects would hold up everybody else while it is read."""
MODEL: Final = re.compile(r"[\w.:@/+-]{1,256}", re.ASCII)
_DOTS: Final = re.compile(r"(^|/)\.{1,2}(/|$)|//|^/|/$")
_NOTHING: Final = Raw()
_decode: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


LONG_BYTES: Final = 64 * 1024
IMAGE_TOKENS: Final = 1_500
"""About what a model counts for an image."""
_IMAGES: Final = (b"data:image/", b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")
"""How images begin in Base64, with and without an address before them."""


def counted_bytes(body: bytes) -> int:
    """How many bytes of text a request is worth: an image does not count by its own."""
    if len(body) < LONG_BYTES:
        return len(body)
    images = [len(text) for text in body.split(b'"') if len(text) > LONG_BYTES and text.startswith(_IMAGES)]
    return len(body) - sum(images) + IMAGE_TOKENS * BYTES_A_TOKEN * len(images)


def members(body: bytes, guarded: tuple[str, ...]) -> dict[str, Raw]:
    """The members of a body; of two of one name the last, as JSON readers have it. A member whose name is
    one of `guarded` but for its case is left out: some providers read it as that. Raises ModelCallRefused.
    """
    if body.count(b"{") + body.count(b"[") > MOST_BRACKETS:
        raise ModelCallRefused(413, "too_large", "The request has more parts than the gateway reads.")
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelCallRefused(400, "invalid_request", "The body is no JSON object.") from None
    lower = _by_lower_case(guarded)
    return {name: value for name, value in found.items() if lower.get(name.lower(), name) == name}


@functools.lru_cache(maxsize=16)
def _by_lower_case(names: tuple[str, ...]) -> dict[str, str]:
    """Of each dialect one."""
    return {name.lower(): name for name in names}


def value_of(fields: Mapping[str, Raw], name: str) -> Any:
    """A member's value; None if it is not there. Raises ModelCallRefused."""
    if name not in fields:
        return None
    try:
        return msgspec.json.decode(fields[name])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelCallRefused(400, "invalid_request", f"{name} cannot be read.") from None


def raw(value: Any) -> Raw:
    """A value as a member."""
    return Raw(_encode(value))


def encoded(fields: Mapping[str, Raw]) -> bytes:
    """Members as a body."""
    return _encode(fields)


def count_of(fields: Mapping[str, Raw], *names: str) -> int:
    """The first of these members that is a positive whole number; 0 if none is."""
    for name in names:
        value = value_of(fields, name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return min(value, 2**53)
    return 0


def chosen_model(name: Any, rules: CallRules) -> str:
    """The model to ask for: the one that is named, or the default one. Raises ModelCallRefused."""
    if name is None and rules.default_model:
        return rules.default_model
    if not isinstance(name, str) or not MODEL.fullmatch(name) or _DOTS.search(name):
        raise ModelCallRefused(404, "model_not_found", "Name a model: none of that name may be used here.")
    if not rules.has_model(name):
        raise ModelCallRefused(404, "model_not_found", f"The model {name} may not be used here.")
    return name


def takes(method: str, below: str | None, paths: Collection[str]) -> bool:
    """Whether this is a call of one of these paths, or asks for the models. `below` is the path below its
    version; None: it has none.
    """
    if method == "POST":
        return below in paths
    return method == "GET" and below is not None and (below == "models" or below.startswith("models/"))


def generation(
    body: bytes,
    fields: dict[str, Raw],
    rules: CallRules,
    stripped: Stripped,
    *,
    path: str,
    limits: Sequence[str],
    operation: Operation = "generate",
) -> AskedCall:
    """A call whose body names its model, once its tools are stripped; `limits` are the members that may say
    how long an answer may be. Raises ModelCallRefused.
    """
    model = chosen_model(value_of(fields, "model"), rules)
    fields["model"] = raw(model)
    stripped.dearer(fields)
    answers = max(1, count_of(fields, "n"))
    return AskedCall(
        operation=operation,
        path=path,
        model=model,
        fields=fields,
        is_stream=value_of(fields, "stream") is True,
        max_output_tokens=answers * count_of(fields, *limits),
        input_tokens=counted_bytes(body) // BYTES_A_TOKEN,
        dropped=tuple(stripped.names),
    )


def refuse_fetched(fields: Mapping[str, Raw], names: Sequence[str], rules: CallRules) -> None:
    """Refuses pictures and files, in the conversation of these members, that the provider would fetch from an
    address. What tools are called with is fetched by nobody, and not looked at. Raises ModelCallRefused.
    """
    if "urls" in rules.tools:
        return
    for name in names:
        value = bytes(fields.get(name, b""))
        if not any(sign in value for sign in _SIGNS):
            continue
        if any(map(_is_fetched, _addresses(value, 0))):
            words = "The provider may not fetch addresses here (provider_tools: urls); send the data itself."
            raise ModelCallRefused(400, "provider_tool_off", words)


TIERS: Final = ("service_tier", "serviceTier", "speed")
"""Members that choose how soon a provider answers, and for how much."""
_USUAL_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only", "flex"})
"""Those that cost what the model costs, or less; `auto` is what the operator chose at the provider."""
_SIGNS: Final = (b"_url", b"_uri", b"fileUri", b"source", b"\\u00")
"""Without one of these there is no address, whatever is escaped."""
_SCHEMES: Final = ("http:", "https:", "ftp:", "gs:", "s3:", "//")
_DEEP: Final = 8
_BLANKS: Final = 64


class _Place(Struct):
    """What holds an address, in one or another dialect."""

    url: Any = None
    fileUri: Any = None
    file_uri: Any = None


class _Part(Struct):
    """A part of a conversation: what may hold an address, and what may hold further parts."""

    image_url: Raw = _NOTHING
    file_url: Raw = _NOTHING
    video_url: Raw = _NOTHING
    source: Raw = _NOTHING
    fileData: Raw = _NOTHING
    file_data: Raw = _NOTHING
    content: Raw = _NOTHING
    output: Raw = _NOTHING
    parts: Raw = _NOTHING
    functionResponse: Raw = _NOTHING
    function_response: Raw = _NOTHING


def _addresses(value: bytes | Raw, depth: int) -> Iterator[str]:
    """Every address in a part, or in a list of parts."""
    for part in _parts(value):
        for place in (part.image_url, part.file_url, part.video_url, part.source, part.fileData):
            yield from _in_place(place)
        yield from _in_place(part.file_data)
        if depth < _DEEP:
            for inner in (part.content, part.output, part.parts):
                yield from _addresses(inner, depth + 1)
            for inner in (part.functionResponse, part.function_response):
                yield from _addresses(inner, depth + 1)


def _parts(value: bytes | Raw) -> Iterator[_Part]:
    """The objects of a list, or the one object that this is."""
    start = _start(value)
    if start == b"{" and (part := _read(value, _Part)) is not None:
        yield part
    if start == b"[":
        for item in _read(value, list[Raw]) or ():
            if _start(item) == b"{" and (part := _read(item, _Part)) is not None:
                yield part


def _start(value: bytes | Raw) -> bytes:
    """The first byte that says something."""
    return bytes(memoryview(value)[:_BLANKS]).lstrip()[:1]


def _in_place(value: Raw) -> Iterator[str]:
    start = _start(value)
    if start == b'"' and (text := _read(value, str)) is not None:
        yield text
    if start == b"{" and (place := _read(value, _Place)) is not None:
        yield from (found for found in (place.url, place.fileUri, place.file_uri) if isinstance(found, str))


def _read(value: bytes | Raw, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_fetched(address: str) -> bool:
    return address.strip().lower().startswith(_SCHEMES)


class Stripped:
    """What was taken out of a call because the provider may not do it."""

    def __init__(self, rules: CallRules) -> None:
        self._allowed = rules.tools
        self.names: list[str] = []

    def takes_out(self, name: str) -> bool:
        """Whether this is off; if so, it is noted."""
        if name in self._allowed:
            return False
        if name not in self.names:
            self.names.append(name)
        return True

    def member(self, fields: dict[str, Raw], member: str, name: str) -> None:
        """Takes a member out if this is off."""
        if member in fields and bytes(fields[member]).strip() not in _EMPTY and self.takes_out(name):
            del fields[member]

    def dearer(self, fields: dict[str, Raw]) -> None:
        """Takes out what makes a call cost more than its model does."""
        for member in TIERS:
            value = value_of(fields, member)
            is_usual = isinstance(value, str) and value.lower() in _USUAL_TIERS
            if value is not None and not is_usual and self.takes_out("priority"):
                del fields[member]

    def refuse(self, fields: Mapping[str, Raw], member: str, name: str) -> None:
        """Refuses a call with this member if this is off: without it, it would mean something else."""
        if member in fields and bytes(fields[member]).strip() not in _EMPTY and name not in self._allowed:
            raise off(name, member)

    def tools(self, given: list[Any], kept: Sequence[Any]) -> None:
        """Refuses a call of whose tools none is left. Raises ModelCallRefused."""
        if given and not kept and self.names:
            raise off(self.names[0], "tools")


_EMPTY: Final = (b"null", b"false", b"[]", b'""')


def off(name: str, member: str) -> ModelCallRefused:
    """The refusal of something that the provider would do by itself."""
    words = f"{member}: the provider may not do this by itself here (provider_tools: {name})."
    return ModelCallRefused(400, "provider_tool_off", words)


def versioned(path: str, versions: tuple[str, ...]) -> str | None:
    """The path below its version, `/v1/models` → `models`; None if it has none of these."""
    for version in versions:
        if path.startswith(f"/{version}/"):
            return path[len(version) + 2 :]
    return None


def bearer_of(headers: Mapping[str, str]) -> str:
    """The token of `Authorization: Bearer`; empty if there is none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
