"""Events of a stream as they pass: whole frames only, and the id of the last one, however they arrive."""

from __future__ import annotations

import random

import pytest
from starlette.types import Message

from gateway.http.frames import HELD_BYTES, FrameSplitter
from gateway.http.passing import KEPT_BYTES, KeptBody

FRAMES = [
    b"retry: 2000\n\n",
    b'id: 1\nevent: message\ndata: {"a":"\\n\\nid: 9"}\n\n',
    b": \n\n",
    b"id:2\ndata: x\n\n",
    b'event: present\ndata: {"seq":2}\n\n',
    b"event: late\nid: 3\ndata: y\n\n",
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 1000])
def test_frames_pass_whole_however_they_are_cut(size: int) -> None:
    sent = b"".join(FRAMES * 3)
    splitter, passed = FrameSplitter(), b""
    for start in range(0, len(sent), size):
        whole = splitter.feed(sent[start : start + size])
        passed += whole
        assert not whole or whole.endswith(b"\n\n")
        assert splitter.is_whole
        assert sent.startswith(passed)
        ids = [frame for frame in passed.split(b"\n\n") if b"id:" in frame.replace(b'"\\n\\nid: 9"', b"")]
        expected = ids[-1].split(b"id:")[1].split(b"\n")[0].strip() if ids else b""
        assert splitter.last_id == expected
    assert passed == sent
    assert splitter.last_id == b"3"


def test_what_is_not_whole_is_held_back_and_comes_again() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"id: 1\ndata: a\n\nid: 2\nda") == b"id: 1\ndata: a\n\n"
    assert splitter.last_id == b"1"
    assert splitter.end() == b"id: 2\nda"


def test_a_long_frame_passes_in_pieces_and_counts_when_it_is_whole() -> None:
    frame = b"id: 7\ndata: " + b"x" * (3 * HELD_BYTES) + b"\n\n"
    sent = b"id: 6\ndata: a\n\n" + frame + b"id: 8\ndata: b\n\n"
    splitter, passed, was_within = FrameSplitter(), b"", False
    at = 0
    chance = random.Random(1)
    while at < len(sent):
        size = chance.choice([1, 2, 1000, 65_536])
        passed += splitter.feed(sent[at : at + size])
        at += size
        if not splitter.is_whole:
            was_within = True
            assert splitter.last_id == b"6"
            assert len(passed) > at - size - 2  # it is not held
    assert was_within
    assert passed == sent
    assert splitter.last_id == b"8"


def test_the_end_of_a_long_frame_may_be_cut_in_two() -> None:
    splitter = FrameSplitter()
    long = b"id: 1\ndata: " + b"x" * HELD_BYTES + b"\n"
    passed = splitter.feed(long)
    assert not splitter.is_whole
    passed += splitter.feed(b"\n")
    assert splitter.is_whole
    assert passed == long + b"\n"
    assert splitter.last_id == b"1"


# -- bodies -----------------------------------------------------------------------------------------------


def arriving(*parts: bytes) -> KeptBody:
    left: list[Message] = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]

    async def receive() -> Message:
        return left.pop(0) if left else {"type": "http.disconnect"}

    return KeptBody(receive)


async def test_a_body_that_was_read_is_there_again() -> None:
    body = arriving(b"a", b"", b"b", b"c")
    assert body.whole is None
    await body()
    await body()
    assert b"".join([part async for part in body.parts()]) == b"abc"
    assert body.whole == b"abc"
    body.rewind()
    messages = [await body() for _ in range(5)]
    assert [message["type"] for message in messages] == ["http.request"] * 4 + ["http.disconnect"]
    assert [message.get("more_body") for message in messages[:4]] == [True, True, True, False]


async def test_a_body_that_is_too_long_is_not_kept() -> None:
    half = bytes(KEPT_BYTES // 2 + 1)
    body = arriving(half, half, b"x")
    await body()
    assert not body.is_lost
    await body()
    assert body.is_lost
    assert body.whole is None
    await body()
    assert body.whole is None
