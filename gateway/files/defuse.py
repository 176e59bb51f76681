"""HTML without what makes a browser connect to a host before any policy is asked.

A Content-Security-Policy stops every request of a page, but Chromium connects to the host of a `<link
rel=preconnect>` and of a frame before it asks the policy, and so a host hears that somebody looks. Such
elements show nothing under that policy anyway: their names are changed, and that of `srcdoc`, whose text can
hide one. Each byte keeps its place, so length and encoding stay what they were (UTF-8, or UTF-16 by its
mark; a browser tries no other if it is told one).
"""

from __future__ import annotations

import re
from typing import Final

_ELEMENTS: Final = ("link", "iframe", "frame", "object", "embed", "portal", "fencedframe")
_TAIL: Final = 32
"""Longer than any name that is looked for, in UTF-16."""


def _in_any_encoding(name: str) -> str:
    """The pattern of a name whose first letter is changed."""
    return name[0] + "(?=" + "".join(rf"\x00?{letter}" for letter in name[1:]) + ")"


_NAMES: Final = re.compile(
    rf"(<\x00?)(?:{'|'.join(map(_in_any_encoding, _ELEMENTS))})|{_in_any_encoding('srcdoc')}".encode(),
    re.IGNORECASE,
)


class Defuser:
    """Takes a page piece by piece; what it holds back comes with the next piece, or with `last`."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be sent by now."""
        text = _defused(self._held + piece)
        self._held = text[-_TAIL:]
        return text[:-_TAIL]

    def last(self) -> bytes:
        """What is left."""
        held, self._held = self._held, b""
        return held


def _defused(text: bytes) -> bytes:
    return _NAMES.sub(lambda found: (found[1] or b"") + b"x", text)
