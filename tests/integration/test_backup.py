"""Data care: backups of a gateway at work, restores, upgrades and the way back, draining."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pathlib
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.config.tables import Config
from gateway.maintenance import backup
from gateway.stores.sqlite.file import damage
from gateway.stores.sqlite.schema import MIGRATIONS, newest
from gateway.workers import trees
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.integration.test_command_line import typed
from tests.patience import soon
from tests.shared import eventually
from tests.streams import open_stream
from tests.trees import nest

SESSIONS = 4


class Talking:
    """Clients that talk while backups are made; it knows what was acknowledged, session by session."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self.answered: dict[str, list[str]] = {f"s{number}": [] for number in range(SESSIONS)}

    async def talk(self, session_id: str) -> None:
        """Says one word after the other, each when the last was answered."""
        while True:
            word = f"canary-{session_id}-{len(self.answered[session_id])}"
            await self._gateway.chat(session_id, f"/echo {word}")
            self.answered[session_id].append(word)

    async def until_more(self) -> None:
        """Returns when each has said some more."""
        wanted = {session_id: len(words) + 4 for session_id, words in self.answered.items()}

        async def have_said() -> bool:
            return all(len(self.answered[session_id]) >= count for session_id, count in wanted.items())

        await eventually(have_said, seconds=30)

    def so_far(self) -> dict[str, list[str]]:
        return {session_id: list(words) for session_id, words in self.answered.items()}


@contextlib.asynccontextmanager
async def talking(gateway: RunningGateway) -> Any:
    clients = Talking(gateway)
    tasks = [
        asyncio.create_task(clients.talk(session_id), name=session_id) for session_id in clients.answered
    ]
    try:
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


def said(state: Any, sender: str) -> list[str]:
    return [m["content"].removeprefix("/echo ") for m in state["messages"] if m["sender"] == sender]


async def back_up(directory: pathlib.Path, name: str) -> pathlib.Path:
    code, out, err = await typed("backup", str(directory / name), "--data-dir", str(directory / "data"))
    assert code == 0, err
    return pathlib.Path(out.strip())


async def test_a_backup_during_writes_holds_whatever_was_answered_before_it(tmp_path: pathlib.Path) -> None:
    """Each backup, restored elsewhere, has every message of before it, whole, and nothing that never was."""
    taken: list[tuple[pathlib.Path, dict[str, list[str]]]] = []
    config = "[limits]\nsession_burst = 100_000\naddress_burst = 100_000\n"
    settings = Config(data_dir=str(tmp_path / "data"))
    async with gateway_inside(tmp_path, config=config) as gateway:
        async with talking(gateway) as clients:
            for number in range(2):
                await clients.until_more()
                before = clients.so_far()
                made = await asyncio.to_thread(backup.back_up, settings, tmp_path / f"{number}.tar")
                taken.append((made.path, before))
        taken.append((await back_up(tmp_path, "last.tar"), clients.so_far()))
    for number, (file, before) in enumerate(taken):
        place = tmp_path / f"restored-{number}"
        code, out, err = await typed("restore", str(file), "--data-dir", str(place / "data"))
        assert code == 0, err
        assert f"{SESSIONS} sessions" in out
        place.joinpath("gateway.log").touch()
        async with gateway_inside(place) as restored:
            for session_id, words in before.items():
                state = await restored.state(session_id)
                users, agents = said(state, "user"), said(state, "agent")
                assert users[: len(words)] == words, "an acknowledged message is missing"
                assert agents[: len(words)] == words, "an answer that was given is not whole"
                assert len(users) - len(words) <= len(clients.answered[session_id]) + 1 - len(words)
            answer = await restored.chat("s0", "/echo goes on")
            assert answer["messages"][-1]["content"] == "goes on"


