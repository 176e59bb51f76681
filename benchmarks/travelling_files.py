"""What it costs that a session's files travel: the first snapshot, an unchanged one, one of three changed
files, putting all of them on another gateway's disk, and removing the session; how much memory that takes,
and for how long it held up the gateway's loop.

`python -m benchmarks.travelling_files [--place store|folder|s3] [--files N …] [--megabytes M] [--rounds R]`.
With `--megabytes` the files together are so large, and half of that is noise, which no compression makes
smaller; without it they are text of about 10 KB. PostgreSQL is a server of its own, with fsync; a bucket is
moto's, in a process of its own. `--files 100000 --megabytes 2000` is the large form: three minutes and 10 GB
of disk. Runs as the user who starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import psutil

from gateway.config.files import FilesConfig
from gateway.config.tables import Config
from gateway.files.beneath import Folder
from gateway.files.contents import Bridge, Contents, StoreContents
from gateway.files.place import outside
from gateway.files.putting_back import PuttingBack
from gateway.files.taking import Taker, Taking
from gateway.files.travelling import TravellingBlobs
from gateway.stores.contract import Store
from gateway.stores.opening import Options, migrations_of, open_store
from tests.aims import HeldUp
from tests.postgres import postgres
from tests.shared import free_port
from tests.travelling import travelling_blobs

KEY: Final = "session"
CHANGED: Final = 3
SETTLE_SECONDS: Final = 0.1
"""A file that was written just now is read twice."""
FILE_BYTES: Final = 9_500
FOLDER_FILES: Final = 50
TICK_SECONDS: Final = 0.005
MIB: Final = 1024 * 1024
BUCKET: Final = "files"
BUCKET_SECONDS: Final = 20
CONFIG: Final = FilesConfig(snapshot_mb=8_000, snapshot_files=1_000_000)


class Watch:
    """Memory of this process and the longest wait of its loop, since `begin`."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._least = 0
        self._most = 0
        self._longest = 0.0
        self._longest_with_core = 0.0

    def begin(self) -> None:
        """Counts from now on."""
        self._least = self._most = self._process.memory_info().rss
        self._longest = self._longest_with_core = 0.0

    async def run(self) -> None:
        """For ever, on the loop."""
        while True:
            began, look = time.perf_counter(), HeldUp()
            await asyncio.sleep(TICK_SECONDS)
            late = time.perf_counter() - began - TICK_SECONDS
            self._longest = max(self._longest, late)
            self._longest_with_core = max(self._longest_with_core, look.seconds(TICK_SECONDS))
            self._most = max(self._most, self._process.memory_info().rss)

    def words(self) -> str:
        """The figures."""
        return (
            f"memory +{(self._most - self._least) / MIB:6.1f} MiB  loop {self._longest * 1000:6.1f} ms, "
            f"{self._longest_with_core * 1000:5.1f} but for waiting for a core"
        )


async def measured(
    name: str,
    watch: Watch,
    rounds: int,
    act: Callable[[int], object],
    *,
    before: Callable[[int], object] = lambda number: None,
) -> None:
    """One row: `act` in a thread, so many times, each time after `before`."""
    passed, used = [], []

    def timed(number: int) -> None:
        before(number)
        cpu, began = time.thread_time(), time.perf_counter()
        act(number)
        passed.append(time.perf_counter() - began)
        used.append(time.thread_time() - cpu)

    watch.begin()
    for number in range(rounds):
        await asyncio.to_thread(timed, number)
    print(
        f"  {name:32s} median {statistics.median(passed):8.3f} s  least {min(passed):8.3f} s"
        f"  CPU of the thread {min(used):8.3f} s  {watch.words()}",
        flush=True,
    )


