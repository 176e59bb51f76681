"""Product chat over REST: both dialects, the exact words, and who may do what."""

from __future__ import annotations

import contextlib
import functools
import itertools
import pathlib
import secrets
import sqlite3
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from gateway.apps.product_chat import numbering
from gateway.apps.product_chat.store_postgresql import PostgresqlProducts
from gateway.apps.product_chat.store_sqlite import SqliteProducts
from gateway.errors import StoreFailed
from tests.patience import counting
from tests.products.shop import (
    ADMIN_CHATS,
    CHATS,
    PASSWORD,
    Browser,
    Shop,
    fresh_id,
    running_shop,
    shared_shop,
)
from tests.shared import SHARED, eventually
from tests.stored import kind

shop = shared_shop(session_rate=6000, visitor_rate=6000, address_rate=6000)
pytestmark = SHARED


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(shop: Shop) -> AsyncIterator[Browser]:
    async with shop.visitor() as browser:
        yield browser


def has(count: int, messages: list[Any]) -> bool:
    return len(messages) == count


def texts(messages: list[Any]) -> list[str]:
    return [message["message_text"] for message in messages]


async def test_a_visitor_begins_chats_and_finds_everything_again(shop: Shop, visitor: Browser) -> None:
    name = fresh_id()
    body = {"session_id": name, "customer_name": "Dana O'Neil", "initial_message": "/echo hello"}
    made = await visitor.ask("POST", CHATS.format(2), body)
    assert made.json == {
        "message": "Chat session created successfully", "session_id": name, "product_name": "Enamel kettle",
        "existing": False,
    }  # fmt: skip
    again = await visitor.ask("POST", CHATS.format(2), body)
    assert again.json == {"message": "Session already exists", "session_id": name, "existing": True}
    said = await visitor.say(name, "/echo it's <b>fine</b>", product=2)
    assert said.json["message"] == "Message sent successfully"
    assert said.json["session_id"] == name
    assert said.json["sanitized"] is False
    messages = await visitor.until(name, lambda found: len(found) == 4, product=2)
    assert set(texts(messages)) == {"/echo hello", "hello", "/echo it's <b>fine</b>", "it's <b>fine</b>"}
    assert [m["id"] for m in messages] == sorted(m["id"] for m in messages)
    first = messages[0]
    assert set(first) == {
        "id", "session_id", "sender_type", "sender_id", "sender_name", "message_text", "message_type",
        "is_read", "created_at", "updated_at",
    }  # fmt: skip
    assert (first["sender_type"], first["sender_name"]) == ("customer", "Dana O'Neil")
    assert {m["sender_type"] for m in messages} == {"customer", "assistant"}


