"""Every place for snapshots does the same: the data directory, the store, a shared folder, a bucket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest

from gateway.files.blobs import Blobs, FolderBlobs
from gateway.files.contents import PART_BYTES, Bridge, Contents, FolderContents, StoreContents
from gateway.files.place import outside
from gateway.files.travelling import TravellingBlobs
from gateway.stores.contract import Store
from tests.contract.engines import ENGINES
from tests.s3 import bucket
from tests.travelling import travelling_blobs

KEY: Final = "0123456789abcdef01234567"
OTHER: Final = "ffffffffffffffffffffffff"
PLACES: Final = ("folder", "store", "shared folder", "bucket")


@contextlib.asynccontextmanager
async def opened_store(tmp_path: pathlib.Path) -> AsyncIterator[Store]:
    store = ENGINES["postgresql"].made(tmp_path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="module")
def bucket_url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, bucket(monkeypatch) as url:
        yield url


@pytest.fixture(params=PLACES[1:])
def kind(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """Of a place that several gateways reach, or the URL of a bucket of the test's own."""
    if request.param != "bucket":
        return str(request.param)
    return _of_its_own(request.getfixturevalue("bucket_url"), tmp_path)


def _of_its_own(url: str, tmp_path: pathlib.Path) -> str:
    return url.replace("/files?", f"/{tmp_path.name}?")


def travelling(store: Store, tmp_path: pathlib.Path, kind: str, *, name: str = "one") -> TravellingBlobs:
    """As one gateway has them, whose data directory is called so."""
    assert store.files is not None
    data, ask = tmp_path / name, Bridge()
    data.mkdir(exist_ok=True)
    shared = tmp_path / "shared"
    shared.mkdir(exist_ok=True)
    contents: Contents = StoreContents(store.files, ask) if kind == "store" else FolderContents(shared)
    if kind.startswith("s3://"):
        contents = outside(kind)
    return travelling_blobs(store.files, contents, ask=ask, directory=data)


@pytest.fixture(params=PLACES)
async def blobs(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Blobs]:
    if request.param == "folder":
        folder = FolderBlobs(tmp_path / "snapshots")
        folder.open()
        yield folder
        return
    kind = request.param
    if kind == "bucket":
        kind = _of_its_own(request.getfixturevalue("bucket_url"), tmp_path)
    async with opened_store(tmp_path) as store:
        yield travelling(store, tmp_path, kind)


def content(blobs: Blobs, key: str, digest: bytes) -> bytes:
    return b"".join(blobs.get(key, digest))


async def run(act: Callable[[], Any]) -> Any:
    """In a thread, as snapshots are taken."""
    return await asyncio.to_thread(act)


