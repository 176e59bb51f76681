"""The ledger in two tables of PostgreSQL: calls, and sums by day that outlive them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.principal import VISITOR_MARK
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.ledger import (
    DAY_MILLISECONDS,
    ERASED,
    Chosen,
    Dimension,
    LedgerCall,
    LedgerEntry,
    SumRow,
    anonymous,
)
from gateway.stores.ledger_rows import (
    ADDED,
    AMOUNTS,
    CALL,
    SETTLED,
    SUM,
    call_of,
    call_row,
    columns_of,
    grouped,
    sum_in,
    sum_row,
)
from gateway.stores.postgresql.statements import changed, numbered

_VISITOR: Final = f"substr(owner, strpos(owner, '/') + 1, 1) = '{VISITOR_MARK}'"
_NO_VISITOR: Final = f"CASE WHEN {_VISITOR} THEN split_part(owner, '/', 1) || '/{ERASED}' ELSE owner END"
"""An owner; if a visitor, then without who it was."""
_NAMELESS: Final = ("day", "tenant", _NO_VISITOR, "''", "key_id", "agent", "provider", "model")

# Every statement below is made of literals of this module.
_PUT: Final = f"INSERT INTO ledger_calls ({', '.join(CALL)}) VALUES ({numbered(len(CALL))})"  # noqa: S608
_RESERVE: Final = f"{_PUT} ON CONFLICT DO NOTHING"
_SETTLE: Final = f"{_PUT} {SETTLED}"
_ADD: Final = f"INSERT INTO ledger_sums ({', '.join(SUM)}) VALUES ({numbered(len(SUM))}) {ADDED}"  # noqa: S608
_FLIES: Final = "INSERT INTO ledger_flights (id, node) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_LANDS: Final = "DELETE FROM ledger_flights WHERE id = $1"
_OF_NOBODY: Final = (
    " AND NOT EXISTS (SELECT FROM ledger_flights AS f JOIN nodes AS n ON n.id = f.node"
    " WHERE f.id = ledger_calls.id)"
)
"""Calls that no gateway which runs has in hand."""

Transact = Callable[[Callable[[Statements], Awaitable[None]]], Awaitable[None]]


class PostgresqlLedger:
    """`LedgerStore`."""

    def __init__(
        self,
        database: PostgresqlDatabase,
        *,
        node: Callable[[], int] = lambda: 0,
        transact: Transact | None = None,
    ) -> None:
        """`node`: the id of this gateway's row, if there may be others; else 0. `transact` commits facts of
        the past also once this gateway has lost its place.
        """
        self._database = database
        self._node = node
        self._transact_past = transact or database.transact

    def note(self, _call: LedgerCall) -> bool:
        """Its server is asked first: it is what several gateways share."""
        return False

    async def put(self, entries: Sequence[LedgerEntry]) -> None:
        async def act(connection: Statements) -> None:
            for entry in entries:
                if isinstance(entry, LedgerCall) and (node := self._node()):
                    flight = (_LANDS, entry.id) if entry.status is not None else (_FLIES, entry.id, node)
                    await connection.execute(*flight)
                if not isinstance(entry, LedgerCall) or await _take(connection, entry):
                    await connection.execute(_ADD, *sum_row(entry))

        await self._transact_past(act)

    async def in_flight(self) -> Sequence[LedgerCall]:
        return await self._many(f"WHERE status IS NULL{_OF_NOBODY} ORDER BY at")

    async def calls(self, *, since: int = 0, session_key: str | None = None, limit: int) -> list[LedgerCall]:
        where = "WHERE at >= $1 AND ($2::text IS NULL OR session_key = $2) ORDER BY at DESC, id DESC LIMIT $3"
        return await self._many(where, since, session_key, limit)

    async def _many(self, where: str, *values: object) -> list[LedgerCall]:
        query = f"SELECT {', '.join(CALL)} FROM ledger_calls {where}"  # noqa: S608
        rows = await self._database.query(lambda c: c.fetch(query, *values))
        return [call_of(row) for row in rows]

    async def sums(self, by: Sequence[Dimension], chosen: Chosen, *, limit: int) -> list[SumRow]:
        amounts = (f"coalesce(sum({name}), 0)::bigint" for name in AMOUNTS)
        query = (
            f"SELECT {', '.join((*columns_of(by), *amounts))} FROM ledger_sums"  # noqa: S608
            " WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR tenant = $3)"
            f" AND ($4::text IS NULL OR owner = $4){grouped(by)} LIMIT $5"
        )
        values = (chosen.from_day, chosen.to_day, chosen.tenant, chosen.owner, limit)
        rows = await self._database.query(lambda c: c.fetch(query, *values))
        return [sum_in(by, row) for row in rows]

    async def forget_person(self, owner: str) -> bool:
        async def act(connection: Statements) -> bool:
            await connection.execute("DELETE FROM ledger_calls WHERE owner = $1", owner)
            moved = ("day", "tenant", "$2::text", "''", "''", "agent", "provider", "model")
            return await _move(connection, moved, "owner = $1", owner, anonymous(owner)) > 0

        return await self._database.transact(act)

    async def forget(self, *, calls_before_day: int, sums_before_day: int) -> None:
        async def act(connection: Statements) -> None:
            before = calls_before_day * DAY_MILLISECONDS
            await connection.execute("DELETE FROM ledger_calls WHERE at < $1", before)
            await connection.execute("DELETE FROM ledger_sums WHERE day < $1", sums_before_day)
            await _move(connection, _NAMELESS, "day < $1 AND session_key <> ''", calls_before_day)

        await self._database.transact(act, is_long=True)


async def forget_session(connection: Statements, key: str, _owner: str) -> None:
    """A session is erased: what it used is kept without it, in the transaction that erases it."""
    await connection.execute(
        f"UPDATE ledger_calls SET session_key = '', owner = {_NO_VISITOR}"  # noqa: S608
        " WHERE session_key = $1 AND session_key <> ''",
        key,
    )
    await _move(connection, _NAMELESS, "session_key = $1 AND session_key <> ''", key)


async def _move(connection: Statements, names: Sequence[str], where: str, *values: object) -> int:
    """Adds these sums to those under other names, and drops them; how many."""
    rows = await connection.fetch(
        f"DELETE FROM ledger_sums WHERE {where} RETURNING {', '.join((*names, *AMOUNTS))}",  # noqa: S608
        *values,
    )
    await connection.executemany(_ADD, [tuple(row) for row in rows])
    return len(rows)


async def _take(connection: Statements, call: LedgerCall) -> bool:
    """Whether it is settled by this."""
    statement = _RESERVE if call.status is None else _SETTLE
    tag = await connection.execute(statement, *call_row(call))
    return call.status is not None and changed(tag) > 0
