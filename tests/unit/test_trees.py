"""What an agent makes can be removed, counted and given, whatever it is."""

from __future__ import annotations

import os
import pathlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.workers import trees
from tests.trees import in_memory, nest, own, write_at

LONG = "n" * 255
NOBODY = 61_234


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Far fewer than the trees are deep."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def top() -> Iterator[pathlib.Path]:
    with in_memory() as path:
        yield path


@pytest.mark.parametrize(("depth", "name"), [(1_100, "d"), (5_000, LONG), (40_000, "d")])
@pytest.mark.usefixtures("few_descriptors")
def test_nested_directories_are_counted_given_and_removed(top: pathlib.Path, depth: int, name: str) -> None:
    def end(directory: int) -> None:
        write_at(directory, "last", b"x" * 4096)
        os.close(directory)

    nest(top, depth, name, at_the_end=end)
    measure = trees.Measure(depth + 1)
    trees.walk(top, measure)
    assert measure.files == depth + 1
    assert measure.apparent_bytes == 4096
    assert measure.allocated_bytes >= 4096
    with pytest.raises(trees.TooMany):
        trees.walk(top, trees.Measure(depth))
    trees.give(top, os.geteuid())
    trees.remove(top)
    assert not top.exists()


def odd_things(top: pathlib.Path, outside: pathlib.Path) -> None:
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (top / "way-out").symlink_to(outside)
    (top / "loop").symlink_to("loop")
    (top / "around").symlink_to(".")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
    (top / os.fsdecode(b"not\xffutf-8")).mkdir()
    (top / os.fsdecode(b"not\xffutf-8") / "below").write_bytes(bytes(10_000))
    os.link(top / os.fsdecode(b"not\xffutf-8") / "below", top / "again")
    os.link(outside / "kept", top / "link")
    if os.geteuid() == 0:
        os.mknod(top / "device", 0o600 | 0o020000, os.makedev(1, 3))


def test_odd_things_are_counted_and_removed_and_no_link_is_followed(tmp_path: pathlib.Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    odd_things(top, tmp_path / "outside")
    measure = trees.Measure(100)
    trees.walk(top, measure)
    assert measure.apparent_bytes == 20_000 + len("kept"), "hard links count each time they are met"
    trees.give(top, os.geteuid())
    trees.remove(top)
    assert not top.exists()
    assert (tmp_path / "outside" / "kept").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root, to be an ordinary user")
def test_directories_without_permissions_are_removed_and_counted_by_an_ordinary_user(
    tmp_path: pathlib.Path,
) -> None:
    for place in own(tmp_path):
        place.chmod(place.stat().st_mode | 0o055)
    top = tmp_path / "top"
    for mode in (0o000, 0o200, 0o400, 0o500):
        below = top / f"{mode:o}" / "below"
        below.mkdir(parents=True)
        (below / "file").write_bytes(b"x" * 100)
    trees.give(top, NOBODY)
    os.chown(tmp_path, NOBODY, NOBODY)
    for mode in (0o000, 0o200, 0o400, 0o500):
        (top / f"{mode:o}" / "below").chmod(mode)
        (top / f"{mode:o}").chmod(mode)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from gateway.workers import trees; "
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
        "m = trees.Measure(100); trees.walk(sys.argv[1], m); "
        "trees.remove(sys.argv[1]); print(m.files, m.apparent_bytes, os.path.exists(sys.argv[1]))"
    )
    root = str(pathlib.Path(trees.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, str(top), root], capture_output=True, text=True, check=False
    )
    assert done.stdout == "12 400 False\n", done.stderr


class Mover(trees.Measure):
    """Moves a directory above it away while the walk is below."""

    def __init__(self, move: tuple[pathlib.Path, pathlib.Path], at_depth: int) -> None:
        super().__init__(10_000)
        self._move = move
        self._at_depth = at_depth

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        if depth == self._at_depth:
            self._move[0].rename(self._move[1])
        return super().enter(directory, depth, name)


def test_a_directory_that_is_moved_meanwhile_leads_nowhere_else(top: pathlib.Path) -> None:
    (top / "there").mkdir()
    (top / "zz").mkdir()
    held = trees.HELD_AT_TOP
    nest(top / "there", 300)
    (top / "there" / "/".join("d" * (held + 5)) / "beside").mkdir()
    deep = top / "there" / "/".join("d" * (held + 10))
    mover = Mover((deep, top / "zz" / "elsewhere"), 200)
    trees.walk(top / "there", mover)
    assert mover.was_moved
    trees.remove(top)
    assert not top.exists()


def test_what_cannot_be_removed_is_said_after_everything_else_is_gone(
    top: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "stays":
            raise PermissionError(1, "Operation not permitted")
        unlink(path, dir_fd=dir_fd)

    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "stays").touch()
    (top / "c").touch()
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        trees.remove(top)
    assert [str(path.relative_to(top)) for path in sorted(top.rglob("*"))] == ["a", "a/stays"]
