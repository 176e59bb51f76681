"""What snapshots of a session's files cost: the first, an unchanged one, one of a few changed files, putting
all of them into a new session, and taking a turn back.

`python -m benchmarks.snapshots [ROUNDS]`. The files are text of about 10 KB in folders of twenty; a snapshot
is on the disk (fsync) when its time ends. Runs as the user who starts it.
"""

from __future__ import annotations

import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Final

from gateway.config.files import FilesConfig
from gateway.files.beneath import Folder
from gateway.files.blobs import FolderBlobs
from gateway.files.manifest import WORK
from gateway.files.putting_back import PuttingBack
from gateway.files.taking import STEPS, Taker, Taking

ROUNDS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 15
SIZES: Final = (200, 2_000)
FILE_BYTES: Final = 9_500
CHANGED: Final = 3
KEY: Final = "session"
SETTLE_SECONDS: Final = 0.1
"""A file that was written just now is read twice; agents end their turns later than that."""


Cost = tuple[float, float]
"""Seconds that passed, and seconds of CPU time of this thread."""


def measured(name: str, costs: list[Cost]) -> None:
    """One row."""
    passed, cpu = [cost[0] for cost in costs], [cost[1] for cost in costs]
    middle, least, used = (
        f(one) * 1000 for f, one in ((statistics.median, passed), (min, passed), (min, cpu))
    )
    print(f"  {name:34s} median {middle:8.2f} ms  least {least:8.2f} ms  CPU {used:8.2f} ms  n {len(costs)}")


def timed(act: Callable[[], object]) -> Cost:
    """What it costs once."""
    began, cpu = time.perf_counter(), time.thread_time()
    act()
    return time.perf_counter() - began, time.thread_time() - cpu


def text(rng: random.Random) -> str:
    """About as compressible as source code."""
    words = [f"word{rng.randrange(400)}" for _ in range(FILE_BYTES // 8)]
    return " ".join(words)


def run(count: int, directory: pathlib.Path) -> None:
    """All rows for so many files."""
    rng = random.Random(1)
    root, config = directory / "session", FilesConfig()
    for number in range(count):
        path = root / "work" / f"d{number // 20}" / f"f{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(rng))
    (root / "home").mkdir()
    time.sleep(SETTLE_SECONDS)
    blobs = FolderBlobs(directory / "snapshots")
    blobs.open()
    taker, seq = Taker(blobs), 0

    def take() -> None:
        nonlocal seq
        seq += 1
        taker.take(Taking(KEY, None, seq, "t", 0), root, config)

    print(f"{count} files, {count * FILE_BYTES / 1e6:.1f} MB")
    measured("first snapshot", [timed(take)])
    take()  # reads nothing any more
    measured("unchanged", [timed(take) for _ in range(ROUNDS)])
    changed: list[Cost] = []
    for _ in range(ROUNDS):
        for number in rng.sample(range(count), CHANGED):
            (root / "work" / f"d{number // 20}" / f"f{number}.py").write_text(text(rng))
        time.sleep(SETTLE_SECONDS)
        changed.append(timed(take))
    measured(f"{CHANGED} files changed", changed)
    fills: list[Cost] = []
    manifest = taker.newest(KEY)
    assert manifest is not None
    for number in range(ROUNDS):
        target = directory / f"fork{number}"
        for name in ("home", "work"):
            (target / name).mkdir(parents=True)
        with Folder(target) as folder:
            putting = PuttingBack(folder, blobs, KEY, None)
            fills.append(timed(lambda p=putting: p.fill(manifest.entries)))  # type: ignore[misc]
    measured("putting all into a new session", fills)
    before = taker.manifest(KEY, (seq - 1) * STEPS)
    assert before is not None
    with Folder(root) as folder:
        putting = PuttingBack(folder, blobs, KEY, None)
        measured(
            "taking a turn back",
            [timed(lambda: putting.undo(before.below(WORK), manifest.below(WORK), WORK))],
        )


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for count in SIZES:
        with tempfile.TemporaryDirectory() as directory:
            run(count, pathlib.Path(directory))


if __name__ == "__main__":
    main()
