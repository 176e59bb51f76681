"""Tools of the built-in agent, given paths as only a model would choose them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.trees import in_memory
from worker.agent.tools import TOOLS, ToolRefused


@pytest.fixture
def root() -> Iterator[pathlib.Path]:
    with in_memory() as path:
        yield path


def test_a_file_is_written_below_a_thousand_new_directories(root: pathlib.Path) -> None:
    path = "d/" * 1_100 + "x"
    TOOLS["write_file"].run(str(root), {"path": path, "content": "deep"})
    assert TOOLS["read_file"].run(str(root), {"path": path}) == "deep"


@pytest.mark.parametrize(
    "path", ["d/" * 5_000 + "x", "../" * 50_000, "d" * 300, "d" * 50_000, "\udcff" * 5_000, "\ud800"]
)
@pytest.mark.parametrize("tool", ["write_file", "read_file", "list_files"])
def test_a_path_that_no_kernel_takes_is_refused_in_words(root: pathlib.Path, tool: str, path: str) -> None:
    with pytest.raises(ToolRefused) as refused:
        TOOLS[tool].run(str(root), {"path": path, "content": "x"})
    assert len(str(refused.value)) < 400
    assert not list(root.iterdir())


def test_links_one_after_the_other_are_refused_in_words(root: pathlib.Path) -> None:
    for number in range(1_500):
        os.symlink(f"l{number + 1}", root / f"l{number}")
    for tool in ("write_file", "read_file", "list_files"):
        with pytest.raises(ToolRefused):
            TOOLS[tool].run(str(root), {"path": "l0", "content": "x"})
