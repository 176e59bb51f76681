"""What is told to other gateways: in order, once, to who has the session then; and bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
import pytest

from gateway.apps.shop.facts import CartChanged
from gateway.errors import StoreFailed
from gateway.events import facts as ev
from gateway.http.node_post import NodeDeaf
from gateway.principal import ConversationKey
from gateway.sessions import telling
from gateway.sessions.telling import Aside, Telling
from gateway.stores.directory import NodePlace
from gateway.telemetry.metrics import Metrics
from tests.patience import within

HERE, THERE, LATER = (NodePlace(number, f"node-{number}", f"http://n{number}:1") for number in (1, 2, 3))
KEY = ConversationKey("acme", "acme/ann", "s")
ev.register(CartChanged)


class Sessions:
    """Of one gateway; the directory says where every session is."""

    def __init__(self, *places: NodePlace | Exception | None) -> None:
        self.places = list(places)
        self.in_memory = False
        self.noted: list[ev.ApplicationFact] = []
        self.moved: list[tuple[str, str, dict[str, str], bool]] = []
        self.taken: list[tuple[str, str]] = []

    @property
    def directory(self) -> Any:
        return self

    async def holder(self, _owner: str, _session_id: str) -> NodePlace | None:
        place = self.places.pop(0) if len(self.places) > 1 else self.places[0]
        if isinstance(place, Exception):
            raise place
        return place

    async def note_here(self, _owner: str, _session_id: str, facts: Iterable[ev.ApplicationFact]) -> bool:
        self.noted += facts if self.in_memory else ()
        return self.in_memory

    async def take(self, owner: str, session_id: str) -> None:
        self.taken.append((owner, session_id))

    async def moved_elsewhere(
        self, giver: str, taker: str, sessions: Mapping[str, str], *, keeps_shares: bool
    ) -> None:
        self.moved.append((giver, taker, dict(sessions), keeps_shares))


class Others:
    """The other gateways; each answer is True, False or an error, the last one again and again."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.told: list[tuple[NodePlace, bytes]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def tell(self, place: NodePlace, body: bytes) -> bool:
        await self.open.wait()
        self.told.append((place, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class One:
    """A gateway that tells."""

    def __init__(self, sessions: Sessions, others: Others, *alive: NodePlace) -> None:
        self.metrics = Metrics(version="1", monotonic=time.monotonic)
        self.alive = list(alive)
        self.telling = Telling(
            cast("Any", sessions), tell=others.tell, others=lambda: self.alive, metrics=self.metrics
        )

    def count(self, what: str, outcome: str) -> float:
        labels = {"what": what, "outcome": outcome}
        return self.metrics.registry.get_sample_value("agent_gateway_told_total", labels) or 0.0

    async def over(self) -> None:
        async with within(5):
            while self.telling._tasks:
                await asyncio.wait(list(self.telling._tasks))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "PAUSES", (0.0, 0.001, 0.001, 0.001))


def carts(body: bytes) -> list[int]:
    """How much was in the carts that a message tells of."""
    return [msgspec.json.decode(fact)["items"] for fact in msgspec.json.decode(body, type=Aside).facts]


async def test_facts_of_one_session_arrive_in_order_and_together() -> None:
    sessions, others = Sessions(THERE), Others(True)
    one = One(sessions, others)
    others.open.clear()
    one.telling.aside(KEY, CartChanged(1, 1, "1.00"))
    await asyncio.sleep(0)
    for number in (2, 3):
        one.telling.aside(KEY, CartChanged(1, number, "1.00"))
    others.open.set()
    await one.over()
    assert [number for _, body in others.told for number in carts(body)] == [1, 2, 3]
    assert len(others.told) <= 2, "what came meanwhile went together"
    assert one.count("fact", "told") == 3


async def test_it_is_told_wherever_the_session_is_by_then_and_is_taken_once() -> None:
    listener = Sessions(None)
    listener.in_memory = True
    there = One(listener, Others(True)).telling
    sessions, others = Sessions(THERE, StoreFailed(), LATER), Others(NodeDeaf("cut"), True)
    one = One(sessions, others)
    one.telling.aside(KEY, CartChanged(2, 5, "19.80"))
    await one.over()
    assert [place for place, _ in others.told] == [THERE, LATER]
    assert len({body for _, body in others.told}) == 1, "the same message, so that it is known again"
    for _, body in others.told:
        assert await there.heard(body)
    assert listener.noted == [CartChanged(2, 5, "19.80")]


async def test_who_has_it_not_in_memory_is_asked_again_and_then_it_is_nobodys() -> None:
    listener = Sessions(None)
    there = One(listener, Others(True)).telling
    others = Others(False)
    one = One(Sessions(THERE), others)
    one.telling.aside(KEY, CartChanged(1, 1, "1.00"))
    await one.over()
    assert (one.count("fact", "nobody"), len(others.told)) == (1, 4)
    assert not await there.heard(others.told[0][1])
    listener.in_memory = True
    assert await there.heard(others.told[0][1]), "what could not be done before is not known"


async def test_a_session_that_came_here_meanwhile_hears_it_here() -> None:
    sessions, others = Sessions(THERE, None), Others(NodeDeaf("dead"))
    sessions.in_memory = True
    one = One(sessions, others)
    one.telling.aside(KEY, CartChanged(1, 7, "1.00"))
    await one.over()
    assert sessions.noted == [CartChanged(1, 7, "1.00")]


async def test_what_cannot_be_told_is_dropped_counted_and_never_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "WAITING", 3)
    others = Others(NodeDeaf("silent"))
    others.open.clear()
    one = One(Sessions(THERE), others)
    for number in range(5):
        one.telling.aside(ConversationKey("acme", "acme/ann", f"s{number}"), CartChanged(1, 1, "1.00"))
    assert one.count("fact", "dropped") == 2, "at once"
    others.open.set()
    await one.over()
    assert one.count("fact", "dropped") == 5
    one.telling.aside(KEY, CartChanged(1, 1, "1.00"))
    await one.over()
    assert one.count("fact", "dropped") == 6, "there is room again"


