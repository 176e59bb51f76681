"""Which host a TLS client names in its first message. Pure.

Facts: the server_name extension (RFC 6066), the ClientHello and its records (RFC 8446, 4.1.2 and 5.1).
"""

from __future__ import annotations

from typing import Final

HELLO_BYTES: Final = 16 * 1024
"""More than any client's first message: keys that withstand quantum computers take two kilobytes."""
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
_VERSION_AND_RANDOM: Final = 34


class NotTls(ValueError):
    """These are not the first bytes of a TLS client."""


def is_tls(data: bytes) -> bool:
    """Whether the first byte of a connection, if any, is one of TLS."""
    return data[:1] == bytes([_HANDSHAKE])


def server_name(data: bytes) -> str | None:
    """The host that a ClientHello names, empty if none; None if more bytes must come. Raises NotTls."""
    message = _message(data)
    if message is None:
        if len(data) >= HELLO_BYTES:
            raise NotTls("the first message is too long")
        return None
    try:
        return _named(message)
    except IndexError:
        raise NotTls("the first message is cut") from None


def _message(data: bytes) -> bytes | None:
    """The first handshake message out of its records; None while it is incomplete."""
    message, at = b"", 0
    while True:
        head = data[at : at + _RECORD_HEAD]
        if not _HEAD_BEGINS.startswith(head[:2]) or (len(head) > 2 and head[2] > 4):
            raise NotTls("no handshake")
        if len(head) < _RECORD_HEAD:
            return None
        size = int.from_bytes(head[3:])
        if not 0 < size <= HELLO_BYTES:
            raise NotTls("no handshake")
        at += _RECORD_HEAD
        message += data[at : at + size]
        if message[:1] != bytes([_CLIENT_HELLO]) and message:
            raise NotTls("no ClientHello")
        if len(message) >= _MESSAGE_HEAD:
            whole = _MESSAGE_HEAD + int.from_bytes(message[1:4])
            if whole > HELLO_BYTES:
                raise NotTls("the first message is too long")
            if len(message) >= whole:
                return message[_MESSAGE_HEAD:whole]
        at += size
        if at > len(data):
            return None


_HEAD_BEGINS: Final = bytes([_HANDSHAKE, 3])


def _named(message: bytes) -> str:
    at = _VERSION_AND_RANDOM
    at = _after(message, at, 1)
    at = _after(message, at, 2)
    at = _after(message, at, 1)
    if at == len(message):
        return ""
    extensions, _ = _vector(message, at, 2)
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(_take(extensions, at, 2))
        body, at = _vector(extensions, at + 2, 2)
        if kind == _SERVER_NAME:
            return _host(body)
    return ""


def _host(extension: bytes) -> str:
    names, _ = _vector(extension, 0, 2)
    if _take(names, 0, 1)[0] != _HOST_NAME:
        return ""
    host, _ = _vector(names, 1, 2)
    try:
        return host.decode("ascii")
    except UnicodeDecodeError:
        raise NotTls("the host is not ASCII") from None


def _after(data: bytes, at: int, width: int) -> int:
    return _vector(data, at, width)[1]


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Bytes behind their length, and what comes after them. Raises IndexError."""
    size = int.from_bytes(_take(data, at, width))
    return _take(data, at + width, size), at + width + size


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]
