"""`Directory` over the rows of sessions and nodes.

A claim locks the session's row first and looks for its node only then, in a statement of its own: so it
sees every node that had the session before, however late that one joined. It is on a connection that reads,
so that it waits for no group commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from gateway.errors import StoreFailed
from gateway.stores.database import Statements
from gateway.stores.directory import NodePlace
from gateway.stores.postgresql import nodes
from gateway.stores.postgresql.appending import ALIVE
from gateway.stores.postgresql.claims import FENCE, HeldSessions
from gateway.stores.postgresql.connections import ReadPool
from gateway.stores.postgresql.errors import OF_THE_DRIVER, worded
from gateway.stores.session_rows import SELECT_SHARED, record_of
from gateway.stores.sessions import SessionRecord
from gateway.stores.sightings import NodeRow

T = TypeVar("T")

_IS_FREE: Final = "(node IS NULL OR NOT EXISTS (SELECT FROM nodes AS n WHERE n.id = sessions.node))"
_LOCK: Final = "SELECT id FROM sessions WHERE owner = $1 AND session_id = $2 FOR NO KEY UPDATE"
_TAKE: Final = (
    f"WITH {ALIVE} UPDATE sessions SET node = $1, generation = generation + 1 FROM alive"  # noqa: S608 - literals
    f" WHERE sessions.id = ANY($2::bigint[]) AND (node = $1 OR {_IS_FREE})"
    " RETURNING key, sessions.id, generation"
)
_RECORDS: Final = SELECT_SHARED + "WHERE sessions.id = ANY($1::bigint[])"
_FREE_AND: Final = (
    f"SELECT id FROM sessions WHERE {{condition}} AND {_IS_FREE}"  # noqa: S608 - literals
    " ORDER BY {order} LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED"
)
_OPEN: Final = _FREE_AND.format(condition="has_open_turn <> 0", order="id")
_EXPIRED: Final = _FREE_AND.format(condition="expires_at < $2", order="expires_at")
_RELEASE: Final = f"UPDATE sessions SET node = NULL WHERE key = $1 AND {FENCE}"  # noqa: S608 - literals
_HOLDER: Final = (
    "SELECT n.id, n.name, n.url FROM sessions AS s JOIN nodes AS n ON n.id = s.node WHERE n.id <> $1"
)
_HOLDERS: Final = (
    "SELECT w.owner, w.session_id, n.id, n.name, n.url FROM unnest($2::text[], $3::text[])"
    " AS w (owner, session_id) JOIN LATERAL (SELECT node FROM sessions AS s WHERE w.session_id <> ''"
    " AND s.owner = w.owner AND s.session_id = w.session_id"
    " UNION ALL (SELECT node FROM sessions AS s WHERE w.session_id = '' AND s.owner = w.owner"
    " ORDER BY s.id DESC LIMIT 1)) AS s ON true"
    " JOIN nodes AS n ON n.id = s.node WHERE n.id <> $1"
)
_COUNT: Final = (
    "SELECT count(*), count(*) FILTER (WHERE s.has_open_turn = 1) FROM sessions AS s"
    " JOIN nodes AS n ON n.id = s.node WHERE n.id <> $1 AND "
)
GONE: Final = "This gateway has lost its place among those that share the store."


class PostgresqlDirectory:
    """See the module."""

    def __init__(
        self,
        readers: ReadPool,
        claims: HeldSessions,
        *,
        transact: Callable[[Callable[[Statements], Awaitable[Any]]], Awaitable[Any]],
        connect: Callable[[], Awaitable[Any]],
        announce: Callable[[], None],
    ) -> None:
        """`transact` commits after everything that was written before; `announce` beats at once."""
        self.announce = announce
        self._readers = readers
        self._claims = claims
        self._transact = transact
        self._connect = connect

    @property
    def node(self) -> int:
        return self._claims.node

    async def claim(self, owner: str, session_id: str) -> SessionRecord | NodePlace | None:
        async def act(connection: Statements) -> SessionRecord | NodePlace | None:
            row_id = await connection.fetchval(_LOCK, owner, session_id)
            if row_id is None:
                return None
            taken = await self._take(connection, [row_id])
            if taken:
                return taken[0]
            query = f"{_HOLDER} AND s.id = $2"
            return _place(await connection.fetchrow(query, self.node, row_id), GONE)

        return await self._in_transaction(act)

    async def claim_open(self, *, limit: int) -> Sequence[SessionRecord]:
        return await self._claim_free(_OPEN, limit)

    async def claim_expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        return await self._claim_free(_EXPIRED, limit, now)

    async def _claim_free(self, query: str, *values: object) -> Sequence[SessionRecord]:
        async def act(connection: Statements) -> Sequence[SessionRecord]:
            ids = [row[0] for row in await connection.fetch(query, *values)]
            return await self._take(connection, ids) if ids else []

        return await self._in_transaction(act)

    async def _take(self, connection: Statements, ids: Sequence[int]) -> list[SessionRecord]:
        """Those of locked rows that are this node's now. The claims are noted before they are committed: one
        that is undone is found out by the first write.
        """
        taken = await connection.fetch(_TAKE, self.node, list(ids))
        for key, row_id, generation in taken:
            self._claims.take(key, row_id, generation)
        found = await connection.fetch(_RECORDS, [row[1] for row in taken])
        return [record_of(row) for row in found]

    async def release(self, key: str) -> None:
        await self._transact(lambda c: self._claims.change(c, _RELEASE, key))
        self._claims.drop(key)

    async def holder(self, owner: str, session_id: str) -> NodePlace | None:
        return await self._one(f"{_HOLDER} AND s.owner = $2 AND s.session_id = $3", owner, session_id)

    async def holder_of_key(self, key: str) -> NodePlace | None:
        return await self._one(f"{_HOLDER} AND s.key = $2", key)

    async def _one(self, query: str, *values: object) -> NodePlace | None:
        row = await self._readers.query(lambda c: c.fetchrow(query, self.node, *values))
        return None if row is None else _place(row, "")

    async def holders(self, names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], NodePlace]:
        columns = [list(column) for column in zip(*names, strict=True)] or [[], []]
        rows = await self._readers.query(lambda c: c.fetch(_HOLDERS, self.node, *columns))
        return {(row[0], row[1]): NodePlace(*row[2:]) for row in map(tuple, rows)}

    async def count_elsewhere(self, *, owner: str = "", tenant: str = "") -> tuple[int, int]:
        whose = "s.owner = $2" if owner else "s.owner > $2 || '/' AND s.owner < $2 || '0'"
        row = await self._readers.query(lambda c: c.fetchrow(_COUNT + whose, self.node, owner or tenant))
        return row[0], row[1]

    async def has_key(self, key: str) -> bool:
        query = "SELECT EXISTS (SELECT FROM sessions WHERE key = $1 AND node = $2)"
        return bool(await self._readers.query(lambda c: c.fetchval(query, key, self.node)))

    async def bury(self, row: NodeRow) -> bool:
        try:
            return await nodes.bury(self._connect, row.id, beat=row.beat)
        except OF_THE_DRIVER as error:
            raise worded(error) from error

    async def _in_transaction(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        async def transact(found: Statements) -> T:
            connection: Any = found
            async with connection.transaction():
                return await act(connection)

        return await self._readers.query(transact)


def _place(row: Any, missing: str) -> NodePlace:
    if row is None:
        raise StoreFailed(missing)
    return NodePlace(row[0], row[1], row[2])
