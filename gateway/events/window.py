"""Part of a conversation: its last messages, or those before a place, and what of the rest is still open.

A message's number is its place in State, which never changes: who has the messages from number N on asks for
those before N. The items that a page draws are cut at the same places.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from gateway.events.fold import Block, ChatState, Item, Message

LAST_MOST: Final = 1_000
"""So many messages are asked for at once."""
LOOKED_AT: Final = 2_000
"""So many items before the window are looked at for tool calls that run."""
_RUNNING: Final = ("pending", "in_progress")


class MessageWindow(Struct, frozen=True):
    """`last` messages: of all, or of those before the message of this number."""

    last: int
    before: int | None = None


class Part(Struct, frozen=True):
    """The items of a window. The first `apart` of them are older and still open; `earlier` messages come
    before the window.
    """

    items: list[Item]
    apart: int = 0
    earlier: int = 0

    @property
    def facts(self) -> dict[str, int]:
        """What a snapshot says of it."""
        return {"earlier": self.earlier, "apart": self.apart}


def bounds(fold: ChatState, window: MessageWindow) -> tuple[int, int]:
    """The numbers of the first message and of the one after the last. A message that grows is among the last,
    however many there are after it.
    """
    count = len(fold.messages)
    if window.before is not None:
        stop = min(window.before, count)
        return max(0, stop - window.last), stop
    return min([max(0, count - window.last), *map(fold.place_of, fold.growing)]), count


def part_of(fold: ChatState, window: MessageWindow) -> Part:
    """What a page draws of it: looked for from the end, so the last part is found at once."""
    start, stop = bounds(fold, window)
    walk = fold.last_items()
    behind, first = _numbers(fold, stop), _numbers(fold, start)
    found: list[Item] = []
    for item in walk if behind[0] or first[0] or not start else ():
        if not behind[0]:
            found.append(item)
        index = item.index if isinstance(item, Message) else -1
        behind[0] -= index >= behind[1]
        first[0] -= index >= first[1]
        if not behind[0] and not first[0] and start:
            break
    found.reverse()
    if window.before is not None:
        return Part(found, earlier=start)
    apart = _open_before(fold, walk, found)
    return Part([*apart, *found], len(apart), start)


def _numbers(fold: ChatState, number: int) -> list[int]:
    """How many messages there are from this number on, and the index of the first of them."""
    left = len(fold.messages) - number
    return [left, fold.messages[number].index if left else sys.maxsize]


def _open_before(fold: ChatState, walk: Iterator[Item], found: list[Item]) -> list[Item]:
    """Items before these that are still open: tool calls of the turn that runs, and what waits for the
    person.
    """
    before = list(itertools.islice(walk, LOOKED_AT)) if fold.turn_id is not None else []
    running = [item for item in reversed(before) if _is_running(item, fold)]
    shown = {id(item) for item in found}
    return running + [item for item in fold.waiting_items if id(item) not in shown]


def _is_running(item: Item, fold: ChatState) -> bool:
    if not isinstance(item, Block) or item.kind != "tool_call":
        return False
    return item.plain("turn_id") == fold.turn_id and (item.plain("status") or "pending") in _RUNNING
