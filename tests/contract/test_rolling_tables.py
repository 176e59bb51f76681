"""Gateways of two versions on one PostgreSQL, of which the newer one brings a migration: one that is additive
is applied under the older ones, which go on and may start again; for any other all of them must have ended.
"""

from __future__ import annotations

import pathlib
import shutil
from typing import Final

import pytest

from gateway.errors import StoreFailed
from gateway.stores.migrations import Migrations
from gateway.stores.postgresql import schema
from gateway.stores.postgresql.beside import PostgresqlTables
from gateway.stores.postgresql.store import PostgresqlStore
from tests.contract.core_store import opened
from tests.contract.engines import Collector, delta, filled, record
from tests.contract.test_directory import OneNode, node
from tests.postgres import connected, gateways_database
from tests.shared import SHARED

pytestmark = SHARED

PLANTED: Final = """
ALTER TABLE sessions ADD COLUMN planted text NOT NULL DEFAULT 'yes';
ALTER TABLE events ADD COLUMN planted int;
CREATE TABLE planted (id bigint PRIMARY KEY);
"""
ADDITIVE: Final = f"-- additive: what is planted\n{PLANTED}"


class Versions:
    """Which version the next start is of."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: pathlib.Path) -> None:
        self._patch = patch
        self._old, self._new = schema.CORE, Migrations("core", directory / "newer")
        shutil.copytree(self._old.directory, self._new.directory)

    def newer(self, script: str) -> None:
        """One with this migration."""
        (self._new.directory / "9999_planted.sql").write_text(script)
        self._patch.setattr(schema, "CORE", self._new)

    def older(self) -> None:
        self._patch.setattr(schema, "CORE", self._old)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Versions:
    return Versions(monkeypatch, tmp_path)


async def _last(url: str) -> int:
    async with connected(url) as connection:
        return int(await connection.fetchval("SELECT max(number) FROM package_migrations"))


async def _works(made: OneNode, name: str, *, hands_to: OneNode) -> None:
    """It begins a session, which the other one reads and takes."""
    sink = Collector(record(name).key)
    await made.store.sessions.create(record(name))
    await filled(made.store, sink, [delta(1, "x"), delta(2, "y")])
    await made.directory.release(record(name).key)
    assert await hands_to.claim(name) == 2
    assert len(await hands_to.store.logs.read_events(record(name).key, after=0, limit=9)) == 2


async def test_an_additive_migration_is_applied_under_older_ones_which_go_on_and_start_again(
    versions: Versions,
) -> None:
    url = gateways_database()
    async with node(url, "a") as old:
        await old.store.sessions.create(record("before"))
        versions.newer(ADDITIVE)
        async with node(url, "b") as new:
            assert await _last(url) == 9999
            await _works(old, "by the older", hands_to=new)
            await _works(new, "by the newer", hands_to=old)
            versions.older()
            async with node(url, "c") as again:
                await _works(again, "by one started again", hands_to=new)
                assert again.ends == old.ends == new.ends == []
            beside = PostgresqlTables(url)
            await beside.open()
            await beside.close()
    async with opened(url) as alone:
        assert await alone.sessions.find("t/s", "before") is not None


async def test_for_another_migration_the_older_ones_must_have_ended(versions: Versions) -> None:
    url = gateways_database()
    before = await _last(url)
    async with node(url, "a") as old:
        versions.newer(PLANTED)
        words = rf"version 1\.2\) knows other tables.*core {before} there, core 9999 here.*nodes drain NAME"
        with pytest.raises(StoreFailed, match=words):
            await OneNode(url, "b").store.open()
        assert await _last(url) == before
        await old.store.sessions.create(record("not disturbed"))
    async with node(url, "b"):
        assert await _last(url) == 9999
        versions.older()
        with pytest.raises(StoreFailed, match=r"core 9999 there.*their version"):
            await OneNode(url, "a").store.open()
    for store in (OneNode(url, "a").store, PostgresqlStore(url)):
        with pytest.raises(StoreFailed, match=r"of version 9999, this program knows up to.*newer program"):
            await store.open()


async def test_tables_of_a_program_that_noted_nothing_of_additions_are_not_trusted(
    versions: Versions,
) -> None:
    """As the one before had it: whatever it does not know is another version."""
    url = gateways_database()
    async with connected(url) as connection:
        await connection.execute("ALTER TABLE package_migrations DROP COLUMN is_additive")
        assert await schema.is_current(connection, ())
        await connection.execute("INSERT INTO package_migrations VALUES ('core', 9999)")
        assert not await schema.is_current(connection, ())
    with pytest.raises(StoreFailed, match="of version 9999"):
        await OneNode(url, "a").store.open()
