"""Which bytes of a file a request wants: Range, If-Range and If-None-Match of RFC 9110. Pure."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.ASCII | re.IGNORECASE)
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class ByteSpan(Struct, frozen=True):
    """Bytes from `start` up to, and without, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start


def wanted(header: str | None, *, size: int, if_range: str | None, etag: str) -> ByteSpan | None:
    """What a Range asks for; None for the whole file. Raises LookupError if the file has no such bytes.

    A Range that is not understood, asks for several spans, or is of another version of the file is ignored.
    """
    if header is None or (if_range is not None and if_range.strip() != etag):
        return None
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return _last(int(found[2]), size)
    start = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < start:
        return None
    if start >= size:
        raise LookupError
    return ByteSpan(start, min(last + 1, size))


def _last(count: int, size: int) -> ByteSpan:
    if not count or not size:
        raise LookupError
    return ByteSpan(max(0, size - count), size)


def is_known(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match names this version of the file."""
    if header is None:
        return False
    return header.strip() == "*" or etag in _TAG.findall(header)