async def test_pages_say_where_they_stand(visitor: Browser) -> None:
    name = await visitor.begin()
    for number in range(3):
        await visitor.say(name, f"/echo {number}")
        await visitor.until(name, functools.partial(has, 2 * number + 2))
    page = await visitor.history(name, limit=4, offset=0, order="desc")
    assert page["pagination"] == {
        "total_count": 6, "limit": 4, "offset": 0, "has_more": True, "has_previous": False,
        "current_page": 1, "total_pages": 2,
    }  # fmt: skip
    assert page["unread_count"] == 3
    assert page["session_info"]["status"] == "active"
    rest = await visitor.history(name, limit=4, offset=4, order="desc")
    ids = [m["id"] for m in page["messages"] + rest["messages"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 6
    newest = await visitor.history(name, limit=2)
    assert [m["id"] for m in newest] == sorted(ids)[-2:]


@pytest.mark.parametrize("body", [None, [], {"message_ids": []}, {"mark_all": True}])
async def test_everything_is_marked_as_read(visitor: Browser, body: object) -> None:
    name = await visitor.begin(initial_message="/echo one")
    await visitor.until(name, lambda found: len(found) == 2)
    path = f"{CHATS.format(1)}/{name}/messages/read"
    answer = await visitor.ask("PUT", path, body)
    assert answer.json == {"message": "Marked 1 messages as read", "affected_rows": 1, "session_id": name}
    assert (await visitor.ask("PUT", path, body)).json["affected_rows"] == 0
    found = {m["sender_type"]: m["is_read"] for m in await visitor.history(name)}
    assert found == {"customer": False, "assistant": True}


async def test_only_the_named_messages_are_marked(visitor: Browser) -> None:
    name = await visitor.begin(initial_message="/echo one")
    messages = await visitor.until(name, lambda found: len(found) == 2)
    path = f"{CHATS.format(1)}/{name}/messages/read"
    assert (await visitor.ask("PUT", path, [messages[0]["id"], 999_999])).json["affected_rows"] == 0
    assert (await visitor.ask("PUT", path, {"message_ids": [messages[1]["id"]]})).json["affected_rows"] == 1


LONG = "x" * 2001


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", CHATS.format(0), {"session_id": "a"}, 400, "Invalid product ID"),
        ("POST", CHATS.format("x"), {"session_id": "a"}, 400, "Invalid product ID"),
        ("POST", CHATS.format(999), {"session_id": "a"}, 404, "Product not found"),
        ("POST", CHATS.format(1), {"session_id": ""}, 400, "Session ID cannot be empty"),
        ("POST", CHATS.format(1), {"session_id": "a" * 256}, 400, "Session ID too long"),
        ("POST", CHATS.format(1), {"session_id": "a b"}, 400, "Session ID contains invalid characters"),
        ("POST", CHATS.format(1), {"session_id": "é"}, 400, "Session ID contains invalid characters"),
        ("GET", CHATS.format(1) + "/NAME/messages?limit=0", None, 400, "Limit must be between 1 and 100"),
        ("GET", CHATS.format(1) + "/NAME/messages?limit=101", None, 400, "Limit must be between 1 and 100"),
        ("GET", CHATS.format(1) + "/NAME/messages?limit=abc", None, 422, "Limit must be a whole number"),
        ("GET", CHATS.format(1) + "/NAME/messages?offset=abc", None, 422, "Offset must be a whole number"),
        ("PUT", CHATS.format(1) + "/NAME/messages/read", {}, 422, "Name message_ids, or say mark_all"),
        ("PUT", CHATS.format(1) + "/NAME/messages/read", [-1], 422, "Expected `int` >= 1 - at `$[0]`"),
        ("PUT", CHATS.format(1) + "/NAME/messages/read", list(range(1, 102)), 400,
         "Cannot mark more than 100 messages at once"),
        ("POST", CHATS.format(1), {"session_id": "a", "customer_email": "nobody"}, 422,
         "Customer email is not an e-mail address"),
        ("POST", CHATS.format(1) + "/NAME/messages", {"message_text": "hi", "customer_email": "a@b"}, 422,
         "Customer email is not an e-mail address"),
        ("GET", CHATS.format(1) + "/nobody/messages", None, 404, "Chat session not found"),
        ("GET", CHATS.format(2) + "/NAME/messages", None, 404, "Chat session not found"),
        ("POST", CHATS.format(1) + "/NAME/messages", {"message_text": " \n"}, 400,
         "Message text cannot be empty"),
        ("POST", CHATS.format(1) + "/NAME/messages", {"message_text": "\u0000"}, 400,
         "Message text cannot be empty"),
        ("POST", CHATS.format(1) + "/NAME/messages", {"message_text": LONG}, 400,
         "Message text cannot exceed 2000 characters"),
        ("POST", CHATS.format(1) + "/NAME/messages", {"message_text": "hi", "sender_type": "admin"}, 403,
         "Admin credentials are required"),
        ("POST", CHATS.format(1) + "/NAME/messages", {"message_text": "hi", "sender_type": "system"}, 403,
         "Admin credentials are required"),
        ("POST", CHATS.format(2), {"session_id": "NAME"}, 409, "Session ID is in use; make a new one"),
        ("POST", "/api/login", {"username": "ruth", "password": "no"}, 401, "Invalid username or password"),
        ("POST", "/api/login", {"username": "nobody", "password": PASSWORD}, 401,
         "Invalid username or password"),
    ],
)  # fmt: skip
async def test_a_refusal_says_why_in_the_words_that_clients_know(
    visitor: Browser, method: str, path: str, body: Any, status: int, words: str
) -> None:
    name = await visitor.begin()
    if isinstance(body, dict) and body.get("session_id") == "NAME":
        body = {"session_id": name}
    answer = await visitor.ask(method, path.replace("NAME", name), body)
    assert (answer.status, answer.json) == (status, {"detail": words})


