"""A gateway that stands still, or that PostgreSQL does not answer: its workers rest, and go on or end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.failover import missing, talking, words_of
from tests.gateways import RunningGateway, is_running, running_gateway
from tests.inside import gateway_inside
from tests.patience import soon
from tests.postgres import connected, shared_database
from tests.postgres_proxy import proxy
from tests.scrapes import scrape
from tests.shared import ask, crowding, eventually
from tests.streams import open_stream, state_when

LEASE_SECONDS: Final = 1.0
BOUND_SECONDS: Final = 0.1
"""In which the fork server has its turn on a machine that is not busy."""
TICKS: Final = (
    "import os, time\n"
    "out = os.open('ticks', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
    "while True:\n"
    "    os.write(out, b'%d\\n' % time.monotonic_ns())\n"
    "    time.sleep(0.005)\n"
)
"""Writes down when it ran."""


def ticking(seconds: float) -> dict[str, object]:
    """An agent whose turn takes so long."""
    spawn, sleep = [sys.executable, "-c", TICKS], round(seconds * 1000)
    return {
        "turns": [[{"spawn": spawn}, {"say": "first "}, {"sleep": sleep}, {"say": "last"}]],
        "repeat": True,
    }


def config(url: str, *, kill_seconds: float) -> str:
    return (
        f'store = "{url}"\n[applications]\nenabled = []\n[cluster]\nlease_seconds = {LEASE_SECONDS}\n'
        f"beat_seconds = 0.1\nkill_seconds = {kill_seconds}\n"
    )


async def nodes(url: str, *, delete: bool = False) -> int:
    """How many gateways have a row there; or deletes them."""
    async with connected(url) as connection:
        if delete:
            await connection.execute("DELETE FROM nodes")
        return int(await connection.fetchval("SELECT count(*) FROM nodes"))


class Ticks:
    """When what an agent had started ran."""

    def __init__(self, data: pathlib.Path) -> None:
        self._data = data

    def all(self) -> list[float]:
        lines = [line for path in self._data.glob("sessions/**/ticks") for line in path.read_text().split()]
        return [int(line) / 1e9 for line in lines]

    @property
    def last(self) -> float:
        return max(self.all(), default=0.0)

    async def still(self) -> float:
        """Returns when there are no more: the last."""
        last, since = self.last, time.monotonic()
        while time.monotonic() - since < 0.2:
            await asyncio.sleep(0.02)
            if self.last != last:
                last, since = self.last, time.monotonic()
        return last

    async def go_on(self) -> None:
        """Returns when there are more."""
        before = self.last

        async def are_more() -> bool:
            return self.last > before

        await eventually(are_more)


async def until_ready_is(gateway: RunningGateway, status: int) -> float:
    """Returns when `/readyz` answers so: the moment."""

    async def is_so() -> bool:
        return (await ask(gateway.http, "GET", "/readyz")).status == status

    await eventually(is_so)
    return time.monotonic()


@contextlib.asynccontextmanager
async def paused(gateway: RunningGateway, seconds: float) -> AsyncIterator[float]:
    """A gateway's process is stopped for so long, and still in the block, which hears since when."""
    began = time.monotonic()
    os.kill(gateway.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)  # the time that is under test
        yield began
    finally:
        os.kill(gateway.pid, signal.SIGCONT)


async def test_workers_of_a_gateway_that_stands_still_rest_within_its_lease_and_end_if_it_goes_on_so(
    tmp_path: pathlib.Path,
) -> None:
    url = shared_database()
    bound = BOUND_SECONDS * crowding()
    settings = config(url, kill_seconds=2 * bound + 0.4)
    agents = {"ticking": ticking(LEASE_SECONDS + bound + 0.7)}
    async with running_gateway(tmp_path, config=settings, agents=agents) as gateway:
        ticks = Ticks(gateway.data_path)
        await gateway.send("a", "go", agent="ticking")
        await ticks.go_on()
        async with paused(gateway, LEASE_SECONDS + bound + 0.2) as began:
            rested = ticks.last - began
            assert rested < LEASE_SECONDS + bound
        await ticks.go_on()
        state = await state_when(gateway.http, "a", lambda s: not s["is_processing"])
        assert state["messages"][-1]["content"] == "first last"

        await gateway.send("a", "go on")
        await ticks.go_on()
        workers = gateway.workers()
        async with paused(gateway, LEASE_SECONDS + 3 * bound + 0.6) as began:
            assert not any(is_running(worker) for worker in workers), "it stands still, and they are gone"
            assert ticks.last - began < LEASE_SECONDS + bound
        state = await state_when(gateway.http, "a", lambda s: not s["is_processing"])
        assert "the agent was ended" in state["messages"][-1]["content"]
        async with open_stream(gateway.http, "a", after=0) as stream:
            cut = await stream.until_event("turn_interrupted")
        assert cut.data["reason"] == "lease_lost"
        assert await gateway.stop() == 0
    assert await nodes(url) == 0, "it has left"
    print(f"stopped: the last tick came after {rested:.2f} s of a lease of {LEASE_SECONDS} s")  # noqa: T201


