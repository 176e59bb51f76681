"""`HeldStore` in one table, a row for each gateway.

Whoever asks holds the locks of what it asks for until its row is written. Nothing of it must outlive the
server: the gateways say again what they hold.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol

from gateway.stores.database import Statements
from gateway.stores.held import BudgetHolding, BudgetStanding, Decide, HeldName, HoldingGranted, HoldingWanted
from gateway.stores.ledger_rows import TOKENS
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
_STANDING: Final = (
    "SELECT scope, h.name, what, coalesce(sum(amount) FILTER (WHERE h.node = $1), 0)::bigint,"
    " coalesce(sum(amount) FILTER (WHERE h.node <> $1), 0)::bigint"
    " FROM held AS h JOIN nodes AS n ON n.id = h.node WHERE what IN ('live', 'running', 'making')"
    " GROUP BY scope, h.name, what"
)
_OF_DEAD: Final = "DELETE FROM held WHERE NOT EXISTS (SELECT FROM nodes WHERE id = held.node)"
_TOTALS: Final = (
    "SELECT w.scope, w.name, t.* FROM unnest($1::text[], $2::text[]) AS w (scope, name),"
    " LATERAL (SELECT count(*), coalesce(sum(s.stored_bytes), 0)::bigint FROM sessions AS s"
    " WHERE w.scope = 'subject' AND s.owner = w.name"
    " UNION ALL SELECT count(*), coalesce(sum(s.stored_bytes), 0)::bigint FROM sessions AS s"
    " WHERE w.scope = 'tenant' AND s.owner > w.name || '/' AND s.owner < w.name || '0')"
    " AS t (sessions, bytes)"
    " WHERE t.sessions > 0"
)
_WHOSE: Final = {
    "gateway": "true",
    "tenant": "l.tenant = w.name",
    "subject": "l.owner = w.name",
    "key": "l.key_id = w.name",
    "session": "l.session_key = w.name",
    "agent": "l.agent = w.name",
}
"""Which rows of the ledger are somebody's; each is looked for by itself, so that its index is used."""
_SPENT: Final = (
    "SELECT coalesce(sum(l.cost), 0)::bigint, coalesce(sum({tokens}), 0)::bigint"
    " FROM ledger_sums AS l, (SELECT $3::text AS name) AS w WHERE l.day BETWEEN $1 AND $2 AND {whose}"
)
_HELD_BACK: Final = (
    "SELECT coalesce(sum(amount) FILTER (WHERE what = 'cost'), 0)::bigint,"
    " coalesce(sum(amount) FILTER (WHERE what = 'tokens'), 0)::bigint"
    " FROM held AS h JOIN nodes AS n ON n.id = h.node WHERE h.node <> $1 AND h.scope = $2 AND h.name = $3"
)
_HOLD: Final = (
    "INSERT INTO held (scope, name, what, node, amount) SELECT w.scope, w.name, w.what, $1, w.amount"
    " FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) AS w (scope, name, what, amount)"
    " ON CONFLICT (scope, name, what, node) DO UPDATE SET amount = excluded.amount"
)
_NOTHING_HELD: Final = "DELETE FROM held WHERE node = $1 AND amount = 0"
EARLIER_KEPT: Final = 10_000
"""Of so many at most it is remembered."""
EARLIER_SECONDS: Final = 60.0
"""For so long it is not looked again what was used on earlier days of a month."""


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
        self._earlier: dict[tuple[UseName, int, int], tuple[float, BudgetHolding]] = {}
        """What was used from a day to another one, which is over; and when that was read."""

    async def ask(self, wanted: Mapping[HeldName, HoldingWanted]) -> Mapping[HeldName, HoldingGranted]:
        names = sorted(wanted)
        locks = ["\n".join(name) for name in names if wanted[name].allowed]
        columns = [[name[number] for name in names] for number in range(3)]
        amounts = [[wanted[name][number] for name in names] for number in range(2)]

        async def act(connection: Statements) -> Mapping[HeldName, HoldingGranted]:
            if locks:
                await connection.execute(_LOCK, locks)
            rows = await connection.fetch(_ASK, self._node(), *columns, *amounts)
            return {HeldName(*tuple(row)[:3]): HoldingGranted(row[3], row[4]) for row in rows}

        found: Mapping[HeldName, HoldingGranted] = await self._database.transact(act)
        return found

    async def standing(self) -> Mapping[HeldName, HoldingGranted]:
        async def act(connection: Statements) -> dict[HeldName, HoldingGranted]:
            await connection.execute(_OF_DEAD)
            rows = await connection.fetch(_STANDING, self._node())
            return {HeldName(*tuple(row)[:3]): HoldingGranted(row[3], row[4]) for row in rows}

        found: dict[HeldName, HoldingGranted] = await self._database.transact(act)
        return found

    async def stored(self, names: Collection[UseName]) -> Mapping[UseName, OwnerTotal]:
        columns = [[name[number] for name in names] for number in range(2)]
        rows = await self._database.query(lambda c: c.fetch(_TOTALS, *columns))
        return {(row[0], row[1]): OwnerTotal(row[2], row[3]) for row in rows}

    # -- budgets ------------------------------------------------------------------------------------------

    async def hold(self, names: Collection[UseName], decide: Decide, *, day: int, first_day: int) -> None:
        async def act(connection: Statements) -> None:
            await connection.execute(_LOCK, ["\n".join((*name, "budget")) for name in sorted(names)])
            standing = await self._standing(connection, names, day=day, first_day=first_day)
            await self._put(connection, decide(standing))

        await self._database.transact(act)

    async def say(self, held: Mapping[UseName, BudgetHolding]) -> None:
        async def act(connection: Statements) -> None:
            await self._put(connection, held)
            await connection.execute(_NOTHING_HELD, self._node())

        await self._database.transact(act)

    async def spent(
        self, names: Collection[UseName], *, day: int, first_day: int
    ) -> Mapping[UseName, BudgetStanding]:
        found: Mapping[UseName, BudgetStanding] = await self._database.query(
            lambda c: self._standing(c, names, day=day, first_day=first_day)
        )
        return found

    async def _put(self, connection: Statements, held: Mapping[UseName, BudgetHolding]) -> None:
        rows = [
            (*name, what, amount)
            for name, spent in sorted(held.items())
            for what, amount in zip(("cost", "tokens"), spent, strict=True)
        ]
        await connection.execute(_HOLD, self._node(), *([row[at] for row in rows] for at in range(4)))

    async def _standing(
        self, connection: Statements, names: Collection[UseName], *, day: int, first_day: int
    ) -> dict[UseName, BudgetStanding]:
        found = {}
        for name in names:
            today = await _spent(connection, name, day, day)
            before = await self._spent_before(connection, name, first_day, day)
            held = await connection.fetchrow(_HELD_BACK, self._node(), *name)
            month = BudgetHolding(today.cost + before.cost, today.tokens + before.tokens)
            found[name] = BudgetStanding(today, month, BudgetHolding(*held))
        return found

    async def _spent_before(
        self, connection: Statements, name: UseName, first_day: int, day: int
    ) -> BudgetHolding:
        """What was used of the month before today, which hardly changes any more."""
        if day == first_day:
            return BudgetHolding()
        now, known = time.monotonic(), self._earlier.get((name, first_day, day))
        if known is not None and now - known[0] < EARLIER_SECONDS:
            return known[1]
        found = await _spent(connection, name, first_day, day - 1)
        if len(self._earlier) >= EARLIER_KEPT:
            self._earlier.clear()
        self._earlier[name, first_day, day] = now, found
        return found


async def _spent(connection: Statements, name: UseName, from_day: int, to_day: int) -> BudgetHolding:
    query = _SPENT.format(tokens=TOKENS, whose=_WHOSE[name[0]])
    return BudgetHolding(*await connection.fetchrow(query, from_day, to_day, name[1]))
