"""`agent-gateway store copy` and `check`: what a gateway has stored with all its applications, moved from one
engine to the other and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sqlite3
import sys
import tarfile
from typing import Final

import pytest

from gateway.errors import StoreFailed
from gateway.maintenance.copying import check, copy, every_migration
from gateway.maintenance.lock import DataLock
from gateway.stores.bulk_opening import of_postgresql, opener
from gateway.stores.opening import Options, open_store
from gateway.stores.sqlite.file import prepare
from tests.contract.engines import MIGRATIONS, migrated_database
from tests.gateways import ROOT
from tests.integration.test_command_line import typed
from tests.old.make import KEPT
from tests.postgres import connected, shared_database
from tests.shared import SHARED, eventually

pytestmark = SHARED
VERSION: Final = "0.6.0"
ROWS: Final = 21_000
"""Of events: three batches."""
STOP: Final = """
CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
CREATE TRIGGER wait_here BEFORE INSERT ON events
    FOR EACH ROW WHEN (NEW.seq = 15000) EXECUTE FUNCTION wait_here();
"""


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    """What a gateway of an earlier version left when it was killed."""
    with tarfile.open(KEPT / VERSION / "data.tar.xz") as tar:
        tar.extractall(tmp_path, filter="tar")
    return tmp_path / "data"


async def copied(source: str, target: str) -> list[str]:
    """What was said of the progress; both are the same now."""
    said: list[str] = []
    await copy(source, target, say=said.append)
    assert not (await check(source, target)).differences
    return said


def filled(path: pathlib.Path) -> pathlib.Path:
    """A file with a long log, a log whose rows are everywhere and one of them twice, and odd texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prepare(path, every_migration())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO sessions (id, key, owner, session_id, agent, created_at, last_active_at, title,"
            " retention_days) VALUES (?, ?, 'default/local', ?, 'built-in', 1, 2, ?, 0.5)",
            [(5, "k5", "long", "a\0b \ufdd0"), (9, "k9", "odd", None)],
        )
        connection.executemany(
            "INSERT INTO events VALUES (5, ?, 7, ?)",
            [(number, b'{"type":"notice","text":"%d"}' % number) for number in range(1, ROWS + 1)],
        )
        pair = b'[[1,10,{"type":"a"}],[2,11,{"type":"b"}]]'
        large = b'{"type":"notice","text":"' + b"x" * 300_000 + b'"}'
        connection.execute("INSERT INTO events VALUES (9, 2, 10, ?)", (pair,))
        connection.execute("INSERT INTO tail (session, seq, at, body) VALUES (9, 2, 10, ?)", (pair,))
        connection.execute("INSERT INTO tail (session, seq, at, body) VALUES (9, 4, 12, ?)", (b"{}",))
        connection.execute("INSERT INTO large (session, seq, at, body) VALUES (9, 3, 12, ?)", (large,))
        connection.execute("INSERT INTO events VALUES (9, 5, 12, ?)", (b"[neither this nor that",))
        connection.execute("INSERT INTO sqlite_sequence VALUES ('product_chat_messages', 77)")
        connection.execute("INSERT INTO disabled_people VALUES ('default/x', 3)")
        connection.execute("INSERT INTO kept_tenants VALUES ('t', 'T', 1, 0)")
    return path


