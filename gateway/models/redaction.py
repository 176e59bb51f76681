"""Takes a key out of what a provider says: some quote it in their errors, or its beginning. Pure.

Guarantee: from its first eight characters on the key is replaced by `…`, in whatever pieces the bytes come,
whatever signs it has, and as JSON spells it, too.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from gateway.egress.spoken import begun

START_CHARACTERS: Final = 8
MARK: Final = "…".encode()
_ESCAPE: Final = rb"\\(?:[/\\]|u00[0-9A-Fa-f]{2})"
"""How JSON may spell a sign: `\\/`, `\\u002b`."""
_ENDS: Final = ' "\\'
"""What ends a key in a text, even if it has one of these."""
_HALF_ESCAPE: Final = re.compile(rb"(?:\\(?:u(?:0(?:0[0-9A-Fa-f]?)?)?)?)?")
"""Or nothing: what a piece may end with while the key goes on in the next one."""


class Redactor:
    """Reads one body; `feed` what comes and send on what it returns, then what `end` returns."""

    def __init__(self, key: str) -> None:
        """A key of fewer than eight characters is no secret, and may be a word."""
        self._start = key[:START_CHARACTERS].encode() if len(key) >= START_CHARACTERS else b""
        self._pattern, self._rest = _patterns(key)
        self._held = b""
        self._is_inside = False

    def feed(self, chunk: bytes) -> bytes:
        """What of it can be sent on."""
        if self._pattern is None:
            return chunk
        data = self._held + chunk if self._held else chunk
        self._held = b""
        if self._is_inside:
            data = self._rest.sub(b"", data, count=1)
            if _HALF_ESCAPE.fullmatch(data):
                self._held = data
                return b""
            self._is_inside = False
        if self._start in data:
            last = [found.end() for found in self._pattern.finditer(data)][-1]
            if _HALF_ESCAPE.fullmatch(data, last):
                self._is_inside = True
                self._held = data[last:]
                return self._pattern.sub(MARK, data[:last])
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


@functools.lru_cache(maxsize=64)
def _patterns(key: str) -> tuple[re.Pattern[bytes] | None, re.Pattern[bytes]]:
    """Finds a key, if it is a secret, and what it goes on with."""
    own = b"".join(re.escape(sign.encode()) for sign in sorted(set(key)) if sign not in _ENDS)
    rest = rb"(?:[\w.~+/=\-" + own + rb"]|" + _ESCAPE + rb")*+"
    start = re.escape(key[:START_CHARACTERS].encode())
    whole = re.compile(start + rest) if len(key) >= START_CHARACTERS else None
    return whole, re.compile(rest)
