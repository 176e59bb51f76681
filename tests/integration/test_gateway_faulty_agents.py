"""Agents that misbehave amid a turn: it is seen in words, the session goes on, nothing is left."""

from __future__ import annotations

import asyncio
import platform
import time
from typing import Any, Final

import psutil
import pytest

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.shared import SHARED, crowding, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED
OVERSIZE_BYTES = 20 * 1024 * 1024
gateway = shared_gateway(
    """
[sessions]
turn_timeout_seconds = 2
stop_grace_seconds = 0.3
""",
    agents={
        "crash": "crash_mid_answer",
        "second": "crash_on_second_turn",
        "mute": "never_answers",
        "deaf": "ignores_cancel",
        "garbage": "prints_garbage",
        "closes": "closes_stdout",
        "frozen": "stops_itself",
        "asks": "unknown_request",
        "invents": "unknown_notification",
        "stderr": "floods_stderr",
        "refuses": "fails_the_prompt",
        "stubborn": "ignores_eof_and_sigterm",
        "stops": "stops_for_other_reasons",
    },
)
LATE: Final = {
    "about": "Ignores session/cancel, and ends its answer by itself only after it.",
    "turns": [
        [
            {"ignore_cancel": True},
            {"ask": {"title": "Sure?", "then": {"cancelled": [{"say": {"text": "$N ", "times": 20}}]}}},
            {"end": "end_turn"},
        ]
    ],
}
patient = shared_gateway(
    """
[sessions]
turn_timeout_seconds = 60
interrupt_timeout_seconds = 30
stop_grace_seconds = 0.3
""",
    agents={
        "late": LATE,
        "endless": "endless_line",
        "huge": {
            "turns": [[{"say": "before "}, {"oversize": OVERSIZE_BYTES}, {"say": "after"}]],
            "repeat": True,
        },
    },
    is_process=True,  # its memory is looked at
)
"""A gateway whose deadlines a busy machine does not reach, for agents that end by something else."""


def words(state: Any, sender: str = "system") -> str:
    """The last message of a sender."""
    said: list[str] = [m["content"] for m in state["messages"] if m["sender"] == sender]
    return said[-1] if said else ""


def is_over(state: Any) -> bool:
    """Whether a turn was there and is over."""
    return bool(state["messages"]) and not state["is_processing"]


async def worker_of(gateway: RunningGateway, session_id: str, **body: Any) -> psutil.Process:
    """Starts a turn and returns the process that came with it."""
    before = {worker.pid for worker in gateway.workers()}
    await gateway.send(session_id, body.pop("message", "go"), **body)
    await state_when(gateway.http, session_id, lambda state: bool(words(state, "agent")))
    [worker] = [worker for worker in gateway.workers() if worker.pid not in before]
    return worker


async def test_a_worker_that_crashes_mid_answer_is_a_visible_error(gateway: RunningGateway) -> None:
    session_id = fresh_id("crash")
    await gateway.send(session_id, "go", agent="crash")
    async with open_stream(gateway.http, session_id) as stream:
        await stream.until_event("text_delta")
        began = time.monotonic()
        ended = await stream.until_event("turn_interrupted")
        assert time.monotonic() - began < 1 * crowding()
        assert ended.data["reason"] == "exited"
        assert (await stream.until_event("worker_ended")).data["survivors"] == 0
    state = await gateway.state(session_id)
    assert words(state) == "The agent ended unexpectedly (exit code 7). Its last words: fatal: out of luck"
    assert words(state, "agent") == "half an "
    assert not any(message["is_streaming"] for message in state["messages"])
    assert state["readiness"]["phase"] == "ready"


async def test_after_a_crash_the_next_turn_works(gateway: RunningGateway) -> None:
    session_id = fresh_id("second")
    await gateway.send(session_id, "one", agent="second")
    assert words(await gateway.chat(session_id, "two")).startswith(
        "The agent ended unexpectedly (exit code 1)"
    )
    assert words(await gateway.chat(session_id, "three"), "agent") == "fine"


