"""Searching the audit log: its files from the newest line back, a bounded piece for each request.

Guarantees: no request reads more than `BYTES_MOST`; a cursor still means the same line after the files have
moved aside, because it names the file by its inode; a line that is no JSON is left out.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from gateway.telemetry.audit import FILE_NAME, FILES_KEPT, AuditLine

BYTES_MOST: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
LINE_BYTES_MOST: Final = 64 * 1024
"""A line that is longer was not written here."""


class AuditCursor(Struct, frozen=True):
    """Everything before this byte of the file with this inode is older."""

    inode: int
    offset: int

    def __str__(self) -> str:
        return f"{self.inode}.{self.offset}"


class AuditPage(Struct, frozen=True, kw_only=True):
    """The newest first. `next`: the `before` of what comes after; null at the end. A page may be empty and
    have a next one: so much is read for one request and no more.
    """

    lines: list[AuditLine]
    next: str | None


def cursor_of(text: str) -> AuditCursor | None:
    """The cursor that a client sends back; None if it is none."""
    inode, _, offset = text.partition(".")
    is_one = all(part.isascii() and part.isdigit() and len(part) < 20 for part in (inode, offset))
    return AuditCursor(int(inode), int(offset)) if is_one else None


def search(
    directory: pathlib.Path,
    matches: Callable[[AuditLine], bool],
    *,
    before: AuditCursor | None,
    limit: int,
    bytes_most: int = BYTES_MOST,
) -> AuditPage:
    """Lines that match, from `before` (None: the end) back. Raises OSError. Blocks."""
    found: list[AuditLine] = []
    read = 0
    for path in _files(directory):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            status = os.fstat(file.fileno())
            if before is not None and status.st_ino != before.inode:
                continue
            end = status.st_size if before is None else min(before.offset, status.st_size)
            before = None
            for offset, raw in _backwards(file, end):
                read += len(raw) + 1
                line = _decoded(raw)
                if line is not None and matches(line):
                    found.append(line)
                if len(found) == limit or read >= bytes_most:
                    return AuditPage(lines=found, next=str(AuditCursor(status.st_ino, offset)))
    return AuditPage(lines=found, next=None)


def _files(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    yield directory / FILE_NAME
    for number in range(1, FILES_KEPT + 1):
        yield directory / f"{FILE_NAME}.{number}"


def _backwards(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Each line before `end` with the offset at which it begins, the last one first."""
    rest = b""
    while end > 0:
        start = max(0, end - PIECE_BYTES)
        file.seek(start)
        rest = file.read(end - start) + rest
        end = start
        first, *lines = rest.split(b"\n")
        offset = start + len(rest)
        for raw in reversed(lines):
            offset -= len(raw)
            if raw:
                yield offset, raw
            offset -= 1
        rest = first if len(first) <= LINE_BYTES_MOST else b""
    if rest:
        yield 0, rest


def _decoded(raw: bytes) -> AuditLine | None:
    try:
        return msgspec.json.decode(raw, type=AuditLine)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
