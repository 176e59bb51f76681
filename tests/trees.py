"""Trees as an agent may make them: nested until no path reaches the last directory."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Final

from gateway.workers import trees

MEMORY: Final = "/dev/shm"


@contextlib.contextmanager
def in_memory() -> Iterator[pathlib.Path]:
    """A directory in memory, if the machine has that: a disk takes milliseconds for each directory. Nothing
    is left that would have to be removed by its paths.
    """
    path = pathlib.Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        yield path
    finally:
        trees.remove(path)


def own(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A test's directory, and those above it that pytest made; what is above them is everybody's."""
    for place in (directory, *directory.parents):
        yield place
        if place.name.startswith("pytest-of-"):
            return


def nest(
    top: pathlib.Path, depth: int, name: str = "d", *, at_the_end: Callable[[int], None] = os.close
) -> None:
    """Makes `depth` directories, one in the other; `at_the_end` gets the last one open, and closes it."""
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    at_the_end(here)


def write_at(directory: int, name: str, content: bytes) -> None:
    """A file in an open directory."""
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=directory), "wb") as file:
        file.write(content)
