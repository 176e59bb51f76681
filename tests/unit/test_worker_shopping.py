"""Shopping sentences of the offline model: what is meant, and which call comes next."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.agent.shopping import ShoppingStep, ShoppingWish, next_step, products_in, read

LISTED = (
    "Found 2 products:\n\n• White quinoa\n  Price: 19.90 ₪\n  Category: Grains\n  Id: s:1"
    "\n\n• Red quinoa\n  Price: 21.90 ₪\n  Category: Grains\n  Id: s:2"
)
CART = (
    "🛒 **Your cart:**\n\n• Jasmine rice\n  Quantity: 1 × 9.90 ₪ = 9.90 ₪\n  Id: s:3\n"
    "\n• Red quinoa\n  Quantity: 2 × 21.90 ₪ = 43.80 ₪\n  Id: s:2\n\n**Total to pay: 53.70 ₪**"
)
NOTHING = "No products match the search"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(name: str, said: str, **arguments: Any) -> list[dict[str, Any]]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": f"c-{name}", "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": f"c-{name}", "content": said},
    ]


@pytest.mark.parametrize(
    ("said", "wish"),
    [
        ("show me quinoa", ShoppingWish("find", "quinoa")),
        ("Do you have any lentils?", ShoppingWish("find", "lentils")),
        ("add two of the first", ShoppingWish("add", count=2, place=1)),
        ("add the last one, please", ShoppingWish("add", place=-1)),
        ("add 3 quinoa to my cart, please", ShoppingWish("add", "quinoa", 3)),
        ("add two", ShoppingWish("add", count=2, place=1)),
        ("add nitzat-haduvdevan:3", ShoppingWish("add", "nitzat-haduvdevan:3")),
        ("what is in my cart", ShoppingWish("view")),
        ("remove the rice", ShoppingWish("remove", "rice")),
        ("remove the second", ShoppingWish("remove", place=2)),
        ("empty my cart", ShoppingWish("clear")),
        ("which stores are there?", ShoppingWish("stores")),
        ("תראה לי קינואה", ShoppingWish("find", "קינואה", locale="he")),
        ("תוסיף שתיים מהראשון", ShoppingWish("add", count=2, place=1, locale="he")),
        ("תוסיף 3 קינואה לעגלה", ShoppingWish("add", "קינואה", 3, locale="he")),
        ("מה יש לי בעגלה?", ShoppingWish("view", locale="he")),
        ("תסיר את האורז", ShoppingWish("remove", "האורז", locale="he")),
        ("רוקן את העגלה", ShoppingWish("clear", locale="he")),
        ("אילו חנויות יש", ShoppingWish("stores", locale="he")),
    ],
)
def test_a_sentence_is_understood(said: str, wish: ShoppingWish) -> None:
    assert read(said) == wish


@pytest.mark.parametrize(
    "said", ["hello", "what is 2 + 2", "add", "show me", "what is your name?", "", "שלום"]
)
def test_other_sentences_are_not_the_shops(said: str) -> None:
    assert read(said) is None
    assert next_step([user(said)]) is None


def test_a_search_is_one_call_and_its_words() -> None:
    asked = [user("show me quinoa")]
    assert next_step(asked) == ShoppingStep("search_products", {"search": "quinoa", "locale": "en"})
    assert next_step([*asked, *called("search_products", LISTED)]) == LISTED


def test_a_plural_that_finds_nothing_is_tried_in_the_singular_once() -> None:
    asked = [user("show me almonds"), *called("search_products", NOTHING)]
    assert next_step(asked) == ShoppingStep("search_products", {"search": "almond", "locale": "en"})
    assert next_step([*asked, *called("search_products", NOTHING)]) == NOTHING


def test_the_first_is_the_first_of_what_was_last_shown() -> None:
    messages = [user("show me quinoa"), *called("search_products", LISTED), user("add two of the first")]
    put = ShoppingStep("add_to_cart", {"product_id": "s:1", "quantity": 2, "locale": "en"})
    assert next_step(messages) == put
    told = [user("show me quinoa"), {"role": "assistant", "content": LISTED}, user("add two of the first")]
    assert next_step(told) == put, "a revived conversation has no tool messages"
    assert next_step([*messages, *called("add_to_cart", "✓ Added")]) == "✓ Added"


def test_a_place_without_products_is_said() -> None:
    answer = next_step([user("add the second")])
    assert isinstance(answer, str)
    assert "show me quinoa" in answer


def test_what_is_named_is_found_and_then_added() -> None:
    asked = [user("add 2 red quinoa")]
    assert next_step(asked) == ShoppingStep("search_products", {"search": "red quinoa", "locale": "en"})
    found = [*asked, *called("search_products", LISTED.replace("s:1", "s:9"))]
    assert next_step(found) == ShoppingStep(
        "add_to_cart", {"product_id": "s:9", "quantity": 2, "locale": "en"}
    )


@pytest.mark.parametrize(("said", "chosen"), [("remove the rice", "s:3"), ("remove the last one", "s:2")])
def test_what_is_removed_is_looked_up_in_the_cart(said: str, chosen: str) -> None:
    asked = [user(said)]
    assert next_step(asked) == ShoppingStep("view_cart", {"locale": "en"})
    viewed = [*asked, *called("view_cart", CART)]
    assert next_step(viewed) == ShoppingStep("remove_from_cart", {"product_id": chosen, "locale": "en"})


def test_what_is_not_in_the_cart_is_not_removed() -> None:
    answer = next_step([user("remove the tahini"), *called("view_cart", CART)])
    assert answer == "“tahini” is not in your cart."


def test_products_are_read_from_a_tools_text() -> None:
    assert products_in(LISTED) == [("s:1", "White quinoa"), ("s:2", "Red quinoa")]
    assert products_in("• a name without an id") == []
