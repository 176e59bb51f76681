"""Every member of every message that an agent may send, mistaken in every way (`FUZZ_SEED`, `FUZZ_CASES`).

First where the messages are read, then in a real gateway, beside a neighbour that must not notice.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import random
import sys
from typing import Any, Final

import pytest

from tests.fuzz import agent_lines, mutations
from tests.fuzz.agent_messages import ANSWERS, BUILT_IN, FAILURE, SAID
from tests.gateways import RunningGateway, running_gateway
from tests.hostile import mutant
from tests.scrapes import scrape
from tests.shared import ask
from tests.streams import state_when

SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
CASES: Final = int(os.environ.get("FUZZ_CASES", "100"))
"""Mutations of each message, where it is read."""
SHORT_BYTES: Final = 4_000
LONG_TRIED: Final = 3
"""Mutations of each message in a real gateway that are longer: deep ones, endless ones."""
LINES_A_TURN: Final = 500
ANSWERS_TRIED: Final = 4
"""Mutations of each answer in a real gateway: each needs a worker of its own."""
LINE_BYTES: Final = 16 * 1024 * 1024
CONFIG: Final = """
[limits]
address_requests_per_second = 10000
address_burst = 10000
session_requests_per_second = 1000
session_burst = 10000
[sessions]
start_timeout_seconds = 4
turn_timeout_seconds = 6
stop_grace_seconds = 0.3
"""


def encoded(message: object) -> bytes:
    return json.dumps(message).encode()


OPENED: Final = b"\n".join(encoded(ANSWERS[method]) for method in ("initialize", "session/new"))


@pytest.mark.parametrize("number", range(len(SAID) + len(BUILT_IN)))
def test_what_an_agent_says_in_a_turn_is_read_or_refused(number: int) -> None:
    message = (SAID + BUILT_IN)[number]
    for mutation in mutations.some(message, count=CASES, seed=SEED):
        lines = b"\n".join([OPENED, mutation.text, encoded(ANSWERS["session/prompt"])])
        play(mutation.name, lines)


@pytest.mark.parametrize("method", ANSWERS)
def test_how_an_agent_answers_is_read_or_refused(method: str) -> None:
    before = [encoded(answer) for name, answer in ANSWERS.items() if name != method]
    for mutation in mutations.some(ANSWERS[method], count=CASES, seed=SEED):
        lines = [*before, mutation.text] if method == "session/prompt" else [mutation.text, *before]
        play(mutation.name, b"\n".join(lines))


def test_how_an_agent_fails_is_read_or_refused() -> None:
    for mutation in mutations.some(FAILURE, count=CASES, seed=SEED):
        play(mutation.name, b"\n".join([OPENED, mutation.text]))


def play(name: str, lines: bytes) -> None:
    try:
        asyncio.run(agent_lines.play(lines, line_bytes=LINE_BYTES))
    except Exception as error:
        raise AssertionError(f"FUZZ_SEED={SEED} {name}: {type(error).__name__}: {error}") from error


# -- a real gateway ---------------------------------------------------------------------------------------


def plan(directory: pathlib.Path, name: str, answers: dict[str, bytes], turns: list[list[bytes]]) -> str:
    """The table of an agent that plays this."""
    path = directory / f"{name}.json"
    text = {
        "answers": {method: base64.b64encode(line).decode() for method, line in answers.items()},
        "turns": [[base64.b64encode(line).decode() for line in turn] for turn in turns],
    }
    path.write_text(json.dumps(text))
    command = [sys.executable, "-I", str(pathlib.Path(mutant.__file__)), str(path)]
    return f"\n[agents.{name}]\ncommand = {json.dumps(command)}\n"


def said() -> list[list[bytes]]:
    """What the hostile agent prints, turn by turn: every mutation that is short, and some that are not."""
    lines: list[bytes] = []
    for message in SAID:
        every = [mutation.text for mutation in mutations.mutated(message)]
        lines += [text for text in every if len(text) <= SHORT_BYTES]
        long = [text for text in every if len(text) > SHORT_BYTES]
        lines += random.Random(SEED).sample(long, LONG_TRIED)
    return [lines[start : start + LINES_A_TURN] for start in range(0, len(lines), LINES_A_TURN)]


def answers() -> list[tuple[str, mutations.Mutation]]:
    return [
        (method, mutation)
        for method, answer in ANSWERS.items()
        for mutation in mutations.some(answer, count=ANSWERS_TRIED, seed=SEED)
    ]


async def neighbour(gateway: RunningGateway, stop: asyncio.Event) -> int:
    """Talks until it is told to stop; every answer must be right. How many there were."""
    count = 0
    while not stop.is_set():
        state = await gateway.chat("neighbour", f"/echo {count}")
        assert [m["content"] for m in state["messages"]][-1] == str(count)
        count += 1
    return count


async def converse(gateway: RunningGateway, session_id: str, agent: str, *, turns: int) -> None:
    """So many turns with an agent, each of which ends."""
    for turn in range(turns):
        await gateway.send(session_id, "go", **({"agent": agent} if turn == 0 else {}))
        await state_when(gateway.http, session_id, has_ended, seconds=30)


def has_ended(state: Any) -> bool:
    return bool(state["messages"]) and not state["is_processing"]


async def test_a_neighbour_of_a_hostile_agent_notices_nothing(tmp_path: pathlib.Path) -> None:
    turns, tried = said(), answers()
    config = CONFIG + plan(tmp_path, "talker", {}, turns)
    for number, (method, mutation) in enumerate(tried):
        config += plan(tmp_path, f"answers-{number}", {method: mutation.text}, [[]])
    names = [f"answers-{number}" for number in range(len(tried))]
    async with running_gateway(tmp_path, config=config) as gateway:
        stop = asyncio.Event()
        talking = asyncio.create_task(neighbour(gateway, stop))
        async with asyncio.TaskGroup() as group:
            group.create_task(converse(gateway, "hostile", "talker", turns=len(turns)))
            for name in names:
                group.create_task(converse(gateway, name, name, turns=1))
        stop.set()
        assert await talking > 1
        assert (await ask(gateway.http, "GET", "/readyz")).status == 200
        assert (await scrape(gateway)).value("odd_values_total", source="agent") > 0
        shown = {name: await gateway.state(name) for name in ("hostile", *names)}
        assert "Traceback" not in gateway.log()
        assert " CRITICAL " not in gateway.log()
        assert await gateway.stop() == 0
    async with running_gateway(tmp_path, config=config) as gateway:  # and it can all be read again
        for name, state in shown.items():
            again = await gateway.state(name)
            assert again["messages"] == state["messages"], name
        await gateway.chat("neighbour", "/echo still here")
