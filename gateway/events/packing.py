"""Finished items of a conversation that are not kept in memory: what a page draws of them, run by run. Pure.

An item in memory is some ten objects of Python's, 700 bytes in all; here it is 8, and its JSON lies where
long texts lie (`fold.Overflow`). Small objects are worse than their size: one that lives on holds the
megabyte that it lies in.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

_RUN_BITS: Final = 20
_HASH_MASK: Final = (1 << (64 - _RUN_BITS)) - 1
_ARRAYS: Final = 8
"""So many are searched one after the other; more are made one."""


class Overflow(Protocol):
    """Where text goes that is not kept in memory; only ever added to."""

    def put(self, data: bytes) -> int:
        """Keeps it; where it begins. Raises OSError."""

    def get(self, start: int, size: int) -> bytes:
        """What was kept from there on. Raises OSError."""


class PackedItem(Struct, frozen=True, gc=False, array_like=True):
    """An item. One that stays in memory, and only has its place here, has no fields."""

    kind: str
    id: str
    at: int = 0
    fields: dict[str, Raw] = {}
    elsewhere: dict[str, int] = {}
    """Fields that are not here either: the number of the event that has each."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[PackedItem]).decode


def packed(kind: str, item_id: str, at: int, fields: dict[str, Any], elsewhere: dict[str, int]) -> PackedItem:
    """An item, its fields encoded."""
    return PackedItem(kind, item_id, at, {n: Raw(_encode(v)) for n, v in fields.items()}, elsewhere)


class Packs:
    """Runs of items, in order. The items of a run are read together."""

    __slots__ = ("_index", "_overflow", "_runs", "count")

    def __init__(self, overflow: Overflow) -> None:
        self._overflow = overflow
        self._runs: list[tuple[int, int]] = []
        """(start, size) of each."""
        self._index: list[array[int]] = []
        """Sorted: of each item a part of its hash, and the number of its run."""
        self.count = 0

    def add(self, items: Sequence[PackedItem]) -> None:
        """The next run. Raises OSError."""
        data = _encode(items)
        self._runs.append((self._overflow.put(data), len(data)))
        run = len(self._runs) - 1
        found = (_prefix(item.kind, item.id) | run for item in items if item.fields)
        self._index.append(array("Q", sorted(found)))
        if len(self._index) > _ARRAYS:
            self._index = [array("Q", sorted(itertools.chain.from_iterable(self._index)))]
        self.count += len(items)

    def find(self, kind: str, item_id: str) -> PackedItem | None:
        """The item of this id. Raises OSError."""
        prefix = _prefix(kind, item_id)
        for numbers in self._index:
            for place in range(bisect.bisect_left(numbers, prefix), len(numbers)):
                if numbers[place] >> _RUN_BITS != prefix >> _RUN_BITS:
                    break
                for item in self._read(numbers[place] - prefix):
                    if (item.kind, item.id) == (kind, item_id):
                        return item
        return None

    def __iter__(self) -> Iterator[PackedItem]:
        """All of them. Raises OSError."""
        return itertools.chain.from_iterable(map(self._read, range(len(self._runs))))

    def _read(self, run: int) -> list[PackedItem]:
        return _decode(self._overflow.get(*self._runs[run]))


def _prefix(kind: str, item_id: str) -> int:
    return (hash((kind, item_id)) & _HASH_MASK) << _RUN_BITS