async def test_everything_goes_to_postgresql_and_back(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    url, back = shared_database(), tmp_path / "back" / "gateway.db"
    code, out, err = await typed("store", "copy", str(data), url)
    assert code == 0, err
    assert "both are the same: " in out
    assert "MB of events in" in err
    await copied(url, str(back))
    same = await check(str(data), str(back))
    assert f"digest {same.digest}\n" in out
    with contextlib.closing(sqlite3.connect(back)) as connection:
        for table in ("product_chat_messages", "shop_purchases", "api_keys", "secrets", "forks"):
            query = f"SELECT count(*) FROM {table}"  # noqa: S608
            assert connection.execute(query).fetchone()[0], table


async def test_a_copy_that_was_killed_goes_on(tmp_path: pathlib.Path) -> None:
    source, back = filled(tmp_path / "a" / "gateway.db"), tmp_path / "b" / "gateway.db"
    url = shared_database()
    async with opener(url, every_migration()).filling():
        pass  # its tables are made
    async with connected(url) as connection:
        await connection.execute(STOP)
        copying = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "store", "copy", str(source), url), cwd=ROOT
        )
        here = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"

        async def waits() -> bool:
            return bool(await connection.fetch(f"SELECT pid {here}"))

        await eventually(waits, seconds=30)
        copying.kill()
        await copying.wait()
        await connection.execute(f"SELECT pg_terminate_backend(pid) {here}")
        await connection.execute("DROP TRIGGER wait_here ON events")
        assert 0 < await connection.fetchval("SELECT count(*) FROM events") < ROWS

        with pytest.raises(StoreFailed, match="cut short: run agent-gateway store copy again"):
            await open_store(url, Options(migrations=MIGRATIONS)).open()
        with pytest.raises(StoreFailed, match="half copy of something else"):
            await copied(str(filled(tmp_path / "c" / "gateway.db")), url)
        said = await copied(str(source), url)
        assert [line.partition(",")[0] for line in said] == [f"events: {ROWS + 4 - 10_000} rows"]
    await copied(url, str(back))
    with contextlib.closing(sqlite3.connect(back)) as kept:
        assert kept.execute("SELECT title FROM sessions WHERE id = 5").fetchone() == ("a\0b \ufdd0",)
        assert kept.execute("SELECT seq FROM large").fetchall() == [(3,)]
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'product_chat_messages'"
        assert kept.execute(query).fetchone() == (77,)


async def test_both_engines_have_the_same_tables(tmp_path: pathlib.Path) -> None:
    """So that a new one is not forgotten when a store is copied."""
    found = []
    for where in (str(filled(tmp_path / "gateway.db")), migrated_database()):
        async with opener(where, every_migration()).reading(is_alone=True) as side:
            found.append({shape.name: sorted(shape.columns) for shape in await side.shapes()})
    assert found[0] == found[1]


async def test_a_planted_difference_is_found(tmp_path: pathlib.Path) -> None:
    source, url = filled(tmp_path / "gateway.db"), shared_database()
    await copied(str(source), url)
    async with connected(url) as connection:
        await connection.execute("UPDATE events SET at = 8 WHERE session = 5 AND seq = 20000")
        await connection.execute("DELETE FROM events WHERE session = 9 AND seq = 4")
        await connection.execute("UPDATE kept_tenants SET is_disabled = true")
    code, out, _ = await typed("store", "check", str(source), url)
    assert code == 1
    shown = url.replace("gateway@", "")
    assert out.splitlines()[:-1] == [
        f"differs: kept_tenants: 1 rows in {source}, 1 in {shown}, and they differ",
        f"differs: session default/local long: {ROWS} events in {source}, {ROWS} in {shown}, and they differ",
        f"differs: session default/local odd: 5 events in {source}, 4 in {shown}",
    ]
    with pytest.raises(StoreFailed, match="is not empty: its table events has rows"):
        await copied(str(source), url)


async def test_a_gateway_at_work_is_not_copied(tmp_path: pathlib.Path) -> None:
    source = filled(tmp_path / "gateway.db")
    lock = DataLock(tmp_path)
    lock.take()
    try:
        code, _, err = await typed("store", "copy", str(source), str(tmp_path / "b" / "gateway.db"))
    finally:
        lock.release()
    assert (code, f"The data directory {tmp_path} is in use" in err) == (1, True)
    with pytest.raises(StoreFailed, match="There is a database"):
        await copied(str(source), str(source))


async def test_a_url_may_be_in_a_file_and_its_password_is_never_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "url").write_text("postgresql://gateway:hush@127.0.0.1:1/x?password=hush\n")
    code, out, err = await typed("store", "check", f"@{tmp_path / 'url'}", str(tmp_path))
    assert (code, "hush" in out + err) == (1, False)
    assert "Traceback" not in err
    found = await of_postgresql("health").examine((tmp_path / "url").read_text().strip())
    assert [is_well for is_well, _ in found] == [False]
    assert "hush" not in str(found)


async def test_what_is_missing_for_postgresql_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("gateway.stores.postgresql.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StoreFailed, match=r"pip install 'agent-gateway\[postgres\]'"):
        opener("postgresql://somewhere/x", ())
