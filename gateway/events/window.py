"""Part of a conversation: its last messages, or those before a place, and what of the rest is still open.

A message's number is its place in State, which never changes: who has the messages from number N on asks for
those before N. The items that a page draws are cut at the same places.
"""

from __future__ import annotations

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
    before the window (None: it is no part, but everything).
    """

    items: list[Item]
    apart: int = 0
    earlier: int | None = None

    @property
    def facts(self) -> dict[str, int]:
        """What a snapshot says of it."""
        return {} if self.earlier is None else {"earlier": self.earlier, "apart": self.apart}


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
    """What a page draws of it."""
    start, stop = bounds(fold, window)
    first, end = _place(fold, start), _place(fold, stop)
    if window.before is not None:
        return Part(fold.items[first:end], earlier=start)
    apart = _open_before(fold, first)
    return Part([*apart, *fold.items[first:]], len(apart), start)


def _place(fold: ChatState, number: int) -> int:
    """Where in the items the first of all messages from this number on is. It is looked for from the end."""
    left, place = len(fold.messages) - number, len(fold.items)
    if number <= 0:
        return 0
    while left > 0:
        place -= 1
        item = fold.items[place]
        left -= isinstance(item, Message) and item.index >= fold.messages[number].index
    return place


def _open_before(fold: ChatState, place: int) -> list[Item]:
    """Items before a place that are still open: tool calls of the turn that runs, and what waits for the
    person.
    """
    looked_at = fold.items[max(0, place - LOOKED_AT) : place] if fold.turn_id is not None else []
    found = [item for item in looked_at if _is_running(item, fold)]
    shown = {id(item) for item in fold.items[place:]}
    return found + [item for item in fold.waiting_items if id(item) not in shown]


def _is_running(item: Item, fold: ChatState) -> bool:
    if not isinstance(item, Block) or item.kind != "tool_call":
        return False
    return item.fields.get("turn_id") == fold.turn_id and item.fields.get("status", "pending") in _RUNNING
