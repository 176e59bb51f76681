"""The shop's tables in PostgreSQL (migrations/postgresql/).

Guarantees: whoever changes a conversation holds its row first, so of two transactions the second sees what
the first has done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.apps.shop.errors import CartFull, CartLimit
from gateway.apps.shop.room import ShopRoom
from gateway.apps.shop.store import (
    LINE_COLUMNS,
    PURGE_BATCH,
    USES,
    Bounds,
    Cart,
    CartLine,
    ConversationTally,
    Moment,
    Purchase,
    ShopKey,
    ShopSession,
    ShopUse,
    cart_of,
    check_preferences,
    purchases_of,
    too_many_lines,
    too_much,
)
from gateway.extension import PostgresqlDatabase, Statements

_ALIVE: Final = "owner = $1 AND conversation = $2 AND expires_at > $3"
_COUNTS: Final = ", ".join(USES)
_LINES: Final = f"SELECT {LINE_COLUMNS} FROM shop_items WHERE session = $1 ORDER BY id"  # noqa: S608


class PostgresqlShopStore:
    """`ShopStore` beside the sessions, in the same database."""

    def __init__(self, database: PostgresqlDatabase, *, bounds: Bounds | None = None) -> None:
        self._database = database
        self._room = ShopRoom((bounds or Bounds()).conversations)

    async def use(
        self,
        key: ShopKey,
        moment: Moment,
        *,
        use: ShopUse | None = None,
        words: Sequence[str] = (),
        may_create: bool = True,
    ) -> Cart:
        async def act(connection: Statements) -> Cart:
            if may_create:
                row: int | None = await self._made(connection, key, moment, use=use)
            else:
                row = await _used(connection, key, moment, use=use)
            if row is None:
                return Cart()
            if words:
                await _count_words(connection, row, words)
            return await _cart(connection, row)

        return await self._database.transact(act)

    async def cart(self, key: ShopKey, *, at: int) -> Cart:
        async def act(connection: Statements) -> Cart:
            row = await _alive(connection, key, at)
            return Cart() if row is None else await _cart(connection, row)

        return await self._database.query(act)

    async def session(self, key: ShopKey, *, at: int) -> ShopSession | None:
        async def act(connection: Statements) -> ShopSession | None:
            found = await connection.fetchrow(
                f"SELECT id, created_at, last_used_at, expires_at, may_count, {_COUNTS}"  # noqa: S608
                f" FROM shop_sessions WHERE {_ALIVE}",
                *(key.owner, key.conversation, at),
            )
            if found is None:
                return None
            row, created_at, last_used_at, expires_at, may_count, *counts = found
            return ShopSession(
                created_at=created_at,
                last_used_at=last_used_at,
                expires_at=expires_at,
                may_count=may_count,
                counts=dict(zip(USES, counts, strict=True)),
                words=(await _words(connection, [row])).get(row, {}),
            )

        return await self._database.query(act)

    async def add(self, key: ShopKey, line: CartLine, moment: Moment, *, bounds: Bounds) -> Cart:
        async def act(connection: Statements) -> Cart:
            row = await self._made(connection, key, moment, use="adds")
            if line.quantity > bounds.quantity:
                raise CartLimit(too_much(bounds))
            changed = await connection.fetchval(
                "INSERT INTO shop_items AS i (session, line, name, price, quantity, image, extra, added_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
                " ON CONFLICT (session, line) DO UPDATE SET quantity = i.quantity + excluded.quantity,"
                " price = excluded.price, name = excluded.name, image = excluded.image"
                " WHERE i.quantity + excluded.quantity <= $9 RETURNING id",
                *(row, line.line, line.name, line.price, line.quantity, line.image),
                *(msgspec.json.encode(line.extra).decode(), moment.at, bounds.quantity),
            )
            if changed is None:
                raise CartLimit(too_much(bounds))
            cart = await _cart(connection, row)
            if len(cart.lines) > bounds.lines:
                raise CartFull(too_many_lines(bounds))
            return cart

        return await self._database.transact(act)

    async def remove(self, key: ShopKey, line: str, moment: Moment) -> tuple[CartLine | None, Cart]:
        async def act(connection: Statements) -> tuple[CartLine | None, Cart]:
            row = await _held(connection, key, moment.at)
            cart = Cart() if row is None else await _cart(connection, row)
            taken = next((kept for kept in cart.lines if kept.line == line), None)
            if taken is None:
                return None, cart
            await connection.execute("DELETE FROM shop_items WHERE session = $1 AND line = $2", row, line)
            await _used(connection, key, moment, use="removes")
            return taken, Cart(tuple(kept for kept in cart.lines if kept is not taken))

        return await self._database.transact(act)

    async def clear(self, key: ShopKey, moment: Moment) -> Cart:
        async def act(connection: Statements) -> Cart:
            row = await _used(connection, key, moment, use="clears")
            return Cart() if row is None else await _emptied(connection, row)

        return await self._database.transact(act)

    async def checkout(
        self, key: ShopKey, moment: Moment, *, kept_until: int, bounds: Bounds
    ) -> Purchase | None:
        async def act(connection: Statements) -> Purchase | None:
            row = await _held(connection, key, moment.at)
            cart = Cart() if row is None else await _emptied(connection, row)
            if not cart.lines:
                return None
            await _used(connection, key, moment, use="checkouts")
            await connection.execute(
                "INSERT INTO shop_purchases (owner, conversation, at, expires_at, total, items)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                *(key.owner, key.conversation, moment.at, kept_until, cart.total),
                msgspec.json.encode(cart.lines).decode(),
            )
            await connection.execute(
                "DELETE FROM shop_purchases WHERE owner = $1 AND conversation = $2 AND id <= ("
                " SELECT id FROM shop_purchases WHERE owner = $1 AND conversation = $2"
                " ORDER BY id DESC LIMIT 1 OFFSET $3)",
                *(key.owner, key.conversation, bounds.purchases),
            )
            return Purchase(moment.at, cart.total, cart.lines)

        return await self._database.transact(act)

    async def purchases(self, key: ShopKey, *, at: int) -> list[Purchase]:
        async def act(connection: Statements) -> list[Purchase]:
            rows = await connection.fetch(
                f"SELECT at, total, items FROM shop_purchases WHERE {_ALIVE} ORDER BY id DESC",  # noqa: S608
                *(key.owner, key.conversation, at),
            )
            return purchases_of(rows)

        return await self._database.query(act)

    async def prefer(
        self, key: ShopKey, changes: Mapping[str, Any], moment: Moment, *, bounds: Bounds
    ) -> dict[str, Any]:
        async def act(connection: Statements) -> dict[str, Any]:
            row = await self._made(connection, key, moment)
            await connection.executemany(
                "DELETE FROM shop_preferences WHERE session = $1 AND key = $2",
                [(row, name) for name in changes],
            )
            await connection.executemany(
                "INSERT INTO shop_preferences (session, key, value) VALUES ($1, $2, $3)",
                [(row, name, msgspec.json.encode(value).decode()) for name, value in changes.items()],
            )
            merged = await _preferences(connection, row)
            check_preferences(merged, bounds)
            return merged

        return await self._database.transact(act)

    async def preferences(self, key: ShopKey, *, at: int) -> dict[str, Any]:
        async def act(connection: Statements) -> dict[str, Any]:
            row = await _alive(connection, key, at)
            return {} if row is None else await _preferences(connection, row)

        return await self._database.query(act)

    async def let_count(self, key: ShopKey, may_count: bool) -> None:
        await self._database.transact(
            lambda connection: connection.execute(
                "UPDATE shop_sessions SET may_count = $1 WHERE owner = $2 AND conversation = $3",
                *(may_count, key.owner, key.conversation),
            )
        )

    async def count(self, tenant: str, *, at: int) -> int:
        query = "SELECT count(*) FROM shop_sessions WHERE tenant = $1 AND expires_at > $2"
        return int(await self._database.query(lambda connection: connection.fetchval(query, tenant, at)))

    async def tallies(self, tenant: str, *, at: int) -> list[ConversationTally]:
        async def act(connection: Statements) -> list[ConversationTally]:
            rows = await connection.fetch(
                f"SELECT id, last_used_at - created_at, {_COUNTS} FROM shop_sessions"  # noqa: S608
                " WHERE tenant = $1 AND expires_at > $2 AND may_count",
                *(tenant, at),
            )
            found = [row[0] for row in rows]
            words, sums = await _words(connection, found), await _sums(connection, found)
            return [
                _tally(milliseconds, counts, words.get(row, {}), sums.get(row, (0, 0)))
                for row, milliseconds, *counts in rows
            ]

        return await self._database.query(act)

    async def erase(self, key: ShopKey) -> None:
        async def act(connection: Statements) -> None:
            for table in ("shop_sessions", "shop_purchases"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE owner = $1 AND conversation = $2",  # noqa: S608
                    *(key.owner, key.conversation),
                )

        await self._database.transact(act)
        self._room.freed()

    async def move(self, old: ShopKey, new: ShopKey) -> None:
        async def act(connection: Statements) -> None:
            names = (new.owner, new.conversation, old.owner, old.conversation)
            await connection.execute(
                "UPDATE shop_sessions SET tenant = $5, owner = $1, conversation = $2"
                " WHERE owner = $3 AND conversation = $4 AND NOT EXISTS"
                " (SELECT 1 FROM shop_sessions WHERE owner = $1 AND conversation = $2)",
                *(*names, new.tenant),
            )
            await connection.execute(
                "UPDATE shop_purchases SET owner = $1, conversation = $2"
                " WHERE owner = $3 AND conversation = $4",
                *names,
            )

        await self._database.transact(act)

    async def adopt(self, giver: str, taker: str, *, tenant: str) -> None:
        async def act(connection: Statements) -> None:
            await connection.execute(
                "UPDATE shop_sessions g SET tenant = $1, owner = $2 WHERE owner = $3 AND NOT EXISTS"
                " (SELECT 1 FROM shop_sessions t WHERE t.owner = $2 AND t.conversation = g.conversation)",
                *(tenant, taker, giver),
            )
            await connection.execute("UPDATE shop_purchases SET owner = $1 WHERE owner = $2", taker, giver)

        await self._database.transact(act)

    async def purge(self, now: int) -> int:
        async def act(connection: Statements) -> int:
            await connection.execute("DELETE FROM shop_purchases WHERE expires_at <= $1", now)
            gone = await connection.fetch(
                "DELETE FROM shop_sessions WHERE id IN"
                " (SELECT id FROM shop_sessions WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
                " RETURNING id",
                *(now, PURGE_BATCH),
            )
            return len(gone)

        purged = 0
        while count := await self._database.transact(act):
            purged += count
        self._room.freed()
        return purged

    async def _made(
        self, connection: Statements, key: ShopKey, moment: Moment, *, use: ShopUse | None = None
    ) -> int:
        """The row of a conversation that is used now; one that is dead, or none, is begun anew."""
        row = await _used(connection, key, moment, use=use)
        if row is None:
            await self._create(connection, key, moment)
            row = await _used(connection, key, moment, use=use)
            assert row is not None  # noqa: S101 - it lives from this moment on
        return row

    async def _create(self, connection: Statements, key: ShopKey, moment: Moment) -> None:
        await connection.execute(
            "DELETE FROM shop_sessions WHERE owner = $1 AND conversation = $2 AND expires_at <= $3",
            *(key.owner, key.conversation, moment.at),
        )
        await self._room.take(connection, moment.at)
        await connection.execute(
            "INSERT INTO shop_sessions (tenant, owner, conversation, created_at, last_used_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $4, $5) ON CONFLICT (owner, conversation) DO NOTHING",
            *(key.tenant, key.owner, key.conversation, moment.at, moment.expires_at),
        )


async def _alive(connection: Statements, key: ShopKey, at: int) -> int | None:
    query = f"SELECT id FROM shop_sessions WHERE {_ALIVE}"  # noqa: S608 - a literal of this module
    row: int | None = await connection.fetchval(query, key.owner, key.conversation, at)
    return row


async def _held(connection: Statements, key: ShopKey, at: int) -> int | None:
    """Like `_alive`, and nobody else changes the conversation until we have."""
    query = f"SELECT id FROM shop_sessions WHERE {_ALIVE} FOR UPDATE"  # noqa: S608
    row: int | None = await connection.fetchval(query, key.owner, key.conversation, at)
    return row


async def _used(
    connection: Statements, key: ShopKey, moment: Moment, *, use: ShopUse | None = None
) -> int | None:
    """Notes a use; the row, which is held like `_held`'s. None: the conversation is not alive."""
    counted = f", {use} = {use} + 1" if use in USES else ""
    row: int | None = await connection.fetchval(
        "UPDATE shop_sessions SET last_used_at = greatest(last_used_at, $3),"  # noqa: S608
        f" expires_at = greatest(expires_at, $4){counted} WHERE {_ALIVE} RETURNING id",
        *(key.owner, key.conversation, moment.at, moment.expires_at),
    )
    return row


