"""Server-sent events as they pass: cut into whole frames, with the id of the last one."""

from __future__ import annotations

from typing import Final

HELD_BYTES: Final = 1024 * 1024
"""A longer frame passes in pieces; if it is cut, nothing can take up in its middle."""
_END: Final = b"\n\n"


class FrameSplitter:
    """Holds back what is no whole frame yet."""

    __slots__ = ("_held", "_is_within", "_pending", "last_id")

    def __init__(self) -> None:
        self.last_id = b""
        """The `id:` of the last whole frame that had one."""
        self._held = b""
        self._is_within = False
        """Whether the beginning of a long frame has passed, and its end has not."""
        self._pending = b""
        """The id of that frame, if it is known."""

    @property
    def is_whole(self) -> bool:
        """Whether all that has passed ends with a frame's end."""
        return not self._is_within

    def feed(self, piece: bytes) -> bytes:
        """What may pass now."""
        if not self._held and not self._is_within and piece.endswith(_END):
            self._note(piece)
            return piece
        start = max(0, len(self._held) - 1)
        data = self._held + piece if self._held else piece
        end = data.rfind(_END, start)
        if end < 0:
            return self._of_long(data)
        whole, self._held = data[: end + 2], data[end + 2 :]
        if self._is_within:
            self._is_within = False
            self.last_id = self._pending or self.last_id
            rest = whole[whole.find(_END) + 2 :]
            if rest:
                self._note(rest)
        else:
            self._note(whole)
        if len(self._held) > HELD_BYTES:
            whole += self._of_long(self._held)
        return whole

    def end(self) -> bytes:
        """What was held back, at a proper end."""
        rest, self._held = self._held, b""
        return rest

    def _of_long(self, data: bytes) -> bytes:
        """Holds the beginning of a frame; what passes of it once it is too long to hold."""
        if len(data) <= HELD_BYTES and not self._is_within:
            self._held = data
            return b""
        if not self._is_within:
            self._pending = id_in(data)
            self._is_within = True
        kept = len(data) - 1 if data.endswith(b"\n") else len(data)  # half of an end, perhaps
        self._held = data[kept:]
        return data[:kept]

    def _note(self, frames: bytes) -> None:
        self.last_id = id_in(frames) or self.last_id


def id_in(frames: bytes) -> bytes:
    """The last id in frames, of which the first is whole at its beginning."""
    at = frames.rfind(b"\nid:")
    if at >= 0:
        begin = at + 4
    elif frames.startswith(b"id:"):
        begin = 3
    else:
        return b""
    end = frames.find(b"\n", begin)
    return frames[begin : end if end >= 0 else len(frames)].strip()
