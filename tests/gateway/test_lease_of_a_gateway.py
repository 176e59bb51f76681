"""A gateway whose store does not answer, answers again, or says that it is another's now."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from gateway.sessions.lease import LeaseState
from gateway.stores.memory.store import MemoryStore
from tests.directory import Shelf, silent
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


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The directory of the gateway's store."""
    made = Shelf()
    monkeypatch.setattr(MemoryStore, "directory", made)
    return made


async def ready(gateway: GatewayInside) -> dict[str, object]:
    """The check of its lease, and the status."""
    answer = await ask(gateway.http, "GET", "/readyz")
    return {"status": answer.status, **answer.body["checks"]["lease"]}


async def until_doubtful(gateway: GatewayInside, shelf: Shelf) -> None:
    silent(shelf)

    async def is_doubtful() -> bool:
        return (await ready(gateway))["status"] == 503

    await eventually(is_doubtful)


async def until_held(gateway: GatewayInside, shelf: Shelf) -> None:
    shelf.before = lambda: None

    async def is_held() -> bool:
        return (await ready(gateway))["status"] == 200

    await eventually(is_held)


async def test_nothing_is_done_while_the_store_does_not_answer_and_the_turn_goes_on_after(
    tmp_path: pathlib.Path, shelf: Shelf
) -> None:
    async with gateway_inside(tmp_path, config=CONFIG + "60") as gateway:
        assert (await scrape(gateway)).value("lease_seconds_left") <= LEASE_SECONDS
        turn = asyncio.create_task(gateway.chat("a", COUNTS))
        await state_when(gateway.http, "a", lambda s: bool(s["messages"]))
        async with open_stream(gateway.http, "a", after=0) as stream:
            await stream.until_event("text_delta")
            await until_doubtful(gateway, shelf)
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
            await until_held(gateway, shelf)
            state = await turn
            assert state["messages"][-1]["content"].endswith("150")
            assert stream.text in state["messages"][-1]["content"]
        await gateway.chat("b", "/echo well")


async def test_a_worker_that_rested_too_long_ends_and_so_does_its_turn_in_words(
    tmp_path: pathlib.Path, shelf: Shelf
) -> None:
    async with gateway_inside(tmp_path, config=CONFIG + "0.3") as gateway:
        turn = asyncio.create_task(gateway.chat("a", "/count 2000 10"))
        await state_when(gateway.http, "a", lambda s: bool(s["messages"]))
        await eventually(lambda: _has_workers(gateway, 1))
        silent(shelf)
        await eventually(lambda: _has_workers(gateway, 0))
        await until_held(gateway, shelf)
        state = await turn
        assert "stood still, or was cut off from its store" in state["messages"][-1]["content"]
        async with open_stream(gateway.http, "a", after=0) as stream:
            ended = await stream.until_event("turn_interrupted")
        assert ended.data["reason"] == "lease_lost"
        assert (await gateway.chat("a", "/echo again"))["messages"][-1]["content"] == "again"


async def _has_workers(gateway: GatewayInside, count: int) -> bool:
    return len(gateway.workers()) == count


async def test_a_gateway_whose_place_was_taken_ends_and_its_workers_at_once(
    tmp_path: pathlib.Path, shelf: Shelf
) -> None:
    async with gateway_inside(tmp_path, config=CONFIG + "60") as gateway:
        turn = asyncio.create_task(gateway.chat("a", "/count 2000 10"))
        await eventually(lambda: _has_workers(gateway, 1))
        shelf.rows.clear()
        await soon(gateway.inner.failed.wait(), 10)
        await eventually(lambda: _has_workers(gateway, 0))
        assert gateway.inner.membership is not None
        assert gateway.inner.membership.lease.state is LeaseState.FENCED
        refused = await ask(gateway.http, "POST", "/api/chat", {"message": "hi", "session_id": "b"})
        assert (refused.status, refused.code) == (503, "store_unreachable")
        assert (await scrape(gateway)).value("fenced_total") == 1
        assert "the gateway ends" in gateway.log()
        turn.cancel()
    assert not shelf.rows


async def test_a_gateway_gives_its_place_back_last(tmp_path: pathlib.Path, shelf: Shelf) -> None:
    async with gateway_inside(tmp_path, config=CONFIG + "60"):
        assert len(shelf.rows) == 1
    assert not shelf.rows
