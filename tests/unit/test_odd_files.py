"""Files whose names are as long as they can be, or whose times are in no calendar: what is read of them is
bounded, and they hide nothing else.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Final

import pytest

from gateway.files import scan as scanning
from gateway.files.archive import FolderTooLarge, planned
from gateway.files.beneath import Folder
from gateway.files.left_out import LeftOut
from gateway.files.manifest import FilesManifest, packed, unpacked
from gateway.files.places import WorkFolder
from gateway.files.times import told_seconds
from gateway.files.tree import FileListing, TreeWalk, place_of
from gateway.files.watching import look
from gateway.workers import trees

LONGEST: Final = 255
DEEP: Final = 12
MOST_NAMES: Final = 4 * 1024 * 1024
"""Bytes of names, of whatever reads them."""
FILES: Final = 3_000
TMPFS: Final = pathlib.Path("/dev/shm")


@pytest.fixture(scope="module")
def long_names() -> Iterator[pathlib.Path]:
    """A session's folder with 3,000 files below twelve folders of the longest names: 9 MB of paths."""
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        at = root / "work"
        (root / "home").mkdir()
        for _ in range(DEEP):
            at /= "n" * LONGEST
        at.mkdir(parents=True)
        directory = os.open(at, os.O_RDONLY)
        for number in range(FILES):
            os.close(os.open(f"{number:0{LONGEST}}", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        os.close(directory)
        yield root
        trees.remove(root / "work")


def test_long_names_make_no_snapshot(long_names: pathlib.Path) -> None:
    with Folder(long_names) as folder, pytest.raises(scanning.ScanFailed, match="The names of the files"):
        scanning.scan(folder, LeftOut(), max_files=50_000)


def test_links_that_lead_far_make_no_snapshot(tmp_path: pathlib.Path) -> None:
    (tmp_path / "work").mkdir()
    for number in range(1_100):
        (tmp_path / f"work/{number}").symlink_to("x/" * 2_000)
    with Folder(tmp_path) as folder, pytest.raises(scanning.ScanFailed, match="The names of the files"):
        scanning.scan(folder, LeftOut(), max_files=2_000)


def test_long_names_make_no_archive(long_names: pathlib.Path) -> None:
    with pytest.raises(FolderTooLarge):
        planned(WorkFolder(str(long_names / "work"), None), "", most_bytes=1 << 30, most_entries=50_000)


def test_a_look_at_long_names_is_partial(long_names: pathlib.Path) -> None:
    seen = look(WorkFolder(str(long_names / "work"), None))
    assert seen.is_partial
    assert sum(map(len, seen.marks)) <= MOST_NAMES


def test_a_listing_of_long_names_comes_in_pages(long_names: pathlib.Path) -> None:
    deepest = "/".join(["n" * LONGEST] * DEEP)
    found: list[str] = []
    cursor = None
    with Folder(long_names / "work") as folder:
        while not found or cursor is not None:
            page = TreeWalk(folder, limit=2_000).listing(deepest, after=place_of(cursor))
            assert 0 < sum(len(entry.path) for entry in page.entries) <= MOST_NAMES
            found += [entry.name for entry in page.entries]
            cursor = page.cursor
        assert found == [f"{number:0{LONGEST}}" for number in range(FILES)]
        whole = TreeWalk(folder, limit=2_000).listing("/".join(["n" * LONGEST] * (DEEP - 2)), depth=5)
        assert sum(map(len, paths(whole))) <= MOST_NAMES


def paths(listing: FileListing) -> Iterator[str]:
    """Of all entries, those of inner folders included."""
    for entry in listing.entries:
        yield entry.path
        if isinstance(entry.inner, FileListing):
            yield from paths(entry.inner)


def test_a_folder_with_very_many_files_is_given_up_in_its_midst(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    for number in range(40):
        (tmp_path / f"work/{number}").touch()
    seconds = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    with Folder(tmp_path) as folder, pytest.raises(scanning.ScanFailed, match="took more than 30 seconds"):
        scanning.scan(folder, LeftOut(), max_files=1_000)


@pytest.mark.skipif(not TMPFS.is_dir(), reason="there is no /dev/shm")
@pytest.mark.parametrize("seconds", [2**62, 2**40, -(2**40), -(2**62)])
def test_a_file_may_be_of_a_time_that_no_calendar_has(seconds: int) -> None:
    with tempfile.TemporaryDirectory(dir=TMPFS) as name:
        work = pathlib.Path(name) / "work"
        work.mkdir()
        (work / "odd").touch()
        os.utime(work / "odd", (seconds, seconds))
        assert (work / "odd").stat().st_mtime_ns == seconds * 10**9
        with Folder(name) as folder, Folder(work) as listed:
            found = scanning.scan(folder, LeftOut(), max_files=10)
            [entry] = TreeWalk(listed, limit=10).listing("").entries
        assert unpacked(packed(FilesManifest(seq=1, entries=tuple(found)))).entries == tuple(found)
        os.utime(work / "odd", ns=(found[-1].mtime_ns, found[-1].mtime_ns))  # as it is put back
        assert entry.modified_at == (
            "9999-12-31T23:59:59.000Z" if seconds > 0 else "1970-01-01T00:00:00.000Z"
        )
        assert formatdate(told_seconds(seconds * 10**9), usegmt=True)
