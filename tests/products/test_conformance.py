"""RFC 6455 on the gateway's connection layer: frames by hand, and two libraries that nobody here wrote.

The cases by hand follow the groups of the well-known fuzzing suite: reserved bits and opcodes, control
frames, fragmentation, UTF-8, closing.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import shutil
import struct
import sys
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from tests.patience import soon
from tests.shared import SHARED

pytestmark = SHARED

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
HANDSHAKE: Final = (
    b"GET /ws/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.products.echo_server"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    yield int(await soon(process.stdout.readline(), 15))
    process.terminate()
    await process.wait()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, bits: int = 0, masked: bool = True
) -> bytes:
    """A client's frame; the mask is of zeros, so that the payload can be read."""
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    size = len(payload)
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    else:
        head += bytes([mark | 126]) + struct.pack("!H", size)
    return head + (bytes(4) if masked else b"") + payload


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of a server's frames, none of which is longer than 64 KiB here."""
    found = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        found.append((data[0] & 15, data[start : start + size]))
        data = data[start + size :]
    return found


def close(code: int) -> bytes:
    return frame(CLOSE, struct.pack("!H", code))


UTF8 = "Hello-µ@ßöäüàá-UTF-8!!".encode()
CASES: Final[dict[str, tuple[bytes, int, list[bytes]]]] = {
    # name: (what the client sends, the code that the server closes with, the messages that come back before)
    "rsv1": (frame(TEXT, b"x", bits=0x40), 1002, []),
    "rsv2 in a ping": (frame(PING, bits=0x20), 1002, []),
    "rsv3 after a good message": (frame(TEXT, b"a") + frame(TEXT, b"x", bits=0x10), 1002, [b"a"]),
    "opcode 3": (frame(3), 1002, []),
    "opcode 11": (frame(11, b"x"), 1002, []),
    "no mask": (frame(TEXT, b"x", masked=False), 1002, []),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002, []),
    "a fragmented ping": (frame(PING, b"x", fin=False), 1002, []),
    "a fragmented close": (frame(CLOSE, fin=False), 1002, []),
    "a continuation of nothing": (frame(CONT, b"x"), 1002, []),
    "a message inside another": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, []),
    "two fragments": (frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + close(1000), 1000, [b"ab"]),
    "empty fragments": (
        frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(CONT) + close(1000), 1000, [b""],
    ),
    "utf-8": (frame(TEXT, UTF8) + close(1000), 1000, [UTF8]),
    "utf-8 cut inside a character": (
        frame(TEXT, UTF8[:7], fin=False) + frame(CONT, UTF8[7:]) + close(1000), 1000, [UTF8],
    ),
    "no utf-8": (frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), 1007, []),
    "a lone continuation byte": (frame(TEXT, b"\x80"), 1007, []),
    "over long": (frame(TEXT, b"\xc0\xaf"), 1007, []),
    "above U+10FFFF": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007, []),
    "a character that does not end": (frame(TEXT, b"\xce"), 1007, []),
    "bytes that are no utf-8 in a binary message": (frame(BINARY, b"\xff") + close(1000), 1000, [b"\xff"]),
    "close without a code": (frame(CLOSE), 1005, []),
    "close of one byte": (frame(CLOSE, b"x"), 1002, []),
    "close with words that are no utf-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007, []),
    "close with 999": (close(999), 1002, []),
    "close with 1005": (close(1005), 1002, []),
    "close with 1006": (close(1006), 1002, []),
    "close with 1015": (close(1015), 1002, []),
    "close with 3000": (close(3000), 3000, []),
    "a message after close": (close(1000) + frame(TEXT, b"late"), 1000, []),
    "close within a message": (frame(TEXT, b"a", fin=False) + close(1000), 1000, []),
    "a ping after close": (close(1000) + frame(PING), 1000, []),
}  # fmt: skip


@pytest.mark.parametrize("how", ["with the handshake", "at once", "byte by byte"])
@pytest.mark.parametrize("name", CASES)
async def test_a_frame_is_what_the_standard_says(port: int, name: str, how: str) -> None:
    sent, code, messages = CASES[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    first, last = (sent.removesuffix(close(1000)), close(1000)) if messages else (sent, b"")
    is_early = how == "with the handshake"
    writer.write(HANDSHAKE + first if is_early else HANDSHAKE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    pieces = [first[n : n + 1] for n in range(len(first))] if how == "byte by byte" else [first]
    for piece in [] if is_early else pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    answer = b""
    while messages and code == 1000 and not frames_in(answer):  # what is answered before it is closed
        answer += await soon(reader.read(65536), 15)
    writer.write(last)
    found = frames_in(answer + await soon(reader.read(), 15))
    writer.close()
    await writer.wait_closed()
    told = [struct.unpack("!H", payload[:2])[0] if payload else 1005 for op, payload in found if op == CLOSE]
    said = [payload for op, payload in found if op in (TEXT, BINARY)]
    assert told == [code], found
    assert said == messages or (said == [] and code != 1000), found


async def test_a_library_in_python_agrees(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/ws/echo") as socket:
        for message in ("", "x" * 70_000, b"", b"\x00" * 70_000, "שלום"):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(iter(["a", "b", "c"]))
        assert await socket.recv() == "abc"
        await soon(await socket.ping("hello"), 15)
    assert socket.close_code == 1000


async def test_a_library_in_javascript_agrees(port: int) -> None:
    node = shutil.which("node")
    if node is None or not (ROOT / "frontend" / "node_modules" / "ws").is_dir():
        pytest.skip("no Node with `npm ci` in frontend/")
    process = await asyncio.create_subprocess_exec(
        *(node, "tests/products/conformance.mjs", f"ws://127.0.0.1:{port}/ws/echo"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await soon(process.communicate(), 60)
    assert json.loads(said) == []
