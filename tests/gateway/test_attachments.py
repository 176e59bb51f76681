"""Files that come with a message: what the agent is shown, what people see, and what survives."""

from __future__ import annotations

import asyncio
import base64
import pathlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.fake_model import FakeModel, fake_model
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, fresh_id
from tests.streams import state_when

pytestmark = SHARED

PNG: Final = b"\x89PNG\r\n\x1a\n" + b"\1" * 60
CONFIG: Final = """
[files]
image_bytes = 100_000
text_bytes = 2_000
prompt_bytes = 150_000
attachments_per_message = 4
types = ["image/*", "text/*", "application/*"]
"""
SEES: Final = {
    "initialize": {
        "result": {"agentCapabilities": {"promptCapabilities": {"image": True, "embeddedContext": True}}}
    },
    "turns": [[{"say": "$PROMPT"}]],
    "repeat": True,
}
BLIND: Final = {
    "initialize": {"result": {"agentCapabilities": {"promptCapabilities": None}}},
    "turns": [[{"say": "$PROMPT"}]],
    "repeat": True,
}
SLOW: Final = {"turns": [[{"say": "waiting"}, {"hang": True}], [{"say": "$PROMPT"}]], "repeat": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoint() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(endpoint: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    environ = {"AGENT_MODEL_URL": endpoint.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "k"}
    directory = tmp_path_factory.mktemp("gateway")
    agents: dict[str, Any] = {"sees": SEES, "blind": BLIND, "slow": SLOW}
    async with gateway_inside(directory, config=CONFIG, environ=environ, agents=agents) as running:
        yield running


@pytest.fixture
def model(endpoint: FakeModel) -> FakeModel:
    """The endpoint, with nothing asked so far."""
    endpoint.requests.clear()
    return endpoint


async def test_one_key_says_a_message_with_files_once(gateway: GatewayInside) -> None:
    session_id = await session(gateway, "sees", a_txt=b"once")
    body = {"session_id": session_id, "message": "look", "attachments": ["uploads/a.txt"]}

    async def say() -> int:
        headers = {"Idempotency-Key": f"key-{session_id}"}
        async with gateway.http.post("/api/chat?wait=240", json=body, headers=headers) as answer:
            return answer.status

    assert await asyncio.gather(*(say() for _ in range(4))) == [200] * 4
    state = await state_when(gateway.http, session_id, lambda state: not state["is_processing"])
    assert [message["sender"] for message in state["messages"]] == ["user", "agent"]


async def session(gateway: GatewayInside, agent: str = "built-in", **files: bytes) -> str:
    """A session with these files: `a_png` is `uploads/a.png`."""
    session_id = fresh_id("attached")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": agent}, status=201)
    for name, data in files.items():
        path = f"uploads/{name.replace('_', '.')}"
        url = f"/api/sessions/{session_id}/files/content?path={path}"
        async with gateway.http.put(url, data=data) as response:
            assert response.status == 200, await response.text()
    return session_id


def work(gateway: GatewayInside, session_id: str) -> pathlib.Path:
    found = gateway.inner.manager.get("default/local", session_id)
    assert found is not None
    return pathlib.Path(found.place.work)


async def chat(gateway: GatewayInside, session_id: str, text: str, *paths: str, **kwargs: Any) -> Any:
    body = {"message": text, "session_id": session_id, "attachments": list(paths)}
    return await gateway.post("/api/chat?wait=240", body, **kwargs)


def answer(state: Any) -> str:
    return str([m["content"] for m in state["messages"] if m["sender"] == "agent"][-1])


async def test_an_image_reaches_the_model_as_an_image(gateway: GatewayInside, model: FakeModel) -> None:
    name = await session(gateway, a_png=PNG, notes_md=b"# Notes\nblue")
    state = await chat(gateway, name, "what is this?", "uploads/a.png", "uploads/notes.md")
    content = model.requests[-1].body["messages"][-1]["content"]
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert content[1:] == [{"type": "image_url", "image_url": {"url": url}}]
    assert content[0]["text"].startswith("what is this?")
    assert "# Notes\nblue" in content[0]["text"]
    assert "uploads/a.png" in content[0]["text"]
    assert state["messages"][0]["attachments"] == [
        {"path": "uploads/a.png", "name": "a.png", "size": len(PNG), "media_type": "image/png"},
        {"path": "uploads/notes.md", "name": "notes.md", "size": 12, "media_type": "text/markdown"},
    ]
    assert "attachments" not in state["messages"][1]
    state = await gateway.chat(name, "and now?")
    history = model.requests[-1].body["messages"]
    assert history[1]["content"][1]["image_url"]["url"] == url
    assert history[-1]["content"] == "and now?"


async def test_a_message_may_be_nothing_but_a_file(gateway: GatewayInside, model: FakeModel) -> None:
    name = await session(gateway, a_png=PNG)
    await chat(gateway, name, "", "uploads/a.png")
    assert model.requests[-1].body["messages"][-1]["content"][1]["type"] == "image_url"
    assert (await gateway.get(f"/api/sessions/{name}"))["title"] == "a.png"
    await gateway.post("/api/chat", {"message": "", "session_id": name, "attachments": []}, status=422)


async def test_an_agent_is_shown_what_it_says_it_takes_and_told_the_rest(gateway: GatewayInside) -> None:
    files = {"a_png": PNG, "big_png": PNG + b"\0" * 100_000, "b_md": b"text", "c_pdf": b"%PDF-1.4"}
    paths = [f"uploads/{name.replace('_', '.')}" for name in files]
    name = await session(gateway, "sees", **files)
    said = answer(await chat(gateway, name, "look", *paths))
    assert re.search(r"\[image /\S+/uploads/a\.png\]", said)
    assert re.search(r"\[file:///\S+/uploads/b\.md\]\ntext", said)
    links = [re.search(rf"\]\(file:///\S+/{path}\)", said) is not None for path in paths]
    assert links == [False, True, False, True]
    name = await session(gateway, "blind", **files)
    said = answer(await chat(gateway, name, "look", *paths))
    assert all(re.search(rf"\]\(file:///\S+/{path}\)", said) for path in paths)


async def test_a_prompt_shows_only_so_much_of_its_files(gateway: GatewayInside) -> None:
    name = await session(gateway, "sees", a_png=PNG + b"\0" * 90_000, b_png=PNG + b"\0" * 90_000)
    said = answer(await chat(gateway, name, "look", "uploads/a.png", "uploads/b.png"))
    assert said.count("[image ") == 1
    assert said.count("[b.png](file://") == 1


async def test_what_is_no_image_is_not_shown_as_one(gateway: GatewayInside, model: FakeModel) -> None:
    name = await session(gateway, a_png=b"MZ not an image", b_txt=b"bytes \xff\0")
    state = await chat(gateway, name, "look", "uploads/a.png", "uploads/b.txt")
    content = model.requests[-1].body["messages"][-1]["content"]
    assert isinstance(content, str)
    assert "[a.png](file://" in content
    assert "[b.txt](file://" in content
    assert state["messages"][0]["attachments"][0]["media_type"].startswith("application/")


async def test_a_file_that_vanished_is_said_and_the_turn_goes_on(
    gateway: GatewayInside, model: FakeModel
) -> None:
    name = await session(gateway, "slow", a_png=PNG)
    await gateway.send(name, "wait")
    await gateway.send(name, "look", attachments=["uploads/a.png"])
    await state_when(gateway.http, name, lambda state: "waiting" in str(state["messages"]))
    await gateway.post("/api/interrupt", {"session_id": name})
    (work(gateway, name) / "uploads/a.png").unlink()
    await gateway.post(f"/api/sessions/{name}/queue", {"action": "send"})
    state = await state_when(gateway.http, name, lambda s: not s["is_processing"] and s["queued"] == 0)
    assert "The attached file uploads/a.png cannot be read: there is no such file." in answer(state)
    async with gateway.http.get(f"/api/sessions/{name}/export?format=jsonl") as response:
        assert '"attachment_missing"' in await response.text()


async def test_a_message_that_waits_keeps_its_files_when_the_gateway_ends(tmp_path: pathlib.Path) -> None:
    agents: dict[str, Any] = {"slow": SLOW}
    async with gateway_inside(tmp_path, config=CONFIG, agents=agents) as first:
        name = await session(first, "slow", a_png=PNG)
        await first.send(name, "wait")
        await first.send(name, "look", attachments=["uploads/a.png"])
    async with gateway_inside(tmp_path, config=CONFIG, agents=agents) as second:
        state = await second.state(name)
        assert [
            m.get("attachments", [{}])[0].get("path") for m in state["messages"] if m["sender"] == "user"
        ] == [
            None,
            "uploads/a.png",
        ]
        found = await second.inner.manager.find("default/local", name)
        assert found is not None
        (waiting,) = found.fold.waiting
        assert [one.path for one in waiting.attachments or ()] == ["uploads/a.png"]
        (turn,) = found._turns.queue._turns
        assert [one.path for one in turn.attachments] == ["uploads/a.png"]


async def test_what_cannot_be_attached_is_refused_and_nothing_is_sent(gateway: GatewayInside) -> None:
    name = await session(gateway, a_png=PNG)
    (work(gateway, name) / "link").symlink_to("/etc/passwd")
    for path in ("uploads/none.png", "uploads", "link"):
        said = await chat(gateway, name, "look", path, status=422)
        assert said["error"]["code"] == "attachment_refused", path
        assert path in said["error"]["message"]
    for path in ("/etc/passwd", "../x", "a\0b"):
        assert (await chat(gateway, name, "look", path, status=400))["error"]["code"] == "bad_file_name"
    many = [f"uploads/{number}" for number in range(5)]
    assert "4 attachments" in (await chat(gateway, name, "look", *many, status=422))["error"]["message"]
    assert (await chat(gateway, fresh_id(), "look", "a", status=422))["error"]["code"] == "attachment_refused"
    assert (await gateway.state(name))["messages"] == []


async def test_the_same_key_sends_a_file_once_and_another_file_is_another_request(
    gateway: GatewayInside,
) -> None:
    name = await session(gateway, "sees", a_png=PNG, b_png=PNG)
    key = {"Idempotency-Key": fresh_id("key")}
    await chat(gateway, name, "look", "uploads/a.png", headers=key)
    state = await chat(gateway, name, "look", "uploads/a.png", headers=key)
    assert len(state["messages"]) == 2
    await chat(gateway, name, "look", "uploads/b.png", headers=key, status=422)


async def test_exports_and_a_lost_conversation_name_the_files(
    gateway: GatewayInside, model: FakeModel
) -> None:
    name = await session(gateway, a_png=PNG)
    await chat(gateway, name, "what is this?", "uploads/a.png")
    async with gateway.http.get(f"/api/sessions/{name}/export?format=markdown") as response:
        assert "uploads/a.png" in await response.text()
    found = gateway.inner.manager.get("default/local", name)
    assert found is not None
    assert await found.park()
    await gateway.chat(name, "and now?")
    history = model.requests[-1].body["messages"]
    assert history[1]["content"] == "what is this?\n[attached: uploads/a.png]"
