"""The file of reservations: what outlives a process that is killed, and what does not."""

from __future__ import annotations

import asyncio
import pathlib
import random
import signal
import subprocess
import sys
from typing import Final

import msgspec
import pytest

from gateway.stores.ledger import LedgerCall
from gateway.stores.sqlite.reservations import CALLS_SUFFIX, FILE_BYTES, ReservationFile, records
from gateway.stores.sqlite.store import SqliteStore

ONE: Final = LedgerCall(id="one", at=5, owner="acme/alice", input=10, output=4096, is_estimated=True)
TWO: Final = msgspec.structs.replace(ONE, id="two")
KILLED: Final = """
import asyncio, os, pathlib, signal, sys
from gateway.stores.sqlite.store import SqliteStore
from tests.unit.test_reservations import ONE, TWO

async def main():
    store = SqliteStore(pathlib.Path(sys.argv[1]))
    await store.open()
    assert store.ledger.note(ONE) and store.ledger.note(TWO)
    await store.ledger.put([ONE])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def opened(path: pathlib.Path) -> tuple[ReservationFile, list[bytes]]:
    made = ReservationFile(path)
    return made, made.open()


def test_what_is_noted_is_there_until_it_is_dropped(tmp_path: pathlib.Path) -> None:
    for dropped in (False, True):
        one, found = opened(tmp_path / "calls")
        assert found == []
        assert one.note(b"first")
        assert one.note(b"second")
        one.close()
        again, found = opened(tmp_path / "calls")
        assert found == [b"first", b"second"]
        assert again.note(b"third")
        if dropped:
            again.drop()
            assert again.note(b"4")
        again.close()
        last, found = opened(tmp_path / "calls")
        assert found == ([b"4"] if dropped else [b"first", b"second", b"third"])
        last.drop()
        last.close()
        assert not any((tmp_path / "calls").read_bytes()), "nothing of anybody is left"
    assert (tmp_path / "calls").stat().st_mode & 0o077 == 0


def test_of_a_file_that_is_damaged_anywhere_what_is_whole_is_read(tmp_path: pathlib.Path) -> None:
    one, _ = opened(tmp_path / "calls")
    written = [bytes([65 + number]) * (number + 1) * 7 for number in range(5)]
    assert all(map(one.note, written))
    one.close()
    data = (tmp_path / "calls").read_bytes()
    whole = sum(8 + len(each) for each in written)
    for size in range(whole):
        found = records(data[:size])
        assert found == written[: len(found)]
    chance = random.Random(5)
    for _ in range(2_000):
        changed = bytearray(data[:whole])
        changed[chance.randrange(whole)] ^= 1 << chance.randrange(8)
        assert all(each in written for each in records(bytes(changed)))


def test_a_full_file_and_one_that_somebody_else_writes_take_nothing(tmp_path: pathlib.Path) -> None:
    one, _ = opened(tmp_path / "calls")
    while one.note(bytes(5_000)):
        pass
    one.close()
    assert (tmp_path / "calls").stat().st_size == FILE_BYTES
    one, found = opened(tmp_path / "calls")
    assert len(found) == FILE_BYTES // 5_008
    other, seen = opened(tmp_path / "calls")
    assert (seen, other.note(b"x")) == ([], False)
    other.drop()
    other.close()
    one.drop()
    assert one.note(b"x")
    one.close()


@pytest.mark.parametrize("path", ["missing/calls", "folder", "link"])
def test_where_there_can_be_no_file_nothing_is_noted(path: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    one, found = opened(tmp_path / path)
    assert (found, one.note(b"x")) == ([], False)
    one.drop()
    one.close()
    assert not (tmp_path / "elsewhere").exists()


async def test_a_call_that_a_killed_process_only_noted_is_in_flight_for_the_next(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "gateway.db"
    words = (sys.executable, "-c", KILLED, str(path))
    ended = await asyncio.to_thread(subprocess.run, words, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    for settled in (False, True):
        store = SqliteStore(path)
        await store.open()
        flying = [] if settled else ["one", "two"]
        assert [call.id for call in await store.ledger.in_flight()] == flying
        await store.ledger.put([msgspec.structs.replace(call, status=0) for call in (ONE, TWO)])
        await store.close()
    assert records(path.with_name(path.name + CALLS_SUFFIX).read_bytes()) == []


async def test_what_is_settled_before_it_is_dropped_counts_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    store = SqliteStore(path)
    await store.open()
    assert store.ledger.note(ONE)
    assert store.ledger.note(TWO)
    await store.ledger.put([msgspec.structs.replace(ONE, status=200, output=3)])
    file = path.with_name(path.name + CALLS_SUFFIX)
    assert len(records(file.read_bytes())) == 2, "the other is on its way"
    copy = file.read_bytes()
    await store.ledger.put([TWO])
    assert records(file.read_bytes()) == []
    await store.close()
    file.write_bytes(copy)
    store = SqliteStore(path)
    await store.open()
    assert [call.id for call in await store.ledger.in_flight()] == ["two"]
    assert [(call.id, call.output) for call in await store.ledger.calls(limit=9)] == [
        ("two", 4096),
        ("one", 3),
    ]
    await store.close()
