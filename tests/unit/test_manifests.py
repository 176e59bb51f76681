"""How a snapshot's manifest is stored: as ever, and without holding up other threads however long it is."""

from __future__ import annotations

import zlib
from typing import Any

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


def test_no_call_of_the_library_has_more_entries_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one lasts, no other thread runs; benchmarks/travelling_files.py measures for how long."""
    one, written, read = made(MANY), [], []
    encode, decode, entries = msgspec.msgpack.encode, msgspec.msgpack.decode, module._ENTRIES

    def counted_encode(value: Any) -> bytes:
        items = value.entries if isinstance(value, FilesManifest) else value
        written.append(sum(isinstance(item, Entry) for item in items))
        return encode(value)

    def counted_decode(data: bytes, **kwargs: Any) -> Any:
        found = decode(data, **kwargs)
        read.append(len(found.entries) if isinstance(found, FilesManifest) else 0)
        return found

    class Counted:
        @staticmethod
        def decode(data: bytes) -> list[Entry]:
            found = entries.decode(data)
            read.append(len(found))
            return found

    monkeypatch.setattr(msgspec.msgpack, "encode", counted_encode)
    monkeypatch.setattr(msgspec.msgpack, "decode", counted_decode)
    monkeypatch.setattr(module, "_ENTRIES", Counted)
    unpacked(packed(one))
    for counts in (written, read):
        assert (max(counts), sum(counts)) == (AT_ONCE, MANY)
