"""What only a file does: restarts, deletion down to the bytes, migrations, queries."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pathlib
import random
import re
import sqlite3
import threading
from collections.abc import Sequence
from typing import Final

import pytest

from gateway.errors import StoreFailed
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores import compacting
from gateway.stores.memory.store import MemoryStore
from gateway.stores.migrations import Migrations
from gateway.stores.migrations import numbered as numbered_in
from gateway.stores.packing import rows_of
from gateway.stores.sqlite import log_rows
from gateway.stores.sqlite.file import connect
from gateway.stores.sqlite.schema import OWN, is_current, newest, numbered
from gateway.stores.sqlite.store import SqliteStore
from gateway.stores.sqlite.writer import NICE
from tests.contract.engines import MIGRATIONS, Collector, delta, filled, record, tombstone


async def test_everything_is_there_after_a_restart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    first = SqliteStore(path)
    await first.open()
    await first.sessions.create(record())
    sink = Collector(record().key)
    await filled(first, sink, [Event(1, 1, ev.TurnStarted("t", "u", "r")), delta(2, "x")])
    await first.close()
    second = SqliteStore(path)
    await second.open()
    assert await second.sessions.find("t/s", "a") == record()
    assert [event.seq for event in await second.logs.read_events(sink.key, after=0, limit=9)] == [1, 2]
    assert [found.session_id for found in await second.sessions.with_open_turn()] == ["a"]
    await second.close()


async def test_the_thread_that_writes_gives_way_to_the_loop(tmp_path: pathlib.Path) -> None:
    before = set(threading.enumerate())
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.sessions.create(record())
    (thread,) = [each for each in set(threading.enumerate()) - before if each.name == "sqlite writer"]
    assert thread.native_id is not None
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == min(19, mine + NICE)
    await store.close()


async def test_sessions_whose_messages_wait_for_a_budget_are_known_until_a_turn_begins(
    tmp_path: pathlib.Path,
) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.sessions.create(record())
    sink = Collector(record().key)
    waiting = (ev.WaitingMessage("u2", "t2", "two"),)

    async def found(*facts: ev.EventData) -> tuple[int, int]:
        first = len(await store.logs.read_events(sink.key, after=0, limit=99)) + 1
        await filled(store, sink, [ev.Event(seq, seq, fact) for seq, fact in enumerate(facts, first)])
        return len(await store.sessions.with_open_turn()), len(await store.sessions.waiting_for_budget())

    assert await found(ev.TurnStarted("t", "u", "r"), ev.QueueChanged(waiting)) == (1, 0)
    assert await found(ev.TurnEnded("t", "end_turn"), ev.QueueChanged(waiting, True)) == (0, 0)
    assert await found(ev.QueueChanged(waiting, True, "budget")) == (0, 1)
    assert await found(ev.TurnStarted("t2", "u2", "r2"), ev.QueueChanged(())) == (1, 0)
    assert await found(ev.TurnEnded("t2", "end_turn")) == (0, 0)
    await store.close()


async def test_what_was_enqueued_is_written_before_the_store_closes(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.sessions.create(record())
    sink = Collector(record().key)
    for seq in range(1, 500):
        store.logs.enqueue(sink, delta(seq, "x"), urgent=False)
    await store.close()
    again = SqliteStore(tmp_path / "gateway.db")
    await again.open()
    found = await again.logs.read_events(sink.key, after=0, limit=1000)
    await again.close()
    assert [event.seq for event in found] == list(range(1, 500))


@pytest.mark.parametrize("has_settled", [True, False])
async def test_a_deleted_text_is_not_in_the_file(tmp_path: pathlib.Path, has_settled: bool) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.sessions.create(record())
    sink = Collector(record().key)
    await filled(store, sink, [delta(1, "CANARY-7f3a")])
    if has_settled:
        await store.write(log_rows.settle)
    await store.sessions.delete(record().key, tombstone())
    await store.close()
    assert not [path for path in tmp_path.iterdir() if b"CANARY-7f3a" in path.read_bytes()]


def a_log(rng: random.Random) -> list[Event]:
    """Some turns: text with tool calls between, under numbers with gaps."""
    log: list[Event] = []
    seq = 0
    for turn in range(rng.randint(1, 6)):
        name = f"t{turn}"
        data: list[ev.EventData] = [ev.TurnStarted(name, f"u{turn}", f"r{turn}")]
        for part in range(rng.randint(0, 40)):
            is_call = rng.random() < 0.1
            text = "x" * rng.choice([1, 5, 60, 2_000])
            data.append(
                ev.ToolCall(f"c{part // 7}", name, title=text)
                if is_call
                else ev.TextDelta(f"m{turn}.{part // 9}", name, text)
            )
        data.append(ev.TurnEnded(name, "end_turn"))
        for item in data:
            seq += rng.choice([1, 1, 1, 7])
            log.append(Event(seq, 1000 + seq, item))
    return log


@pytest.mark.parametrize("seed", range(40))
async def test_a_log_reads_the_same_wherever_its_rows_are(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(compacting, "COMPACT_BATCH", rng.choice([5, 5_000]))
    memory = MemoryStore(max_events=10_000, max_bytes=1 << 30)
    file = SqliteStore(tmp_path / "gateway.db")
    log = a_log(rng)
    for house in (memory, file):
        await house.open()
        await house.sessions.create(record())
    sinks = [(house, Collector(record().key)) for house in (memory, file)]
    done = 0
    while done < len(log):
        stop = min(len(log), done + rng.randint(1, 60))
        for house, sink in sinks:
            await filled(house, sink, log[done:stop])
        done = stop
        ends = [event.seq for event in log[:done] if event.type == "turn_ended"]
        if ends and rng.random() < 0.4:
            through = rng.choice(ends)
            saved = [await house.logs.compact(record().key, through=through) for house, _ in sinks]
            assert saved[0] == saved[1]
        if rng.random() < 0.3:
            await file.write(log_rows.settle)
        for after in rng.sample(range(log[-1].seq + 2), k=min(8, log[-1].seq)):
            limit = rng.choice([1, 3, 1000])
            pages = [
                await house.logs.read_events(record().key, after=after, limit=limit) for house, _ in sinks
            ]
            told = [[(event.seq, event.at, event.data) for event in page] for page in pages]
            assert told[0] == told[1]
        assert (await file.logs.stand(record().key)).last_seq == log[done - 1].seq
    await file.close()


async def test_rows_that_were_written_twice_are_read_once(tmp_path: pathlib.Path) -> None:
    """A commit can fail after it was done: what was in it is written again, grouped in another way."""
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.sessions.create(record())
    events = [delta(seq, str(seq)) for seq in range(1, 9)]
    for part in (events[:3], events[:5], events[3:]):
        await store.write(functools.partial(log_rows.append, rows=list(rows_of(1, part))))
    sink = Collector(record().key)
    for _ in range(2):
        found = await store.logs.read_events(sink.key, after=1, limit=100)
        assert [event.seq for event in found] == list(range(2, 9))
        await store.write(log_rows.settle)
    assert await store.logs.compact(sink.key, through=8) == 7
    (whole,) = await store.logs.read_events(sink.key, after=0, limit=9)
    assert whole.data == ev.MessageAdded("m", "agent", "12345678", "t1", False)
    await store.close()


async def test_a_newer_schema_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {newest() + 1}")
    connection.close()
    with pytest.raises(StoreFailed, match="newer program"):
        await SqliteStore(path).open()


async def test_a_damaged_file_is_kept_aside_and_said(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"this is no database" * 1000)
    store = SqliteStore(path)
    await store.open()
    assert await store.sessions.count() == 0
    await store.close()
    (aside,) = tmp_path.glob("gateway.db.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert "DAMAGED" in caplog.text


async def test_every_query_uses_an_index(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.close()
    connection = sqlite3.connect(tmp_path / "gateway.db")
    queries = [
        "SELECT * FROM sessions WHERE owner = 'a' AND session_id = 'b'",
        "SELECT * FROM sessions WHERE owner = 'a' ORDER BY id DESC LIMIT 1",
        "SELECT * FROM sessions WHERE owner = 'a' ORDER BY last_active_at DESC, key LIMIT 9",
        "SELECT * FROM sessions WHERE expires_at < 5 ORDER BY expires_at LIMIT 9",
        "SELECT * FROM sessions WHERE has_open_turn = 1",
        "SELECT * FROM events WHERE session = 1 AND seq > 3 ORDER BY seq LIMIT 9",
        "SELECT max(seq) FROM events WHERE session = 1",
        "DELETE FROM tombstones WHERE at < 5",
        "DELETE FROM idempotency_keys WHERE at < 5",
        "DELETE FROM idempotency_keys WHERE owner = 'a' AND session_id = 'b'",
        "SELECT option_id FROM chosen_options WHERE owner = 'a' AND agent = 'b'",
        "DELETE FROM chosen_options WHERE owner = 'a'",
        "SELECT 1 FROM sessions WHERE owner = 'a'",
    ]
    for query in queries:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "SCAN" not in plan, f"{query}: {plan}"
        assert "TEMP B-TREE" not in plan, f"{query}: {plan}"
    connection.close()


# -- migrations -------------------------------------------------------------------------------------------

LAST_OF_ONE_NUMBERING: Final = 6
ONE_NUMBERING: Final = [
    one
    for one in sorted(numbered() + [one for package in MIGRATIONS for one in numbered_in(package[1])])
    if one[0] <= LAST_OF_ONE_NUMBERING
]
"""The migrations as they were numbered before packages had their own: files of that time had them so."""


def tables_of_own_packages() -> set[str]:
    """Those that an earlier program can do without."""
    scripts = [script for package in OWN for _, script in numbered_in(package.directory)]
    return {name for script in scripts for name in re.findall(r"^CREATE TABLE (\w+)", script, re.MULTILINE)}


def tables(path: pathlib.Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def version(path: pathlib.Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def opened(path: pathlib.Path, migrations: Sequence[Migrations]) -> None:
    store = SqliteStore(path, migrations=migrations)
    await store.open()
    await store.close()


def of_one_numbering(path: pathlib.Path, upto: int) -> None:
    """A file as a version left it that had one numbering for all."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for number, script in ONE_NUMBERING[:upto]:
            connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        if upto >= 3:
            connection.execute(
                "INSERT INTO shop_purchases (owner, conversation, at, expires_at, total, items)"
                " VALUES ('t/s', 'c', 1, 2, 3, '[]')"
            )


