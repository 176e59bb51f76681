"""What a dead gateway left is ended by the next one, and nothing else is."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import psutil
import pytest

from gateway.workers import freezing, orphans

FAMILY = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
    "print(1, flush=True); time.sleep(600)"
)


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child that left its group."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        if process.poll() is None:
            for left in psutil.Process(process.pid).children(recursive=True):
                left.kill()
            process.kill()


def test_a_left_fork_server_and_all_below_it_are_ended(
    family: subprocess.Popen[bytes], tmp_path: pathlib.Path
) -> None:
    below = psutil.Process(family.pid).children(recursive=True)
    assert below
    orphans.note(tmp_path, family.pid)
    assert orphans.sweep(tmp_path) == 1 + len(below)
    assert not [process for process in below if process.is_running() and process.status() != "zombie"]
    assert orphans.sweep(tmp_path) == 0


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(
    family: subprocess.Popen[bytes], tmp_path: pathlib.Path
) -> None:
    earlier = orphans.Known(family.pid, psutil.Process(family.pid).create_time() - 100)
    (tmp_path / orphans.FILE_NAME).write_bytes(msgspec.json.encode(earlier))
    assert orphans.sweep(tmp_path) == 0
    assert family.poll() is None


@pytest.mark.parametrize("text", [None, b"", b"no json", b'{"pid": 1}', b'{"pid": 999999999, "created": 1}'])
def test_nothing_noted_is_nothing_to_end(tmp_path: pathlib.Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / orphans.FILE_NAME).write_bytes(text)
    assert orphans.sweep(tmp_path) == 0


def test_groups_that_go_while_they_are_read_are_no_error(tmp_path: pathlib.Path) -> None:
    """What ends the gateway before may still be at it."""
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            for number in range(20):
                (tmp_path / "group" / str(number) / "self").mkdir(parents=True)
            shutil.rmtree(tmp_path / "group")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(50):
            assert orphans._members(tmp_path) == set()
            freezing.thaw_all(str(tmp_path))
    finally:
        is_over.set()
        other.join()
