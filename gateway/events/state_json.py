"""State as JSON, of which only what has changed is encoded again.

The messages that are finished are kept encoded in blocks, so a long conversation costs a copy, whatever was
said last. A text of which a part is not in memory is never kept: State is then had part by part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from gateway.events.fold import ChatState, Outside
from gateway.events.window import MessageWindow, bounds

BLOCK_MESSAGES: Final = 64
KEPT_BYTES: Final = 4 * 1024 * 1024
"""So much of a conversation is kept encoded; the rest is encoded each time."""


class StateJson:
    """The State of one fold. A fold has at most one of them: what has changed is told once."""

    def __init__(self, fold: ChatState) -> None:
        self._fold = fold
        self._blocks: dict[int, bytes] = {}
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def forget(self) -> None:
        """Keeps nothing."""
        self._blocks.clear()
        self._bytes = 0

    def json(self, outside: Outside, window: MessageWindow | None = None) -> bytes | Iterator[bytes]:
        """State as it is now, whatever happens before the last part is taken; in parts if it is long."""
        fold = self._fold
        self._drop_changed()
        start, stop = (0, len(fold.messages)) if window is None else bounds(fold, window)
        head, tail = fold.state_ends(outside, earlier=None if window is None else start)
        parts: list[bytes | Iterator[bytes]] = [head]
        for run in self._runs(start, stop):
            parts += (run, b",")
        if stop > start:
            parts.pop()
        parts.append(tail)
        return _joined(parts)

    def _runs(self, start: int, stop: int) -> Iterator[bytes | Iterator[bytes]]:
        """The messages between two numbers, a whole block at a time if it can be."""
        number = start
        while number < stop:
            block, within = divmod(number, BLOCK_MESSAGES)
            is_whole = not within and number + BLOCK_MESSAGES <= stop
            if is_whole and (kept := self._block(block)) is not None:
                yield kept
                number += BLOCK_MESSAGES
                continue
            message = self._fold.messages[number]
            yield message.json_parts() if message.text.is_long else message.json(keep=True)
            number += 1

    def _block(self, block: int) -> bytes | None:
        """A block of finished messages; None if there are others in it."""
        if (kept := self._blocks.get(block)) is not None:
            return kept
        start = block * BLOCK_MESSAGES
        messages = self._fold.messages[start : start + BLOCK_MESSAGES]
        if any(message.is_streaming or message.text.is_long for message in messages):
            return None
        encoded = b",".join([message.json(keep=False) for message in messages])
        if self._bytes + len(encoded) <= KEPT_BYTES:
            self._blocks[block] = encoded
            self._bytes += len(encoded)
            for message in messages:
                message.changed()  # it is kept once
        return encoded

    def _drop_changed(self) -> None:
        """Forgets the blocks from the first message on that has changed since the last time."""
        first = self._fold.take_changed() // BLOCK_MESSAGES
        for block in [known for known in reversed(self._blocks) if known >= first]:
            self._bytes -= len(self._blocks.pop(block))


def _joined(parts: list[bytes | Iterator[bytes]]) -> bytes | Iterator[bytes]:
    """The parts with neighbouring bytes made one."""
    runs: list[bytes | Iterator[bytes]] = []
    for is_here, run in itertools.groupby(parts, key=lambda part: isinstance(part, bytes)):
        if is_here:
            runs.append(b"".join(part for part in run if isinstance(part, bytes)))
        else:
            runs += run
    if len(runs) == 1 and isinstance(runs[0], bytes):
        return runs[0]
    return itertools.chain.from_iterable((run,) if isinstance(run, bytes) else run for run in runs)
