"""`SessionStore` in one table; what belongs to a session goes with its row."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from gateway.errors import SessionExists, SessionNotFound
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.principal import VISITOR_MARK, is_visitor
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.postgresql import log_rows, tombstones
from gateway.stores.postgresql.claims import FENCE, HeldSessions
from gateway.stores.postgresql.statements import changed, numbered
from gateway.stores.session_rows import CHANGED, COLUMNS, SELECT_SHARED, changed_in, record_of, record_row
from gateway.stores.sessions import Forking, Founding, OwnerTotal, SessionRecord
from gateway.stores.tombstones import Tombstone

Erase = Callable[[Statements, str, str], Awaitable[None]]
"""What else is deleted with a session, told its key and its owner, in the same transaction."""
Append = Callable[[Statements, int, Sequence[Event]], Awaitable[None]]
Soon = Callable[[Callable[[Statements], Awaitable[None]]], None]

_BORN: Final = (*COLUMNS, "node", "generation")
_INSERT: Final = (
    f"INSERT INTO sessions ({', '.join(_BORN)}) VALUES ({numbered(len(_BORN))})"  # noqa: S608 - literals
    " ON CONFLICT DO NOTHING RETURNING id"
)
_SET: Final = ", ".join(f"{name} = ${number}" for number, name in enumerate(CHANGED, start=4))
_UPDATE: Final = f"UPDATE sessions SET {_SET} WHERE key = $1 AND {FENCE}"  # noqa: S608 - literals
_UPLOAD: Final = (
    f"INSERT INTO uploads (session, bytes) SELECT id, $4::bigint FROM sessions WHERE key = $1 AND {FENCE}"  # noqa: S608 - literals
    " ON CONFLICT (session) DO UPDATE SET bytes = excluded.bytes"
)
_UPLOADED: Final = "INSERT INTO uploads (session, bytes) VALUES ($1, $2)"
_NOBODYS: Final = (None, 0)
_DELETE: Final = f"DELETE FROM sessions WHERE key = $1 AND {FENCE} RETURNING id, owner, session_id"  # noqa: S608 - literals
_ADOPT: Final = (
    "UPDATE sessions SET owner = $1, session_id = $2 WHERE key = $3"
    " AND NOT EXISTS (SELECT FROM sessions WHERE owner = $1 AND session_id = $2)"
)

_LAST_USED: Final = "SELECT owner, max(last_active_at) FROM sessions GROUP BY owner"
_NEXT: Final = "SELECT owner, last_active_at FROM sessions{after} ORDER BY owner, last_active_at DESC LIMIT 1"
_VISITORS_OF: Final = f"split_part(o.owner, '/', 1) || '/{VISITOR_MARK}'"
_AFTER: Final = (
    f" WHERE owner > CASE WHEN starts_with(o.owner, {_VISITORS_OF})"
    f" THEN {_VISITORS_OF[:-2]}{chr(ord(VISITOR_MARK) + 1)}' ELSE o.owner END"
)
_LAST_USED_BY_PEOPLE: Final = (
    f"WITH RECURSIVE o (owner, at) AS (({_NEXT.format(after='')}) UNION ALL"  # noqa: S608 - literals
    f" SELECT n.* FROM o, LATERAL ({_NEXT.format(after=_AFTER)}) AS n) SELECT owner, at FROM o"
)
"""From one owner to the next by the index, and past all visitors of a tenant at the first of them."""


class PostgresqlSessions:
    """See the module."""

    def __init__(
        self,
        database: PostgresqlDatabase,
        *,
        claims: HeldSessions,
        append: Append,
        write_soon: Soon,
        erases: Sequence[Erase] = (),
        on_delete: Callable[[str], None] = lambda _key: None,
        on_fork: Callable[[int, int], None] = lambda _row_id, _seq: None,
    ) -> None:
        """`append` writes events of a log by the id of its session's row, `write_soon` takes what nobody
        waits for. `erases` may grow until a session is deleted. `on_delete` hears the key of each session
        that is deleted, `on_fork` the id of the row of each fork and the last number in its log; of what is
        undone after that, too.
        """
        self._database = database
        self._claims = claims
        self._append = append
        self._write_soon = write_soon
        self._erases = erases
        self._on_delete = on_delete
        self._on_fork = on_fork
        database.project((ev.SessionInfo,), _titled)

    async def create(self, record: SessionRecord, founding: Founding | None = None) -> None:
        claims = self._claims

        async def act(connection: Statements) -> None:
            born = _NOBODYS if claims.is_alone else (claims.node, 1)
            row_id = await _insert(connection, record, born)
            if not claims.is_alone:
                claims.take(record.key, row_id, 1)
            if founding is None:
                return
            await connection.execute(
                "UPDATE sessions SET reserved_seq = $1 WHERE id = $2", founding.reserved_seq, row_id
            )
            if founding.gap is not None:
                await connection.execute(
                    "INSERT INTO gaps (session, last_kept, first_new) VALUES ($1, $2, $3)",
                    row_id,
                    *founding.gap,
                )
            await self._append(connection, row_id, founding.events)

        await self._database.transact(act)

    async def fork(self, record: SessionRecord, forking: Forking) -> SessionRecord:
        async def act(connection: Statements) -> SessionRecord:
            source = await connection.fetchrow(
                "SELECT id, compacted_seq, session_id FROM sessions WHERE key = $1", forking.source
            )
            if source is None:
                raise SessionNotFound
            row_id = await _insert(connection, record, _NOBODYS)
            await connection.execute(
                "INSERT INTO forks (session, parent_key) VALUES ($1, $2)", row_id, forking.source
            )
            last = await log_rows.fork(connection, source[0], row_id, forking)
            size = await log_rows.size_bytes(connection, row_id) + record.uploaded_bytes
            if record.uploaded_bytes:
                await connection.execute(_UPLOADED, row_id, record.uploaded_bytes)
            await connection.execute(
                "UPDATE sessions SET reserved_seq = $1, compacted_seq = $2, stored_bytes = $3 WHERE id = $4",
                last,
                min(source[1], forking.through),
                size,
                row_id,
            )
            self._on_fork(row_id, last)
            return msgspec.structs.replace(record, stored_bytes=size, parent=source[2])

        return await self._database.transact(act)

    async def upload(self, key: str, uploaded_bytes: int) -> None:
        claims = self._claims
        await self._database.transact(lambda c: claims.change(c, _UPLOAD, key, uploaded_bytes))

    async def find(self, owner: str, session_id: str) -> SessionRecord | None:
        return await self._one("WHERE owner = $1 AND session_id = $2", owner, session_id)

    async def newest(self, owner: str) -> SessionRecord | None:
        return await self._one("WHERE owner = $1 ORDER BY id DESC LIMIT 1", owner)

    async def update(self, record: SessionRecord) -> None:
        await self._database.transact(functools.partial(self._update, record=record))

    def update_soon(self, record: SessionRecord) -> None:
        self._write_soon(functools.partial(self._update, record=record))

    async def _update(self, connection: Statements, *, record: SessionRecord) -> None:
        await self._claims.change(connection, _UPDATE, record.key, *changed_in(record))

    async def of_owner(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        return await self._many("WHERE owner = $1 ORDER BY last_active_at DESC, key LIMIT $2", owner, limit)

    async def of_all(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        latest = "ORDER BY last_active_at DESC, key LIMIT"
        if tenant is None:
            return await self._many(f"{latest} $1", limit)
        # 0 is the character after /: what lies between is found by an index
        return await self._many(
            f"WHERE owner > $1::text || '/' AND owner < $1::text || '0' {latest} $2", tenant, limit
        )

    async def expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        return await self._many("WHERE expires_at < $1 ORDER BY expires_at LIMIT $2", now, limit)

    async def with_open_turn(self) -> Sequence[SessionRecord]:
        return await self._many("WHERE has_open_turn = 1")

    async def waiting_for_budget(self) -> Sequence[SessionRecord]:
        return await self._many("WHERE has_open_turn = 2")

    async def count(self) -> int:
        return int(await self._database.query(lambda c: c.fetchval("SELECT count(*) FROM sessions")))

    async def totals(self) -> dict[str, OwnerTotal]:
        query = "SELECT owner, count(*), sum(stored_bytes)::bigint FROM sessions GROUP BY owner"
        rows = await self._database.query(lambda connection: connection.fetch(query))
        return {row[0]: OwnerTotal(*row[1:]) for row in map(tuple, rows)}

    async def last_used(self, *, has_visitors: bool) -> dict[str, int]:
        query = _LAST_USED if has_visitors else _LAST_USED_BY_PEOPLE
        rows = await self._database.query(lambda connection: connection.fetch(query))
        return {row[0]: row[1] for row in rows if has_visitors or not is_visitor(row[0])}

    async def taken_uids(self) -> set[int]:
        query = "SELECT uid FROM sessions WHERE uid IS NOT NULL"
        return {row[0] for row in await self._database.query(lambda connection: connection.fetch(query))}

    async def adopt(self, key: str, *, owner: str, session_id: str, keeps_shares: bool) -> bool:
        async def act(connection: Statements) -> bool:
            is_done = changed(await connection.execute(_ADOPT, owner, session_id, key)) > 0
            if is_done and not keeps_shares:
                await connection.execute(
                    "DELETE FROM shares WHERE session = (SELECT id FROM sessions WHERE key = $1)", key
                )
            return is_done

        return await self._database.transact(act)

    async def delete(self, key: str, tombstone: Tombstone) -> None:
        async def act(connection: Statements) -> None:
            found = await connection.fetchrow(_DELETE, *self._claims.of(key))
            if found is None:
                await self._claims.check_gone(connection, key)
                return
            row_id, owner, session_id = found
            await connection.execute("DELETE FROM events WHERE session = $1", row_id)
            await connection.execute(
                "DELETE FROM idempotency_keys WHERE owner = $1 AND session_id = $2", owner, session_id
            )
            for erase in self._erases:
                await erase(connection, key, owner)
            await tombstones.put(connection, tombstone)
            self._on_delete(key)

        await self._database.transact(act)

    async def _one(self, where: str, *values: object) -> SessionRecord | None:
        found = await self._many(where, *values)
        return found[0] if found else None

    async def _many(self, where: str, *values: object) -> list[SessionRecord]:
        rows = await self._database.query(lambda connection: connection.fetch(SELECT_SHARED + where, *values))
        return [record_of(row) for row in rows]


async def _insert(connection: Statements, record: SessionRecord, born: tuple[int | None, int]) -> int:
    """A new row; its id. Raises SessionExists. `born`: the node that has it, and its generation."""
    row_id = await connection.fetchval(_INSERT, *record_row(record), *born)
    if row_id is None:
        raise SessionExists(session_id=record.session_id)
    return int(row_id)


async def _titled(connection: Statements, row_id: int, event: Event) -> None:
    """A title is found, and listed, with the commit that gives it."""
    assert isinstance(event.data, ev.SessionInfo)  # noqa: S101 - it is projected for these alone
    await connection.execute("UPDATE sessions SET title = $1 WHERE id = $2", event.data.title, row_id)
