"""What of the machine every worker may read: system directories, a few files of /etc, the interpreter.

Guarantee: nothing of it is private to anybody: no home directory, no data directory, no configuration of a
service. Found once, in the fork server; a child only reads the result.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec

_SYSTEM: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
)
_OF_ETC: Final = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)
"""What programs need of /etc: names, certificates, the linker, the time zone. Not ssl/private, not passwd's
neighbours.
"""
_OF_ACCOUNTS: Final = ("/etc/passwd", "/etc/group")
"""Read as they are in `basic`; written anew, with one user, in `strict`."""
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_OF_A_PREFIX: Final = ("bin", "lib", "lib64", "libexec", "pyvenv.cfg")
"""What a program's prefix needs to be read; the rest of ~/.local is somebody's own."""

LINKS: Final = tuple((path, os.readlink(path)) for path in _SYSTEM if os.path.islink(path))
"""/bin → usr/bin and its like: (path, target)."""


def uncovered(paths: list[str]) -> tuple[str, ...]:
    """The paths that exist and lie below no other of them, shortest first."""
    chosen: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}, key=len):
        if os.path.exists(path) and not any(path == kept or path.startswith(kept + "/") for kept in chosen):
            chosen.append(path)
    return tuple(chosen)


def of_prefix(prefix: str) -> list[str]:
    """What of an installation prefix is read when a program below it runs."""
    return [os.path.join(prefix, name) for name in _OF_A_PREFIX]


def _interpreter() -> list[str]:
    paths = [
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        *map(os.path.abspath, msgspec.__path__),
    ]
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        paths += of_prefix(prefix)
        paths += of_prefix(os.path.realpath(prefix))
    return paths


_DIRECTORIES: Final = [path for path in _SYSTEM if os.path.isdir(path) and not os.path.islink(path)]

CODE: Final = uncovered([*_DIRECTORIES, *_interpreter()])
"""System directories and the interpreter with its libraries, where they really are."""
ETC: Final = uncovered([f"/etc/{name}" for name in _OF_ETC])
READABLE_IN_PLACE: Final = (*CODE, *(path for path, _ in LINKS), *ETC, *_OF_ACCOUNTS, "/proc")
"""For a worker without a root of its own."""
