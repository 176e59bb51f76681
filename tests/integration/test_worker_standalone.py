"""The built-in agent started by itself, with a model endpoint of its own named by the environment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.integration.worker_process import PATIENCE_SECONDS, AgentProcess, Params
from tests.patience import crowding, soon
from worker import acp


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with fake_model() as model:
        yield model


async def drive(model: FakeModel, cwd: Path, play: Callable[[AgentProcess], None]) -> None:
    """Runs `play` with a started agent, beside the endpoint that lives in this loop."""

    def run() -> None:
        environment = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "key"}
        with AgentProcess(**environment) as agent:
            agent.start(cwd=cwd)
            play(agent)

    await asyncio.to_thread(run)


async def test_the_endpoint_answers(model: FakeModel, tmp_path: Path) -> None:
    def play(agent: AgentProcess) -> None:
        turn = agent.prompt("good day")
        assert turn.text == "You said: good day"
        assert turn.result["stopReason"] == "end_turn"
        assert agent.prompt("/echo a  b").text == "a  b"
        assert len(agent.prompt("/big 3000000").text) == 3_000_000

    await drive(model, tmp_path, play)


async def test_the_endpoints_tool_calls_are_run(model: FakeModel, tmp_path: Path) -> None:
    def play(agent: AgentProcess) -> None:
        turn = agent.prompt('please call calculate {"expression": "6*7"}')
        assert turn.of("tool_call_update")[0]["rawOutput"] == "42"
        assert turn.text == "The tool said: 42"

    await drive(model, tmp_path, play)


@pytest.mark.parametrize(
    ("behaviour", "code", "calls"),
    [
        (Behaviour(status=401), "model_unauthorized", 1),
        (Behaviour(status=400), "model_request_refused", 1),
        (Behaviour(status=503), "model_failed", 3),
        (Behaviour(cut_after=1), "model_stream_cut", 1),
        (Behaviour(error_after=1), "model_failed", 1),
        (Behaviour(raw=(b"data: {broken\n\n",)), "model_failed", 1),
    ],
)
async def test_a_failing_endpoint_is_the_prompts_error(
    model: FakeModel, tmp_path: Path, behaviour: Behaviour, code: str, calls: int
) -> None:
    model.behaviour = behaviour

    def play(agent: AgentProcess) -> None:
        error = agent.prompt("hi").error
        assert error is not None
        assert error.data["code"] == code
        assert agent.prompt("/echo alive").text == "alive"

    await drive(model, tmp_path, play)
    assert len(model.requests) == calls


async def test_a_failure_before_the_first_word_is_tried_again(model: FakeModel, tmp_path: Path) -> None:
    model.behaviour = Behaviour(status=429, fail_times=1)

    def play(agent: AgentProcess) -> None:
        assert agent.prompt("hi").text == "You said: hi"

    await drive(model, tmp_path, play)


async def test_an_endpoint_that_is_not_there_is_said_plainly(model: FakeModel, tmp_path: Path) -> None:
    model.url = "http://127.0.0.1:1/v1"

    def play(agent: AgentProcess) -> None:
        error = agent.prompt("hi").error
        assert error is not None
        assert error.data == {"code": "model_unreachable", "retryable": True}

    await drive(model, tmp_path, play)


async def test_cancel_drops_the_connection_to_the_endpoint(model: FakeModel, tmp_path: Path) -> None:
    model.behaviour = Behaviour(silent_after=3)

    def play(agent: AgentProcess) -> None:
        request = agent.begin_prompt("a long story")
        agent.wait_for(request, until=lambda log: bool(log.text))
        agent.cancel()
        assert agent.wait_for(request).result == {"stopReason": "cancelled"}
        assert agent.prompt("/echo alive").text == "alive"

    await drive(model, tmp_path, play)
    await soon(model.disconnected.wait(), PATIENCE_SECONDS)


async def test_cancel_and_permissions_work_over_asyncio(model: FakeModel, tmp_path: Path) -> None:
    def play(agent: AgentProcess) -> None:
        request = agent.begin_prompt("/count 1000 5")
        agent.wait_for(request, until=lambda log: bool(log.text))
        agent.cancel()
        assert agent.wait_for(request).result == {"stopReason": "cancelled"}
        agent.answer_permissions("allow_once")
        assert "allow_once" in agent.prompt("/permission Now?").text
        error = agent.call("_invented", {}).error
        assert error is not None
        assert error.code == acp.METHOD_NOT_FOUND

    await drive(model, tmp_path, play)


async def test_sigterm_ends_it(model: FakeModel, tmp_path: Path) -> None:
    def play(agent: AgentProcess) -> None:
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(PATIENCE_SECONDS * crowding()) == 128 + signal.SIGTERM

    await drive(model, tmp_path, play)


async def test_a_broker_is_preferred_to_the_endpoint(model: FakeModel, tmp_path: Path) -> None:
    asked: list[Params] = []

    def run() -> None:
        with AgentProcess(AGENT_MODEL_URL=model.url) as agent:
            agent.start(cwd=tmp_path, model={"models": ["brokered"]})
            refusal = acp.error_response(0, -32603, "enough")

            def refuse(message: acp.Envelope, params: Params) -> None:
                asked.append(params)
                agent.send(refusal)

            agent.on["_model/stream"] = refuse
            assert agent.prompt("hi").error == acp.RpcError(-32603, "enough")

    await asyncio.to_thread(run)
    assert asked[0]["model"] == "brokered"
    assert model.requests == []
