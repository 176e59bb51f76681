"""Turns: waiting for one, several, interrupting, holding, permissions, exactly once, wallet, system."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.gateways import RunningGateway
from tests.patience import counting
from tests.shared import SHARED, crowding, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED
gateway = shared_gateway(
    agents={
        "asks": "asks_permission",
        "untitled": "permission_without_title",
        "edits": "asks_with_its_diff",
    }
)

SLOW = "/count 1000 20"


def said(state: Any, sender: str) -> list[str]:
    return [message["content"] for message in state["messages"] if message["sender"] == sender]


async def running(gateway: RunningGateway, name: str) -> str:
    """A session in the middle of a long answer."""
    session_id = fresh_id(name)
    await gateway.send(session_id, SLOW)
    await state_when(gateway.http, session_id, lambda state: "3" in said(state, "agent")[-1])
    return session_id


async def queue(gateway: RunningGateway, session_id: str, action: str, **body: Any) -> Any:
    return await gateway.post(f"/api/sessions/{session_id}/queue", {"action": action, **body})


async def test_the_answer_to_a_chat_holds_the_message_and_an_empty_streaming_reply(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("first")
    state = await gateway.send(session_id, SLOW)
    assert state["is_processing"] is True
    assert [(m["sender"], m["content"], m["is_streaming"]) for m in state["messages"]] == [
        ("user", SLOW, False),
        ("agent", "", True),
    ]
    later = await state_when(gateway.http, session_id, lambda s: "2" in said(s, "agent")[0])
    stamps = [message["timestamp"] for message in state["messages"]]
    assert [message["timestamp"] for message in later["messages"]] == stamps
    await gateway.delete(session_id)


async def test_wait_answers_when_the_turn_ends_or_when_the_time_is_up(gateway: RunningGateway) -> None:
    session_id = fresh_id("wait")
    began = time.monotonic()
    state = await gateway.chat(session_id, "/count 3 10")
    assert (said(state, "agent"), state["is_processing"]) == (["1 2 3"], False)
    assert time.monotonic() - began < 5 * crowding()
    slower = round(crowding())  # the same for both, so that the time is up first on any machine
    state = await gateway.chat(session_id, f"/count 1000 {20 * slower}", wait=slower)
    assert state["is_processing"] is True
    assert said(state, "agent")[-1].startswith("1 2 3")
    await gateway.delete(session_id)


async def test_messages_of_a_busy_session_wait_and_are_answered_in_order(gateway: RunningGateway) -> None:
    session_id = fresh_id("queue")
    await gateway.send(session_id, counting(10, 0.2))
    for number in (1, 2, 3):
        state = await gateway.send(session_id, f"/echo {number}")
    assert (state["is_processing"], state["queued"]) == (True, 3)
    state = await gateway.chat(session_id, "/echo last")
    assert said(state, "agent") == ["1 2 3 4 5 6 7 8 9 10", "1", "2", "3", "last"]
    assert (state["queued"], state["is_processing"]) == (0, False)


async def test_the_twenty_first_waiting_message_is_429_and_the_others_stand(gateway: RunningGateway) -> None:
    session_id = await running(gateway, "full")
    for number in range(20):
        await gateway.send(session_id, f"/echo {number}")
    body = {"message": "/echo too many", "session_id": session_id}
    async with gateway.http.post("/api/chat", json=body) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
        error = (await response.json())["error"]
    assert (error["code"], error["session_id"]) == ("queue_full", session_id)
    state = await gateway.state(session_id)
    assert (state["queued"], "/echo too many" in said(state, "user")) == (20, False)
    await gateway.delete(session_id)


async def test_an_interrupt_keeps_the_text_and_says_so(gateway: RunningGateway) -> None:
    session_id = await running(gateway, "cut")
    began = time.monotonic()
    state = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert time.monotonic() - began < 1 * crowding()
    assert (state["is_processing"], said(state, "system")) == (False, ["Interrupted by user"])
    assert said(state, "agent")[0].startswith("1 2 3")
    assert not any(message["is_streaming"] for message in state["messages"])
    again = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert again["messages"] == state["messages"], "a second interrupt says nothing twice"
    state = await gateway.chat(session_id, "/echo on")
    assert said(state, "agent")[-1] == "on"


async def test_an_interrupt_with_nothing_running_changes_nothing(gateway: RunningGateway) -> None:
    session_id = fresh_id("calm")
    state = await gateway.chat(session_id, "/echo hi")
    after = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert after["messages"] == state["messages"]
    assert after["seq"] == state["seq"]


async def test_two_interrupts_at_once_are_one(gateway: RunningGateway) -> None:
    session_id = await running(gateway, "twice")
    body = {"session_id": session_id}
    states = await asyncio.gather(*(gateway.post("/api/interrupt", body) for _ in range(3)))
    for state in states:
        assert (state["is_processing"], said(state, "system")) == (False, ["Interrupted by user"])


async def test_an_interrupt_in_the_very_moment_of_its_chat_stops_it_or_comes_too_early(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("overtaken")
    await gateway.chat(session_id, "/echo warm")
    for pause in (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005):
        chatting = asyncio.create_task(gateway.send(session_id, SLOW))
        await asyncio.sleep(pause)  # any moment of the commit may be the one that goes wrong
        await gateway.post("/api/interrupt", {"session_id": session_id})
        await chatting
        state = await gateway.post("/api/interrupt", {"session_id": session_id})
        assert (state["is_processing"], said(state, "system")[-1]) == (False, "Interrupted by user")
    assert said(await gateway.chat(session_id, "/echo still here"), "agent")[-1] == "still here"


async def test_messages_behind_an_interrupt_are_held_and_sent_on_demand(gateway: RunningGateway) -> None:
    session_id = await running(gateway, "held")
    await gateway.send(session_id, "/echo one")
    await gateway.send(session_id, "/echo two")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        state = await gateway.post("/api/interrupt", {"session_id": session_id})
        assert (state["is_processing"], state["queued"]) == (False, 2)
        notice = await stream.until_event("notice")
        assert notice.data["code"] == "queue_held"
        assert notice.data["text"] == "2 waiting messages are held; send or drop them."
        await queue(gateway, session_id, "send")
        for _ in range(2):
            await stream.until_event("turn_ended")
    state = await state_when(gateway.http, session_id, lambda s: s["queued"] == 0 and not s["is_processing"])
    assert said(state, "agent")[1:] == ["one", "two"]


async def test_held_messages_can_be_dropped_one_or_all(gateway: RunningGateway) -> None:
    session_id = await running(gateway, "dropped")
    for number in (1, 2, 3):
        await gateway.send(session_id, f"/echo {number}")
    await gateway.post("/api/interrupt", {"session_id": session_id})
    async with open_stream(gateway.http, session_id, after=0) as stream:
        held = await stream.until(lambda f: f.event == "queue" and f.data["is_held"])
        assert [waiting["text"] for waiting in held.data["waiting"]] == ["/echo 1", "/echo 2", "/echo 3"]
        await queue(gateway, session_id, "drop", message_id=held.data["waiting"][1]["message_id"])
        assert (await gateway.state(session_id))["queued"] == 2
        await queue(gateway, session_id, "drop")
    state = await gateway.chat(session_id, "/echo next")
    assert (state["queued"], said(state, "agent")[1:]) == (0, ["next"])


async def test_waiting_messages_are_changed_and_put_in_another_order(gateway: RunningGateway) -> None:
    session_id = await running(gateway, "reordered")
    async with open_stream(gateway.http, session_id) as stream:
        for text in ("/echo one", "/echo two", "/echo three"):
            await gateway.send(session_id, text)
        found = await stream.until(lambda f: f.event == "queue" and len(f.data["waiting"]) == 3)
        one, _two, three = [waiting["message_id"] for waiting in found.data["waiting"]]

        async def change(message_id: str, status: int = 200, **body: Any) -> Any:
            path = f"/api/sessions/{session_id}/queue/{message_id}"
            async with gateway.http.patch(path, json=body) as answer:
                assert answer.status == status
                return await answer.json()

        await change(three, message="/echo III", before=one)
        await change(one, before="")
        assert (await change("nobody", 409, message="x"))["error"]["code"] == "message_not_waiting"
        assert (await change(one, 409, before="nobody"))["error"]["code"] == "message_not_waiting"
        assert (await change(one, 422))["error"]["code"] == "invalid_field"
        assert (await change(one, 413, message="x" * 70_000))["error"]["code"] == "message_too_long"
        last = await stream.until(lambda f: f.event == "queue" and f.data["waiting"][-1]["message_id"] == one)
        assert [waiting["text"] for waiting in last.data["waiting"]] == [
            "/echo III",
            "/echo two",
            "/echo one",
        ]
        await gateway.post("/api/interrupt", {"session_id": session_id})
        await queue(gateway, session_id, "send")
        state = await state_when(
            gateway.http, session_id, lambda s: said(s, "agent")[-3:] == ["III", "two", "one"]
        )
        assert "/echo III" in said(state, "user")
        assert "/echo three" not in said(state, "user")
    await gateway.delete(session_id)


async def test_a_dropped_message_is_marked_as_one_that_the_agent_does_not_get(
    gateway: RunningGateway,
) -> None:
    session_id = await running(gateway, "withdrawn")
    await gateway.send(session_id, "/echo never")
    await queue(gateway, session_id, "drop")
    state = await gateway.state(session_id)
    assert [m["content"] for m in state["messages"] if m.get("is_withdrawn")] == ["/echo never"]
    await gateway.delete(session_id)


async def test_a_queue_action_that_does_not_exist_is_422(gateway: RunningGateway) -> None:
    session_id = fresh_id("action")
    await gateway.chat(session_id, "/echo hi")
    error = await gateway.post(f"/api/sessions/{session_id}/queue", {"action": "shuffle"}, status=422)
    assert "send or drop" in error["error"]["message"]


async def asked(gateway: RunningGateway, name: str, **body: Any) -> tuple[str, Any]:
    """A session whose agent waits for a permission."""
    session_id = fresh_id(name)
    await gateway.send(session_id, body.pop("message", "go"), **body)
    state = await state_when(gateway.http, session_id, lambda s: s["pending_permission"] is not None)
    return session_id, state["pending_permission"]


async def answer(gateway: RunningGateway, session_id: str, status: int = 200, **body: Any) -> Any:
    return await gateway.post(f"/api/sessions/{session_id}/permission", body, status=status)


@pytest.mark.parametrize(("option", "outcome"), [("allow_once", "deleted once"), ("reject_once", "kept")])
async def test_a_permission_is_asked_waits_and_is_answered_by_the_user(
    gateway: RunningGateway, option: str, outcome: str
) -> None:
    session_id, pending = await asked(gateway, "asks", agent="asks")
    assert pending["title"] == "Delete everything?"
    assert option in [choice["option_id"] for choice in pending["options"]]
    summary = await gateway.get(f"/api/sessions/{session_id}")
    assert summary["state"] == "waiting"
    summary = await answer(gateway, session_id, permission_id=pending["permission_id"], option_id=option)
    assert summary["session_id"] == session_id
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    assert (said(state, "agent"), state["pending_permission"]) == ([outcome], None)
    error = await answer(gateway, session_id, 409, permission_id=pending["permission_id"], option_id=option)
    assert error["error"]["code"] == "permission_not_pending"


async def test_a_permission_is_not_answered_without_a_rule_or_a_person(gateway: RunningGateway) -> None:
    session_id, pending = await asked(gateway, "waits", message="/permission May I?")
    state = await gateway.chat(session_id, "/echo later", wait=1)
    assert (state["pending_permission"], state["queued"]) == (pending, 1)
    await answer(gateway, session_id, permission_id=pending["permission_id"], option_id="allow_always")
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"] and not s["queued"])
    assert said(state, "agent") == ["You allowed it once (allow_once).", "later"]


@pytest.mark.parametrize(
    "wrong", [{"option_id": "allow_everything"}, {"permission_id": "t0.p1"}, {"permission_id": ""}]
)
async def test_a_wrong_answer_to_a_permission_is_409_and_the_question_stands(
    gateway: RunningGateway, wrong: dict[str, str]
) -> None:
    session_id, pending = await asked(gateway, "wrong", agent="asks")
    given = {"permission_id": pending["permission_id"], "option_id": "allow_once", **wrong}
    assert (await answer(gateway, session_id, 409, **given))["error"]["code"] == "permission_not_pending"
    assert (await gateway.state(session_id))["pending_permission"] == pending
    await gateway.delete(session_id)


async def test_an_interrupt_cancels_the_question_and_leaves_no_empty_answer(gateway: RunningGateway) -> None:
    session_id, pending = await asked(gateway, "cancelled", agent="asks")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        state = await gateway.post("/api/interrupt", {"session_id": session_id})
        assert (state["pending_permission"], state["is_processing"]) == (None, False)
        answered = await stream.until_event("permission_answered")
        assert (answered.data["outcome"], answered.data["option_id"]) == ("cancelled", None)
    error = await answer(
        gateway, session_id, 409, permission_id=pending["permission_id"], option_id="allow_once"
    )
    assert error["error"]["code"] == "permission_not_pending"
    assert [message["sender"] for message in state["messages"]] == ["user", "system"]
    async with open_stream(gateway.http, session_id, after=10**9) as stream:
        resync = (await stream.until_event("resync")).data
    shown = [item["sender"] for item in resync["chat"]["items"] if item["kind"] == "message"]
    assert (shown, resync["state"]["messages"]) == (["user", "system"], state["messages"])
    state = await gateway.send(session_id, "go on")
    senders = [message["sender"] for message in state["messages"]]
    assert senders[:3] == ["user", "system", "user"]  # and an answer, unless the agent asks already
    await gateway.delete(session_id)


async def test_a_permission_without_a_title_has_words_and_options_of_its_own(gateway: RunningGateway) -> None:
    session_id, pending = await asked(gateway, "untitled", agent="untitled")
    assert pending["title"]
    assert [option["option_id"] for option in pending["options"]] == ["0", "1"]
    await answer(gateway, session_id, permission_id=pending["permission_id"], option_id="1")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])


async def test_what_is_asked_for_is_shown_before_the_question(gateway: RunningGateway) -> None:
    session_id, pending = await asked(gateway, "edits", agent="edits")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        call = (await stream.until_event("tool_call")).data
        question = (await stream.until_event("permission_asked")).data
        assert call["seq"] < question["seq"]
        assert question["tool_call_id"] == call["tool_call_id"] == pending["tool_call_id"]
        assert (call["kind"], call["status"]) == ("edit", "pending")
        assert call["content"][0]["newText"] == "new words"
        assert call["raw_input"]["replace_all"] is True
        assert [place["path"] for place in call["locations"]] == ["/work/notes.txt", "/work/index.txt"]
        await answer(gateway, session_id, permission_id=pending["permission_id"], option_id="allow_once")
        update = (await stream.until_event("tool_call")).data
        assert (update["tool_call_id"], update["status"]) == (call["tool_call_id"], "completed")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])


async def keyed(gateway: RunningGateway, key: str, message: str, *, status: int = 200, **body: Any) -> Any:
    headers = {"Idempotency-Key": key}
    return await gateway.post(
        "/api/chat?wait=240", {"message": message, **body}, status=status, headers=headers
    )


async def test_the_same_key_and_body_is_one_turn_also_in_parallel(gateway: RunningGateway) -> None:
    session_id = fresh_id("key")
    for _ in range(2):
        await asyncio.gather(*(keyed(gateway, "k1", "/echo once", session_id=session_id) for _ in range(5)))
    state = await gateway.chat(session_id, "/echo end")
    assert said(state, "user") == ["/echo once", "/echo end"]
    state = await keyed(gateway, "k2", "/echo once", session_id=session_id)
    assert said(state, "user") == ["/echo once", "/echo end", "/echo once"]


async def test_a_key_without_an_id_comes_back_to_the_session_that_it_made(gateway: RunningGateway) -> None:
    states = await asyncio.gather(*(keyed(gateway, "made", "/echo hi") for _ in range(4)))
    assert len({state["session_id"] for state in states}) == 1
    assert said(await gateway.state(states[0]["session_id"]), "user") == ["/echo hi"]


async def test_a_key_with_another_body_or_session_is_422(gateway: RunningGateway) -> None:
    session_id = fresh_id("key")
    await keyed(gateway, "k3", "/echo one", session_id=session_id)
    for message, other in (("/echo two", session_id), ("/echo one", fresh_id("key"))):
        error = (await keyed(gateway, "k3", message, status=422, session_id=other))["error"]
        assert error["code"] == "idempotency_mismatch"
    assert said(await gateway.state(session_id), "user") == ["/echo one"]


async def test_a_system_message_is_answered_exactly_and_heard_with_the_next_prompt(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("system")
    text = '  Transaction "0x1" sent\u2028\n\tדאצ 🪙 '
    state = await gateway.post("/api/system", {"message": text, "session_id": session_id})
    assert state["res"] == state["messages"][-1]
    assert (state["res"]["sender"], state["res"]["content"]) == ("system", text)
    assert state["is_processing"] is False


async def test_a_wallet_transaction_waits_as_a_string_until_its_result_comes(gateway: RunningGateway) -> None:
    session_id = fresh_id("wallet")
    state = await gateway.chat(session_id, '/wallet {"value": "1", "to": "0xabc", "data": {"b": 1, "a": 2}}')
    assert state["pending_wallet_tx"] == '{"data":{"a":2,"b":1},"to":"0xabc","value":"1"}'
    state = await gateway.post("/api/system", {"message": "Transaction sent: 0x1", "session_id": session_id})
    assert state["pending_wallet_tx"] is None
