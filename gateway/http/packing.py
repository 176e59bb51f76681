"""Answers compressed for who takes that: JSON of some length, in gzip's quickest way, a slice at a time.

Only what says so here: conversations that their owners read (State, history, export), the list of their
sessions, and the description of the API. A compressed answer shows by its length how much in it is alike
(BREACH), so who can choose a part of an answer, have it sent again and again, and see its length could guess
the rest. Never compressed are therefore streams; answers of verbs, which repeat what was just sent; what a
link shows, where guests write beside the owner; files; and whatever holds a credential: keys, tokens,
sign-ins, addresses of files and links. What is compressed says nothing that the request chose, holds no
credential, and has a random length besides.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.config.addresses import is_loopback

PACKED_FROM_BYTES: Final = 16 * 1024
LEVEL: Final = 1
SLICE_BYTES: Final = 64 * 1024
"""About half a millisecond; between two of them others have their turn."""
PADDING_BYTES: Final = 128
"""Up to so many bytes are added, in the file name of gzip's header, which nobody reads."""
_HEAD: Final = b"\x1f\x8b\x08\x08\0\0\0\0\x04\xff"
"""RFC 1952: deflate, a file name follows, no time, the quickest way, no system."""


def packed(request: Request, response: Response) -> Response:
    """The same answer, compressed if its caller takes gzip, is at another machine, and it is worth it."""
    if any(name == b"vary" for name, _ in response.raw_headers):
        response.headers.add_vary_header("Accept-Encoding")
    else:
        response.raw_headers.append((b"vary", b"Accept-Encoding"))
    is_stream = isinstance(response, StreamingResponse)
    client = request.scope.get("client")
    if client is None or is_loopback(client[0]) or (not is_stream and len(response.body) < PACKED_FROM_BYTES):
        return response
    if not accepted(request.headers.get("accept-encoding", ""), ("gzip",)):
        return response
    if isinstance(response, StreamingResponse):
        parts = _bytes_of(response.body_iterator)
    else:
        parts = _slices(bytes(response.body))
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    headers["Content-Encoding"] = "gzip"
    return StreamingResponse(_gzip(parts), status_code=response.status_code, headers=headers)


def accepted(header: str, codings: Iterable[str]) -> list[str]:
    """Which of these codings an Accept-Encoding allows."""
    weights: dict[str, bool] = {}
    for part in header.lower().split(","):
        name, *parameters = (one.strip() for one in part.split(";"))
        weights[name] = not any(re.fullmatch(r"q=0(\.0*)?", one) for one in parameters)
    return [coding for coding in codings if weights.get(coding, weights.get("*", False))]


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]


async def _bytes_of(parts: AsyncIterable[str | bytes | memoryview]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield part.encode() if isinstance(part, str) else bytes(part)


async def _gzip(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    padding = secrets.token_hex(PADDING_BYTES // 2)[: secrets.randbelow(PADDING_BYTES)]
    yield _HEAD + padding.encode() + b"\0"
    packer, checksum, size = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS), 0, 0
    due = SLICE_BYTES
    async for part in parts:
        checksum, size = zlib.crc32(part, checksum), size + len(part)
        if made := packer.compress(part):
            yield made
        if size >= due:
            due = size + SLICE_BYTES
            await asyncio.sleep(0)
    yield packer.flush() + struct.pack("<II", checksum, size & 0xFFFF_FFFF)
