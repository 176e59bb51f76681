"""What an agent says, where the gateway itself makes a mistake with it."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
import uvloop
from msgspec import Raw

from gateway.agents.connection import AcpConnection, AgentListener, WireError, _Reader
from gateway.agents.spool import Intake
from gateway.workers.freezing import Freezer
from tests.handlers import KeptLine, Unbounded
from tests.patience import crowding, within
from worker import acp
from worker.acp import SPOOL_ABOVE_BYTES, Spooled
from worker.foreign import OnOdd, ignored


class Clumsy(Unbounded):
    """A handler with a bug."""

    def on_updates(self, updates: Sequence[Raw]) -> None:
        raise KeyError("a bug")

    def on_request(self, message: acp.Envelope) -> bool:
        return False

    def on_notification(self, message: acp.Envelope) -> None:
        """Nothing."""


class Nobody:
    pid = stdin = stdout = -1
    freezer = Freezer()


class Piped:
    """A worker whose pipes are there, and nobody at their other ends."""

    pid = -1
    freezer = Freezer()

    def __init__(self) -> None:
        self.stdout, self._into = os.pipe()
        self._out, self.stdin = os.pipe()

    def close(self) -> None:
        os.close(self._into)
        os.close(self._out)


def connected(
    handler: AgentListener | None = None,
    *,
    intake: Intake | None = None,
    on_odd: OnOdd = ignored,
    worker: Nobody | Piped | None = None,
) -> AcpConnection:
    return AcpConnection(
        cast("Any", worker or Nobody()),
        handler or Clumsy(),
        line_bytes=1_000_000,
        spool_dir=tempfile.gettempdir(),
        intake=intake or Intake(),
        on_odd=on_odd,
    )


async def until(holds: Callable[[], bool]) -> None:
    async with within(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_bug_with_what_an_agent_says_ends_its_connection_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = connected()
    _Reader(connection).data_received(acp.notification("session/update", {"update": {}}))
    assert isinstance(connection.end, WireError)
    assert str(connection.end) == "What the agent said could not be handled."
    assert "a bug" in caplog.text


class Hearing(Clumsy):
    """A handler that remembers what it heard, read by read."""

    def __init__(self) -> None:
        self.reads: list[list[bytes]] = []

    def on_updates(self, updates: Sequence[Raw]) -> None:
        self.reads.append([bytes(update) for update in updates])


@pytest.mark.parametrize("is_ended", [False, True])
async def test_a_full_pipe_is_handled_in_slices_between_which_others_have_their_turn(is_ended: bool) -> None:
    hearing = Hearing()
    connection, loop = connected(hearing), asyncio.get_running_loop()
    reader, turns = _Reader(connection), list[int]()
    lines = [acp.notification("session/update", {"update": {"n": number}}) for number in range(1_000)]
    reader.data_received(b"".join(lines))
    loop.call_soon(lambda: turns.append(len(hearing.reads)))
    if is_ended:
        reader.eof_received()
        assert connection.end is not None
    await until(lambda: sum(map(len, hearing.reads)) == len(lines))
    assert [update for read in hearing.reads for update in read] == [
        b'{"n":%d}' % number for number in range(1_000)
    ]
    assert turns == [] if is_ended else turns[0] <= 2 < len(hearing.reads)


async def test_odd_values_are_counted_and_only_the_first_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    odd: list[str] = []
    connection = connected(on_odd=odd.append)
    caplog.set_level("INFO")
    for _ in range(100):
        connection.feed(b'{"id":99,"error":{"code":"x","message":"no"}}\n')
    assert odd == ["error.code"] * 100
    assert caplog.text.count("error.code") == 20


class Slow(Clumsy):
    """A handler whose events are not on disk before the test says so."""

    def __init__(self) -> None:
        self.lines = 0
        self.on_disk = asyncio.Event()
        self.waiting: list[Callable[[], None]] = []

    def on_long_update(self, update: Raw, used: Callable[[int], None]) -> Iterator[None]:
        self.lines += 1
        yield

    async def written(self) -> None:
        await self.on_disk.wait()

    def when_written(self, done: Callable[[], None]) -> None:
        self.waiting.append(done)


async def test_an_agent_that_ends_keeps_its_place_until_what_it_said_is_on_disk() -> None:
    intake, handlers = Intake(SPOOL_ABOVE_BYTES * 2), (Slow(), Slow())
    first, second = (connected(handler, intake=intake) for handler in handlers)
    line = acp.notification("session/update", {"update": {"x": "x" * SPOOL_ABOVE_BYTES}})
    first.feed(line)
    await until(lambda: handlers[0].lines == 1)
    second.feed(line)
    first.broken("It said too much.")
    await first.__aexit__()
    for _ in range(100):
        await asyncio.sleep(0)
    assert handlers[1].lines == 0
    [done] = handlers[0].waiting
    done()
    await until(lambda: handlers[1].lines == 1)
    await second.__aexit__()


async def test_one_long_line_is_decoded_at_a_time_although_its_agent_ends() -> None:
    begun: list[threading.Event] = []
    may_end = threading.Event()

    class Line(Spooled, frozen=True):
        def decode(self) -> acp.Garbage:
            begun.append(may_end)
            may_end.wait(10 * crowding())
            return acp.Garbage("")

    intake = Intake()
    first, second = (asyncio.create_task(intake.decode(Line(KeptLine(), 1))) for _ in range(2))
    await until(lambda: len(begun) == 1)
    first.cancel()
    await asyncio.wait([first])
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(begun) == 1
    may_end.set()
    await second
    assert len(begun) == 2


@pytest.mark.parametrize("rounds", range(5))
def test_a_connection_that_is_cancelled_while_it_is_made_closes_each_pipe_once(rounds: int) -> None:
    async def make() -> None:
        worker = Piped()
        ours = (worker.stdin, worker.stdout)

        async def enter() -> None:
            connection = connected(worker=worker)
            try:
                async with connection:
                    await asyncio.Event().wait()
            finally:
                if rounds:
                    await connection.__aexit__()  # as the end of a worker's host does, whatever came before

        entering = asyncio.create_task(enter())
        for _ in range(rounds):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled()
        await asyncio.sleep(0.01)
        if rounds:
            assert not [fd for fd in ours if os.path.exists(f"/proc/self/fd/{fd}")]
            others = [os.open(os.devnull, os.O_RDONLY) for _ in ours]  # they get the numbers that are free
            gc.collect()
            for fd in others:
                os.close(fd)
        else:
            for fd in ours:
                os.close(fd)
        worker.close()

    for run in (asyncio.run, uvloop.run):
        run(make())
