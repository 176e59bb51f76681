"""Every engine of stores, and an end of a log to write to it: a new engine is a line in `ENGINES`."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Final, NamedTuple, Protocol

from gateway.config.tables import Config
from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.contract import SessionRecord, Store, Tombstone
from gateway.stores.logs import LogStore
from gateway.stores.opening import Options, migrations_of, open_store
from gateway.stores.sqlite import writer
from tests.patience import within
from tests.postgres import shared_database

MIGRATIONS: Final = migrations_of(Config())
POSTGRESQL: Final = "postgresql:"
"""A database of its own on the server that all tests share."""


class Engine(NamedTuple):
    """How a store of a kind is reached, and what is set in its modules before."""

    url: str
    """`{directory}` is one of the test's own."""
    settings: tuple[tuple[object, str, object], ...] = ()

    def made(self, directory: pathlib.Path) -> Store:
        """The store, not yet opened; the same again for the same directory."""
        if self.url == POSTGRESQL:
            url = _DATABASES.get(directory) or migrated_database()
            _DATABASES[directory] = url
            return open_store(url, Options(migrations=MIGRATIONS))
        return open_store(self.url.format(directory=directory), Options(migrations=MIGRATIONS))


_DATABASES: Final[dict[pathlib.Path, str]] = {}


def migrated_database() -> str:
    """The URL of a new one on PostgreSQL, with all tables."""
    return shared_database("contract", _migrated)


async def _migrated(url: str) -> None:
    store = open_store(url, Options(migrations=MIGRATIONS))
    await store.open()
    await store.close()


ENGINES: Final = {
    "memory": Engine("memory:"),
    "sqlite": Engine("sqlite:///{directory}/gateway.db"),
    "sqlite, settled at once": Engine(
        "sqlite:///{directory}/gateway.db", settings=((writer, "SETTLE_ROWS", 1),)
    ),
    "postgresql": Engine(POSTGRESQL),
}


class HasLogs(Protocol):
    """The store, or as much of it as there is."""

    @property
    def logs(self) -> LogStore:
        """Its logs."""


class Collector:
    """A log's end that only notes what it is told."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.seq = 0
        self.refusals: list[GatewayError] = []
        self.lost: set[int] = set()
        self._changed = asyncio.Event()

    def committed(self, seq: int) -> None:
        self.seq = seq
        self._changed.set()

    def refused(self, error: GatewayError) -> None:
        self.refusals.append(error)
        self._changed.set()

    def spoiled(self, seqs: set[int], error: GatewayError) -> None:
        self.lost |= seqs

    async def until(self, seq: int) -> None:
        async with within(5):
            while self.seq < seq:
                self._changed.clear()
                await self._changed.wait()


def record(name: str = "a", *, owner: str = "t/s", at: int = 1000) -> SessionRecord:
    return SessionRecord(
        key=f"key-{owner}-{name}",
        owner=owner,
        session_id=name,
        agent="built-in",
        created_at=at,
        last_active_at=at,
    )


def delta(seq: int, text: str, *, name: str = "m") -> Event:
    return Event(seq, 1000 + seq, ev.TextDelta(name, "t1", text))


async def filled(store: HasLogs, sink: Collector, events: list[Event]) -> None:
    for event in events:
        store.logs.enqueue(sink, event, urgent=event is events[-1])
    await sink.until(events[-1].seq)


def notice(seq: int, text: str) -> Event:
    return Event(seq, seq, ev.Notice(f"n{seq}", "info", "c", text))


async def leaves_poison_out(store: Store) -> None:
    """Checks that of three events one is left out alone, whose projection fails: it does for a notice that
    says `poison`.
    """
    mine, other = Collector(record("a").key), Collector(record("b").key)
    for name in ("a", "b"):
        await store.sessions.create(record(name))
    for event in (delta(1, "x"), notice(2, "poison"), notice(3, "fine")):
        store.logs.enqueue(mine, event, urgent=False)
    store.logs.enqueue(other, delta(1, "y"), urgent=True)
    beside = asyncio.create_task(store.sessions.create(record("c")))
    await asyncio.gather(mine.until(3), other.until(1), beside)
    assert (mine.lost, other.lost, mine.refusals, other.refusals) == ({2}, set(), [], [])
    assert [event.seq for event in await store.logs.read_events(mine.key, after=0, limit=9)] == [1, 3]
    assert [event.seq for event in await store.logs.read_events(other.key, after=0, limit=9)] == [1]
    await filled(store, mine, [notice(4, "poison"), delta(5, "z")])
    assert mine.lost == {2, 4}


def tombstone(owner: str = "t/s", *, at: int = 5) -> Tombstone:
    return Tombstone(owner=owner, session_hash="h", last_seq=9, at=at, reason="deleted")
