"""Migrations: numbered SQL files that bring a store's tables up to date, in a directory of each package.

The core has its own for each engine (`sqlite/migrations`, `postgresql/migrations`); an application gives its
directory when the store is opened. The numbers of two packages are independent of each other.
"""

from __future__ import annotations

import pathlib
import re
from typing import Final, NamedTuple

_NUMBERED: Final = re.compile(r"(\d{4})_\w+\.sql")


class Migrations(NamedTuple):
    """Those of one package. What was applied is noted under the package's name, so it must not change."""

    package: str
    directory: pathlib.Path


def numbered(directory: pathlib.Path) -> list[tuple[int, str]]:
    """The migrations of a directory, (number, script), in order."""
    named = ((_NUMBERED.fullmatch(file.name), file) for file in sorted(directory.glob("*.sql")))
    return [(int(match[1]), file.read_text("utf-8")) for match, file in named if match]
