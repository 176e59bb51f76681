"""The built-in agent as a real process: its commands, its walls, its end, and the broker behind it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from tests.integration.worker_process import (
    PATIENCE_SECONDS,
    AgentProcess,
    Params,
    TurnLog,
    gateway_block,
    request_id,
)
from tests.shared import crowding
from worker import acp

PROMPT_TO_STOP_SECONDS = 1.0
"""Measured: 1 to 5 ms; the bound is for a busy machine."""

MODEL = {"models": ["fake-model"], "contextTokens": 1000}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    with AgentProcess() as agent:
        agent.start(cwd=tmp_path)
        agent.receive()  # the list of commands
        yield agent


def started(log: TurnLog) -> bool:
    return bool(log.text)


def test_session_new_is_followed_by_the_list_of_commands(tmp_path: Path) -> None:
    with AgentProcess() as agent:
        agent.start(cwd=tmp_path)
        message = agent.receive()
        assert isinstance(message, acp.Envelope)
        update = acp.parse(message.params, Params)["update"]
        assert update["sessionUpdate"] == "available_commands_update"
        names = {command["name"] for command in update["availableCommands"]}
        assert names == {
            *("tour", "echo", "count", "think", "plan", "tool", "permission", "question", "big", "wallet"),
            "help",
        }


@pytest.mark.parametrize(
    "text",
    ["hello", "two  spaces", " leads and trails ", "line\n\n  line\ttab\n", "שלום 🎉 עולם", "/count 3"],
)
def test_echo_gives_back_exactly_what_was_typed(agent: AgentProcess, text: str) -> None:
    turn = agent.prompt(f"/echo {text}")
    assert turn.text == text
    assert turn.result == {"stopReason": "end_turn"}
    assert len(turn.of("agent_message_chunk")) == max(1, len(text.split()) + text.startswith(" "))


def test_a_large_echo_arrives_whole_at_a_slow_reader(agent: AgentProcess) -> None:
    text = "word " * 20_000
    assert agent.prompt(f"/echo {text}").text == text


def test_count_counts(agent: AgentProcess) -> None:
    assert agent.prompt("/count 5 0").text == "1 2 3 4 5"


@pytest.mark.parametrize("prompt", ["/count", "/count x", "/count -1", "/count 99999999999", "/count 1 2 3"])
def test_a_bad_count_is_answered_in_words(agent: AgentProcess, prompt: str) -> None:
    assert agent.prompt(prompt).text.startswith("Usage: /count N [MS]")


def test_think_thinks_and_then_answers(agent: AgentProcess) -> None:
    turn = agent.prompt("/think about it")
    assert turn.spoken("agent_thought_chunk") == "about it"
    assert turn.text


def test_plan_goes_from_pending_to_completed(agent: AgentProcess) -> None:
    plans = [[entry["status"] for entry in plan["entries"]] for plan in agent.prompt("/plan").of("plan")]
    assert plans[0] == ["pending"] * 3
    assert plans[1] == ["in_progress", "pending", "pending"]
    assert plans[-1] == ["completed"] * 3


def test_tool_shows_the_call_and_its_end(agent: AgentProcess) -> None:
    turn = agent.prompt('/tool calculate {"expression": "6 * 7"}')
    [call], [end] = turn.of("tool_call"), turn.of("tool_call_update")
    assert (call["status"], call["kind"], call["title"]) == ("in_progress", "think", "Calculate 6 * 7")
    assert call["rawInput"] == {"expression": "6 * 7"}
    assert (end["toolCallId"], end["status"], end["rawOutput"]) == (call["toolCallId"], "completed", "42")
    assert turn.text == "42"


@pytest.mark.parametrize(
    "prompt", ["/tool", "/tool nothing {}", "/tool read_file {broken", "/tool calculate [1]"]
)
def test_a_bad_tool_command_is_answered_in_words(agent: AgentProcess, prompt: str) -> None:
    turn = agent.prompt(prompt)
    assert turn.text
    assert turn.updates == turn.of("agent_message_chunk")


@pytest.mark.parametrize("option", ["allow_once", "allow_always", "reject_once", "reject_always"])
def test_permission_reports_the_choice(agent: AgentProcess, option: str) -> None:
    asked = agent.answer_permissions(option)
    assert option in agent.prompt("/permission Shall I?").text
    [question] = asked
    assert question["toolCall"]["title"] == "Shall I?"
    assert [choice["kind"] for choice in question["options"]] == [
        "allow_once",
        "allow_always",
        "reject_once",
        "reject_always",
    ]


def test_a_withdrawn_permission_ends_the_turn_as_cancelled(agent: AgentProcess) -> None:
    agent.answer_permissions(None)
    turn = agent.prompt("/permission Shall I?")
    assert turn.text == "The question was cancelled."
    assert turn.result == {"stopReason": "cancelled"}


def test_a_client_that_cannot_ask_is_told_so(agent: AgentProcess) -> None:
    assert "could not be asked" in agent.prompt("/permission Shall I?").text


def test_big_is_one_chunk_of_that_size(agent: AgentProcess) -> None:
    [chunk] = agent.prompt("/big 15728640").of("agent_message_chunk")
    assert len(chunk["content"]["text"]) == 15 * 1024 * 1024


@pytest.mark.parametrize("prompt", ["/big", "/big 0", "/big 15728641", "/big many"])
def test_a_size_out_of_bounds_is_answered_in_words(agent: AgentProcess, prompt: str) -> None:
    assert agent.prompt(prompt).text.startswith("Usage: /big BYTES")


def test_wallet_hands_the_transaction_over(agent: AgentProcess) -> None:
    handed: list[Params] = []
    agent.on["_session/wallet"] = lambda message, params: handed.append(params)
    turn = agent.prompt('/wallet {"to": "0xabc", "value": "1"}')
    assert handed == [{"sessionId": agent.session_id, "transaction": {"to": "0xabc", "value": "1"}}]
    assert "wait" in turn.text


@pytest.mark.parametrize("prompt", ["/wallet", "/wallet {", "/wallet 7"])
def test_a_bad_transaction_is_answered_in_words(agent: AgentProcess, prompt: str) -> None:
    turn = agent.prompt(prompt)
    assert "Usage: /wallet" in turn.text
    assert all(m.method != "_session/wallet" for m in turn.messages if isinstance(m, acp.Envelope))


def test_help_lists_every_command(agent: AgentProcess) -> None:
    text = agent.prompt("/help").text
    assert all(f"`/{name}" in text for name in ("echo", "count", "tool", "permission", "wallet"))


def test_an_unknown_command_names_help_and_a_path_is_no_command(agent: AgentProcess) -> None:
    assert (
        agent.prompt("/frobnicate now").text == "There is no command /frobnicate. /help lists the commands."
    )
    assert "offline model" in agent.prompt("/usr/bin is a path").text


def test_the_offline_model_says_what_it_is_and_how_to_connect_one(agent: AgentProcess) -> None:
    text = agent.prompt("Explain quantum tunnelling").text
    assert "offline model" in text
    assert "Explain quantum tunnelling" in text
    assert "/help" in text
    assert "AGENT_MODEL_URL" in text


def test_system_messages_are_remembered_and_are_no_commands(agent: AgentProcess) -> None:
    assert agent.prompt(gateway_block("system", "/echo no")).updates == []
    turn = agent.prompt(gateway_block("system", "The cart is empty."), "/echo yes")
    assert turn.text == "yes"
    told = agent.prompt("what were you told?").text
    assert "/echo no" in told
    assert "The cart is empty." in told


def test_a_transcript_restores_the_conversation(agent: AgentProcess) -> None:
    lines = [{"role": "user", "content": "my name is Ada"}, {"role": "assistant", "content": "Hello Ada"}]
    transcript = "\n".join(msgspec.json.encode(line).decode() for line in lines)
    assert (
        agent.prompt(gateway_block("transcript", transcript), "what is my name?").text == "Your name is Ada."
    )


def test_links_are_mentioned_by_name(agent: AgentProcess) -> None:
    link = {"type": "resource_link", "name": "notes.txt", "uri": "file:///notes.txt"}
    assert "see \n[notes.txt](file:///notes.txt)" in agent.prompt("see ", link).text
    assert agent.prompt("/echo see", link).text == "see"  # a command is what was typed


@pytest.mark.parametrize(
    "prompt", ["/count 1000 5", "/count 100000 0", "/count 2 60000", "/echo " + "w " * 200_000]
)
def test_cancel_ends_a_turn_at_once(agent: AgentProcess, prompt: str) -> None:
    request = agent.begin_prompt(prompt)
    agent.wait_for(request, until=started)
    cancelled_at = monotonic()
    agent.cancel()
    turn = agent.wait_for(request)
    assert turn.result == {"stopReason": "cancelled"}
    assert monotonic() - cancelled_at < PROMPT_TO_STOP_SECONDS * crowding()
    assert agent.prompt("/echo next").text == "next"


def test_cancel_while_a_permission_is_open(agent: AgentProcess) -> None:
    asked: list[acp.Envelope] = []
    agent.on["session/request_permission"] = lambda message, params: asked.append(message)
    request = agent.begin_prompt('/tool write_file {"path": "a.txt", "content": "x"}')
    agent.wait_for(request, until=lambda log: bool(asked))
    agent.cancel()
    agent.send(acp.response(request_id(asked[0]), {"outcome": {"outcome": "cancelled"}}))
    turn = agent.wait_for(request)
    assert turn.result == {"stopReason": "cancelled"}
    assert [update["status"] for update in turn.of("tool_call_update")] == ["failed"]


def test_a_second_prompt_during_a_turn_is_refused(agent: AgentProcess) -> None:
    first = agent.begin_prompt("/count 2 60000")
    agent.wait_for(first, until=started)
    refused = agent.prompt("/echo second")
    assert refused.error is not None
    assert refused.error.code == acp.INVALID_REQUEST
    agent.cancel()
    assert agent.wait_for(first).result == {"stopReason": "cancelled"}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("session/load", {"sessionId": "x", "cwd": "/", "mcpServers": []}, acp.METHOD_NOT_FOUND),
        ("_invented", {}, acp.METHOD_NOT_FOUND),
        ("session/new", {"cwd": "relative", "mcpServers": []}, acp.INVALID_PARAMS),
        ("session/new", {}, acp.INVALID_PARAMS),
        ("session/prompt", {"sessionId": "nobody", "prompt": []}, acp.INVALID_PARAMS),
        ("session/prompt", {"prompt": "text"}, acp.INVALID_PARAMS),
    ],
)
def test_bad_requests_are_answered(agent: AgentProcess, method: str, params: Params, code: int) -> None:
    error = agent.call(method, params).error
    assert error is not None
    assert error.code == code


def test_bad_lines_and_unknown_notifications_do_no_harm(agent: AgentProcess) -> None:
    agent.send(b"garbage\n\xff\xfe\n[]\n\n" + acp.notification("$/invented", {"x": 1}))
    agent.send(acp.notification("session/cancel", {}) + acp.notification("_model/delta", {"requestId": "?"}))
    agent.send(acp.response(77, {}))
    assert agent.prompt("/echo still here").text == "still here"


@pytest.mark.parametrize("prompt", [None, "/count 2 60000", "/permission Shall I?"])
def test_the_end_of_stdin_ends_the_process(tmp_path: Path, prompt: str | None) -> None:
    with AgentProcess() as agent:
        agent.start(cwd=tmp_path)
        if prompt is not None:
            agent.on["session/request_permission"] = lambda message, params: None
            agent.wait_for(agent.begin_prompt(prompt), until=lambda log: len(log.messages) > 1)
        agent.close_stdin()
        assert agent.process.wait(PATIENCE_SECONDS * crowding()) == 0


def test_the_end_of_stdin_is_not_held_up_by_a_reader_that_reads_nothing(tmp_path: Path) -> None:
    with AgentProcess() as agent:
        agent.start(cwd=tmp_path)
        agent.begin_prompt("/big 4000000")
        agent.close_stdin()
        assert agent.process.wait(PATIENCE_SECONDS * crowding()) == 0


def test_sigterm_ends_the_process(agent: AgentProcess) -> None:
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(PATIENCE_SECONDS * crowding()) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/etc/passwd", "link/secret.txt", "link.txt", "a/../../x", "\0"]
)
@pytest.mark.parametrize("tool", ["read_file", "list_files", "write_file"])
def test_no_tool_leaves_the_directory(tmp_path: Path, path: str, tool: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (inside / "link").symlink_to(tmp_path)
    (inside / "link.txt").symlink_to(secret)
    with AgentProcess() as agent:
        agent.start(cwd=inside)
        agent.answer_permissions("allow_once")
        arguments = {"path": path, "content": "overwritten"}
        turn = agent.prompt(f"/tool {tool} {msgspec.json.encode(arguments).decode()}")
        assert [update["status"] for update in turn.of("tool_call_update")] == ["failed"]
        assert "outside" in turn.text or "null character" in turn.text
    assert secret.read_text() == "secret"


def test_files_are_listed_read_and_written_inside(agent: AgentProcess, tmp_path: Path) -> None:
    asked = agent.answer_permissions("allow_always")
    write = '/tool write_file {"path": "notes/a.txt", "content": "%s"}'
    agent.prompt(write % "one")
    turn = agent.prompt(write % "two")
    assert len(asked) == 1
    assert turn.of("tool_call_update")[0]["content"][0] == {
        "type": "diff",
        "path": str(tmp_path / "notes" / "a.txt"),
        "oldText": "one",
        "newText": "two",
    }
    assert agent.prompt("/tool list_files").text == "notes/"
    assert agent.prompt('/tool read_file {"path": "notes/a.txt"}').text == "two"


@pytest.mark.parametrize("option", ["reject_once", "reject_always", None])
def test_nothing_is_written_without_permission(
    agent: AgentProcess, tmp_path: Path, option: str | None
) -> None:
    agent.answer_permissions(option)
    turn = agent.prompt('/tool write_file {"path": "a.txt", "content": "x"}')
    assert turn.of("tool_call_update")[0]["status"] == "failed"
    assert list(tmp_path.iterdir()) == []


def test_odd_files_are_refused_in_words(agent: AgentProcess, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (256 * 1024 + 1))
    os.mkdir(os.fsencode(tmp_path) + b"/bad\xff")
    assert "not a regular file" in agent.prompt('/tool read_file {"path": "pipe"}').text
    assert "not a regular file" in agent.prompt('/tool read_file {"path": "."}').text
    assert "larger than 256 KiB" in agent.prompt('/tool read_file {"path": "large"}').text
    assert "no such file" in agent.prompt('/tool read_file {"path": "absent"}').text
    assert "bad�/" in agent.prompt("/tool list_files").text


class Broker:
    """The gateway's side of the model calls: each request is answered by the next of `answers`."""

    def __init__(self, agent: AgentProcess, *answers: Callable[[acp.Id, Params], None]) -> None:
        self.agent = agent
        self.requests: list[Params] = []
        self.cancelled: list[Any] = []
        self._answers = list(answers)
        agent.on["_model/stream"] = self._on_stream
        agent.on["_model/cancel"] = lambda message, params: self.cancelled.append(params["requestId"])

    def _on_stream(self, message: acp.Envelope, params: Params) -> None:
        self.requests.append(params)
        self._answers.pop(0)(request_id(message), params)

    def delta(self, call: acp.Id, **fields: Any) -> None:
        self.agent.send(acp.notification("_model/delta", {"requestId": call, **fields}))

    def finish(self, call: acp.Id, reason: str = "stop", usage: Params | None = None) -> None:
        self.agent.send(acp.response(call, {"finishReason": reason, "usage": usage}))

    def says(self, *words: str, usage: Params | None = None) -> Callable[[acp.Id, Params], None]:
        def answer(call: acp.Id, params: Params) -> None:
            for word in words:
                self.delta(call, text=word)
            self.finish(call, usage=usage)

        return answer

    def calls(self, *fragments: Params) -> Callable[[acp.Id, Params], None]:
        def answer(call: acp.Id, params: Params) -> None:
            for fragment in fragments:
                self.delta(call, toolCalls=[fragment])
            self.finish(call, "tool_calls")

        return answer

    def then(self, *answers: Callable[[acp.Id, Params], None]) -> None:
        self._answers += answers


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with AgentProcess() as agent:
        agent.start(cwd=tmp_path, model=MODEL)
        agent.receive()  # the list of commands
        yield Broker(agent)


