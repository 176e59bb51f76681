"""A gateway whose store does not answer, answers again, or says that it is another's now."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator

import pytest

from gateway.sessions.lease import LeaseState
from gateway.sessions.membership import Membership
from gateway.stores.memory.store import MemoryStore
from tests.inside import GatewayInside, gateway_inside
from tests.patience import soon
from tests.scrapes import scrape
from tests.shared import ask, eventually
from tests.streams import open_stream, state_when

LEASE_SECONDS = 1.5
CONFIG = f"""
store = "memory://"
[cluster]
lease_seconds = {LEASE_SECONDS}
beat_seconds = 0.1
kill_seconds = """
COUNTS = "/count 150 10"
"""So many words, and milliseconds between them."""


class Beats:
    """What a store would tell that others can reach, too."""

    def __init__(self) -> None:
        self.gateway: GatewayInside
        self.are_answered = True

    @property
    def membership(self) -> Membership:
        found = self.gateway.inner.membership
        assert found is not None
        return found

    async def go_on(self) -> None:
        while True:
            if self.are_answered:
                self.membership.beaten(time.monotonic(), True)
            await asyncio.sleep(0.05)

    async def until(self, status: int, *, answered: bool) -> None:
        """Its beats are answered from now on, or not, until `/readyz` says so."""
        self.are_answered = answered

        async def is_so() -> bool:
            return (await ready(self.gateway))["status"] == status

        await eventually(is_so)


@contextlib.asynccontextmanager
async def sharing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *, kill_seconds: float
) -> AsyncIterator[Beats]:
    """A gateway with such a store."""
    monkeypatch.setattr(MemoryStore, "is_shared", True)
    async with gateway_inside(tmp_path, config=f"{CONFIG}{kill_seconds}") as gateway:
        beats = Beats()
        beats.gateway = gateway
        beating = asyncio.create_task(beats.go_on())
        await beats.until(200, answered=True)
        try:
            yield beats
        finally:
            beating.cancel()


async def ready(gateway: GatewayInside) -> dict[str, object]:
    """The check of its lease, and the status."""
    answer = await ask(gateway.http, "GET", "/readyz")
    return {"status": answer.status, **answer.body["checks"]["lease"]}


async def has_workers(gateway: GatewayInside, count: int) -> None:
    async def it_has() -> bool:
        return len(gateway.workers()) == count

    await eventually(it_has)


async def test_nothing_is_done_while_the_store_does_not_answer_and_the_turn_goes_on_after(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sharing(tmp_path, monkeypatch, kill_seconds=60) as beats:
        gateway = beats.gateway
        assert 0 < (await scrape(gateway)).value("lease_seconds_left") <= LEASE_SECONDS
        turn = asyncio.create_task(gateway.chat("a", COUNTS))
        await state_when(gateway.http, "a", lambda s: bool(s["messages"]))
        async with open_stream(gateway.http, "a", after=0) as stream:
            await stream.until_event("text_delta")
            await beats.until(503, answered=False)
            assert "has not answered for the whole lease" in str((await ready(gateway))["words"])
            for method, path in (("POST", "/api/chat"), ("DELETE", "/api/sessions/a")):
                refused = await ask(gateway.http, method, path, {"message": "hi", "session_id": "b"})
                assert (refused.status, refused.code) == (503, "store_unreachable")
                assert int(refused.headers["Retry-After"]) >= 1
            assert (await scrape(gateway)).value("lease_seconds_left") == 0
            [worker] = gateway.workers()
            used = worker.cpu_times()
            await asyncio.sleep(0.3)  # in which it would have said thirty words
            assert worker.cpu_times() == used
            await beats.until(200, answered=True)
            state = await turn
            assert state["messages"][-1]["content"].endswith("150")
        await gateway.chat("b", "/echo well")


async def test_a_worker_that_rested_too_long_ends_and_so_does_its_turn_in_words(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sharing(tmp_path, monkeypatch, kill_seconds=0.3) as beats:
        gateway = beats.gateway
        turn = asyncio.create_task(gateway.chat("a", "/count 2000 10"))
        await has_workers(gateway, 1)
        beats.are_answered = False
        await has_workers(gateway, 0)
        await beats.until(200, answered=True)
        state = await turn
        assert "stood still, or was cut off from its store" in state["messages"][-1]["content"]
        async with open_stream(gateway.http, "a", after=0) as stream:
            ended = await stream.until_event("turn_interrupted")
        assert ended.data["reason"] == "lease_lost"
        assert (await gateway.chat("a", "/echo again"))["messages"][-1]["content"] == "again"


async def test_a_gateway_whose_place_was_taken_ends_its_workers_at_once_and_accepts_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sharing(tmp_path, monkeypatch, kill_seconds=60) as beats:
        gateway = beats.gateway
        turn = asyncio.create_task(gateway.chat("a", "/count 2000 10"))
        await has_workers(gateway, 1)
        gateway.inner._on_store_end("planted")
        await soon(gateway.inner.failed.wait(), 10)
        await has_workers(gateway, 0)
        assert beats.membership.lease.state is LeaseState.FENCED
        refused = await ask(gateway.http, "POST", "/api/chat", {"message": "hi", "session_id": "b"})
        assert (refused.status, refused.code) == (503, "store_unreachable")
        assert (await scrape(gateway)).value("fenced_total") == 1
        turn.cancel()


async def test_a_gateway_that_ends_leaves_its_place_after_its_last_session(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sharing(tmp_path, monkeypatch, kill_seconds=60) as beats:
        await beats.gateway.chat("a", "/echo hi")
    assert beats.membership.lease.state is LeaseState.GONE
