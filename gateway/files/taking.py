"""Takes one snapshot: lists the files, reads those that changed, keeps them, writes the manifest last.

Runs in a thread. Files are opened and listed with the rights of their owner, contents are written with the
gateway's own.

What "whole" means: a file is read between two looks at its status, which must be the same; if they are not it
is read once more, and after that it is noted as `changing`, without a content. If the next turn began before
the last file was read, the manifest says `is_mixed`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.files import FilesConfig
from gateway.files.beneath import Folder, as_user
from gateway.files.blobs import CHUNK_BYTES, Blobs
from gateway.files.left_out import LeftOut
from gateway.files.manifest import WORK, Entry, FilesManifest, changes, is_same, packed, unpacked
from gateway.files.scan import ScanFailed, entry_of, is_copy, is_untouched, scan
from gateway.files.workspaces_given import given_as_stored, given_tree

MEGABYTE: Final = 1024 * 1024
STEPS: Final = 16
"""Places of manifests for each number of the log: the first for the turn that ended there, the others for
what was found later and before the next event.
"""
TRIES: Final = 2
"""How often a file is read that changes while it is read."""


NEARLY: Final = 0.8
"""From this part on of what may be kept, people are told."""
SMALLER: Final = 0.9
"""What was too large is read again when there is less than this part of it."""


class Taking(Struct):
    """A snapshot that is being taken; the loop sets `is_disturbed` when the next turn begins."""

    key: str
    uid: int | None
    seq: int
    turn_id: str
    at: int
    is_disturbed: bool = False
    is_given_up: bool = False

    @property
    def is_of_turn(self) -> bool:
        """True for the end of a turn, False between turns."""
        return bool(self.turn_id)


class Taken(Struct, frozen=True, kw_only=True):
    """What came of it. Nothing is written if nothing changed."""

    seq: int
    turn_id: str
    is_written: bool = False
    added: int = 0
    changed: int = 0
    removed: int = 0
    """Files of the working directory."""
    trouble: str = ""
    """Why there is no snapshot, in words for people."""
    unkept: str = ""
    """Why it could not be kept where other gateways find it, in words for people: it is tried again."""
    left_out: int = 0
    """Files that are too large."""
    full: float = 0.0
    """Which part of what may be kept this snapshot alone takes; 0 if all of them together take little."""


class _Content(Exception):
    """A content could not be read to its end."""


class Taker:
    """Takes snapshots into `blobs`; one thread at a time has a session."""

    def __init__(self, blobs: Blobs, *, travels: bool = False) -> None:
        """`travels`: other gateways put these files on their disks. Then a snapshot has what they need for
        that, and it is found out how near it is to what may be kept.
        """
        self._blobs = blobs
        self._travels = travels
        self._too_large: dict[str, tuple[int, int]] = {}
        """By session: how much there was to read when it was more than may be kept, and how much that was."""

    def was_too_large(self, key: str) -> bool:
        """True if the last snapshot of a session failed because it would have been too large."""
        return key in self._too_large

    def forget(self, key: str) -> None:
        """The session is erased."""
        self._too_large.pop(key, None)

    def take(self, taking: Taking, root: pathlib.Path, config: FilesConfig) -> Taken:
        """Takes it. Raises OSError if not even its failure can be noted."""
        before = self.newest(taking.key)
        try:
            return self._take(taking, root, config, before)
        except ScanFailed as failed:
            words = f"No snapshot of the files was made. {failed}"
        except OSError as error:
            words = f"No snapshot of the files was made: {error.strerror}."
            if self._travels:
                return self._unkept(taking, words, before, why=error.strerror or str(error))
            self._keep(taking.key, self._blobs.places(taking.key))
        return self._failed(taking, words, before)

    def _unkept(self, taking: Taking, words: str, before: FilesManifest | None, *, why: str) -> Taken:
        """The place where snapshots are kept is away, or part of it: that is noted if it can be."""
        with contextlib.suppress(OSError):
            self._failed(taking, words, before)
        return Taken(seq=taking.seq, turn_id=taking.turn_id, trouble=words, unkept=why)

    def _take(
        self, taking: Taking, root: pathlib.Path, config: FilesConfig, before: FilesManifest | None
    ) -> Taken:
        known = before if before is None or not before.trouble else self.newest(taking.key, is_good=True)
        entries = self._entries(taking, root, config, known, is_first=before is None)
        now = FilesManifest(
            seq=taking.seq,
            turn_id=taking.turn_id,
            at=taking.at,
            entries=tuple(entries),
            is_mixed=taking.is_disturbed,
            is_first=before is None,
            given=given_as_stored(root) if self._travels else b"",
        )
        if before is None and not entries:
            return Taken(seq=taking.seq, turn_id=taking.turn_id)
        if before is known and before is not None and is_same(before, now):
            return Taken(seq=taking.seq, turn_id=taking.turn_id)
        return self._write(taking, now, known, config)

    def newest(self, key: str, *, before: int | None = None, is_good: bool = False) -> FilesManifest | None:
        """The last manifest, or the last one below a number, or the last that tells of the files; None if
        there is none that can be read.
        """
        for place in reversed(self._blobs.places(key)):
            if before is None or place < before * STEPS:
                found = self.manifest(key, place)
                if found is not None and not (is_good and found.trouble):
                    return found
        return None

    def before(self, key: str, seq: int) -> FilesManifest | None:
        """The last that tells of the files below a number; an empty one if the folders were empty until
        then; None if it is not kept.
        """
        found = self.newest(key, before=seq, is_good=True)
        return self._beginning(key) if found is None else found

    def _beginning(self, key: str) -> FilesManifest | None:
        """That of the empty folders, if everything since is kept."""
        places = self._blobs.places(key)
        first = self.manifest(key, places[0]) if places else None
        return FilesManifest(seq=0) if first is not None and first.is_first else None

    def manifest(self, key: str, place: int) -> FilesManifest | None:
        """The manifest at this place, if there is one that can be read."""
        try:
            return unpacked(self._blobs.manifest(key, place))
        except (FileNotFoundError, ValueError):
            return None

    def _entries(
        self,
        taking: Taking,
        root: pathlib.Path,
        config: FilesConfig,
        known: FilesManifest | None,
        *,
        is_first: bool,
    ) -> list[Entry]:
        try:
            folder = Folder(root)
        except FileNotFoundError:
            return []  # no worker ever needed it
        with folder:
            with as_user(taking.uid):
                listed = scan(folder, LeftOut(config.snapshot_leaves_out), max_files=config.snapshot_files)
            before = known.by_path if known is not None else {}
            if is_first and (tree := given_tree(root)):
                before = self._as_given(taking.key, config, tree, listed)
            self._refuse_too_large(taking.key, config, listed, before)
            return [
                entry
                for found in listed
                if (entry := self._read(taking, folder, found, before.get(found.path), config)) is not None
            ]

    def _as_given(self, key: str, config: FilesConfig, tree: str, listed: list[Entry]) -> dict[bytes, Entry]:
        """Files that are still as the workspace gave them: their contents were read when its tree was made.
        Nobody but the gateway wrote there until now, and a copy has the time of what it is a copy of.
        """
        manifest = self.newest(tree)
        if manifest is None:
            return {}
        if manifest.trouble:
            self._too_large[key] = _size(listed), config.snapshot_mb
            return {}
        of_tree = manifest.by_path
        same = {
            found.path: replace(found, digest=of_tree[found.path].digest)
            for found in listed
            if found.path in of_tree and is_copy(of_tree[found.path], found)
        }
        try:
            self._blobs.share(tree, key, (), {entry.digest for entry in same.values()})
        except FileNotFoundError:  # a newer tree took its place
            return {}
        return same

    def _refuse_too_large(
        self, key: str, config: FilesConfig, listed: list[Entry], before: dict[bytes, Entry]
    ) -> None:
        """Reads nothing again that was too much the last time. Raises ScanFailed."""
        size, most = self._too_large.get(key, (0, 0))
        if not most:
            return
        unread = (found for found in listed if not is_untouched(before.get(found.path), found))
        if _size(unread) > size * SMALLER and config.snapshot_mb <= most:
            raise ScanFailed(_too_large(config))
        del self._too_large[key]

    def _read(
        self, taking: Taking, folder: Folder, found: Entry, known: Entry | None, config: FilesConfig
    ) -> Entry | None:
        """The entry with its content kept; None if the file is gone."""
        if taking.is_given_up:
            raise ScanFailed("The session is being erased.")
        if found.kind != "file":
            return found
        if known is not None and is_untouched(known, found):
            return known if known.mode == found.mode else replace(known, mode=found.mode)
        for _ in range(TRIES):
            if found.size > config.snapshot_file_mb * MEGABYTE:
                return replace(found, why="large")
            try:
                read = self._read_once(taking, folder, found.path)
            except FileNotFoundError:
                return None
            except PermissionError:
                return replace(found, why="unreadable")
            if isinstance(read, os.stat_result):
                found = entry_of(found.path, read)
            elif read is not None:
                return read
        return replace(found, why="changing")

    def _read_once(self, taking: Taking, folder: Folder, path: bytes) -> Entry | os.stat_result | None:
        """The entry; what the file is by now if it changed meanwhile; None if it is no file any more."""
        with as_user(taking.uid):
            descriptor = folder.open(os.fsdecode(path))
        try:
            first = os.fstat(descriptor)
            if not stat.S_ISREG(first.st_mode):
                return None
            try:
                digest, _ = self._blobs.put(taking.key, _pieces(descriptor, first.st_size))
            except _Content:
                return os.fstat(descriptor)
            last = os.fstat(descriptor)
            if (first.st_size, first.st_mtime_ns, first.st_ctime_ns) != (
                *(last.st_size, last.st_mtime_ns),
                last.st_ctime_ns,
            ):
                return last
            return entry_of(path, last, digest=digest)
        finally:
            os.close(descriptor)

    def _write(
        self, taking: Taking, now: FilesManifest, before: FilesManifest | None, config: FilesConfig
    ) -> Taken:
        self._blobs.put_manifest(taking.key, self._place(taking), packed(now))
        size = self._tidy(taking.key, config)
        if size is None:
            self._too_large[taking.key] = _size(now.entries), config.snapshot_mb
            return self._failed(taking, f"No snapshot of the files was made. {_too_large(config)}", before)
        found = changes(before.below(WORK) if before else (), now.below(WORK))
        kinds = [change.kind for change in found]
        return Taken(
            seq=now.seq,
            turn_id=now.turn_id,
            is_written=True,
            added=kinds.count("added"),
            changed=kinds.count("changed"),
            removed=kinds.count("removed"),
            left_out=sum(entry.why == "large" for entry in now.entries),
            full=self._full(taking.key, now, config, size=size),
        )

    def _full(self, key: str, now: FilesManifest, config: FilesConfig, *, size: int) -> float:
        most = config.snapshot_mb * MEGABYTE
        if not self._travels or size <= NEARLY * most:
            return 0.0
        return self._blobs.contents_bytes(key, now.digests) / most

    def _failed(self, taking: Taking, words: str, before: FilesManifest | None) -> Taken:
        """Notes that nothing is known of this moment, so that nobody takes what was before for it."""
        if before is None or not before.trouble:
            gap = FilesManifest(
                seq=taking.seq,
                turn_id=taking.turn_id,
                at=taking.at,
                is_first=before is None,
                trouble=words,
            )
            self._blobs.put_manifest(taking.key, self._place(taking), packed(gap))
        return Taken(seq=taking.seq, turn_id=taking.turn_id, trouble=words)

    def _place(self, taking: Taking) -> int:
        """That of the end of its turn; between turns the next free one after the last event."""
        first = taking.seq * STEPS
        if taking.is_of_turn:
            return first
        taken = set(self._blobs.places(taking.key))
        free = (place for place in range(first + 1, first + STEPS) if place not in taken)
        return next(free, first + STEPS - 1)

    def _tidy(self, key: str, config: FilesConfig) -> int | None:
        """Removes the oldest snapshots past the bounds, and what no other needs; what the rest take, in
        bytes. None if the newest alone is too large: then it is gone, too.
        """
        places, most = self._blobs.places(key), config.snapshot_mb * MEGABYTE
        size = self._blobs.size_bytes(key)  # asked for seldom: it may take a look at each content
        if self._travels and size > most and self._is_too_large(key, places[-1], most):
            self._keep(key, places[:-1])  # an earlier one is better than none, if they are all there is
            return None
        if len(places) > config.snapshots_kept:
            places = places[-(config.snapshots_kept - config.snapshots_kept // 8) :]
            size = self._kept_bytes(key, places)
        elif size > most:
            size = self._kept_bytes(key, places)
        while places and size > most:
            places = places[max(1, len(places) // 8) :]
            size = self._kept_bytes(key, places)
        return size if places else None

    def _is_too_large(self, key: str, place: int, most: int) -> bool:
        manifest = self.manifest(key, place)
        return manifest is not None and self._blobs.contents_bytes(key, manifest.digests) > most

    def _kept_bytes(self, key: str, places: list[int]) -> int:
        """Removes every other snapshot; what these take."""
        self._keep(key, places)
        return self._blobs.size_bytes(key)

    def tidy(self, key: str) -> None:
        """Removes contents that no manifest needs. Raises OSError."""
        self._keep(key, self._blobs.places(key))

    def _keep(self, key: str, places: list[int]) -> None:
        found = [self.manifest(key, place) for place in places]
        digests = {digest for manifest in found if manifest is not None for digest in manifest.digests}
        self._blobs.keep(key, set(places), digests)


def _too_large(config: FilesConfig) -> str:
    return (
        f"Compressed they are larger than the {config.snapshot_mb} MB that the snapshots of a session may be."
    )


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    """Exactly so many bytes of an open file. Raises _Content if there are fewer."""
    left = size
    while left > 0:
        piece = os.read(descriptor, min(CHUNK_BYTES, left))
        if not piece:
            raise _Content
        left -= len(piece)
        yield piece
