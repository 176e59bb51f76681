"""Bad days, each with the real thing: a full disk, a read-only one, a damaged database, a newer one, a taken
data directory, a clock that jumps, a kill between a message's acceptance and its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.gateways import ROOT, RunningGateway, running_gateway
from tests.history import History, canary
from tests.inside import gateway_inside
from tests.integration.test_forkserver_lost import fork_server
from tests.patience import counting, crowding, soon
from tests.shared import eventually
from tests.streams import StreamReader, open_stream, state_when

TMPFS_MIB = 12
RESUMES_SECONDS = 5.0
"""Service is back so long after there is room."""
CAP_SYS_ADMIN = 21
MOUNT, UMOUNT = shutil.which("mount") or "mount", shutil.which("umount") or "umount"


class Disk:
    """A small file system of its own, at the place of the gateway's data directory."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leaves no room at all."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def make_room(self) -> None:
        self._filler.unlink()

    def remount(self, options: str) -> None:
        subprocess.run([MOUNT, "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[Disk]:
    if not _may_mount():
        pytest.skip("NOT TESTED: a full and a read-only disk need the right to mount (run as root)")
    path = tmp_path / "data"
    path.mkdir()
    subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m,mode=0755", "tmpfs", str(path)], check=True
    )
    try:
        yield Disk(path)
    finally:
        subprocess.run([UMOUNT, "--lazy", str(path)], check=True)


def _may_mount() -> bool:
    status = pathlib.Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_SYS_ADMIN & 1)


class Conversation:
    """One session, and the history that its client keeps."""

    def __init__(self, gateway: RunningGateway, history: History, session: str) -> None:
        self.gateway = gateway
        self.history = history
        self.session = session

    async def say(self, *, padding: int = 0, key: str | None = None) -> tuple[int, Any]:
        """An echo; the status and the body of the answer."""
        words = canary() + " " + "x" * padding
        text = f"/echo {words}"
        self.history.sent(self.session, text, expected=words)
        body = {"message": text, "session_id": self.session}
        headers = {"Idempotency-Key": key} if key else {}
        async with self.gateway.http.post("/api/chat", json=body, headers=headers) as response:
            answer = await response.json()
        if response.status == 200:
            self.history.acknowledged(self.session, text)
        else:
            assert int(response.headers["Retry-After"]) >= 1
            self.history.refused(self.session, text)
        return response.status, answer

    async def close(self, gateway: RunningGateway) -> None:
        """Waits until it rests and hands the whole of it to the checker."""
        state = await state_when(
            gateway.http, self.session, lambda s: not s["is_processing"] and not s["queued"]
        )
        reader = self.history.reader(self.session, "final")
        async with open_stream(gateway.http, self.session) as stream:
            while reader.cursor < state["seq"]:
                frame = await stream.next()
                assert frame is not None
                if frame.id is not None:
                    reader.took(frame.event, int(frame.id), frame.data)
        self.history.close(self.session, reader, state)


async def _until_refused(talk: Conversation) -> Any:
    """Says more until the disk has no room for it; the error."""
    for _ in range(200):
        status, answer = await talk.say(padding=20_000)
        if status != 200:
            assert status == 507, answer
            return answer["error"]
        await state_when(talk.gateway.http, talk.session, lambda s: not s["is_processing"])
    raise AssertionError("the disk was never full")


async def _accepted_again(talk: Conversation) -> None:
    """A message is taken again, soon."""

    async def is_taken() -> bool:
        return (await talk.say())[0] == 200

    await eventually(is_taken, seconds=RESUMES_SECONDS)


