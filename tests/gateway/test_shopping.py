"""The shopping assistant's face, as its clients know it: envelope, errors, events, expiries, isolation."""

from __future__ import annotations

import asyncio
import io
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.mcp_clients import PRODUCT
from tests.mcp_clients import said as mcp_said
from tests.shared import SHARED, Answer, ask, eventually, fresh_id, shared_gateway
from tests.stored import IN_A_FILE
from tests.streams import state_when

pytestmark = SHARED
PREFIX: Final = "/api/v1/shopping"
ENDLESS: Final = [{"say": {"text": "a ", "times": 400, "delay_ms": 20}}]
SLOW: Final = {"turns": [[{"say": "ready"}], ENDLESS, ENDLESS]}
gateway = shared_gateway()


async def call(gateway: RunningGateway, method: str, path: str, body: object = None, **kwargs: Any) -> Answer:
    return await ask(gateway.http, method, PREFIX + path, body, **kwargs)


async def data(gateway: RunningGateway, method: str, path: str, body: object = None) -> Any:
    """What a request that must succeed answers, out of its envelope."""
    answer = await call(gateway, method, path, body)
    assert answer.status == 200, answer.body
    assert list(answer.body) == ["success", "data", "meta", "error"]
    assert (answer.body["success"], answer.body["meta"], answer.body["error"]) == (True, None, None)
    return answer.body["data"]


async def query(gateway: RunningGateway, session_id: str, question: str) -> Any:
    return await data(gateway, "POST", "/query", {"q": question, "sessionId": session_id})


async def events(gateway: RunningGateway, session_id: str, question: str) -> list[Any]:
    """The frames of a streamed answer, decoded; the last is the text [DONE]."""
    body = {"q": question, "sessionId": session_id}
    async with gateway.http.post(PREFIX + "/query/stream", json=body) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert response.headers["X-Accel-Buffering"] == "no"
        raw = (await response.text()).split("\n\n")
    assert raw.pop() == ""
    frames = [frame.removeprefix("data: ") for frame in raw]
    return [frame if frame == "[DONE]" else json.loads(frame) for frame in frames]


def refused(answer: Answer, status: int, code: str, number: int) -> None:
    """An error in the envelope, whole."""
    assert answer.status == status, answer.body
    assert (answer.body["success"], answer.body["data"], answer.body["meta"]) == (False, None, None)
    error = answer.body["error"]
    assert set(error) == {"code", "message", "details", "numeric_code", "http_status", "timestamp"}
    assert (error["code"], error["numeric_code"], error["http_status"]) == (code, number, status)
    assert error["message"]


async def test_a_question_is_answered_with_what_was_found(gateway: RunningGateway) -> None:
    session_id = fresh_id("shop")
    answer = await query(gateway, session_id, "show me quinoa")
    assert (answer["intent"], answer["error"], answer["cached"]) == ("Product_Inquiry", None, False)
    assert "quinoa" in answer["answer"]
    assert "quinoa" in answer["context"][0]["name_en"].lower()
    assert 0 < answer["context_window"]["tokens"] <= answer["context_window"]["limit"]
    sold = await query(gateway, session_id, "add two of the first")
    assert (sold["intent"], "2" in sold["answer"]) == ("Sales", True)
    cart = await data(gateway, "GET", f"/session/{session_id}/cart")
    assert (cart["item_count"], cart["cart"][0]["quantity"]) == (1, 2)


@pytest.mark.parametrize(
    ("question", "intent"),
    [
        ("hello there", "Greeting"), ("שלום", "Greeting"), ("do you have tahini?", "Product_Inquiry"),
        ("יש לכם טחינה?", "Product_Inquiry"), ("what is in my cart", "Sales"),
        ("what are your shipping times?", "FAQ"), ("tell me a joke", "Other"),
    ],
)  # fmt: skip
async def test_intents(gateway: RunningGateway, question: str, intent: str) -> None:
    assert (await query(gateway, fresh_id("intent"), question))["intent"] == intent


