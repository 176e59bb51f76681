"""What a file is, by its first bytes and its name. Pure.

The first bytes win: a program that is called `cat.png` is no picture. Only images of pixels count as images,
since only those are shown without a sandbox and understood by models: an SVG is a document with scripts.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Final

from gateway.files.media import BYTES, PICTURES, media_type

HEAD_BYTES: Final = 4096
"""So much of a file is looked at."""
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x7fELF", "application/x-elf"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
)
_ZIPPED: Final = ("application/vnd.", "application/java-archive", "application/epub+zip")
"""Types of files that are archives inside."""


def type_of(name: str, head: bytes) -> str:
    """The media type of a file with this name that begins with `head`."""
    found, guessed = sniffed(head), media_type(name)
    if found == "application/zip" and guessed.startswith(_ZIPPED):
        return guessed
    if found:
        return found
    claims_bytes = guessed in (*PICTURES, "application/pdf", "application/zip", "application/gzip")
    if claims_bytes or guessed == BYTES:
        return "text/plain" if head and is_text(head, is_cut=True) and guessed == BYTES else BYTES
    return guessed


def sniffed(head: bytes) -> str:
    """What the first bytes say; empty: nothing."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")


def is_image(kind: str) -> bool:
    """True for images of pixels."""
    return kind in PICTURES


def is_text(data: bytes, *, is_cut: bool = False) -> bool:
    """True for UTF-8 without NUL; of data that is cut the last character may be incomplete."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return is_cut and error.end == len(data) and len(data) - error.start < 4
    return True


def is_allowed(kind: str, patterns: Sequence[str]) -> bool:
    """True if a type is among these, such as `image/*`; no patterns allow all."""
    return not patterns or any(fnmatch.fnmatchcase(kind, pattern.lower()) for pattern in patterns)
