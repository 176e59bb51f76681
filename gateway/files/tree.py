"""What is in a folder of a session: its entries, in order, a page at a time.

Guarantees: a folder with a million entries costs as much as one with `SCANNED`: more are not looked at, and
the answer says so. A link is shown as a link, and where it leads is never looked at. What vanishes meanwhile
is left out; what is renamed meanwhile may be missed or listed twice, as with `ls`.
"""

from __future__ import annotations

import heapq
import os
import stat
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.events.facts import iso
from gateway.files.beneath import Folder, Unsafe
from gateway.files.media import Preview, media_type, preview
from gateway.files.names import encoded, joined, shown
from gateway.files.times import told_milliseconds
from gateway.files.upload_names import is_unfinished

SCANNED: Final = 100_000
"""Entries of one folder that are looked at: about a tenth of a second."""
ENTRIES_AT_ONCE: Final = 2_000
"""Of one answer, its inner folders included: about 500 KiB of JSON."""
BYTES_AT_ONCE: Final = 4 * 1024 * 1024
"""Of the paths of one answer, about, if an agent made them as long as they can be."""
NAME_BYTES: Final = 3 * 255
"""The longest name, percent-encoded."""
DEEPEST: Final = 5

EntryKind = Literal["file", "folder", "link", "other"]


class FileEntry(Struct, frozen=True, kw_only=True):
    """One entry of a folder. `other` is a device, a FIFO or a socket, which nobody can read here."""

    name: str
    """For people; what is no text is U+FFFD."""
    path: str
    """From the working directory, percent-encoded: put it behind `?path=` as it is."""
    kind: EntryKind
    size: int
    modified_at: str
    media_type: str | None = None
    """Of a file, by its name."""
    preview: Preview | None = None
    """How the page can show it."""
    inner: FileListing | UnsetType = UNSET
    """Of a folder, if `depth` reaches it."""


class FileListing(Struct, frozen=True, kw_only=True):
    """The entries of a folder: folders first, then by name, byte by byte."""

    path: str
    entries: list[FileEntry]
    cursor: str | None = None
    """Ask again with it for those that follow; null: there are no more."""
    is_partial: bool = False
    """True if the folder has so many entries that not all of them were looked at."""


class TreeWalk:
    """One listing: counts what it has listed so far."""

    def __init__(self, folder: Folder, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._room = max(limit, ENTRIES_AT_ONCE)
        self._bytes = BYTES_AT_ONCE

    def listing(self, name: str, *, depth: int = 1, after: tuple[int, bytes] | None = None) -> FileListing:
        """The entries of a folder, and of its folders down to `depth`. Raises Unsafe, OSError."""
        descriptor = self._folder.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            most = max(1, self._bytes // (len(encoded(name)) + NAME_BYTES))
            first, has_more, is_partial = self._first(descriptor, after, min(self._limit, self._room, most))
            found = [
                entry_of(joined(name, inner), status)
                for _, inner in first
                if (status := _status(inner, descriptor)) is not None
            ]
        finally:
            os.close(descriptor)
        self._room -= len(found)
        self._bytes -= sum(len(entry.path) for entry in found)
        entries = [
            self._with_inner(entry, joined(name, inner), depth) for entry, inner in _named(found, first)
        ]
        return FileListing(
            path=encoded(name),
            entries=entries,
            cursor=_cursor(first[-1][0]) if has_more and first else None,
            is_partial=is_partial,
        )

    def _with_inner(self, entry: FileEntry, name: str, depth: int) -> FileEntry:
        if entry.kind != "folder" or depth <= 1 or min(self._room, self._bytes) <= 0:
            return entry
        try:
            inner = self.listing(name, depth=depth - 1)
        except OSError:
            return entry  # not the session's to read, or gone
        return FileEntry(
            name=entry.name,
            path=entry.path,
            kind=entry.kind,
            size=entry.size,
            modified_at=entry.modified_at,
            inner=inner,
        )

    def _first(
        self, descriptor: int, after: tuple[int, bytes] | None, limit: int
    ) -> tuple[list[tuple[tuple[int, bytes], str]], bool, bool]:
        """The first names after a place, whether there are more, and whether not all were looked at."""
        seen, is_partial = 0, False
        kept: list[tuple[tuple[int, bytes], str]] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                seen += 1
                if seen > SCANNED:
                    is_partial = True
                    break
                if is_unfinished(entry.name):
                    continue
                place = (0 if _is_folder(entry) else 1, os.fsencode(entry.name))
                if after is None or place > after:
                    kept.append((place, entry.name))
                if len(kept) > 4 * limit + 64:
                    kept = heapq.nsmallest(limit + 1, kept)
        kept = heapq.nsmallest(limit + 1, kept)
        return kept[:limit], len(kept) > limit, is_partial


def entry_of(name: str, status: os.stat_result) -> FileEntry:
    """The entry of a name."""
    kind = kind_of(status.st_mode)
    is_file = kind == "file"
    return FileEntry(
        name=shown(name.rpartition("/")[2]),
        path=encoded(name),
        kind=kind,
        size=status.st_size if is_file else 0,
        modified_at=iso(told_milliseconds(status.st_mtime_ns)),
        media_type=media_type(name) if is_file else None,
        preview=preview(name) if is_file else None,
    )


def kind_of(mode: int) -> EntryKind:
    """What the mode of a file says that it is."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def place_of(cursor: str | None) -> tuple[int, bytes] | None:
    """Where a listing goes on. Raises Unsafe for a text that is no cursor."""
    if cursor is None:
        return None
    if cursor[:1] not in ("0", "1"):
        raise Unsafe(0, "no cursor", cursor)
    return int(cursor[0]), os.fsencode(cursor[1:])


def _cursor(place: tuple[int, bytes]) -> str:
    return f"{place[0]}{encoded(os.fsdecode(place[1]))}"


def _named(found: list[FileEntry], first: list[tuple[tuple[int, bytes], str]]) -> list[tuple[FileEntry, str]]:
    """The entries with their names as bytes have them."""
    names = {encoded(name): name for _, name in first}
    return [(entry, names[entry.path.rpartition("/")[2]]) for entry in found]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _status(name: str, descriptor: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        return None  # gone
