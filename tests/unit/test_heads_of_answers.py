"""The head of an answer leaves with its body if that is there, and never waits if nothing is due soon."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.server.cycle import SHARED_BYTES, Cycle, Signal


class Written:
    """A connection that remembers each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.writes.append(b"".join(parts))

    def close(self) -> None:
        self.is_closed = True


def cycle_of(written: Written, *, method: str = "GET", keep_alive: bool = True) -> Cycle:
    silent = logging.getLogger("tests.heads")
    cycle = Cycle(
        scope=cast("Any", {"method": method}), transport=cast("Any", written),
        flow=FlowControl(cast("Any", written)), logger=silent, access_logger=silent, access_log=False,
        default_headers=[(b"date", b"today")], message_event=Signal(), expect_100_continue=False,
        keep_alive=keep_alive, on_response=lambda: None,
    )  # fmt: skip
    cycle.more_body = False  # of the request
    return cycle


def begun(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_who_left_before_the_answer_began_is_written_nothing() -> None:
    written = Written()
    cycle = cycle_of(written)
    cycle.lost()
    await cycle.send(begun((b"content-length", b"1")))
    await cycle.send(body(b"a"))
    assert written.writes == []


@pytest.mark.parametrize("size", [1, SHARED_BYTES])
async def test_an_answer_of_known_length_is_written_at_once(size: int) -> None:
    written = Written()
    cycle = cycle_of(written)
    await cycle.send(begun((b"Content-Length", b"%d" % size), (b"x", b"y")))
    assert written.writes == [], "the body comes next"
    await cycle.send(body(b"a" * size))
    head = STATUS_LINE[200] + b"date: today\r\ncontent-length: %d\r\nx: y\r\n\r\n" % size
    assert written.writes == [head + b"a" * size]
    assert cycle.response_complete
    assert not written.is_closed


async def test_a_body_in_parts_follows_the_first_of_them() -> None:
    written = Written()
    cycle = cycle_of(written, keep_alive=False)
    await cycle.send(begun((b"content-length", b"3")))
    await cycle.send(body(b"a", more=True))
    assert written.writes[0].endswith(b"connection: close\r\n\r\na")
    await cycle.send(body(b"bc"))
    assert written.writes[1:] == [b"bc"]
    assert written.is_closed


@pytest.mark.parametrize(
    ("method", "status", "headers", "end"),
    [
        ("GET", 200, (), b"transfer-encoding: chunked\r\n\r\n"),
        ("GET", 204, (), b"date: today\r\n\r\n"),
        ("GET", 200, ((b"content-length", b"0"),), b"content-length: 0\r\n\r\n"),
        ("HEAD", 200, ((b"content-length", b"7"),), b"content-length: 7\r\n\r\n"),
        (
            "GET",
            200,
            ((b"connection", b"keep-alive, Close"), (b"content-length", b"0")),
            b"length: 0\r\n\r\n",
        ),
    ],
)
async def test_a_head_whose_body_is_empty_or_comes_bit_by_bit_leaves_at_once(
    method: str, status: int, headers: tuple[tuple[bytes, bytes], ...], end: bytes
) -> None:
    written = Written()
    cycle = cycle_of(written, method=method)
    await cycle.send(begun(*headers, status=status))
    (head,) = [write for write in written.writes if write]
    assert head.endswith(end)
    assert head.count(b"connection:") == any(name == b"connection" for name, _ in headers)
    await cycle.send(body(b""))
    assert written.is_closed == any(name == b"connection" for name, _ in headers)


@pytest.mark.parametrize(
    "header", [(b"a b", b"c"), (b"a", b"b\r\nset-cookie: c"), (b"a:", b"b"), (b"a", b"b\0"), (b"a", b"b\x7f")]
)
async def test_a_header_that_would_end_the_line_is_never_written(header: tuple[bytes, bytes]) -> None:
    written = Written()
    with pytest.raises(RuntimeError):
        await cycle_of(written).send(begun((b"good", b"header"), header))
    assert written.writes == []


@pytest.mark.parametrize("data", [b"four", b"tw"])
async def test_a_body_that_is_not_as_long_as_was_said_is_a_mistake(data: bytes) -> None:
    cycle = cycle_of(Written())
    await cycle.send(begun((b"content-length", b"3")))
    with pytest.raises(RuntimeError):
        await cycle.send(body(data))
    assert not cycle.response_complete


async def test_nothing_is_written_to_a_reader_that_has_left() -> None:
    written = Written()
    cycle = cycle_of(written)
    await cycle.send(begun((b"content-length", b"1")))
    cycle.disconnected = True
    await asyncio.wait_for(cycle.send(body(b"a")), 10)
    assert written.writes == []
