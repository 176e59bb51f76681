"""The store on PostgreSQL: its connections, its tables, and the concerns, each in a module of its own."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreFailed
from gateway.events.facts import Event
from gateway.stores.contract import OnBeat
from gateway.stores.database import PostgresqlProjection, Statements
from gateway.stores.directory import Newcomer, NodeLoad, NodesSeen
from gateway.stores.migrations import Migrations
from gateway.stores.postgresql import kept_files, ledger, options, schema
from gateway.stores.postgresql.changes import PostgresqlChanges
from gateway.stores.postgresql.claims import HeldSessions
from gateway.stores.postgresql.connections import ReadPool, connect, is_pooled, look_at
from gateway.stores.postgresql.credentials import PostgresqlCredentials, PostgresqlUsage
from gateway.stores.postgresql.directory import PostgresqlDirectory
from gateway.stores.postgresql.errors import OF_THE_DRIVER, worded
from gateway.stores.postgresql.held import PostgresqlHeld
from gateway.stores.postgresql.idempotency import PostgresqlIdempotency
from gateway.stores.postgresql.labels import PostgresqlLabels
from gateway.stores.postgresql.lease import NodeLease
from gateway.stores.postgresql.logs import PostgresqlLogs
from gateway.stores.postgresql.nodes import SeveralNodes
from gateway.stores.postgresql.people import PostgresqlPeople
from gateway.stores.postgresql.recent import Act
from gateway.stores.postgresql.search import PostgresqlSearch
from gateway.stores.postgresql.secrets import PostgresqlSecrets
from gateway.stores.postgresql.sequences import PostgresqlSequences
from gateway.stores.postgresql.sessions import Erase, PostgresqlSessions
from gateway.stores.postgresql.signing import PostgresqlSigning
from gateway.stores.postgresql.tenants import PostgresqlTenants
from gateway.stores.postgresql.tombstones import PostgresqlTombstones
from gateway.stores.postgresql.writer import LOST, PostgresqlWriter

T = TypeVar("T")


class PostgresqlStore:
    """`Store` in one database."""

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        migrations: Sequence[Migrations] = (),
        on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None,
        on_end: Callable[[str], None] = lambda _words: None,
        cluster: ClusterConfig | None = None,
        on_beat: OnBeat = lambda _sent, _is_there: None,
        on_seen: Callable[[NodesSeen], None] = lambda _seen: None,
        load: Callable[[], NodeLoad] = NodeLoad,
        version: str = "",
        mark: Callable[[], str] = str,
        on_healed: Callable[[int, bool], None] = lambda _commits, _is_all: None,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """`migrations`: of applications. `on_commit` hears how many seconds a commit took and if it was done,
        `on_end` that nothing can be stored any more, `on_beat` of each answer to a beat, `on_healed` how many
        commits that PostgreSQL had lost were done again, and if that was all.
        The others are for one of several gateways (`Options` says what they are).
        """
        self._on_seen = on_seen
        self._load = load
        self._version, self._mark = version, mark
        self._keeps = True
        """No pooler is in between."""
        self._cluster = cluster or ClusterConfig()
        self._on_beat = on_beat
        self._on_healed = on_healed
        self._on_doubt = on_doubt
        self._url = url
        self._migrations = migrations
        self._on_commit = on_commit
        self.on_end = on_end
        self._projections: dict[type, list[PostgresqlProjection]] = {}
        self._erases: list[Erase] = [
            ledger.forget_session,
            options.forget_options,
            kept_files.forget_session,
        ]
        """What other concerns delete with a session."""
        self._readers = ReadPool(url)
        self._lease: NodeLease | None = None
        is_alone = not self._cluster.url
        self.claims = HeldSessions(is_alone=is_alone)
        self.directory = (
            None
            if is_alone
            else PostgresqlDirectory(
                self._readers,
                self.claims,
                transact=self.transact,
                connect=self._connected,
                announce=self._beat_soon,
            )
        )
        self._writer: PostgresqlWriter | None = None
        self.files = kept_files.PostgresqlFiles(url, node=self._node)
        self.search = PostgresqlSearch(self)
        self.labels = PostgresqlLabels(self)
        self.sessions = PostgresqlSessions(
            self,
            claims=self.claims,
            append=self._append,
            write_soon=self._write_soon,
            erases=self._erases,
            on_delete=self.claims.drop,
            on_fork=self.search.touch,
        )
        self.logs = PostgresqlLogs(self, claims=self.claims, writer=lambda: self._writer)
        self.tombstones = PostgresqlTombstones(self)
        self.idempotency = PostgresqlIdempotency(self)
        self.credentials = PostgresqlCredentials(self)
        self.secrets = PostgresqlSecrets(self)
        self.people = PostgresqlPeople(self)
        self.tenants = PostgresqlTenants(self)
        self.usage = PostgresqlUsage(self)
        self.options = options.PostgresqlOptions(self)
        self.ledger = ledger.PostgresqlLedger(
            self, node=(lambda: 0) if is_alone else self._node, transact=self._transact_past
        )
        self.sequences = PostgresqlSequences(self)
        self.changes = PostgresqlChanges(self)
        self.signing = PostgresqlSigning(self, node=self._node)
        self.held = None if is_alone else PostgresqlHeld(self._readers, node=self._node)

    @property
    def tables(self) -> PostgresqlStore:
        """For applications: this database."""
        return self

    def project(self, kinds: Iterable[type], act: PostgresqlProjection) -> None:
        """Has rows of other tables made of events, in their commits; called before it is opened."""
        for kind in kinds:
            self._projections.setdefault(kind, []).append(act)

    def _node(self) -> int:
        """The id of this gateway's row."""
        return self.claims.node

    async def _append(self, connection: Statements, row_id: int, events: Sequence[Event]) -> None:
        if self._writer is not None:
            await self._writer.appender.append(connection, [(row_id, events)])

    def _write_soon(self, act: Act) -> None:
        if self._writer is not None:
            self._writer.call_soon(act)

    async def open(self) -> None:
        """Raises StoreFailed if it cannot be, as when another gateway has the database."""
        try:
            await self._open(keeps=not await is_pooled(self._url))
        except OF_THE_DRIVER as error:
            await self.close()
            raise worded(error) from error
        except BaseException:
            await self.close()
            raise

    async def _connected(self) -> Any:
        return await connect(self._url, keeps=self._keeps)

    def _several(self) -> SeveralNodes | None:
        cluster = self._cluster
        if self.claims.is_alone:
            return None
        newcomer = Newcomer(
            name=cluster.name or socket.gethostname(),
            url=cluster.url.rstrip("/"),
            version=self._version,
            mark=self._mark(),
            schema=schema.named(self._migrations),
            lease_seconds=cluster.lease_seconds,
            beat_seconds=cluster.beat_seconds,
        )
        return SeveralNodes(newcomer, connect=self._connected, load=self._load, on_seen=self._on_seen)

    def _beat_soon(self) -> None:
        if self._lease is not None:
            self._lease.beat_soon()

    async def _open(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._lease = lease = NodeLease(
            self._url,
            keeps=keeps,
            cluster=self._cluster,
            on_beat=self._on_beat,
            migrate=self._migrate,
            on_lost=self._lost,
            on_silence=self._silent,
            acknowledged=lambda: self._writer.recent.acknowledged if self._writer is not None else 0,
            on_behind=self._behind,
            several=self._several(),
        )
        await lease.take()
        self.claims.node = lease.node
        lease.start()
        await self._readers.open(keeps=keeps)
        await self.files.open(keeps=keeps)
        self._writer = PostgresqlWriter(
            self._connected,
            claims=self.claims,
            projections=self._projections,
            on_commit=self._on_commit,
            on_end=lambda words: self.on_end(words),
            on_healed=lambda healing: self._on_healed(healing.commits, healing.is_all),
            on_doubt=self._on_doubt,
        )
        self._writer.start()

    async def _migrate(self, connection: Any) -> None:
        await look_at(connection)
        await schema.migrate(connection, self._migrations)

    def _lost(self) -> None:
        if self._writer is not None:
            self._writer.end(LOST)

    def _behind(self) -> None:
        if self._writer is not None:
            self._writer.heal()

    def _silent(self) -> None:
        self._readers.interrupt()
        self.files.interrupt()
        if self._writer is not None:
            self._writer.interrupt()

    async def close(self) -> None:
        """Commits what is enqueued and lets go."""
        if self._writer is not None:
            await self._writer.stop()
        if self._lease is not None:
            await self._lease.release()
        await self.files.close()
        await self._readers.close()

    async def query(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Runs `act` on a connection that reads; for stores of other things in the same database, too."""
        return await self._readers.query(act)

    async def transact(self, act: Callable[[Statements], Awaitable[T]], *, is_long: bool = False) -> T:
        """Runs `act` inside the next group commit of the writer's that takes it; for others in the same
        database, too.
        """
        if self._writer is None:
            raise StoreFailed("The store is closed.")
        result: T = await self._writer.call(act, is_long=is_long)
        return result

    async def _transact_past(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Runs `act`, which puts down what has happened: that is true whoever has this one's place now, so it
        is committed also once that is lost.
        """
        try:
            return await self.transact(act)
        except StoreFailed:
            if self._writer is None or not self._writer.has_lost_place:
                raise
        await self._readers.query(lambda c: c.fetchval("SELECT 1"))  # lets go of connections that are dead
        return await self._readers.transact(act)

    async def size_bytes(self) -> int:
        query = "SELECT pg_database_size(current_database())"
        return int(await self.query(lambda connection: connection.fetchval(query)))

    async def has_table(self, name: str) -> bool:
        """True if the database has a table of this name."""
        return await self.query(lambda connection: schema.has_table(connection, name))