async def test_a_restore_brings_back_files_cookies_and_keys_and_keeps_what_it_replaces(
    tmp_path: pathlib.Path,
) -> None:
    data = str(tmp_path / "data")
    keyed = '[auth]\nmodes = ["keys"]\n'
    async with running_gateway(tmp_path, config=keyed) as gateway:
        key = await gateway.mint("alice")
        await _say(gateway, key, "first")
        home = next((tmp_path / "data" / "sessions").iterdir()) / "home"
        (home / "notes.txt").write_text("kept by the agent")
        (home / "way-out").symlink_to("/etc")
        (home / os.fsdecode(b"not\xffutf-8")).write_text("odd name")
    file = await back_up(tmp_path, "one.tar")
    assert file.stat().st_mode & 0o777 == 0o600
    (home / "notes.txt").write_text("changed since")
    async with running_gateway(tmp_path, config=keyed) as gateway:
        await _say(gateway, key, "later")
        async with gateway.caller(key) as http, open_stream(http, "a") as stream:
            await stream.until_event("turn_ended")
            seen = await stream.until_event("turn_ended")
        code, _, err = await typed("restore", str(file), "--data-dir", data)
        assert code == 1
        assert f"in use by process {gateway.pid}" in err, "a restore over a running gateway"
    with tarfile.open(file) as tar:
        names = tar.getnames()
    assert "cookies.key" in names
    assert not [name for name in names if "operator" in name or "lock" in name or "passwd" in name]
    code, _, err = await typed("restore", str(file), "--data-dir", data)
    assert code == 1
    assert "--replace" in err
    code, out, err = await typed("restore", str(file), "--replace", "--data-dir", data)
    assert code == 0, err
    aside = next((tmp_path / "data").glob("replaced-*"))
    assert str(aside) in out
    assert (aside / "gateway.db").exists()
    async with running_gateway(tmp_path, config=keyed) as gateway, gateway.caller(key) as http:
        async with http.get("/api/state", params={"session_id": "a"}) as answer:
            assert said(await answer.json(), "user") == ["first"]
        home = next((tmp_path / "data" / "sessions").iterdir()) / "home"
        assert (home / "notes.txt").read_text() == "kept by the agent"
        assert (home / "way-out").readlink() == pathlib.Path("/etc")
        assert (home / os.fsdecode(b"not\xffutf-8")).read_text() == "odd name"
        await _say(gateway, key, "anew")
        async with open_stream(http, "a", after=seen.id) as stream:
            frame = await stream.until(lambda frame: frame.event not in (":", "retry"))
            assert frame.event == "resync", "a cursor of after the backup would miss what is new"
            assert said(frame.data["state"], "user") == ["first", "anew"]