async def test_what_is_put_is_got_whatever_its_size(blobs: Blobs) -> None:
    sizes = (0, 1, 1000, PART_BYTES + 1, 3 * PART_BYTES, 20 * PART_BYTES)

    def act() -> None:
        contents = [os.urandom(size) for size in sizes]
        digests = [blobs.put(KEY, [one[: len(one) // 2], one[len(one) // 2 :]]) for one in contents]
        assert digests == [(hashlib.sha256(one).digest(), len(one)) for one in contents]
        blobs.put_manifest(KEY, 16, b"manifest")
        assert [content(blobs, KEY, digest) for digest, _ in digests] == contents
        blobs.ahead(KEY, [digest for digest, _ in digests])
        assert [content(blobs, KEY, digest) for digest, _ in digests] == contents
        blobs.ahead(KEY, [])
        known = blobs.contents_bytes(KEY, [digests[2][0], digests[3][0], b"\1" * 32])
        assert 1000 + PART_BYTES < known < 1.1 * (1001 + PART_BYTES)
        assert blobs.size_bytes(KEY) > sum(sizes)
        with pytest.raises(FileNotFoundError):
            content(blobs, OTHER, digests[1][0])

    await run(act)


async def test_manifests_are_listed_in_order_and_kept(blobs: Blobs) -> None:
    def act() -> None:
        (one, _), (two, _) = blobs.put(KEY, [b"one"]), blobs.put(KEY, [b"two"])
        for place in (160, 16, 32):
            blobs.put_manifest(KEY, place, b"%d" % place)
        assert blobs.places(KEY) == [16, 32, 160]
        assert [blobs.manifest(KEY, place) for place in (16, 32, 160)] == [b"16", b"32", b"160"]
        blobs.keep(KEY, {32, 160}, {two})
        assert blobs.places(KEY) == [32, 160]
        assert content(blobs, KEY, two) == b"two"
        with pytest.raises(FileNotFoundError):
            blobs.manifest(KEY, 16)
        with pytest.raises(FileNotFoundError):
            content(blobs, KEY, one)

    await run(act)


async def test_a_fork_outlives_what_it_was_made_of_and_a_session_goes_whole(blobs: Blobs) -> None:
    def act() -> None:
        (one, _), (two, _) = blobs.put(KEY, [b"one"]), blobs.put(KEY, [os.urandom(3 * PART_BYTES)])
        blobs.put_manifest(KEY, 16, b"m")
        blobs.share(KEY, OTHER, [16], [one, two])
        blobs.put_manifest(OTHER, 32, b"n")
        whole = content(blobs, KEY, two)
        assert sorted(blobs.keys("")) == [KEY, OTHER]
        assert blobs.keys("f") == [OTHER]
        blobs.remove(KEY)
        assert (blobs.places(KEY), blobs.size_bytes(KEY), blobs.keys("")) == ([], 0, [OTHER])
        with pytest.raises(FileNotFoundError):
            content(blobs, KEY, one)
        assert (content(blobs, OTHER, one), content(blobs, OTHER, two)) == (b"one", whole)
        assert blobs.places(OTHER) == [16, 32]

    await run(act)


async def test_the_contents_of_a_workspaces_tree_are_shared_with_a_session(blobs: Blobs) -> None:
    def act() -> None:
        tree = "tree.store.1"
        (one, _), (two, _) = blobs.put(tree, [b"one"]), blobs.put(tree, [os.urandom(3 * PART_BYTES)])
        blobs.put_manifest(tree, 0, b"m")
        blobs.share(tree, KEY, (), [one, two])
        blobs.put_manifest(KEY, 16, b"n")
        assert blobs.keys("tree.") == [tree]
        blobs.remove(tree)
        assert content(blobs, KEY, one) == b"one"
        assert len(content(blobs, KEY, two)) == 3 * PART_BYTES

    await run(act)


async def test_what_one_gateway_keeps_another_finds_and_knows_whose_files_are_newest(
    tmp_path: pathlib.Path, kind: str
) -> None:
    async with opened_store(tmp_path) as store:
        one = travelling(store, tmp_path, kind)
        two = travelling(store, tmp_path, kind, name="two")

        def act(one: TravellingBlobs = one, two: TravellingBlobs = two) -> None:
            def currents() -> tuple[bool, bool]:
                stand = one.stand(KEY)
                return one.is_current(KEY, stand), two.is_current(KEY, stand)

            assert currents() == (True, True), "nothing is kept, so nothing is newer"
            digest, _ = one.put(KEY, [b"one"])
            one.put_manifest(KEY, 16, b"m")
            assert currents() == (True, False)
            assert two.manifest(KEY, 16) == b"m"
            assert content(two, KEY, digest) == b"one"
            two.arrived(KEY, two.stand(KEY))
            assert currents() == (True, True), "it was put there to be read"
            two.use(KEY, two.stand(KEY))
            assert currents() == (False, True), "an agent may have changed it since, without a snapshot"
            assert one.held_elsewhere([KEY, OTHER]) == {KEY}
            two.put_manifest(KEY, 32, b"n")
            assert currents() == (False, True)
            one.arrived(KEY, one.stand(KEY))
            assert currents() == (True, True)
            two.put_manifest(KEY, 48, b"o")
            assert currents() == (False, True)

        await run(act)


async def test_a_gateway_that_lost_its_place_keeps_nothing_and_removes_nothing(
    tmp_path: pathlib.Path, kind: str
) -> None:
    async with opened_store(tmp_path) as store:
        blobs = travelling(store, tmp_path, kind)
        await run(lambda: blobs.put_manifest(KEY, 16, b"m"))
        files: Any = store.files
        files._node = lambda: 10**9  # that of a start whose row is gone
        for refused in (
            lambda: blobs.put_manifest(KEY, 32, b"n"),
            lambda: blobs.keep(KEY, set(), set()),
            lambda: blobs.remove(KEY),
            lambda: blobs.use(KEY, blobs.stand(OTHER)),
        ):
            with pytest.raises(OSError, match="Another gateway has this session"):
                await run(refused)
        assert await run(lambda: blobs.places(KEY)) == [16]


async def test_a_damaged_content_in_the_store_is_told_from_a_whole_one(tmp_path: pathlib.Path) -> None:
    async with opened_store(tmp_path) as store:
        blobs = travelling(store, tmp_path, "store")
        large = os.urandom(3 * PART_BYTES)
        (one, _), (two, _) = await run(lambda: (blobs.put(KEY, [b"one" * 999]), blobs.put(KEY, [large])))
        await run(lambda: blobs.put_manifest(KEY, 16, b"m"))
        database: Any = store
        await database.transact(
            lambda c: c.execute("UPDATE file_contents SET body = set_byte(body, 9, 7) WHERE digest = $1", one)
        )
        with pytest.raises(ValueError, match="damaged"):
            await run(lambda: content(blobs, KEY, one))
        await database.transact(
            lambda c: c.execute("DELETE FROM file_contents WHERE digest = $1 AND part = 1", two)
        )
        with pytest.raises(ValueError, match="damaged"):
            await run(lambda: content(blobs, KEY, two))


async def test_a_shared_folder_that_is_not_there_is_an_error_in_words(tmp_path: pathlib.Path) -> None:
    async with opened_store(tmp_path) as store:
        blobs = travelling(store, tmp_path, "shared folder")
        (tmp_path / "shared").rename(tmp_path / "gone")
        for lost in (lambda: blobs.put(KEY, [b"x"]), blobs.check):
            with pytest.raises(OSError, match="is it mounted") as told:
                await run(lost)
            assert not isinstance(told.value, FileNotFoundError), "the session's file is not gone"


async def test_a_bucket_that_does_not_answer_is_told_from_a_file_that_is_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(monkeypatch) as url:
        contents = outside(url)
        contents.check()
        digest, _ = contents.put(KEY, [b"x"])
        contents.flush(KEY)
        contents.forget(KEY)
    for asked in (lambda: contents.flush(KEY), lambda: list(contents.get(KEY, digest)), contents.check):
        contents.put(KEY, [b"y"])
        with pytest.raises(OSError, match="the bucket does not answer") as told:
            await run(asked)
        assert not isinstance(told.value, FileNotFoundError)
    contents.close()


async def test_what_a_bucket_has_removed_without_saying_so_is_written_again(
    bucket_url: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore = pytest.importorskip("obstore", reason="requirements-dev.txt is not installed")
    contents, delete = outside(_of_its_own(bucket_url, tmp_path)), obstore.delete

    def cut(*args: Any) -> None:
        delete(*args)
        raise OSError("the answer is lost")

    def act() -> None:
        digest, _ = contents.put(KEY, [b"x"])
        contents.flush(KEY)
        with monkeypatch.context() as patch:
            patch.setattr(obstore, "delete", cut)
            with pytest.raises(OSError, match="the bucket does not answer"):
                contents.keep(KEY, set())
        contents.put(KEY, [b"x"])
        contents.flush(KEY)
        assert b"".join(contents.get(KEY, digest)) == b"x"

    await run(act)
    contents.close()
