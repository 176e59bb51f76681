"""What a session of a workspace lacks when it goes on at another gateway: snapshots leave out what can be
made again. The warm copy of that gateway has it, because its `setup` has made the same there.

Guarantees: nothing that is there is changed, nothing comes to where the session has no folder any more, and
what could not all be copied does not come at all.
"""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.files.beneath import Folder, as_user
from gateway.files.left_out import LeftOut
from gateway.files.scan import scan

PAIRS: Final = 500
"""Names that one copying program is given: its arguments are bounded."""


def lacking(
    tree: pathlib.Path,
    folder: pathlib.Path,
    *,
    uid: int | None,
    leaves_out: Iterable[str],
    caches: Sequence[str],
    max_files: int,
) -> list[str]:
    """What the tree of a warm copy has and the folder of a session has not, of what snapshots leave out.
    Raises ScanFailed, OSError.
    """
    passed: list[str] = []
    with Folder(tree) as there:
        scan(there, LeftOut(leaves_out), max_files=max_files, passed=passed)
    wanted = [path for path in passed if path.startswith("work/")]
    wanted += [f"home/{cache.strip('/')}" for cache in caches]
    wanted = [path for path in wanted if os.path.lexists(tree / path)]
    with Folder(folder) as here, as_user(uid):
        return [path for path in wanted if _is_missing(here, path)]


def target(path: str) -> str:
    """How the copying program is told a name in a session's folder."""
    top, _, below = path.partition("/")
    return f"~/{below}" if top == "home" else below


def _is_missing(folder: Folder, path: str) -> bool:
    """True if there is nothing of this name, and a place for it."""
    try:
        folder.look(path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    else:
        return False
    if path.startswith("home/"):
        return True
    try:
        return stat.S_ISDIR(folder.look(os.path.dirname(path)).st_mode)
    except OSError:
        return False


def put(part: pathlib.Path, folder: pathlib.Path, paths: Iterable[str], *, uid: int | None) -> None:
    """Moves what was copied to where it is missing, through no link. Raises OSError."""
    with Folder(part) as source, Folder(folder) as there, as_user(uid):
        for path in paths:
            above, name = os.path.split(path)
            if above.startswith("home/"):
                there.make_folders(above)
            pair = [one.open(above, os.O_RDONLY | os.O_DIRECTORY) for one in (source, there)]
            try:
                os.rename(name, name, src_dir_fd=pair[0], dst_dir_fd=pair[1])
            finally:
                for descriptor in pair:
                    os.close(descriptor)
