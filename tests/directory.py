"""A directory of gateways in memory, which a test can make silent or slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import StoreFailed
from gateway.stores.directory import NodeRow, NodesSeen


class Shelf:
    """Rows in memory; `before` runs inside each act, `after` before its answer comes."""

    def __init__(self) -> None:
        self.rows: dict[int, NodeRow] = {}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.beaten = asyncio.Event()
        self._ids = 0

    async def join(self, name: str) -> int | NodeRow:
        self.before()
        for row in self.rows.values():
            if row.name == name:
                self.after()
                return row
        self._ids += 1
        self.rows[self._ids] = NodeRow(self._ids, name)
        self.after()
        return self._ids

    async def beat(self, node: int) -> NodesSeen:
        self.before()
        self.beaten.set()
        mine = self.rows.get(node)
        if mine is not None:
            self.rows[node] = NodeRow(node, mine.name, mine.beat + 1)
        self.after()
        return NodesSeen(mine is not None, tuple(row for row in self.rows.values() if row.id != node))

    async def remove(self, node: int, *, beat: int) -> bool:
        return self.rows.get(node) == NodeRow(node, self.rows[node].name, beat) and bool(self.rows.pop(node))

    async def leave(self, node: int) -> None:
        self.rows.pop(node, None)


def silent(shelf: Shelf) -> None:
    def fail() -> None:
        shelf.beaten.set()
        raise StoreFailed

    shelf.before = fail
