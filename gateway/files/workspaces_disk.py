"""The folders of one warm copy, and what is done to them between two programs that run behind walls.

    git/             the repository, bare: sessions read its objects, and nothing ever leaves it
    trees/ID/work    files of one commit, after `setup`
    trees/ID/home    HOME of that `setup`
    tmp/             of programs that run; empty otherwise
    current.json     which of the trees is given to sessions
    about.json       whose it is, and a name that no other copy ever had
    setup.log        what the last `setup` printed, its end

Guarantees: what sessions get is complete, because `current.json` is replaced as the last step; it belongs to
the gateway and nobody else can write it; what a killed gateway left half made is removed at the next start.

All functions here wait for the disk: they run in a thread.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import stat
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.files.left_out import STAGING
from gateway.files.submodules import Submodule
from gateway.files.upload_names import PARTIAL_PREFIX, UPLOADS
from gateway.workers import trees
from gateway.workers.home_files import write_files

_LOCK: Final = ".lock"
_DRAFT: Final = "tmp_"
_ABOUT: Final = "about.json"
DETACHED: Final = "work"
"""The branch that sessions are on if their workspace names a tag."""


class Tree(Struct, frozen=True, kw_only=True):
    """What sessions get: the files of one commit, after `setup`."""

    id: str
    commit: str
    branch: str
    """Empty if the workspace names a tag."""
    digest: str
    """Of the settings that it was made by."""
    made_at: int
    """In milliseconds since 1970 UTC."""
    checked_at: int
    """When the server was last asked, and this was the newest."""
    bytes: int = 0
    files: int = 0
    submodules: tuple[Submodule, ...] = ()
    left_out: tuple[str, ...] = ()
    """Submodules that were not fetched, and why, in words."""


class About(Struct, frozen=True, kw_only=True):
    """A warm copy, for those who find its folder."""

    id: str
    """Another one if the copy was removed and made again: it may lack what the first one had."""
    scope: str = ""
    """Whose credential it was fetched with; empty: the gateway's."""
    is_leaving: bool = False
    """To be removed when its person has no session any more."""


class Folders:
    """Of one warm copy."""

    def __init__(self, path: pathlib.Path, *, is_root: bool) -> None:
        self.path = path
        self._is_root = is_root
        self.git = path / "git"
        self.objects = self.git / "objects"

    def tree(self, tree_id: str) -> pathlib.Path:
        """The folder of a tree."""
        return self.path / "trees" / tree_id

    def open(self) -> None:
        """Makes the folders, and removes what a gateway that was killed left half made. Raises OSError."""
        for path in (self.path, self.git, self.path / "trees", self.path / "tmp"):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
            path.chmod(0o711)
        current = self.current()
        kept = current.id if current is not None else ""
        for folder in (self.path / "trees", self.path / "tmp"):
            for left in folder.iterdir():
                if left.name != kept:
                    trees.remove(left)
        for draft in self.path.glob("*.json.*"):
            draft.unlink()
        self.open_git()

    def open_git(self) -> None:
        """Removes what a fetch that was cut left, and makes the repository the gateway's. Raises OSError."""
        for root, _, names in os.walk(self.git):
            for name in names:
                if name.endswith(_LOCK) or name.startswith(_DRAFT):
                    os.unlink(os.path.join(root, name))
        self.take_back(self.git)

    def about(self) -> About | None:
        """What was noted of it; None if there is no such copy."""
        try:
            return msgspec.json.decode((self.path / _ABOUT).read_bytes(), type=About)
        except (OSError, msgspec.MsgspecError):
            return None

    def note(self, about: About) -> None:
        """Notes it. Raises OSError."""
        draft = self.path / f"{_ABOUT}.{secrets.token_hex(4)}"
        draft.write_bytes(msgspec.json.encode(about))
        draft.rename(self.path / _ABOUT)

    def current(self) -> Tree | None:
        """The tree that sessions get; None before there is one."""
        try:
            found = msgspec.json.decode((self.path / "current.json").read_bytes(), type=Tree)
        except (OSError, msgspec.MsgspecError):
            return None
        return found if (self.tree(found.id) / "work").is_dir() else None

    def publish(self, tree: Tree) -> None:
        """From now on sessions get this tree. Raises OSError."""
        draft = self.path / f"current.json.{secrets.token_hex(4)}"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(tree))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.path / "current.json")

    def remove_others(self, kept: set[str]) -> None:
        """Removes the trees that nobody is given any more. Raises OSError."""
        for tree in (self.path / "trees").iterdir():
            if tree.name not in kept:
                trees.remove(tree)

    def scratch(self, uid: int | None) -> pathlib.Path:
        """A new folder with `home` and `work` that belong to a uid. Raises OSError."""
        return made(self.path / "tmp" / secrets.token_hex(8), uid)

    def new_tree(self, uid: int | None) -> pathlib.Path:
        """The same for a tree."""
        return made(self.path / "trees" / secrets.token_hex(8), uid)

    def lend(self, path: pathlib.Path, uid: int | None) -> None:
        """Lets the program of a uid write what is in a folder. Raises OSError."""
        if uid is not None:
            trees.give(path, uid)

    def take_back(self, path: pathlib.Path) -> None:
        """Makes everything the gateway's again, and readable to sessions. Raises OSError."""
        trees.walk(path, _Readable(self._is_root))

    @staticmethod
    def measure(path: pathlib.Path, *, most_files: int) -> trees.Measure:
        """How much is in a folder. Raises TooMany."""
        found = trees.Measure(most_files)
        trees.walk(path, found)
        return found

    def note_setup(self, printed: bytes) -> None:
        """Keeps what `setup` printed, for the operator. Raises OSError."""
        path = self.path / "setup.log"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(printed)

    def shallow(self) -> str:
        """Where the history that was fetched ends; empty if all was."""
        with contextlib.suppress(OSError):
            return (self.git / "shallow").read_text()
        return ""

    def lay_repository(
        self, folder: pathlib.Path, *, commit: str, branch: str, uid: int | None, below: str = ""
    ) -> None:
        """Writes a repository without objects of its own into a folder: it reads those of the warm copy, and
        one `below`, of a submodule, those of the repository around it. Raises OSError.
        """
        name = branch or DETACHED
        up = "../" * (below.count("/") + 1)
        files = {
            "HEAD": f"ref: refs/heads/{name}\n",
            f"refs/heads/{name}": f"{commit}\n",
            "config": "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n",
            ALTERNATES: f"../../{up}{GIT_FOLDER}/objects\n" if below else f"{self.objects}\n",
            "info/exclude": NOT_TAKEN,
        }
        if branch:
            files[f"refs/remotes/origin/{branch}"] = f"{commit}\n"
        if ends := self.shallow():
            files["shallow"] = ends
        where = f"{below}/{GIT_FOLDER}" if below else GIT_FOLDER
        write_files(str(folder), {f"{where}/{path}": text for path, text in files.items()}, uid=uid)