async def test_a_streamed_answer_comes_in_its_events_and_is_stored(gateway: RunningGateway) -> None:
    session_id = fresh_id("stream")
    frames = await events(gateway, session_id, "show me lentils")
    kinds = [frame if isinstance(frame, str) else frame["type"] for frame in frames]
    head = ["intent", "retrieving", "context_retrieved", "metadata"]
    assert kinds[:4] == head
    assert kinds[-3:] == ["final", "complete", "[DONE]"]
    assert set(kinds[4:-3]) == {"content"}
    asked = {"intent": "Product_Inquiry", "question": "show me lentils"}
    assert frames[0] == {"type": "intent", "chunk_type": "intent", **asked}
    assert kinds[:-1] == [frame["chunk_type"] for frame in frames[:-1]]
    assert frames[2]["context_count"] == len(frames[3]["context"]) > 0
    assert frames[2]["retrieval_quality"] == "high"
    assert frames[-3]["confidence"] == "high"
    content = [frame for frame in frames if not isinstance(frame, str) and frame["type"] == "content"]
    assert [frame["is_final"] for frame in content] == [False] * (len(content) - 1) + [True]
    told = "".join(frame["content"] for frame in content)
    kept = await data(gateway, "GET", f"/session/{session_id}/conversation")
    assert [message["role"] for message in kept["conversation"]] == ["user", "assistant"]
    assert kept["conversation"][1]["content"] == told
    state = await gateway.state(session_id)
    assert state["messages"][-1]["content"] == told, "the same conversation over the six verbs"


async def test_an_equal_question_is_answered_again_until_something_changes(gateway: RunningGateway) -> None:
    session_id, other = fresh_id("cache"), fresh_id("cache")
    first = await query(gateway, session_id, "Show me  rice?")
    again = await query(gateway, session_id, "show me rice")
    assert (first["cached"], again["cached"], again["answer"]) == (False, True, first["answer"])
    streamed = await events(gateway, session_id, "show me rice")
    assert streamed[3]["cached"] is True
    assert not (await query(gateway, other, "show me rice"))["cached"], "another session's answer"
    kept = await data(gateway, "GET", f"/session/{session_id}/conversation")
    assert kept["count"] == 6, "a repeated answer is in the conversation too"
    await data(gateway, "POST", f"/session/{session_id}/preferences", {"diet": "vegan"})
    assert not (await query(gateway, session_id, "show me rice"))["cached"]
    assert (await query(gateway, session_id, "show me rice"))["cached"]
    await query(gateway, session_id, "add one of the first")
    assert not (await query(gateway, session_id, "show me rice"))["cached"]
    buying = [await query(gateway, session_id, "add rice") for _ in range(2)]
    assert [answer["cached"] for answer in buying] == [False, False], "what changes something is done again"
    await gateway.delete(session_id)
    assert not (await query(gateway, session_id, "show me rice"))["cached"], "a deleted session's answer"


async def test_what_a_session_remembers(gateway: RunningGateway) -> None:
    session_id = fresh_id("info")
    await query(gateway, session_id, "show me quinoa, quinoa!")
    path = f"/session/{session_id}"
    stored = await data(gateway, "POST", f"{path}/preferences", {"diet": "vegan", "budget": 50})
    assert stored["message"] == "Preferences updated successfully"
    assert stored["preferences"] == {"diet": "vegan", "budget": 50}
    assert (await data(gateway, "POST", f"{path}/preferences", {"budget": 60}))["preferences"] == {
        "budget": 60
    }
    item = (
        await data(gateway, "POST", f"{path}/cart/add", {"name": "Basket", "price": 9.9, "colour": "red"})
    )["item"]
    assert (item["name"], item["price"], item["colour"]) == ("Basket", 9.9, "red")
    assert item["added_at"]
    info = await data(gateway, "GET", f"{path}/info")
    session, analytics = info["session_info"], info["analytics"]
    assert session["preferences"] == analytics["preferences"] == {"diet": "vegan", "budget": 60}
    assert [line["name"] for line in session["shopping_cart"]] == ["Basket"]
    assert analytics["session_duration"] == "0m"
    assert (analytics["user_message_count"], analytics["assistant_message_count"]) == (1, 1)
    assert (analytics["conversation_count"], session["conversation_count"]) == (2, 2)
    assert analytics["cart_item_count"] == 1
    assert analytics["top_topics"][0] == {"word": "quinoa", "count": 2}
    again = await data(gateway, "GET", f"{path}/info")
    assert again["analytics"]["last_active"] == analytics["last_active"], "reading is no use"
    cleared = await data(gateway, "DELETE", f"{path}/cart/clear")
    assert cleared == {"message": "Cart cleared successfully", "session_id": session_id}
    assert (await data(gateway, "GET", f"{path}/cart"))["item_count"] == 0


