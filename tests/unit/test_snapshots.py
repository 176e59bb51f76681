"""Snapshots of trees that somebody hostile made, and putting them back."""

from __future__ import annotations

import asyncio
import os
import pathlib
import stat
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gateway.config.files import FilesConfig
from gateway.config.tables import WorkersConfig
from gateway.files import blobs, putting_back, taking
from gateway.files import scan as scanning
from gateway.files.beneath import Folder, as_user
from gateway.files.blobs import EACH_SYNCED, FolderBlobs
from gateway.files.left_out import STAGING, LeftOut, rules_of
from gateway.files.manifest import WORK, FilesManifest, packed, unpacked
from gateway.files.putting_back import PutBack, PuttingBack
from gateway.files.snapshots import AT_ONCE, Snapshots
from gateway.files.taking import STEPS, Taken, Taker, Taking
from gateway.sessions.files import SessionFiles
from gateway.telemetry.metrics import Metrics
from gateway.workers import trees
from gateway.workers.workspace import Workspaces
from tests.patience import within

KEY = "k"
CONFIG = FilesConfig()


class Place:
    """The folders of a session, and its snapshots."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.root = directory / "session"
        self.work = self.root / "work"
        self.home = self.root / "home"
        for folder in (self.work, self.home):
            folder.mkdir(parents=True)
        self.kept = directory / "snapshots"
        self.blobs = FolderBlobs(self.kept)
        self.blobs.open()
        self.taker = Taker(self.blobs)

    def take(self, seq: int, config: FilesConfig = CONFIG, *, turn_id: str = "t") -> Taken:
        return self.taker.take(Taking(KEY, None, seq, turn_id, 0), self.root, config)

    def names(self, seq: int) -> list[str]:
        manifest = self.taker.manifest(KEY, seq * STEPS)
        assert manifest is not None
        return [entry.path.decode() for entry in manifest.entries]

    def undo(self, seq: int) -> list[bytes]:
        """Puts the files back to what they were below a number, after a snapshot of now."""
        self.take(10_000, turn_id="")
        target, now = self.taker.before(KEY, seq), self.taker.newest(KEY)
        assert target is not None
        assert now is not None
        with Folder(self.root) as folder:
            putting = PuttingBack(folder, self.blobs, KEY, None)
            return putting.undo(target.below(WORK), now.below(WORK), WORK)[1]

    def written(self) -> list[str]:
        return sorted(str(path.relative_to(self.kept)) for path in self.kept.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(scanning, "RACY_NS", 0)  # else what was just written is read a second time
    place = Place(tmp_path)
    yield place
    trees.remove(place.root)


def contents(root: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names of the files that are read from here on."""
    read: list[bytes] = []
    once = Taker._read_once

    def noted(*arguments: Any) -> Any:
        read.append(arguments[3])
        return once(*arguments)

    monkeypatch.setattr(Taker, "_read_once", noted)
    return read


