"""All workers are taken: turns wait in a line, fair between tenants, and see their place in it."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

from gateway.apps.product_chat.facts import ChatOpened
from gateway.sessions.queue import Turn
from gateway.sessions.session import Session
from tests.gateways import RunningGateway
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

CONFIG = """
[limits]
max_live_workers = 1
waiting_turns = 5
[sessions]
stop_grace_seconds = 0.2
[tenants.acme]
[tenants.beta]
"""
OURS = "default/local"

pytestmark = SHARED
gateway = shared_gateway(CONFIG)


class Busy:
    """The one worker, which works until `end`."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.name = fresh_id("busy")

    async def __aenter__(self) -> Busy:
        await self.gateway.send(self.name, "/count 1000 20")
        await state_when(self.gateway.http, self.name, lambda s: bool(s["messages"][-1]["content"]))
        return self

    async def end(self) -> None:
        await self.gateway.post("/api/interrupt", {"session_id": self.name})

    async def __aexit__(self, *_: object) -> None:
        await self.end()


async def opened(gateway: GatewayInside, owner: str, name: str) -> Session:
    return await gateway.inner.manager.get_or_create(owner, fresh_id(name))


async def chats(session: Session, text: str, done: list[str], name: str) -> Turn:
    turn = await session.chat(text)
    turn.done.add_done_callback(lambda _: done.append(name))
    return turn


async def position(gateway: RunningGateway, name: str) -> int | None:
    found: int | None = (await gateway.state(name))["start_position"]
    return found


async def test_tenants_take_turns_and_each_is_served_in_order(gateway: GatewayInside) -> None:
    done: list[str] = []
    async with Busy(gateway) as busy:
        turns = []
        for owner, names in (("acme/one", ("a1", "a2", "a3")), ("beta/two", ("b1",))):
            for name in names:
                session = await opened(gateway, owner, name)
                turns.append((session, await chats(session, f"/echo {name}", done, name)))
        places = [session._seat.start_position for session, _ in turns]
        assert places == [1, 3, 4, 2]
        assert [session.fold.is_processing for session, _ in turns] == [True] * 4
        await busy.end()
        async with within(60):
            await asyncio.wait([turn.done for _, turn in turns])
    assert done == ["a1", "b1", "a2", "a3"]
    assert [session.fold.messages[-1].text.__str__() for session, _ in turns] == ["a1", "a2", "a3", "b1"]
    assert [session.fold.start_position for session, _ in turns] == [None] * 4
    assert len(gateway.workers()) <= 1


async def test_a_place_goes_down_as_others_leave_by_interrupt_and_by_deletion(
    gateway: GatewayInside,
) -> None:
    names = [fresh_id(f"w{number}") for number in range(3)]
    async with Busy(gateway) as busy:
        answers = [await gateway.send(name, f"/echo {name}") for name in names]
        assert [answer["start_position"] for answer in answers] == [1, 2, 3]
        assert [answer["is_processing"] for answer in answers] == [True] * 3
        async with open_stream(gateway.http, names[2]) as events:
            first = await events.until_event("start_position")
            assert (first.data["position"], len(first.data["message_ids"])) == (3, 1)
            stopped = await gateway.post("/api/interrupt", {"session_id": names[0]})
            assert (stopped["is_processing"], stopped["start_position"]) == (False, None)
            assert stopped["messages"][-1]["content"] == "Interrupted by user"
            moved = await events.until_event("start_position")
            assert moved.data["position"] == 2
            await gateway.delete(names[1])
            moved = await events.until_event("start_position")
            assert moved.data["position"] == 1
            assert await position(gateway, names[2]) == 1
            await busy.end()
            await events.until_event("turn_ended")
        state = await gateway.state(names[2])
        assert (state["messages"][-1]["content"], state["start_position"]) == (names[2], None)


async def test_past_the_bound_it_is_503_and_nothing_was_taken(gateway: GatewayInside) -> None:
    slots = gateway.inner.services.slots
    async with Busy(gateway):
        slots.resize(1, 1)
        try:
            waits, refused = fresh_id("waits"), fresh_id("refused")
            await gateway.send(waits, "/echo waits")
            body = {"message": "/echo late", "session_id": refused}
            async with gateway.http.post("/api/chat", json=body) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (503, "worker_limit")
                assert int(response.headers["Retry-After"]) > 0
            assert (await gateway.state(refused))["messages"] == []
            slots.resize(2, 1)
            state = await state_when(gateway.http, waits, lambda s: not s["is_processing"])
            assert state["messages"][-1]["content"] == "waits", "more places are handed on at once"
        finally:
            slots.resize(1, 5)


async def test_a_session_with_messages_waiting_lets_others_go_first(gateway: GatewayInside) -> None:
    done: list[str] = []
    greedy, other = await opened(gateway, "acme/one", "greedy"), await opened(gateway, "beta/two", "other")
    turns = [await chats(greedy, "/count 5 20", done, "g0")]
    turns += [await chats(greedy, f"/echo g{number}", done, f"g{number}") for number in (1, 2, 3)]
    turns.append(await chats(other, "/echo o", done, "o"))
    async with within(60):
        await asyncio.wait([turn.done for turn in turns])
    assert done == ["g0", "o", "g1", "g2", "g3"]


async def test_a_product_chat_waits_with_all_its_messages(gateway: GatewayInside) -> None:
    done: list[str] = []
    async with Busy(gateway) as busy:
        chat = await opened(gateway, OURS, "product")
        await chat.note(ChatOpened(1, "Rice"))
        turns = [await chats(chat, text, done, text) for text in ("one", "two", "three")]
        assert (chat.fold.start_position, len(chat.fold.waiting)) == (1, 2)
        await busy.end()
        async with within(60):
            await asyncio.wait([turn.done for turn in turns])
    said = [str(message.text) for message in chat.fold.messages if message.sender == "agent"]
    assert "“one”" in said[0]
    assert len(said) == 2, "what waited behind it became one prompt"


async def test_what_waits_is_held_after_a_restart(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as first:
        async with Busy(first):
            await first.send("w", "/echo first")
            waiting = await first.send("w", "/echo second")
            assert (waiting["start_position"], waiting["queued"]) == (1, 1)
            await first.inner.manager.drain(grace_seconds=0)
    async with gateway_inside(tmp_path, config=CONFIG) as second:
        state = await second.state("w")
        assert (state["is_processing"], state["start_position"], state["queued"]) == (False, None, 2)
        session = second.inner.manager.get(OURS, "w")
        assert session is not None
        assert session.fold.is_held
        assert [one.text for one in session.fold.waiting] == ["/echo first", "/echo second"]
        await session.release_queue()

        async def both_are_answered() -> bool:
            return {"first", "second"} <= {said(one) for one in (await second.state("w"))["messages"]}

        await eventually(both_are_answered)


def said(message: dict[str, Any]) -> str:
    return str(message["content"])
