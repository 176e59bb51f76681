"""One of several gateways is drained: the others go on with its sessions, and nobody is refused."""

from __future__ import annotations

import pathlib
from typing import Final

import aiohttp

from tests.gateways import RunningGateway, Scenario
from tests.integration.test_nodes import command
from tests.nodes import PATIENT, Nodes, running_nodes
from tests.patience import soon
from tests.shared import ask, eventually, fresh_id
from tests.streams import StreamReader, open_stream, state_when

FORM: Final = {"properties": {"db": {"type": "string", "title": "Database"}}, "required": ["db"]}
ASKS: Final[Scenario] = {
    "turns": [
        [
            {"say": "begun "},
            {"ask_question": {"message": "Which?", "requestedSchema": FORM}},
            {"say": "ended"},
        ]
    ]
}
"""Its turn lasts until somebody answers."""
WHOLE: Final = 'begun accept {"db":"Postgres"}ended'
SETTLED: Final = "[sessions]\npark_after_seconds = 0\n"


def assert_whole(stream: StreamReader, *texts: str) -> None:
    """Nothing came twice, nothing is missing, and nothing had to be shown anew."""
    ids = [int(frame.id) for frame in stream.frames if frame.id]
    assert ids == sorted(set(ids))
    assert stream.text == "".join(texts)
    assert not [frame for frame in stream.frames if frame.event in ("resync", "turn_interrupted")]


async def is_out(gateway: RunningGateway) -> bool:
    """Whether a balancer would send it nothing new."""
    answer = await ask(gateway.http, "GET", "/readyz")
    return answer.status == 503 and not answer.body["checks"]["draining"]["is_well"]


async def where(nodes: Nodes, session: str) -> str | None:
    """Which node has it."""
    query = "SELECT n.name FROM sessions AS s JOIN nodes AS n ON n.id = s.node WHERE s.session_id = $1"
    async with nodes.connected() as connection:
        name: str | None = await connection.fetchval(query, session)
        return name


async def test_a_drained_node_gives_its_sessions_away_and_ends_with_its_last_turn(
    tmp_path: pathlib.Path,
) -> None:
    async with running_nodes(tmp_path, 2, config=SETTLED, agents={"asks": ASKS}, environ=PATIENT) as nodes:
        idle, busy = fresh_id(), fresh_id()
        drained = nodes[0]
        await drained.chat(idle, "/echo before")
        async with (
            open_stream(drained.http, idle) as at_rest,
            open_stream(nodes[1].http, busy) as turning,
            aiohttp.ClientSession(drained.url) as young,
        ):
            await at_rest.until_event("turn_ended")
            await drained.send(busy, "go", agent="asks")
            [question] = (await state_when(drained.http, busy, lambda s: s["questions"]))["questions"]
            said = await command(nodes, "nodes", "drain", "node-0")
            assert "and ends when its turns have ended" in said[0]
            await eventually(lambda: is_out(drained))

            async def is_taken() -> bool:
                return await where(nodes, idle) == "node-1"

            await eventually(is_taken)  # because somebody reads it; nobody has said anything
            listed = await command(nodes, "nodes")
            assert [line.split()[:2] for line in listed[1:]] == [["node-0", "draining"], ["node-1", "up"]]

            state = await drained.chat(idle, "/echo after")
            assert [message["content"] for message in state["messages"]][-1] == "after"
            await at_rest.until_event("turn_ended")
            assert_whole(at_rest, "before", "after")
            assert await where(nodes, idle) == "node-1"

            async with young.post("/api/chat?wait=20", json={"message": "/echo new"}) as answer:
                assert answer.status == 200, await answer.text()
                assert "Set-Cookie" in answer.headers, "it is named where it is made"
                made = answer.headers["X-Session-Id"]
            assert await where(nodes, made) == "node-1"
            created = await ask(drained.http, "POST", "/api/sessions", {"session_id": fresh_id()})
            assert created.status == 201, created.body

            assert drained.process.returncode is None, "its turn runs"
            assert await where(nodes, busy) == "node-0"
            path = f"/api/sessions/{busy}/questions/{question['question_id']}"
            await nodes[1].post(path, {"action": "accept", "content": {"db": "Postgres"}})
            await turning.until_event("turn_ended")
            assert await soon(drained.process.wait(), 20) == 0
            assert_whole(turning, WHOLE)
            state = await nodes[1].state(busy)
            assert state["messages"][-1]["content"] == WHOLE
        assert " ERROR " not in drained.log() + nodes[1].log()


async def test_an_operator_bounds_how_long_turns_may_go_on(tmp_path: pathlib.Path) -> None:
    bounded = "[server]\ndrain_seconds = 0.5\n"
    async with running_nodes(tmp_path, 2, config=bounded, environ=PATIENT) as nodes:
        busy = fresh_id()
        async with open_stream(nodes[1].http, busy) as stream:
            await nodes[0].send(busy, "/count 600 1000")
            await stream.until_event("text_delta")
            assert await soon(nodes.stop(0), 20) == 0
            await stream.until_event("turn_interrupted")
            await nodes[1].chat(busy, "/echo on")


async def test_the_last_one_that_is_up_keeps_the_usual_grace(tmp_path: pathlib.Path) -> None:
    async with running_nodes(tmp_path, 1, environ=PATIENT) as nodes:
        busy = fresh_id()
        async with open_stream(nodes[0].http, busy) as stream:
            await nodes[0].send(busy, "/count 20 50")
            await stream.until_event("text_delta")
            gateway = nodes[0]
            assert await soon(nodes.stop(0), 40) == 0
            assert "running turns have 30 s" in gateway.log()
