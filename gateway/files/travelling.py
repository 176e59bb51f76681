"""Snapshots that several gateways reach, and what each of them knows of the files on its own disk.

What the snapshots are is said by the store: manifests, and which data directory used a session's files last.
Contents are where the configuration says (`contents.py`). The contents of warm copies of workspaces stay in
this gateway's data directory, because each gateway makes its own.

A directory of a session on this disk is *current* if nothing newer is kept anywhere: its note (`Note`) says
that it is as new as the newest manifest, and this data directory was the last to use the files, or has put
them there and nobody has touched them. A note is written before a manifest is: if one of the two is lost, it
is the manifest.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from gateway.files.blobs import FolderBlobs
from gateway.files.contents import Bridge, Contents
from gateway.files.workspaces_given import is_of_tree
from gateway.stores.files import FilesStand, FileStore

FOLDER: Final = "sessions.here"
"""In the data directory: a note for each session whose files are on this disk."""
_NAME: Final = ".name"
"""Of the data directory, among those of all gateways."""
HELD_SESSIONS: Final = 10_000
"""Past so many it is forgotten which sessions are held: the store is asked once more for each."""
ABANDONED: Final = 1_000
"""Sessions that are asked for at a time."""
REMEMBERED_BYTES: Final = 16 * 1024 * 1024
"""Of manifests that were read or written last, so that the next snapshot need not ask for one."""


class Note(Struct, frozen=True, array_like=True):
    """What is known of a session's files on this disk."""

    place: int
    """They are as new as the manifest there, or newer."""
    is_untouched: bool = False
    """Exactly so: they were put there to be read, and no worker has had them."""


