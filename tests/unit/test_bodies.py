"""JSON at the doors: halves of emoji are mended on their way in, line ends are escaped on their way out."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from starlette.requests import HTTPConnection

from gateway.events.facts import Event, MessageAdded, in_one_line
from gateway.http.reading import cursor_in_query, mended


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rb'"hi \ud83d"', "hi \ufffd"),
        (rb'"\uDE00 hi"', "\ufffd hi"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d\ud83d\ude00\ude00"', "\ufffd\U0001f600\ufffd"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\ud83dx\ude00"', "\ufffdx\ufffd"),
        (rb'"\ud83d\n"', "\ufffd\n"),
        (b'"\xed\xa0\xbd"', "\ufffd"),
        (b'"\xed\x95\x9c"', "한"),
        ('"plain שלום"'.encode(), "plain שלום"),
    ],
)
def test_half_a_surrogate_pair_becomes_a_replacement_character(given: bytes, expected: str) -> None:
    assert msgspec.json.decode(mended(given)) == expected


def test_mending_takes_time_in_proportion() -> None:
    for body in (
        rb'"' + rb"\ud83d" * 200_000 + rb'"',
        rb'"' + rb"\\ud" * 200_000 + rb'"',
        b"\xed" * 1_000_000,
    ):
        began = time.process_time()
        mended(body)
        assert time.process_time() - began < 2


def test_what_unicode_takes_for_a_line_end_is_escaped() -> None:
    text = "a\u2028b\u2029c\u0085d שלום"
    line = in_one_line(msgspec.json.encode(text)).decode()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == text
    event = Event(1, 0, MessageAdded("m", "user", text))
    assert len(event.json.decode().splitlines()) == 1
    assert len(event.frame.decode().splitlines()) == 4
    assert json.loads(event.json)["content"] == text


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        ("", ""),
        ("after=7", "7"),
        ("lastEventId=22", "22"),
        ("after=7&lastEventId=22", "22"),
        ("last_event_id=22&after=7", "22"),
        ("Last-Event-ID=22", "22"),
        ("after=7&lastEventId=", "7"),
    ],
)
def test_the_cursor_is_read_wherever_clients_put_it(query: str, cursor: str) -> None:
    scope = {"type": "http", "query_string": query.encode(), "headers": []}
    assert cursor_in_query(HTTPConnection(scope)) == cursor
