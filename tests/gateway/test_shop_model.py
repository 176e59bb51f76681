"""A small run of tests/shop_model.py, and proof that its checker sees a cart that is shared or loses."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests import shop_model
from tests.gateways import RunningGateway
from tests.mcp_clients import PRODUCT, call, result
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway("[limits]\naddress_requests_per_second = 1e6\naddress_burst = 1000000\n")
pytestmark = SHARED


async def test_random_shopping_matches_the_model(gateway: RunningGateway) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    await shop_model.shop(gateway.url, conversations=60, operations=30, seed=seed)


@pytest.mark.parametrize("lost", [False, True])
async def test_the_checker_sees_a_stranger_in_the_cart(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    meta: Any = {"openai/session": fresh_id("watched")}
    dice = random.Random(1)

    async def meddled(*arguments: Any) -> None:
        await shop_model_operate(*arguments)
        if dice.random() < 0.2:
            stranger = "clear_cart" if lost else "add_to_cart"
            given = {} if lost else {"product_id": PRODUCT.format(49)}
            await result(gateway.http, call(stranger, given, meta=meta))

    shop_model_operate = shop_model._operate
    monkeypatch.setattr(shop_model, "_operate", meddled)
    with pytest.raises(AssertionError):
        await shop_model.converse([gateway.http], meta, random.Random(2), operations=50)
