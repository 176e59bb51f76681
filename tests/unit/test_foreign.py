"""What others wrote is read by one rule: optional and odd is absent, required and odd refuses."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, Struct, UnsetType

from worker import foreign
from worker.foreign import Amount, Count, Integer, Name


class Inner(Struct, rename="camel"):
    needed: str
    how_many: Count = 0


class Thing(Struct, rename="camel"):
    used: Count | None = None
    code: Integer = 7
    cost: Amount | None = None
    name: Name = ""
    flag: bool = False
    inner: Inner | None = None
    inners: list[Inner] = []
    more: dict[str, Any] | None = None
    raw: Raw | UnsetType = UNSET


class Demanding(Struct, rename="camel"):
    tool_call_id: Name
    inner: Inner
    used: Count | None = None


class Choice(Struct):
    id: int | str


class Cat(Struct, tag_field="kind", tag="cat"):
    lives: Count = 9


class Dog(Struct, tag_field="kind", tag="dog"):
    name: str


def read(text: str | bytes, kind: Any = Thing) -> tuple[Any, list[str]]:
    odd: list[str] = []
    data = text.encode() if isinstance(text, str) else text
    return foreign.decode(foreign.tidied(data, odd.append), kind, odd.append), odd


@pytest.mark.parametrize("number", ["5", "5.0", "5e0", "0.5e1"])
def test_an_integer_is_one_however_it_is_spelt(number: str) -> None:
    assert read(f'{{"used":{number}}}') == (Thing(used=5), [])


@pytest.mark.parametrize(
    "value",
    [
        *("9223372036854775808", "9007199254740993", "-1", "1.5", "1e999", "9" * 5_000, "NaN", "-Infinity"),
        *('"5"', "true", "[]", "{}", '{"a":' * 300 + "1" + "}" * 300),
    ],
)
def test_a_number_that_is_none_counts_as_absent(value: str) -> None:
    thing, odd = read(f'{{"used":{value},"flag":true}}')
    assert thing == Thing(flag=True)
    assert odd or value == "NaN"


@pytest.mark.parametrize("text", ['{"id":[]}', '{"id":{"a":1}}', '{"id":1.5}'])
def test_what_is_refused_is_not_kept_until_the_collector_comes(text: str) -> None:
    said = bytearray(text.encode())
    gc.disable()
    try:
        with pytest.raises(msgspec.DecodeError) as refused:
            foreign.decode(memoryview(said), Choice)
        del refused
        said.append(0)  # BufferError while anything looks at it
    finally:
        gc.enable()


@pytest.mark.parametrize("value", ["1e16", "-1e16", "Infinity", '"1"', "1e999"])
def test_an_amount_is_finite_and_bounded(value: str) -> None:
    thing, odd = read(f'{{"cost":{value},"code":3}}')
    assert (thing, bool(odd)) == (Thing(code=3), True)


@pytest.mark.parametrize(("value", "name"), [("7", "7"), ("true", "true"), ('{"a":1}', '{"a":1}')])
def test_a_name_of_another_type_is_its_text(value: str, name: str) -> None:
    assert read(f'{{"name":{value}}}') == (Thing(name=name), [])


def test_null_where_a_value_is_meant_counts_as_absent() -> None:
    thing, odd = read('{"code":null,"name":null,"flag":null,"inners":null,"used":null}')
    assert (thing, odd) == (Thing(), ["code", "name", "flag", "inners"])


def test_an_optional_part_is_left_out_if_its_own_required_member_is_odd() -> None:
    thing, odd = read('{"inner":{"needed":5},"used":3}')
    assert (thing, odd) == (Thing(used=3), ["inner"])


def test_an_odd_member_of_a_part_costs_only_itself() -> None:
    thing, odd = read('{"inner":{"needed":"a","howMany":-1}}')
    assert (thing, odd) == (Thing(inner=Inner("a")), ["inner.howMany"])


def test_items_that_do_not_fit_are_left_out() -> None:
    thing, odd = read('{"inners":[{"needed":"a"},7,{"needed":null},{"needed":"b","howMany":2.0}]}')
    assert (thing.inners, odd) == ([Inner("a"), Inner("b", 2)], ["inners[]", "inners[]"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"inner":{"needed":"a"}}', "toolCallId"),
        ('{"toolCallId":null,"inner":{"needed":"a"}}', "toolCallId"),
        ('{"toolCallId":1,"inner":{"needed":4}}', "inner.needed"),
        ('{"toolCallId":1,"inner":4}', "inner"),
        ("[]", "the whole"),
    ],
)
def test_a_required_member_refuses_the_message_by_name(text: str, named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        read(text, Demanding)


def test_kinds_are_told_apart_on_the_slow_path_too() -> None:
    assert read('{"kind":"cat","lives":-1}', Cat | Dog) == (Cat(), ["lives"])
    with pytest.raises(msgspec.ValidationError, match="name"):
        read('{"kind":"dog","name":1}', Cat | Dog)
    with pytest.raises(msgspec.ValidationError, match="kind"):
        read('{"kind":"cow","name":1}', Cat | Dog)


def test_what_is_kept_raw_stays_as_it_was_written() -> None:
    thing, _ = read('{"raw":{"a": 1e999, "n": 123456789012345678901234567890},"used":-1}')
    assert bytes(thing.raw) == b'{"a": 1e999, "n": 123456789012345678901234567890}'


def test_not_numbers_inside_strings_stay() -> None:
    thing, odd = read('{"name":"NaN \\" Infinity","used":NaN,"code":5}')
    assert (thing, odd) == (Thing(name='NaN " Infinity', code=5), ["number"])


def test_a_text_that_is_no_json_is_said_so() -> None:
    for text in ("", "{", "nonsense", '{"a":NaNo}', "[" * 100_000):
        with pytest.raises(msgspec.DecodeError):
            read(text)


def depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            below
            for item in level
            if isinstance(item, list | dict)
            for below in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest - 1


@pytest.mark.parametrize("shape", ["[{}]", '{{"a":{}}}', '[[],{{"b":"[[["}},{}]', '["\\"[",{}, 1 ]'])
def test_what_is_nested_too_deep_becomes_null(shape: str) -> None:
    text = "1"
    for _ in range(150):
        text = shape.format(text)
    assert foreign.tidied(text.encode()) == text.encode()
    for _ in range(10_000 - 150):
        text = shape.format(text) if len(text) < 200_000 else f"[{text}]"
    odd: list[str] = []
    tidied = foreign.tidied(text.encode(), odd.append)
    assert odd == ["nesting"]
    assert depth(json.loads(tidied)) == foreign.DEPTH_LIMIT


def test_what_lies_beside_the_depths_is_kept() -> None:
    deep = "[" * 10_000 + "]" * 10_000
    tidied = json.loads(foreign.tidied(f'{{"a":[1,{deep},2],"b":{deep},"c":"]]]"}}'.encode()))
    assert (tidied["a"][0], tidied["a"][2], tidied["c"]) == (1, 2, "]]]")


def test_many_shallow_brackets_are_not_deep() -> None:
    text = json.dumps([[{}] * 1_000, "[" * 5_000]).encode()
    assert foreign.tidied(text) == text


@pytest.mark.parametrize("unit", ["a", '\\"', "\\", '"', 'a"[', "[1,", '{"a":', "[]", 'NaN"', "\\ud800"])
def test_hostile_text_takes_no_time_to_speak_of(unit: str) -> None:
    text = ("[" * 300 + '"' + unit * 500_000)[:500_000].encode()
    began = time.process_time()
    with pytest.raises(msgspec.DecodeError):
        read(text)
    assert time.process_time() - began < 1


def test_sums_are_clamped() -> None:
    assert foreign.clamped(2**62 + 2**62) == foreign.LARGEST
    assert foreign.clamped(-(2**70)) == -foreign.LARGEST
    assert foreign.clamped(5) == 5