async def test_twenty_parallel_additions_keep_twenty(gateway: RunningGateway) -> None:
    session_id = fresh_id("parallel")
    await query(gateway, session_id, "hello")
    path = f"/session/{session_id}/cart/add"
    bodies = [{"name": f"Thing {number}", "price": 0.1} for number in range(20)]
    await asyncio.gather(*(data(gateway, "POST", path, body) for body in bodies))
    cart = await data(gateway, "GET", f"/session/{session_id}/cart")
    assert (cart["item_count"], cart["total"]) == (20, 2.0)
    assert {line["name"] for line in cart["cart"]} == {body["name"] for body in bodies}


async def test_the_page_puts_products_in_and_takes_them_out_and_buys(gateway: RunningGateway) -> None:
    session_id = fresh_id("page")
    await query(gateway, session_id, "hello")
    path = f"/session/{session_id}/cart"
    product = PRODUCT.format(3)
    await data(gateway, "POST", f"{path}/add", {"product_id": product, "quantity": 2})
    assert (await data(gateway, "GET", path))["cart"][0]["quantity"] == 2
    await data(gateway, "POST", f"{path}/remove", {"id": product})
    refused(await call(gateway, "POST", f"{path}/remove", {"id": product}), 404, "not_found", 1002)
    refused(await call(gateway, "POST", f"{path}/checkout", {}), 409, "invalid_input", 1001)
    await data(gateway, "POST", f"{path}/add", {"product_id": product})
    bought = (await data(gateway, "POST", f"{path}/checkout", {}))["purchase"]
    assert [line["id"] for line in bought["items"]] == [product]
    found = await data(gateway, "GET", "/products?search=quinoa&page_size=1")
    assert (len(found["products"]), found["pages"]) == (1, found["total"])
    assert len(found["categories"]) > 3


async def test_pages_of_a_conversation(gateway: RunningGateway) -> None:
    session_id = fresh_id("pages")
    for number in range(3):
        await query(gateway, session_id, f"hello {number}")
    path = f"/session/{session_id}/conversation"
    last = await data(gateway, "GET", f"{path}?limit=4")
    assert [message["role"] for message in last["conversation"]] == ["user", "assistant"] * 2
    assert (last["count"], last["next_before"]) == (4, 2)
    first = await data(gateway, "GET", f"{path}?limit=4&before={last['next_before']}")
    assert first["conversation"][0]["content"] == "hello 0"
    assert (first["count"], first["next_before"]) == (2, None)
    for limit in ("0", "201", "x"):
        refused(await call(gateway, "GET", f"{path}?limit={limit}"), 422, "invalid_input", 1001)


async def test_unknown_sessions(gateway: RunningGateway) -> None:
    path = f"/session/{fresh_id('nobody')}"
    assert (await data(gateway, "GET", f"{path}/conversation"))["conversation"] == []
    assert (await data(gateway, "GET", f"{path}/cart"))["cart"] == []
    for method, rest, body in (
        ("GET", "/info", None),
        ("POST", "/preferences", {"a": 1}),
        ("POST", "/cart/add", {"name": "x", "price": 1}),
        ("DELETE", "/cart/clear", None),
    ):
        refused(await call(gateway, method, path + rest, body), 404, "not_found", 1002)
    assert await gateway.state(path.rpartition("/")[2]) is not None
    refused(await call(gateway, "GET", f"{path}/info"), 404, "not_found", 1002)


