"""The built-in agent with a model, through the whole stack: answers, failures in words, the key stays in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.models.breaker import OPEN_SECONDS, WINDOW_SECONDS
from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, crowding, fresh_id
from tests.streams import open_stream, state_when

pytestmark = SHARED
KEY = "sk-canary-7be1f0d29a634c58"
CONFIG = "[model]\nsilence_timeout_seconds = 0.5\nretries = 1\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoint() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(endpoint: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    environ = {"AGENT_MODEL_URL": endpoint.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": KEY}
    directory = tmp_path_factory.mktemp("gateway")
    async with gateway_inside(directory, config=CONFIG, environ=environ) as running:
        yield running


@pytest.fixture
def model(endpoint: FakeModel, gateway: GatewayInside) -> FakeModel:
    """The endpoint, well again, with nothing asked so far, and called whatever it did to the test before."""
    endpoint.behaviour = Behaviour()
    endpoint.requests.clear()
    endpoint.disconnected.clear()
    gateway.inner.services.workers.models.providers._breakers.clear()
    return endpoint


def said(state: Any, sender: str = "agent") -> str:
    return str([m["content"] for m in state["messages"] if m["sender"] == sender][-1])


async def test_the_model_answers_and_the_conversation_goes_on(
    gateway: GatewayInside, model: FakeModel
) -> None:
    session_id = fresh_id("model")
    state = await gateway.chat(session_id, "good morning")
    assert (said(state), state["missing_api_key"]) == ("You said: good morning", False)
    await gateway.post("/api/system", {"message": "The wallet is empty.", "session_id": session_id})
    state = await gateway.chat(session_id, "and now?")
    assert said(state) == "You said: and now?"
    [first, second] = model.requests
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    told = [(message["role"], message["content"]) for message in second.body["messages"]]
    assert ("user", "good morning") in told
    assert ("assistant", "You said: good morning") in told
    assert any(role == "system" and "The wallet is empty." in text for role, text in told)
    async with open_stream(gateway.http, session_id, after=0) as events:
        usage = await events.until_event("usage")
    assert usage.data["input_tokens"] > 0
    assert usage.data["output_tokens"] > 0


async def test_the_model_calls_a_tool_of_the_agent(gateway: GatewayInside, model: FakeModel) -> None:
    session_id = fresh_id("tool")
    state = await gateway.chat(session_id, 'call calculate {"expression": "6*7"}')
    assert "The tool said: " in said(state)
    assert "42" in said(state)
    async with open_stream(gateway.http, session_id, after=0) as events:
        await events.until(lambda f: f.event == "tool_call" and f.data.get("status") == "completed")


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        (None, {}),
        ({"prompt_tokens": 7}, {"input_tokens": 7}),
        ({"prompt_tokens": 7.0, "completion_tokens": None}, {"input_tokens": 7}),
        ({"prompt_tokens": 2**63, "completion_tokens": 3}, {"output_tokens": 3}),
        ({"prompt_tokens": -1, "completion_tokens": "many"}, {}),
        ("a lot", {}),
    ],
)
async def test_a_model_that_does_not_say_what_it_used_is_heard_and_its_tools_are_run(
    gateway: GatewayInside, model: FakeModel, usage: object, known: dict[str, int]
) -> None:
    model.behaviour = Behaviour(usage=usage)
    session_id = fresh_id("figures")
    state = await gateway.chat(session_id, 'call calculate {"expression": "6*7"}')
    assert "The tool said: 42" in said(state)
    async with open_stream(gateway.http, session_id, after=0) as events:
        told = await events.until_event("usage")
    assert {name: told.data[name] for name in known} == known
    assert told.data["input_tokens"] > 0, "what it does not say is estimated"
    assert told.data["output_tokens"] > 0
    assert told.data["spending"]["is_estimated"]


async def test_commands_work_beside_a_model_and_do_not_ask_it(
    gateway: GatewayInside, model: FakeModel
) -> None:
    assert said(await gateway.chat(fresh_id("command"), "/echo plain")) == "plain"
    assert model.requests == []


@pytest.mark.parametrize(
    ("behaviour", "code", "words", "calls"),
    [
        (Behaviour(status=401), "model_unauthorized", "did not accept the gateway's key (401)", 1),
        (Behaviour(status=403), "model_unauthorized", "did not accept the gateway's key (403)", 1),
        (Behaviour(status=429), "model_rate_limited", "takes no more requests for the moment", 2),
        (Behaviour(status=500), "model_unavailable", "has a problem", 2),
        (Behaviour(status=503), "model_unavailable", "has a problem", 2),
        (Behaviour(status=404), "model_bad_request", "refused the request", 1),
        (
            Behaviour(status=400, error={"message": "maximum context length is 8 tokens"}),
            "context_too_long",
            "longer than the model can take",
            1,
        ),
        (Behaviour(silent_after=0), "model_silent", "said nothing for 0.5 s", 2),
        (Behaviour(cut_after=0), "model_cut", "broke", 2),
    ],
)
async def test_a_model_that_fails_before_its_first_word_is_tried_again_at_most_once_and_says_why(
    gateway: GatewayInside, model: FakeModel, behaviour: Behaviour, code: str, words: str, calls: int
) -> None:
    session_id = fresh_id("fails")
    model.behaviour = behaviour
    await gateway.send(session_id, "hello")
    async with open_stream(gateway.http, session_id, after=0) as events:
        ended = await events.until_event("turn_ended")
    assert (ended.data["stop_reason"], ended.data["error"]["code"]) == ("error", code)
    assert ended.data["error"]["retryable"] is (calls > 1)
    assert len(model.requests) == calls
    state = await gateway.state(session_id)
    assert (words in said(state, "system"), state["is_processing"]) == (True, False)
    assert state["readiness"]["phase"] == "ready"
    assert KEY not in str(state)
    model.behaviour = Behaviour()
    if code == "model_unauthorized":
        assert "is not called for 15 s" in said(await gateway.chat(session_id, "so soon"), "system")
        gateway.clock.advance(WINDOW_SECONDS + OPEN_SECONDS)
    assert said(await gateway.chat(session_id, "again")) == "You said: again"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(cut_after=3), "model_cut"),
        (Behaviour(silent_after=3), "model_silent"),
        (Behaviour(error_after=3, error={"message": "overloaded"}), "model_unavailable"),
    ],
)
async def test_a_model_that_fails_after_its_first_word_keeps_the_words_and_is_not_asked_again(
    gateway: GatewayInside, model: FakeModel, behaviour: Behaviour, code: str
) -> None:
    session_id = fresh_id("breaks")
    model.behaviour = behaviour
    await gateway.send(session_id, "one two three four five six")
    async with open_stream(gateway.http, session_id, after=0) as events:
        ended = await events.until_event("turn_ended")
    assert ended.data["error"]["code"] == code
    assert len(model.requests) == 1
    state = await gateway.state(session_id)
    assert said(state).startswith("You said:")
    assert not any(message["is_streaming"] for message in state["messages"])
    model.behaviour = Behaviour()
    assert said(await gateway.chat(session_id, "again")) == "You said: again"


async def test_a_passing_failure_is_not_seen(gateway: GatewayInside, model: FakeModel) -> None:
    model.behaviour = Behaviour(status=503, fail_times=1)
    state = await gateway.chat(fresh_id("passes"), "hello")
    assert said(state) == "You said: hello"
    assert len(model.requests) == 2


async def test_an_interrupt_ends_the_call_to_the_model(gateway: GatewayInside, model: FakeModel) -> None:
    session_id = fresh_id("cut")
    model.behaviour = Behaviour(seconds_a_token=0.05)
    await gateway.send(session_id, "word " * 500)
    await state_when(gateway.http, session_id, lambda s: "word word" in said(s))
    began = time.monotonic()
    state = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert time.monotonic() - began < 1 * crowding()
    assert (state["is_processing"], said(state, "system")) == (False, "Interrupted by user")
    model.behaviour = Behaviour()
    assert said(await gateway.chat(session_id, "next")) == "You said: next"
    model.behaviour = Behaviour(seconds_a_token=0.05)
    await gateway.send(session_id, "word " * 500)
    await state_when(gateway.http, session_id, lambda s: "word word" in said(s))
    await gateway.delete(session_id)
    assert len(model.requests) == 3


async def test_the_log_of_the_gateway_never_holds_the_key(gateway: GatewayInside, model: FakeModel) -> None:
    model.behaviour = Behaviour(status=401, error={"message": f"Incorrect API key provided: {KEY}"})
    session_id = fresh_id("key")
    state = await gateway.chat(session_id, "hello")
    assert KEY not in str(state)
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        assert KEY not in await response.text()
    assert KEY not in gateway.log()


async def test_an_endpoint_that_is_not_there_says_so(tmp_path: Any) -> None:
    environ = {"AGENT_MODEL_URL": "http://127.0.0.1:9/v1", "AGENT_MODEL": "nobody"}
    async with gateway_inside(tmp_path, config=CONFIG, environ=environ) as running:
        state = await running.chat("a", "hello")
        assert said(state, "system") == "The model endpoint cannot be reached."
        assert said(await running.chat("a", "/echo still here")) == "still here"
