"""Directory trees that somebody else made: as deep as they like, under names as long as they like.

An agent may nest directories until no path reaches the last one (PATH_MAX), and move them while they are
read. So nothing here recurses or uses a path: each step is one name in an open directory (openat(2)).

Guarantees: no link is followed; a walk holds at most `HELD_AT_TOP + HELD_BELOW` descriptors, however deep the
tree is; a directory that is moved meanwhile leads nowhere else, because `..` is entered only if it is the
directory that the walk came from.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

HELD_AT_TOP: Final = 32
"""Directories next to the top that stay open: a move below them loses no more than what is below them."""
HELD_BELOW: Final = 32
"""The deepest ones of a walk that stay open, so that most steps up need no `..`."""
PASSES: Final = 3
"""How often a removal begins again because something was made or moved meanwhile."""
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SEARCH: Final = stat.S_IRUSR | stat.S_IXUSR

Path = str | os.PathLike[str]


class Moved(OSError):
    """A directory was moved while a walk was below it."""


class Visitor:
    """What a walk does. `rights` are owner's permissions that each directory is given if it lacks them."""

    rights = 0

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        """An open directory, before those in it; returns the names of those to go into. The top has depth
        0 and no name.
        """
        raise NotImplementedError

    def leave(self, parent: int, name: str) -> None:
        """A directory, after those in it."""

    def fail(self, error: OSError) -> None:
        """A directory could not be opened, or was moved while the walk was below it."""


class _Level:
    """A directory between the top and where a walk is."""

    __slots__ = ("fd", "identity", "name", "waiting")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        """-1 while it is closed."""
        self.identity = _identity(fd)
        self.waiting: list[str] = []

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def walk(top: Path, visitor: Visitor, *, below: int | None = None) -> None:
    """Goes through a tree, depth first; `top` is a name in the open directory `below`, if that is given.
    Raises OSError if the top cannot be opened, and what the visitor raises.
    """
    levels: list[_Level] = []
    try:
        levels.append(_Level("", _open(os.fspath(top), below, visitor.rights)))
        levels[0].waiting = visitor.enter(levels[0].fd, 0, "")
        while levels[-1].waiting or len(levels) > 1:
            if levels[-1].waiting:
                _go_down(levels, visitor)
            else:
                _go_up(levels, visitor)
    finally:
        for level in levels:
            level.close()


def _go_down(levels: list[_Level], visitor: Visitor) -> None:
    name = levels[-1].waiting.pop()
    try:
        child = _Level(name, _open(name, levels[-1].fd, visitor.rights))
    except OSError as error:
        visitor.fail(error)
        return
    levels.append(child)
    if len(levels) > HELD_AT_TOP + HELD_BELOW:
        levels[-1 - HELD_BELOW].close()
    child.waiting = visitor.enter(child.fd, len(levels) - 1, name)


def _go_up(levels: list[_Level], visitor: Visitor) -> None:
    level, parent = levels[-1], levels[-2]
    if parent.fd < 0:
        try:
            parent.fd = _parent(level.fd, parent.identity)
        except OSError as error:
            visitor.fail(error)
            _give_up(levels)
            return
    levels.pop().close()
    visitor.leave(parent.fd, level.name)


def _give_up(levels: list[_Level]) -> None:
    """Goes on from the deepest directory that is still open above this one."""
    levels.pop().close()
    while levels[-1].fd < 0:
        levels.pop()


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _parent(fd: int, identity: tuple[int, int]) -> int:
    """The directory above an open one, if it is the one that it was. Raises Moved."""
    parent = os.open("..", OPEN_DIRECTORY, dir_fd=fd)
    if _identity(parent) != identity:
        os.close(parent)
        raise Moved(errno.ESTALE, "a directory was moved while it was read")
    return parent


def _open(name: str, parent: int | None, rights: int) -> int:
    """Opens a directory, giving its owner the rights that it lacks, if that is wanted. Raises OSError."""
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except PermissionError:
        if not rights:
            raise
        _grant(name, parent, rights)
        return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    if rights and os.geteuid() != 0:
        lacking = rights & ~os.fstat(fd).st_mode
        if lacking:
            with contextlib.suppress(OSError):
                os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | rights)
    return fd


def _grant(name: str, parent: int | None, rights: int) -> None:
    """For a directory that cannot be opened. chmod(2) has no way to not follow a link; /proc has."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(os.fstat(fd).st_mode) | rights)
    finally:
        os.close(fd)


# -- removing ---------------------------------------------------------------------------------------------


class Removal(Visitor):
    """Unlinks all that is no directory on the way down, and the directories on the way up."""

    rights = stat.S_IRWXU

    def __init__(self) -> None:
        self.error: OSError | None = None

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        below: list[str] = []
        for entry in _entries(directory, self.fail):
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
                continue
            try:
                os.unlink(entry.name, dir_fd=directory)
            except OSError as error:
                self.fail(error)
        return below

    def leave(self, parent: int, name: str) -> None:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self.error = self.error or error


def remove(top: Path) -> None:
    """Removes a directory and all in it; nothing to do if there is none. Raises OSError if something stays,
    after everything else is gone.
    """
    for _ in range(PASSES):
        removal = Removal()
        try:
            walk(top, removal)
            os.rmdir(top)
        except FileNotFoundError:
            return
        except OSError as error:
            last = removal.error or error
        else:
            return
    raise last


# -- giving -----------------------------------------------------------------------------------------------


class _Gift(Visitor):
    """Makes a uid the owner of everything."""

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        below: list[str] = []
        for entry in _entries(directory, self.fail):
            os.chown(entry.name, self._uid, self._uid, dir_fd=directory, follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
        os.fchown(directory, self._uid, self._uid)
        return below

    def fail(self, error: OSError) -> None:
        raise error


def give(top: Path, uid: int) -> None:
    """Makes a uid the owner of a directory and all in it. Raises OSError."""
    walk(top, _Gift(uid))


# -- measuring --------------------------------------------------------------------------------------------

BLOCK_BYTES: Final = 512
"""What st_blocks counts in (stat(2))."""


class TooMany(Exception):
    """There are more files than are counted."""


class Measure(Visitor):
    """Adds up what lies in trees. Hard links count each time; past `max_files` it raises TooMany."""

    rights = _SEARCH

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self.files = 0
        self.allocated_bytes = 0
        """What the disk holds of them."""
        self.apparent_bytes = 0
        """What programs that read them would get, holes too."""
        self.was_moved = False

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        below: list[str] = []
        for entry in _entries(directory, self.fail):
            self.files += 1
            if self.files > self._max_files:
                raise TooMany
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                self.allocated_bytes += found.st_blocks * BLOCK_BYTES
                if stat.S_ISDIR(found.st_mode):
                    below.append(entry.name)
                elif stat.S_ISREG(found.st_mode):
                    self.apparent_bytes += found.st_size
        return below

    def fail(self, error: OSError) -> None:
        self.was_moved = self.was_moved or isinstance(error, Moved)


# -- entries ----------------------------------------------------------------------------------------------


def _entries(directory: int, fail: Callable[[OSError], None]) -> Iterator[os.DirEntry[str]]:
    """What a directory holds, as far as it can be read."""
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except OSError as error:
        fail(error)