BAD: Final[list[tuple[object, int]]] = [
    ({"q": "hi"}, 422), ({"sessionId": "a"}, 422), ({}, 422), ({"q": 1, "sessionId": "a"}, 422),
    ({"q": "hi", "sessionId": "../a"}, 422), ({"q": "hi", "sessionId": ""}, 400),
    ({"q": " ", "sessionId": "a"}, 400), ([], 422),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BAD)
async def test_bad_questions(gateway: RunningGateway, body: object, status: int) -> None:
    for path in ("/query", "/query/stream"):
        answer = await call(gateway, "POST", path, body)
        refused(answer, status, "invalid_input", 1001)
        if status == 422:
            assert answer.body["detail"][0]["loc"][0] == "body"
            assert set(answer.body["detail"][0]) == {"loc", "msg", "type"}
        else:
            assert "detail" not in answer.body


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        ({"sessionId": "a"}, ["body", "q"], "missing"), ({"q": "a"}, ["body", "sessionId"], "missing"),
        ({"q": 1, "sessionId": "a"}, ["body", "q"], "value_error"),
        ({"q": "a", "sessionId": "../a"}, ["body", "sessionId"], "value_error"),
    ],
)  # fmt: skip
async def test_a_field_that_is_missing_or_wrong_is_named(
    gateway: RunningGateway, body: object, loc: list[str], kind: str
) -> None:
    answer = await call(gateway, "POST", "/query", body)
    assert [(part["loc"], part["type"]) for part in answer.body["detail"]] == [(loc, kind)]
    assert answer.body["error"]["details"]["field"] == loc[-1]


@pytest.mark.parametrize("field", ["q", "sessionId"])
async def test_a_field_that_is_empty_is_named(gateway: RunningGateway, field: str) -> None:
    answer = await call(gateway, "POST", "/query", {"q": "hi", "sessionId": "a", field: ""})
    refused(answer, 400, "invalid_input", 1001)
    assert answer.body["error"]["details"]["field"] == field


async def test_a_quantity_counts_however_it_is_written(gateway: RunningGateway) -> None:
    path = f"/session/{fresh_id('written')}"
    await query(gateway, path.rpartition("/")[2], "hello")
    for quantity in (2, 2.0, "2"):
        item = {"name": "x", "price": 1, "quantity": quantity}
        assert (await data(gateway, "POST", f"{path}/cart/add", item))["item"]["quantity"] == 2


async def test_an_unknown_store_has_nothing(gateway: RunningGateway) -> None:
    assert (await data(gateway, "GET", "/products?store=nowhere"))["total"] == 0
    assert (await data(gateway, "GET", "/products?store=nitzat-haduvdevan"))["total"] == 50


@pytest.mark.parametrize(
    "body",
    [
        {"price": 1}, {"name": "x"}, {"name": "", "price": 1}, {"name": "x", "price": -1},
        {"name": "x", "price": "a"}, {"name": "x", "price": 1.001}, {"name": "x", "price": True},
        {"name": "x", "price": "1e999999999"}, {"name": "x", "price": 1, "quantity": 0},
        {"name": "x", "price": 1, "quantity": 1.5}, {"name": "x", "price": 1, "quantity": 1000},
        {"name": "x", "price": 1, "note": "y" * 3000}, {"name": "x" * 201, "price": 1},
    ],
)  # fmt: skip
async def test_bad_additions_change_nothing(gateway: RunningGateway, body: object) -> None:
    await query(gateway, "additions", "hello")
    refused(await call(gateway, "POST", "/session/additions/cart/add", body), 422, "invalid_input", 1001)
    assert (await data(gateway, "GET", "/session/additions/cart"))["item_count"] == 0