async def test_the_id_of_a_chat_opens_nothing_to_somebody_else(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin(initial_message="/echo secret")
    async with shop.visitor() as stranger:
        path = f"{CHATS.format(1)}/{name}/messages"
        assert (await stranger.ask("GET", path)).status == 404
        assert (await stranger.say(name, "let me in")).status == 404
        assert (await stranger.ask("PUT", path + "/read", [])).status == 404
        assert (await stranger.ask("POST", CHATS.format(1), {"session_id": name})).status == 409


LISTED: Final = "http://localhost:1"


@contextlib.asynccontextmanager
async def cookieless(shop: Shop, origin: str | None = LISTED) -> AsyncIterator[Browser]:
    """A page of another origin, whose requests carry nothing that says who asks."""
    browser = Browser(shop.gateway)
    await browser.http.close()
    browser.http = aiohttp.ClientSession(shop.gateway.url, cookie_jar=aiohttp.DummyCookieJar())
    browser.origin = origin
    try:
        yield browser
    finally:
        await browser.http.close()


async def test_a_page_of_another_origin_opens_its_chat_by_the_chats_id(shop: Shop) -> None:
    async with cookieless(shop) as page:
        name = await page.begin(initial_message="/echo from afar")
        again = await page.ask("POST", CHATS.format(1), {"session_id": name})
        assert (again.status, again.json["existing"]) == (200, True)
        assert (await page.say(name, "/echo more")).status == 200
        await page.until(name, lambda found: "more" in texts(found))
        async with page.chat_socket(name) as socket:
            await page.say(name, "/echo live")
            await socket.until("chat_message", message="/echo live")
        marked = await page.ask("PUT", f"{CHATS.format(1)}/{name}/messages/read", None)
        assert marked.json["affected_rows"] >= 1
        assert (await page.ask("GET", "/api/sessions")).json["sessions"] == []
        state = (await page.ask("GET", "/api/state", params={"session_id": name})).json
        assert state["messages"] == [], "it opens product chat alone"


async def test_the_id_opens_no_chat_of_another_origin_and_none_of_a_visitor_with_a_cookie(
    shop: Shop, visitor: Browser
) -> None:
    name = await visitor.begin(initial_message="/echo mine")
    path = f"{CHATS.format(1)}/%s/messages"
    async with cookieless(shop) as page, cookieless(shop, None) as nobody:
        assert (await page.ask("GET", path % name)).status == 404
        assert (await page.ask("POST", CHATS.format(1), {"session_id": name})).status == 409
        theirs = await page.begin()
        assert (await nobody.ask("GET", path % theirs)).status == 404
        assert (await visitor.ask("GET", path % theirs)).status == 404
        short = f"s{secrets.token_hex(4)}"
        await page.begin(session_id=short)
        assert (await page.ask("GET", path % short)).status == 404


async def test_ids_cannot_be_tried(tmp_path: pathlib.Path) -> None:
    async with running_shop(tmp_path) as shop, cookieless(shop) as page:
        name = await page.begin()
        path = f"{CHATS.format(1)}/%s/messages"
        answers = [(await page.ask("GET", path % fresh_id())).status for _ in range(12)]
        assert (answers[:10], answers[-1]) == ([404] * 10, 429)
        assert (await page.ask("GET", path % name)).status == 429
        async with shop.visitor() as visitor:
            assert (await visitor.history(await visitor.begin())) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ADMIN_CHATS), ("POST", ADMIN_CHATS + "/x/respond"),
        ("PUT", ADMIN_CHATS + "/x/status?status=closed"),
        ("POST", ADMIN_CHATS + "/x/take-over"), ("GET", "/api/websocket/stats"),
        ("GET", "/api/websocket/sessions/x"), ("GET", "/api/debug/websocket-status"),
    ],
)  # fmt: skip
async def test_visitors_may_do_nothing_that_is_the_staffs(visitor: Browser, method: str, path: str) -> None:
    assert (await visitor.ask(method, path, {"message_text": "hi"})).status == 403