async def test_a_full_disk_refuses_with_words_and_loses_nothing(disk: Disk, tmp_path: pathlib.Path) -> None:
    history = History()
    async with running_gateway(tmp_path) as gateway:
        talk = Conversation(gateway, history, "talk")
        stream = Conversation(gateway, history, "stream")
        assert (await talk.say())[0] == 200
        count = " ".join(str(n) for n in range(1, 301))
        history.sent("stream", "/count 300 10", expected=count)
        await gateway.send("stream", "/count 300 10")
        history.acknowledged("stream", "/count 300 10")
        async with open_stream(gateway.http, "stream") as reader:
            await reader.until_event("text_delta")
            disk.fill()
            error = await _until_refused(talk)
            assert error["code"] == "store_full"
            assert "disk is full" in error["message"]
            await _other_verbs_are_refused(gateway)
            await soon(_until_counted(reader, 250), 20)
            disk.make_room()
            await _accepted_again(talk)
            await reader.until_event("turn_ended", seconds=RESUMES_SECONDS)
            assert reader.text == count
        await talk.close(gateway)
        await stream.close(gateway)
        assert await gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    async with running_gateway(tmp_path) as gateway:
        for one in (talk, stream):
            await one.close(gateway)
        listed = await gateway.get("/api/sessions")
        assert {session["session_id"] for session in listed["sessions"]} == {"talk", "stream"}
    assert history.is_clean, history.words()
    assert history.seen["messages refused"] >= 1


async def test_a_full_disk_is_not_ready_and_with_room_it_is(disk: Disk, tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config="[server]\nready_disk_bytes = 1000000\n") as gateway:

        async def checks(status: int) -> Any:
            seen: dict[str, Any] = {}

            async def is_said() -> bool:
                async with gateway.http.get("/readyz") as response:
                    seen.update((await response.json())["checks"])
                    return response.status == status

            await eventually(is_said)
            return seen

        assert (await checks(200))["disk"]["is_well"]
        disk.fill()
        unwell = await checks(503)
        while unwell["store"]["is_well"]:  # the store had some room of its own
            unwell = await checks(503)
        assert "disk is full" in unwell["store"]["words"]
        assert not unwell["disk"]["is_well"]
        disk.make_room()
        assert all(check["is_well"] for check in (await checks(200)).values())


async def _until_counted(reader: StreamReader, number: int) -> None:
    while not reader.text.endswith(f" {number}") and f" {number} " not in reader.text:
        assert await reader.next() is not None


async def _other_verbs_are_refused(gateway: RunningGateway) -> None:
    """Whatever would have to be kept is refused, and reading goes on."""
    for path, body in (
        ("/api/chat", {"message": "hello", "session_id": "a-new-one"}),
        ("/api/system", {"message": "remember", "session_id": "talk"}),
        ("/api/sessions", {"session_id": "another-new-one"}),
    ):
        answer = await gateway.post(path, body, status=507)
        assert answer["error"]["code"] == "store_full"
    async with gateway.http.delete("/api/sessions/talk") as response:
        assert response.status == 507
    state = await gateway.state("talk")
    assert state["messages"]
    assert "remember" not in json.dumps(state)


async def test_a_message_that_waits_and_is_refused_never_runs(disk: Disk, tmp_path: pathlib.Path) -> None:
    history = History()
    async with gateway_inside(tmp_path) as gateway:
        talk = Conversation(gateway, history, "busy")
        message = counting(100, 2)
        history.sent("busy", message, expected=" ".join(str(n) for n in range(1, 101)))
        await gateway.send("busy", message)
        history.acknowledged("busy", message)
        async with open_stream(gateway.http, "busy") as reader:
            await reader.until_event("text_delta")
            disk.fill()
            other = Conversation(gateway, history, "other")
            await _until_refused(other)
            status, answer = await talk.say(padding=20_000)
            assert status == 507, answer
            assert (await gateway.state("busy"))["queued"] == 0
            disk.make_room()
            await reader.until_event("turn_ended")
        await _accepted_again(talk)
        for one in (talk, other):
            await one.close(gateway)
    assert history.is_clean, history.words()