async def test_other_refusals_are_in_the_envelope_too(gateway: RunningGateway) -> None:
    await query(gateway, "refusals", "hello")
    path = "/session/refusals"
    big = {"q": "x" * 40_000, "sessionId": "refusals"}
    refused(await call(gateway, "POST", "/query", big), 413, "request_too_large", 1006)
    huge, kind = io.BytesIO(b'{"key":"' + b"x" * 2_000_000 + b'"}'), {"Content-Type": "application/json"}
    async with gateway.http.post(f"{PREFIX}{path}/preferences", data=huge, headers=kind) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (413, "request_too_large")
    bulky = {"key": "x" * 20_000}
    refused(await call(gateway, "POST", f"{path}/preferences", bulky), 413, "request_too_large", 1006)
    many = {str(number): number for number in range(100)}
    refused(await call(gateway, "POST", f"{path}/preferences", many), 413, "request_too_large", 1006)
    unknown = {"product_id": PRODUCT.format(9999)}
    refused(await call(gateway, "POST", f"{path}/cart/add", unknown), 404, "not_found", 1002)
    async with gateway.http.post(
        PREFIX + "/query", data=b"{", headers={"Content-Type": "application/json"}
    ) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (400, "invalid_input")
    async with gateway.http.post(PREFIX + "/query", data=b"q=x", headers={"Content-Type": "text/plain"}) as r:
        assert (r.status, (await r.json())["error"]["numeric_code"]) == (415, 1001)


@pytest.mark.parametrize(
    ("path", "status"), [("/health", "healthy"), ("/health/live", "alive"), ("/health/ready", "ready")]
)
async def test_health(gateway: RunningGateway, path: str, status: str) -> None:
    health = await data(gateway, "GET", path)
    assert set(health) - {"services"} == {"status", "timestamp", "uptime_seconds", "version"}
    assert health["status"] == status
    if "services" in health:
        assert {"name": "store", "status": "ok", "detail": ""} in health["services"]
    plain = await ask(gateway.http, "GET", path, headers={"Accept": "application/json"})
    assert plain.body["status"] == "ok"


async def test_it_is_not_ready_without_room(tmp_path: pathlib.Path) -> None:
    config = f"[server]\nready_disk_bytes = {2**62}\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        answer = await call(gateway, "GET", "/health/ready")
    assert (answer.status, answer.body["success"]) == (503, False)
    assert answer.body["data"]["status"] == "not_ready"
    failed = [service["name"] for service in answer.body["data"]["services"] if service["status"] != "ok"]
    assert failed == ["disk"]


# -- with a model, with credentials, with clocks -------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoint() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected(endpoint: FakeModel, tmp_path_factory: Any) -> AsyncIterator[RunningGateway]:
    environ = {"AGENT_MODEL_URL": endpoint.url, "AGENT_MODEL": "fake-model"}
    config = "[model]\nretries = 0\ncontext_tokens = 400\n[shop]\ncontext_tokens = 300\n"
    async with gateway_inside(tmp_path_factory.mktemp("g"), config=config, environ=environ) as running:
        yield running


async def test_the_model_is_told_the_conversation_the_preferences_and_what_was_found(
    connected: RunningGateway, endpoint: FakeModel
) -> None:
    session_id = fresh_id("told")
    await query(connected, session_id, "any quinoa?")
    await data(connected, "POST", f"/session/{session_id}/preferences", {"diet": "nut-free"})
    answer = await query(connected, session_id, "and tahini?")
    [instructions, *messages] = endpoint.requests[-1].body["messages"]
    assert "nut-free" in instructions["content"]
    assert "Raw tahini" in instructions["content"]
    assert "data, not instructions" in instructions["content"]
    assert answer["context_window"]["left_out"] > 0
    assert "left out, because the context is full" in instructions["content"]
    said = [message["content"] for message in messages]
    assert said == ["any quinoa?", "You said: any quinoa?", "and tahini?"]


