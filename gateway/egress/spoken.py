"""HTTP/1.1 as workers' doors speak it: bounds of a head, answers in words, chunks. Pure."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 64 * 1024
FIELDS: Final = 200
REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    421: "Misdirected Request",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


def last_answer(status: int, words: str) -> bytes:
    """A whole answer in words, after which the connection ends."""
    body = f"{words}\n".encode()
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    """A chunk of a body; nothing for none, for an empty one would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def begun(needle: bytes, data: bytes) -> int:
    """How many bytes at the end of the data begin a needle, which the next piece may complete."""
    at = data.find(needle[:1], max(0, len(data) - len(needle) + 1))
    while at >= 0:
        if needle.startswith(data[at:]):
            return len(data) - at
        at = data.find(needle[:1], at + 1)
    return 0