async def _say(gateway: RunningGateway, key: str, word: str) -> None:
    body = {"session_id": "a", "message": f"/echo {word}"}
    async with gateway.caller(key) as http, http.post("/api/chat?wait=240", json=body) as answer:
        assert answer.status == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def original(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The data of a small gateway that does not run any more, and a backup of it."""
    directory = tmp_path_factory.mktemp("original")
    async with gateway_inside(directory) as gateway:
        await gateway.chat("a", "/echo kept")
        home = next((directory / "data" / "sessions").iterdir()) / "home"
        (home / "notes.txt").write_text("kept by the agent")
    await back_up(directory, "whole.tar")
    return directory


@pytest.fixture
def whole(tmp_path: pathlib.Path, original: pathlib.Path) -> pathlib.Path:
    """The backup; the data beside it is in `data`."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "whole.tar"


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    place = data.index(b"kept by the agent")
    return data[:place] + b"K" + data[place + 1 :]


def _without_trailer(data: bytes) -> bytes:
    return data[: data.index(b"complete.json")] + b"\0" * 1024


def _with_member(info: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("sessions/way")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(link)
        tar.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


def _through_a_link(_: bytes) -> bytes:
    return _with_member(tarfile.TarInfo("sessions/way/planted"))


def _upwards(_: bytes) -> bytes:
    return _with_member(tarfile.TarInfo("sessions/../../planted"))


def _device(_: bytes) -> bytes:
    info = tarfile.TarInfo("sessions/device")
    info.type = tarfile.CHRTYPE
    return _with_member(info)


def _something_else(_: bytes) -> bytes:
    return b"this is no tar file at all"


@pytest.mark.parametrize(
    "spoil", [_cut, _flipped, _without_trailer, _through_a_link, _upwards, _device, _something_else]
)
async def test_a_backup_that_is_not_whole_or_not_ours_changes_nothing(
    tmp_path: pathlib.Path, whole: pathlib.Path, spoil: Any
) -> None:
    assert (await typed("restore", "--check", str(whole)))[0] == 0
    whole.write_bytes(spoil(whole.read_bytes()))
    before = (tmp_path / "data" / "gateway.db").read_bytes()
    for words in (("--check",), ("--replace", "--data-dir", str(tmp_path / "data"))):
        code, _, err = await typed("restore", str(whole), *words)
        assert code == 1
        assert err.startswith("agent-gateway: ")
        assert "Traceback" not in err
    assert (tmp_path / "data" / "gateway.db").read_bytes() == before
    assert not [
        path.name for path in (tmp_path / "data").iterdir() if path.name.startswith((".re", "replaced"))
    ]
    assert not list(tmp_path.rglob("planted"))


@pytest.fixture
def removed(tmp_path: pathlib.Path) -> Iterator[None]:
    """Removes what pytest could not, because it is nested too deep."""
    yield
    trees.remove(tmp_path / "data")


@pytest.mark.usefixtures("removed")
async def test_what_an_agent_hides_stops_no_backup(tmp_path: pathlib.Path, whole: pathlib.Path) -> None:
    home = next((tmp_path / "data" / "sessions").iterdir()) / "home"
    nest(home, 5_000)
    os.mkfifo(home / "pipe")
    (home / "large").touch()
    os.truncate(home / "large", 900 << 20)
    code, _, err = await typed("backup", str(tmp_path / "two.tar"), "--data-dir", str(tmp_path / "data"))
    assert code == 0
    assert "1 files or directories could not be read, or have too long a path" in err
    assert (tmp_path / "two.tar").stat().st_size < 16 << 20, "the names of two thousand directories"
    assert (await typed("restore", "--check", str(tmp_path / "two.tar")))[0] == 0
    words = ("restore", "--replace", str(tmp_path / "two.tar"), "--data-dir", str(tmp_path / "data"))
    code, _, err = await typed(*words)
    assert code == 0, err
    found = (home / "large").stat()
    assert (found.st_size, found.st_blocks) == (900 << 20, 0)


async def test_a_backup_never_goes_over_another(tmp_path: pathlib.Path, whole: pathlib.Path) -> None:
    before = whole.read_bytes()
    code, _, err = await typed("backup", str(whole), "--data-dir", str(tmp_path / "data"))
    assert (code, whole.read_bytes()) == (1, before)
    assert "exists already" in err
    (tmp_path / "many").mkdir()
    assert (await back_up(tmp_path, "many")).parent == tmp_path / "many"
    code, _, err = await typed("backup", str(tmp_path / "x.tar"), "--data-dir", str(tmp_path / "nowhere"))
    assert code == 1
    assert "nothing to back up" in err


async def test_no_gateway_starts_beside_a_restore_that_was_cut(
    tmp_path: pathlib.Path, whole: pathlib.Path
) -> None:
    data = tmp_path / "data"
    (data / "restore.unfinished").touch()
    code, _, err = await typed("serve", "--port", "0", "--data-dir", str(data))
    assert code == 1
    assert "run agent-gateway restore again" in err
    code, _, err = await typed("restore", str(whole), "--data-dir", str(data))
    assert code == 0, err
    async with gateway_inside(tmp_path) as gateway:
        assert said(await gateway.state("a"), "user") == ["kept"]


async def test_the_gaps_that_a_killed_gateway_leaves_stop_no_backup(tmp_path: pathlib.Path) -> None:
    """SQLite 3.40 says of such a row that it has a NULL; a real one is still found."""
    for _ in range(2):
        async with running_gateway(tmp_path) as gateway:
            await gateway.chat("a", "/echo x")
            gateway.process.kill()
            await gateway.process.wait()
    database = tmp_path / "data" / "gateway.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM gaps").fetchone()[0] > 0
    assert damage(database) is None
    file = await back_up(tmp_path, "one.tar")
    assert (await typed("restore", "--check", str(file)))[0] == 0
    _column(database, "last_kept INTEGER NOT NULL", "last_kept INTEGER")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE gaps SET last_kept = NULL")
    _column(database, "last_kept INTEGER", "last_kept INTEGER NOT NULL")
    code, _, err = await typed("backup", str(tmp_path / "two.tar"), "--data-dir", str(tmp_path / "data"))
    assert code == 1
    assert "damaged: NULL value in gaps.last_kept" in err
    assert "NULL value in gaps.last_kept" in str(damage(database))


def _column(database: pathlib.Path, was: str, becomes: str) -> None:
    """Declares a column otherwise, whatever is in it."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        change = "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'gaps'"
        connection.execute(change, (was, becomes))


# -- up and back ------------------------------------------------------------------------------------------


def _of_the_first_version(path: pathlib.Path) -> None:
    """A database as the first landed version left it: a session with one finished turn."""
    path.parent.mkdir(parents=True)
    first = next(MIGRATIONS.glob("0001_*.sql")).read_text()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN;\n{first}\nPRAGMA user_version = 1;\nCOMMIT;")
        connection.execute(
            "INSERT INTO sessions (id, key, owner, session_id, agent, created_at, last_active_at, title,"
            " message_count, reserved_seq) VALUES"
            " (1, 'k1', 'default/local', 'old', 'built-in', 1750000000000, 1750000000000, 'old times', 2, 20)"
        )
        for seq, body in enumerate(FIRST_EVENTS, 1):
            connection.execute("INSERT INTO events VALUES (1, ?, 1750000000000, ?)", (seq, body.encode()))


FIRST_EVENTS = (
    '{"type":"session_created","session_id":"old","agent":"built-in"}',
    '{"type":"message","message_id":"m1","sender":"user","content":"from the first version","turn_id":"t1"}',
    '{"type":"turn_started","turn_id":"t1","message_id":"m1","reply_id":"m2"}',
    '{"type":"message","message_id":"m2","sender":"agent","content":"and its answer","turn_id":"t1"}',
    '{"type":"turn_ended","turn_id":"t1","stop_reason":"end_turn"}',
)


async def test_a_database_of_the_first_version_goes_on_and_goes_back(tmp_path: pathlib.Path) -> None:
    database = tmp_path / "data" / "gateway.db"
    _of_the_first_version(database)
    notes = tmp_path / "data" / "sessions" / "k1" / "home" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("the agent's")
    before = await back_up(tmp_path, "before.tar")
    async with gateway_inside(tmp_path) as gateway:
        state = await gateway.state("old")
        assert [m["content"] for m in state["messages"]] == ["from the first version", "and its answer"]
        answer = await gateway.chat("old", "/echo upgraded")
        assert answer["messages"][-1]["content"] == "upgraded"
        (worker,) = gateway.workers()
        assert notes.stat().st_uid == worker.uids().real, "its files are those of its worker"
    assert _schema(database) == newest() > 1

    _set_schema(database, 999)  # as a newer program leaves it
    code, _, err = await typed("serve", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert code == 1
    assert "restore a backup of before the upgrade" in err
    code, _, err = await typed("restore", "--replace", str(before), "--data-dir", str(tmp_path / "data"))
    assert code == 0, err
    assert _schema(database) == 1
    async with gateway_inside(tmp_path) as gateway:
        assert [m["content"] for m in (await gateway.state("old"))["messages"]] == state_texts(state)


def state_texts(state: Any) -> list[str]:
    return [message["content"] for message in state["messages"]]


async def test_a_backup_of_a_newer_program_is_refused(tmp_path: pathlib.Path, whole: pathlib.Path) -> None:
    _set_schema(tmp_path / "data" / "gateway.db", 999)
    newer = await back_up(tmp_path, "newer.tar")
    code, _, err = await typed("restore", "--replace", str(newer), "--data-dir", str(tmp_path / "data"))
    assert code == 1
    assert "newer than this program" in err


def _schema(path: pathlib.Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _set_schema(path: pathlib.Path, number: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {number}")


# -- draining ---------------------------------------------------------------------------------------------


async def test_drain_lets_the_turn_end_and_returns_when_the_gateway_is_gone(tmp_path: pathlib.Path) -> None:
    data = str(tmp_path / "data")
    async with running_gateway(tmp_path) as gateway:
        await gateway.send("a", "/count 20 50")
        code, out, err = await typed("drain", "--data-dir", data)
        assert code == 0, err
        assert out.startswith("drained in ")
        assert await soon(gateway.process.wait(), 5) == 0
    async with running_gateway(tmp_path) as gateway:
        assert (await gateway.state("a"))["messages"][-1]["content"].endswith("20")
    code, _, err = await typed("drain", "--data-dir", data)
    assert code == 1
    assert "no gateway runs" in err


async def test_a_disk_that_fills_up_is_said_before_it_is_full(tmp_path: pathlib.Path) -> None:
    config = "[server]\nlow_disk_bytes = 1_000_000_000_000_000\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        await eventually(lambda: _is_said(gateway, "is nearly full"))
        answer = await gateway.chat("a", "/echo still taken")
        assert answer["messages"][-1]["content"] == "still taken"
        code, out, _ = await typed(
            "doctor", "--data-dir", str(tmp_path / "data"), "--config", str(tmp_path / "config.toml")
        )
        assert code == 1
        assert "FAIL  disk:" in out


async def _is_said(gateway: RunningGateway, words: str) -> bool:
    return words in gateway.log()