def test_the_broker_streams_thought_and_text_and_reports_usage(broker: Broker) -> None:
    def answer(call: acp.Id, params: Params) -> None:
        broker.delta(call, thought="hm")
        broker.delta(999, text="of another request")
        broker.says("Hel", "lo", usage={"inputTokens": 10, "outputTokens": 2})(call, params)

    broker.then(answer)
    turn = broker.agent.prompt("hi")
    assert (turn.spoken("agent_thought_chunk"), turn.text) == ("hm", "Hello")
    assert turn.of("usage_update") == [{"sessionUpdate": "usage_update", "used": 12, "size": 1000}]
    usage = {"inputTokens": 10, "outputTokens": 2}
    assert turn.result == {"stopReason": "end_turn", "_meta": {"agent-gateway": {"usage": usage}}}
    [request] = broker.requests
    assert (request["sessionId"], request["model"]) == (broker.agent.session_id, "fake-model")
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert {tool["function"]["name"] for tool in request["tools"]} >= {"read_file", "calculate"}


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        ({"inputTokens": None, "outputTokens": None}, []),
        ({"inputTokens": 10}, [10]),
        ({"inputTokens": 10.0, "outputTokens": None}, [10]),
        ({"inputTokens": 2**63, "outputTokens": "2"}, []),
        ("none", []),
    ],
)
def test_an_answer_without_its_figures_is_an_answer(broker: Broker, usage: Any, used: list[int]) -> None:
    broker.then(broker.says("hi", usage=usage))
    turn = broker.agent.prompt("hi")
    assert (turn.text, turn.result["stopReason"]) == ("hi", "end_turn")
    assert [update["used"] for update in turn.of("usage_update")] == used


