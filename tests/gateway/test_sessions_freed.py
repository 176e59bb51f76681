"""A session that has left the map is freed at once: no circle keeps it until the collector comes."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import gc
import pathlib
import reprlib
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.gateways import ROOT
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.streams import open_stream, state_when

TALKER: Final = ROOT / "tests" / "hostile" / "talker.py"
SCENARIOS: Final = {"tools": "thinks_plans_tools", "asks": "asks_permission", "dies": "crash_mid_answer"}
"""Agents with a command each, whose workers have a network of their own where the machine has it."""
SESSIONS: Final = 10
CHURNED: Final = 12
"""Lives in each half of a churn; whatever one leaves behind is there so many times."""
LOOKS: Final = 12
PACKAGES: Final = ("gateway", "worker")
CONTAINERS: Final = (dict, list, set, collections.deque)
FLOODS: Final = f"""
[limits]
session_memory_bytes = 200000
[agents.floods]
command = ["{sys.executable}", "-I", "{TALKER}"]
readable = ["{TALKER.parent}"]
"""


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def kept(gateway: GatewayInside, session_id: str) -> list[weakref.ref[Any]]:
    """What must go with a session: itself, its fold, and its log."""
    sessions = gateway.inner.manager.sessions()
    session = next(one for one in sessions if one.session_id == session_id)
    return [weakref.ref(session), weakref.ref(session.fold), weakref.ref(session.log)]


async def gone(found: list[weakref.ref[Any]]) -> None:
    async with within(10):
        while any(one() is not None for one in found):
            await asyncio.sleep(0.01)


async def test_a_deleted_session_is_freed_without_the_collector(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=FLOODS, agents=SCENARIOS) as gateway:
        with no_collector():
            for agent in ("built-in", *SCENARIOS, "floods"):
                await gateway.post("/api/sessions", {"session_id": agent, "agent": agent}, status=201)
                await gateway.send(agent, "tools 2000 0" if agent == "floods" else "hi")
                asks_or_is_over = await state_when(
                    gateway.http, agent, lambda s: not s["is_processing"] or s["pending_permission"]
                )
                assert len(asks_or_is_over["messages"]) > 1, agent
                found = kept(gateway, agent)
                await gateway.delete(agent)
                await gone(found)


async def test_sessions_workers_and_connections_leave_nothing_for_the_collector(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config="[sessions]\nsweep_interval_seconds = 0.05\n") as gateway:
        await live(gateway, "first")  # what is made once is made
        gc.collect()
        with no_collector():
            for number in range(SESSIONS):
                await live(gateway, f"s{number}")
                if number % 2:
                    await gateway.delete(f"s{number}")
            gateway.clock.advance(gateway.inner.config.sessions.idle_timeout_seconds + 1)
            async with asyncio.timeout(10):
                while gateway.inner.manager.sessions():
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            assert not ours_in_circles()


def ours_in_circles() -> dict[str, int]:
    """What only the collector finds, of classes of this program."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = collections.Counter(f"{type(o).__module__}.{type(o).__name__}" for o in gc.garbage)
        return {name: count for name, count in kinds.items() if name.startswith(PACKAGES)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def live(gateway: GatewayInside, session_id: str) -> None:
    """A turn, with a reader who keeps up."""
    async with open_stream(gateway.http, session_id) as stream:
        await gateway.chat(session_id, "/echo hi")
        await stream.until_event("turn_ended")


async def test_sessions_that_come_and_go_leave_no_object_and_no_entry_behind(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents=SCENARIOS) as gateway:
        await churn(gateway, "first")  # what is made once is made
        before = held()
        await churn(gateway, "then")
        left = left_since(before)
        for _ in range(LOOKS):  # some things are kept for a second or two
            if not left:
                break
            await asyncio.sleep(0.5)
            left = left_since(before)
        assert left == []


async def churn(gateway: GatewayInside, name: str) -> None:
    """Sessions of the built-in agent and of a command, several at once, each deleted after a turn."""

    async def lives(agent: str, numbers: range) -> None:
        for number in numbers:
            session_id = f"{name}-{agent}-{number}"
            await gateway.post("/api/sessions", {"session_id": session_id, "agent": agent}, status=201)
            await live(gateway, session_id)
            await gateway.delete(session_id)

    half = CHURNED // 2
    await asyncio.gather(lives("built-in", range(half)), lives("tools", range(half)))


Held = tuple[dict[str, int], dict[int, tuple[int, object]]]
"""How many objects there are of each class of this program, and how much is in each container that one of
them or of its modules holds; the containers stay, so that no other takes the place of one.
"""


def held() -> Held:
    gc.collect()
    gc.unfreeze()
    ours = [one for one in gc.get_objects() if is_ours(one)]
    counts = collections.Counter(type(one).__qualname__ for one in ours)
    sizes: dict[int, tuple[int, object]] = {}
    found = gc.get_referents(*ours)
    while found:
        found = [one for one in found if type(one) in CONTAINERS and id(one) not in sizes]
        sizes |= {id(one): (len(one), one) for one in found}
        found = gc.get_referents(*found)
    return dict(counts), sizes


def is_ours(one: object) -> bool:
    """Of a class of this program, or what one of its modules has: names, and what its functions remember."""
    if isinstance(one, types.ModuleType | functools._lru_cache_wrapper):
        return (getattr(one, "__module__", None) or one.__name__).startswith(PACKAGES)
    return str(type(one).__module__).startswith(PACKAGES)


def left_since(before: Held) -> list[str]:
    """What there is more of by as many as there were lives of one agent."""
    counts, sizes = held()
    more = {name: count - before[0].get(name, 0) for name, count in counts.items()}
    grown = {
        reprlib.repr(one): size - before[1][place][0]
        for place, (size, one) in sizes.items()
        if place in before[1]
    }
    return [f"{count} more: {name}" for name, count in (more | grown).items() if count >= CHURNED // 2]


async def test_memory_is_given_back_after_the_log_of_a_session_has_left_the_store(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("s1", "/echo hi")
        services, done = gateway.inner.services, []
        for name, one, act in (
            ("deleted", services.store.sessions, "delete"),
            ("given back", services.trimmer, "soon"),
        ):
            real = getattr(one, act)

            def noted(*given: Any, real: Any = real, name: str = name) -> Any:
                done.append(name)
                return real(*given)

            monkeypatch.setattr(one, act, noted)
        await gateway.delete("s1")
        assert done[-2:] == ["deleted", "given back"]