async def test_all_hear_of_a_sign_in_but_those_that_are_dead() -> None:
    sessions, others = Sessions(None), Others(NodeDeaf("late"), True)
    one = One(sessions, others, THERE, LATER)
    await one.telling.moved("acme/~v", "acme/ann", {"k": "s"}, keeps_shares=True)
    await one.over()
    assert sorted(place.id for place, _ in others.told) == [2, 2, 3]
    assert one.count("moved", "told") == 2
    listener = Sessions(None)
    assert await One(listener, others).telling.heard(others.told[0][1])
    assert listener.moved == [("acme/~v", "acme/ann", {"k": "s"}, True)]


async def test_one_that_died_is_not_told_any_more() -> None:
    others = Others(NodeDeaf("dead"))
    others.open.clear()
    one = One(Sessions(None), others, THERE)
    waiting = asyncio.create_task(one.telling.moved("a/b", "a/c", {}, keeps_shares=False))
    await asyncio.sleep(0)
    one.alive.clear()
    others.open.set()
    await waiting
    await one.over()
    assert len(others.told) == 1
    assert (one.count("moved", "nobody"), one.count("moved", "dropped")) == (1, 0)


async def test_an_application_hears_its_like() -> None:
    others, heard = Others(True), list[bytes]()
    one = One(Sessions(None), others, THERE)
    one.telling.say("shop", b'{"a":1}')
    await one.over()
    there = One(Sessions(None), others).telling
    there.words["shop"] = heard.append
    assert await there.heard(others.told[0][1])
    assert heard == [b'{"a":1}']
    with pytest.raises(msgspec.DecodeError):
        await there.heard(b'{"type":"unheard of"}')


async def test_who_gets_a_session_of_one_that_is_drained_takes_it() -> None:
    others, heirs = Others(True), Sessions(None)
    one, heir = One(Sessions(THERE), others, THERE), One(heirs, Others(True))
    one.telling.left(THERE, "acme/ann", "s")
    await one.over()
    [(place, body)] = others.told
    assert (place, one.count("left", "told")) == (THERE, 1)
    assert await heir.telling.heard(body)
    assert await heir.telling.heard(body), "the same again is no other one"
    assert heirs.taken == [("acme/ann", "s")]
