"""Spans of tool calls and of waits for people, as a collector receives them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.collector import Collector, attributes, collecting
from tests.gateways import Scenario
from tests.inside import GatewayInside, gateway_inside
from tests.scrapes import scrape
from tests.shared import eventually
from tests.streams import state_when

FORM: Final = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def once(*steps: Any) -> Scenario:
    return {"turns": [list(steps)], "repeat": True}


def call(call_id: str, **fields: Any) -> dict[str, Any]:
    return {"update": {"sessionUpdate": "tool_call_update", "toolCallId": call_id, **fields}}


ASKED: Final = {
    "title": "canary title",
    "toolCall": {
        "toolCallId": "c1",
        "title": "canary title",
        "kind": "execute",
        "rawInput": {"command": "canary command"},
        "_meta": {"claudeCode": {"toolName": "Bash"}},
    },
}
AGENTS: Final[dict[str, Scenario]] = {
    "works": once(
        {"ask": {**ASKED, "then": {"allow_once": [{"say": "canary answer"}]}}},
        call("c1", status="completed", rawOutput={"output": "canary output"}),
        call("c1", title="said once more"),
        call("c2", kind="edit", status="in_progress"),
        call("c2", status="failed"),
        {"ask_question": {"message": "canary question", "requestedSchema": FORM}},
        call("c3", kind="canary" * 100, status="pending"),
    ),
    "hangs": once(
        call("c0", kind="fetch", status="in_progress"),
        {"ask": {**ASKED, "then": {"cancelled": [{"end": "cancelled"}]}}},
    ),
    "dies": once(call("c1", kind="fetch", status="in_progress"), {"crash": 3}),
    "ruled": once(
        {"ask": {"toolCall": {"toolCallId": "c1", "kind": "delete", "rawInput": {"path": "/work/a"}}}}
    ),
}


DENY: Final = '[permissions]\ndeny = [{kind = "delete"}]\n'


@pytest.fixture(autouse=True)
def _sends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


@asynccontextmanager
async def traced(directory: pathlib.Path, more: str = "") -> AsyncIterator[tuple[GatewayInside, Collector]]:
    async with collecting() as collector:
        config = f'{DENY}[telemetry]\notlp_endpoint = "{collector.url}"\n{more}'
        async with gateway_inside(directory, config=config, agents=AGENTS) as gateway:
            yield gateway, collector


async def work(gateway: GatewayInside) -> None:
    """A turn with everything in it."""
    await gateway.send("canary-id", "canary message", agent="works")
    state = await state_when(gateway.http, "canary-id", lambda s: s.get("pending_permission"))
    body = {"permission_id": state["pending_permission"]["permission_id"], "option_id": "allow_once"}
    await gateway.post("/api/sessions/canary-id/permission", body)
    state = await state_when(gateway.http, "canary-id", lambda s: s["questions"])
    question = state["questions"][0]["question_id"]
    answer = {"action": "accept", "content": {"name": "canary name"}}
    await gateway.post(f"/api/sessions/canary-id/questions/{question}", answer)
    await state_when(gateway.http, "canary-id", lambda s: not s["is_processing"])


async def come(collector: Collector, *names: str) -> list[Any]:
    """The spans of these names, once all have come."""

    async def have_come() -> bool:
        return all(collector.named(name) is not None for name in names)

    await eventually(have_come)
    return [collector.named(name) for name in names]


async def test_every_tool_call_and_every_wait_is_a_span_of_its_turn_without_what_was_said(
    tmp_path: pathlib.Path,
) -> None:
    async with traced(tmp_path) as (gateway, collector):
        await work(gateway)
        turn, bash, edit, waited, asked = await come(
            collector,
            *("invoke_agent works", "execute_tool Bash", "execute_tool edit"),
            *("await_permission", "await_answer"),
        )
        left = next(span for span in collector.spans if span.name.startswith("execute_tool canary"))
        below = (bash, edit, waited, asked, left)
        assert {(s.trace_id, s.parent_span_id) for s in below} == {(turn.trace_id, turn.span_id)}
        (conversation,) = {attributes(span)["gen_ai.conversation.id"] for span in (turn, *below)}
        assert len([s for s in collector.spans if s.name.startswith("execute_tool")]) == 3, "one a call"
        assert attributes(bash) == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "Bash",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.agent.name": "works",
            "gen_ai.conversation.id": conversation,
            "agent_gateway.tenant": "default",
            "agent_gateway.tool.kind": "execute",
            "agent_gateway.tool.status": "completed",
        }
        assert (bash.status.code, edit.status.code) == (0, 2)
        assert attributes(edit)["error.type"] == "tool_failed"
        assert (left.status.code, attributes(left)["agent_gateway.tool.status"]) == (0, "pending")
        assert len(attributes(left)["gen_ai.tool.name"]) <= 200
        assert attributes(waited)["agent_gateway.permission.outcome"] == "allow_once"
        assert attributes(waited)["gen_ai.tool.call.id"] == "c1"
        assert attributes(asked)["agent_gateway.question.outcome"] == "accept"
        assert all(s.start_time_unix_nano <= s.end_time_unix_nano for s in below)
        assert bash.end_time_unix_nano >= waited.end_time_unix_nano
        for said in (b"canary title", b"canary c", b"canary o", b"canary q", b"canary n", b"canary-id"):
            assert said not in collector.raw


async def test_what_was_said_is_in_spans_if_the_operator_wants_it(tmp_path: pathlib.Path) -> None:
    async with traced(tmp_path, "capture_content = true\n") as (gateway, collector):
        await work(gateway)
        turn, bash, waited, asked = await come(
            collector, "invoke_agent works", "execute_tool Bash", "await_permission", "await_answer"
        )
        said = attributes(turn)
        assert json.loads(said["gen_ai.input.messages"])[0]["parts"][0]["content"] == "canary message"
        assert json.loads(said["gen_ai.output.messages"])[0]["parts"][0]["content"].startswith("canary ans")
        assert json.loads(attributes(bash)["gen_ai.tool.call.arguments"]) == {"command": "canary command"}
        assert json.loads(attributes(bash)["gen_ai.tool.call.result"]) == {"output": "canary output"}
        assert attributes(waited)["agent_gateway.permission.title"] == "canary title"
        assert attributes(asked)["agent_gateway.question.message"] == "canary question"
        assert json.loads(attributes(asked)["agent_gateway.question.answer"]) == {"name": "canary name"}


async def test_spans_end_with_their_turn_their_worker_and_their_session(tmp_path: pathlib.Path) -> None:
    async with traced(tmp_path) as (gateway, collector):

        async def ended(agent: str) -> dict[str, Any]:
            """The spans of a turn that is over."""
            (turn,) = await come(collector, f"invoke_agent {agent}")
            await come(collector, "execute_tool fetch")
            fetch = next(s for s in collector.spans if s.name == "execute_tool fetch")
            assert fetch.parent_span_id == turn.span_id
            assert fetch.status.code == 2
            found = {s.name: attributes(s) for s in collector.spans}
            collector.spans.clear()
            return found

        await gateway.send("cut", "go", agent="hangs")
        await state_when(gateway.http, "cut", lambda s: s.get("pending_permission"))
        await gateway.post("/api/interrupt", {"session_id": "cut"})
        found = await ended("hangs")
        assert found["execute_tool fetch"]["error.type"] == "cancelled"
        assert found["await_permission"]["agent_gateway.permission.outcome"] == "cancelled"

        await gateway.send("dead", "go", agent="dies")
        found = await ended("dies")
        assert found["execute_tool fetch"]["error.type"] == "exited"

        await gateway.send("gone", "go", agent="hangs")
        await state_when(gateway.http, "gone", lambda s: s.get("pending_permission"))
        await gateway.inner.manager.drain(grace_seconds=0)
        found = await ended("hangs")
        assert found["execute_tool fetch"]["error.type"] == "closed"


async def test_an_answer_of_a_rule_is_a_span_that_names_it_and_is_counted(tmp_path: pathlib.Path) -> None:
    async with traced(tmp_path) as (gateway, collector):
        await gateway.send("ruled", "go", agent="ruled")
        (waited,) = await come(collector, "await_permission")
        said = attributes(waited)
        assert said["agent_gateway.permission.rule"] == "permissions.deny.1"
        assert said["agent_gateway.permission.outcome"] == "reject_once"
        await work(gateway)
        counted = await scrape(gateway)
        assert counted.value("permissions_total", by="rule", outcome="reject_once") == 1
        assert counted.value("permissions_total", by="person", outcome="allow_once") == 1
        assert counted.value("questions_total", outcome="accept") == 1