def serve(data: pathlib.Path) -> tuple[int, str]:
    """Starts a gateway that must not start; its exit code and words."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--port", "0", "--data-dir", str(data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30 * crowding(),
        check=False,
    )
    return done.returncode, done.stderr


async def test_a_read_only_data_directory_is_refused_with_words(disk: Disk, tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("s", "/echo hi")
    disk.remount("ro")
    code, words = await asyncio.to_thread(serve, disk.path)
    assert code == 1
    assert "Read-only file system" in words
    assert "--data-dir" in words
    assert "Traceback" not in words
    disk.remount("rw")
    async with gateway_inside(tmp_path) as gateway:
        assert len((await gateway.state("s"))["messages"]) == 2


async def test_a_data_directory_that_is_a_file_is_refused_with_words(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").write_text("a file")
    code, words = await asyncio.to_thread(serve, tmp_path / "data")
    assert code == 1
    assert "cannot be used" in words
    assert "Traceback" not in words


@pytest.mark.parametrize("start", [0, 100])
async def test_a_damaged_database_is_kept_aside_and_said_loudly(tmp_path: pathlib.Path, start: int) -> None:
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("s", "/echo hi")
    database = tmp_path / "data" / "gateway.db"
    damaged = bytearray(database.read_bytes())
    damaged[start : start + 3000] = b"\xa5" * 3000
    database.write_bytes(damaged)
    async with gateway_inside(tmp_path) as gateway:
        assert "THE DATABASE IS DAMAGED" in gateway.log()
        kept = [path for path in database.parent.glob("gateway.db.damaged-*") if path.name[-4] != "-"]
        assert [path.read_bytes() for path in kept] == [bytes(damaged)]
        assert kept[0].name in gateway.log()
        assert (await gateway.state("s"))["messages"] == []
        assert len((await gateway.chat("s", "/echo again"))["messages"]) == 2


async def test_a_newer_schema_is_refused_and_not_touched(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("s", "/echo hi")
    database = tmp_path / "data" / "gateway.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 999")
        version = connection.execute("PRAGMA user_version").fetchone()
    before = database.read_bytes()
    code, words = await asyncio.to_thread(serve, tmp_path / "data")
    assert code == 1
    assert f"schema {version[0]}" in words
    assert "newer program" in words
    assert database.read_bytes() == before
    assert not list(database.parent.glob("*.damaged-*"))


async def test_the_second_gateway_on_a_data_directory_says_who_holds_it(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        code, words = await asyncio.to_thread(serve, tmp_path / "data")
        assert code == 1
        assert f"process {gateway.pid} at {gateway.url}" in words
        assert len((await gateway.chat("s", "/echo hi"))["messages"]) == 2
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path) as gateway:
        assert len((await gateway.state("s"))["messages"]) == 2


CLOCK = """
import pathlib, time
_offset = pathlib.Path(__file__).with_name("offset")
_seconds, _nanoseconds = time.time, time.time_ns
time.time = lambda: _seconds() + float(_offset.read_text())
time.time_ns = lambda: _nanoseconds() + int(float(_offset.read_text()) * 1e9)
"""
"""A clock that people set: the gateway's process reads the time through it. The monotonic one stays."""


class Clock:
    """Sets the wall clock of one gateway."""

    def __init__(self, directory: pathlib.Path) -> None:
        directory.mkdir()
        self.environ = {"PYTHONPATH": str(directory)}
        self._offset = directory / "offset"
        self._offset.write_text("0")
        (directory / "sitecustomize.py").write_text(CLOCK)

    def set(self, *, seconds: float) -> None:
        new = self._offset.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._offset)


