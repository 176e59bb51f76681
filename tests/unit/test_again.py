"""What `make test` does with tests that failed beside others."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Final

import pytest

from tests.again import AT_MOST, FAILED, again
from tests.conftest import OBJECTED
from tests.gateways import ROOT
from tests.patience import crowding

TESTS: Final = """
import pathlib, pytest

def test_of_the_first_run_only():
    ran = pathlib.Path("ran").exists()
    pathlib.Path("ran").touch()
    assert ran

def test_that_fails():
    assert not pathlib.Path("broken").exists()

def test_that_is_skipped_then():
    if pathlib.Path("skips").exists():
        pytest.skip("NOT TESTED")
"""


def failed_before(directory: pathlib.Path, *names: str) -> None:
    kept = directory / FAILED
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({f"test_it.py::{name}": True for name in names}))


def run(directory: pathlib.Path, *words: str) -> tuple[int, str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environ["PYTEST_ADDOPTS"] = "-p pytest_randomly"
    command = [sys.executable, "-m", *words]
    done = subprocess.run(
        command,
        cwd=directory,
        env=environ,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        timeout=60 * crowding(),
    )
    return done.returncode, done.stdout


def test_a_test_that_passes_alone_is_named_and_one_that_fails_again_stays_red(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "broken").touch()
    first, _ = run(tmp_path, "pytest", "--cache-clear")
    second, told = run(tmp_path, "tests.again", str(first))
    assert (first, second) == (1, 1)
    assert "failed beside others, passed alone: test_it.py::test_of_the_first_run_only\n" in told
    assert "failed beside others, did not pass alone: test_it.py::test_that_fails\n" in told
    failed_before(tmp_path, "test_of_the_first_run_only")
    second, told = run(tmp_path, "tests.again", str(first))
    assert second == 0, told
    assert "1 passed" in told


def test_a_test_that_is_skipped_the_second_time_stays_red(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "skips").touch()
    failed_before(tmp_path, "test_that_is_skipped_then")
    code, told = run(tmp_path, "tests.again", "1")
    assert code == 1
    assert "failed beside others, did not pass alone: test_it.py::test_that_is_skipped_then" in told


@pytest.mark.parametrize(
    ("code", "failed", "then"),
    [(0, 1, 0), (5, 0, 0), (1, 0, 1), (1, AT_MOST + 1, 1), (2, 1, 2), (3, 1, 3), (4, 0, 4)],
)
def test_nothing_is_tried_again_if_pytest_ended_otherwise_or_too_many_failed(
    code: int, failed: int, then: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failed_before(tmp_path, *(f"test_{number}" for number in range(failed)))
    assert again(code) == then


def test_a_run_to_which_the_card_of_attacks_objects_stays_red_though_a_test_failed_as_well(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_before(tmp_path, "test_of_the_first_run_only")
    monkeypatch.chdir(tmp_path)
    assert again(OBJECTED) == OBJECTED
