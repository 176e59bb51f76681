"""Random shopping by many clients at once, checked against a model: `python -m tests.shop_model`.

Each conversation's operations go through several clients and over several owners' names; every answer and
the cart at the end must be what a dictionary says. A small run is part of the tests, the full one is this
command: 1,000 conversations, 50 operations each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import random
import sys
import tempfile
import time
from typing import Any, Final

import aiohttp
from msgspec import Struct, field

from gateway.apps.shop.catalog import SHIPPED
from tests.gateways import running_gateway
from tests.mcp_clients import PRODUCT, call, result, text_of

CLIENTS: Final = 8
"""Connections pools that take turns, whoever's conversation it is."""
AT_ONCE: Final = 64
"""Conversations that are going on at the same moment."""
MOST: Final = 999


class Model(Struct):
    """What a cart must be: product → quantity, in the order of adding."""

    prices: dict[str, int]
    quantities: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.prices[product] * quantity for product, quantity in self.quantities.items())

    def add(self, product: str, quantity: int) -> bool:
        """Whether it must be accepted."""
        held = self.quantities.get(product, 0)
        if product not in self.prices or not 1 <= quantity <= MOST or held + quantity > MOST:
            return False
        self.quantities[product] = held + quantity
        return True

    def remove(self, product: str) -> bool:
        """Whether it must be accepted."""
        return self.quantities.pop(product, None) is not None


def prices() -> dict[str, int]:
    """Agorot by product, read from the file itself; without what is not sold."""
    (path,) = SHIPPED.glob("*/data/products.json")
    products = json.loads(path.read_text(), parse_float=str, parse_int=str)["products"]
    return {
        PRODUCT.format(number): _agorot(product["price"])
        for number, product in enumerate(products)
        if product.get("is_in_stock", True)
    }


def _agorot(text: str) -> int:
    whole, _, cents = text.partition(".")
    return int(whole) * 100 + int(cents.ljust(2, "0"))


async def converse(
    clients: list[aiohttp.ClientSession], meta: dict[str, str], dice: random.Random, *, operations: int
) -> None:
    """One conversation; raises AssertionError at the first answer that is not the model's."""
    model = Model(prices())
    few = dice.sample([PRODUCT.format(number) for number in range(52)], 6)
    for _ in range(operations):
        await _operate(dice.choice(clients), meta, dice, model, dice.choice(few))
    answer = await result(clients[0], call("view_cart", meta=meta))
    _check_cart(answer["structuredContent"], model)


async def _operate(
    http: aiohttp.ClientSession, meta: dict[str, str], dice: random.Random, model: Model, product: str
) -> None:
    what = dice.random()
    if what < 0.6:
        quantity = dice.choice([1, 1, 2, 5, 400, 999, 0, 1000])
        message = call("add_to_cart", {"product_id": product, "quantity": quantity}, meta=meta)
        is_accepted = model.add(product, quantity)
    elif what < 0.8:
        message = call("remove_from_cart", {"product_id": product}, meta=meta)
        is_accepted = model.remove(product)
    elif what < 0.97:
        answer = await result(http, call("view_cart", meta=meta))
        _check_cart(answer["structuredContent"], model)
        return
    else:
        message, is_accepted = call("clear_cart", meta=meta), True
        model.quantities.clear()
    answer = await result(http, message)
    assert answer["isError"] != is_accepted, (message, answer, model.quantities)
    if is_accepted and "כולל:" in (text := text_of(answer)):
        assert text.endswith(f"{len(model.quantities)}\nסכום כולל: {model.total / 100:.2f} ₪"), (text, model)


def _check_cart(seen: Any, model: Model) -> None:
    assert [(item["id"], item["quantity"]) for item in seen["items"]] == list(model.quantities.items())
    assert round(seen["total"] * 100) == model.total
    for item in seen["items"]:
        assert round(item["line_total"] * 100) == model.prices[item["id"]] * item["quantity"]


async def shop(url: str, *, conversations: int, operations: int, seed: int) -> None:
    """All conversations, so many at once. Names repeat among ChatGPT users: they must not mix."""
    turns = asyncio.Semaphore(AT_ONCE)
    clients = [aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=32)) for _ in range(CLIENTS)]

    async def one(number: int) -> None:
        async with turns:
            meta = {"openai/session": f"v1/{number // 4}", "openai/subject": f"v1/person-{number % 4}"}
            await converse(clients, meta, random.Random(seed * 1_000_003 + number), operations=operations)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(conversations):
                tasks.create_task(one(number))
    finally:
        for client in clients:
            await client.close()


async def _main(options: argparse.Namespace) -> None:
    config = "[limits]\naddress_requests_per_second = 1e6\naddress_burst = 1000000\n"
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=config) as gateway:
            began = time.perf_counter()
            await shop(
                gateway.url,
                conversations=options.conversations,
                operations=options.operations,
                seed=options.seed,
            )
            seconds = time.perf_counter() - began
    count = options.conversations * (options.operations + 1)
    print(f"{count} calls in {options.conversations} conversations: every answer as the model says")
    print(f"{seconds:.0f} s, {count / seconds:.0f} calls a second")


def main() -> int:
    """The full run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=1_000)
    parser.add_argument("--operations", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(_main(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
