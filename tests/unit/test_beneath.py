"""Files are opened beneath a folder and nowhere else, whatever an agent put there."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from gateway.files import beneath
from gateway.files.beneath import Folder, Unsafe

OUT = ("/etc/passwd", "../secret", "a/../../secret", "a\0b", "inside/../../secret")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "inside" / "deep").mkdir(parents=True)
    (root / "inside" / "file").write_text("here")
    (root / "link").symlink_to("/etc/passwd")
    (root / "out").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "in").symlink_to("inside")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(params=["openat2", "part by part"])
def folder(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Folder:
    if request.param == "part by part":
        monkeypatch.setattr(Folder, "_resolved", Folder.part_by_part)
    return Folder(root)


@pytest.mark.parametrize("name", OUT)
def test_a_name_that_leads_out_is_refused(folder: Folder, name: str) -> None:
    with pytest.raises(Unsafe):
        folder.open(name)


@pytest.mark.parametrize("name", ["link", "out/secret", "loop", "in/file", "fifo"])
def test_neither_a_link_nor_a_fifo_is_opened(folder: Folder, name: str) -> None:
    with pytest.raises(OSError, match=r"link|directory|file") as refused:
        folder.open(name)
    assert isinstance(refused.value, Unsafe) or refused.value.errno == errno.ENOTDIR


def test_a_file_is_read_and_made(folder: Folder, root: Path) -> None:
    descriptor = folder.open("./inside//file")
    assert os.read(descriptor, 10) == b"here"
    os.close(descriptor)
    folder.make_folders("new/er/est")
    os.close(folder.open("new/er/est/file", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    assert (root / "new/er/est/file").exists()
    with pytest.raises(FileNotFoundError):
        folder.open("no")
    with pytest.raises(OSError, match=r"link|directory"):
        folder.make_folders("out/made")
    assert not (root.parent / "made").exists()


def test_a_folder_that_is_exchanged_for_a_link_meanwhile_leads_nowhere(root: Path) -> None:
    """A thread exchanges a folder for a link to the outside and back; no read may come from there."""
    (root / "place").mkdir()
    (root / "place" / "secret").write_text("inside")
    (root / "other").symlink_to("..")
    done = threading.Event()

    def exchange() -> None:
        while not done.is_set():
            for first, second in (("place", "was"), ("other", "place"), ("place", "other"), ("was", "place")):
                os.rename(root / first, root / second)

    thread = threading.Thread(target=exchange)
    thread.start()
    read = refused = 0
    try:
        with Folder(root) as folder:
            for _ in range(5_000):
                try:
                    descriptor = folder.open("place/secret")
                except OSError:
                    refused += 1
                    continue
                assert os.read(descriptor, 10) == b"inside"
                os.close(descriptor)
                read += 1
    finally:
        done.set()
        thread.join()
    assert read
    assert refused


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's rights")
def test_a_user_sees_what_a_user_may_see(root: Path) -> None:
    (root / "roots").write_text("roots")
    (root / "roots").chmod(0o600)
    for part in (root, *root.parents):
        if str(part).startswith("/tmp/") and part != Path("/tmp"):
            part.chmod(0o755)
    with Folder(root) as folder, beneath.as_user(12_345), pytest.raises(PermissionError):
        folder.open("roots")
    os.close(Folder(root).open("roots"))