class Notes:
    """Those of this data directory."""

    def __init__(self, data_path: pathlib.Path) -> None:
        self._root = data_path / FOLDER
        self.holder = ""
        """The name of this data directory."""

    def open(self) -> None:
        """Raises OSError."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._root / _NAME
        try:
            self.holder = path.read_text()
        except FileNotFoundError:
            self.holder = secrets.token_hex(8)
            path.write_text(self.holder)

    def read(self, key: str) -> Note | None:
        """The one of a session; None if its files are not here, or if nothing is known of them."""
        try:
            return msgspec.json.decode((self._root / key).read_bytes(), type=Note)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def write(self, key: str, note: Note) -> None:
        """Raises OSError."""
        draft = self._root / f"{key}.new"
        draft.write_bytes(msgspec.json.encode(note))
        draft.rename(self._root / key)

    def remove(self, key: str) -> None:
        """Nothing is known any more."""
        with contextlib.suppress(FileNotFoundError):
            (self._root / key).unlink()

    def keys(self) -> list[str]:
        """Of sessions that have one."""
        return [name for name in os.listdir(self._root) if "." not in name]


class TravellingBlobs:
    """`Blobs` that all gateways of a store share."""

    def __init__(
        self, store: FileStore, contents: Contents, *, ask: Bridge, trees: FolderBlobs, notes: Notes
    ) -> None:
        self._store = store
        self._contents = contents
        self._ask = ask
        self._trees = trees
        self.notes = notes
        self._held: set[str] = set()
        """Sessions of which the store knows that this data directory keeps something."""
        self._manifests: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        """By session: the one that was read or written last. No other is ever written at its place while
        this gateway has the session.
        """

    def open(self) -> None:
        """Called on the loop. Raises OSError."""
        self._ask.open()
        self.notes.open()

    def check(self) -> None:
        """Called in a thread. Raises OSError, in words, if contents cannot be kept."""
        self._contents.check()

    def close(self) -> None:
        """Called in a thread."""
        self._contents.close()

    # -- who has the files --------------------------------------------------------------------------------

    def stand(self, key: str) -> FilesStand:
        """What the store says of a session's files."""
        return self._ask(self._store.stand(key))

    def is_current(self, key: str, stand: FilesStand) -> bool:
        """True if nothing newer is kept than what is known to be on this disk."""
        note = self.notes.read(key)
        if note is None:
            return stand.place < 0 and stand.holder in ("", self.notes.holder)
        is_last = note.is_untouched or stand.holder in ("", self.notes.holder)
        return note.place >= stand.place and is_last

    def arrived(self, key: str, stand: FilesStand) -> None:
        """The files of the newest manifest are on this disk."""
        self.notes.write(key, Note(stand.place, is_untouched=True))

    def use(self, key: str, stand: FilesStand) -> None:
        """A worker, or a person, is about to change the files here."""
        self.forget(key)
        if stand.holder != self.notes.holder:
            self._ask(self._store.hold(key, self.notes.holder))
        self._held.add(key)
        self.notes.write(key, Note(stand.place))

    def forget(self, key: str) -> None:
        """Another gateway may have had the session meanwhile."""
        self._held.discard(key)
        self._contents.forget(key)
        self._manifests.pop(key, None)

    def abandoned(self) -> list[str]:
        """Some of the sessions that are not stored and have something somewhere, or had it."""
        return self._ask(self._store.abandoned(limit=ABANDONED))

    def gone(self, keys: list[str]) -> set[str]:
        """Sessions of these that are not stored any more."""
        return self._ask(self._store.gone(keys))

    def held_elsewhere(self, keys: list[str]) -> set[str]:
        """Sessions of these whose files were used last in another data directory."""
        return self._ask(self._store.held_elsewhere(keys, self.notes.holder))

    # -- Blobs --------------------------------------------------------------------------------------------

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        if is_of_tree(key):
            return self._trees.put(key, content)
        self._hold(key)
        return self._contents.put(key, content)

    def _hold(self, key: str) -> None:
        """Before the first content: whoever dies then leaves nothing that is not found (`abandoned`)."""
        if key in self._held:
            return
        self._ask(self._store.hold(key, self.notes.holder))
        if len(self._held) >= HELD_SESSIONS:
            self._held.clear()
        self._held.add(key)

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        return self._trees.get(key, digest) if is_of_tree(key) else self._contents.get(key, digest)

    def put_manifest(self, key: str, place: int, manifest: bytes) -> None:
        if is_of_tree(key):
            self._trees.put_manifest(key, place, manifest)
            return
        self._contents.flush(key)
        self.notes.write(key, Note(place))
        self._manifests.pop(key, None)
        self._ask(self._store.put_manifest(key, place, manifest, holder=self.notes.holder))
        self._remember(key, place, manifest)

    def manifest(self, key: str, place: int) -> bytes:
        if is_of_tree(key):
            return self._trees.manifest(key, place)
        known = self._manifests.get(key)
        if known is not None and known[0] == place:
            return known[1]
        found = self._ask(self._store.manifest(key, place))
        if found is None:
            raise FileNotFoundError
        if known is None or known[0] < place:
            self._remember(key, place, found)
        return found

    def _remember(self, key: str, place: int, manifest: bytes) -> None:
        self._manifests[key] = place, manifest
        self._manifests.move_to_end(key)
        size = sum(len(one) for _, one in list(self._manifests.values()))
        while size > REMEMBERED_BYTES and self._manifests:
            size -= len(self._manifests.popitem(last=False)[1][1])

    def places(self, key: str) -> list[int]:
        return self._trees.places(key) if is_of_tree(key) else self._ask(self._store.places(key))

    def keep(self, key: str, places: set[int], digests: set[bytes]) -> None:
        if is_of_tree(key):
            self._trees.keep(key, places, digests)
            return
        self._manifests.pop(key, None)
        self._ask(self._store.keep_manifests(key, places))  # refused if the session is not ours any more
        self._contents.keep(key, digests)

    def share(self, source: str, target: str, places: Iterable[int], digests: Iterable[bytes]) -> None:
        if is_of_tree(source):
            self._hold(target)
            for digest in digests:
                self._contents.put_packed(target, digest, self._trees.packed(source, digest))
            return
        self._hold(target)
        self._contents.share(source, target, list(digests))
        self._ask(self._store.share_manifests(source, target, list(places)))

    def keys(self, prefix: str) -> list[str]:
        if is_of_tree(prefix):
            return self._trees.keys(prefix)
        return self._ask(self._store.keys(prefix))

    def size_bytes(self, key: str) -> int:
        if is_of_tree(key):
            return self._trees.size_bytes(key)
        return self._contents.size_bytes(key) + self._ask(self._store.manifests_bytes(key))

    def contents_bytes(self, key: str, digests: Iterable[bytes]) -> int:
        if is_of_tree(key):
            return self._trees.contents_bytes(key, digests)
        return self._contents.size_bytes(key, list(digests))

    def ahead(self, key: str, digests: Iterable[bytes]) -> None:
        if not is_of_tree(key):
            self._contents.ahead(key, list(digests))

    def remove(self, key: str) -> None:
        if is_of_tree(key):
            self._trees.remove(key)
            return
        self._manifests.pop(key, None)
        self._held.discard(key)
        self.notes.remove(key)
        self._trees.remove(key)  # from before there were several gateways
        self._contents.remove(key)
        self._ask(self._store.remove(key))  # last: what is not removed yet is found by it
