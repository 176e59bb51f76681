"""Files of a workspace on a file system that can clone them: Btrfs in a file, mounted by a loop device."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from tests.debian import program
from tests.gateway.test_workspaces import begin, place, say, text

IMAGE_BYTES: Final = 256 << 20
MOUNT: Final = shutil.which("mount") or "/usr/bin/mount"
UMOUNT: Final = shutil.which("umount") or "/usr/bin/umount"


@pytest.fixture
def cloning(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder of such a file system."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: clones of files: only root mounts file systems")
    make = program("mkfs.btrfs", package="btrfs-progs")
    if make is None:
        pytest.skip("NOT TESTED: clones of files: mkfs.btrfs can neither be found nor fetched")
    image, top = tmp_path / "image", tmp_path / "btrfs"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    top.mkdir()
    subprocess.run((make, "-q", image), check=True, capture_output=True)
    mounted = subprocess.run((MOUNT, "-o", "loop", image, top), capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: clones of files: {mounted.stderr.strip()}")
    try:
        yield top
    finally:
        subprocess.run((UMOUNT, top), check=True)


@pytest.mark.asyncio
async def test_files_are_cloned_behind_the_walls_and_changes_stay_in_the_session(
    cloning: pathlib.Path,
) -> None:
    async with place(cloning, 'setup = "head -c 20000000 /dev/zero > large"\n') as (gateway, _):
        await begin(gateway)
        await say(gateway, "echo two >> README.md; echo x | dd of=large conv=notrunc")
        assert " cloned in " in await text(gateway, "/api/sessions/s/export")
        await begin(gateway, "other")
        assert await say(gateway, "cat README.md; head -c 1 large | tr '\\0' 0", "other") == "hello\n0"
