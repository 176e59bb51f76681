"""The shop's tools over MCP: what each says, what each refuses, and whose cart it touches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateways import RunningGateway
from tests.mcp_clients import PRODUCT, call, cart, refusal, result, said, text_of
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway()
pytestmark = SHARED

RICE, LENTILS, OUT_OF_STOCK = PRODUCT.format(3), PRODUCT.format(4), PRODUCT.format(17)


def of(session_id: str) -> dict[str, str]:
    return {"sessionId": session_id}


async def test_stores_are_listed(gateway: RunningGateway) -> None:
    text = await said(gateway.http, "list_stores")
    assert text == "🏪 **חנויות זמינות:**\n• **Nitzat Haduvdevan**\n  מוצרים: 50\n"


async def test_a_search_says_names_prices_categories_and_ids(gateway: RunningGateway) -> None:
    answer = await result(gateway.http, call("search_products", {"search": "קינואה"}))
    assert text_of(answer).startswith("נמצאו 2 מוצרים:\n\n• קינואה לבנה 500 גרם\n  מחיר: 24.90 ₪\n")
    assert "קטגוריה: דגנים וקטניות" in text_of(answer)
    assert f"מזהה: {PRODUCT.format(0)}" in text_of(answer)
    structured = answer["structuredContent"]
    assert structured["pagination"] == {
        "currentPage": 1,
        "totalPages": 1,
        "pageSize": 12,
        "totalProducts": 2,
        "hasNext": False,
        "hasPrev": False,
    }
    assert structured["filters"] == {"search": "קינואה", "category": None}
    first = structured["products"][0]
    assert (first["id"], first["price"], first["price_formatted"]) == (PRODUCT.format(0), 24.9, "24.9 ₪")
    flags = [first[name] for name in ("is_purchasable", "is_in_stock", "has_options")]
    assert flags == [True, True, False]
    assert first["product_type"] == "simple"
    assert answer["_meta"]["openai/outputTemplate"] == "ui://widget/products.html"
    assert answer["_meta"]["pictures"][first["id"]].startswith("data:image/svg+xml;base64,")


async def test_a_search_names_ten_and_pages_through_the_rest(gateway: RunningGateway) -> None:
    seen = []
    for page in range(1, 6):
        answer = await result(gateway.http, call("search_products", {"search": "", "page": page}))
        assert text_of(answer).count("•") == min(10, len(answer["structuredContent"]["products"]))
        seen += [product["id"] for product in answer["structuredContent"]["products"]]
        assert answer["structuredContent"]["pagination"]["hasNext"] == (page < 5)
        assert answer["structuredContent"]["pagination"]["hasPrev"] == (page > 1)
    assert seen == [PRODUCT.format(number) for number in range(50)]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"search": "QUINOA"}, 2),
        ({"search": "", "category": "Spices"}, 6),
        ({"search": "", "category": "תבלינים"}, 6),
        ({"search": "", "category": "Spice"}, 0),
        ({"search": "", "min_price": 30}, 2),
        ({"search": "", "max_price": 7.9}, 3),
        ({"search": "", "in_stock": False}, 2),
        ({"search": "nothing like this"}, 0),
        ({"search": "", "store": "nitzat-haduvdevan"}, 50),
        ({"search": "", "store": "Nitzat Haduvdevan"}, 50),
        ({"search": "", "store": "no-such-store"}, 0),
        ({"search": "", "page": "900", "page_size": 5.0, "min_price": "0", "in_stock": None}, 50),
        ({"search": "", "page": 900}, 50),
        ({"search": "' OR 1=1 --"}, 0),
    ],
)
async def test_a_search_is_filtered(gateway: RunningGateway, filters: dict[str, Any], count: int) -> None:
    answer = await result(gateway.http, call("search_products", filters))
    assert answer["structuredContent"]["pagination"]["totalProducts"] == count
    if not count:
        assert text_of(answer) == "לא נמצאו מוצרים התואמים לחיפוש"


async def test_a_cart_is_filled_seen_and_emptied(gateway: RunningGateway) -> None:
    me = of(fresh_id("cart"))
    assert await said(gateway.http, "view_cart", meta=me) == "העגלה ריקה 🛒"
    added = await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": 2}, meta=me)
    assert added == (
        '✓ המוצר נוסף לעגלה!\n\nאורז יסמין 1 ק"ג\nכמות: 2\n\nסה"כ פריטים בעגלה: 1\nסכום כולל: 33.00 ₪'
    )
    await said(gateway.http, "add_to_cart", {"product_id": LENTILS}, meta=me)
    answer = await result(gateway.http, call("view_cart", meta=me))
    assert text_of(answer).startswith("🛒 **העגלה שלך:**")
    assert text_of(answer).endswith('**סה"כ לתשלום: 42.90 ₪**')
    assert answer["structuredContent"]["total"] == 42.9
    assert answer["structuredContent"]["items"][0] == {
        "id": RICE,
        "name": 'אורז יסמין 1 ק"ג',
        "price": 16.5,
        "quantity": 2,
        "image": "/shop/images/nitzat-haduvdevan/jasmine-rice.svg",
        "line_total": 33.0,
    }
    removed = await said(gateway.http, "remove_from_cart", {"product_id": RICE}, meta=me)
    assert removed == '✓ אורז יסמין 1 ק"ג הוסר מהעגלה!\n\nסה"כ פריטים: 1\nסכום כולל: 9.90 ₪'
    removed = await said(gateway.http, "remove_from_cart", {"product_id": LENTILS}, meta=me)
    assert removed.endswith("העגלה ריקה כעת.")
    assert await said(gateway.http, "clear_cart", meta=me) == "✓ העגלה נוקתה"


async def test_english_is_spoken_where_it_is_asked_for(gateway: RunningGateway) -> None:
    me = of(fresh_id("english"))
    argument = {"product_id": RICE, "locale": "en"}
    assert "Jasmine rice 1 kg\nQuantity: 1" in await said(gateway.http, "add_to_cart", argument, meta=me)
    text = await said(gateway.http, "view_cart", meta={**me, "openai/locale": "en-US"})
    assert "**Total to pay: 16.50 ₪**" in text
    assert "Jasmine rice" in text
    hebrew = await said(gateway.http, "view_cart", meta={**me, "openai/locale": "fr"})
    assert hebrew.startswith("🛒 **העגלה שלך:**")


@pytest.mark.parametrize("quantity", [0, -1, 1.5, 1000, 10**30, "1.5", "", " 2", True, [], {"a": 1}, -0.0])
async def test_a_quantity_that_is_none_is_refused(gateway: RunningGateway, quantity: object) -> None:
    me = fresh_id("quantity")
    text = await refusal(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": quantity}, meta=of(me))
    assert "999" in text
    assert (await cart(gateway.http, me))["items"] == []


@pytest.mark.parametrize("quantity", [2, 2.0, "2", "2.0"])
async def test_a_number_counts_however_it_is_written(gateway: RunningGateway, quantity: object) -> None:
    me = fresh_id("number")
    await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": quantity}, meta=of(me))
    assert [line["quantity"] for line in (await cart(gateway.http, me))["items"]] == [2]


@pytest.mark.parametrize(
    "product_id",
    [
        *("nitzat-haduvdevan:50", "nitzat-haduvdevan:-1", "nitzat-haduvdevan:", "nitzat-haduvdevan:1.0"),
        *(
            "../nitzat-haduvdevan:0",
            "nitzat-haduvdevan/../x:0",
            "..:0",
            "/etc/passwd:0",
            "",
            ":",
            "nowhere:0",
        ),
        *(
            "nitzat-haduvdevan:00",
            "nitzat-haduvdevan:٣",
            "NITZAT-HADUVDEVAN:0",
            "nitzat-haduvdevan:0\n",
            "a\0:0",
        ),
        "nitzat-haduvdevan:" + "9" * 60,
    ],
)
async def test_a_product_that_is_none_is_refused(gateway: RunningGateway, product_id: str) -> None:
    me = of(fresh_id("product"))
    text = await refusal(gateway.http, "add_to_cart", {"product_id": product_id}, meta=me)
    assert "המוצר לא נמצא" in text
    text = await refusal(gateway.http, "remove_from_cart", {"product_id": product_id}, meta=me)
    assert text == "❌ המוצר לא נמצא בעגלה"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("add_to_cart", {}),
        ("add_to_cart", {"product_id": 3}),
        ("search_products", {}),
        ("search_products", {"search": "a" * 201}),
        ("search_products", {"search": "", "page": 0}),
        ("search_products", {"search": "", "page_size": 51}),
        ("search_products", {"search": "", "min_price": -1}),
        ("search_products", {"search": "", "store": "../etc"}),
        ("view_cart", {"locale": 5}),
    ],
)
async def test_wrong_arguments_are_named(
    gateway: RunningGateway, tool: str, arguments: dict[str, object]
) -> None:
    text = await refusal(gateway.http, tool, arguments, meta=of(fresh_id()))
    assert "❌ ארגומנט שגוי:" in text
    assert "`" in text or "field" in text


async def test_what_is_out_of_stock_is_not_sold(gateway: RunningGateway) -> None:
    text = await refusal(gateway.http, "add_to_cart", {"product_id": OUT_OF_STOCK}, meta=of(fresh_id()))
    assert "אינו זמין" in text


async def test_a_cart_holds_no_more_than_999_of_one_product(gateway: RunningGateway) -> None:
    me = fresh_id("full")
    await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": 999}, meta=of(me))
    assert "999" in await refusal(gateway.http, "add_to_cart", {"product_id": RICE}, meta=of(me))
    assert (await cart(gateway.http, me))["items"][0]["quantity"] == 999


async def test_alice_and_bob_have_carts_of_their_own(gateway: RunningGateway) -> None:
    alice, bob = fresh_id("alice"), fresh_id("bob")
    await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": 3}, meta=of(alice))
    await said(gateway.http, "add_to_cart", {"product_id": LENTILS}, meta=of(bob))
    assert [item["id"] for item in (await cart(gateway.http, alice))["items"]] == [RICE]
    assert [item["id"] for item in (await cart(gateway.http, bob))["items"]] == [LENTILS]


async def test_debug_session_tells_of_itself_and_only_how_many_others(gateway: RunningGateway) -> None:
    alice, bob = fresh_id("alice-secret"), fresh_id("bob-secret")
    await said(gateway.http, "add_to_cart", {"product_id": RICE, "quantity": 3}, meta=of(alice))
    await said(gateway.http, "add_to_cart", {"product_id": LENTILS}, meta=of(bob))
    answer = await result(gateway.http, call("debug_session", meta=of(bob)))
    text, structured = text_of(answer), answer["structuredContent"]
    assert text.startswith("🔍 **Session Debug Information**")
    assert f"**Current Session ID:** `{bob}`" in text
    assert "**Items in Your Cart:** 1" in text
    assert "**Your Cart Total:** 9.90 ₪" in text
    assert f"**Total Active Sessions:** {structured['active_sessions']}" in text
    assert f"**Other Active Sessions:** {structured['active_sessions'] - 1}" in text
    assert structured["active_sessions"] >= 2
    assert (structured["session_id"], structured["source"]) == (bob, "params._meta.sessionId")
    assert (structured["items"], structured["total"]) == (1, 9.9)
    assert "alice" not in str(answer)
    assert "49.50" not in str(answer)


@pytest.mark.parametrize("parallel", [20, 200])
async def test_parallel_additions_lose_nothing(gateway: RunningGateway, parallel: int) -> None:
    me = fresh_id("parallel")
    products = [RICE, LENTILS]

    async def add(number: int) -> None:
        await said(gateway.http, "add_to_cart", {"product_id": products[number % 2]}, meta=of(me))

    await asyncio.gather(*(add(number) for number in range(parallel)))
    found = await cart(gateway.http, me)
    assert [item["quantity"] for item in found["items"]] == [parallel // 2] * 2
    assert round(found["total"] * 100) == parallel // 2 * (1650 + 990)


async def test_a_picture_is_served_and_nothing_else(gateway: RunningGateway) -> None:
    async with gateway.http.get("/shop/images/nitzat-haduvdevan/jasmine-rice.svg") as response:
        assert (response.status, response.content_type) == (200, "image/svg+xml")
        assert (await response.read()).startswith(b"<svg")
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    for path in ("nitzat-haduvdevan/products.json", "nitzat-haduvdevan/nothing.svg", "x/jasmine-rice.svg"):
        async with gateway.http.get(f"/shop/images/{path}") as response:
            assert response.status == 404
    async with gateway.http.get("/shop/images/..%2f..%2fdata/x.svg") as response:
        assert response.status == 404