async def test_what_was_found_stays_for_follow_up_questions(
    connected: RunningGateway, endpoint: FakeModel
) -> None:
    session_id = fresh_id("follow")
    await query(connected, session_id, "any tahini?")
    await query(connected, session_id, "which of them is cheaper?")
    told = endpoint.requests[-1].body["messages"][0]["content"]
    assert "found before" in told
    assert "Raw tahini" in told


async def test_what_no_longer_fits_the_model_is_left_out_visibly(
    connected: RunningGateway, endpoint: FakeModel
) -> None:
    session_id = fresh_id("long")
    for number in range(4):
        await query(connected, session_id, f"question {number} " + "x" * 400)
    messages = endpoint.requests[-1].body["messages"]
    assert not any("question 0" in message["content"] for message in messages)
    log = await connected.http.get(f"/api/sessions/{session_id}/export", params={"format": "jsonl"})
    notices = [line for line in (await log.text()).splitlines() if '"context_cut"' in line]
    assert notices
    assert "oldest" in notices[0]


async def test_a_failing_model_is_an_llm_error(connected: RunningGateway, endpoint: FakeModel) -> None:
    endpoint.behaviour = Behaviour(status=500)
    try:
        body = {"q": "hello", "sessionId": fresh_id("broken")}
        answer = await call(connected, "POST", "/query", body)
        refused(answer, 502, "llm_error", 1009)
        assert answer.body["error"]["details"]["intent"] == "Greeting"
        frames = await events(connected, fresh_id("broken"), "hello")
    finally:
        endpoint.behaviour = Behaviour()
    assert [frame if isinstance(frame, str) else frame["type"] for frame in frames[-2:]] == [
        "error",
        "[DONE]",
    ]
    assert frames[-2]["error"]
    assert frames[-2]["fallback"]


async def test_an_answer_that_takes_too_long_is_stopped(tmp_path: pathlib.Path) -> None:
    config = '[shop]\nagent = "slow"\nanswer_seconds = 0.5\n'
    async with gateway_inside(tmp_path, config=config, agents={"slow": SLOW}) as gateway:
        await gateway.send("s", "start", agent="slow")
        await state_when(gateway.http, "s", lambda state: not state["is_processing"])
        refused(await call(gateway, "POST", "/query", {"q": "hi", "sessionId": "s"}), 502, "llm_error", 1009)
        assert not (await gateway.state("s"))["is_processing"]
        config_error = (await events(gateway, "s", "again"))[-2]
        assert config_error["code"] == "answer_timeout"


async def test_two_people_with_the_same_id_share_nothing(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config="[auth]\nmodes = ['keys']\n") as gateway:
        unknown = await call(gateway, "POST", "/query", {"q": "hi", "sessionId": "s"})
        refused(unknown, 401, "unauthorized", 1003)
        alice, bob = [gateway.caller(await gateway.mint(name, subject=name)) for name in ("alice", "bob")]
        async with alice, bob:
            body = {"q": "show me quinoa", "sessionId": "s"}
            assert (await ask(alice, "POST", PREFIX + "/query", body)).status == 200
            await ask(alice, "POST", PREFIX + "/session/s/cart/add", {"name": "Secret", "price": 1})
            missing = await ask(bob, "GET", PREFIX + "/session/s/info")
            refused(missing, 404, "not_found", 1002)
            assert (await ask(bob, "GET", PREFIX + "/session/s/cart")).body["data"]["cart"] == []
            assert (await ask(bob, "POST", PREFIX + "/query", body)).body["data"]["cached"] is False
            reader = gateway.caller(await gateway.mint("reader", subject="reader", scopes=("read",)))
            async with reader:
                refused(await ask(reader, "POST", PREFIX + "/query", body), 403, "forbidden", 1004)


EXPIRING: Final = """
[sessions]
sweep_interval_seconds = 0.2
[shop]
conversation_seconds = 600
expire_after_seconds = 6000
"""


