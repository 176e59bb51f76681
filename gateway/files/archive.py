"""A folder of a session as a zip, made while it is sent.

`planned` looks at all that is in it first, so that a folder that is too large is refused before a byte is
sent. Guarantees: memory is bounded by the plan and one piece; each file has at most the bytes that it had
when it was planned, so that one that grows ends; a file that shrinks or changes has a right checksum of what
was read; links, devices, FIFOs, sockets, and what cannot be read are left out and listed in a last entry; a
name is changed if it could lead somewhere else on another system; no set-id bit is kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import time
import zipfile
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from gateway.files.names import encoded, joined, room_for, shown
from gateway.files.places import WorkFolder
from gateway.files.reading import PIECE_BYTES, OpenFile, opened
from gateway.files.tree import kind_of
from gateway.files.upload_names import is_unfinished

LISTED_LEFT_OUT: Final = 1_000
LEFT_OUT: Final = "left-out.txt"
_FIRST_YEAR: Final = (1980, 1, 1, 0, 0, 0)
_LAST_YEAR: Final = (2107, 12, 31, 23, 59, 58)


class FolderTooLarge(Exception):
    """The folder holds more than an archive may."""


class ArchivePlan(Struct):
    """What an archive will have in it: names from the working directory, with their sizes."""

    top: str
    folders: list[str]
    files: list[tuple[str, int]]
    left_out: list[str]
    """What is not in it, and why, a line each."""
    size: int = 0
    omitted: int = 0

    def leave_out(self, name: str, why: str) -> None:
        """Notes that something is not in the archive."""
        self.omitted += 1
        if len(self.left_out) < LISTED_LEFT_OUT:
            self.left_out.append(f"{_inside(self.top, name)}: {why}")


def planned(work: WorkFolder, name: str, *, most_bytes: int, most_entries: int) -> ArchivePlan:
    """Looks at everything beneath a folder. Raises FolderTooLarge, Unsafe, OSError."""
    plan = ArchivePlan(name, [], [], [])
    seen, room = 0, room_for(most_entries)
    with work.opened() as folder:
        if folder is None:
            return plan
        waiting = [name]
        while waiting:
            at = waiting.pop()
            try:
                descriptor = folder.open(at, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if at == name:
                    raise
                plan.leave_out(at, _why(error))
                continue
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        inner = joined(at, entry.name)
                        seen, room = seen + 1, room - len(inner)
                        if seen > most_entries or room < 0:
                            raise FolderTooLarge
                        if not is_unfinished(entry.name):
                            _plan_entry(plan, inner, entry, waiting)
            finally:
                os.close(descriptor)
            if plan.size > most_bytes:
                raise FolderTooLarge
    plan.folders.sort()
    plan.files.sort()
    return plan


def _plan_entry(plan: ArchivePlan, name: str, entry: os.DirEntry[str], waiting: list[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return  # gone
    match kind_of(status.st_mode):
        case "folder":
            plan.folders.append(name)
            waiting.append(name)
        case "file":
            plan.files.append((name, status.st_size))
            plan.size += status.st_size
        case "link":
            plan.leave_out(name, "a link")
        case _:
            plan.leave_out(name, "a device, a FIFO or a socket")


class _Pipe(io.RawIOBase):
    """What is written to it can be taken out again; it cannot be sought, so zipfile writes in order."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.held = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self.held += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken, self._pieces, self.held = b"".join(self._pieces), [], 0
        return taken


def zipped(work: WorkFolder, plan: ArchivePlan) -> Iterator[bytes]:
    """The archive, piece by piece; each piece may be asked for in another thread."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in plan.folders:
            archive.writestr(_info(_inside(plan.top, name) + "/", 0o755, is_folder=True), b"")
            if pipe.held > PIECE_BYTES:
                yield pipe.take()
        for name, size in plan.files:
            try:
                file = opened(work, name)
            except OSError as error:
                plan.leave_out(name, _why(error))
                continue
            with contextlib.closing(file):
                yield from _file(archive, pipe, plan, name, file, size)
        if plan.omitted:
            archive.writestr(_info(_unused(plan), 0o644), _said(plan))
    yield pipe.take()


def _file(
    archive: zipfile.ZipFile, pipe: _Pipe, plan: ArchivePlan, name: str, file: OpenFile, size: int
) -> Iterator[bytes]:
    info = _info(_inside(plan.top, name), file.mode & 0o777, at=file.modified_ns / 1e9)
    with archive.open(info, "w", force_zip64=True) as entry:
        done = 0
        while done < size:
            try:
                piece = file.read(done, size - done)
            except OSError as error:
                plan.leave_out(name, f"only its first {done} bytes: {_why(error)}")
                break
            if not piece:
                break  # shorter than it was
            entry.write(piece)
            done += len(piece)
            if pipe.held > PIECE_BYTES:
                yield pipe.take()


def _inside(top: str, name: str) -> str:
    """A name in the archive: from its folder on, as text, and without what other systems take for a path."""
    inner = name[len(top) :].lstrip("/") if top else name
    text = shown(inner)
    if "\ufffd" in text:
        text = encoded(inner)
    return text.replace("\\", "%5C").replace(":", "%3A")


def _info(name: str, mode: int, *, is_folder: bool = False, at: float | None = None) -> zipfile.ZipInfo:
    date = time.gmtime(at)[:6] if at is not None and 0 <= at < 2**32 else _FIRST_YEAR
    info = zipfile.ZipInfo(name, min(max(date, _FIRST_YEAR), _LAST_YEAR))
    info.create_system = 3  # Unix: the mode counts
    info.external_attr = ((stat.S_IFDIR if is_folder else stat.S_IFREG) | mode) << 16
    info.compress_type = zipfile.ZIP_STORED if is_folder else zipfile.ZIP_DEFLATED
    return info


def _why(error: OSError) -> str:
    return error.strerror.lower() if error.strerror else "cannot be read"


def _unused(plan: ArchivePlan) -> str:
    """A name for the list of what was left out that no file of the folder has."""
    taken = {_inside(plan.top, name) for name, _ in plan.files}
    name = LEFT_OUT
    while name in taken:
        name = "_" + name
    return name


def _said(plan: ArchivePlan) -> bytes:
    lines = ["Not in this archive:", *plan.left_out]
    if plan.omitted > len(plan.left_out):
        lines.append(f"and {plan.omitted - len(plan.left_out)} more")
    return ("\n".join(line.replace("\n", "%0A").replace("\r", "%0D") for line in lines) + "\n").encode(
        "utf-8", "replace"
    )
