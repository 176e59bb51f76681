"""The ledger in two tables of PostgreSQL: calls, and sums by day that outlive them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
    UsageSum,
    anonymous,
    day_of,
    names_of,
    sum_of,
)
from gateway.stores.postgresql.statements import changed

_CALL: Final = LedgerCall.__struct_fields__
_AMOUNTS: Final = UsageSum.__struct_fields__
_NAMES: Final = ("tenant", "owner", "session_key", "key_id", "agent", "provider", "model")
_COLUMNS: Final[dict[str, str]] = {
    **{name: name for name in ("day", "tenant", "agent", "provider", "model")},
    **{"person": "owner", "session": "session_key", "key": "key_id"},
}
_ALL: Final = ("day", *_NAMES, *_AMOUNTS)
_VISITOR: Final = f"substr(owner, strpos(owner, '/') + 1, 1) = '{VISITOR_MARK}'"
_NO_VISITOR: Final = f"CASE WHEN {_VISITOR} THEN split_part(owner, '/', 1) || '/{ERASED}' ELSE owner END"
"""An owner; if a visitor, then without who it was."""
_NAMELESS: Final = ("day", "tenant", _NO_VISITOR, "''", "key_id", "agent", "provider", "model")


def _numbered(count: int) -> str:
    return ", ".join(f"${number}" for number in range(1, 1 + count))


# Every statement below is made of literals of this module.
_PUT: Final = f"INSERT INTO ledger_calls ({', '.join(_CALL)}) VALUES ({_numbered(len(_CALL))})"  # noqa: S608
_RESERVE: Final = f"{_PUT} ON CONFLICT DO NOTHING"
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in _CALL if name not in ("id", "at"))
_SETTLE: Final = f"{_PUT} ON CONFLICT (id) DO UPDATE SET {_SET} WHERE ledger_calls.status IS NULL"
_GROWN: Final = ", ".join(f"{name} = s.{name} + excluded.{name}" for name in _AMOUNTS)
_ADD: Final = (
    f"INSERT INTO ledger_sums AS s ({', '.join(_ALL)}) VALUES ({_numbered(len(_ALL))})"  # noqa: S608
    " ON CONFLICT (day, owner, session_key, key_id, agent, provider, model)"
    f" DO UPDATE SET {_GROWN}"
)


class PostgresqlLedger:
    """`LedgerStore`."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def put(self, entries: Sequence[LedgerEntry]) -> None:
        async def act(connection: Statements) -> None:
            for entry in entries:
                if not isinstance(entry, LedgerCall) or await _take(connection, entry):
                    amount = sum_of(entry)
                    amounts = (getattr(amount, name) for name in _AMOUNTS)
                    await connection.execute(_ADD, day_of(entry.at), *names_of(entry), *amounts)

        await self._database.transact(act)

    async def in_flight(self) -> Sequence[LedgerCall]:
        return await self._many("WHERE status IS NULL ORDER BY at")

    async def calls(self, *, since: int = 0, session_key: str | None = None, limit: int) -> list[LedgerCall]:
        where = "WHERE at >= $1 AND ($2::text IS NULL OR session_key = $2) ORDER BY at DESC, id DESC LIMIT $3"
        return await self._many(where, since, session_key, limit)

    async def _many(self, where: str, *values: object) -> list[LedgerCall]:
        query = f"SELECT {', '.join(_CALL)} FROM ledger_calls {where}"  # noqa: S608
        rows = await self._database.query(lambda c: c.fetch(query, *values))
        return [LedgerCall(**dict(zip(_CALL, row, strict=True))) for row in rows]

    async def sums(self, by: Sequence[Dimension], chosen: Chosen, *, limit: int) -> list[SumRow]:
        columns = [_COLUMNS[name] for name in by]
        amounts = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in _AMOUNTS)
        query = (
            f"SELECT {', '.join((*columns, amounts))} FROM ledger_sums"  # noqa: S608
            " WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR tenant = $3)"
            " AND ($4::text IS NULL OR owner = $4)"
            + (f" GROUP BY {', '.join(columns)}" if columns else " HAVING count(*) > 0")
            + f" ORDER BY {'day DESC,' if 'day' in by else ''} sum(cost) DESC,"
            " sum(input + cache_read + cache_write + output + reasoning + told_tokens) DESC"
            + "".join(f", {column}" for column in columns)
            + " LIMIT $5"
        )
        values = (chosen.from_day, chosen.to_day, chosen.tenant, chosen.owner, limit)
        rows = await self._database.query(lambda c: c.fetch(query, *values))
        return [_sum_row(by, row) for row in rows]

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
        f"DELETE FROM ledger_sums WHERE {where} RETURNING {', '.join((*names, *_AMOUNTS))}",  # noqa: S608
        *values,
    )
    await connection.executemany(_ADD, [tuple(row) for row in rows])
    return len(rows)


async def _take(connection: Statements, call: LedgerCall) -> bool:
    """Whether it is settled by this."""
    statement = _RESERVE if call.status is None else _SETTLE
    tag = await connection.execute(statement, *(getattr(call, name) for name in _CALL))
    return call.status is not None and changed(tag) > 0


def _sum_row(by: Sequence[Dimension], row: Any) -> SumRow:
    names: dict[str, str] = {name: str(value) for name, value in zip(by, row, strict=False)}
    return SumRow(names=names, total=UsageSum(**dict(zip(_AMOUNTS, row[len(by) :], strict=True))))