def test_the_model_sees_the_conversation_and_the_system_messages(broker: Broker) -> None:
    broker.then(broker.says("one"), broker.says("two"))
    broker.agent.prompt("first")
    broker.agent.prompt(gateway_block("system", "be brief"), "second")
    contents = [(m["role"], m["content"]) for m in broker.requests[1]["messages"][1:]]
    assert contents == [("user", "first"), ("assistant", "one"), ("system", "be brief"), ("user", "second")]


def test_the_model_calls_tools_until_it_answers(broker: Broker) -> None:
    broker.then(
        broker.calls(
            {"index": 0, "id": "c1", "name": "calculate", "arguments": '{"expres'},
            {"index": 0, "arguments": 'sion": "6*7"}'},
            {"index": 1, "id": "c2", "name": "read_file", "arguments": "{broken"},
            {"index": 2, "id": "c3", "name": "no_such_tool", "arguments": ""},
        ),
        broker.says("It is 42."),
    )
    turn = broker.agent.prompt("what is 6*7?")
    assert turn.text == "It is 42."
    assert [update["status"] for update in turn.of("tool_call_update")] == ["completed", "failed", "failed"]
    called, *answers = broker.requests[1]["messages"][2:]
    assert [call["id"] for call in called["tool_calls"]] == ["c1", "c2", "c3"]
    assert [(answer["role"], answer["tool_call_id"]) for answer in answers] == [
        ("tool", "c1"),
        ("tool", "c2"),
        ("tool", "c3"),
    ]
    assert answers[0]["content"] == "42"