async def _cart(connection: Statements, row: int) -> Cart:
    return cart_of(await connection.fetch(_LINES, row))


async def _emptied(connection: Statements, row: int) -> Cart:
    """What was in the cart."""
    cart = await _cart(connection, row)
    await connection.execute("DELETE FROM shop_items WHERE session = $1", row)
    return cart


async def _preferences(connection: Statements, row: int) -> dict[str, Any]:
    rows = await connection.fetch(
        "SELECT key, value FROM shop_preferences WHERE session = $1 ORDER BY key", row
    )
    return {name: msgspec.json.decode(value) for name, value in rows}


async def _words(connection: Statements, found: Sequence[int]) -> dict[int, dict[str, int]]:
    """The words of each of these conversations."""
    words: dict[int, dict[str, int]] = {}
    query = "SELECT session, word, count FROM shop_words WHERE session = ANY($1::bigint[])"
    for row, word, count in await connection.fetch(query, found):
        words.setdefault(row, {})[word] = count
    return words


async def _sums(connection: Statements, found: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Pieces and agorot in each of these carts."""
    rows = await connection.fetch(
        "SELECT session, sum(quantity), sum(price * quantity) FROM shop_items"
        " WHERE session = ANY($1::bigint[]) GROUP BY session",
        found,
    )
    return {row: (int(quantity), int(total)) for row, quantity, total in rows}


async def _count_words(connection: Statements, row: int, words: Sequence[str]) -> None:
    await connection.executemany(
        "INSERT INTO shop_words AS w (session, word, count) SELECT $1::bigint, $2::text, 1"
        " WHERE (SELECT count(*) FROM shop_words WHERE session = $1) < $3"
        " OR EXISTS (SELECT 1 FROM shop_words WHERE session = $1 AND word = $2)"
        " ON CONFLICT (session, word) DO UPDATE SET count = w.count + 1",
        [(row, word, Bounds().words) for word in words],
    )


def _tally(
    milliseconds: int, counts: Sequence[int], words: dict[str, int], sums: tuple[int, int]
) -> ConversationTally:
    quantity, total = sums
    return ConversationTally(
        seconds=milliseconds // 1000,
        counts=dict(zip(USES, counts, strict=True)),
        words=words,
        quantity=quantity,
        total=total,
    )
