"""`FileStore` in three tables, over connections of its own: a large content holds up no event.

Every statement may run again, because it changes nothing the second time; so what was lost on the way is sent
again. Whoever writes or removes is alive by its row, in the same statement, as with events (appending.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from gateway.errors import StoreFailed
from gateway.stores.database import Statements
from gateway.stores.files import ContentPart, FilesStand
from gateway.stores.postgresql.appending import ALIVE
from gateway.stores.postgresql.connections import ReadPool

CONNECTIONS: Final = 2
DIGEST_BYTES: Final = 32
"""Of SHA-256."""
LOST: Final = "Another gateway has this session by now, so nothing more of its files is kept from here"

_MINE: Final = (
    f"WITH {ALIVE}, mine AS (SELECT FROM alive WHERE NOT EXISTS (SELECT FROM sessions JOIN nodes"  # noqa: S608 - literals
    " ON nodes.id = sessions.node WHERE sessions.key = $2 AND sessions.node <> $1))"
)
"""One row if this gateway ($1) lives, and no other that lives has the session ($2)."""
_DONE: Final = " SELECT EXISTS (SELECT FROM mine)"
_HOLD: Final = (
    "held AS (INSERT INTO file_holders (session, holder) SELECT $2, $3 FROM mine"
    " ON CONFLICT (session) DO UPDATE SET holder = excluded.holder)"
)
_HOLDS: Final = f"{_MINE}, {_HOLD}{_DONE}"
_PUT_MANIFEST: Final = (
    f"{_MINE}, {_HOLD}, put AS (INSERT INTO file_manifests (session, place, body)"  # noqa: S608 - literals
    " SELECT $2, $4::bigint, $5::bytea FROM mine"
    f" ON CONFLICT (session, place) DO UPDATE SET body = excluded.body){_DONE}"
)
_KEEP_MANIFESTS: Final = (
    f"{_MINE}, gone AS (DELETE FROM file_manifests USING mine"  # noqa: S608 - literals
    f" WHERE session = $2 AND place <> ALL($3::bigint[])){_DONE}"
)
_SHARE_MANIFESTS: Final = (
    f"{_MINE}, put AS (INSERT INTO file_manifests (session, place, body)"  # noqa: S608 - literals
    " SELECT $2, place, body FROM file_manifests, mine WHERE session = $3 AND place = ANY($4::bigint[])"
    f" ON CONFLICT DO NOTHING){_DONE}"
)
_PUT_PARTS: Final = (
    f"{_MINE}, put AS (INSERT INTO file_contents (session, digest, part, is_last, body)"  # noqa: S608 - literals
    " SELECT $2, p.* FROM mine, unnest($3::bytea[], $4::int[], $5::bool[], $6::bytea[])"
    f" AS p (digest, part, is_last, body) ON CONFLICT DO NOTHING){_DONE}"
)
_DIGESTS: Final = (
    "(SELECT substring({of}::bytea FROM 1 + {size} * i FOR {size})"
    " FROM generate_series(0, octet_length({of}::bytea) / {size} - 1) AS i)"
)
"""Digests that are sent as one value: to put an array of 100,000 together takes the loop a tenth of a second.
"""
_KEEP_CONTENTS: Final = (
    f"{_MINE}, gone AS (DELETE FROM file_contents USING mine WHERE session = $2"  # noqa: S608 - literals
    f" AND NOT EXISTS (SELECT FROM {_DIGESTS.format(of='$3', size=DIGEST_BYTES)} AS kept (digest)"
    f" WHERE kept.digest = file_contents.digest)){_DONE}"
)
_SHARE_CONTENTS: Final = (
    f"{_MINE}, put AS (INSERT INTO file_contents (session, digest, part, is_last, body)"  # noqa: S608 - literals
    " SELECT $2, c.digest, part, is_last, body FROM mine, file_contents AS c"
    f" JOIN {_DIGESTS.format(of='$4', size=DIGEST_BYTES)} AS wanted (digest)"
    " ON wanted.digest = c.digest WHERE session = $3"
    f" ON CONFLICT DO NOTHING){_DONE}"
)
_REMOVE: Final = (
    f"{_MINE}, contents AS (DELETE FROM file_contents USING mine WHERE session = $2),"  # noqa: S608 - literals
    " manifests AS (DELETE FROM file_manifests USING mine WHERE session = $2),"
    f" held AS (DELETE FROM file_holders USING mine WHERE session = $2){_DONE}"
)
_STAND: Final = (
    "SELECT coalesce((SELECT holder FROM file_holders WHERE session = $1), ''),"
    " coalesce((SELECT max(place) FROM file_manifests WHERE session = $1), -1)"
)
_KEYS: Final = (
    "SELECT session FROM file_manifests WHERE starts_with(session, $1)"
    " UNION SELECT session FROM file_holders WHERE starts_with(session, $1)"
)
_MISSING: Final = (
    "SELECT wanted.digest FROM unnest($2::bytea[]) AS wanted (digest) WHERE (SELECT true FROM file_contents"
    " WHERE session = $1 AND digest = wanted.digest AND is_last LIMIT 1) IS NULL"
)
"""This and the next look up each digest in the index. A join may read everything that the session has, for
each batch: statistics of a table that grew a moment ago say that it is small.
"""
_SMALL: Final = (
    "SELECT wanted.digest, c.body FROM unnest($2::bytea[]) AS wanted (digest), LATERAL (SELECT body"
    " FROM file_contents WHERE session = $1 AND digest = wanted.digest AND part = 0 AND is_last LIMIT 1) AS c"
)
_PARTS: Final = (
    "SELECT digest, part, is_last, body FROM file_contents WHERE session = $1 AND digest = $2"
    " AND part >= $3 AND part < $4 ORDER BY part"
)
_BYTES: Final = "SELECT coalesce(sum(octet_length(body)), 0)::bigint FROM file_contents WHERE session = $1"
_BYTES_OF: Final = (
    "SELECT coalesce(sum((SELECT sum(octet_length(body)) FROM file_contents"  # noqa: S608 - literals
    " WHERE session = $1 AND digest = wanted.digest)), 0)::bigint"
    f" FROM {_DIGESTS.format(of='$2', size=DIGEST_BYTES)} AS wanted (digest)"
)
_MANIFESTS_BYTES: Final = (
    "SELECT coalesce(sum(octet_length(body)), 0)::bigint FROM file_manifests WHERE session = $1"
)
_GONE: Final = (
    "SELECT k.key FROM unnest($1::text[]) AS k (key)"
    " WHERE NOT EXISTS (SELECT FROM sessions WHERE sessions.key = k.key)"
)
_ABANDONED: Final = (
    "SELECT session FROM file_holders WHERE NOT EXISTS"
    " (SELECT FROM sessions WHERE sessions.key = file_holders.session) ORDER BY session LIMIT $1"
)
_ELSEWHERE: Final = "SELECT session FROM file_holders WHERE session = ANY($1::text[]) AND holder <> $2"


class PostgresqlFiles:
    """See the module."""

    def __init__(self, url: str, *, node: Callable[[], int]) -> None:
        """`node`: the id of the row that says that this gateway may write."""
        self._node = node
        self._pool = ReadPool(url, size=CONNECTIONS, at_first=0)

    async def open(self, *, keeps: bool) -> None:
        """Raises what asyncpg raises, or OSError."""
        await self._pool.open(keeps=keeps)

    async def close(self) -> None:
        """Lets go of all connections."""
        await self._pool.close()

    def interrupt(self) -> None:
        """The connections are dead, as somebody else found out."""
        self._pool.interrupt()

    async def _write(self, statement: str, key: str, *values: object) -> None:
        if not await self._value(statement, self._node(), key, *values):
            raise StoreFailed(LOST)

    async def _value(self, query: str, *values: object) -> Any:
        return await self._pool.query(lambda connection: connection.fetchval(query, *values))

    async def _rows(self, query: str, *values: object) -> Sequence[Any]:
        return await self._pool.query(lambda connection: connection.fetch(query, *values))

    # -- manifests, and who has the files -----------------------------------------------------------------

    async def stand(self, key: str) -> FilesStand:
        (row,) = await self._rows(_STAND, key)
        return FilesStand(*row)

    async def hold(self, key: str, holder: str) -> None:
        await self._write(_HOLDS, key, holder)

    async def places(self, key: str) -> list[int]:
        query = "SELECT place FROM file_manifests WHERE session = $1 ORDER BY place"
        return [row[0] for row in await self._rows(query, key)]

    async def manifest(self, key: str, place: int) -> bytes | None:
        query = "SELECT body FROM file_manifests WHERE session = $1 AND place = $2"
        found: bytes | None = await self._value(query, key, place)
        return found

    async def put_manifest(self, key: str, place: int, body: bytes, *, holder: str) -> None:
        await self._write(_PUT_MANIFEST, key, holder, place, body)

    async def keep_manifests(self, key: str, places: Collection[int]) -> None:
        await self._write(_KEEP_MANIFESTS, key, list(places))

    async def share_manifests(self, source: str, target: str, places: Collection[int]) -> None:
        await self._write(_SHARE_MANIFESTS, target, source, list(places))

    async def manifests_bytes(self, key: str) -> int:
        return int(await self._value(_MANIFESTS_BYTES, key))

    async def keys(self, prefix: str) -> list[str]:
        return [row[0] for row in await self._rows(_KEYS, prefix)]

    async def remove(self, key: str) -> None:
        await self._write(_REMOVE, key)

    async def abandoned(self, *, limit: int) -> list[str]:
        return [row[0] for row in await self._rows(_ABANDONED, limit)]

    async def gone(self, keys: Sequence[str]) -> set[str]:
        return {row[0] for row in await self._rows(_GONE, list(keys))}

    async def held_elsewhere(self, keys: Sequence[str], holder: str) -> set[str]:
        return {row[0] for row in await self._rows(_ELSEWHERE, list(keys), holder)}

    # -- contents -----------------------------------------------------------------------------------------

    async def missing(self, key: str, digests: Collection[bytes]) -> set[bytes]:
        return {row[0] for row in await self._rows(_MISSING, key, list(digests))}

    async def put_parts(self, key: str, parts: Sequence[ContentPart]) -> None:
        await self._write(_PUT_PARTS, key, *([part[column] for part in parts] for column in range(4)))

    async def small(self, key: str, digests: Collection[bytes]) -> dict[bytes, bytes]:
        return {row[0]: row[1] for row in await self._rows(_SMALL, key, list(digests))}

    async def parts(self, key: str, digest: bytes, *, first: int, count: int) -> list[ContentPart]:
        return [ContentPart(*row) for row in await self._rows(_PARTS, key, digest, first, first + count)]

    async def keep_contents(self, key: str, digests: Collection[bytes]) -> None:
        await self._write(_KEEP_CONTENTS, key, b"".join(digests))

    async def share_contents(self, source: str, target: str, digests: Collection[bytes]) -> None:
        await self._write(_SHARE_CONTENTS, target, source, b"".join(digests))

    async def contents_bytes(self, key: str, digests: Collection[bytes] | None = None) -> int:
        if digests is None:
            return int(await self._value(_BYTES, key))
        return int(await self._value(_BYTES_OF, key, b"".join(digests)))


async def forget_session(connection: Statements, key: str, owner: str) -> None:
    """Deletes what is kept of the files of a session, with it. Its holder stays until its contents elsewhere
    are removed, too: see `abandoned`.
    """
    for table in ("file_contents", "file_manifests"):
        await connection.execute(f"DELETE FROM {table} WHERE session = $1", key)  # noqa: S608 - names of the schema
