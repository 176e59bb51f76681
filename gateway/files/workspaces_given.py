"""What a session is given of a workspace, and how it is put where the session finds it."""

from __future__ import annotations

import os
import pathlib
from typing import Final

import msgspec
from msgspec import Struct

from gateway.config.workspaces import WorkspaceConfig
from gateway.files.beneath import Folder
from gateway.files.submodules import Submodule
from gateway.files.workspaces_disk import GIT_FOLDER, Tree, configuration
from gateway.workers.workspace import Workspaces

GIVEN: Final = ".given"
"""In a session's folder, which its agent does not reach: what its files began as."""
BARE: Final = ".bare"
"""Beside it: the files came from another gateway, without what can be made again."""
_MOST_BYTES: Final = 1024 * 1024
_TREES: Final = "tree."


class Given(Struct, frozen=True, kw_only=True):
    """What a session was given."""

    commit: str
    branch: str
    store: str
    """The name of the warm copy, whose objects its repository reads."""
    how: str
    """`cloned` or `copied`."""
    files: int
    bytes: int
    milliseconds: int
    stale: str = ""
    """Why it may not be the newest; empty if it is."""
    left_out: tuple[str, ...] = ()
    """Submodules that are not there, and why."""
    submodules: tuple[Submodule, ...] = ()
    tree: str = ""
    """What the contents of these files are kept under, for snapshots."""


class Author(Struct, frozen=True):
    """Who commits."""

    name: str
    email: str


def configurations(tree: Tree, workspace: WorkspaceConfig, author: Author) -> dict[str, str]:
    """`.git/config` of a session's repository, and of those inside."""
    repositories = {"": workspace.repo} | {one.path: one.url for one in tree.submodules}
    return {
        "/".join(filter(None, (path, GIT_FOLDER, "config"))): configuration(
            repo=url,
            name=author.name,
            email=author.email,
            submodules=[one for one in tree.submodules if one.inside == path],
        )
        for path, url in repositories.items()
    }


def given_before(folder: pathlib.Path) -> Given | None:
    """What a session's files began as, if they are there already."""
    return _read(folder) if (folder / "work" / GIT_FOLDER).is_dir() else None


def submodules_of(folder: pathlib.Path) -> tuple[Submodule, ...]:
    """Those that a session began with."""
    given = _read(folder)
    return given.submodules if given is not None else ()


def given_tree(folder: pathlib.Path) -> str:
    """What the contents of the files are kept under that a session began with; empty if of none."""
    given = _read(folder)
    return given.tree if given is not None else ""


def is_of_tree(key: str) -> bool:
    """True for what the contents of a tree are kept under, False for a session's."""
    return key.startswith(_TREES)


def tree_key(store: str, tree_id: str = "") -> str:
    """What the contents of a tree are kept under; without an id, how those of a warm copy begin."""
    return f"{_TREES}{store}.{tree_id}"


def keep_for_fork(source: pathlib.Path, target: pathlib.Path) -> None:
    """The files of a fork began as those of the session that it is made of. Raises OSError."""
    if (given := _read(source)) is not None:
        (target / GIVEN).write_bytes(msgspec.json.encode(given))


def given_as_stored(folder: pathlib.Path) -> bytes:
    """What a session's files began as, to be put elsewhere; empty: as nothing."""
    given = _read(folder)
    return msgspec.json.encode(given) if given is not None else b""


def put_given(folder: pathlib.Path, stored: bytes) -> None:
    """The files in here, which came from another gateway, began as this. Raises OSError."""
    if stored:
        (folder / GIVEN).write_bytes(stored)
        (folder / BARE).touch()


def is_bare(folder: pathlib.Path) -> bool:
    """True if what can be made again stayed at another gateway, and was not made again yet."""
    return (folder / BARE).exists()


def no_more_bare(folder: pathlib.Path) -> None:
    """It was made again. Raises OSError."""
    (folder / BARE).unlink(missing_ok=True)


def _read(folder: pathlib.Path) -> Given | None:
    try:
        with Folder(folder) as opened, os.fdopen(opened.open(GIVEN), "rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=Given)
    except (OSError, msgspec.MsgspecError):
        return None


def place(part: pathlib.Path, uids: Workspaces, key: str, given: Given) -> None:
    """Moves what was copied to where the session finds it. What is there already stays: a person put it
    there.
    """
    (uids.path(key) / GIVEN).write_bytes(msgspec.json.encode(given))
    for name, target in (("work", uids.work(key)), ("home", uids.home(key))):
        try:
            os.rename(part / name, target)  # over an empty folder, at once
        except OSError:
            _move(part / name, pathlib.Path(target))


def _move(source: pathlib.Path, target: pathlib.Path) -> None:
    """Moves everything of a folder into another one, in which some of its folders may be."""
    for entry in sorted(os.scandir(source), key=lambda one: one.name == GIT_FOLDER):  # that comes last
        there = target / entry.name
        if not os.path.lexists(there):
            os.rename(entry.path, there)
        elif entry.is_dir(follow_symlinks=False) and there.is_dir() and not there.is_symlink():
            _move(pathlib.Path(entry.path), there)
