"""Agents that say too much: memory stays bounded, the turn ends in words, nobody else notices."""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from benchmarks.talkers import forget_peak, resident
from tests.gateways import ROOT, RunningGateway, running_gateway
from tests.patience import within
from tests.streams import open_stream

TALKER: Final = ROOT / "tests" / "hostile" / "talker.py"
CONFIG: Final = f"""
[sessions]
crash_limit = 1000
[limits]
turn_bytes = 20971520
session_requests_per_second = 1000
session_burst = 1000
answer_characters = 4194304
[agents.talker]
command = {json.dumps([sys.executable, "-I", str(TALKER)])}
readable = [{json.dumps(str(TALKER.parent))}]
"""
LEFT: Final = 1.1
"""Of the memory at the start, what is left once the sessions are gone."""
LEFT_SECONDS: Final = 5
SLACK_MIB: Final = 96
"""Three times what `benchmarks.talkers` shows: this machine may be busy, and the collector late."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp("talkers"), config=CONFIG) as running:
        await talk(running, "warm", "text 1 1")
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def talk(gateway: RunningGateway, name: str, prompt: str) -> Any:
    """State after a turn in which the agent talks."""
    await gateway.post("/api/sessions", {"session_id": name, "agent": "talker"}, status=201)
    return await gateway.chat(name, prompt)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("text 4 15", "is longer than the 4 MB"),
        ("emoji 2 15", "is longer than the 4 MB"),
        ("escapes 2 15", "is longer than the 4 MB"),
        ("words 60000 0", None),
        ("image 2 15", "is longer than the 20 MB"),
        ("tool 2 15", "is longer than the 20 MB"),
        ("tools 40000 0", "MB that it may be"),
        ("unknown 2 15", "is longer than the 20 MB"),
        ("odd 6 15", None),
        ("title 2 15", "is longer than the 20 MB"),
        ("id 2 15", "is longer than the 20 MB"),
        ("members 2 15", "is longer than the 20 MB"),
        ("request 3 0.9", None),
        ("request 12000 0.0005", "does not read what it is sent"),
        ("error 2 15", None),
        ("meta 2 15", None),
        ("halves 2 15", None),
        ("asks 400 0.2", None),
        ("asks 400 0", None),
        ("deep 1 14", None),
        ("strings 1 14", None),
        ("crumbs 2 1", None),
        ("endless 1 17", "longer than 16777216 bytes"),
        ("thought 1 15", "is longer than the 4 MB"),
        ("diff 2 15", "is longer than the 20 MB"),
        ("usage 2 15", "is longer than the 20 MB"),
        ("question 2 15", None),
        ("stop 1 15", "is longer than 1048576 bytes"),
        ("stderr 2 15", None),
    ],
)
async def test_what_an_agent_says_does_not_grow_the_gateway(
    gateway: RunningGateway, prompt: str, words: str | None
) -> None:
    start = resident(gateway.pid)
    forget_peak(gateway.pid)
    name = prompt.replace(" ", "-").replace(".", "-")
    talking = asyncio.create_task(talk(gateway, name, prompt))
    while not talking.done():
        assert (await gateway.chat("neighbour", "/echo still here"))["messages"][-1][
            "content"
        ] == "still here"
    state = await talking
    assert resident(gateway.pid, "VmHWM") - start < SLACK_MIB
    said = [message["content"] for message in state["messages"] if message["sender"] == "system"]
    if words is None:
        assert not said, said
    else:
        assert words in said[-1]
    assert not state["is_processing"]
    await gateway.delete(name)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("title 3 15 after", "is longer than the 20 MB"), ("endless 1 17 after", "longer than 16777216 bytes")],
)
async def test_an_agent_that_says_too_much_after_its_turn_is_ended_in_words(
    gateway: RunningGateway, prompt: str, words: str
) -> None:
    name = f"after-{prompt.split()[0]}"
    await talk(gateway, name, prompt)
    async with open_stream(gateway.http, name, after=0) as stream:
        ended = await stream.until_event("worker_ended")
    state = await gateway.state(name)
    said = [message["content"] for message in state["messages"] if message["sender"] == "system"]
    assert said == [ended.data["detail"]]
    assert words in said[0]
    state = await gateway.chat(name, "words 3 0")
    assert [message["sender"] for message in state["messages"]][-2:] == ["user", "agent"]
    await gateway.delete(name)


@pytest.mark.parametrize("prompt", ["text 4 15", "image 1 15"])
async def test_memory_comes_back_once_the_sessions_are_gone(gateway: RunningGateway, prompt: str) -> None:
    start = resident(gateway.pid)
    names = [f"gone-{prompt[:4]}-{number}" for number in range(6)]
    await asyncio.gather(*(talk(gateway, name, prompt) for name in names))
    for name in names:
        await gateway.delete(name)
    async with within(2 * LEFT_SECONDS):
        while resident(gateway.pid) > LEFT * start:
            await asyncio.sleep(0.1)


async def test_a_picture_of_15_mb_is_kept_and_read_again(gateway: RunningGateway) -> None:
    await talk(gateway, "picture", "image 1 15")
    async with gateway.http.get("/api/sessions/picture/export", params={"format": "jsonl"}) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    [block] = [line for line in lines if line["type"] == "content_block"]
    assert len(block["content"]["data"]) == 15 * 1024 * 1024
    async with open_stream(gateway.http, "picture", after=10**9) as stream:
        frame = await stream.until_event("resync")
    [item] = [item for item in frame.data["chat"]["items"] if item["kind"] == "content"]
    assert item["content"] == block["content"]
    await gateway.delete("picture")


async def test_a_full_conversation_says_so_and_can_still_be_read(tmp_path: pathlib.Path) -> None:
    config = CONFIG + "\n"
    config = config.replace("answer_characters = 4194304", "conversation_characters = 1000000")
    async with running_gateway(tmp_path, config=config) as gateway:
        state = await talk(gateway, "full", "text 3 0.9")
        assert "start a new one" in state["messages"][-1]["content"]
        body = {"message": "more", "session_id": "full"}
        answer = await gateway.post("/api/chat", body, status=409)
        assert answer["error"]["code"] == "conversation_full"
        assert (await gateway.state("full"))["messages"] == state["messages"]
