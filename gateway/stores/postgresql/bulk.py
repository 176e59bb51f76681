"""A database of PostgreSQL's, read and filled whole (stores/bulk.py).

Read in one transaction that sees one moment, so that a gateway may run meanwhile; each batch has a bound in
rows and bytes. Filled by COPY, a transaction for each batch. Until it is whole the table `store_copying` is
there, which the gateway's start refuses (schema.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreFailed
from gateway.stores.bulk import (
    BATCH_BYTES,
    BATCH_ROWS,
    COPYING,
    ENGINES_COLUMNS,
    ENGINES_OWN,
    EventRow,
    Row,
    Shape,
    rows_at_once,
)
from gateway.stores.migrations import Migrations
from gateway.stores.postgresql import schema, texts
from gateway.stores.postgresql.connections import connect, is_pooled
from gateway.stores.postgresql.errors import OF_THE_DRIVER, worded
from gateway.stores.postgresql.lease import NodeLease
from gateway.stores.postgresql.urls import shown

_TABLES: Final = (
    "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) AS columns,"
    " array_agg(format_type(a.atttypid, NULL) ORDER BY a.attnum) AS kinds"
    " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
    " AND c.relnamespace = current_schema()::regnamespace"
    " GROUP BY c.relname ORDER BY c.relname"
)
_REFERENCES: Final = (
    "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
    " WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND conrelid <> confrelid"
)
_COUNTED: Final = (
    "SELECT a.attname, pg_get_serial_sequence(quote_ident(c.relname), a.attname) FROM pg_class c"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace"
    " AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL"
)
_NUMBERS: Final = "SELECT name, next - 1 FROM sequences"
_NUMBER_ON: Final = (
    "INSERT INTO sequences AS s (name, next) VALUES ($1, $2)"
    " ON CONFLICT (name) DO UPDATE SET next = greatest(s.next, excluded.next)"
)
_COUNT_ON: Final = "SELECT setval($1::text::regclass, $2, $3)"
_LENGTHS: Final = (
    "SELECT session, seq, octet_length(body) FROM events WHERE (session, seq) > ($1, $2)"
    " ORDER BY session, seq LIMIT $3"
)
_EVENTS: Final = (
    "SELECT session, seq, at, body FROM events WHERE (session, seq) > ($1, $2) AND (session, seq) <= ($3, $4)"
    " ORDER BY session, seq"
)


class PostgresqlBulk:
    """One database; its `Opener`."""

    def __init__(self, url: str, migrations: Sequence[Migrations]) -> None:
        self._url = url
        self._migrations = [one for one in migrations if (one.directory / schema.FOLDER).is_dir()]

    @contextlib.asynccontextmanager
    async def reading(self, *, is_alone: bool) -> AsyncIterator[PostgresqlSide]:
        """As of one moment. Raises StoreFailed."""
        async with contextlib.AsyncExitStack() as stack:
            if is_alone:
                await stack.enter_async_context(self._alone())
            connection = await stack.enter_async_context(self._connected())
            if await schema.has_table(connection, COPYING):
                raise StoreFailed(
                    f"{shown(self._url)} is a half copy: finish it with agent-gateway store copy."
                )
            if not await schema.has_table(connection, "sessions"):
                raise StoreFailed(f"{shown(self._url)} has no tables of a gateway.")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield PostgresqlSide(connection, shown(self._url))

    @contextlib.asynccontextmanager
    async def filling(self) -> AsyncIterator[PostgresqlTarget]:
        """Raises StoreFailed."""
        async with self._alone(is_copying=True), self._connected() as connection:
            yield PostgresqlTarget(connection, shown(self._url))

    async def is_empty(self) -> bool:
        async with self._alone(is_copying=True), self._connected() as connection:
            if await schema.has_table(connection, COPYING):
                return True
            return await PostgresqlSide(connection, "").first_filled() is None

    async def empty(self) -> None:
        async with self._alone(is_copying=True), self._connected() as connection, connection.transaction():
            await connection.execute(f"DROP TABLE IF EXISTS {COPYING}")
            names = [shape.name for shape in await PostgresqlSide(connection, "").shapes()]
            await connection.execute(f"TRUNCATE events, sequences, {', '.join(names)} CASCADE")

    @contextlib.asynccontextmanager
    async def _alone(self, *, is_copying: bool = False) -> AsyncIterator[None]:
        """Holds the database as a gateway would, its tables made."""
        lease = NodeLease(
            self._url,
            keeps=not await self._is_pooled(),
            migrate=lambda one: schema.migrate(one, self._migrations, is_copying=is_copying),
            cluster=ClusterConfig(),
            on_beat=lambda *_: None,
            on_lost=lambda: None,
            on_silence=lambda: None,
        )
        try:
            await lease.take()
            lease.start()
            yield
        except OF_THE_DRIVER as error:
            raise worded(error) from error
        finally:
            await lease.release()

    async def _is_pooled(self) -> bool:
        try:
            return await is_pooled(self._url)
        except OF_THE_DRIVER as error:
            raise worded(error) from error

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        try:
            connection = await connect(self._url, keeps=not await self._is_pooled())
            try:
                await connection.set_type_codec(
                    "text", schema="pg_catalog", encoder=_kept, decoder=_given, format="binary"
                )
                yield connection
            finally:
                await connection.close(timeout=5)
        except OF_THE_DRIVER as error:
            raise worded(error) from error


def _kept(text: str) -> bytes:
    """As COPY wants it."""
    return texts.kept(text).encode()


def _given(stored: bytes) -> str:
    return texts.given(bytes(stored).decode())


class PostgresqlSide:
    """See the module."""

    def __init__(self, connection: Any, name: str) -> None:
        self._connection = connection
        self.name = name
        self._kinds: dict[str, dict[str, str]] = {}

    async def shapes(self) -> list[Shape]:
        refers = await self._connection.fetch(_REFERENCES)
        found = []
        for name, columns, kinds in await self._connection.fetch(_TABLES):
            if name in ENGINES_OWN:
                continue
            self._kinds[name] = dict(zip(columns, kinds, strict=True))
            own = ENGINES_COLUMNS if name == "sessions" else frozenset()
            refers_to = frozenset(there for here, there in refers if here == name)
            kept = tuple(one for one in columns if one not in own)
            found.append(Shape(name=name, columns=kept, refers_to=refers_to))
        return found

    async def first_filled(self) -> str | None:
        """A table that has rows."""
        for name in ("events", *(shape.name for shape in await self.shapes())):
            query = f"SELECT EXISTS (SELECT FROM {name})"  # noqa: S608 - names of the schema
            if await self._connection.fetchval(query):
                return name
        return None

    async def rows(self, shape: Shape) -> AsyncIterator[list[Row]]:
        query = f"SELECT {', '.join(shape.columns)} FROM {shape.name}"  # noqa: S608 - names of the schema
        switches = self._switches(shape)
        cursor = f"copied_{shape.name}"  # a name of its own: what FETCH gives is remembered by its text
        await self._connection.execute(f"DECLARE {cursor} NO SCROLL CURSOR FOR {query}")
        while batch := await self._connection.fetch(f"FETCH {rows_at_once(shape.name)} FROM {cursor}"):
            yield [[int(v) if i in switches and v is not None else v for i, v in enumerate(r)] for r in batch]
        await self._connection.execute(f"CLOSE {cursor}")

    def _switches(self, shape: Shape) -> frozenset[int]:
        """Which columns are boolean."""
        kinds = self._kinds[shape.name]
        return frozenset(i for i, name in enumerate(shape.columns) if kinds[name] == "boolean")

    async def events(self, after: tuple[int, int] = (0, 0)) -> AsyncIterator[list[EventRow]]:
        while lengths := await self._connection.fetch(_LENGTHS, *after, BATCH_ROWS):
            size, through = 0, after
            for session, seq, length in lengths:
                if size and size + length > BATCH_BYTES:
                    break
                size, through = size + length, (session, seq)
            rows = await self._connection.fetch(_EVENTS, *after, *through)
            yield [(row[0], row[1], row[2], row[3]) for row in rows]
            after = through

    async def last_numbers(self) -> dict[str, int]:
        return dict(await self._connection.fetch(_NUMBERS))

    async def session_names(self, ids: Sequence[int]) -> dict[int, str]:
        query = "SELECT id, owner || ' ' || session_id FROM sessions WHERE id = ANY($1)"
        return dict(await self._connection.fetch(query, list(ids)))


class PostgresqlTarget(PostgresqlSide):
    """See the module."""

    async def begin(self, source: str) -> frozenset[str]:
        async with self._connection.transaction():
            if await schema.has_table(self._connection, COPYING):
                noted = await self._connection.fetch(f"SELECT what FROM {COPYING}")  # noqa: S608 - names of the schema
                found = frozenset(row[0] for row in noted)
                if f"from {source}" not in found:
                    raise StoreFailed(
                        f"{self.name} is a half copy of something else: name an empty database."
                    )
                return found
            if (table := await self.first_filled()) is not None:
                raise StoreFailed(f"{self.name} is not empty: its table {table} has rows. Name an empty one.")
            await self._connection.execute(f"CREATE TABLE {COPYING} (what text PRIMARY KEY)")
            await self.note(f"from {source}")
        return frozenset()

    async def last_event(self) -> tuple[int, int]:
        query = "SELECT session, seq FROM events ORDER BY session DESC, seq DESC LIMIT 1"
        found = await self._connection.fetchrow(query)
        return (found[0], found[1]) if found is not None else (0, 0)

    async def clear(self, shape: Shape) -> None:
        await self._connection.execute(f"DELETE FROM {shape.name}")  # noqa: S608 - a name of the schema

    async def put(self, shape: Shape, rows: Sequence[Row]) -> None:
        switches = self._switches(shape)
        await self._copy(
            shape.name,
            shape.columns,
            [[bool(v) if i in switches and v is not None else v for i, v in enumerate(row)] for row in rows],
        )

    async def put_events(self, rows: Sequence[EventRow]) -> None:
        await self._copy("events", ("session", "seq", "at", "body"), rows)

    async def _copy(self, table: str, columns: Iterable[str], rows: Sequence[Row]) -> None:
        async with self._connection.transaction():
            await self._connection.copy_records_to_table(table, records=rows, columns=list(columns))

    async def note(self, table: str) -> None:
        await self._connection.execute(f"INSERT INTO {COPYING} (what) VALUES ($1)", table)  # noqa: S608 - names of the schema

    async def finish(self, last_numbers: dict[str, int]) -> None:
        async with self._connection.transaction():
            for name, last in last_numbers.items():
                await self._connection.execute(_NUMBER_ON, name, last + 1)
            for shape in await self.shapes():
                for column, sequence in await self._connection.fetch(_COUNTED, shape.name):
                    await self._count_on(shape.name, column, sequence)
            await self._connection.execute(f"DROP TABLE {COPYING}")
        await self._connection.execute("ANALYZE")

    async def _count_on(self, table: str, column: str, sequence: str) -> None:
        """The next row's number is the one behind the largest."""
        query = f"SELECT coalesce(max({column}), 0) FROM {table}"  # noqa: S608 - names of the schema
        last = await self._connection.fetchval(query)
        await self._connection.execute(_COUNT_ON, sequence, max(last, 1), last > 0)
