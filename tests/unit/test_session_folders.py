"""The directories of a session, which a worker that starts and several uploads make at the same time."""

from __future__ import annotations

import os
import pathlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from gateway.config.tables import WorkersConfig
from gateway.workers.workspace import Workspaces

THREADS: Final = 8
SESSIONS: Final = 100
as_root: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def workspaces(tmp_path: pathlib.Path) -> Workspaces:
    made = Workspaces(tmp_path, WorkersConfig())
    made.open()
    return made


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns a thousand times as often as they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often")
def test_whoever_asks_finds_them_made_and_the_sessions(workspaces: Workspaces) -> None:
    uid = 200_000 if os.geteuid() == 0 else None
    together = threading.Barrier(THREADS)

    def make(key: str) -> set[int]:
        together.wait()
        workspaces.make(key, uid)
        return {pathlib.Path(path).stat().st_uid for path in (workspaces.home(key), workspaces.work(key))}

    with ThreadPoolExecutor(THREADS) as threads:
        for number in range(SESSIONS):
            owners = set[int]().union(*threads.map(make, [f"s{number}"] * THREADS))
            assert owners == {os.geteuid() if uid is None else uid}, number


@as_root
def test_a_directory_that_a_killed_gateway_did_not_give_away_is_the_sessions(workspaces: Workspaces) -> None:
    for path in (workspaces.path("s"), pathlib.Path(workspaces.home("s"))):
        path.mkdir(mode=0o700)
    workspaces.make("s", 200_000)
    made = (workspaces.path("s"), *workspaces.path("s").iterdir())
    assert {path.stat().st_uid for path in made} == {200_000}


@as_root
def test_what_an_agent_put_there_instead_is_given_to_nobody(
    workspaces: Workspaces, tmp_path: pathlib.Path
) -> None:
    (outside := tmp_path / "outside").mkdir()
    workspaces.make("s", 200_000)
    pathlib.Path(workspaces.home("s")).rmdir()
    pathlib.Path(workspaces.home("s")).symlink_to(outside)
    with pytest.raises(OSError, match="home"):
        workspaces.make("s", 200_000)
    assert outside.stat().st_uid == 0
