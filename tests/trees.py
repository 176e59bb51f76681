"""Trees as an agent may make them: nested until no path reaches the last directory."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable


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
