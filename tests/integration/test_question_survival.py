"""A question outlives its gateway: killed, or stopped; the answer reaches the agent that comes back."""

from __future__ import annotations

import pathlib
import signal
from typing import Any, Final

import pytest

from tests.gateways import RunningGateway, Scenario, running_gateway
from tests.streams import state_when

FORM: Final = {"properties": {"db": {"type": "string", "title": "Database"}}, "required": ["db"]}
ASK: Final = {"ask_question": {"message": "Which one?", "requestedSchema": FORM}}
AGENTS: Final[dict[str, Scenario]] = {
    "asks": {"turns": [[ASK]], "resume": {}},
    "asks_twice": {
        "turns": [
            [
                {
                    "raw": '{"jsonrpc":"2.0","id":"one","method":"elicitation/create","params":'
                    '{"message":"First?","requestedSchema":{"properties":{"a":{"type":"integer","title":"A"}}}}}'
                },
                ASK,
            ]
        ]
    },
    "opens": {
        "turns": [[{"ask_question": {"mode": "url", "message": "There.", "url": "https://example.org"}}]]
    },
}
TOLD: Final[Scenario] = {"turns": [[{"say": "heard: $PROMPT"}]], "repeat": True, "resume": {}}
LATER: Final[dict[str, Scenario]] = dict.fromkeys(AGENTS, TOLD)
"""What the same agents do in the next gateway."""


async def asked(gateway: RunningGateway, agent: str, count: int = 1) -> list[Any]:
    await gateway.send("s", "go", agent=agent)
    state = await state_when(gateway.http, "s", lambda s: len(s["questions"]) == count)
    return list(state["questions"])


async def answer(gateway: RunningGateway, question: Any, status: int = 200, **body: Any) -> Any:
    path = f"/api/sessions/s/questions/{question['question_id']}"
    return await gateway.post(path, {"action": "accept", **body}, status=status)


async def last_words(gateway: RunningGateway) -> str:
    state = await state_when(gateway.http, "s", lambda s: not s["is_processing"])
    assert state["questions"] == []
    return str(state["messages"][-1]["content"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_answer_to_a_question_of_an_earlier_gateway_arrives(
    tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    drained = "[server]\ndrain_seconds = 0.1\n"
    async with running_gateway(tmp_path, agents=AGENTS, config=drained) as gateway:
        questions = await asked(gateway, "asks")
        await gateway.stop(number)
    async with running_gateway(tmp_path, agents=LATER) as gateway:
        state = await gateway.state("s")
        assert (state["questions"], state["is_processing"]) == (questions, False)
        error = (await answer(gateway, questions[0], 422, content={}))["error"]
        assert "'db' must be answered" in error["message"]
        await answer(gateway, questions[0], content={"db": "Postgres"})
        words = await last_words(gateway)
        assert words.startswith("heard: My answer to what you asked before the gateway was restarted:")
        assert words.endswith("Which one?\n- Database: Postgres")
        assert (await answer(gateway, questions[0], 409))["error"]["code"] == "question_closed"


async def test_several_questions_are_told_together_with_the_last_answer(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        questions = await asked(gateway, "asks_twice", 2)
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path, agents=LATER) as gateway:
        await answer(gateway, questions[0], content={"a": 5})
        assert (await gateway.state("s"))["is_processing"] is False
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path, agents=LATER) as gateway:
        assert (await gateway.state("s"))["questions"] == questions[1:]
        await answer(gateway, questions[1], content={"db": "SQLite"})
        words = await last_words(gateway)
        assert "First?\n- A: 5" in words
        assert "Which one?\n- Database: SQLite" in words


async def test_a_message_instead_of_an_answer_ends_the_question(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        questions = await asked(gateway, "asks")
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path, agents=LATER) as gateway:
        await gateway.chat("s", "never mind")
        assert await last_words(gateway) == "heard: never mind"
        assert (await answer(gateway, questions[0], 409))["error"]["code"] == "question_closed"


async def test_declining_starts_nothing_and_an_address_is_over(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        [question] = await asked(gateway, "asks")
        await gateway.send("t", "go", agent="opens")
        await state_when(gateway.http, "t", lambda s: s["questions"])
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path, agents=LATER) as gateway:
        await answer(gateway, question, action="decline")
        state = await gateway.state("s")
        assert (state["questions"], state["is_processing"]) == ([], False)
        assert (await gateway.state("t"))["questions"] == []
