"""Tables of the command line: columns of names to the left and of numbers to the right, as wide as what is in
them. Wide letters (Chinese, emoji) count as the two columns that a terminal gives them.

Guarantees: a row is one line; a cell is cut, with "…", only in a column that has a greatest width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

GAP: Final = 2
"""Between two columns, in letters."""
_CUT: Final = "…"
_WIDE: Final = ("W", "F")


class Column(Struct, frozen=True, kw_only=True):
    """One column; widths are in letters, and `most` None is no bound."""

    name: str
    is_number: bool = False
    least: int = 0
    most: int | None = None


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The head and the rows, each cell as wide as its column; rows are plain texts (`terminal.plain`)."""
    table = [[column.name for column in columns], *rows]
    widths = [_width(column, cells) for column, cells in zip(columns, zip(*table, strict=True), strict=True)]
    return [[_filled(*each) for each in zip(columns, cells, widths, strict=True)] for cells in table]


def joined(cells: Sequence[str]) -> str:
    """A row of aligned cells as a line."""
    return (" " * GAP).join(cells).rstrip()


def lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The head and the rows as lines."""
    return map(joined, aligned(columns, rows))


def letters(text: str) -> int:
    """The columns that a terminal gives to a text."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(letter) in _WIDE else 1


def _width(column: Column, cells: Sequence[str]) -> int:
    width = max(column.least, *map(letters, cells))
    return width if column.most is None else min(width, column.most)


def _filled(column: Column, cell: str, width: int) -> str:
    if letters(cell) > width:
        cell = _cut(cell, width)
    room = " " * (width - letters(cell))
    return room + cell if column.is_number else cell + room


def _cut(cell: str, width: int) -> str:
    kept, left = "", width - len(_CUT)
    for letter in cell:
        left -= _columns_of(letter)
        if left < 0:
            break
        kept += letter
    return kept + _CUT
