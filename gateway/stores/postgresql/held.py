"""`HeldStore` in one table, a row for each gateway.

Whoever asks holds the locks of what it asks for until its row is written. Nothing of it must outlive the
server: the gateways say again what they hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol

from gateway.stores.database import Statements
from gateway.stores.held import Granted, HeldName, Wanted
from gateway.stores.sessions import OwnerTotal
from gateway.stores.usage import UseName

_LOCK: Final = (
    "SELECT set_config('synchronous_commit', 'off', true), count(pg_advisory_xact_lock(k.key)) FROM"
    " (SELECT DISTINCT hashtextextended(name, 7) AS key FROM unnest($1::text[]) AS n (name) ORDER BY 1) AS k"
)
"""In one order for all, so that no two wait for each other."""
_STORED: Final = (
    "CASE scope WHEN 'subject' THEN (SELECT count(*) FROM sessions AS s WHERE s.owner = w.name)"
    " ELSE (SELECT count(*) FROM sessions AS s WHERE s.owner > w.name || '/' AND s.owner < w.name || '0') END"
)
"""Of a tenant: its owners' names are between TENANT/ and what follows a slash in the order of code points."""
_ASK: Final = (
    "WITH w AS (SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])"  # noqa: S608 - literals
    " AS w (scope, name, what, amount, allowed)),"
    " o AS (SELECT w.*, (SELECT coalesce(sum(h.amount), 0) FROM held AS h JOIN nodes AS n ON n.id = h.node"
    " WHERE (h.scope, h.name, h.what) = (w.scope, w.name, w.what) AND h.node <> $1)::bigint"
    f" + CASE what WHEN 'making' THEN {_STORED} ELSE 0 END AS others FROM w),"
    " g AS (SELECT scope, name, what, others,"
    " CASE allowed WHEN 0 THEN amount ELSE greatest(0, least(amount, allowed - others)) END AS amount"
    " FROM o),"
    " gone AS (DELETE FROM held AS h USING g WHERE h.node = $1 AND g.amount = 0"
    " AND (h.scope, h.name, h.what) = (g.scope, g.name, g.what)),"
    " put AS (INSERT INTO held (scope, name, what, node, amount)"
    " SELECT scope, name, what, $1, amount FROM g WHERE amount > 0"
    " ON CONFLICT (scope, name, what, node) DO UPDATE SET amount = excluded.amount)"
    " SELECT scope, name, what, amount, others FROM g"
)
_OTHERS: Final = (
    "SELECT scope, h.name, what, sum(amount)::bigint FROM held AS h JOIN nodes AS n ON n.id = h.node"
    " WHERE h.node <> $1 GROUP BY scope, h.name, what"
)
_OF_DEAD: Final = "DELETE FROM held WHERE NOT EXISTS (SELECT FROM nodes WHERE id = held.node)"
_TOTALS: Final = (
    "SELECT w.scope, w.name, count(s.id), coalesce(sum(s.stored_bytes), 0)::bigint"
    " FROM unnest($1::text[], $2::text[]) AS w (scope, name) LEFT JOIN sessions AS s ON s.owner = w.name OR"
    " (w.scope = 'tenant' AND s.owner > w.name || '/' AND s.owner < w.name || '0') GROUP BY 1, 2"
)


class Beside(Protocol):
    """What this needs of a database: transactions that do not wait for what the writer does."""

    async def query(self, act: Callable[[Statements], Awaitable[Any]]) -> Any:
        """Reads."""

    async def transact(self, act: Callable[[Statements], Awaitable[Any]]) -> Any:
        """One transaction."""


class PostgresqlHeld:
    """See the module."""

    def __init__(self, database: Beside, *, node: Callable[[], int]) -> None:
        """`node`: the id of this gateway's row."""
        self._database = database
        self._node = node

    async def ask(self, wanted: Mapping[HeldName, Wanted]) -> Mapping[HeldName, Granted]:
        names = sorted(wanted)
        locks = ["\n".join(name) for name in names]
        columns = [[name[number] for name in names] for number in range(3)]
        amounts = [[wanted[name][number] for name in names] for number in range(2)]

        async def act(connection: Statements) -> Mapping[HeldName, Granted]:
            await connection.execute(_LOCK, locks)
            rows = await connection.fetch(_ASK, self._node(), *columns, *amounts)
            return {HeldName(*tuple(row)[:3]): Granted(row[3], row[4]) for row in rows}

        found: Mapping[HeldName, Granted] = await self._database.transact(act)
        return found

    async def others(self) -> Mapping[HeldName, int]:
        async def act(connection: Statements) -> dict[HeldName, int]:
            await connection.execute(_OF_DEAD)
            rows = await connection.fetch(_OTHERS, self._node())
            return {HeldName(*tuple(row)[:3]): row[3] for row in rows}

        found: dict[HeldName, int] = await self._database.transact(act)
        return found

    async def stored(self, names: Collection[UseName]) -> Mapping[UseName, OwnerTotal]:
        columns = [[name[number] for name in names] for number in range(2)]
        rows = await self._database.query(lambda c: c.fetch(_TOTALS, *columns))
        return {(row[0], row[1]): OwnerTotal(row[2], row[3]) for row in rows}