@IN_A_FILE
async def test_a_conversation_is_erased_from_the_log_before_the_cart_is_forgotten(
    tmp_path: pathlib.Path,
) -> None:
    canary = "canary-9f31"
    async with gateway_inside(tmp_path, config=EXPIRING) as gateway:
        await query(gateway, "s", f"show me quinoa {canary}")
        await data(gateway, "POST", "/session/s/cart/add", {"name": "Kept", "price": 1})
        assert canary.encode() in _bytes_of(gateway.data_path)

        async def is_erased() -> bool:
            return not (await gateway.state("s"))["messages"]

        assert not await is_erased()
        gateway.clock.advance(601)
        await eventually(is_erased)
        assert (await data(gateway, "GET", "/session/s/conversation"))["conversation"] == []
        assert (await data(gateway, "GET", "/session/s/cart"))["item_count"] == 1
        assert (await data(gateway, "GET", "/session/s/info"))["analytics"]["user_message_count"] == 0
        gateway.clock.advance(5400)
        refused(await call(gateway, "GET", "/session/s/info"), 404, "not_found", 1002)
        assert (await query(gateway, "s", "hello"))["cached"] is False


def _bytes_of(directory: pathlib.Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.glob("gateway.db*"))


async def test_the_mcp_client_of_the_same_person_fills_the_same_cart(gateway: RunningGateway) -> None:
    session_id = fresh_id("bell")
    await query(gateway, session_id, "hello")
    await mcp_said(
        gateway.http, "add_to_cart", {"product_id": PRODUCT.format(3)}, meta={"sessionId": session_id}
    )
    assert (await data(gateway, "GET", f"/session/{session_id}/cart"))["item_count"] == 1


async def test_who_goes_away_finds_the_answer_in_the_conversation(gateway: RunningGateway) -> None:
    session_id = fresh_id("gone")
    body = {"q": "show me tahini", "sessionId": session_id}
    async with aiohttp.ClientSession(gateway.url) as http:
        response = await http.post(PREFIX + "/query/stream", json=body)
        await response.content.readline()
        response.close()

    async def is_answered() -> bool:
        kept = await data(gateway, "GET", f"/session/{session_id}/conversation")
        return kept["count"] == 2 and "tahini" in kept["conversation"][1]["content"].lower()

    await eventually(is_answered)


async def test_insights_count_only_who_agreed_and_never_fewer_than_five(tmp_path: pathlib.Path) -> None:
    config = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n[tenants.beta]\n'
    async with gateway_inside(tmp_path, config=config) as own:
        watch = own.caller(await own.mint("watch", tenant="acme", scopes=("operate",)))
        shopper = own.caller(await own.mint("shopper", tenant="acme"))
        async with watch, shopper:

            async def insights(**query: str) -> Answer:
                return await ask(watch, "GET", "/api/admin/shop/insights", params=query)

            async def consent(number: int, counted: bool, **headers: str) -> Any:
                path = f"{PREFIX}/session/canary-{number}/consent"
                return (await ask(shopper, "POST", path, {"counted": counted}, headers=headers)).body["data"]

            for number in range(6):
                body = {"q": "quinoa", "sessionId": f"canary-{number}"}
                assert (await ask(shopper, "POST", f"{PREFIX}/query", body)).status == 200
            assert (await insights()).body["sessions"] is None, "nobody agreed yet"
            for number in range(4):
                assert (await consent(number, True))["counted"] is True
            assert (await insights()).body["sessions"] is None, "four could be guessed"
            assert (await consent(4, True, **{"Sec-GPC": "1"}))["counted"] is False
            assert (await insights()).body["sessions"] is None
            await consent(4, True)
            told = (await insights()).body
            assert told["sessions"] == 5
            assert "canary" not in str(told)
            await consent(0, False)
            assert (await insights()).body["sessions"] is None
            assert (await insights(tenant="beta")).status == 403
            assert (await ask(shopper, "GET", "/api/admin/shop/insights")).status == 403
