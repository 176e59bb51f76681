"""Several gateways that share one PostgreSQL, as processes: one dies, stands still, or comes back."""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.gateways import is_running
from tests.nodes import BEAT_SECONDS, LEASE_SECONDS, Nodes, running_nodes
from tests.patience import soon
from tests.shared import ask, crowding, eventually, fresh_id
from tests.streams import StreamReader, open_stream

ENDLESS: Final = {
    "turns": [[{"say": "begun "}, {"spawn": [sys.executable, "-c", "import time; time.sleep(600)"]},
               {"sleep": 120_000}]],
    "repeat": True,
}  # fmt: skip
"""An agent whose turn does not end by itself."""
TAKEN_SECONDS: Final = LEASE_SECONDS + 3 * BEAT_SECONDS + 0.5
"""From the death of a node until its turns are ended by others, where nothing else runs."""


async def begun(nodes: Nodes, index: int, session: str, *, reads: int) -> None:
    """A turn runs on one node, and another one reads of it."""
    await nodes[index].send(session, "go", agent="endless")

    async def is_said() -> bool:
        state = await ask(nodes[reads].http, "GET", f"/api/state?session_id={session}")
        return state.status == 200 and "begun" in state.body["messages"][-1]["content"]

    await eventually(is_said)


async def cut(stream: StreamReader, *, since: float) -> float:
    """Returns when a stream has shown that its turn was cut: how long that took."""
    frame = await stream.until_event("turn_interrupted", seconds=20)
    assert frame.data["reason"] == "gateway_restarted"
    return time.monotonic() - since


async def test_the_turns_of_a_node_that_was_killed_are_ended_by_the_others_and_its_sessions_go_on(
    tmp_path: pathlib.Path,
) -> None:
    async with running_nodes(tmp_path, 3, agents={"endless": ENDLESS}) as nodes:
        sessions = [fresh_id() for _ in range(3)]
        await asyncio.gather(*(begun(nodes, 0, session, reads=1) for session in sessions))
        rows = (await nodes[2].get("/api/sessions"))["sessions"]
        assert {row["session_id"]: row["state"] for row in rows} == dict.fromkeys(sessions, "running")
        async with (
            open_stream(nodes[1].http, sessions[0], after=0) as first,
            open_stream(nodes[2].http, sessions[1], after=0) as second,
        ):
            for stream in (first, second):
                await stream.until_event("text_delta")
            killed = time.monotonic()
            await nodes.kill(0)
            took = await asyncio.gather(*(cut(stream, since=killed) for stream in (first, second)))
        verb = await ask(
            nodes[1].http, "POST", "/api/chat", {"session_id": sessions[2], "message": "/echo on"}
        )
        assert verb.status == 200, verb.body
        words = [message["content"] for message in verb.body["messages"]]
        assert words[2].startswith("The gateway was restarted before the answer was complete.")
        print(f"shown after {took[0]:.2f} and {took[1]:.2f} s of a lease of {LEASE_SECONDS} s")  # noqa: T201
        assert max(took) < TAKEN_SECONDS * crowding()

        await nodes.start(0)
        began = time.monotonic()
        for session in sessions:
            state = await ask(nodes[0].http, "GET", f"/api/state?session_id={session}")
            assert state.status == 200, state.body
        assert time.monotonic() - began < crowding()
        async with nodes.connected() as connection:
            names = await connection.fetch("SELECT name FROM nodes ORDER BY name")
        assert [row["name"] for row in names] == ["node-0", "node-1", "node-2"]


async def test_one_that_stands_still_is_replaced_and_does_no_harm_when_it_goes_on(
    tmp_path: pathlib.Path,
) -> None:
    async with running_nodes(tmp_path, 2, agents={"endless": ENDLESS}) as nodes:
        session = fresh_id()
        await begun(nodes, 0, session, reads=1)
        workers = nodes[0].workers()
        async with nodes.paused(0):
            said = {"session_id": session, "message": "another"}
            await until_answered(lambda: taken(nodes, 1, said))
            before = await log_of(nodes, session)
        gone = nodes[0]
        await soon(gone.process.wait(), 30)
        assert "the gateway ends, because nothing can be stored any more" in gone.log()
        assert not any(is_running(worker) for worker in workers)
        after = await log_of(nodes, session)
        assert after[: len(before)] == before, "nothing was written between"
        await nodes.stop(0)
        back = await nodes.start(0)
        answer = await ask(nodes[0].http, "GET", f"/api/state?session_id={session}")
        assert [message["content"] for message in answer.body["messages"]][-2:][0] == "another"

        listed = await command(nodes, "nodes")
        assert [line.split()[:2] for line in listed[1:]] == [["node-0", "up"], ["node-1", "up"]]
        assert await command(nodes, "sessions", "where", session) == [
            f"{session}: node-1 at {nodes.urls[1]}, which answers in it now"
        ]
        assert "the others take over" in (await command(nodes, "nodes", "fence", "node-0"))[0]
        assert await soon(back.process.wait(), 30) == 1
        await nodes.stop(0)


async def command(nodes: Nodes, *words: str) -> list[str]:
    """What a command says, which asks no gateway but their database."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        env={**os.environ, "AGENT_GATEWAY_STORE": nodes.database},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode().splitlines()


async def until_answered(asks: Callable[[], Awaitable[bool]]) -> None:
    await eventually(asks, seconds=30)


async def taken(nodes: Nodes, index: int, body: dict[str, str]) -> bool:
    """Whether a message was taken; until then the reason is that another gateway had the session."""
    answer = await ask(nodes[index].http, "POST", "/api/chat", body, headers={"Idempotency-Key": "k"})
    assert answer.status in (200, 503), answer.body
    return answer.status == 200


async def log_of(nodes: Nodes, session: str) -> list[tuple[int, str]]:
    """What is stored of a session by now, but for what its new worker says."""
    query = (
        "SELECT e.seq, e.body FROM events AS e JOIN sessions AS s ON s.id = e.session"
        " WHERE s.session_id = $1 AND e.seq < s.reserved_seq - 10000 ORDER BY seq"
    )
    async with nodes.connected() as connection:
        return [(row[0], bytes(row[1]).decode("latin-1")) for row in await connection.fetch(query, session)]
