"""How a snapshot's manifest is stored: as ever, and without holding up other threads however long it is."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import zlib
from collections.abc import Callable

import msgspec
import pytest

from gateway.files import manifest as module
from gateway.files.manifest import AT_ONCE, Entry, FilesManifest, packed, unpacked

MANY = 60_000


def made(count: int) -> FilesManifest:
    """One of so many files."""
    entries = tuple(Entry(b"work/%d" % one, "file", inode=one, digest=b"%032d" % one) for one in range(count))
    return FilesManifest(seq=7, turn_id="t", at=5, entries=entries, given=b"g", is_mixed=True)


@pytest.mark.parametrize("count", [0, 1, 15, 16, AT_ONCE, AT_ONCE + 1, 66_000])
def test_it_is_stored_as_one_call_would_do_it(count: int) -> None:
    one = made(count)
    assert zlib.decompress(packed(one)) == msgspec.msgpack.encode(one)
    assert unpacked(packed(one)) == one


def test_what_an_earlier_version_left_out_has_its_default() -> None:
    assert unpacked(zlib.compress(msgspec.msgpack.encode({"seq": 3}))) == FilesManifest(seq=3)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"x",
        *map(
            zlib.compress,
            [b"\xc1", msgspec.msgpack.encode([1]), msgspec.msgpack.encode({"seq": 1, "entries": [["x"]]}),
             msgspec.msgpack.encode({"seq": "x"}), msgspec.msgpack.encode({f"a{n}": 1 for n in range(20)}),
             msgspec.msgpack.encode(made(2))[:-1]],
        ),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="no manifest"):
        unpacked(stored)


def longest_hold(act: Callable[[], object]) -> float:
    """How much processor time `act` takes between two turns of another thread, in seconds."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    seen, is_over = [time.clock_gettime(clock)], threading.Event()

    def look() -> None:
        while not is_over.is_set():
            seen.append(time.clock_gettime(clock))
            time.sleep(0.0005)

    looking = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        looking.start()
        act()
        seen.append(time.clock_gettime(clock))
        is_over.set()
        looking.join()
    finally:
        sys.setswitchinterval(interval)
    return max(after - before for before, after in itertools.pairwise(seen))


def test_other_threads_run_while_a_long_one_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressing lets others run, and is left out here."""
    one = made(MANY)
    monkeypatch.setattr(zlib, "compress", lambda data, _level: data)
    in_pieces = min(longest_hold(lambda: packed(one)) for _ in range(3))
    monkeypatch.setattr(module, "AT_ONCE", MANY)
    at_once = min(longest_hold(lambda: packed(one)) for _ in range(3))
    assert in_pieces < at_once / 3, (in_pieces, at_once)
