"""One way to a session for every face: its rate holds across them, and each refusal is counted."""

from __future__ import annotations

import asyncio
import pathlib
import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import pytest

import gateway
from gateway.config.tables import LimitsConfig
from gateway.events.facts import Event
from gateway.sessions.log import EventLog
from gateway.stores.memory.logs import MemoryLogs
from tests.asked import Inside, inside_gateway

GATEWAY: Final = str(pathlib.Path(gateway.__file__).parent)
STOPS: Final = 15
"""Modules from the request to the log, at most."""
ASKED: Final = 43
"""Modules whose code runs until a message is committed, at most: its way (9); who asks, from where and what
for (16); the session's parts, its quotas, budgets and place in line (10); the store in memory with its search
(4); the observers with what the product chats and the webhook make of an event (4).
"""
SLOW: Final = LimitsConfig(session_requests_per_second=0.001, session_burst=3)


async def counted(inside: Inside) -> int:
    """How many requests were refused for the rate of a session, as a scrape says."""
    text = (await inside.ask("GET", "/metrics")).text
    found = re.search(
        r'agent_gateway_rejections_total\{limit="session_requests_per_second"\} ([0-9.]+)', text
    )
    return int(float(found[1])) if found else 0


async def test_the_rate_of_a_session_holds_across_faces_and_each_refusal_is_counted(
    tmp_path: pathlib.Path,
) -> None:
    async with inside_gateway(tmp_path, limits=SLOW) as inside:
        statuses = []
        for _ in range(3):
            for path, body in (
                ("/api/system", {"message": "note", "session_id": "a"}),
                ("/api/v1/shopping/query", {"q": "rice", "sessionId": "a"}),
            ):
                statuses.append((await inside.ask("POST", path, body)).status)
        assert statuses == [200, 200, 200, 429, 429, 429]
        assert await counted(inside) == 3
        for method, path, body in (
            ("POST", "/api/chat", {"message": "x", "session_id": "a"}),
            ("POST", "/api/interrupt", {"session_id": "a"}),
            ("POST", "/api/mcp-command", {"command": "list_servers", "session_id": "a"}),
            ("POST", "/api/mcp-command", {"command": "set_network", "args": "n", "session_id": "a"}),
            ("PATCH", "/api/sessions/a", {"title": "t"}),
            ("POST", "/api/sessions/a/queue", {"action": "send"}),
        ):
            assert (await inside.ask(method, path, body)).status == 429, path
        assert await counted(inside) == 9
        other = {"message": "note", "session_id": "b"}
        assert (await inside.ask("POST", "/api/system", other)).status == 200
        assert (await inside.ask("DELETE", "/api/sessions/a")).status == 200, "one may always leave"


def module_of(frame: FrameType) -> str | None:
    """The module of the gateway that a frame belongs to."""
    path = frame.f_code.co_filename
    return path[len(GATEWAY) + 1 : -3].replace("/", ".") if path.startswith(GATEWAY) else None


def way_to(frame: FrameType | None) -> list[str]:
    """The modules of the gateway on the stack, from the outermost to this frame's."""
    found: list[str] = []
    while frame is not None:
        if (name := module_of(frame)) is not None and name not in found:
            found.append(name)
        frame = frame.f_back
    return found[::-1]


async def traced(act: Callable[[], Any], *, until: Callable[..., Any]) -> list[str]:
    """Does it; the modules of the gateway whose code ran in this task, in order, until that one returned."""
    task, seen = asyncio.current_task(), dict[str, None]()
    last, has_returned = until.__code__, False

    def note(frame: FrameType, event: str, value: object) -> None:
        nonlocal has_returned
        if asyncio.current_task() is not task:
            return
        if event == "call" and (name := module_of(frame)):
            seen[name] = None
        elif event == "return" and frame.f_code is last and value is None:
            has_returned = True
            sys.setprofile(None)

    sys.setprofile(note)
    try:
        await act()
    finally:
        sys.setprofile(None)
    assert has_returned, f"{until.__qualname__} never did, so more was counted"
    return list(seen)


async def test_a_message_passes_few_modules_until_it_is_committed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the application's door to the store, and everything that is asked on the way. Shown with `-rP`."""
    ways: list[list[str]] = []
    enqueue = MemoryLogs.enqueue

    def noted(store: MemoryLogs, sink: Any, *events: Event, urgent: bool) -> None:
        ways.append(way_to(sys._getframe(1)))
        enqueue(store, sink, *events, urgent=urgent)

    async with inside_gateway(tmp_path) as inside:
        await inside.chat("a", "/echo first")
        monkeypatch.setattr(MemoryLogs, "enqueue", noted)

        async def send() -> None:
            answer = await inside.ask("POST", "/api/chat", {"session_id": "a", "message": "/echo hi"})
            assert answer.status == 200

        asked = await traced(send, until=EventLog.commit)
    way = next(way for way in ways if "api.chat" in way)
    sys.stdout.write(f"{len(way)} modules from the request to the log: {' → '.join(way)}\n")
    sys.stdout.write(f"{len(asked)} modules ran until it was committed: {', '.join(asked)}\n")
    assert len(way) <= STOPS
    assert len(asked) <= ASKED
