"""What a snapshot says of a session's files: one entry for each, and where their contents are. Pure.

Names are bytes, as the file system has them, and begin with the folder of the session: `home/…` or `work/…`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

HOME: Final = b"home"
WORK: Final = b"work"
TOPS: Final = (HOME, WORK)
MODE_BITS: Final = 0o777
"""Permissions that a snapshot keeps: no set-user-id, no set-group-id, no sticky bit."""

AT_ONCE: Final = 1_000
"""Entries that are written or read in one call: a millisecond, in which no other thread runs."""

T = TypeVar("T")
Kind = Literal["file", "folder", "link"]
Why = Literal["", "large", "changing", "unreadable"]


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One file, folder or link. A file without a digest is there, but its content is not kept (`why`)."""

    path: bytes
    kind: Kind
    mode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    """0: the file may have changed after it was read without a sign of that, and is read again."""
    digest: bytes = b""
    target: bytes = b""
    """Where a link leads; it is stored and never followed."""
    why: Why = ""

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two entries of one name differ for people."""
        size = self.size if self.why else 0
        return self.kind, self.mode, self.digest, self.target, size


class FilesManifest(Struct, frozen=True, kw_only=True):
    """The files of a session at one moment.

    `seq` is the number in the log from which on they were so: that of the end of the turn that changed them.
    """

    seq: int
    turn_id: str = ""
    at: int = 0
    """Milliseconds since 1970 UTC."""
    entries: tuple[Entry, ...] = ()
    is_mixed: bool = False
    """The next turn began before all was read: some of its changes may be in here."""
    is_first: bool = False
    """Nothing was kept before it: the folders were empty."""
    given: bytes = b""
    """What the files began as, if they are those of a workspace and are to be found elsewhere, too."""
    trouble: str = ""
    """Why nothing is known of the files of this moment, in words; empty: the entries are all there was."""

    @property
    def by_path(self) -> dict[bytes, Entry]:
        """The entries by their names."""
        return {entry.path: entry for entry in self.entries}

    @property
    def digests(self) -> set[bytes]:
        """Contents that it needs."""
        return {entry.digest for entry in self.entries if entry.digest}

    def below(self, top: bytes) -> list[Entry]:
        """The entries of one of the two folders."""
        return [entry for entry in self.entries if entry.path.startswith(top + b"/")]


_ENTRIES: Final = msgspec.msgpack.Decoder(list[Entry])
_NAMES: Final = msgspec.msgpack.Encoder()


class Change(Struct, frozen=True):
    """What became of one name between two moments."""

    path: bytes
    before: Entry | None
    after: Entry | None

    @property
    def kind(self) -> Literal["added", "changed", "removed"]:
        if self.before is None:
            return "added"
        return "changed" if self.after is not None else "removed"


def changes(before: Iterable[Entry], after: Iterable[Entry]) -> list[Change]:
    """The files and links that differ, by name; folders are not told."""
    old, new = _shown(before), _shown(after)
    found = [
        Change(path, old.get(path), new.get(path))
        for path in old.keys() | new.keys()
        if not _is_as_before(old.get(path), new.get(path))
    ]
    return sorted(found, key=lambda change: change.path)


def is_same(before: FilesManifest, after: FilesManifest) -> bool:
    """True if nothing differs, folders included."""
    old, new = before.by_path, after.by_path
    return old.keys() == new.keys() and all(_is_as_before(old[path], new[path]) for path in old)


def _shown(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in entries if entry.kind != "folder"}


def _is_as_before(old: Entry | None, new: Entry | None) -> bool:
    if old is new:
        return True
    return old is not None and new is not None and old.content == new.content


def packed(manifest: FilesManifest) -> bytes:
    """A manifest as it is stored."""
    written = (
        msgspec.msgpack.encode(some)[len(_of_array(len(some))) :] for some in batched(manifest.entries)
    )
    fields: dict[str, object] = {name: getattr(manifest, name) for name in FilesManifest.__struct_fields__}
    fields["entries"] = msgspec.Raw(_of_array(len(manifest.entries)) + b"".join(written))
    return zlib.compress(msgspec.msgpack.encode(fields), 1)


def unpacked(data: bytes) -> FilesManifest:
    """A stored manifest. Raises ValueError if it is none."""
    try:
        fields = msgspec.msgpack.decode(zlib.decompress(data), type=dict[str, msgspec.Raw])
        raw = msgspec.msgpack.decode(fields.pop("entries", _of_array(0)), type=list[msgspec.Raw])
        entries: list[Entry] = []
        for some in batched(raw):
            entries += _ENTRIES.decode(_of_array(len(some)) + b"".join(some))
        rest = b"".join(part for name, value in fields.items() for part in (_NAMES.encode(name), value))
        manifest = msgspec.msgpack.decode(_of_map(len(fields)) + rest, type=FilesManifest)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"no manifest: {error}") from error
    return replace(manifest, entries=tuple(entries))


def batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at a time that no other thread waits long for its turn, as it would for one call with all."""
    return (items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE))


def _of_array(length: int) -> bytes:
    """What MessagePack says before so many items."""
    if length < 16:
        return bytes((0x90 | length,))
    return b"\xdc" + length.to_bytes(2) if length < 1 << 16 else b"\xdd" + length.to_bytes(4)


def _of_map(length: int) -> bytes:
    """The same before the few fields of a manifest. Raises ValidationError if they are more."""
    if length > 15:
        raise msgspec.ValidationError(f"{length} fields")
    return bytes((0x80 | length,))
