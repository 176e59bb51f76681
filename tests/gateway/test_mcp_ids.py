"""Where a conversation's id sits, which one wins, and that no cart is ever shared by strangers."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import pytest

from gateway.api.mcp.conversation import CallOrigin, MalformedConversation, Named, caller_of
from gateway.apps.shop.store import ShopKey
from gateway.principal import Principal
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.mcp_clients import PRODUCT, call, cart, post, refusal, result, said, text_of
from tests.patience import within
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway()
pytestmark = SHARED

RICE = PRODUCT.format(3)
KEYS = ("sessionId", "conversationId", "session_id", "openai/session")


async def source(gateway: RunningGateway, message: dict[str, Any]) -> tuple[str, str]:
    """(id, where it was found) of a debug_session."""
    structured = (await result(gateway.http, message))["structuredContent"]
    return structured["session_id"], structured["source"]


@pytest.mark.parametrize("key", KEYS)
async def test_an_id_is_found_in_either_meta(gateway: RunningGateway, key: str) -> None:
    name = fresh_id("v1/abc_DEF-=.~")
    assert await source(gateway, call("debug_session", meta={key: name})) == (name, f"params._meta.{key}")
    assert await source(gateway, call("debug_session", outer={key: name})) == (name, f"_meta.{key}")


async def test_an_id_is_found_in_the_arguments(gateway: RunningGateway) -> None:
    name = fresh_id()
    message = call("debug_session", {"_sessionId": name})
    assert await source(gateway, message) == (name, "arguments._sessionId")


async def test_the_first_in_the_order_wins_and_a_disagreement_is_logged(gateway: RunningGateway) -> None:
    names = [fresh_id(f"place-{number}") for number in range(9)]
    inner, outer = list(zip(KEYS, names[:4], strict=True)), list(zip(KEYS, names[4:8], strict=True))
    for number in range(9):
        message = call(
            "debug_session",
            {"_sessionId": names[8]},
            meta=dict(inner[number:4]),
            outer=dict(outer[max(0, number - 4) : 4]),
        )
        assert (await source(gateway, message))[0] == names[number]
    assert "names more than one conversation" in gateway.log()
    assert names[0] not in gateway.log()


async def test_agreement_is_not_logged(gateway: RunningGateway) -> None:
    before = gateway.log().count("more than one conversation")
    name = fresh_id()
    await result(gateway.http, call("view_cart", {"_sessionId": name}, meta={"sessionId": name}))
    assert gateway.log().count("more than one conversation") == before


async def test_without_an_id_every_call_has_a_fresh_cart_and_is_told_its_id(gateway: RunningGateway) -> None:
    message = call("add_to_cart", {"product_id": RICE})
    answers = [await result(gateway.http, message) for _ in range(3)]
    ids = [answer["_meta"]["_sessionId"] for answer in answers]
    assert len(set(ids)) == 3
    assert all(
        "⚠️ לא התקבל מזהה שיחה" in text_of(a) and i in text_of(a) for a, i in zip(answers, ids, strict=True)
    )
    assert all('סה"כ פריטים בעגלה: 1\n' in text_of(answer) for answer in answers)
    assert "without a conversation's id" in gateway.log()
    again = call("add_to_cart", {"product_id": RICE, "_sessionId": ids[0]})
    answer = await result(gateway.http, again)
    assert "33.00 ₪" in text_of(answer)
    assert "⚠️" not in text_of(answer)


async def test_reading_without_an_id_stores_nothing(gateway: RunningGateway) -> None:
    async def active() -> int:
        answer = await result(gateway.http, call("debug_session"))
        return int(answer["structuredContent"]["active_sessions"])

    before = await active()
    for tool in ("view_cart", "debug_session", "clear_cart"):
        await result(gateway.http, call(tool))
    await result(gateway.http, call("search_products", {"search": "rice"}))
    assert await active() == before


async def test_initialize_gives_the_transport_a_session_of_its_own(gateway: RunningGateway) -> None:
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    sessions = [(await post(gateway.http, message))[1]["Mcp-Session-Id"] for _ in range(2)]
    assert sessions[0] != sessions[1]
    await result(gateway.http, call("add_to_cart", {"product_id": RICE}), Mcp_Session_Id=sessions[0])
    first, second = [
        (await result(gateway.http, call("debug_session"), Mcp_Session_Id=session))["structuredContent"]
        for session in sessions
    ]
    assert (first["source"], first["items"]) == ("transport", 1)
    assert second["items"] == 0


@pytest.mark.parametrize("guessed", ["default", "1", "", "agw-", "agw-" + "g" * 32, "agw-" + "0" * 33])
async def test_a_transport_session_of_the_clients_own_making_is_none(
    gateway: RunningGateway, guessed: str
) -> None:
    answer = await result(gateway.http, call("debug_session"), Mcp_Session_Id=guessed)
    assert answer["structuredContent"]["source"] == "fresh"


async def test_a_named_id_comes_before_the_transports(gateway: RunningGateway) -> None:
    name = fresh_id()
    message = call("debug_session", meta={"session_id": name})
    answer = await result(gateway.http, message, Mcp_Session_Id="agw-" + "0" * 32)
    assert answer["structuredContent"]["session_id"] == name


@pytest.mark.parametrize(
    "value", [3, True, "", ["a"], {"a": 1}, "a\nb", "a\0", "x" * 257, "\u202e", "\u200b"]
)
async def test_an_id_that_is_none_is_refused_and_opens_no_cart(
    gateway: RunningGateway, value: object
) -> None:
    for place in ({"meta": {"sessionId": value}}, {"outer": {"session_id": value}}):
        text = await refusal(gateway.http, "add_to_cart", {"product_id": RICE}, **place)
        assert "מזהה השיחה" in text
    await refusal(gateway.http, "view_cart", {"_sessionId": value})
    await refusal(gateway.http, "view_cart", meta={"sessionId": "a", "openai/subject": value})
    assert "An id" not in await refusal(gateway.http, "view_cart", {"_sessionId": value, "locale": "en"})


@pytest.mark.parametrize("meta", [3, "alice", ["alice"], True])
async def test_a_meta_of_the_wrong_type_is_refused(gateway: RunningGateway, meta: object) -> None:
    status, _, body = await post(gateway.http, call("view_cart", meta=meta))
    assert (status, body["error"]["code"]) == (200, -32602)
    status, _, body = await post(gateway.http, call("view_cart", outer=meta))
    assert (status, body["error"]["code"]) == (400, -32602)


async def test_null_is_no_id(gateway: RunningGateway) -> None:
    message = call("debug_session", {"_sessionId": None}, meta={"sessionId": None})
    assert (await source(gateway, message))[1] == "fresh"


async def test_the_end_user_behind_chatgpt_narrows_the_owner(gateway: RunningGateway) -> None:
    name = fresh_id("v1/chat")
    people = [{"openai/session": name, "openai/subject": person} for person in ("v1/ann", "v1/ben")]
    await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": 2}, meta=people[0])
    await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": 5}, meta=people[1])
    totals = [await said(gateway.http, "view_cart", meta=person) for person in people]
    assert "33.00 ₪" in totals[0]
    assert "82.50 ₪" in totals[1]
    assert (await cart(gateway.http, name))["items"] == []


def key_of(conversation: str, principal: Principal, *, is_nobody: bool = False, subject: str = "") -> ShopKey:
    meta = {"sessionId": conversation} | ({"openai/subject": subject} if subject else {})
    origin = CallOrigin(principal=principal, is_nobody=is_nobody)
    return caller_of(Named(meta=meta, arguments={}, origin=origin)).key


async def test_no_subject_can_imitate_another_owner() -> None:
    me = Principal("a", "x")
    for subject in ("x", "a/x", "x/c"):
        assert key_of("c", me, subject=subject) != key_of("c", me)
    assert key_of("c", me, subject="y").owner == "a/x\ny"
    with pytest.raises(MalformedConversation):
        key_of("c", me, subject="x\ny")


async def test_a_visitor_without_a_cookie_has_a_cart_that_nobody_can_guess() -> None:
    nobody = [Principal("a", f"~{number}", "visitor") for number in range(2)]
    first, second = [key_of("alice", who, is_nobody=True) for who in nobody]
    assert first != second
    handle = first.conversation
    assert key_of(handle, nobody[1], is_nobody=True) == first
    people = [
        key_of("alice", who, is_nobody=True, subject=subject)
        for who, subject in zip(nobody, ("v1/ann", "v1/ben"), strict=True)
    ]
    assert people[0] != people[1]
    assert people[0] == key_of("alice", nobody[1], is_nobody=True, subject="v1/ann")
    assert len({people[0], people[1], key_of("alice", nobody[0]), first}) == 4


@pytest.mark.asyncio(loop_scope="function")
async def test_carts_survive_a_restart_and_end_after_their_time(tmp_path: pathlib.Path) -> None:
    meta, short = {"sessionId": "alice"}, {"sessionId": "bob"}
    async with gateway_inside(tmp_path) as first:
        await said(first.http, "add_to_cart", {"product_id": RICE, "quantity": 2}, meta=meta)
    config = "[shop]\nexpire_after_seconds = 1\n[sessions]\nsweep_interval_seconds = 0.2\n"
    async with gateway_inside(tmp_path, config=config) as second:
        await said(second.http, "add_to_cart", {"product_id": RICE, "quantity": 1}, meta=short)
        async with within(60):
            while "forgot 1 conversations" not in second.log():
                await asyncio.sleep(0.05)
        assert await said(second.http, "view_cart", meta=short) == "העגלה ריקה 🛒"
        assert "33.00 ₪" in await said(second.http, "view_cart", meta=meta), "kept a day, as it was promised"
