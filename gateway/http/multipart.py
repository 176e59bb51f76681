"""`multipart/form-data` as it arrives: bytes in, parts out. Pure; RFC 7578 as browsers and curl write it.

Guarantees: no more of a part is held than a boundary is long; headers are bounded; what is no such body is a
BadRequest that says why.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from gateway.errors import BadRequest

HEADER_BYTES: Final = 16 * 1024
PREAMBLE_BYTES: Final = 16 * 1024
_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))(?=\s*(?:;|$))', re.IGNORECASE)
_FILE_NAME: Final = re.compile(rb';\s*filename="((?:[^"\\]|\\.)*)"|;\s*filename=([^\s;"]+)', re.IGNORECASE)
_ENCODED_NAME: Final = re.compile(rb";\s*filename\*=(?:utf-8)'[^']*'([^\s;]+)", re.IGNORECASE)


class PartBegun(Struct, frozen=True):
    """The head of a part."""

    file_name: str | None
    """As its sender wrote it; None: it is no file."""


class PartEnded(Struct, frozen=True):
    """The end of a part."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises BadRequest."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadRequest("The Content-Type names no boundary of the multipart body.")
    return (found[1] or found[2]).encode("latin-1", "replace")


class Multipart:
    """Reads one body; `feed` what arrives. `is_over` once its last boundary came."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # the first boundary may be the first line
        self._state = "preamble"
        self.is_over = False

    def feed(self, data: bytes) -> Iterator[PartBegun | bytes | PartEnded]:
        """What these bytes bring. Raises BadRequest."""
        self._held += data
        while not self.is_over:
            match self._state:
                case "preamble":
                    done = self._skip_preamble()
                case "boundary":
                    done = self._end_boundary()
                case "head":
                    head = self._head()
                    done = head is None
                    if head is not None:
                        yield head
                case _:
                    at = self._held.find(self._delimiter)
                    body = self._body(at)
                    done = at < 0
                    if body:
                        yield body
                    if at >= 0:
                        yield PartEnded()
            if done:
                return

    def _skip_preamble(self) -> bool:
        at = self._held.find(self._delimiter)
        if at < 0:
            if len(self._held) > PREAMBLE_BYTES:
                raise BadRequest("The body does not contain the boundary that its Content-Type names.")
            return True
        self._held = self._held[at + len(self._delimiter) :]
        self._state = "boundary"
        return False

    def _end_boundary(self) -> bool:
        """What follows a boundary: the end of its line, or two dashes at the end of all parts."""
        if self._held.startswith(b"--"):
            self.is_over = True
            return True
        line, found, rest = self._held.partition(b"\r\n")
        if not found:
            if len(self._held) > HEADER_BYTES:
                raise BadRequest("The multipart body is malformed behind a boundary.")
            return True
        if line.strip(b" \t"):
            raise BadRequest("The multipart body is malformed behind a boundary.")
        self._held = b"\r\n" + rest  # a part without headers begins with an empty line
        self._state = "head"
        return False

    def _head(self) -> PartBegun | None:
        lines, found, rest = self._held.partition(b"\r\n\r\n")
        if not found:
            if len(self._held) > HEADER_BYTES:
                raise BadRequest("The headers of a part are too long.")
            return None
        self._held = rest
        self._state = "body"
        for line in lines.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-disposition":
                return PartBegun(_file_name(value))
        return PartBegun(None)

    def _body(self, at: int) -> bytes:
        """What is surely of this part; `at`: where its end was found."""
        if at >= 0:
            body, self._held = self._held[:at], self._held[at + len(self._delimiter) :]
            self._state = "boundary"
            return body
        keep = len(self._delimiter) - 1
        body, self._held = self._held[:-keep], self._held[-keep:]
        return body


def _file_name(disposition: bytes) -> str | None:
    if (found := _ENCODED_NAME.search(disposition)) is not None:
        return urllib.parse.unquote_to_bytes(found[1]).decode("utf-8", "replace")
    found = _FILE_NAME.search(disposition)
    if found is None:
        return None
    name = re.sub(rb'\\(["\\])', rb"\1", found[1]) if found[1] is not None else found[2]
    for escape, letter in ((b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):  # as browsers escape them
        name = name.replace(escape, letter)
    return name.decode("utf-8", "replace")
