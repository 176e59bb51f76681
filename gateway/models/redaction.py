"""Takes a key out of what a provider says: some quote it in their errors, or its beginning. Pure.

Guarantee: from its first eight characters on the key is replaced by `…`, in whatever pieces the bytes come.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.egress.spoken import begun

START_CHARACTERS: Final = 8
MARK: Final = "…".encode()
_REST: Final = rb"[\w.~+/=-]*"


class Redactor:
    """Reads one body; `feed` what comes and send on what it returns, then what `end` returns."""

    def __init__(self, key: str) -> None:
        """A key of fewer than eight characters is no secret, and may be a word."""
        start = key[:START_CHARACTERS].encode() if len(key) >= START_CHARACTERS else b""
        self._start = start
        self._pattern = re.compile(re.escape(start) + _REST) if start else None
        self._held = b""
        self._is_inside = False

    def feed(self, chunk: bytes) -> bytes:
        """What of it can be sent on."""
        if self._pattern is None:
            return chunk
        data = self._held + chunk if self._held else chunk
        self._held = b""
        if self._is_inside:
            data = _INSIDE.sub(b"", data, count=1)
            self._is_inside = not data
        if self._start in data:
            ends = [found.end() for found in self._pattern.finditer(data)]
            self._is_inside = ends[-1] == len(data)
            data = self._pattern.sub(MARK, data)
        if length := begun(self._start, data):
            self._held, data = data[-length:], data[:-length]
        return data

    def end(self) -> bytes:
        """What was held back: the beginning of a key, which nothing followed."""
        held, self._held = self._held, b""
        return held

    def whole(self, data: bytes) -> bytes:
        """A whole body."""
        return data if self._pattern is None else self._pattern.sub(MARK, data)

    def text(self, words: str) -> str:
        """A text, such as a header."""
        return self.whole(words.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


_INSIDE: Final = re.compile(rb"^" + _REST)