async def test_a_killed_worker_is_seen_within_a_second_and_by_nobody_else(gateway: RunningGateway) -> None:
    other, session_id = fresh_id("other"), fresh_id("killed")
    await worker_of(gateway, other, message="/count 40 20")
    worker = await worker_of(gateway, session_id, message="/count 500 20")
    worker.kill()
    began = time.monotonic()
    state = await state_when(gateway.http, session_id, is_over)
    assert time.monotonic() - began < 1 * crowding()
    assert words(state) == "The agent ended unexpectedly (signal 9)."
    assert words(await gateway.chat(session_id, "/echo alive"), "agent") == "alive"
    state = await state_when(gateway.http, other, is_over)
    assert words(state, "agent") == " ".join(map(str, range(1, 41)))


@pytest.mark.parametrize("agent", ["mute", "frozen"])
async def test_an_agent_that_never_answers_is_ended_at_the_deadline(
    gateway: RunningGateway, agent: str
) -> None:
    session_id = fresh_id(agent)
    before, began = {worker.pid for worker in gateway.workers()}, time.monotonic()
    await gateway.send(session_id, "go", agent=agent)
    state = await state_when(gateway.http, session_id, is_over)
    assert 1.9 < time.monotonic() - began < 4 * crowding()
    assert words(state) == (
        "The agent did not finish within 2 seconds. "
        "The operator can give it more time: `turn_seconds` in the agent's limits."
    )
    async with open_stream(gateway.http, session_id) as stream:
        receipt = await stream.until_event("worker_ended")
    assert (receipt.data["reason"], receipt.data["survivors"]) == ("turn_timeout", 0)
    assert {worker.pid for worker in gateway.workers()} <= before


async def test_an_agent_that_ignores_cancel_is_stopped_within_three_seconds(tmp_path: Any) -> None:

    async with gateway_inside(tmp_path, agents={"deaf": "ignores_cancel"}) as gateway:
        worker = await worker_of(gateway, "a", agent="deaf")
        began = time.monotonic()
        state = await gateway.post("/api/interrupt", {"session_id": "a"})
        assert time.monotonic() - began < 3 * crowding()
        assert (state["is_processing"], words(state)) == (False, "Interrupted by user")
        assert words(state, "agent") == "you cannot stop me"
        async with open_stream(gateway.http, "a") as stream:
            receipt = await stream.until_event("worker_ended")
        assert (receipt.data["reason"], receipt.data["survivors"]) == ("interrupt_timeout", 0)
        assert not worker.is_running()


async def test_an_agent_that_ends_its_answer_after_a_cancel_has_been_interrupted(
    patient: RunningGateway,
) -> None:
    session_id = fresh_id("late")
    await patient.send(session_id, "go", agent="late")
    await state_when(patient.http, session_id, lambda state: state["pending_permission"] is not None)
    state = await patient.post("/api/interrupt", {"session_id": session_id})
    assert (state["is_processing"], words(state)) == (False, "Interrupted by user")
    assert words(state, "agent").endswith("20 ")


async def test_garbage_on_stdout_is_skipped(gateway: RunningGateway) -> None:
    session_id = fresh_id("garbage")
    await gateway.send(session_id, "go", agent="garbage")
    state = await state_when(gateway.http, session_id, is_over)
    assert words(state, "agent") == "still here"
    assert words(state) == ""


@pytest.mark.parametrize(("agent", "before"), [("huge", "before "), ("endless", "")])
async def test_a_line_past_the_limit_ends_the_turn_with_words(
    patient: RunningGateway, agent: str, before: str
) -> None:
    session_id = fresh_id(agent)
    process = psutil.Process(patient.pid)
    memory = process.memory_info().rss
    await patient.send(session_id, "go", agent=agent)
    state = await state_when(patient.http, session_id, is_over, seconds=60)
    assert words(state) == "The agent sent a line longer than 16777216 bytes."
    assert words(state, "agent") == before
    assert process.memory_info().rss - memory < 2 * OVERSIZE_BYTES
    assert "longer than 16777216" in words(await patient.chat(session_id, "again"))


async def test_an_agent_that_closes_its_stdout_is_gone(gateway: RunningGateway) -> None:
    session_id = fresh_id("closes")
    await gateway.send(session_id, "go", agent="closes")
    state = await state_when(gateway.http, session_id, is_over)
    assert words(state).startswith("The agent ended unexpectedly")
    assert words(state, "agent") == "last words"


