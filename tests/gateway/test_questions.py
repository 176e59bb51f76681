"""Questions of an agent: they reach its user and are answered once; hostile ones are refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from tests.gateways import RunningGateway
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED

FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "minLength": 1},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "colour": {
            "type": "string",
            "oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}],
        },
        "extras": {"type": "array", "items": {"enum": ["a", "b"]}},
        "sure": {"type": "boolean"},
    },
    "required": ["name", "sure"],
}
GOOD: Final = {"name": "Ann", "count": 3, "colour": "g", "extras": ["b"], "sure": True}
RAW_QUESTION: Final = '{"jsonrpc":"2.0","id":%d,"method":"elicitation/create","params":{"message":"?"}}'


def once(*steps: Any) -> dict[str, object]:
    """A scenario that plays the same steps for every prompt."""
    return {"turns": [list(steps)], "repeat": True}


gateway = shared_gateway(
    agents={
        "asks": once({"ask_question": {"message": "Who and how many?", "requestedSchema": FORM}}),
        "opens": once(
            {
                "ask_question": {
                    "mode": "url",
                    "message": "Sign in there.",
                    "url": "https://example.org/sign-in?x=1",
                    "elicitationId": "e1",
                }
            }
        ),
        "misleads": once({"ask_question": {"mode": "url", "message": "Here.", "url": "javascript:alert(1)"}}),
        "huge": once(
            {
                "ask_question": {
                    "requestedSchema": {"properties": {"a": {"enum": ["x"] * 10_000, "type": "string"}}}
                }
            },
            {"say": " and on"},
        ),
        "takes_back": once(
            {"raw": '{"jsonrpc":"2.0","id":"own","method":"elicitation/create","params":{"message":"?"}}'},
            {"notify": {"method": "$/cancel_request", "params": {"requestId": "own"}}},
            {"say": "done"},
        ),
        "completes": once(
            {
                "raw": '{"jsonrpc":"2.0","id":"own","method":"elicitation/create","params":'
                '{"mode":"url","message":"?","url":"https://example.org/","elicitationId":"e7"}}'
            },
            {"notify": {"method": "elicitation/complete", "params": {"elicitationId": "e7"}}},
            {"say": "done"},
        ),
        "too_early": {
            "new": {"steps": [{"request": {"method": "elicitation/create", "params": {"message": "?"}}}]},
            "turns": [[{"say": "hello"}]],
        },
        "asks_much": once(
            *({"raw": RAW_QUESTION % n} for n in range(100, 120)),
            {"say": "all asked"},
            {"hang": True},
        ),
        "dies": once(
            {"raw": '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}'},
            {"crash": 3},
        ),
    }
)


async def asked(gateway: RunningGateway, agent: str) -> tuple[str, Any]:
    """A session whose agent waits for an answer."""
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    state = await state_when(gateway.http, session_id, lambda s: s["questions"])
    return session_id, state["questions"][0]


async def answer(
    gateway: RunningGateway, session_id: str, question: Any, status: int = 200, **body: Any
) -> Any:
    question_id = question if isinstance(question, str) else question["question_id"]
    path = f"/api/sessions/{session_id}/questions/{question_id}"
    return await gateway.post(path, {"action": "accept", **body}, status=status)


async def ended(gateway: RunningGateway, session_id: str) -> str:
    """What the agent said in the end."""
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    assert state["questions"] == []
    return str(next(m["content"] for m in reversed(state["messages"]) if m["sender"] == "agent"))


async def events_of(gateway: RunningGateway, session_id: str, kind: str) -> list[Any]:
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        lines = (await response.text()).splitlines()
    return [line for line in map(json.loads, lines) if line["type"] == kind]


async def test_a_form_waits_is_shown_whole_and_its_answer_arrives(gateway: RunningGateway) -> None:
    session_id, question = await asked(gateway, "asks")
    assert question["message"] == "Who and how many?"
    assert [field["name"] for field in question["fields"]] == list(FORM["properties"])
    assert (await gateway.get(f"/api/sessions/{session_id}"))["state"] == "waiting"
    await answer(gateway, session_id, question, content=GOOD)
    told = await ended(gateway, session_id)
    assert told.startswith("accept {")
    assert json.loads(told.removeprefix("accept ")) == GOOD
    [said] = await events_of(gateway, session_id, "question_answered")
    assert (said["outcome"], said["content"]) == ("accept", GOOD)


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_question_can_be_turned_down(gateway: RunningGateway, action: str) -> None:
    session_id, question = await asked(gateway, "asks")
    await answer(gateway, session_id, question, action=action)
    assert await ended(gateway, session_id) == action


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"content": {}}, "name"),
        ({"content": {**GOOD, "count": 10}}, "count"),
        ({"content": {**GOOD, "colour": "blue"}}, "colour"),
        ({"content": {**GOOD, "extras": ["c"]}}, "extras"),
        ({"content": {**GOOD, "other": 1}}, "other"),
        ({"content": {**GOOD, "name": {"deep": 1}}}, "content"),
        ({"content": GOOD, "action": "decline"}, "content"),
        ({"action": "allow"}, "action"),
        ({"content": [1]}, "content"),
    ],
)
async def test_an_answer_that_does_not_fit_names_its_field_and_nothing_is_lost(
    gateway: RunningGateway, body: Any, field: str
) -> None:
    session_id, question = await asked(gateway, "asks")
    error = (await answer(gateway, session_id, question, 422, **body))["error"]
    assert error["code"] == "invalid_field"
    assert field in error["message"]
    assert (await gateway.state(session_id))["questions"] == [question]
    await answer(gateway, session_id, question, content=GOOD)
    await ended(gateway, session_id)


async def test_of_two_answers_at_once_the_first_counts_and_the_other_is_told(gateway: RunningGateway) -> None:
    session_id, question = await asked(gateway, "asks")
    path = f"/api/sessions/{session_id}/questions/{question['question_id']}"
    bodies = [{"action": "accept", "content": {**GOOD, "name": f"n{n}"}} for n in range(8)]
    answers = await asyncio.gather(*(ask(gateway.http, "POST", path, body) for body in bodies))
    assert sorted(one.status for one in answers) == [200, *[409] * 7]
    [winner] = [n for n, one in enumerate(answers) if one.status == 200]
    late = next(one for one in answers if one.status == 409)
    assert (late.code, "answered" in late.body["error"]["message"]) == ("question_closed", True)
    assert f'"n{winner}"' in await ended(gateway, session_id)
    assert len(await events_of(gateway, session_id, "question_answered")) == 1


async def test_an_answer_after_the_turn_is_409_and_an_unknown_question_404(gateway: RunningGateway) -> None:
    session_id, question = await asked(gateway, "asks")
    assert (await answer(gateway, session_id, "t0.q1", 404))["error"]["code"] == "question_not_found"
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await gateway.post("/api/interrupt", {"session_id": session_id})
        event = await stream.until_event("question_answered")
        assert (event.data["outcome"], event.data["content"]) == ("cancel", None)
    assert await ended(gateway, session_id) == "cancel"
    error = (await answer(gateway, session_id, question, 409, content=GOOD))["error"]
    assert (error["code"], "its turn is over" in error["message"]) == ("question_closed", True)
    assert (await answer(gateway, fresh_id("nobody"), question, 404))["error"]["code"] == "session_not_found"


async def test_an_address_is_shown_with_its_host_and_accepted(gateway: RunningGateway) -> None:
    session_id, question = await asked(gateway, "opens")
    assert (question["mode"], question["host"]) == ("url", "example.org")
    assert question["url"] == "https://example.org/sign-in?x=1"
    await answer(gateway, session_id, question, 422, content={"a": 1})
    await answer(gateway, session_id, question)
    assert await ended(gateway, session_id) == "accept"


async def test_an_address_that_is_done_needs_no_answer(gateway: RunningGateway) -> None:
    session_id = fresh_id("completes")
    await gateway.send(session_id, "go", agent="completes")
    assert await ended(gateway, session_id) == "done"
    [said] = await events_of(gateway, session_id, "question_answered")
    assert said["outcome"] == "complete"


async def test_a_question_that_the_agent_takes_back_is_over(gateway: RunningGateway) -> None:
    session_id = fresh_id("takes-back")
    await gateway.send(session_id, "go", agent="takes_back")
    assert await ended(gateway, session_id) == "done"
    assert [e["outcome"] for e in await events_of(gateway, session_id, "question_answered")] == ["cancel"]


@pytest.mark.parametrize(("agent", "words"), [("huge", "10000 choices"), ("misleads", "https://")])
async def test_a_hostile_question_is_refused_and_its_user_reads_that(
    gateway: RunningGateway, agent: str, words: str
) -> None:
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    told = await ended(gateway, session_id)
    assert told.startswith("refused: ")
    assert words in told
    [notice] = await events_of(gateway, session_id, "notice")
    assert (notice["code"], words in notice["text"]) == ("question_refused", True)


async def test_a_question_outside_of_a_turn_is_cancelled(gateway: RunningGateway) -> None:
    session_id = fresh_id("early")
    await gateway.send(session_id, "go", agent="too_early")
    await ended(gateway, session_id)
    said = [message["content"] for message in (await gateway.state(session_id))["messages"]]
    assert {"hello", 'elicitation/create: {"action":"cancel"}'} <= set(said)
    assert await events_of(gateway, session_id, "question_asked") == []


async def test_an_agent_asks_no_more_than_so_many_at_once(gateway: RunningGateway) -> None:
    session_id = fresh_id("much")
    await gateway.send(session_id, "go", agent="asks_much")
    state = await state_when(gateway.http, session_id, lambda s: "all asked" in s["messages"][-1]["content"])
    assert len(state["questions"]) == 16
    await gateway.post("/api/interrupt", {"session_id": session_id})
    assert (await gateway.state(session_id))["questions"] == []


async def test_a_question_ends_with_the_worker(gateway: RunningGateway) -> None:
    session_id = fresh_id("dies")
    await gateway.send(session_id, "go", agent="dies")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    [question] = await events_of(gateway, session_id, "question_asked")
    assert (await answer(gateway, session_id, question, 409))["error"]["code"] == "question_closed"
    assert (await gateway.state(session_id))["questions"] == []