def notes(directory: pathlib.Path, *scripts: str) -> Migrations:
    """The migrations of an application that came later."""
    directory.mkdir(exist_ok=True)
    for number, script in enumerate(scripts, 1):
        (directory / f"{number:04}_notes.sql").write_text(script)
    return Migrations("notes", directory)


def test_the_numbering_that_files_already_had_is_kept() -> None:
    assert [number for number, _ in ONE_NUMBERING] == [1, 2, 3, 4, 5, 6]
    assert newest() >= LAST_OF_ONE_NUMBERING


@pytest.mark.parametrize("upto", range(1, 7))
async def test_a_file_of_any_earlier_version_opens_and_goes_on(tmp_path: pathlib.Path, upto: int) -> None:
    path = tmp_path / "gateway.db"
    of_one_numbering(path, upto)
    for _ in range(2):
        await opened(path, MIGRATIONS)
    assert version(path) == newest()
    assert {"shop_purchases", "product_chat_messages", "tail", "large"} <= tables(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM shop_purchases").fetchone()
    assert kept == (upto >= 3)
    assert is_current(path, MIGRATIONS)


async def test_a_complete_file_of_an_earlier_version_keeps_its_schema_so_the_way_back_is_open(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "gateway.db"
    of_one_numbering(path, 6)
    before = tables(path)
    await opened(path, MIGRATIONS)
    assert tables(path) == before | tables_of_own_packages() | {"package_migrations"}
    assert version(path) == 6


async def test_an_application_that_is_off_makes_no_table_and_may_come_later(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    shop, product_chat = MIGRATIONS
    await opened(path, [product_chat])
    assert not {name for name in tables(path) if name.startswith("shop_")}
    assert not is_current(path, MIGRATIONS)
    for packages in (MIGRATIONS, [shop], (), MIGRATIONS):
        await opened(path, packages)
        assert {"shop_items", "product_chat_sessions"} <= tables(path)
    assert is_current(path, MIGRATIONS)


@pytest.mark.parametrize("upto", [3, 6])
async def test_numbers_of_two_packages_are_independent(tmp_path: pathlib.Path, upto: int) -> None:
    path = tmp_path / "gateway.db"
    of_one_numbering(path, upto)
    first = "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;"
    packages = [*MIGRATIONS, notes(tmp_path / "notes", first)]
    await opened(path, packages)
    assert "notes" in tables(path)
    packages = [*MIGRATIONS, notes(tmp_path / "notes", first, "ALTER TABLE notes ADD COLUMN text TEXT;")]
    assert not is_current(path, packages)
    await opened(path, packages)
    assert is_current(path, packages)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT text FROM notes")


async def test_tables_of_a_newer_application_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    first = "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;"
    newer = notes(tmp_path / "newer", first, "ALTER TABLE notes ADD COLUMN text TEXT;")
    await opened(path, [newer])
    with pytest.raises(StoreFailed, match=r"notes .* newer program"):
        await opened(path, [notes(tmp_path / "older", first)])


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    wrong = notes(tmp_path / "notes", "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT; NONSENSE;")
    with pytest.raises(StoreFailed, match="cannot be opened"):
        await opened(path, [wrong])
    assert "notes" not in tables(path)
    await opened(path, [notes(tmp_path / "notes", "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;")])
    assert "notes" in tables(path)


async def test_a_sequence_goes_on_after_the_largest_number_of_its_table(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    of_one_numbering(path, 6)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('product_chat_messages', 41)")
    store = SqliteStore(path, migrations=MIGRATIONS)
    await store.open()
    assert [await store.sequences.take("product_chat_messages", 2) for _ in range(2)] == [42, 44]
    await store.close()


async def test_a_page_of_a_log_looks_at_no_row_of_another(tmp_path: pathlib.Path) -> None:
    """What has not moved to its log is found by an index, and is in order."""
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {log_rows._READ}", (1, 0, 100)).fetchall()
    steps = [words for *_, words in plan]
    assert any("tail USING INDEX" in step for step in steps)
    assert not [step for step in steps if "SCAN" in step or "TEMP" in step], steps


def test_a_commit_waits_for_the_disk_and_what_is_deleted_is_overwritten(tmp_path: pathlib.Path) -> None:
    """No kill of a process shows whether it does; a lost current would."""
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with contextlib.closing(connect(tmp_path / "gateway.db")) as connection:
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    assert found == wanted


async def test_nobody_waits_for_more_than_one_log_that_is_made_small(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    held, heard = threading.Event(), list[str]()
    compact = log_rows.compact

    def noted(connection: sqlite3.Connection, key: str, through: int) -> tuple[int, bool]:
        heard.append("compacted")
        return compact(connection, key, through)

    monkeypatch.setattr(log_rows, "compact", noted)
    holding = asyncio.create_task(store.write(lambda _connection: held.wait(60)))
    compacting = [asyncio.create_task(store.logs.compact(f"t/s/{n}", through=9)) for n in range(20)]
    writing = asyncio.create_task(store.write(lambda _connection: heard.append("written")))
    await asyncio.sleep(0)
    held.set()
    await asyncio.wait_for(asyncio.gather(holding, writing, *compacting), 60)
    assert heard.count("compacted") == len(compacting)
    assert heard.index("written") <= 3, "it waited for those that came before"
    await store.close()


async def test_logs_are_made_small_although_others_never_stop_writing(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    compacting = [asyncio.create_task(store.logs.compact(f"t/s/{n}", through=9)) for n in range(5)]
    writes = 0
    while not all(task.done() for task in compacting):
        waiting = [asyncio.create_task(store.write(lambda _connection: None)) for _ in range(2)]
        await asyncio.wait_for(asyncio.gather(*waiting), 60)
        writes += 1
        assert writes < 50
    await store.close()
