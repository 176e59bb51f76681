"""What MCP servers answer: what is odd costs nothing, and what comes out can be encoded again."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from gateway.egress.mcp_wire import EventStream, Unreadable, decode, reply


@pytest.mark.parametrize(
    ("line", "result"),
    [
        (b'{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}', {"tools": []}),
        (b'{"id":"2","result":{}}', {}),
        (b'{"id":2.0,"result":{},"error":null}', {}),
        (b'{"id":2,"result":null}', None),
        (b'{"jsonrpc":null,"id":2,"result":[1],"_meta":7,"extra":{}}', [1]),
        (b'\xef\xbb\xbf{"id":2,"result":1}', 1),
        (b'[{"id":1,"result":0},{"id":2,"result":5}]', 5),
        (b'[null,7,"x",{"id":2,"result":5}]', 5),
        (b'{"id":2,"result":{"n":NaN}}', {"n": None}),
        (b'{"id":2,"result":{"n":1e999}}', {"n": None}),
        (b'{"id":2,"result":{"n":%s}}' % (b"9" * 30), {"n": 1e30}),
        (b'{"id":2,"result":{"n":%s}}' % (b"9" * 900), {"n": None}),
        (b'{"id":2,"result":"\\ud83d"}', "�"),
        (b'{"id":2,"result":"\\ud83d\\ude00"}', "😀"),
        (b'{"id":2,"result":"\xff"}', "�"),
        (b'{"id":2,"result":{"\\ud83d":1}}', {"�": 1}),
        (b'{"method":null,"id":2,"result":5,"error":null}', 5),
        (b'{"_meta":%s,"id":2,"result":5}' % (b"[" * 9_000 + b"]" * 9_000), 5),
        (b'{"id":2,"result":{"n":%s,"m":1}}' % (b"9" * 5_000), {"n": None, "m": 1}),
    ],
)
def test_an_answer_is_found_whatever_stands_around_it(line: bytes, result: Any) -> None:
    found = reply(line, 2)
    assert found is not None
    assert found.refusal is None
    assert msgspec.json.decode(msgspec.json.encode(found.result)) == result


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id":2,"error":{"code":-32601,"message":"unknown"}}', "unknown"),
        (b'{"id":2,"error":{"code":"x","message":"unknown","data":[]}}', "unknown"),
        (b'{"id":2,"error":{"code":1}}', "without a reason"),
        (b'{"id":2,"error":{"message":null}}', "without a reason"),
        (b'{"id":2,"error":{"message":7}}', "7"),
        (b'{"id":2,"error":"no"}', "no"),
        (b'{"id":2,"error":[1],"result":{}}', "[1]"),
        (b'{"id":null,"error":{"code":-32700,"message":"Parse error"}}', "Parse error"),
        (b'{"id":2,"error":{"message":"%s"}}' % (b"x" * 1000), "x" * 300),
    ],
)
def test_a_refusal_has_words_whatever_its_shape(line: bytes, words: str) -> None:
    found = reply(line, 2)
    assert found is not None
    assert found.refusal == words


@pytest.mark.parametrize(
    "line",
    [b'{"id":1,"result":{}}', b'{"id":true,"result":{}}', b'{"id":2,"method":"ping"}', b"[]", b"null", b"2",
     b'{"id":2}', b'{"id":null,"result":{}}', b'{"id":[2],"result":{}}', b'{"method":"notifications/x"}'],
)  # fmt: skip
def test_other_messages_are_not_the_answer(line: bytes) -> None:
    assert reply(line, 2) is None


@pytest.mark.parametrize(
    "line", [b"", b"<html>", b"{", b"[" * 100_000, b'{"id":2,"result":' + b"[" * 9_000 + b"}"]
)
def test_what_is_no_json_is_unreadable(line: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(line)


STREAM = (
    b"\xef\xbb\xbfid: 0\ndata:\n\n"  # a first event without data, as servers begin a stream they can resume
    b": a comment\r\nretry: 10\r\n\r\n"
    b'event: message\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    b"data: two\rid: 7\r\r"
    b"data\n\ndata: \n\ndata:three\n\ndata: cut off"
)


def test_events_are_the_same_however_their_bytes_arrive() -> None:
    whole = EventStream().feed(STREAM)
    assert whole == [b'{"a":\n1}', b"two", b"three"]
    for seed in range(200):
        dice, stream, at, found = random.Random(seed), EventStream(), 0, []
        while at < len(STREAM):
            step = dice.randint(1, 9)
            found += stream.feed(STREAM[at : at + step])
            at += step
        assert found == whole, seed


def test_a_line_that_drips_in_costs_no_more_than_its_length() -> None:
    stream = EventStream()
    for _ in range(300_000):
        assert stream.feed(b"x") == []
