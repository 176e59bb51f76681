"""What agents print, fuzzed: the corpus that is kept, and a short search for more (`FUZZ_SECONDS`)."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import sys
from typing import Final

import pytest

from tests.fuzz import agent_lines

SECONDS: Final = int(os.environ.get("FUZZ_SECONDS", "5"))
CORPUS_BYTES: Final = 300_000


@pytest.mark.parametrize("seed", agent_lines.seeds(), ids=lambda path: path.name)
def test_the_corpus_is_read_without_a_fault(seed: pathlib.Path) -> None:
    asyncio.run(agent_lines.play(seed.read_bytes()))


def test_the_corpus_is_small() -> None:
    assert sum(seed.stat().st_size for seed in agent_lines.seeds()) < CORPUS_BYTES


@pytest.mark.timeout(SECONDS + 60)
def test_a_short_search_finds_nothing(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.agent_lines", "--seconds", str(SECONDS)]
    command += ["--corpus", str(tmp_path), "--crashes", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == agent_lines.NO_BUILD:
        pytest.skip("atheris has no build for this machine")
    assert done.returncode == 0, done.stderr[-5_000:]
    assert "stat::number_of_executed_units" in done.stderr