JUMPS = {"40 minutes on": 2400.0, "a day back": -86_400.0, "ten years on": 3650 * 86_400.0}


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS.keys())
async def test_when_the_clock_jumps_no_session_and_no_turn_ends(
    tmp_path: pathlib.Path, seconds: float
) -> None:
    clock = Clock(tmp_path / "clock")
    config = "[sessions]\nsweep_interval_seconds = 0.1\n"
    async with gateway_inside(tmp_path, environ=clock.environ, config=config) as gateway:
        await gateway.chat("idle", "/echo hi")
        await gateway.send("busy", "/count 60 20")
        async with open_stream(gateway.http, "busy") as stream:
            await stream.until_event("text_delta")
            clock.set(seconds=seconds)
            await stream.until_event("turn_ended")
            assert stream.text == " ".join(str(n) for n in range(1, 61))
            await gateway.send("busy", "/echo after the jump")
            await stream.until_event("turn_ended")
            clock.set(seconds=0)
            await gateway.send("busy", "/echo and back")
            await stream.until_event("turn_ended")
        facts = [frame for frame in stream.frames if frame.id]
        assert [int(fact.id or 0) for fact in facts] == sorted({int(fact.id or 0) for fact in facts})
        times = [fact.data["at"] for fact in facts]
        assert times == sorted(times)
        assert await gateway.count() == 2
        assert [m["content"] for m in (await gateway.state("idle"))["messages"]] == ["/echo hi", "hi"]
        assert "reaped" not in gateway.log()


async def test_what_an_agent_asked_before_a_kill_waits_no_longer(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.send("s", "/permission May I?")
        async with open_stream(gateway.http, "s") as stream:
            asked = await stream.until_event("permission_asked")
        os.kill(gateway.pid, signal.SIGKILL)
        await gateway.process.wait()
    async with running_gateway(tmp_path) as gateway:
        state = await gateway.state("s")
        assert (state["is_processing"], state["pending_permission"]) == (False, None)
        async with open_stream(gateway.http, "s") as stream:
            answered = await stream.until_event("permission_answered")
            assert answered.data["permission_id"] == asked.data["permission_id"]
            assert answered.data["outcome"] == "cancelled"
        assert (await gateway.chat("s", "/echo and on"))["messages"][-1]["content"] == "and on"


async def test_a_kill_between_acceptance_and_the_worker_leaves_words(tmp_path: pathlib.Path) -> None:
    history = History()
    async with running_gateway(tmp_path) as gateway:
        talk = Conversation(gateway, history, "s")
        server = fork_server(gateway)
        server.suspend()  # a worker that started beside the commit could answer before the kill
        status, _ = await talk.say(key="once")
        os.kill(gateway.pid, signal.SIGKILL)
        server.resume()
        assert status == 200
        await gateway.process.wait()
    async with running_gateway(tmp_path) as gateway:
        state = await gateway.state("s")
        assert not state["is_processing"]
        assert [m["sender"] for m in state["messages"]] == ["user", "system"]
        assert "restarted" in state["messages"][-1]["content"]
        async with open_stream(gateway.http, "s") as stream:
            frame = await stream.until_event("turn_interrupted")
            assert frame.data["reason"] == "gateway_restarted"
        text = state["messages"][0]["content"]
        again = await gateway.post(
            "/api/chat", {"message": text, "session_id": "s"}, headers={"Idempotency-Key": "once"}
        )
        assert [m["sender"] for m in again["messages"]] == ["user", "system"]
        await gateway.post(
            "/api/chat",
            {"message": "other", "session_id": "s"},
            headers={"Idempotency-Key": "once"},
            status=422,
        )
        talk = Conversation(gateway, history, "s")
        assert (await talk.say())[0] == 200
        await talk.close(gateway)
    assert history.is_clean, history.words()


async def test_a_key_sent_many_times_at_once_runs_one_turn(gateway: RunningGateway) -> None:
    await gateway.send("s", "/count 30 20")
    body = {"message": "/echo once", "session_id": "s"}

    async def send() -> int:
        headers = {"Idempotency-Key": "k"}
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{gateway.url}/api/chat", json=body, headers=headers) as response:
                return response.status

    assert set(await asyncio.gather(*(send() for _ in range(8)))) == {200}
    state = await state_when(gateway.http, "s", lambda s: not s["is_processing"] and not s["queued"])
    assert [m["content"] for m in state["messages"] if m["sender"] == "user"].count("/echo once") == 1
