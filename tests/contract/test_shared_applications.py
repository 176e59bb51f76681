"""Several gateways on one PostgreSQL: what the stores of applications do if their transactions meet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import asyncpg
import pytest
import pytest_asyncio

from gateway.apps.product_chat.store_postgresql import NUMBERS, PostgresqlProducts
from gateway.apps.shop.store import Bounds, CartLine, Moment, ShopKey
from gateway.apps.shop.store_postgresql import PostgresqlShopStore
from gateway.stores.database import PostgresqlProjection, Statements
from tests.contract.engines import migrated_database
from tests.contract.test_shop_stores import FREQUENT

T = TypeVar("T")
AT_ONCE: Final = 8
STEPS: Final = 12
ALICE: Final = ShopKey("t", "t/alice", "c")
NOW: Final = Moment(1_000, 2_000)
BOUNDS: Final = Bounds()


class Transactions:
    """`PostgresqlDatabase` as several gateways have it: transactions that run side by side."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def query(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        async with self.pool.acquire() as connection:
            return await act(connection)

    async def transact(self, act: Callable[[Statements], Awaitable[T]], *, is_long: bool = False) -> T:
        async with self.pool.acquire() as connection, connection.transaction():
            return await act(connection)

    async def has_table(self, name: str) -> bool:
        raise NotImplementedError

    def project(self, kinds: Iterable[type], act: PostgresqlProjection) -> None:
        """Nothing is appended here."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database() -> AsyncIterator[Transactions]:
    async with asyncpg.create_pool(migrated_database(), min_size=AT_ONCE, max_size=AT_ONCE) as pool:
        yield Transactions(pool)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def line(name: str) -> CartLine:
    return CartLine(line=name, name=name, price=100)


async def test_carts_that_are_changed_at_once_lose_and_double_nothing(database: Transactions) -> None:
    """Also the first use of a conversation, by all at once."""
    shop = PostgresqlShopStore(database)
    removed = 0

    async def visit(number: int) -> None:
        nonlocal removed
        dice = random.Random(number)
        for _ in range(STEPS):
            await shop.add(ALICE, line(dice.choice("abc")), NOW, bounds=BOUNDS)
            if dice.random() < 0.5:
                taken, _ = await shop.remove(ALICE, dice.choice("abc"), NOW)
                removed += taken.quantity if taken is not None else 0
            elif dice.random() < 0.5:
                await shop.checkout(ALICE, NOW, kept_until=9_000, bounds=BOUNDS)

    await asyncio.gather(*(visit(number) for number in range(AT_ONCE)))
    bought = sum(one.quantity for sold in await shop.purchases(ALICE, at=1) for one in sold.lines)
    left = (await shop.cart(ALICE, at=1)).quantity
    assert bought + removed + left == AT_ONCE * STEPS
    assert bought > 0
    assert removed > 0
    assert await shop.count("t", at=1) == 1


async def test_no_number_is_reserved_twice(database: Transactions) -> None:
    gateways = [PostgresqlProducts(database) for _ in range(3)]
    blocks = await asyncio.gather(*(one.numbers() for one in gateways for _ in range(8)))
    numbers = [number for block in blocks for number in block]
    assert len(set(numbers)) == len(numbers) == 24 * NUMBERS


async def test_the_tables_hold_their_own_rules(database: Transactions) -> None:
    """Whoever writes to them."""
    key = ShopKey("u", "u/bob", "c")
    cart = await PostgresqlShopStore(database).add(key, line("a"), NOW, bounds=BOUNDS)
    assert cart.quantity == 1
    message = "INSERT INTO product_chat_messages (id, session_id, seq, sender_type, sender_name, message_text"
    wrong = (
        "UPDATE shop_items SET session = 0",
        "UPDATE shop_items SET quantity = 0",
        "INSERT INTO shop_items SELECT * FROM shop_items",
        f"{message}, created_at, updated_at) VALUES (1, 0, 1, 'admin', '', '', 1, 1)",
        f"{message}, created_at, updated_at) VALUES (1, 0, 1, 'robot', '', '', 1, 1)",
    )
    for statement in wrong:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await database.query(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]


async def test_every_frequent_statement_uses_an_index(database: Transactions) -> None:
    async def plans(connection: Statements) -> None:
        await connection.execute("SET LOCAL enable_seqscan = off")
        for statement in (
            *FREQUENT,
            "SELECT * FROM product_chat_messages WHERE session_id = 1 ORDER BY id DESC LIMIT 9",
            "SELECT * FROM product_chat_sessions WHERE session_id = 'a'",
            "SELECT max(id) FROM product_chat_messages",
            "DELETE FROM sessions WHERE id = 1",
        ):
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}"))
            assert "Seq Scan" not in plan, f"{statement}: {plan}"

    await database.transact(plans)
