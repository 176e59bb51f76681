"""The ledger in two tables: calls, and sums by day that outlive them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.principal import VISITOR_MARK
from gateway.stores.database import Database
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
from gateway.stores.sqlite.reservations import ReservationFile

_TENANT: Final = "substr(owner, 1, instr(owner, '/') - 1)"
_NO_VISITOR: Final = (
    f"CASE WHEN substr(owner, instr(owner, '/') + 1, 1) = '{VISITOR_MARK}'"
    f" THEN {_TENANT} || '/{ERASED}' ELSE owner END"
)
"""An owner; if a visitor, then without who it was."""

# Every statement below is made of literals of this module.
_PUT: Final = f"INTO ledger_calls ({', '.join(CALL)}) VALUES ({', '.join('?' * len(CALL))})"
_RESERVE: Final = f"INSERT OR IGNORE {_PUT}"
_SETTLE: Final = f"INSERT {_PUT} {SETTLED}"
_ADD: Final = f"INSERT INTO ledger_sums ({', '.join(SUM)}) VALUES ({', '.join('?' * len(SUM))}) {ADDED}"  # noqa: S608


class SqliteLedger:
    """`LedgerStore`."""

    def __init__(self, database: Database, reservations: ReservationFile) -> None:
        self._database = database
        self._reservations = reservations
        self._noted: set[str] = set()
        """Calls that are noted and not committed yet."""

    async def open(self) -> None:
        """Puts down what a process that was killed has only noted. Raises StoreFull, StoreFailed."""
        if found := await asyncio.to_thread(self._reservations.open):
            await self.put([call for record in found if (call := _noted(record)) is not None])
        self._reservations.drop()

    def close(self) -> None:
        """Notes nothing more."""
        self._reservations.close()

    def note(self, call: LedgerCall) -> bool:
        is_noted = self._reservations.note(_encode(call))
        if is_noted:
            self._noted.add(call.id)
        return is_noted

    async def put(self, entries: Sequence[LedgerEntry]) -> None:
        def act(connection: sqlite3.Connection) -> None:
            for entry in entries:
                if not isinstance(entry, LedgerCall) or _take(connection, entry):
                    connection.execute(_ADD, sum_row(entry))

        await self._database.write(act)
        if self._noted:
            self._noted.difference_update(entry.id for entry in entries if isinstance(entry, LedgerCall))
            if not self._noted:
                self._reservations.drop()

    async def in_flight(self) -> Sequence[LedgerCall]:
        return await self._many("WHERE status IS NULL ORDER BY at", ())

    async def calls(self, *, since: int = 0, session_key: str | None = None, limit: int) -> list[LedgerCall]:
        where = "WHERE at >= ?1 AND (?2 IS NULL OR session_key = ?2) ORDER BY at DESC, id DESC LIMIT ?3"
        return await self._many(where, (since, session_key, limit))

    async def _many(self, where: str, values: tuple[object, ...]) -> list[LedgerCall]:
        query = f"SELECT {', '.join(CALL)} FROM ledger_calls {where}"  # noqa: S608
        return await self._database.read(lambda c: [call_of(row) for row in c.execute(query, values)])

    async def sums(self, by: Sequence[Dimension], chosen: Chosen, *, limit: int) -> list[SumRow]:
        amounts = (f"coalesce(sum({name}), 0)" for name in AMOUNTS)
        query = (
            f"SELECT {', '.join((*columns_of(by), *amounts))} FROM ledger_sums"  # noqa: S608
            " WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR owner = ?4)"
            f"{grouped(by)} LIMIT ?5"
        )
        values = (chosen.from_day, chosen.to_day, chosen.tenant, chosen.owner, limit)

        def act(connection: sqlite3.Connection) -> list[SumRow]:
            return [sum_in(by, row) for row in connection.execute(query, values)]

        return await self._database.read(act)

    async def forget_person(self, owner: str) -> bool:
        def act(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM ledger_calls WHERE owner = ?", (owner,))
            moved = ("day", "tenant", "?2", "''", "''", "agent", "provider", "model")
            return _move(connection, moved, "owner = ?1", (owner, anonymous(owner))) > 0

        return await self._database.write(act)

    async def forget(self, *, calls_before_day: int, sums_before_day: int) -> None:
        def act(connection: sqlite3.Connection) -> None:
            before = calls_before_day * DAY_MILLISECONDS
            connection.execute("DELETE FROM ledger_calls WHERE at < ?", (before,))
            connection.execute("DELETE FROM ledger_sums WHERE day < ?", (sums_before_day,))
            _move(connection, _NAMELESS, "day < ?1 AND session_key <> ''", (calls_before_day,))

        await self._database.write(act)


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(LedgerCall).decode


def _noted(record: bytes) -> LedgerCall | None:
    """A reservation as it was noted, by this version or another one."""
    try:
        return _decode(record)
    except msgspec.DecodeError:
        return None


_NAMELESS: Final = ("day", "tenant", _NO_VISITOR, "''", "key_id", "agent", "provider", "model")


def forget_session(connection: sqlite3.Connection, key: str) -> None:
    """A session is erased: what it used is kept without it, in the transaction that erases it."""
    connection.execute(
        f"UPDATE ledger_calls SET session_key = '', owner = {_NO_VISITOR} WHERE session_key = ?",  # noqa: S608
        (key,),
    )
    _move(connection, _NAMELESS, "session_key = ?1", (key,))


def _move(
    connection: sqlite3.Connection, names: Sequence[str], where: str, values: tuple[object, ...]
) -> int:
    """Adds these sums to those under other names, and drops them; how many."""
    rows = connection.execute(
        f"SELECT {', '.join((*names, *AMOUNTS))} FROM ledger_sums WHERE {where}",  # noqa: S608
        values,
    ).fetchall()
    connection.execute(
        f"DELETE FROM ledger_sums WHERE {where}",  # noqa: S608
        values[: where.count("?")],
    )
    connection.executemany(_ADD, rows)
    return len(rows)


def _take(connection: sqlite3.Connection, call: LedgerCall) -> bool:
    """Whether it is settled by this."""
    done = connection.execute(_RESERVE if call.status is None else _SETTLE, call_row(call))
    return call.status is not None and done.rowcount > 0
