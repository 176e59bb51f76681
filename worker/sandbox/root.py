"""A root of its own for a `strict` worker: one small tmpfs with the machine's programs bound in, read-only.

Guarantees: inner paths are the same for every session and machine; only the session's HOME, its working
directory, /tmp and /dev/shm can be written (and what the configuration grants); /proc shows the worker's own
processes; no set-user-id program gains anything; the old root is gone when `build` returns.

Facts: mount_namespaces(7), pivot_root(2), mount_setattr(2). /proc has to be mounted while the old one is
still there (the kernel refuses it in a user namespace otherwise), and the tmpfs goes over a directory that
nothing is bound from.
"""

from __future__ import annotations

import os
from typing import Final

from worker.sandbox import kernel, paths
from worker.spec import INNER_HOME, INNER_WORK, Limits, Sandbox

_AT: Final = "/sys"
"""Where the new root is put together: a directory that every machine has and no worker needs."""
_INODES: Final = 16_384
_TEMPORARY: Final = ("/tmp", "/dev/shm")  # noqa: S108
_DIRECTORIES: Final = ("/proc", "/dev", *_TEMPORARY, "/etc", "/var", "/session", INNER_HOME, INNER_WORK)
_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/var/tmp", "/tmp"),  # noqa: S108
)
_INNER_ID: Final = 1000
_PASSWD: Final = (
    f"root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:{_INNER_ID}:{_INNER_ID}:agent:{INNER_HOME}:/bin/sh\n"
).encode()
_GROUP: Final = f"root:x:0:\nagent:x:{_INNER_ID}:\n".encode()
_NAMES: Final = {
    "/etc/resolv.conf": b"nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
    "/etc/hosts": b"127.0.0.1 localhost agent\n::1 localhost\n",
}
"""With a network of its own, in which the gateway knows names; the machine's would name addresses that lead
nowhere.
"""
INNER_ID: Final = _INNER_ID
"""The user and group that every strict worker sees itself as."""


def build(sandbox: Sandbox, limits: Limits, *, home: str, work: str, is_command: bool) -> None:
    """Builds the root and enters it. Needs a mount namespace and CAP_SYS_ADMIN in it. Raises OSError."""
    has_own_names = sandbox.network == "broker"
    kernel.mount("", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    options = f"size={limits.temporary_bytes or '50%'},nr_inodes={_INODES},mode=755"
    kernel.mount("tmpfs", _AT, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    _lay_out(is_command=is_command, has_own_names=has_own_names)
    for path in paths.CODE + paths.DEVICES + (paths.ETC if is_command else ()):
        if not (has_own_names and path in _NAMES):
            _bind(path)
    for path in sandbox.readable:
        _bind(path)
    for path in sandbox.writable:
        _make_point(path)
    kernel.protect(_AT, recursive=True)
    for path in _TEMPORARY:
        kernel.mount(_AT + path, _AT + path, None, kernel.MS_BIND | kernel.MS_REC)
        kernel.protect(_AT + path, writable=True)
    _bind_writable(home, INNER_HOME)
    _bind_writable(work, INNER_WORK)
    for path in sandbox.writable:
        if os.path.exists(path):
            _bind_writable(path, path)
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", _AT + "/proc", "proc", quiet)
    if is_command:
        terminals = "newinstance,ptmxmode=0666,mode=0600"
        kernel.mount("devpts", _AT + "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, terminals)
    kernel.enter_root(_AT)


def _lay_out(*, is_command: bool, has_own_names: bool) -> None:
    """Directories, links, the files of accounts, and those of names."""
    for path in _DIRECTORIES:
        os.mkdir(_AT + path, 0o755)
    for path in _TEMPORARY:
        os.chmod(_AT + path, 0o1777)  # noqa: S103
    for path, target in (*paths.LINKS, *_LINKS):
        os.symlink(target, _AT + path)
    if not is_command:
        return
    os.mkdir(_AT + "/dev/pts", 0o755)
    os.symlink("pts/ptmx", _AT + "/dev/ptmx")
    files = [("/etc/passwd", _PASSWD), ("/etc/group", _GROUP)]
    if has_own_names:
        files += _NAMES.items()
    for path, content in files:
        fd = os.open(_AT + path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, content)
        os.close(fd)


def _bind(path: str) -> None:
    """Makes a path of the old root appear at the same place of the new one; one that is not there is left
    out. A link to a file stays one, with what it leads to: scripts look for their modules beside that.
    """
    if os.path.islink(path) and os.path.isfile(path) and not os.path.lexists(_AT + path):
        os.makedirs(os.path.dirname(_AT + path), 0o755, exist_ok=True)
        os.symlink(os.readlink(path), _AT + path)
        _bind(os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path))))
        return
    if _make_point(path):
        kernel.mount(path, _AT + path, None, kernel.MS_BIND | kernel.MS_REC)


def _bind_writable(path: str, inner: str) -> None:
    kernel.mount(path, _AT + inner, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.seal(_AT + inner)


def _make_point(path: str) -> bool:
    """An empty directory or file to mount upon; False if there is nothing to mount."""
    if not os.path.exists(path):
        return False
    point = _AT + path
    if os.path.exists(point):
        return True
    if os.path.isdir(path):
        os.makedirs(point, 0o755)
        return True
    os.makedirs(os.path.dirname(point), 0o755, exist_ok=True)
    os.close(os.open(point, os.O_WRONLY | os.O_CREAT, 0o644))
    return True
