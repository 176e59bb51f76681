"""A way between two gateways that swallows what goes one way: both live, and neither is told anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.http import forwarding, node_post
from tests.pairs import Pair, at_owner, pair
from tests.patience import within
from tests.postgres_proxy import Proxy, proxy
from tests.shared import SHARED, Answer, ask
from tests.streams import open_stream

pytestmark = SHARED

PING_SECONDS = 0.15
WAYS = ["swallows_requests", "swallows_answers"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with pair(tmp_path_factory.mktemp("two")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def way(two: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """From the edge to the owner; whoever waits asks soon if anybody is there."""
    for module in (forwarding, node_post):
        monkeypatch.setattr(module, "PING_SECONDS", PING_SECONDS)
    monkeypatch.setattr(forwarding, "PAUSES", (0.01, 0.01, 0.01))
    async with proxy(two.urls[1]) as made:
        good, two.urls[1] = two.urls[1], made.url
        try:
            yield made
        finally:
            two.urls[1] = good
            await two.edge.inner.node_http.close()


async def said(two: Pair, session_id: str, text: str, *, key: str = "") -> Answer:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"message": text, "session_id": session_id}
    return await ask(two.edge.http, "POST", "/api/chat?wait=5", body, headers=headers)


async def counted(two: Pair, session_id: str, text: str) -> int:
    """How often the owner has this message."""
    state: Any = await two.owner.state(session_id)
    return sum(one["content"] == text for one in state["messages"] if one["sender"] == "user")


@pytest.mark.parametrize("is_swallowed", WAYS)
async def test_a_message_is_answered_in_words_and_is_there_at_most_once(
    two: Pair, way: Proxy, is_swallowed: str
) -> None:
    session_id = at_owner(two)
    await said(two, session_id, "/echo before")
    setattr(way, is_swallowed, True)
    async with within(10):
        answer = await said(two, session_id, "/echo once")
    assert (answer.status, answer.code) == (503, "outcome_unknown")
    async with within(10):
        answer = await said(two, session_id, "/echo keyed", key=session_id)
    assert (answer.status, answer.code) == (503, "session_elsewhere")
    setattr(way, is_swallowed, False)
    assert (await said(two, session_id, "/echo keyed", key=session_id)).status == 200
    assert await counted(two, session_id, "/echo keyed") == 1
    assert await counted(two, session_id, "/echo once") == (is_swallowed == "swallows_answers")


async def test_without_asking_if_anybody_is_there_nobody_is_ever_answered(
    two: Pair, way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding.LinkWatch, "_look", lambda _watch: None)
    session_id = at_owner(two)
    way.swallows_answers = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10 * PING_SECONDS):
            await said(two, session_id, "/echo hello")


async def test_a_gateway_that_takes_long_is_waited_for(
    two: Pair, way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, manager = two.owner.inner.manager.source, two.owner.inner.manager
    session_id = at_owner(two)
    await said(two, session_id, "/echo hello")

    async def slow(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(8 * PING_SECONDS)
        return await real(*args, **kwargs)

    monkeypatch.setattr(manager, "source", slow)
    failed = two.failures("lost")
    assert (await two.edge.state(session_id))["session_id"] == session_id
    assert two.failures("lost") == failed


@pytest.mark.parametrize("is_swallowed", WAYS)
async def test_a_stream_goes_on_without_a_gap_or_a_repeat(
    two: Pair, way: Proxy, monkeypatch: pytest.MonkeyPatch, is_swallowed: str
) -> None:
    monkeypatch.setattr(forwarding, "HEARTBEAT_SECONDS", 2 * PING_SECONDS)
    monkeypatch.setattr(forwarding, "SILENT_SECONDS", 4 * PING_SECONDS)
    session_id = at_owner(two)
    await two.owner.chat(session_id, "/count 3 1")
    async with open_stream(two.edge.http, session_id) as stream:
        await stream.until_event("turn_ended")
        setattr(way, is_swallowed, True)
        await two.owner.chat(session_id, "/count 40 1")
        failed = two.failures("lost")
        async with within(10):
            while two.failures("lost") == failed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stream.next(), PING_SECONDS)
        setattr(way, is_swallowed, False)
        while "40" not in stream.text.split():
            await stream.until(lambda frame: frame.event == "text_delta")
    ids = [int(frame.id) for frame in stream.frames if frame.id]
    assert ids == sorted(set(ids))
    assert stream.text == " ".join(map(str, range(1, 4))) + " ".join(map(str, range(1, 41)))
