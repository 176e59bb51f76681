"""The spawner with real processes: a start that is cancelled, at whatever moment, leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import pathlib
import sys
from collections.abc import Iterator

import psutil
import pytest

from gateway.spawner import PlainSpawner, StartFailed, base_environment
from worker.spec import SpawnRequest

IGNORES_EVERYTHING = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
)


def request(tmp_path: pathlib.Path, *argv: str) -> SpawnRequest:
    home = str(tmp_path)
    return SpawnRequest(argv=argv, env=base_environment(home), cwd=home, home=home, session_key=tmp_path.name)


def open_files() -> int:
    gc.collect()  # what earlier tests dropped is closed now, not in between
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8, 50])
async def test_a_cancelled_start_leaves_no_process_and_no_file(tmp_path: pathlib.Path, ticks: int) -> None:
    spawner = PlainSpawner()
    await asyncio.to_thread(int)  # the thread that will start it is there already
    before = open_files()
    starting = asyncio.create_task(spawner.spawn(request(tmp_path, sys.executable, "-c", IGNORES_EVERYTHING)))
    for _ in range(ticks):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert not psutil.Process().children(recursive=True)
    assert open_files() == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/command", "is not there: /no/such/command"),
        ("/etc/passwd", "cannot be run: Permission denied"),
    ],
)
async def test_a_command_that_cannot_be_run_leaves_no_file(
    tmp_path: pathlib.Path, command: str, words: str
) -> None:
    before = open_files()
    with pytest.raises(StartFailed, match=words):
        await PlainSpawner().spawn(request(tmp_path, command))
    assert open_files() == before


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Takes this process's adoption of orphans back, for the tests that come after."""
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


async def test_stopping_ends_what_left_the_group_and_ignores_every_signal(tmp_path: pathlib.Path) -> None:
    spawner = PlainSpawner()
    with subreaper():
        await spawner.open()
        code = (
            "import subprocess, sys; "
            f"subprocess.Popen([sys.executable, '-c', {IGNORES_EVERYTHING!r}], start_new_session=True).wait()"
        )
        worker = await spawner.spawn(request(tmp_path, sys.executable, "-c", code))
        said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(
            worker.stdout, lambda: said.set_result(os.read(worker.stdout, 10))
        )
        await asyncio.wait_for(said, 10)
        asyncio.get_running_loop().remove_reader(worker.stdout)
        assert worker.memory_bytes() > 0
        receipt = await worker.stop(grace_seconds=0.05)
        assert (receipt.processes, receipt.survivors) == (2, 0)
        assert receipt.bytes_freed > 0
        assert not psutil.Process().children(recursive=True)
        for fd in (worker.stdin, worker.stdout):
            os.close(fd)
