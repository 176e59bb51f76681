"""What is in a session's two folders now: names, kinds, sizes and times; no content is read.

Guarantees: no link is followed, a FIFO, socket or device is neither opened nor listed, and the number of
names, the depth of a path and the time are bounded, whatever an agent makes there meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from operator import attrgetter
from typing import Final

from gateway.files.beneath import Folder
from gateway.files.left_out import MOST_RULES, RULE_FILE_BYTES, LeftOut, Rule, rules_of
from gateway.files.manifest import MODE_BITS, TOPS, Entry
from gateway.files.names import room_for
from gateway.files.times import kept_ns
from gateway.workers import trees

PATH_BYTES: Final = 3_500
"""A longer path could not be named where it is restored (PATH_MAX is 4,096); it is left out."""
SCAN_SECONDS: Final = 30.0
"""For one scan; one that takes longer is given up."""
RACY_NS: Final = 50_000_000
"""The clock of a file system moves in steps: a file may be written twice within one."""


class ScanFailed(Exception):
    """Why the files cannot be listed, in words for people."""


def scan(
    folder: Folder, left_out: LeftOut, *, max_files: int, passed: list[str] | None = None
) -> list[Entry]:
    """Every entry below `home` and `work`, by name; a folder comes before what is in it. Names that are left
    out are added to `passed`, folders without what is in them.

    Raises ScanFailed if there are too many, their names are too long or it takes too long, OSError.
    """
    found: list[Entry] = []
    bounds = _Bounds(max_files)
    for top in TOPS:
        visitor = _Scan(top.decode(), left_out, found, passed, bounds)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            trees.walk(top.decode(), visitor, below=folder.descriptor)
    found.sort(key=attrgetter("path"))
    return found


class _Bounds:
    """How much one scan may find, and how long it may take."""

    def __init__(self, max_files: int) -> None:
        self.max_files = max_files
        self._most_bytes = self._bytes_left = room_for(max_files)  # with where links lead
        self._until = time.monotonic() + SCAN_SECONDS

    def check(self, *names: bytes) -> None:
        """These names were found. Raises ScanFailed if that is too much, or too late."""
        self._bytes_left -= sum(map(len, names))
        if self._bytes_left < 0:
            raise ScanFailed(f"The names of the files have more than {self._most_bytes:,} bytes.")
        if time.monotonic() > self._until:
            raise ScanFailed(f"Listing the files took more than {SCAN_SECONDS:g} seconds.")

    def too_many(self) -> ScanFailed:
        return ScanFailed(f"There are more than {self.max_files:,} files.")


class _Scan(trees.Visitor):
    """Notes what a walk finds."""

    def __init__(
        self,
        top: str,
        left_out: LeftOut,
        found: list[Entry],
        passed: list[str] | None,
        bounds: _Bounds,
    ) -> None:
        self._paths = [top]
        self._left_out = left_out
        self._found = found
        self._passed = passed
        self._bounds = bounds
        self._rules: list[list[Rule] | None] = []
        """Of the working tree that each folder on the way is in; None: it is in none."""

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        path = f"{self._paths[depth - 1]}/{name}" if depth else self._paths[0]
        self._paths[depth:] = [path]
        entries = self._entries(directory)
        rules = self._rules_for(directory, depth, path, {entry.name for entry in entries})
        below: list[str] = []
        for entry in entries:
            with contextlib.suppress(OSError):  # it is gone
                if self._note(directory, entry, f"{path}/{entry.name}", rules):
                    below.append(entry.name)
        return below

    def fail(self, error: OSError) -> None:
        """It cannot be opened, or was moved: what is below it is not known."""

    def _entries(self, directory: int) -> list[os.DirEntry[str]]:
        """What a folder holds, never more than may be found."""
        try:
            with os.scandir(directory) as entries:
                some = list(itertools.islice(entries, self._bounds.max_files + 1))
        except OSError:
            return []
        if len(some) > self._bounds.max_files:
            raise self._bounds.too_many()
        return some

    def _note(self, directory: int, entry: os.DirEntry[str], path: str, rules: list[Rule]) -> bool:
        """Notes one entry; True for a folder that is gone into."""
        status = entry.stat(follow_symlinks=False)
        is_folder = stat.S_ISDIR(status.st_mode)
        name = os.fsencode(path)
        if len(name) > PATH_BYTES:
            return False
        if self._left_out.is_out(path, entry.name, rules, is_folder=is_folder):
            self._bounds.check(name if self._passed is not None else b"")
            if self._passed is not None:
                self._passed.append(path)
            return False
        mode = stat.S_IMODE(status.st_mode) & MODE_BITS
        if is_folder:
            self._found.append(Entry(name, "folder", mode))
        elif stat.S_ISLNK(status.st_mode):
            target = os.fsencode(os.readlink(entry.name, dir_fd=directory))
            self._bounds.check(target)
            self._found.append(Entry(name, "link", target=target))
        elif stat.S_ISREG(status.st_mode):
            self._found.append(entry_of(name, status))
        self._bounds.check(name)
        if len(self._found) > self._bounds.max_files:
            raise self._bounds.too_many()
        return is_folder

    def _rules_for(self, directory: int, depth: int, path: str, names: set[str]) -> list[Rule]:
        """The rules that hold in a folder: none outside of a working tree."""
        above = self._rules[depth - 1] if depth else None
        rules = [] if ".git" in names else above
        if rules is not None and ".gitignore" in names and len(rules) < MOST_RULES:
            rules = (rules + rules_of(_text(directory, ".gitignore"), path))[:MOST_RULES]
        self._rules[depth:] = [rules]
        return rules or []


def entry_of(path: bytes, status: os.stat_result, *, digest: bytes = b"") -> Entry:
    """A file as it is now. One that was changed a moment ago has no inode here: see `Entry`."""
    is_racy = status.st_ctime_ns > time.time_ns() - RACY_NS
    return Entry(
        path,
        "file",
        stat.S_IMODE(status.st_mode) & MODE_BITS,
        status.st_size,
        kept_ns(status.st_mtime_ns),
        kept_ns(status.st_ctime_ns),
        0 if is_racy else status.st_ino,
        digest,
    )


def is_untouched(known: Entry | None, now: Entry) -> bool:
    """True if a file is the one that was read before, by all that its status tells."""
    if known is None or known.kind != "file" or not known.inode or not (known.digest or known.why == "large"):
        return False
    return (known.inode, known.size, known.mtime_ns, known.ctime_ns) == (
        *(now.inode, now.size),
        *(now.mtime_ns, now.ctime_ns),
    )


def is_copy(original: Entry, now: Entry) -> bool:
    """True if a file that the gateway put there has the content of the one that it was copied from."""
    return bool(original.digest) and (original.kind, original.size, original.mtime_ns) == (
        *(now.kind, now.size),
        now.mtime_ns,
    )


def _text(directory: int, name: str) -> str:
    """The beginning of a small file; empty if it is none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return file.read(RULE_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