async def test_a_visitors_message_that_waits_stays_what_it_was_when_it_was_let_through(
    visitor: Browser,
) -> None:
    name = await visitor.begin(initial_message="/count 500 20")
    await visitor.say(name, "/echo this is allowed")
    (session,) = (await visitor.ask("GET", "/api/sessions")).json["sessions"]
    path = f"/api/sessions/{session['session_id']}"
    items = (await visitor.ask("GET", f"{path}/history")).json["items"]
    message_id = next(item["id"] for item in items if item.get("text") == "/echo this is allowed")
    changed = await visitor.ask("PATCH", f"{path}/queue/{message_id}", {"message": "/tools"})
    assert changed.status == 403, changed.json
    assert (await visitor.ask("PATCH", f"{path}/queue/{message_id}", {"before": ""})).status == 200
    await visitor.ask("POST", f"{path}/interrupt")


async def test_a_person_takes_over_answers_and_hands_back(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin(initial_message="/echo agent here")
    await visitor.until(name, lambda found: len(found) == 2)
    async with shop.staff() as ruth:
        listed = (await ruth.ask("GET", ADMIN_CHATS)).json["sessions"]
        chat = next(chat for chat in listed if chat["session_id"] == name)
        assert (chat["unread_count"], chat["status"]) == (1, "active")
        answered = await ruth.ask(
            "POST", f"{ADMIN_CHATS}/{name}/respond", {"message_text": "Ruth here, it's me"}
        )
        assert answered.status == 200, answer_words(answered)
        await visitor.say(name, "/echo are you a person?")
        messages = await visitor.history(name)
        assert [m["sender_type"] for m in messages] == ["customer", "assistant", "admin", "customer"]
        assert messages[2]["sender_name"] == "ruth"
        info = (await visitor.history(name, offset=0))["session_info"]
        assert info["status"] == "in_progress"
        back = await ruth.ask("POST", f"{ADMIN_CHATS}/{name}/hand-back", {})
        assert back.json["assigned_to"] is None
    await visitor.say(name, "/echo agent again")
    messages = await visitor.until(name, lambda found: len(found) == 6)
    assert texts(messages)[-1] == "agent again"
    assert "are you a person?" not in [m["message_text"] for m in messages if m["sender_type"] == "assistant"]


def answer_words(answer: Any) -> str:
    return f"{answer.status} {answer.json}"


async def test_the_staffs_answers_have_the_words_that_clients_know(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin(customer_email="dana@example.com", customer_name="Dana")
    path = f"{ADMIN_CHATS}/{name}"
    async with shop.staff() as ruth:
        said = await ruth.ask("POST", f"{path}/respond", {"message_text": "hello"})
        assert (said.status, said.json["message"]) == (200, "Response sent successfully")
        wrong = await ruth.ask("PUT", f"{path}/status?status=asleep", {})
        assert (wrong.status, wrong.json["detail"][:14]) == (400, "Invalid status")
        opened = await ruth.ask("PUT", f"{path}/status?status=active", {})
        assert "inquiry_id" not in opened.json
        closed = await ruth.ask("PUT", f"{path}/status?status=closed", {})
        assert isinstance(closed.json["inquiry_id"], int)


async def test_taking_over_silences_an_answer_that_runs(shop: Shop, visitor: Browser) -> None:
    async with shop.staff() as ruth:
        name = await visitor.begin(initial_message="/count 400 50")
        await visitor.say(name, "/echo queued")
        taken = await ruth.ask("POST", f"{ADMIN_CHATS}/{name}/take-over", {})
        assert taken.json["status"] == "in_progress"
        state = (await visitor.ask("GET", "/api/state", params={"session_id": name})).json
        assert not state["is_processing"], "the answer that ran has ended"
        await ruth.ask("POST", f"{ADMIN_CHATS}/{name}/respond", {"message_text": "mine"})
        messages = await visitor.until(name, lambda found: texts(found)[-1] == "mine")
        assert "queued" not in [m["message_text"] for m in messages if m["sender_type"] == "assistant"]
        assert not [m for m in messages if m["sender_type"] == "system"]


async def test_nothing_is_said_in_a_closed_chat(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin()
    async with shop.staff() as ruth:
        path = f"{ADMIN_CHATS}/{name}/status"
        assert (await ruth.ask("PUT", path + "?status=gone", {})).status == 400
        assert (await ruth.ask("PUT", path + "?status=closed", {})).json["status"] == "closed"
    refused = await visitor.say(name, "hello?")
    assert (refused.status, refused.json["detail"]) == (400, "Cannot send message to closed chat session")


async def test_a_resolved_chat_is_opened_again_by_its_visitor(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin()
    async with shop.staff() as ruth:
        await ruth.ask("PUT", f"{ADMIN_CHATS}/{name}/status?status=resolved", {})
    await visitor.say(name, "/echo one more thing")
    assert (await visitor.history(name, offset=0))["session_info"]["status"] == "active"


async def test_the_same_message_sent_twice_stands_once(visitor: Browser) -> None:
    name = await visitor.begin()
    first, second = [(await visitor.say(name, "/echo once", client_id="k1")).json for _ in range(2)]
    assert first["message_id"] == second["message_id"]
    messages = await visitor.until(name, lambda found: len(found) == 2)
    assert texts(messages) == ["/echo once", "once"]


async def test_control_characters_are_dropped_and_nothing_else(visitor: Browser) -> None:
    name = await visitor.begin()
    said = await visitor.say(name, "caf\u0065\u0301\u0007 <script>alert('x')</script>")
    assert said.json["sanitized"] is True
    assert texts(await visitor.history(name))[0] == "café <script>alert('x')</script>"


async def test_what_looks_like_spam_is_marked_and_a_call_for_a_person_is_urgent(
    shop: Shop, visitor: Browser
) -> None:
    spam, urgent = await visitor.begin(), await visitor.begin(2)
    await visitor.say(spam, "FREE MONEY http://a.example http://b.example http://c.example click here")
    await visitor.say(urgent, "I'd like to talk to a human, please", product=2)
    async with shop.staff() as ruth:
        chats = (await ruth.ask("GET", ADMIN_CHATS)).json["sessions"]
    found = [(c["session_id"], c["priority"], c["is_spam"]) for c in chats]
    assert found[0] == (urgent, "urgent", False)
    assert (spam, "normal", True) in found


async def test_lines_said_while_the_agent_answers_are_kept_and_become_one_prompt(
    shop: Shop, visitor: Browser
) -> None:
    """More than wait in any other conversation: only rates refuse a visitor."""
    name = await visitor.begin(initial_message="/count 400 50")
    lines = [f"/echo {number}" for number in range(23)]
    for line in lines:
        assert (await visitor.say(name, line)).status == 200
    stored = [m["message_text"] for m in await visitor.history(name) if m["sender_type"] == "customer"]
    assert stored == ["/count 400 50", *lines]
    await visitor.ask("POST", "/api/interrupt", {"session_id": name})
    assert (await visitor.say(name, "/echo after the pause")).status == 200
    told = "\n\n".join((*lines[:20], "/echo after the pause")).removeprefix("/echo ")
    await visitor.until(name, lambda found: answers(found)[1:] == [told])
    state = (await visitor.ask("GET", "/api/state", params={"session_id": name})).json
    assert (state["queued"], state["is_processing"]) == (0, False)


async def test_lines_that_wait_are_answered_together(visitor: Browser) -> None:
    name = await visitor.begin(initial_message=counting(10, 0.3))
    for line in ("/echo one", "/echo two", "/echo three"):
        await visitor.say(name, line)
    await visitor.until(name, lambda found: answers(found)[1:] == ["one\n\n/echo two\n\n/echo three"])


def answers(messages: list[Any]) -> list[str]:
    return [m["message_text"] for m in messages if m["sender_type"] == "assistant"]


async def test_too_many_messages_are_told_so_in_both_shapes(tmp_path: pathlib.Path) -> None:
    async with running_shop(tmp_path, visitor_rate=4) as shop, shop.visitor() as visitor:
        name = await visitor.begin()
        answers = [await visitor.say(name, f"/echo {n}") for n in range(3)]
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.json["retry_after"] == refused.json["detail"]["retry_after"] > 0
        assert refused.json["error"] == refused.json["detail"]["error"] == "rate_limited"
        assert "visitor" in refused.json["reason"]
        assert int(refused.headers["Retry-After"]) > 0
        async with shop.visitor() as other:
            assert (await other.say(await other.begin(), "/echo fine")).status == 200


async def test_chats_survive_a_restart_with_their_numbers(tmp_path: pathlib.Path) -> None:
    async with running_shop(tmp_path) as shop:
        browser = Browser(shop.gateway)
        name = await browser.begin(initial_message="/echo before")
        before = await browser.until(name, lambda found: len(found) == 2)
        cookies = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}
        await browser.http.close()
    async with running_shop(tmp_path) as shop:
        browser = Browser(shop.gateway)
        browser.http.cookie_jar.update_cookies(cookies)
        assert await browser.history(name) == before
        said = await browser.say(name, "/echo after")
        assert said.json["message_id"] > before[-1]["id"]
        messages = await browser.until(name, lambda found: len(found) == 4)
        await browser.http.close()
    assert texts(messages) == ["/echo before", "before", "/echo after", "after"]
    if kind() == "sqlite":
        _check_tables(tmp_path / "data" / "gateway.db")


def _check_tables(path: pathlib.Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA foreign_keys = ON")
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("SELECT count(*) FROM product_chat_messages").fetchone()[0] == 4
        with pytest.raises(sqlite3.IntegrityError):
            database.execute("UPDATE product_chat_messages SET session_id = 999")
    database.close()


async def test_an_answer_without_a_number_gets_one_as_soon_as_the_store_gives_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count(1)

    async def one_at_a_time(_store: object) -> range:
        if (number := next(asked)) == 2:
            raise StoreFailed
        return range(number, number + 1)

    for store in (SqliteProducts, PostgresqlProducts):
        monkeypatch.setattr(store, "numbers", one_at_a_time)
    monkeypatch.setattr(numbering, "AGAIN_SECONDS", 0.05)
    async with running_shop(tmp_path) as shop, shop.visitor() as visitor:
        name = await visitor.begin(initial_message="/echo one")
        await visitor.until(name, lambda found: len(found) == 2)
        await visitor.say(name, "/echo two")
        messages = await visitor.until(name, lambda found: len(found) == 4)
    assert texts(messages) == ["/echo one", "one", "/echo two", "two"]
    assert [message["id"] for message in messages] == [1, 3, 4, 5]


async def test_a_gateway_killed_in_mid_answer_leaves_no_message_without_a_number(
    tmp_path: pathlib.Path,
) -> None:
    async with running_shop(tmp_path, is_process=True) as shop:
        browser = Browser(shop.gateway)
        name = await browser.begin(initial_message="/count 400 20")
        cookies = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}
        await eventually(lambda: _has_begun_to_answer(browser, name))
        await browser.http.close()
        shop.gateway.process.kill()
        await shop.gateway.process.wait()
    async with running_shop(tmp_path) as shop:
        browser = Browser(shop.gateway)
        browser.http.cookie_jar.update_cookies(cookies)
        messages = await browser.until(name, lambda found: len(found) >= 3)
        await browser.http.close()
    assert [m["sender_type"] for m in messages] == ["customer", "assistant", "system"]
    assert "restarted" in messages[-1]["message_text"]


async def _has_begun_to_answer(browser: Browser, name: str) -> bool:
    state = (await browser.ask("GET", "/api/state", params={"session_id": name})).json
    return len(state["messages"]) == 2 and len(state["messages"][1]["content"]) > 10


async def test_the_six_verbs_read_the_same_conversation(visitor: Browser) -> None:
    name = await visitor.begin(initial_message="/echo one log")
    await visitor.until(name, lambda found: len(found) == 2)
    state = (await visitor.ask("GET", "/api/state", params={"session_id": name})).json
    assert [(m["sender"], m["content"]) for m in state["messages"]] == [
        ("user", "/echo one log"),
        ("agent", "one log"),
    ]
    await visitor.ask("POST", "/api/chat?wait=240", {"message": "/echo by a verb", "session_id": name})
    messages = await visitor.until(name, lambda found: len(found) == 4)
    assert texts(messages)[2] == "/echo by a verb"
    assert "The visitor wrote: /echo by a verb" in texts(messages)[3], (
        "it is a text, no command of the agent's"
    )
