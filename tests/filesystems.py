"""File systems that the machine's disk has not, each in a file of its own: made by programs of Debian's,
which are unpacked for it (tests/debian.py). Only root may mount them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Final

from tests import debian

PACKAGES: Final = {
    "xfs": ("xfsprogs", "libinih1", "liburcu8"),
    "btrfs": ("btrfs-progs", "liblzo2-2"),
}
BYTES: Final = 400 * 1024 * 1024
"""XFS takes no less than 300 MB; what is not written takes no place."""


class NoFilesystem(Exception):
    """It cannot be had here; the text says why."""


@contextlib.contextmanager
def mounted(kind: str, directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder on a new file system of this kind. Raises NoFilesystem."""
    if os.geteuid() != 0:
        raise NoFilesystem("only root may mount a file system")
    tree = debian.together(PACKAGES[kind][0], *PACKAGES[kind])
    if tree is None:
        raise NoFilesystem(f"Debian's {PACKAGES[kind][0]} cannot be fetched")
    image, folder = directory / f"{kind}.img", directory / kind
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(BYTES)
    libraries = {str(path.parent) for path in tree.rglob("*.so*")}
    environ = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    try:
        subprocess.run([tree / "sbin" / f"mkfs.{kind}", "-q", image], check=True, env=environ, timeout=60)
        subprocess.run(["/bin/mount", "-o", "loop", image, folder], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoFilesystem(str(error)) from error
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True, timeout=60)
        image.unlink()
