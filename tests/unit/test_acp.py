"""The codec: whatever the chunks and the bytes, lines become messages in order and nothing raises."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.handlers import KeptLine
from worker import acp

PREFIX = b'{"jsonrpc":"2.0","method":"m","params":{"t":"'
SUFFIX = b'"}}'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def line_of(size: int) -> bytes:
    """A valid message of exactly this many bytes, newline excluded."""
    return PREFIX + b"x" * (size - len(PREFIX) - len(SUFFIX)) + SUFFIX


def feed_in(lines: acp.Lines, data: bytes, cuts: list[int]) -> list[acp.AcpMessage]:
    messages: list[acp.AcpMessage] = []
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        messages += lines.feed(data[at:cut])
        at = cut
    return messages


def describe(message: acp.AcpMessage) -> Any:
    if not isinstance(message, acp.Envelope):
        return message
    return (message.id, message.method, bytes(acp.raw(message.params)), bytes(acp.raw(message.result)))


@given(st.lists(json_values, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_the_cuts_between_chunks_do_not_matter(values: list[Any], cuts: list[int]) -> None:
    data = b"".join(acp.notification("m", value) for value in values)
    messages = feed_in(acp.Lines(), data, cuts)
    assert [describe(m) for m in messages] == [describe(m) for m in acp.Lines().feed(data)]
    assert len(messages) == len(values)
    for message, value in zip(messages, values, strict=True):
        assert isinstance(message, acp.Envelope)
        assert acp.parse(message.params, object) == ({} if value is None else value)


@given(st.binary(max_size=400), st.lists(st.integers(0, 1000), max_size=10))
def test_any_bytes_are_split_alike_and_never_raise(data: bytes, cuts: list[int]) -> None:
    whole = acp.Lines(limit_bytes=50)
    pieces = acp.Lines(limit_bytes=50)
    expected = [describe(m) for m in whole.feed(data + b"\n")]
    assert [describe(m) for m in feed_in(pieces, data + b"\n", cuts)] == expected
    assert pieces.held_bytes == 0


@given(st.binary(max_size=200))
def test_a_broken_text_never_raises_but_a_decode_error(data: bytes) -> None:
    message = acp.decode(PREFIX + data.replace(b"\n", b"") + SUFFIX)
    if isinstance(message, acp.Envelope):
        assert isinstance(acp.parse(message.params, dict[str, Any]), dict)


@pytest.mark.parametrize("size", [100, 4096])
def test_a_line_at_the_limit_passes_and_one_byte_more_does_not(size: int) -> None:
    lines = acp.Lines(limit_bytes=size)
    [message] = lines.feed(line_of(size) + b"\n")
    assert isinstance(message, acp.Envelope)
    assert lines.feed(line_of(size + 1) + b"\n") == [acp.Oversize(size)]


def test_an_oversize_line_is_told_once_not_held_and_reading_goes_on() -> None:
    lines = acp.Lines(limit_bytes=100)
    messages: list[acp.AcpMessage] = []
    for _ in range(50):
        messages += lines.feed(b"x" * 30)
        assert lines.held_bytes <= 100
    assert messages == [acp.Oversize(100)]
    [after] = lines.feed(b"tail\n" + acp.notification("m", {}))
    assert isinstance(after, acp.Envelope)


def test_the_default_limit_is_16_mebibytes() -> None:
    lines = acp.Lines()
    [message] = lines.feed(line_of(acp.LINE_LIMIT_BYTES) + b"\n")
    assert isinstance(message, acp.Envelope)
    assert lines.feed(line_of(acp.LINE_LIMIT_BYTES + 1)) == [acp.Oversize(16 * 1024 * 1024)]


@pytest.mark.parametrize(
    "line",
    [
        b"npm WARN",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{}",
        b'{"jsonrpc":"2.0"}',
        b'{"id":[],"method":"m"}',
        b"{",
    ],
)
def test_what_is_no_message_is_garbage(line: bytes) -> None:
    assert acp.decode(line) == acp.Garbage(line.decode())


def test_garbage_keeps_its_beginning_only() -> None:
    garbage = acp.decode(b"g" * 1_000_000)
    assert isinstance(garbage, acp.Garbage)
    assert 0 < len(garbage.text) <= 1000


def test_empty_lines_and_carriage_returns_are_ignored() -> None:
    [message] = acp.Lines().feed(b'\n \r\n{"method":"m"}\r\n\n')
    assert isinstance(message, acp.Envelope)
    assert message.is_notification


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"id":0,"method":"m"}', "request"),
        (b'{"id":null,"method":"m"}', "request"),
        (b'{"id":"a","method":"m"}', "request"),
        (b'{"method":"m"}', "notification"),
        (b'{"id":0,"result":null}', "response"),
        (b'{"id":0,"error":{"code":-1,"message":"no"}}', "response"),
    ],
)
def test_kinds_are_told_apart_and_id_0_is_an_id(line: bytes, kind: str) -> None:
    message = acp.decode(line)
    assert isinstance(message, acp.Envelope)
    kinds = {
        "request": message.is_request,
        "notification": message.is_notification,
        "response": message.is_response,
    }
    assert [name for name, true in kinds.items() if true] == [kind]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xff", "\ufffd"),
        (b"ok \xe2\x82", "ok \ufffd"),
        (b"\\ud83d", "\ufffd"),
        (b"\\udc00 x", "\ufffd x"),
        (b"\\ud83c\\udf89", "🎉"),
        (b"\\\\ud83d", "\\ud83d"),
        (b"\\ud83d\\ud83c\\udf89", "\ufffd🎉"),
    ],
)
def test_broken_text_becomes_the_replacement_character(text: bytes, expected: str) -> None:
    message = acp.decode(PREFIX + text + SUFFIX)
    assert isinstance(message, acp.Envelope)
    assert acp.parse(message.params, dict[str, str]) == {"t": expected}


def test_deep_nesting_is_cut_or_garbage_and_never_a_crash() -> None:
    for depth in (100, 900, 5_000, 200_000):
        message = acp.decode(b'{"method":"m","params":' + b"[" * depth + b"]" * depth + b"}")
        assert isinstance(message, acp.Envelope)
        acp.parse(message.params, object)
        assert isinstance(acp.decode(b'{"method":"m","params":' + b"[" * depth), acp.Garbage)


def test_a_byte_order_mark_is_no_part_of_the_first_message() -> None:
    [message] = acp.Lines().feed(b'\xef\xbb\xbf{"method":"m"}\n')
    assert isinstance(message, acp.Envelope)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (b'"error":{"code":1e3,"message":7}', acp.RpcError(1_000, "7")),
        (b'"error":{"code":-99999999999999999999,"message":null}', acp.RpcError()),
        (b'"error":{"code":NaN,"message":"no"}', acp.RpcError(message="no")),
        (b'"error":null,"result":1', None),
    ],
)
def test_an_odd_error_is_an_error_still(members: bytes, expected: acp.RpcError | None) -> None:
    message = acp.decode(b'{"id":1,%b}' % members)
    assert isinstance(message, acp.Envelope)
    assert message.error == expected


def test_an_error_that_is_none_is_not_taken_for_an_answer() -> None:
    odd: list[str] = []
    message = acp.decode(b'{"id":1,"error":"broken"}', odd.append)
    assert isinstance(message, acp.Envelope)
    assert isinstance(message.error, acp.RpcError)
    assert odd == ["error"]


@pytest.mark.parametrize("number", [b"1.0", b"1e0"])
def test_an_id_is_one_number_however_it_is_spelt(number: bytes) -> None:
    message = acp.decode(b'{"id":%b,"result":1}' % number)
    assert isinstance(message, acp.Envelope)
    assert message.id == 1


@pytest.mark.parametrize("value", [b"1.5", b"99999999999999999999", b"true", b"{}", b"NaN1"])
def test_a_message_whose_id_is_none_is_garbage(value: bytes) -> None:
    assert isinstance(acp.decode(b'{"id":%b,"method":"m"}' % value), acp.Garbage)


@pytest.mark.parametrize("absent", [b'{"id":1}', b'{"id":1,"result":null}'])
def test_an_absent_or_null_body_is_an_empty_object(absent: bytes) -> None:
    message = acp.decode(absent)
    assert isinstance(message, acp.Envelope)
    assert acp.parse(message.result, dict[str, Any]) == {}


def test_a_body_of_another_shape_names_the_path() -> None:
    message = acp.decode(b'{"method":"m","params":{"n":"x"}}')
    assert isinstance(message, acp.Envelope)
    with pytest.raises(msgspec.ValidationError, match=r"\$"):
        acp.parse(message.params, dict[str, int])


@given(st.integers() | st.text(), json_values)
def test_what_is_encoded_is_one_line_of_json(request_id: int | str, value: Any) -> None:
    for line in (
        acp.request(request_id, "m", value),
        acp.response(request_id, value),
        acp.notification("m", value),
        acp.error_response(request_id, -1, "no", value),
    ):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert json.loads(line)["jsonrpc"] == "2.0"


def test_an_error_without_data_has_no_data_member() -> None:
    assert "data" not in json.loads(acp.error_response(0, -1, "no"))["error"]
    message = acp.decode(acp.error_response(0, -1, "no", {"a": 1}))
    assert isinstance(message, acp.Envelope)
    assert message.error == acp.RpcError(-1, "no", {"a": 1})


@pytest.mark.parametrize("member", ["id", "method"])
def test_a_name_too_long_to_be_said_back_is_garbage(member: str) -> None:
    whole = {"id": 1, "method": "m", "params": {}}
    for length, kind in ((acp.NAME_BYTES, acp.Envelope), (acp.NAME_BYTES + 1, acp.Garbage)):
        line = json.dumps({**whole, member: "x" * length}).encode()
        assert isinstance(acp.decode(line), kind)
        [message] = acp.Lines(spool=KeptLine).feed(line[:-1] + b',"z":"' + b"z" * 300_000 + b'"}\n')
        assert isinstance(message, acp.Spooled)
        assert isinstance(message.decode(), kind)


@pytest.mark.parametrize("request_id", [b"1.0", b'"a"', b"null", b"7"])
def test_an_id_is_read_the_same_in_a_long_line(request_id: bytes) -> None:
    line = b'{"id":%b,"result":{"z":"%b"}}' % (request_id, b"z" * 300_000)
    [spooled] = acp.Lines(spool=KeptLine).feed(line + b"\n")
    assert isinstance(spooled, acp.Spooled)
    long, short = spooled.decode(), acp.decode(line)
    assert isinstance(long, acp.Envelope)
    assert isinstance(short, acp.Envelope)
    assert (long.id, type(long.id)) == (short.id, type(short.id))


def test_a_line_is_one_by_unicodes_rules_too() -> None:
    """Agents that read with readline of Node.js would get half a message."""
    ends = "\u2028\u2029\u0085"
    line = acp.notification("session/update", {"text": f"a{ends}b"})
    assert len(line.decode().splitlines()) == 1
    assert msgspec.json.decode(line)["params"] == {"text": f"a{ends}b"}