def test_a_model_that_only_calls_tools_is_stopped(broker: Broker) -> None:
    broker.then(*[broker.calls({"index": 0, "id": f"c{n}", "name": "current_time"}) for n in range(20)])
    assert broker.agent.prompt("loop").result["stopReason"] == "max_turn_requests"
    assert len(broker.requests) == 20


def test_the_models_failure_is_the_prompts_error(broker: Broker) -> None:
    data = {"code": "model_unauthorized", "retryable": False}

    def refuse(call: acp.Id, params: Params) -> None:
        broker.agent.send(acp.error_response(call, -32050, "The key was refused.", data))

    broker.then(refuse, broker.says("fine"))
    error = broker.agent.prompt("hi").error
    assert error == acp.RpcError(-32050, "The key was refused.", data)
    assert broker.agent.prompt("again").text == "fine"
    assert [m["content"] for m in broker.requests[1]["messages"][1:]] == ["again"]


def test_an_unreadable_finish_is_an_error_too(broker: Broker) -> None:
    broker.then(lambda call, params: broker.agent.send(acp.response(call, [7])))
    assert broker.agent.prompt("hi").error is not None


def test_cancel_stops_the_model_and_keeps_what_was_shown(broker: Broker) -> None:
    broker.then(lambda call, params: broker.delta(call, text="half an ans"), broker.says("whole"))
    request = broker.agent.begin_prompt("long story")
    broker.agent.wait_for(request, until=started)
    broker.agent.cancel()
    assert broker.agent.wait_for(request).result == {"stopReason": "cancelled"}
    assert broker.cancelled == [0]
    broker.delta(0, text="too late")
    broker.finish(0)
    turn = broker.agent.prompt("go on")
    assert turn.text == "whole"
    contents = [m["content"] for m in broker.requests[1]["messages"][1:]]
    assert contents == ["long story", "half an ans", "go on"]


@pytest.mark.parametrize(("reason", "stop"), [("length", "max_tokens"), ("content_filter", "refusal")])
def test_finish_reasons_become_stop_reasons(broker: Broker, reason: str, stop: str) -> None:
    broker.then(lambda call, params: broker.finish(call, reason))
    assert broker.agent.prompt("hi").result["stopReason"] == stop


def test_commands_work_beside_a_model_and_unknown_ones_go_to_it(broker: Broker) -> None:
    assert broker.agent.prompt("/echo local").text == "local"
    broker.then(broker.says("from the model"))
    assert broker.agent.prompt("/unknown word").text == "from the model"
    assert broker.requests[0]["messages"][-1]["content"] == "/unknown word"