async def test_a_flood_on_stderr_blocks_nobody(gateway: RunningGateway) -> None:
    session_id = fresh_id("stderr")
    await gateway.send(session_id, "go", agent="stderr")
    assert words(await state_when(gateway.http, session_id, is_over), "agent") == "before after"


async def test_an_unknown_request_of_an_agent_is_answered_so_that_it_does_not_stall(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("asks")
    await gateway.send(session_id, "go", agent="asks")
    said = words(await state_when(gateway.http, session_id, is_over), "agent")
    assert said.count("-32601") == 2


async def test_notifications_and_updates_of_unknown_kinds_are_passed_on(gateway: RunningGateway) -> None:
    session_id = fresh_id("invents")
    await gateway.send(session_id, "go", agent="invents")
    async with open_stream(gateway.http, session_id) as stream:
        update = await stream.until_event("agent_update")
        assert update.data["update"] == {"sessionUpdate": "invented_update", "payload": [1, 2, 3]}
        assert (await stream.until_event("turn_ended")).data["stop_reason"] == "end_turn"


async def test_a_turn_that_the_agent_fails_has_its_words_and_the_next_works(gateway: RunningGateway) -> None:
    session_id = fresh_id("refuses")
    await gateway.send(session_id, "go", agent="refuses")
    async with open_stream(gateway.http, session_id) as stream:
        ended = await stream.until_event("turn_ended")
    failure = {"code": "model_failed", "message": "The model is overloaded.", "retryable": True}
    assert (ended.data["stop_reason"], ended.data["error"]) == ("error", failure)
    assert words(await gateway.state(session_id)) == "The model is overloaded."
    assert words(await gateway.chat(session_id, "go"), "agent") == "better now"


async def test_every_stop_reason_is_passed_on(gateway: RunningGateway) -> None:
    session_id = fresh_id("stops")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "stops"}, status=201)
    for _ in range(3):
        await gateway.chat(session_id, "go")
    async with open_stream(gateway.http, session_id) as stream:
        reasons = [(await stream.until_event("turn_ended")).data["stop_reason"] for _ in range(3)]
    assert reasons == ["max_tokens", "max_turn_requests", "refusal"]


async def test_deleting_while_it_runs_ends_everything_and_says_so(gateway: RunningGateway) -> None:
    session_id, before = fresh_id("stubborn"), {worker.pid for worker in gateway.workers()}
    await gateway.send(session_id, "go", agent="stubborn")
    await state_when(gateway.http, session_id, is_over)
    family = [worker for worker in gateway.workers() if worker.pid not in before]
    assert len(family) == 2, "the agent, and what it left running in a session of its own"
    waiting = asyncio.create_task(gateway.chat(session_id, "again"))
    answer = await gateway.delete(session_id)
    assert answer["deleted"] is True
    assert (answer["receipt"]["processes"] >= 2, answer["receipt"]["survivors"]) == (True, 0)
    assert not any(process.is_running() for process in family)
    await waiting


async def test_deleting_in_the_middle_of_an_answer(gateway: RunningGateway) -> None:
    session_id = fresh_id("running")
    worker = await worker_of(gateway, session_id, message="/count 1000 20")
    async with open_stream(gateway.http, session_id) as stream:
        answer = await gateway.delete(session_id)
        assert (answer["receipt"]["processes"], answer["receipt"]["survivors"]) == (1, 0)
        assert (await stream.to_end())[-1].event == "session_closed"
    assert not worker.is_running()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere an interpreter is the init")
async def test_an_agent_cannot_look_into_the_init_above_it(tmp_path: Any) -> None:
    look = "(cat /proc/1/cmdline; ls /proc/1/fd; cat /proc/1/maps /proc/1/environ) 2>&1"
    agents = {"looks": {"turns": [[{"run": look}]]}}
    config = "[workers]\nrequire = 'strict'\n"
    async with gateway_inside(tmp_path, config=config, agents=agents) as gateway:
        await gateway.send("a", "go", agent="looks")
        said = words(await state_when(gateway.http, "a", is_over), "agent")
    assert said.startswith("init")
    assert said.count("Permission denied") == 3, said
