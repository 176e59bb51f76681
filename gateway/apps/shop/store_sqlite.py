"""The shop's tables in the gateway's SQLite file (migrations/)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.apps.shop.errors import CartFull, CartLimit
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
from gateway.errors import SessionLimit
from gateway.extension import Database

_ALIVE: Final = "owner = ? AND conversation = ? AND expires_at > ?"
_COUNTS: Final = ", ".join(USES)


class SqliteShopStore:
    """`ShopStore` beside the sessions, in the same file and the same group commits."""

    def __init__(self, database: Database, *, bounds: Bounds | None = None) -> None:
        self._database = database
        self._conversations = (bounds or Bounds()).conversations

    async def use(
        self,
        key: ShopKey,
        moment: Moment,
        *,
        use: ShopUse | None = None,
        words: Sequence[str] = (),
        may_create: bool = True,
    ) -> Cart:
        def act(connection: sqlite3.Connection) -> Cart:
            row = self._used(connection, key, moment, use=use, may_create=may_create)
            if row is None:
                return Cart()
            _count_words(connection, row, words)
            return _cart(connection, row)

        cart: Cart = await self._database.write(act)
        return cart

    async def cart(self, key: ShopKey, *, at: int) -> Cart:
        def act(connection: sqlite3.Connection) -> Cart:
            row = _alive(connection, key, at)
            return Cart() if row is None else _cart(connection, row)

        return await self._database.read(act)

    async def session(self, key: ShopKey, *, at: int) -> ShopSession | None:
        def act(connection: sqlite3.Connection) -> ShopSession | None:
            found = connection.execute(
                f"SELECT id, created_at, last_used_at, expires_at, may_count, {_COUNTS}"  # noqa: S608
                f" FROM shop_sessions WHERE {_ALIVE}",
                (key.owner, key.conversation, at),
            ).fetchone()
            if found is None:
                return None
            row, created_at, last_used_at, expires_at, may_count, *counts = found
            return ShopSession(
                created_at=created_at,
                last_used_at=last_used_at,
                expires_at=expires_at,
                may_count=bool(may_count),
                counts=dict(zip(USES, counts, strict=True)),
                words=_words(connection, row),
            )

        return await self._database.read(act)

    async def add(self, key: ShopKey, line: CartLine, moment: Moment, *, bounds: Bounds) -> Cart:
        def act(connection: sqlite3.Connection) -> Cart:
            row = self._made(connection, key, moment, use="adds")
            if line.quantity > bounds.quantity:
                raise CartLimit(too_much(bounds))
            changed = connection.execute(
                "INSERT INTO shop_items (session, line, name, price, quantity, image, extra, added_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (session, line) DO UPDATE SET quantity = quantity + excluded.quantity,"
                " price = excluded.price, name = excluded.name, image = excluded.image"
                " WHERE quantity + excluded.quantity <= ?",
                (
                    *(row, line.line, line.name, line.price, line.quantity, line.image),
                    *(msgspec.json.encode(line.extra).decode(), moment.at, bounds.quantity),
                ),
            ).rowcount
            if not changed:
                raise CartLimit(too_much(bounds))
            cart = _cart(connection, row)
            if len(cart.lines) > bounds.lines:
                raise CartFull(too_many_lines(bounds))
            return cart

        cart: Cart = await self._database.write(act)
        return cart

    async def remove(self, key: ShopKey, line: str, moment: Moment) -> tuple[CartLine | None, Cart]:
        def act(connection: sqlite3.Connection) -> tuple[CartLine | None, Cart]:
            row = _alive(connection, key, moment.at)
            if row is None:
                return None, Cart()
            taken = next((kept for kept in _cart(connection, row).lines if kept.line == line), None)
            if taken is not None:
                connection.execute("DELETE FROM shop_items WHERE session = ? AND line = ?", (row, line))
                self._used(connection, key, moment, use="removes")
            return taken, _cart(connection, row)

        taken: tuple[CartLine | None, Cart] = await self._database.write(act)
        return taken

    async def clear(self, key: ShopKey, moment: Moment) -> Cart:
        def act(connection: sqlite3.Connection) -> Cart:
            row = self._used(connection, key, moment, use="clears", may_create=False)
            if row is None:
                return Cart()
            cart = _cart(connection, row)
            connection.execute("DELETE FROM shop_items WHERE session = ?", (row,))
            return cart

        cart: Cart = await self._database.write(act)
        return cart

    async def checkout(
        self, key: ShopKey, moment: Moment, *, kept_until: int, bounds: Bounds
    ) -> Purchase | None:
        def act(connection: sqlite3.Connection) -> Purchase | None:
            row = _alive(connection, key, moment.at)
            cart = Cart() if row is None else _cart(connection, row)
            if not cart.lines:
                return None
            self._used(connection, key, moment, use="checkouts")
            purchase = Purchase(moment.at, cart.total, cart.lines)
            connection.execute("DELETE FROM shop_items WHERE session = ?", (row,))
            connection.execute(
                "INSERT INTO shop_purchases (owner, conversation, at, expires_at, total, items)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(key.owner, key.conversation, moment.at, kept_until, cart.total),
                    msgspec.json.encode(cart.lines).decode(),
                ),
            )
            connection.execute(
                "DELETE FROM shop_purchases WHERE owner = ? AND conversation = ? AND id <= ("
                " SELECT id FROM shop_purchases WHERE owner = ? AND conversation = ?"
                " ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (key.owner, key.conversation, key.owner, key.conversation, bounds.purchases),
            )
            return purchase

        purchase: Purchase | None = await self._database.write(act)
        return purchase

    async def purchases(self, key: ShopKey, *, at: int) -> list[Purchase]:
        def act(connection: sqlite3.Connection) -> list[Purchase]:
            rows = connection.execute(
                "SELECT at, total, items FROM shop_purchases"
                " WHERE owner = ? AND conversation = ? AND expires_at > ? ORDER BY id DESC",
                (key.owner, key.conversation, at),
            )
            return purchases_of(rows)

        return await self._database.read(act)

    async def prefer(
        self, key: ShopKey, changes: Mapping[str, Any], moment: Moment, *, bounds: Bounds
    ) -> dict[str, Any]:
        def act(connection: sqlite3.Connection) -> dict[str, Any]:
            row = self._made(connection, key, moment)
            connection.executemany(
                "INSERT INTO shop_preferences (session, key, value) VALUES (?, ?, ?)"
                " ON CONFLICT (session, key) DO UPDATE SET value = excluded.value",
                [(row, name, msgspec.json.encode(value).decode()) for name, value in changes.items()],
            )
            merged = _preferences(connection, row)
            check_preferences(merged, bounds)
            return merged

        merged: dict[str, Any] = await self._database.write(act)
        return merged

    async def preferences(self, key: ShopKey, *, at: int) -> dict[str, Any]:
        def act(connection: sqlite3.Connection) -> dict[str, Any]:
            row = _alive(connection, key, at)
            return {} if row is None else _preferences(connection, row)

        return await self._database.read(act)

    async def let_count(self, key: ShopKey, may_count: bool) -> None:
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE shop_sessions SET may_count = ? WHERE owner = ? AND conversation = ?",
                (int(may_count), key.owner, key.conversation),
            )
        )

    async def count(self, tenant: str, *, at: int) -> int:
        return await self._database.read(
            lambda connection: int(
                connection.execute(
                    "SELECT count(*) FROM shop_sessions WHERE tenant = ? AND expires_at > ?", (tenant, at)
                ).fetchone()[0]
            )
        )

    async def tallies(self, tenant: str, *, at: int) -> list[ConversationTally]:
        def act(connection: sqlite3.Connection) -> list[ConversationTally]:
            rows = connection.execute(
                f"SELECT id, last_used_at - created_at, {_COUNTS} FROM shop_sessions"  # noqa: S608
                " WHERE tenant = ? AND expires_at > ? AND may_count = 1",
                (tenant, at),
            ).fetchall()
            return [_tally(connection, *row) for row in rows]

        return await self._database.read(act)

    async def erase(self, key: ShopKey) -> None:
        def act(connection: sqlite3.Connection) -> None:
            for table in ("shop_sessions", "shop_purchases"):
                connection.execute(
                    f"DELETE FROM {table} WHERE owner = ? AND conversation = ?",  # noqa: S608
                    (key.owner, key.conversation),
                )

        await self._database.write(act)

    async def move(self, old: ShopKey, new: ShopKey) -> None:
        def act(connection: sqlite3.Connection) -> None:
            names = (new.owner, new.conversation, old.owner, old.conversation)
            connection.execute(
                "UPDATE OR IGNORE shop_sessions SET tenant = ?, owner = ?, conversation = ?"
                " WHERE owner = ? AND conversation = ?",
                (new.tenant, *names),
            )
            connection.execute(
                "UPDATE shop_purchases SET owner = ?, conversation = ? WHERE owner = ? AND conversation = ?",
                names,
            )

        await self._database.write(act)

    async def adopt(self, giver: str, taker: str, *, tenant: str) -> None:
        def act(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE OR IGNORE shop_sessions SET tenant = ?, owner = ? WHERE owner = ?",
                (tenant, taker, giver),
            )
            connection.execute("UPDATE shop_purchases SET owner = ? WHERE owner = ?", (taker, giver))

        await self._database.write(act)

    async def purge(self, now: int) -> int:
        def act(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM shop_purchases WHERE expires_at <= ?", (now,))
            return connection.execute(
                "DELETE FROM shop_sessions WHERE id IN"
                " (SELECT id FROM shop_sessions WHERE expires_at <= ? LIMIT ?)",
                (now, PURGE_BATCH),
            ).rowcount

        purged = 0
        while count := await self._database.write(act):
            purged += count
        return purged

    def _made(
        self, connection: sqlite3.Connection, key: ShopKey, moment: Moment, *, use: ShopUse | None = None
    ) -> int:
        row = self._used(connection, key, moment, use=use)
        assert row is not None  # noqa: S101 - it may be made, so it is
        return row

    def _used(
        self,
        connection: sqlite3.Connection,
        key: ShopKey,
        moment: Moment,
        *,
        use: ShopUse | None = None,
        may_create: bool = True,
    ) -> int | None:
        """The row of a conversation that is used now; a dead one is begun anew."""
        row = _alive(connection, key, moment.at)
        if row is None and may_create:
            row = self._create(connection, key, moment)
        if row is not None:
            counted = f", {use} = {use} + 1" if use in USES else ""
            connection.execute(
                "UPDATE shop_sessions SET last_used_at = max(last_used_at, ?),"  # noqa: S608
                f" expires_at = max(expires_at, ?){counted} WHERE id = ?",
                (moment.at, moment.expires_at, row),
            )
        return row

    def _create(self, connection: sqlite3.Connection, key: ShopKey, moment: Moment) -> int:
        connection.execute(
            "DELETE FROM shop_sessions WHERE owner = ? AND conversation = ?", (key.owner, key.conversation)
        )
        held = connection.execute("SELECT count(*) FROM shop_sessions").fetchone()[0]
        if held >= self._conversations:
            raise SessionLimit
        made = connection.execute(
            "INSERT INTO shop_sessions (tenant, owner, conversation, created_at, last_used_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (key.tenant, key.owner, key.conversation, moment.at, moment.at, moment.expires_at),
        )
        return int(made.lastrowid or 0)


def _alive(connection: sqlite3.Connection, key: ShopKey, at: int) -> int | None:
    found = connection.execute(
        f"SELECT id FROM shop_sessions WHERE {_ALIVE}",  # noqa: S608 - a literal of this module
        (key.owner, key.conversation, at),
    ).fetchone()
    return None if found is None else int(found[0])


def _cart(connection: sqlite3.Connection, row: int) -> Cart:
    rows = connection.execute(
        f"SELECT {LINE_COLUMNS} FROM shop_items WHERE session = ? ORDER BY id",  # noqa: S608
        (row,),
    )
    return cart_of(rows)


def _preferences(connection: sqlite3.Connection, row: int) -> dict[str, Any]:
    rows = connection.execute(
        "SELECT key, value FROM shop_preferences WHERE session = ? ORDER BY key", (row,)
    )
    return {name: msgspec.json.decode(value) for name, value in rows}


def _words(connection: sqlite3.Connection, row: int) -> dict[str, int]:
    return dict(connection.execute("SELECT word, count FROM shop_words WHERE session = ?", (row,)))


def _count_words(connection: sqlite3.Connection, row: int, words: Sequence[str]) -> None:
    connection.executemany(
        "INSERT INTO shop_words (session, word, count) SELECT ?, ?, 1"
        " WHERE (SELECT count(*) FROM shop_words WHERE session = ?) < ?"
        " OR EXISTS (SELECT 1 FROM shop_words WHERE session = ? AND word = ?)"
        " ON CONFLICT (session, word) DO UPDATE SET count = count + 1",
        [(row, word, row, Bounds().words, row, word) for word in words],
    )


def _tally(connection: sqlite3.Connection, row: int, milliseconds: int, *counts: int) -> ConversationTally:
    cart = _cart(connection, row)
    return ConversationTally(
        seconds=milliseconds // 1000,
        counts=dict(zip(USES, counts, strict=True)),
        words=_words(connection, row),
        quantity=cart.quantity,
        total=cart.total,
    )