ALTERNATES: Final = "objects/info/alternates"
GIT_FOLDER: Final = ".git"
NOT_TAKEN: Final = f"{PARTIAL_PREFIX}*\n{STAGING}*/\n/{UPLOADS}/\n"
"""`info/exclude` of a session: what people attached, and what the gateway writes for a moment."""


def made(path: pathlib.Path, uid: int | None) -> pathlib.Path:
    """A new folder with `home` and `work` that belong to a uid. Raises OSError."""
    path.mkdir(mode=0o711)
    for name in ("home", "work"):
        (path / name).mkdir(mode=0o700)
        if uid is not None:
            os.chown(path / name, uid, uid)
    return path


def configuration(*, repo: str, name: str, email: str, submodules: Iterable[Submodule] = ()) -> str:
    """What `.git/config` of a session says: nothing that is secret."""
    return (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
        "\tlogallrefupdates = true\n"
        f'[remote "origin"]\n\turl = {_quoted(repo)}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
        f"[user]\n\tname = {_quoted(name)}\n\temail = {_quoted(email)}\n"
        "[gc]\n\tauto = 0\n"
    ) + "".join(
        f"[submodule {_quoted(one.name)}]\n\tactive = true\n\turl = {_quoted(one.url)}\n"
        for one in submodules
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def has_room(path: pathlib.Path, count: int) -> bool:
    """Whether so many more bytes fit on the disk."""
    return shutil.disk_usage(path).free > count


class _Readable(trees.Visitor):
    """Everything belongs to the gateway, can be read by all, and is no program that runs as its owner."""

    rights = stat.S_IRWXU

    def __init__(self, is_root: bool) -> None:
        self._is_root = is_root

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        below = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                else:
                    self._file(entry, directory)
        if self._is_root:
            os.fchown(directory, 0, 0)
        os.fchmod(directory, 0o755)
        return below

    def _file(self, entry: os.DirEntry[str], directory: int) -> None:
        if self._is_root:
            os.chown(entry.name, 0, 0, dir_fd=directory, follow_symlinks=False)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            runs = 0o111 if mode & stat.S_IXUSR else 0
            os.chmod(entry.name, 0o644 | runs, dir_fd=directory)
        elif not stat.S_ISLNK(mode):
            os.unlink(entry.name, dir_fd=directory)  # a FIFO or a socket: nobody is at its other end

    def fail(self, error: OSError) -> None:
        raise error
