"""What cannot be stored hurts nobody else, and a database that is taken away is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest
import pytest_asyncio

from gateway.errors import StoreFailed
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.sessions.log import EventLog
from gateway.stores.sqlite import file_watch, log_rows, writer
from gateway.stores.sqlite.store import SqliteStore
from tests.contract.engines import Collector, delta, filled, leaves_poison_out, record
from tests.patience import within

LOOK_SECONDS: Final = 0.02
PAST_SQLITE: Final = 2**63


class Watched:
    """A store, and what it said of its file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.troubles: list[bool] = []
        self.ends: list[str] = []
        self.store = SqliteStore(path, on_trouble=self.troubles.append)
        self.store.on_end = self.ends.append


@pytest_asyncio.fixture
async def watched(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(writer, "LOOK_SECONDS", LOOK_SECONDS)
    monkeypatch.setattr(writer, "RETRY_SECONDS", LOOK_SECONDS)
    made = Watched(tmp_path / "gateway.db")
    await made.store.open()
    yield made
    async with within(5):
        await made.store.close()


@pytest.fixture
def store(watched: Watched) -> SqliteStore:
    return watched.store


# -- a call, an event -------------------------------------------------------------------------------------


def overflow(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO revocations (owner, at) VALUES ('o', ?)", (PAST_SQLITE,))


def bug(_connection: sqlite3.Connection) -> None:
    raise KeyError("a bug")


def twice(connection: sqlite3.Connection) -> None:
    for _ in range(2):
        connection.execute("INSERT INTO revocations (owner, at) VALUES ('twice', 1)")


def nonsense(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT nothing FROM nowhere")


def endless(_connection: sqlite3.Connection) -> None:
    raise RecursionError


@pytest.mark.parametrize("act", [overflow, bug, twice, nonsense, endless])
async def test_a_call_that_raises_undoes_only_itself(
    store: SqliteStore, act: Callable[[sqlite3.Connection], None]
) -> None:
    before, failed, after = await asyncio.gather(
        store.sessions.create(record("a")), store.write(act), store.sessions.create(record("b")),
        return_exceptions=True,
    )  # fmt: skip
    assert before is None
    assert isinstance(failed, StoreFailed)
    assert after is None
    assert await store.sessions.count() == 2
    assert await store.read(lambda c: c.execute("SELECT count(*) FROM revocations").fetchone()[0]) == 0


async def test_a_number_that_cannot_be_read_for_is_said_in_words(store: SqliteStore) -> None:
    with pytest.raises(StoreFailed):
        await store.read(lambda c: c.execute("SELECT ?", (PAST_SQLITE,)).fetchone())


def spoil(text: str) -> Callable[[sqlite3.Connection, int, Event], None]:
    """A projection that fails for one notice, as a number too large for SQLite does."""

    def project(connection: sqlite3.Connection, _session: int, event: Event) -> None:
        assert isinstance(event.data, ev.Notice)
        if event.data.text == text:
            overflow(connection)

    return project


async def test_an_event_that_cannot_be_stored_is_left_out_alone(store: SqliteStore) -> None:
    assert store._writer is not None
    store._writer.projections[ev.Notice] = [spoil("poison")]
    await leaves_poison_out(store)


class Log:
    """An event log over the store, and what it told its session."""

    def __init__(self, store: SqliteStore) -> None:
        self.refused: list[set[int]] = []
        self.spoiled: list[str] = []
        self.visible: list[int] = []
        self.log = EventLog(
            record("a").key,
            store=store.logs,
            wall_ms=lambda: 1,
            on_visible=lambda event: self.visible.append(event.seq),
            on_refused=lambda seqs, _error: self.refused.append(seqs),
            on_spoiled=lambda error: self.spoiled.append(error.message),
            max_events=100,
            max_bytes=100_000,
        )


async def test_a_log_goes_on_behind_what_could_not_be_stored(store: SqliteStore) -> None:
    assert store._writer is not None
    store._writer.projections[ev.Notice] = [spoil("poison")]
    await store.sessions.create(record("a"))
    mine = Log(store)
    await mine.log.load()
    poison = ev.Notice("n", "info", "c", "poison")
    asked = mine.log.append(poison, durable=True, rejectable=True)
    with pytest.raises(StoreFailed):
        await mine.log.commit(asked)
    assert (mine.refused, mine.spoiled) == ([{asked}], [])
    lost = mine.log.append(poison, durable=True)
    with pytest.raises(StoreFailed):
        await mine.log.commit(lost)
    assert mine.spoiled == ["This cannot be stored."]
    seq = mine.log.append(ev.TextDelta("m", "t", "on"), durable=True)
    async with within(5):
        await mine.log.commit(seq)
    assert mine.visible == [seq]
    assert mine.log.is_settled


# -- the thread -------------------------------------------------------------------------------------------


async def test_when_the_thread_ends_everybody_hears_of_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, sink = watched.store, Collector(record().key)
    await store.sessions.create(record())
    monkeypatch.setattr(writer.Writer, "_write_group", lambda *_: [].pop())
    store.logs.enqueue(sink, delta(1, "x"), urgent=False)
    async with within(5):
        for _ in range(2):
            with pytest.raises(StoreFailed, match="has ended"):
                await store.sessions.update(record())
    assert "THE THREAD THAT WRITES THE DATABASE HAS ENDED" in caplog.text
    assert watched.ends == ["The thread that writes the database has ended (IndexError)."]
    assert sink.refusals


async def test_what_does_not_move_to_its_log_stays_where_it_is(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SETTLE_ROWS", 1)
    monkeypatch.setattr(log_rows, "settle", lambda _connection: [].pop())
    sink = Collector(record().key)
    await store.sessions.create(record())
    await filled(store, sink, [delta(1, "x")])
    await filled(store, sink, [delta(2, "y")])
    assert len(await store.logs.read_events(sink.key, after=0, limit=9)) == 2


# -- the file ---------------------------------------------------------------------------------------------


def remove(path: pathlib.Path) -> None:
    path.unlink()


def replace(path: pathlib.Path) -> None:
    path.rename(path.with_name("old"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")


def empty(path: pathlib.Path) -> None:
    os.truncate(path, 0)


def cut(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def write_over(path: pathlib.Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def remove_log(path: pathlib.Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def cut_log(path: pathlib.Path) -> None:
    os.truncate(path.with_name(path.name + "-wal"), 100)


def remove_index(path: pathlib.Path) -> None:
    path.with_name(path.name + "-shm").unlink()


DEEDS: Final = [remove, replace, empty, cut, write_over, remove_log, cut_log, remove_index]


async def until_troubled(watched: Watched, *, is_lost: bool = True) -> None:
    async with within(5):
        while watched.troubles[-1:] != [is_lost]:
            await asyncio.sleep(LOOK_SECONDS)


@pytest.mark.parametrize("deed", DEEDS)
async def test_nothing_is_acknowledged_once_the_file_was_taken_away(
    watched: Watched, deed: Callable[[pathlib.Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    store, sink = watched.store, Collector(record().key)
    await store.sessions.create(record())
    await filled(store, sink, [delta(1, "x")])
    deed(store.path)
    store.logs.enqueue(sink, delta(2, "y"), urgent=True)
    for _ in range(2):
        with pytest.raises(StoreFailed, match=r"taken away underneath the gateway: gateway\.db"):
            await store.sessions.update(record())
    assert (watched.troubles, sink.seq) == ([True], 1)
    assert caplog.text.count("NOTHING IS STORED ANY MORE") == 1
    assert f"/proc/{os.getpid()}/fd/" in caplog.text


@pytest.mark.parametrize("deed", [remove, cut_log])
async def test_it_is_noticed_while_nobody_writes(
    watched: Watched, deed: Callable[[pathlib.Path], None]
) -> None:
    await watched.store.sessions.create(record())
    deed(watched.store.path)
    await until_troubled(watched)


async def test_what_was_removed_can_be_saved_from_the_process(
    watched: Watched, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    await watched.store.sessions.create(record())
    for part in ("", "-wal", "-shm"):
        watched.store.path.with_name(f"gateway.db{part}").unlink()
    await until_troubled(watched)
    saved = tmp_path / "RESCUED.db"
    saved.write_bytes(pathlib.Path(f"/proc/self/fd/{watched.store._watch._fd}").read_bytes())
    with contextlib.closing(sqlite3.connect(saved)) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


async def test_a_file_that_is_moved_back_is_used_again(watched: Watched, tmp_path: pathlib.Path) -> None:
    store, sink = watched.store, Collector(record().key)
    await store.sessions.create(record())
    store.path.rename(tmp_path / "elsewhere")
    store.logs.enqueue(sink, delta(1, "x"), urgent=True)
    await until_troubled(watched)
    (tmp_path / "elsewhere").rename(store.path)
    await sink.until(1)
    assert watched.troubles == [True, False]


async def test_a_database_that_sqlite_made_smaller_is_no_trouble(watched: Watched) -> None:
    store = watched.store
    await store.sessions.create(record())
    await store.write(lambda c: c.execute("CREATE TABLE waste AS SELECT randomblob(400000) AS a"))
    await store.write(lambda c: c.execute("DROP TABLE waste"))
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        large = store.path.stat().st_size
        await store.sessions.update(record())
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await store.sessions.update(record())
    assert store.path.stat().st_size < large
    assert watched.troubles == []


# -- a directory that remembers ---------------------------------------------------------------------------


async def used(path: pathlib.Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.sessions.create(record())
    await store.close()


@pytest.mark.parametrize("deed", [remove, empty])
async def test_no_empty_store_is_begun_where_there_was_one(
    tmp_path: pathlib.Path, deed: Callable[[pathlib.Path], None]
) -> None:
    path = tmp_path / "gateway.db"
    await used(path)
    deed(path)
    with pytest.raises(StoreFailed, match=r"has had one.*remove .*gateway\.db\.id"):
        await SqliteStore(path).open()
    file_watch.forget(path)
    await used(path)


async def test_another_database_is_not_taken_for_the_one_that_was(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    await used(path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreFailed, match="is not the database that this directory has had"):
        await SqliteStore(path).open()


async def test_a_database_that_an_earlier_version_put_back_is_taken(tmp_path: pathlib.Path) -> None:
    """Its restore knows nothing of marks, and leaves that of the database which it replaced."""
    path = tmp_path / "gateway.db"
    await used(path)
    mark = file_watch.id_path(path).read_text()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE large; PRAGMA user_version = 5; PRAGMA application_id = 0")
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    assert file_watch.id_path(path).read_text() not in {mark, "0\n"}


async def test_a_database_of_before_is_given_its_mark(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    await used(path)
    file_watch.forget(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 0")
    for _ in range(2):
        store = SqliteStore(path)
        await store.open()
        assert await store.sessions.count() == 1
        await store.close()
    assert int(file_watch.id_path(path).read_text()) > 0
    assert file_watch.id_path(path).stat().st_mode & 0o777 == 0o600