async def test_a_black_hole_before_postgresql_stops_everything_and_leaves_nothing_behind(
    tmp_path: pathlib.Path,
) -> None:
    """The connections stay, and nothing comes through them. Then another gateway takes its place."""
    url = shared_database()
    async with proxy(url) as way:
        settings = config(way.url, kill_seconds=60)
        async with gateway_inside(tmp_path, config=settings, agents={"ticking": ticking(1.5)}) as gateway:
            ticks = Ticks(gateway.data_path)
            await gateway.send("a", "go", agent="ticking")
            await ticks.go_on()
            assert 0 < (await scrape(gateway)).value("lease_seconds_left") <= LEASE_SECONDS
            async with open_stream(gateway.http, "a", after=0) as stream:
                await stream.until_event("text_delta")
                began = time.monotonic()
                way.stop()
                refused = await until_ready_is(gateway, 503) - began
                assert refused < (LEASE_SECONDS + 1) * crowding()
                rested = await ticks.still() - began
                assert rested < (LEASE_SECONDS + 1) * crowding()
                await nothing_is_accepted(gateway)
                ended = time.monotonic()
                way.go_on()
                whole = await until_ready_is(gateway, 200) - ended
                assert whole < 2 * crowding()
                await ticks.go_on()
                state = await state_when(gateway.http, "a", lambda s: not s["is_processing"])
                assert state["messages"][-1]["content"] == "first last"
                await stream.until_event("turn_ended")
                assert stream.text == "first last"
            words = f"refused after {refused:.2f} s, the last tick after {rested:.2f} s"
            print(f"black hole: {words}; whole again {whole:.2f} s after it")  # noqa: T201

            await gateway.send("a", "go on")
            await ticks.go_on()
            await nodes(url, delete=True)
            await soon(gateway.inner.failed.wait(), 10)
            await ticks.still()
            await nothing_is_accepted(gateway)
            assert (await scrape(gateway)).value("fenced_total") == 1
            assert "the gateway ends, because nothing can be stored any more" in gateway.log()


@pytest.mark.parametrize("is_swallowed", ["swallows_requests", "swallows_answers"])
async def test_a_way_to_postgresql_that_swallows_what_goes_one_way_loses_nothing(
    tmp_path: pathlib.Path, is_swallowed: str
) -> None:
    """Both ends live, and neither is told anything. What PostgreSQL did and nobody heard of is there once."""
    async with proxy(shared_database()) as way:
        settings = config(way.url, kill_seconds=60)
        async with gateway_inside(tmp_path, config=settings) as gateway:
            async with talking(gateway) as people:
                await people.until_each_says(2)
                began = time.monotonic()
                setattr(way, is_swallowed, True)
                refused = await until_ready_is(gateway, 503) - began
                acknowledged = len(people.acknowledged)
                assert refused < (LEASE_SECONDS + 1) * crowding()
                await asyncio.sleep(LEASE_SECONDS)  # the time that is under test
                assert (await ask(gateway.http, "GET", "/readyz")).status == 503
                assert len(people.acknowledged) == acknowledged
                ended = time.monotonic()
                setattr(way, is_swallowed, False)
                whole = await until_ready_is(gateway, 200) - ended
                assert whole < 2 * crowding()
                await people.until_each_says(2)
            goes_on = min(at for at in people.acknowledged.values() if at > ended) - ended
            said = await words_of(gateway)
        assert missing(people.acknowledged, said) == []
        assert len(said) == len(set(said))
    words = f"refused after {refused:.2f} s; ready {whole:.2f} s and a message {goes_on:.2f} s after it"
    print(f"{is_swallowed}: {words}")  # noqa: T201


async def nothing_is_accepted(gateway: RunningGateway) -> None:
    ready = await ask(gateway.http, "GET", "/readyz")
    assert "has not answered" in ready.body["checks"]["lease"]["words"]
    body = {"message": "hi", "session_id": "a"}
    for method, path in (("POST", "/api/chat"), ("DELETE", "/api/sessions/a")):
        refused = await ask(gateway.http, method, path, body)
        assert (refused.status, refused.code) == (503, "store_unreachable")
        assert int(refused.headers["Retry-After"]) >= 1
    assert (await scrape(gateway)).value("lease_seconds_left") == 0
