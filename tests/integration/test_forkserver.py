"""The fork server as a process: what it shares, what it survives, and what dies with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import time

import msgspec
import psutil
import pytest

from gateway.workers import forks, walls
from gateway.workers.spawner import StartFailed
from tests.gateways import is_running
from tests.patience import soon
from tests.shared import crowding
from tests.walls import PYTHON, Inmate, finds, yard
from worker import acp, spec
from worker.spec import Profile, Stop

PROFILES = ["none", "basic", "strict"]


async def until(condition: object, *, seconds: float = 10) -> None:
    """Waits until a condition holds; fails past the bound."""
    end = time.monotonic() + seconds * crowding()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


async def turn(inmate: Inmate, text: str = "hello") -> bytes:
    """One whole conversation with the built-in agent."""
    inmate.send(acp.request(0, "initialize", {}) + acp.request(1, "session/new", {"cwd": "/"}))
    opened = await inmate.read(lambda data: b'"sessionId"' in data and data.endswith(b"\n"))
    line = next(line for line in opened.splitlines() if b'"id":1' in line)
    session_id = msgspec.json.decode(line)["result"]["sessionId"]
    prompt = {"sessionId": session_id, "prompt": [{"type": "text", "text": text}]}
    inmate.send(acp.request(2, "session/prompt", prompt))
    return await inmate.read(lambda data: b'"stopReason"' in data)


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_child_imports_nothing_that_its_parent_had_not(profile: Profile) -> None:
    """Each module that a child imports is paid for once a session instead of once."""
    script = (
        "import sys; sys.path += sys.argv[2:]; import os, worker.forkserver.server as server\n"
        "from worker.agent import agent\n"
        "serve = agent.main\n"
        "def main(*fds):\n"
        "    code = serve(*fds)\n"
        "    os.write(2, ('grown: %s' % sorted(set(sys.modules) - known)).encode() + b'\\n')\n"
        "    return code\n"
        "agent.main = main\n"
        "run = server.ForkServer.run\n"
        "def note(self):\n"
        "    global known\n"
        "    known = set(sys.modules)\n"
        "    run(self)\n"
        "server.ForkServer.run = note\n"
        "server.main(int(sys.argv[1]))\n"
    )
    original, forks._PROGRAM = forks._PROGRAM, script  # type: ignore[misc]
    try:
        async with yard(profile) as here, await here.spawn() as inmate:
            await turn(inmate)
            os.close(inmate.worker.stdin)
            await soon(asyncio.shield(inmate.worker.exited), 10)
            assert inmate.worker.stderr_tail() == "grown: []"
            inmate.worker.stdin = os.open(os.devnull, os.O_WRONLY)
    finally:
        forks._PROGRAM = original  # type: ignore[misc]


async def test_it_has_one_thread_and_shares_its_objects() -> None:
    async with yard("strict") as here:
        link = here.spawner._link
        assert link is not None
        ready = await link.ready
        assert (ready.threads, psutil.Process(ready.pid).num_threads()) == (1, 1)
        assert ready.frozen_objects > 5_000


@pytest.mark.parametrize("profile", PROFILES)
async def test_what_was_said_for_one_worker_is_in_no_other(profile: Profile) -> None:
    """The canary travels through the fork server; the memory of a later worker is searched for it."""
    canary = "canary-" + os.urandom(8).hex()
    async with yard(profile) as here:
        first = here.request()
        first = msgspec.structs.replace(first, env={**first.env, "SECRET": canary})
        async with Inmate(await here.spawner.spawn(first)) as told, await here.spawn() as other:
            await turn(other)
            assert finds(told.worker.pid, canary), "the search finds what is there"
            assert not finds(other.worker.pid, canary)
            assert not finds(here.spawner.server_pid, canary)


@pytest.mark.parametrize("profile", PROFILES)
async def test_when_it_is_killed_its_workers_die_and_the_next_start_works(profile: Profile) -> None:
    async with yard(profile) as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        inmates = [await here.spawn(), await here.spawn("/bin/sh", "-c", "sleep 600 & echo up; sleep 600")]
        await inmates[1].read_line()
        family = [psutil.Process(inmate.worker.pid) for inmate in inmates]
        family += [child for process in family for child in process.children(recursive=True)]
        lost = here.spawner.server_pid
        os.kill(lost, signal.SIGKILL)
        for inmate in inmates:
            end = await soon(asyncio.shield(inmate.worker.exited), 1)
            assert end.cause == "forkserver_lost"
        await until(lambda: not any(map(is_running, family)), seconds=2)
        await until(lambda: here.spawner.server_pid not in (0, lost) and here.spawner._link.ready.done())  # type: ignore[union-attr]
        async with await here.spawn() as fresh:
            assert b"end_turn" in await turn(fresh)
        for inmate in inmates:
            async with inmate:
                pass


async def test_a_start_after_its_loss_fails_in_words_if_no_other_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walls, "RESTART_SECONDS", 0.5)  # nothing in here starts another
    async with yard("strict") as here:
        link = here.spawner._link
        assert link is not None
        os.kill(link.pid, signal.SIGKILL)
        await soon(asyncio.shield(link.lost), 5)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(StartFailed, match=r"fork server (ended|is down)"):
            await soon(here.spawn(), 5)
        assert len(os.listdir("/proc/self/fd")) == before


async def test_garbage_on_its_channel_is_skipped() -> None:
    async with yard("strict") as here:
        link = here.spawner._link
        assert link is not None
        assert link._channel is not None
        for garbage in (
            b"\0",
            b"{}",
            b"[" * 50_000,
            b'{"type":"spawn"}',
            b"\xff" * 9_000,
            b'{"type":"stop","id":-1}',
        ):
            link._channel.send(garbage)
        nothing = os.open(os.devnull, os.O_RDONLY)
        import socket

        socket.send_fds(link._channel, [b'{"type":"stop","id":5}'], [nothing] * 4)
        os.close(nothing)
        async with await here.spawn() as inmate:
            assert b"end_turn" in await turn(inmate)
        assert psutil.Process(here.spawner.server_pid).num_fds() < 16


async def test_an_environment_too_large_for_a_datagram_is_refused_with_words() -> None:
    async with yard("strict") as here:
        with pytest.raises(StartFailed, match="too large"):
            await here.spawn("/bin/true", env={"BIG": "x" * spec.REQUEST_BYTES})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("ticks", [0, 1, 2, 5, 50])
async def test_a_cancelled_start_leaves_no_process_and_no_file(profile: Profile, ticks: int) -> None:
    async with yard(profile) as here:
        server = psutil.Process(here.spawner.server_pid)
        before, theirs = len(os.listdir("/proc/self/fd")), server.num_fds()
        starting = asyncio.create_task(here.spawn("/bin/sleep", "600"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        await until(lambda: not server.children(recursive=True) and server.num_fds() == theirs)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.alone
async def test_two_hundred_lives_leave_nothing() -> None:
    async with yard("strict") as here:
        server = psutil.Process(here.spawner.server_pid)
        async with await here.spawn() as inmate:
            await turn(inmate)
        before = len(os.listdir("/proc/self/fd")), server.num_fds(), mounts()
        resident = server.memory_info().rss
        for _ in range(200):
            async with await here.spawn():
                pass
        assert (len(os.listdir("/proc/self/fd")), server.num_fds(), mounts()) == before
        assert server.children(recursive=True) == []
        assert server.memory_info().rss - resident < 300_000


def mounts() -> int:
    return pathlib.Path("/proc/self/mountinfo").read_text().count("\n")


GATEWAY = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from tests.gateways import is_running
from tests.walls import yard
async def main():
    async with yard({profile!r}) as here:
        inmates = [await here.spawn(), await here.spawn({python!r}, "-c", {escapes!r})]
        await inmates[1].read_line()
        print(here.spawner.server_pid, *(i.worker.pid for i in inmates), flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
ESCAPES = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)\n os._exit(0)\n"
    "os.wait(); print('away', flush=True); time.sleep(600)"
)


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_killed_gateway_leaves_no_worker_a_second_later(profile: Profile) -> None:
    root = str(pathlib.Path(__file__).parents[2])
    code = GATEWAY.format(root=root, profile=profile, python=PYTHON, escapes=ESCAPES)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pids = [int(word) for word in (await process.stdout.readline()).split()]
    family = psutil.Process(process.pid).children(recursive=True)
    assert {member.pid for member in family} >= set(pids)
    assert len(family) == 5, "the server, the built-in agent, an init, its command and what slipped away"
    process.kill()
    await process.wait()
    await until(lambda: not any(alive(member) for member in family), seconds=1)


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_worker_that_stops_itself_ignores_and_hides_is_ended_all_the_same(profile: Profile) -> None:
    program = (
        "import os, signal, sys\n"
        "for n in range(1, 65):\n"
        "  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\n"
        "print('deaf', flush=True); os.close(0); os.close(1); os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    async with yard(profile) as here, await here.spawn(PYTHON, "-c", program) as inmate:
        await inmate.read_line()
        began = time.monotonic()
        receipt = await inmate.worker.stop(grace_seconds=0.1)
        assert receipt.survivors == 0
        assert time.monotonic() - began < 1 * crowding()


async def test_a_stop_of_a_worker_that_is_not_there_is_nothing() -> None:
    async with yard("strict") as here:
        link = here.spawner._link
        assert link is not None
        link.send(Stop(id=12_345))
        async with await here.spawn() as inmate:
            assert b"end_turn" in await turn(inmate)
