"""Traces as a collector receives them, and none where none are wanted."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import AsyncIterator

import pytest

from tests.collector import Collector, attributes, collecting
from tests.fake_model import Behaviour, fake_model
from tests.gateways import running_gateway
from tests.shared import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as made:
        yield made


@pytest.mark.parametrize("way", ["configuration", "environment"])
async def test_a_request_its_turn_its_start_and_its_model_call_are_one_trace(
    collector: Collector, tmp_path: pathlib.Path, way: str
) -> None:
    config, environ = "[model]\nretries = 0\n", {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    if way == "configuration":
        config += f'[telemetry]\notlp_endpoint = "{collector.url}/"\n'
    else:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    async with fake_model() as model:
        environ |= {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "sk-canary"}
        async with running_gateway(tmp_path, config=config, environ=environ) as gateway:
            body = {"message": "canary words", "session_id": "canary-id"}
            await gateway.post("/api/chat?wait=240", body, headers={"traceparent": PARENT})
            model.behaviour = Behaviour(status=500)
            await gateway.chat("canary-id", "more canary words")

            async def has_come() -> bool:
                return len([span for span in collector.spans if span.name == "chat fake-model"]) == 2

            await eventually(has_come)
    request, turn = collector.named("POST chat"), collector.named("invoke_agent built-in")
    started, called = collector.named("start_agent built-in"), collector.named("chat fake-model")
    assert request.trace_id.hex() == TRACE, "the caller's trace goes on"
    assert {span.trace_id.hex() for span in (turn, started, called)} == {TRACE}
    assert turn.parent_span_id == request.span_id
    assert started.parent_span_id == called.parent_span_id == turn.span_id
    said = attributes(called)
    assert (said["gen_ai.operation.name"], said["gen_ai.request.model"]) == ("chat", "fake-model")
    assert said["gen_ai.usage.input_tokens"] > 0
    assert attributes(turn)["agent_gateway.turn.outcome"] == "end_turn"
    failed = [span for span in collector.spans if span.name == "chat fake-model"][1]
    assert attributes(failed)["error.type"] == "model_unavailable"
    assert failed.trace_id.hex() != TRACE
    assert b"canary" not in collector.raw


async def test_without_an_endpoint_nothing_of_it_is_loaded(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.chat("a", "/echo hi")
        maps = pathlib.Path(f"/proc/{gateway.pid}/maps").read_text()
    assert "google/_upb" not in maps, "the protobuf that only the exporter needs"


async def test_a_collector_that_is_down_holds_up_nobody(tmp_path: pathlib.Path) -> None:
    config = '[telemetry]\notlp_endpoint = "http://127.0.0.1:9"\n'
    async with running_gateway(tmp_path, config=config) as gateway:
        assert (await gateway.chat("a", "/echo hi"))["messages"][-1]["content"] == "hi"
        assert await gateway.stop() == 0


def test_an_endpoint_without_the_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.telemetry.tracing import NO_TRACER, TracingMissing, tracer

    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert tracer("", version="1") is NO_TRACER
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingMissing, match="agent-gateway\\[otel\\]"):
        tracer("http://127.0.0.1:9", version="1")
