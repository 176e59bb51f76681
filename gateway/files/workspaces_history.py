"""Whether the history that a session's repository reads is where it looks for it.

Its `.git` has no objects of its own: `objects/info/alternates` names those of the warm copy, by an absolute
path. After a restore into another directory that path leads nowhere, and after the warm copy was removed what
it names may lack the commit. A note beside the session's files says where they were when they were seen last.

Guarantees: `alternates` is changed only if it names this warm copy, at another place; through no link; with
the session as its owner. All functions here wait for the disk: they run in a thread.
"""

from __future__ import annotations

import os
import pathlib
from typing import Final

from gateway.files.beneath import Folder, as_user
from gateway.files.workspaces_disk import ALTERNATES, GIT_FOLDER, Folders
from gateway.workers.home_files import write_files
from gateway.workers.workspace import Workspaces

SEEN: Final = ".history"
"""In a session's folder, which its agent does not reach."""
_MOST_BYTES: Final = 64 * 1024
_PATH: Final = f"{GIT_FOLDER}/{ALTERNATES}"


class RepositoryHistory:
    """See the module; `root` has the warm copies."""

    def __init__(self, root: pathlib.Path, uids: Workspaces) -> None:
        self._root = root
        self._uids = uids

    def is_lost(self, key: str, store: str) -> bool:
        """True if it is not known that a session's history is where its repository looks."""
        return (place := self._place(store)) == "" or self._seen(key) != place

    def note(self, key: str, store: str) -> None:
        """It is there now. Raises OSError."""
        write_files(str(self._uids.path(key)), {SEEN: self._place(store)}, uid=None)

    def rewire(self, key: str, store: str, *, uid: int | None, is_whole: bool) -> None:
        """Has a session's repository look where the history is; `is_whole`: its commit is there. Raises
        OSError.
        """
        work, objects = self._uids.work(key), str(Folders(self._root / store, is_root=False).objects)
        lines = _read(work, _PATH, uid)
        wired = [
            objects if line.endswith(f"/{self._root.name}/{store}/git/objects") else line for line in lines
        ]
        if wired != lines:
            write_files(work, {_PATH: "".join(f"{line}\n" for line in wired)}, uid=uid)
        if is_whole:
            self.note(key, store)

    def _place(self, store: str) -> str:
        """Where the objects are, and of which copy; empty if they are not there."""
        folders = Folders(self._root / store, is_root=False)
        about = folders.about()
        return f"{about.id} {folders.objects}" if about is not None and folders.objects.is_dir() else ""

    def _seen(self, key: str) -> str:
        return "".join(_read(str(self._uids.path(key)), SEEN, None))


def _read(top: str, path: str, uid: int | None) -> list[str]:
    """The lines of a file; none if there is none that can be read."""
    try:
        with Folder(top) as folder, as_user(uid):
            descriptor = folder.open(path)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MOST_BYTES).decode("utf-8", "surrogateescape").splitlines()
