"""An agent with a provider, through a session: its token, its files, its bill, what its people read."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.gateways import agent_tables
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.shared import SHARED, fresh_id
from tests.streams import open_stream

pytestmark = SHARED
KEY = "sk-canary-0123456789abcdef"
CONFIG = """
[providers.p]
dialect = ["chat", "messages"]
url = "{url}"
key = "{key}"
models = ["gpt-fake"]
retries = 0
"""
AGENT = """
provider = "p"
network = "shared"
env = {MY_URL = "{base}/openai/v1", MY_TOKEN = "{token}", MY_MODEL = "{model}"}
home_files = {".agent/config.json" = '{"url": "{base}", "token": "{token}"}'}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoint() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(endpoint: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    directory = tmp_path_factory.mktemp("gateway")
    config = CONFIG.format(url=endpoint.url, key=KEY)
    scripted = agent_of(directory)
    async with gateway_inside(directory, config=config + scripted) as running:
        yield running


def agent_of(directory: pathlib.Path) -> str:
    return agent_tables(directory, {"mine": "echoes"}) + AGENT


@pytest.fixture
def model(endpoint: FakeModel, gateway: GatewayInside) -> FakeModel:
    endpoint.behaviour = Behaviour()
    endpoint.requests.clear()
    endpoint.disconnected.clear()
    endpoint.received.clear()
    gateway.inner.services.workers.models.providers._breakers.clear()
    return endpoint


class Worker:
    """What the agent's process knows."""

    def __init__(self, gateway: GatewayInside) -> None:
        process, *_ = [one for one in gateway.workers() if b"MY_TOKEN" in environment(one.pid)]
        self.pid = process.pid
        found = dict(line.split(b"=", 1) for line in environment(process.pid).split(b"\0") if b"=" in line)
        self.env = {name.decode(): value.decode() for name, value in found.items()}
        self.token = self.env["MY_TOKEN"]


def environment(pid: int) -> bytes:
    return pathlib.Path(f"/proc/{pid}/environ").read_bytes()


async def call(worker: Worker, *, token: str = "") -> tuple[int, str]:
    body = {"model": worker.env["MY_MODEL"], "messages": [{"role": "user", "content": "one two"}]}
    headers = {"Authorization": f"Bearer {token or worker.token}"}
    async with aiohttp.ClientSession() as http:
        url = worker.env["MY_URL"] + "/chat/completions"
        async with http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.text()


async def started(gateway: GatewayInside) -> tuple[str, Worker]:
    session_id = fresh_id("provider")
    await gateway.post("/api/sessions", {"agent": "mine", "session_id": session_id}, status=201)
    await gateway.chat(session_id, "hello")
    return session_id, Worker(gateway)


async def test_a_worker_gets_an_address_and_a_token_in_variables_and_files_and_no_key(
    gateway: GatewayInside, model: FakeModel
) -> None:
    session_id, worker = await started(gateway)
    assert worker.env["MY_URL"] == f"{gateway.url}/llm/openai/v1"
    assert worker.env["MY_MODEL"] == "gpt-fake"
    assert KEY.encode() not in environment(worker.pid)
    [file] = list((gateway.data_path / "sessions").rglob(".agent/config.json"))
    assert json.loads(file.read_text()) == {"url": f"{gateway.url}/llm", "token": worker.token}
    status, text = await call(worker)
    assert (status, "You said: one two" in text) == (200, True)
    assert model.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    await gateway.delete(session_id)


async def test_what_an_agent_calls_is_counted_for_its_session_and_told(
    gateway: GatewayInside, model: FakeModel
) -> None:
    session_id, worker = await started(gateway)
    await call(worker)
    async with open_stream(gateway.http, session_id, after=0) as events:
        told = (await events.until_event("usage")).data
    assert (told["provider"], told["model"]) == ("p", "gpt-fake")
    assert (told["input_tokens"], told["output_tokens"]) == (2, 4)
    await gateway.delete(session_id)


async def test_a_token_ends_with_its_worker_and_the_next_worker_has_another_in_the_same_file(
    gateway: GatewayInside, model: FakeModel
) -> None:
    session_id, worker = await started(gateway)
    session = next(one for one in gateway.inner.manager.sessions() if one.session_id == session_id)
    await gateway.post(f"/api/admin/sessions/{session.record.key}/park", {})
    assert (await call(worker))[0] == 401
    await gateway.chat(session_id, "again")
    later = Worker(gateway)
    assert later.token != worker.token
    assert (await call(later))[0] == 200
    assert (await call(later, token=worker.token))[0] == 401
    [file] = list((gateway.data_path / "sessions").rglob(".agent/config.json"))
    assert later.token in file.read_text()
    assert len(gateway.inner.services.workers.models.tokens) == 1
    await gateway.delete(session_id)
    assert len(gateway.inner.services.workers.models.tokens) == 0


async def test_a_call_ends_with_its_worker(gateway: GatewayInside, model: FakeModel) -> None:
    session_id, worker = await started(gateway)
    model.behaviour = Behaviour(silent_after=0)
    calling = asyncio.create_task(call(worker))
    async with within(10):
        await model.received.wait()
        await gateway.delete(session_id)
        await model.disconnected.wait()
        status, text = await calling
    assert (status, "ended with its turn" in text) == (503, True)


async def test_people_read_that_the_provider_cannot_be_used(gateway: GatewayInside, model: FakeModel) -> None:
    session_id, worker = await started(gateway)
    model.behaviour = Behaviour(status=401, error={"message": f"bad key {KEY}"})
    for _ in range(3):
        assert (await call(worker))[0] == 502
    async with open_stream(gateway.http, session_id, after=0) as events:
        notice = (await events.until_event("notice")).data
    assert notice["code"] == "provider_unavailable"
    assert re.search(r"p cannot be used for the moment: it does not accept the key \(401\)", notice["text"])
    assert KEY not in str(await gateway.state(session_id))
    assert KEY not in gateway.log()
    assert len(model.requests) == 1
    await gateway.delete(session_id)


async def test_a_provider_changed_by_a_reload_is_used_by_the_next_call(
    endpoint: FakeModel, tmp_path: pathlib.Path
) -> None:
    config = CONFIG.format(url=endpoint.url, key=KEY)
    endpoint.behaviour = Behaviour()
    async with gateway_inside(tmp_path, config=config + agent_of(tmp_path)) as gateway:
        _, worker = await started(gateway)
        endpoint.requests.clear()
        await call(worker)
        path = tmp_path / "config.toml"
        path.write_text(path.read_text().replace(KEY, "sk-another-key-0123"))
        gateway.inner.reload()
        await call(worker)
        keys = [request.headers["Authorization"] for request in endpoint.requests]
        assert keys == [f"Bearer {KEY}", "Bearer sk-another-key-0123"]
