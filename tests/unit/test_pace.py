"""Busy pipes rest while the loop has much to do; quiet ones are never kept waiting."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any, cast

from gateway.agents.connection import AcpConnection, _Reader
from gateway.agents.pace import SMALL_BYTES, Pace
from gateway.agents.spool import Intake
from gateway.agents.text_chunks import TextChunk
from gateway.workers.freezing import Freezer
from tests.handlers import Unbounded, said
from tests.patience import soon, within


class Reading(Unbounded):
    """Hears texts, read by read."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def on_texts(self, chunks: list[TextChunk]) -> None:
        self.reads.append("".join(chunk.content.text for chunk in chunks))

    def on_updates(self, _updates: Any) -> None:
        """Nothing but text is said here."""

    on_request = on_notification = cast("Any", on_updates)


class Transport(asyncio.ReadTransport):
    """A pipe that says whether it is read."""

    is_paused = is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        assert not self.is_closed
        self.is_paused = False


class Steady(Pace):
    """Is as the test says."""

    def note(self, now: float, seconds: float) -> None:
        """Changes nothing."""


def connected(hearing: Reading, pace: Pace, *, worker: Any = None) -> AcpConnection:
    intake = Intake()
    intake.pace = pace
    return AcpConnection(
        worker or cast("Any", type("Nobody", (), {"pid": -1})), cast("Any", hearing), line_bytes=1 << 20,
        spool_dir=tempfile.gettempdir(), intake=intake, on_texts=hearing.on_texts,
    )  # fmt: skip


def of_a_pipe(pace: Pace) -> tuple[_Reader, Transport]:
    reader, pipe = _Reader(connected(Reading(), pace), pace), Transport()
    reader.connection_made(pipe)
    return reader, pipe


def test_pipes_rest_from_when_output_takes_much_of_the_time_until_it_takes_little() -> None:
    pace = Pace()
    seen = []
    for now, spent in (
        (10.0, 0.001),
        (10.021, 0.001),
        (10.03, 0.009),
        (10.045, 0.0),
        (10.07, 0.002),
        (10.1, 0),
    ):
        pace.note(now, spent)
        seen.append(pace.is_slow)
    assert seen == [False, False, False, True, True, False]
    pace.note(10.125, 0.02)
    pace.note(500.0, 0.02)
    assert not pace.is_slow, "a while in which nothing happens is calm"


async def test_a_pipe_that_has_something_again_and_again_rests_and_is_read_on() -> None:
    pace = Steady()
    (busy, its_pipe), (quiet, quiet_pipe) = of_a_pipe(pace), of_a_pipe(pace)
    for reader in (busy, busy):
        reader.data_received(said("a"))
    assert not its_pipe.is_paused, "nothing rests while there is little to do"
    pace.is_slow = True
    quiet.data_received(said("a"))
    assert not quiet_pipe.is_paused
    busy.data_received(said("x" * SMALL_BYTES))
    assert not its_pipe.is_paused, "it has joined enough"
    busy.data_received(said("a"))
    assert its_pipe.is_paused
    async with within(10):
        while its_pipe.is_paused:
            await asyncio.sleep(0)


async def test_an_agent_that_ends_while_its_pipe_rests_is_heard_to_its_end() -> None:
    pace = Steady()
    pace.is_slow = True
    (stdout, into), (out, stdin) = os.pipe(), os.pipe()
    hearing = Reading()
    worker = type("Piped", (), {"pid": -1, "stdout": stdout, "stdin": stdin, "freezer": Freezer()})
    try:
        async with connected(hearing, pace, worker=worker) as connection:
            os.write(into, said("0,"))
            async with within(10):
                while not hearing.reads:
                    await asyncio.sleep(0)
            os.write(into, said("1,"))
            for number in range(2, 50):
                await asyncio.sleep(0)
                os.write(into, said(f"{number},"))
            os.close(into)
            await soon(connection.closed, 10)
    finally:
        os.close(out)
    assert "".join(hearing.reads) == "".join(f"{number}," for number in range(50))
    assert len(hearing.reads) < 50
    reader, pipe = of_a_pipe(pace)
    reader.data_received(said("a"))
    reader.data_received(said("a"))
    pipe.is_closed = True
    woken = asyncio.Event()
    pace.rest(woken.set)
    await soon(woken.wait(), 10)
