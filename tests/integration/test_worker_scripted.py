"""The scripted agent as a real process: every scenario of `tests/scenarios` does what its name says."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.worker_process import PATIENCE_SECONDS, SCENARIOS, AgentProcess, Params, scripted
from tests.shared import crowding
from worker import acp


def test_it_echoes_and_begins_again() -> None:
    with scripted("echoes") as agent:
        agent.start()
        assert [agent.prompt(text).text for text in ("one", "two")] == ["one", "two"]


@pytest.mark.parametrize(("name", "code"), [("crash_mid_answer", 7), ("killed_mid_answer", -signal.SIGKILL)])
def test_a_crash_comes_after_what_was_said(name: str, code: int) -> None:
    with scripted(name) as agent:
        agent.start()
        said: list[Params] = []
        agent.on["session/update"] = lambda message, params: said.append(params["update"])
        with pytest.raises(EOFError):
            agent.prompt("go")
        assert "".join(update["content"]["text"] for update in said).startswith("half")
        assert agent.process.wait(PATIENCE_SECONDS * crowding()) == code


def test_the_second_turn_crashes() -> None:
    with scripted("crash_on_second_turn") as agent:
        agent.start()
        assert agent.prompt("one").text == "fine"
        with pytest.raises(EOFError):
            agent.prompt("two")


def test_a_hanging_turn_ends_by_cancel() -> None:
    with scripted("never_answers") as agent:
        agent.start()
        request = agent.begin_prompt("go")
        agent.cancel()
        assert agent.wait_for(request).result == {"stopReason": "cancelled"}


def test_a_turn_can_ignore_its_cancel() -> None:
    with scripted("cancelled_late") as agent:
        agent.start()
        request = agent.begin_prompt("go")
        agent.wait_for(request, until=lambda log: bool(log.text))
        agent.cancel()
        turn = agent.wait_for(request)
        assert turn.result == {"stopReason": "end_turn"}
        assert turn.text.endswith("20 ")


def test_a_turn_that_ignores_cancel_for_ever_still_ends_with_stdin() -> None:
    with scripted("ignores_cancel") as agent:
        agent.start()
        request = agent.begin_prompt("go")
        assert agent.wait_for(request, until=lambda log: bool(log.text)).text == "you cannot stop me"
        agent.cancel()
        agent.close_stdin()
        with pytest.raises(EOFError):
            agent.wait_for(request)


def test_nothing_but_sigkill_ends_it_and_a_child_stays() -> None:
    with scripted("ignores_eof_and_sigterm") as agent:
        agent.start()
        agent.prompt("go")
        [child] = map(
            int, Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
        )
        try:
            assert os.getsid(child) == child
            agent.close_stdin()
            agent.process.send_signal(signal.SIGTERM)
            assert agent.process.poll() is None
            agent.kill()
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_garbage_is_printed_between_messages() -> None:
    with scripted("prints_garbage") as agent:
        agent.start()
        turn = agent.prompt("go")
        assert turn.text == "still here"
        assert sum(isinstance(message, acp.Garbage) for message in turn.messages) >= 12


def test_an_oversize_line_is_one_event_and_the_answer_goes_on() -> None:
    with scripted("oversize_line") as agent:
        agent.start()
        turn = agent.prompt("go")
        assert turn.text == "before after"
        assert acp.Oversize(acp.LINE_LIMIT_BYTES) in turn.messages


def test_an_endless_line_is_noticed_before_its_end() -> None:
    with scripted("endless_line") as agent:
        agent.start()
        agent.begin_prompt("go")
        assert agent.receive() == acp.Oversize(acp.LINE_LIMIT_BYTES)
        agent.kill()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [("exits_at_start", 3, "no licence found"), ("crashes_on_initialize", 101, "panic: initialize")],
)
def test_a_failed_start_leaves_words_on_stderr(name: str, code: int, words: str) -> None:
    with scripted(name) as agent:
        with pytest.raises((EOFError, BrokenPipeError)):
            agent.start()
        assert agent.process.wait(PATIENCE_SECONDS * crowding()) == code
        assert words in agent.stderr()


def test_initialize_may_never_be_answered() -> None:
    with scripted("never_initializes") as agent:
        agent.request("initialize", {"protocolVersion": 1})
        asked = agent.request("session/load", {"sessionId": "s"})
        error = agent.wait_for(asked).error
        assert error is not None
        assert error.code == acp.METHOD_NOT_FOUND


def test_version_2_is_answered_and_version_1_spoken() -> None:
    with scripted("answers_version_2") as agent:
        assert agent.call("initialize", {"protocolVersion": 1}).result["protocolVersion"] == 2
        agent.start()
        assert agent.prompt("go").text == "version 1 after all"


def test_credentials_are_wanted() -> None:
    with scripted("auth_required") as agent:
        error = agent.start().error
        assert error is not None
        assert error.code == acp.AUTH_REQUIRED
        assert "agent login" in error.message


@pytest.mark.parametrize(
    ("option", "text", "stop"),
    [
        ("allow_once", "deleted once", "end_turn"),
        ("reject_always", "kept always", "end_turn"),
        (None, "", "cancelled"),
    ],
)
def test_each_permission_leads_somewhere_else(option: str | None, text: str, stop: str) -> None:
    with scripted("asks_permission") as agent:
        agent.start()
        agent.answer_permissions(option)
        turn = agent.prompt("go")
        assert (turn.text, turn.result["stopReason"]) == (text, stop)


def test_a_permission_may_have_no_title() -> None:
    with scripted("permission_without_title") as agent:
        agent.start()
        asked = agent.answer_permissions("0")
        assert agent.prompt("go").text == "chosen: 0"
        assert asked[0]["toolCall"]["title"] is None


def test_unknown_requests_report_the_code_they_got() -> None:
    with scripted("unknown_request") as agent:
        agent.start()
        assert agent.prompt("go").text == "fs/read_text_file: -32601; _invented/question: -32601"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("unknown_notification", ["invented_update", "agent_message_chunk"]),
        ("tool_update_first", ["tool_call_update", "tool_call_update", "agent_message_chunk"]),
    ],
)
def test_odd_updates_leave_in_order(name: str, kinds: list[str]) -> None:
    with scripted(name) as agent:
        agent.start()
        assert [update["sessionUpdate"] for update in agent.prompt("go").updates] == kinds


def test_history_is_replayed_before_load_answers() -> None:
    with scripted("replays_on_load") as agent:
        assert agent.call("initialize", {}).result["agentCapabilities"]["loadSession"] is True
        log = agent.call("session/load", {"sessionId": "old", "cwd": "/", "mcpServers": []})
        assert (log.spoken("user_message_chunk"), log.text) == ("earlier question", "earlier answer")
        agent.session_id = "old"
        assert agent.prompt("more").text == "you said: more"


def test_resume_replays_nothing() -> None:
    with scripted("resumes") as agent:
        capabilities = agent.call("initialize", {}).result["agentCapabilities"]
        assert capabilities["sessionCapabilities"] == {"resume": {}}
        assert agent.call("session/resume", {"sessionId": "old", "cwd": "/"}).updates == []


def test_load_may_fail() -> None:
    with scripted("refuses_to_load") as agent:
        agent.start()
        assert agent.call("session/load", {"sessionId": "old"}).error is not None


def test_everything_a_turn_can_show() -> None:
    with scripted("thinks_plans_tools") as agent:
        agent.start()
        turn = agent.prompt("go")
        assert turn.spoken("agent_thought_chunk") == "Let me think."
        assert turn.of("plan")[-1]["entries"][-1]["status"] == "completed"
        assert [update["status"] for update in turn.of("tool_call_update")] == ["completed", "failed"]
        assert turn.text == "Looking. Done."


def test_a_fast_stream_keeps_its_order() -> None:
    with scripted("streams_fast") as agent:
        agent.start()
        assert agent.prompt("go").text == "".join(f"{n} " for n in range(1, 2001))


def test_a_slow_stream_is_cancelled_in_its_middle() -> None:
    with scripted("streams_slowly") as agent:
        agent.start()
        request = agent.begin_prompt("go")
        agent.wait_for(request, until=lambda log: bool(log.text))
        began = monotonic()
        agent.cancel()
        assert agent.wait_for(request).result == {"stopReason": "cancelled"}
        assert monotonic() - began < 1 * crowding()


def test_a_prompt_fails_and_the_next_is_fine() -> None:
    with scripted("fails_the_prompt") as agent:
        agent.start()
        error = agent.prompt("go").error
        assert error is not None
        assert error.data == {"code": "model_failed", "retryable": True}
        assert agent.prompt("go").text == "better now"


def test_every_stop_reason() -> None:
    with scripted("stops_for_other_reasons") as agent:
        agent.start()
        reasons = [agent.prompt("go").result["stopReason"] for _ in range(4)]
        assert reasons == ["max_tokens", "max_turn_requests", "refusal", "cancelled"]


def test_a_flood_on_stderr() -> None:
    with scripted("floods_stderr") as agent:
        agent.start()
        assert agent.prompt("go").text == "before after"
        assert len(agent.stderr()) >= 1024 * 1024


def test_stdout_is_closed_and_the_process_lives() -> None:
    with scripted("closes_stdout") as agent:
        agent.start()
        with pytest.raises(EOFError):
            agent.prompt("go")
        assert agent.process.poll() is None


def test_it_stops_itself() -> None:
    with scripted("stops_itself") as agent:
        agent.start()
        agent.wait_for(agent.begin_prompt("go"), until=lambda log: bool(log.text))
        _, status = os.waitpid(agent.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        agent.kill()


def test_prompts_that_do_not_match_fail() -> None:
    with scripted("expects_prompts") as agent:
        agent.start()
        assert [agent.prompt(text).text for text in ("one", "two?", "third")] == ["first", "second", "third"]
        error = agent.prompt("one too many").error
        assert error is not None
        assert "no more turns" in error.message
    with scripted("expects_prompts") as agent:
        agent.start()
        error = agent.prompt("something else").error
        assert error is not None
        assert "something else" in error.message


@pytest.mark.parametrize(
    "scenario",
    ["{", '{"turn": []}', '{"turns": [[{"shout": 1}]]}', '{"turns": [[{"say": "a", "think": "b"}]]}'],
)
def test_a_scenario_with_a_mistake_ends_at_once(tmp_path: Path, scenario: str) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(scenario)
    with AgentProcess("worker.scripted", str(path)) as agent:
        assert agent.process.wait(PATIENCE_SECONDS * crowding()) == 2
        assert "usage" in agent.stderr()


def test_every_scenario_says_what_it_is_about() -> None:
    from worker.scripted.agent import load

    scenarios = sorted(SCENARIOS.glob("*.json"))
    assert len(scenarios) > 30
    assert all(load(path).about for path in scenarios)