def text(rng: random.Random) -> str:
    """About as compressible as source code."""
    return " ".join(f"word{rng.randrange(400)}" for _ in range(FILE_BYTES // 8))


def fill(root: pathlib.Path, count: int, megabytes: int) -> None:
    """The files of a session."""
    rng, size = random.Random(1), megabytes * 1_000_000 // count
    lines = text(rng).encode()
    for number in range(count):
        path = name(root, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not megabytes:
            path.write_text(text(rng))
            continue
        words = b"%d\n" % number + lines * (size // 2 // len(lines) + 1)
        path.write_bytes(words[: size // 2] + rng.randbytes(size - size // 2))
    (root / "home").mkdir()


def name(root: pathlib.Path, number: int) -> pathlib.Path:
    """Of a file."""
    return root / "work" / f"d{number // FOLDER_FILES}" / f"f{number}.py"


@contextlib.contextmanager
def bucket() -> Iterator[str]:
    """The URL of a place in a bucket of moto's server."""
    port = free_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + BUCKET_SECONDS
            while True:
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port)
                    connection.request("PUT", f"/{BUCKET}")
                    connection.getresponse().read()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(SETTLE_SECONDS)
            yield f"s3://{BUCKET}/of?endpoint=http://127.0.0.1:{port}&region=us-east-1"
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[Store]:
    """A store on a server of its own."""
    async with postgres(is_durable=True) as server:
        options = Options(migrations=migrations_of(Config()))
        store = open_store(await server.database(), options)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


def gateway(store: Store, directory: pathlib.Path, place: str) -> TravellingBlobs:
    """The snapshots as a gateway with this data directory has them."""
    assert store.files is not None
    ask = Bridge()
    contents: Contents = StoreContents(store.files, ask) if place == "store" else outside(place)
    return travelling_blobs(store.files, contents, ask=ask, directory=directory)


async def run(directory: pathlib.Path, place: str, count: int, megabytes: int, rounds: int) -> None:
    """All rows for so many files."""
    root, rng, watch = directory / "session", random.Random(2), Watch()
    await asyncio.to_thread(fill, root, count, megabytes)
    size = await asyncio.to_thread(lambda: sum(name(root, one).stat().st_size for one in range(count)))
    print(f"{count} files, {size / 1e6:.1f} MB, {place.partition(':')[0]}, load {os.getloadavg()[0]:.1f}")
    async with database() as store:
        one, two = (gateway(store, directory / name, place) for name in ("one", "two"))
        ticking = asyncio.create_task(watch.run())
        taker, taken = Taker(one, travels=True), iter(range(1, 1_000_000))

        def take(_: int) -> None:
            found = taker.take(Taking(KEY, None, next(taken), "t", 0), root, CONFIG)
            assert not found.trouble, found

        def change(number: int) -> None:
            for one in rng.sample(range(count), CHANGED):
                name(root, one).write_text(text(rng))
            time.sleep(SETTLE_SECONDS)

        await asyncio.sleep(SETTLE_SECONDS)
        await measured("first snapshot", watch, 1, take)
        await asyncio.to_thread(take, 0)
        await measured("unchanged", watch, rounds, take)
        await measured(f"{CHANGED} files changed", watch, rounds, take, before=change)
        other = Taker(two, travels=True)

        def bring(number: int) -> None:
            two.forget(KEY)
            manifest = other.newest(KEY)
            assert manifest is not None
            target = directory / f"brought{number}"
            for top in ("home", "work"):
                (target / top).mkdir(parents=True)
            with Folder(target) as folder:
                PuttingBack(folder, two, KEY, None).fill(manifest.entries)

        await measured("putting all on another disk", watch, min(rounds, 3), bring)
        await asyncio.to_thread(is_equal, root, directory / "brought0", count)
        await measured("removing the session", watch, 1, lambda _: one.remove(KEY))
        ticking.cancel()
        for ended in (one, two):
            await asyncio.to_thread(ended.close)


def is_equal(root: pathlib.Path, other: pathlib.Path, count: int) -> None:
    """Stops with an error unless every file is as it was."""
    for number in range(count):
        assert name(root, number).read_bytes() == name(other, number).read_bytes(), number


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.travelling_files")
    parser.add_argument("--place", choices=("store", "folder", "s3"), default="store")
    parser.add_argument("--files", type=int, nargs="+", default=[200, 2_000])
    parser.add_argument("--megabytes", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for count in options.files:
        with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
            directory, place = pathlib.Path(made), options.place
            for part in ("one", "two", "shared"):
                (directory / part).mkdir()
            if place == "folder":
                place = (directory / "shared").as_uri()
            elif place == "s3":
                place = stack.enter_context(bucket())
            asyncio.run(run(directory, place, count, options.megabytes, options.rounds))


if __name__ == "__main__":
    main()