def test_only_what_changed_is_read_and_nothing_is_written_if_nothing_did(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (place.work / f"f{number}").write_text(str(number))
    assert place.take(1).added == 20
    before = place.written()
    read = reads(monkeypatch)
    assert not place.take(2).is_written
    assert (place.written(), read) == (before, [])
    (place.work / "f3").write_text("new")
    (place.work / "f4").unlink()
    (place.work / "f5").rename(place.work / "g5")
    taken = place.take(3)
    assert (taken.added, taken.changed, taken.removed) == (1, 1, 2)
    assert sorted(read) == [b"work/f3", b"work/g5"]
    assert len(place.written()) == len(before) + 2  # one content, one manifest


def test_a_hostile_tree_is_bounded_and_nothing_outside_is_read(place: Place, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (place.work / "out").symlink_to(outside)
    (place.work / "file").symlink_to(outside / "secret")
    (place.work / "gone").symlink_to("nowhere")
    os.mkfifo(place.work / "fifo")
    os.mknod(place.work / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (place.work / "tool").write_text("#!")
    (place.work / "tool").chmod(0o6755)
    (place.work / "odd\udcff\n").write_text("odd")
    os.truncate(os.open(place.work / "holes", os.O_CREAT | os.O_WRONLY), 1 << 40)
    at = os.open(place.work, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    taken = place.take(1)
    manifest = place.taker.manifest(KEY, STEPS)
    assert manifest is not None
    found = manifest.by_path
    assert (found[b"work/out"].kind, found[b"work/out"].target) == ("link", os.fsencode(outside))
    assert found[b"work/tool"].mode == 0o755
    assert (found[b"work/holes"].why, taken.left_out) == ("large", 1)
    assert not {b"work/fifo", b"work/device", b"work/out/secret"} & found.keys()
    assert b"work" + b"/d" * 1_100 in found
    assert not any(b"secret" in b"".join(place.blobs.get(KEY, d)) for d in manifest.digests)
    target = tmp_path / "copy"
    for name in ("home", "work"):
        (target / name).mkdir(parents=True)
    with Folder(target) as folder:
        missing = PuttingBack(folder, place.blobs, KEY, None).fill(manifest.entries)
    assert missing == 1
    assert os.readlink(target / "work/out") == str(outside)
    assert (target / "work/odd\udcff\n").read_text() == "odd"
    assert stat.S_IMODE((target / "work/tool").stat().st_mode) == 0o755
    trees.remove(target)


def test_more_files_than_may_be_counted_are_said_once_and_leave_no_claim(place: Place) -> None:
    (place.work / "a").write_text("a")
    place.take(1)
    for number in range(12):
        (place.work / f"f{number}").write_text("")
    few = replace(CONFIG, snapshot_files=10)
    assert "more than 10 files" in place.take(2, few).trouble
    gap = place.taker.newest(KEY)
    assert gap is not None
    assert gap.trouble
    before = place.written()
    assert place.take(3, few).trouble
    assert place.written() == before
    assert place.take(4).added == 12


def test_the_snapshots_of_a_session_are_bounded_by_count_and_by_size(place: Place) -> None:
    config = replace(CONFIG, snapshots_kept=8, snapshot_mb=1)
    for seq in range(1, 20):
        (place.work / "f").write_bytes(os.urandom(60_000))
        assert place.take(seq, config).is_written
    places = place.blobs.places(KEY)
    assert places[-1] == 19 * STEPS
    assert len(places) <= 8
    assert len(list((place.kept / KEY / "blobs").iterdir())) == len(places)
    assert place.taker.before(KEY, places[0] // STEPS) is None  # and not: it was empty
    (place.work / "f").write_bytes(os.urandom(1_500_000))
    assert "larger than the 1 MB" in place.take(20, config).trouble
    assert place.blobs.size_bytes(KEY) < 1_000_000


def test_what_is_too_large_to_keep_is_not_read_again_at_each_turn(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, snapshot_mb=1)
    for number in range(3):
        (place.work / f"f{number}").write_bytes(os.urandom(500_000))
    read = reads(monkeypatch)
    assert "larger than the 1 MB" in place.take(1, config).trouble
    assert len(read) == 3
    (place.work / "small").write_text("x")
    assert "larger than the 1 MB" in place.take(2, config).trouble
    assert len(read) == 3
    (place.work / "f0").unlink()
    assert place.take(3, config).is_written
    (place.work / "f0").write_bytes(os.urandom(500_000))
    assert place.take(4, config).trouble
    assert place.take(5, CONFIG).is_written


def test_what_can_be_made_again_is_left_out_and_stays_when_a_turn_is_undone(place: Place) -> None:
    repository = place.work / "repo"
    for name in (".git", "node_modules/x", "src/__pycache__", "build/out", "logs", "keep"):
        (repository / name).mkdir(parents=True)
    (repository / ".gitignore").write_text("# ours\nbuild/\n*.log\n!keep.log\n/only-here\ndocs/**/tmp\n")
    for name in ("node_modules/x/i.js", "build/out/o", "logs/a.log", "logs/keep.log", "src/main.py"):
        (repository / name).write_text("x")
    (repository / "only-here").write_text("x")
    (repository / "src/only-here").write_text("x")
    (place.home / ".cache").mkdir()
    (place.home / ".cache/big").write_text("x")
    (place.work / "a.log").write_text("no working tree")
    (place.work / f"{STAGING}1").mkdir()
    (place.work / f"{STAGING}1" / "0").write_text("left by a death")
    place.take(1, replace(CONFIG, snapshot_leaves_out=("*.bin",)))
    names = set(place.names(1))
    assert {
        "work/repo/src/main.py",
        "work/repo/logs/keep.log",
        "work/repo/src/only-here",
        "work/a.log",
    } <= names
    assert not {
        name
        for name in names
        if "node_modules" in name or "undo" in name or "build" in name or ".cache" in name
    }
    assert not {"work/repo/logs/a.log", "work/repo/only-here", "work/repo/src/__pycache__"} & names
    (repository / "src/main.py").write_text("y")
    (repository / "node_modules/x/i.js").write_text("z")
    place.take(2)
    assert place.undo(2) == []
    assert (repository / "src/main.py").read_text() == "x"
    assert (repository / "node_modules/x/i.js").read_text() == "z"


def test_patterns_of_a_hostile_gitignore_end_soon() -> None:
    text = "\n".join(["*a" * 8 + "b", "**/" * 90 + "x", "[", "\\", "!", "/", "a" * 9_000, "*" * 50 + "c"])
    rules = rules_of(text, "work")
    out = LeftOut()
    for _ in range(20):
        assert not out.is_out("work/" + "a" * 250, "a" * 250, rules, is_folder=False)
        assert not out.is_out("work" + "/a" * 500, "a", rules, is_folder=True)


def test_a_file_that_changes_while_it_is_read_is_not_claimed_to_be_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.work / "grows").write_text("a")
    (place.work / "quiet").write_text("q")
    pieces: Any = taking._pieces
    times = 0

    def growing(descriptor: int, size: int) -> Iterator[bytes]:
        nonlocal times
        yield from pieces(descriptor, size)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("grows"):
            times += 1
            with (place.work / "grows").open("a") as file:
                file.write("more")

    monkeypatch.setattr(taking, "_pieces", growing)
    place.take(1)
    manifest = place.taker.manifest(KEY, STEPS)
    assert manifest is not None
    assert (manifest.by_path[b"work/grows"].why, manifest.by_path[b"work/quiet"].why) == ("changing", "")
    assert times == 2
    monkeypatch.undo()
    assert place.take(2).changed == 1


def test_what_was_made_of_files_becomes_what_it_was(place: Place) -> None:
    work = place.work
    (work / "a/b").mkdir(parents=True)
    (work / "a/b/c").write_text("c")
    (work / "file").write_text("file")
    (work / "link").symlink_to("file")
    (work / "run").write_text("#!")
    (work / "run").chmod(0o755)
    place.take(1)
    first = contents(work)
    trees.remove(work / "a")
    (work / "a").write_text("a file now")
    (work / "file").unlink()
    (work / "file").mkdir()
    (work / "file/inside").write_text("x")
    (work / "link").unlink()
    (work / "link").write_text("no link")
    (work / "run").chmod(0o644)
    place.take(2)
    second = contents(work)
    assert place.undo(2) == []
    assert contents(work) == first
    assert stat.S_IMODE((work / "run").stat().st_mode) == 0o755
    assert second != first


def test_a_full_disk_leaves_an_undo_undone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.work / "a").write_text("1")
    (place.work / "b").write_text("1")
    place.take(1)
    (place.work / "a").write_text("2")
    (place.work / "b").unlink()
    place.take(2)
    write, written = os.write, 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PutBack, match="No space"):
        place.undo(2)
    monkeypatch.undo()
    assert contents(place.work) == {"a": "2"}
    assert not [name for name in os.listdir(place.work) if name.startswith(STAGING)]


def test_links_that_appear_meanwhile_lead_no_undo_outside(place: Place, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (place.work / "d").mkdir()
    (place.work / "d/f").write_text("inside")
    place.take(1)
    (place.work / "d/f").write_text("changed")
    place.take(2)
    rounds = threading.Event()

    def swap() -> None:
        while not rounds.is_set():
            try:
                (place.work / "d").rename(place.work / "e")
                (place.work / "d").symlink_to(outside)
                (place.work / "d").unlink()
                (place.work / "e").rename(place.work / "d")
            except OSError:
                continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(30):
            place.undo(2)
    finally:
        rounds.set()
        thread.join()
    assert os.listdir(outside) == []


def test_halves_are_swept_and_a_damaged_content_is_said(place: Place) -> None:
    (place.work / "a").write_text("a")
    place.take(1)
    half = place.kept / KEY / "blobs" / "0123.part"
    half.write_text("half")
    place.taker._keep(KEY, place.blobs.places(KEY))
    assert not half.exists()
    manifest = place.taker.newest(KEY)
    assert manifest is not None
    assert unpacked(packed(manifest)) == manifest
    [digest] = manifest.digests
    (place.kept / KEY / "blobs" / digest.hex()).write_bytes(b"x\x9c damaged")
    with pytest.raises(ValueError, match="damaged"):
        b"".join(place.blobs.get(KEY, digest))
    (place.kept / KEY / "manifests" / str(STEPS)).write_bytes(b"damaged")
    assert place.taker.newest(KEY) is None
    with pytest.raises(ValueError, match="no manifest"):
        unpacked(packed(FilesManifest(seq=1))[:-3])


@pytest.mark.parametrize("count", [0, 1, 3, EACH_SYNCED + 1])
def test_a_manifest_has_its_name_after_all_that_it_needs_is_on_the_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    folder = FolderBlobs(tmp_path / "snapshots")
    folder.open()
    synced, unsynced_at_rename = set[int](), list[set[int]]()
    whole, sync, rename = blobs._sync_all, os.fsync, pathlib.Path.rename

    def inodes() -> set[int]:
        return {path.stat().st_ino for path in (tmp_path / "snapshots" / "k" / "blobs").rglob("*")}

    def synced_all(path: pathlib.Path) -> None:
        whole(path)
        synced.update(one.stat().st_ino for one in path.rglob("*"))

    def synced_one(descriptor: int) -> None:
        sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def renamed(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        if target.name == "16":
            folders = {target.parent.parent.joinpath("blobs").stat().st_ino} if count else set[int]()
            needed = inodes() | folders | {path.stat().st_ino}
            unsynced_at_rename.append(needed - synced)
            synced.clear()
        return rename(path, target)

    monkeypatch.setattr(blobs, "_sync_all", synced_all)
    monkeypatch.setattr(os, "fsync", synced_one)
    monkeypatch.setattr(pathlib.Path, "rename", renamed)
    for number in range(count):
        folder.put("k", [b"%d" % number])
    folder.put_manifest("k", 16, b"manifest")
    assert unsynced_at_rename == [set()]
    assert (tmp_path / "snapshots" / "k" / "manifests").stat().st_ino in synced, "nor is its name lost"


async def test_a_turn_waits_while_files_are_put_back() -> None:
    snapshots = SimpleNamespace(is_on=False, travelling=None, disturb=lambda _key: None)
    files = SessionFiles(cast("Any", SimpleNamespace(key="k")), cast("Any", None), cast("Any", snapshots))
    async with files.putting_back:
        turn = asyncio.ensure_future(files.before_turn())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not turn.done()
    await turn


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: files of another user need root")
def test_a_new_session_gets_all_files_as_its_own_and_the_thread_changes_users_seldom(
    place: Place, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = place.work / "/".join("d" * (putting_back.OPEN_FOLDERS + 4))
    deep.mkdir(parents=True)
    for number, where in enumerate((place.work, deep, deep.parent, place.home)):
        for other in range(40):
            (where / f"{number}-{other}").write_text(f"{other}" * other)
    (place.work / "run").write_text("x" * (2 << 20))
    (place.work / "run").chmod(0o555)
    os.utime(place.work / "run", ns=(1, 2))
    (place.work / "out").symlink_to("/etc/passwd")
    deep.chmod(0o500)
    place.take(1)
    manifest = place.taker.newest(KEY)
    assert manifest is not None
    changed: list[int | None] = []

    def noted(uid: int | None) -> Any:
        changed.append(uid)
        return as_user(uid)

    monkeypatch.setattr(putting_back, "as_user", noted)
    target = tmp_path / "child"
    tmp_path.chmod(0o755)
    for name in ("home", "work"):
        (target / name).mkdir(parents=True)
        os.chown(target / name, 54_321, 54_321)
    before = set(os.listdir("/proc/self/fd"))
    with Folder(target) as folder:
        assert PuttingBack(folder, place.blobs, KEY, 54_321).fill(manifest.entries) == 0
    assert set(os.listdir("/proc/self/fd")) == before
    assert contents(target / "work") == contents(place.work)
    assert contents(target / "home") == contents(place.home)
    made = [path for top in ("home", "work") for path in (target / top).rglob("*")]
    assert {os.lstat(path).st_uid for path in made} == {54_321}
    status = (target / "work/run").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o555, 2)
    assert stat.S_IMODE((target / deep.relative_to(place.root)).stat().st_mode) == 0o500
    assert len(changed) <= len(manifest.entries) / putting_back.OPEN_FILES + 2


async def test_a_session_that_starts_waits_for_no_snapshot_of_others(tmp_path: pathlib.Path) -> None:
    made, running, go_on = [], threading.Semaphore(0), threading.Event()

    class Slow(Taker):
        def take(self, taking: Taking, root: pathlib.Path, config: FilesConfig) -> Taken:
            made.append(taking.key)
            if taking.turn_id:
                running.release()
                assert go_on.wait(30)
            return Taken(seq=taking.seq, turn_id=taking.turn_id)

    workspaces = Workspaces(tmp_path, WorkersConfig())
    snapshots = Snapshots(
        lambda: CONFIG,
        blobs=FolderBlobs(tmp_path / "snapshots"),
        workspaces=workspaces,
        metrics=Metrics(version="0", monotonic=lambda: 0.0),
        wall_ms=lambda: 0,
    )
    snapshots._taker = Slow(FolderBlobs(tmp_path / "snapshots"))
    others = [
        asyncio.ensure_future(snapshots.take(f"busy{number}", None, seq=1, turn_id="t"))
        for number in range(9)
    ]
    try:
        for _ in range(AT_ONCE):
            assert await asyncio.to_thread(running.acquire, True, 30)
        async with within(30):
            assert await snapshots.take("new", None, seq=1, is_first=True) is not None
        assert made[AT_ONCE:] == ["new"]
        assert not any(other.done() for other in others)
    finally:
        go_on.set()
        await asyncio.gather(*others)
        await snapshots.aclose()
        workspaces._threads.shutdown()
