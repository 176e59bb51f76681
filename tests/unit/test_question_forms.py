"""An agent's form becomes fields with bounds, and an answer fits them or is refused by name."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from msgspec import Raw

from gateway.agents.questions import (
    CHOICES,
    FIELDS,
    TEXT_CHARACTERS,
    UnshowableQuestion,
    checked_content,
    form,
    host_of,
    retold_answers,
)
from gateway.errors import InvalidField
from gateway.events import facts as ev


def fields_of(properties: Any, **schema: Any) -> tuple[ev.QuestionField, ...]:
    odd: list[str] = []
    body = {"type": "object", "properties": properties, **schema}
    return form(Raw(json.dumps(body).encode()), odd.append)


def asked(properties: Any, **schema: Any) -> ev.QuestionAsked:
    return ev.QuestionAsked("t1.q1", "t1", "form", "What?", fields_of(properties, **schema))


def test_every_kind_of_field_is_read() -> None:
    kinds = fields_of(
        {
            "name": {"type": "string", "title": "Name", "minLength": 1, "maxLength": 5, "default": "Ann"},
            "when": {"type": "string", "format": "date"},
            "colour": {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"]},
            "size": {"type": "string", "oneOf": [{"const": "s", "title": "Small", "description": "fits"}]},
            "extras": {"type": "array", "items": {"anyOf": [{"const": "a"}, {"const": "b"}]}, "maxItems": 1},
            "tags": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
            "count": {"type": "integer", "minimum": 1, "maximum": 3},
            "price": {"type": "number"},
            "sure": {"type": "boolean", "default": True},
        },
        required=["name"],
    )
    assert [field.kind for field in kinds] == [
        *("text", "text", "choice", "choice", "choices", "choices", "integer", "number", "boolean")
    ]
    assert (kinds[0].title, kinds[0].is_required, kinds[0].default) == ("Name", True, "Ann")
    assert [choice.title for choice in kinds[2].choices] == ["Red", "Green"]
    assert kinds[3].choices[0].description == "fits"
    assert (kinds[4].maximum, kinds[8].default) == (1, True)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"a": {"type": "object", "properties": {}}}, "'a' is of the type 'object'"),
        ({"a": {"type": "string", "enum": ["x"] * 10_000}}, "10000 choices"),
        ({"a": {"type": "string", "enum": []}}, "0 choices"),
        ({"a": {"type": "array", "items": {"type": "object"}}}, "0 choices"),
        ({"a": {"type": "array"}}, "0 choices"),
        ({"a": {"type": "string", "enum": ["x" * 501]}}, "more than 500 characters"),
        ({"a": {"type": "integer", "minimum": 3, "maximum": 1}}, "takes no value"),
        ({"a": {}}, "'a' cannot be read"),
        ({"a": 7}, "'a' cannot be read"),
        ({"x" * 201: {"type": "string"}}, "at most 200 characters"),
        ({str(n): {"type": "string"} for n in range(FIELDS + 1)}, f"at most {FIELDS} fields"),
        ({"a": {"type": "string", "description": "x" * 70_000}}, "longer than"),
    ],
)
def test_a_form_that_cannot_be_shown_is_refused_in_words(properties: Any, words: str) -> None:
    with pytest.raises(UnshowableQuestion, match=words):
        fields_of(properties)


def test_a_form_that_requires_what_it_does_not_have_is_refused() -> None:
    with pytest.raises(UnshowableQuestion, match="requires the field 'b'"):
        fields_of({"a": {"type": "string"}}, required=["b"])


def test_a_deep_schema_is_refused_or_ignored_at_once() -> None:
    deep = "[" * 20_000 + "]" * 20_000
    for body in (
        f'{{"properties": {deep}}}',
        f'{{"properties": {{"a": {{"type": "string", "not": {deep}}}}}}}',
    ):
        began = time.process_time()
        try:
            form(Raw(body.encode()), lambda _: None)
        except UnshowableQuestion:
            pass
        assert time.process_time() - began < 1


def test_a_value_that_is_offered_twice_is_offered_once() -> None:
    [field] = fields_of({"a": {"type": "string", "enum": ["x", "x", "y"]}})
    assert [choice.value for choice in field.choices] == ["x", "y"]
    assert (
        len(fields_of({"a": {"type": "string", "enum": [str(n) for n in range(CHOICES)]}})[0].choices)
        == CHOICES
    )


def test_an_agents_pattern_is_shown_and_never_run() -> None:
    question = asked({"a": {"type": "string", "pattern": "^(a+)+$"}})
    assert question.fields[0].pattern == "^(a+)+$"
    began = time.process_time()
    hostile = "a" * 200 + "!"
    assert checked_content(question, "accept", {"a": hostile}) == {"a": hostile}
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("field", "good", "bad", "words"),
    [
        ({"type": "string", "minLength": 2}, ["ab"], ["a", 1, True, ["ab"]], "'f'"),
        ({"type": "string", "maxLength": 2}, ["", "ab"], ["abc"], "at most 2 characters"),
        ({"type": "string"}, ["x" * TEXT_CHARACTERS], ["x" * (TEXT_CHARACTERS + 1)], "characters"),
        ({"type": "string", "format": "email"}, ["a@b.c"], ["a", "a b@c", "a@b@c"], "e-mail"),
        ({"type": "string", "format": "uri"}, ["https://x.y/z"], ["x y", "nothing"], "address"),
        ({"type": "string", "format": "date"}, ["2026-01-31"], ["2026-02-31", "x", "20260131"], "date"),
        (
            {"type": "string", "format": "date-time"},
            ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+02:00"],
            ["2026-01-31", "2026-01-31T12:00:00"],
            "date and time",
        ),
        ({"type": "string", "format": "of-their-own"}, ["anything"], [7], "text"),
        ({"type": "integer", "minimum": 1}, [1, 2.0], [0, 1.5, "1", True, 2**60], "'f'"),
        ({"type": "number", "maximum": 2}, [0.5, -3, 2], [2.1, "2", False], "'f'"),
        ({"type": "boolean"}, [True, False], [0, "true"], "true or false"),
        ({"type": "string", "enum": ["x", "y"]}, ["x"], ["z", "", 1, ["x"]], "one of 'x', 'y'"),
        (
            {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1},
            [["x"], ["y", "x"]],
            [[], ["x", "x"], ["z"], "x", [1]],
            "'f'",
        ),
    ],
)
def test_an_answer_fits_its_field_or_is_refused_by_name(
    field: Any, good: list[Any], bad: list[Any], words: str
) -> None:
    question = asked({"f": field})
    for value in good:
        assert checked_content(question, "accept", {"f": value}) == {"f": value}
    for value in bad:
        with pytest.raises(InvalidField, match=words) as caught:
            checked_content(question, "accept", {"f": value})
        assert caught.value.field == ("body", "content", "f")


def test_what_is_missing_or_unknown_is_named() -> None:
    question = asked({"a": {"type": "string"}, "b": {"type": "boolean"}}, required=["b"])
    with pytest.raises(InvalidField, match="'b' must be answered"):
        checked_content(question, "accept", None)
    with pytest.raises(InvalidField, match="'c' is no field of this form; it has 'a', 'b'"):
        checked_content(question, "accept", {"b": True, "c": 1})
    with pytest.raises(InvalidField, match="Only an accepted form"):
        checked_content(question, "decline", {"b": True})
    assert checked_content(question, "accept", {"b": False, "a": None}) == {"b": False}
    assert checked_content(question, "decline", None) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://example.org/a?b=c#d", "example.org"), ("http://localhost:8080/x", "localhost:8080")],
)
def test_an_addresss_host_is_told(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    "url",
    [
        *("", "javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "//example.org", "https://"),
        *(
            "https://bank.com@evil.org/",
            "https://evil.org\\@bank.com/",
            "https://exa mple.org",
            "https://x\n.org",
        ),
        *("https://аррӏе.com/", "HTTPS://x.org\x00", "https://[::1", "https://x.org:99999/"),
        "https://x.org/" + "y" * 5000,
    ],
)
def test_an_address_that_may_mislead_is_refused(url: str) -> None:
    with pytest.raises(UnshowableQuestion):
        host_of(url)


def test_answers_are_told_as_a_message() -> None:
    fields = fields_of({"db": {"type": "string", "title": "Database"}, "ok": {"type": "boolean"}})
    told = retold_answers([("Which?", fields, {"db": "Postgres", "ok": True})])
    assert told.endswith("Which?\n- Database: Postgres\n- ok: yes")
