"""A standby that was behind is promoted: what it lacks of what was acknowledged is written again by the
gateways that live, and what cannot be is said.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

import pytest

from gateway.config.cluster import ClusterConfig
from gateway.stores.contract import Founding
from gateway.stores.postgresql.recent import RecentCommits
from gateway.stores.postgresql.store import PostgresqlStore
from tests.contract.core_store import running
from tests.contract.engines import Collector, delta, filled, record, tombstone
from tests.failover import both
from tests.patience import within
from tests.postgres import connected, gateways_database, needed, postgres, standby
from tests.shared import SHARED, eventually

pytestmark = SHARED

LAST: Final = 6
"""The seq of the first event after the failover."""


class Writer:
    """A gateway's store, and what it was given and acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.healed: list[tuple[int, bool]] = []
        """How many commits were done again, and if that was all."""
        self.store = PostgresqlStore(
            url,
            cluster=ClusterConfig(name=name, url=f"http://{name}:1/", lease_seconds=5.0, beat_seconds=0.2),
            on_healed=lambda commits, is_all: self.healed.append((commits, is_all)),
        )
        self.old, self.new, self.gone = (f"{word} of {name}" for word in ("old", "new", "gone"))
        self._old = Collector(record(self.old).key)

    async def begin(self) -> None:
        """What a standby gets, too."""
        for name in (self.old, self.gone):
            await self.store.sessions.create(record(name))
        await filled(self.store, self._old, [delta(1, "before")])

    async def go_on(self) -> None:
        """What it does not get: more of a log, a whole session, and that one was deleted."""
        for seq in range(2, LAST):
            await filled(self.store, self._old, [delta(seq, "meanwhile")])
        founding = Founding(reserved_seq=100, gap=None, events=[delta(1, "first")])
        await self.store.sessions.create(record(self.new), founding)
        await filled(self.store, Collector(record(self.new).key), [delta(2, "second")])
        await self.store.sessions.delete(record(self.gone).key, tombstone())

    async def says_more(self) -> None:
        """After the failover."""
        await filled(self.store, self._old, [delta(LAST, "after")])

    async def faults(self) -> list[str]:
        """What was acknowledged and is not so."""
        found = []
        for name, seqs in ((self.old, [*range(1, LAST + 1)]), (self.new, [1, 2])):
            events = await self.store.logs.read_events(record(name).key, after=0, limit=99)
            found += [name] if [event.seq for event in events] != seqs else []
        is_back = await self.store.sessions.find("t/s", self.gone) is not None
        return found + [self.gone] * is_back


@contextlib.asynccontextmanager
async def writer(url: str, name: str) -> AsyncIterator[Writer]:
    made = Writer(url, name)
    async with running(made.store):
        yield made


async def test_what_a_standby_lacked_is_written_again_before_anything_new(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of three gateways one looks at no number, which shows that the check finds what is lost, and one has
    kept nothing.
    """
    needed()
    caplog.set_level(logging.WARNING)
    async with postgres(is_durable=True) as primary, standby(primary, is_synchronous=False) as second:
        url = both(primary, second, (await primary.database()).rpartition("/")[2])
        async with writer(url, "a") as healing, writer(url, "b") as blind, writer(url, "c") as forgetful:
            monkeypatch.setattr(_recent(blind), "is_behind", lambda _number: False)
            monkeypatch.setattr(_recent(blind), "add", lambda _number, _group: None)
            monkeypatch.setattr(_recent(forgetful), "_most", -1)
            each = (healing, blind, forgetful)
            for one in each:
                await one.begin()
            async with primary.connection() as connection, within(10):
                while not await connection.fetchval(_FOLLOWS):
                    pass
            await second.detach()
            for one in each:
                await one.go_on()
            await primary.kill()
            await second.promote()
            for one in each:
                await one.says_more()
            assert await healing.faults() == []
            assert [is_all for _, is_all in healing.healed] == [True]
            assert await blind.faults() == [blind.old, blind.new, blind.gone]
            assert await forgetful.faults() == [forgetful.old, forgetful.new, forgetful.gone]
            assert forgetful.healed == [(0, False)]
    assert "nothing of this gateway is lost" in caplog.text
    assert "were not in memory any more" in caplog.text


_FOLLOWS: Final = "SELECT bool_and(replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"


def _recent(one: Writer) -> RecentCommits:
    assert one.store._writer is not None
    return one.store._writer.recent


async def test_a_gateway_that_has_nothing_to_write_finds_out_with_a_beat() -> None:
    url = gateways_database()
    async with writer(url, "a") as quiet:
        await quiet.begin()
        before = await quiet.store.query(lambda c: c.fetchval("SELECT number FROM commits"))
        await quiet.go_on()
        await quiet.says_more()
        async with connected(url) as connection, connection.transaction():
            await connection.execute("DELETE FROM events WHERE seq > 1")
            await connection.execute("DELETE FROM sessions WHERE key = $1", record(quiet.new).key)
            await connection.execute("UPDATE commits SET number = $1", before)

        async def is_whole() -> bool:
            return bool(quiet.healed) and not await quiet.faults()

        await eventually(is_whole)
