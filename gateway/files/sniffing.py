"""What a file is, by its first bytes and its name. Pure.

The first bytes win: a program that is called `cat.png` is no picture. Only images of pixels count as images,
since only those are shown without a sandbox and understood by models: an SVG is a document with scripts.
"""

from __future__ import annotations

import fnmatch
import mimetypes
from collections.abc import Sequence
from typing import Final

HEAD_BYTES: Final = 4096
"""So much of a file is looked at."""
IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
UNKNOWN: Final = "application/octet-stream"
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
_TEXTS: Final = {
    **dict.fromkeys((".md", ".markdown"), "text/markdown"),
    **dict.fromkeys((".yaml", ".yml"), "application/yaml"),
    **dict.fromkeys((".toml",), "application/toml"),
    **dict.fromkeys((".ts", ".tsx", ".mts"), "text/typescript"),
    **dict.fromkeys((".jsonl", ".ndjson"), "application/x-ndjson"),
    **dict.fromkeys((".log", ".ini", ".cfg", ".conf", ".env", ".rs", ".go", ".rb"), "text/plain"),
}
"""Endings that the table of the standard library does not have, or has for something else."""
_TEXT_TYPES: Final = (
    *("application/json", "application/xml", "application/yaml", "application/toml"),
    *("application/x-ndjson", "application/javascript", "application/x-sh", "application/sql"),
)
ENDINGS: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}


def type_of(name: str, head: bytes) -> str:
    """The media type of a file with this name that begins with `head`."""
    found, guessed = sniffed(head), guess(name)
    if found == "application/zip" and guessed.startswith(_ZIPPED):
        return guessed
    if found:
        return found
    claims_bytes = guessed in IMAGES or guessed in ("application/pdf", "application/zip", "application/gzip")
    if claims_bytes or guessed == UNKNOWN:
        return "text/plain" if head and is_text(head, is_cut=True) and guessed == UNKNOWN else UNKNOWN
    return guessed


def sniffed(head: bytes) -> str:
    """What the first bytes say; empty: nothing."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")


def guess(name: str) -> str:
    """What the name says."""
    _, dot, ending = name.lower().rpartition(".")
    known = _TEXTS.get(dot + ending)
    return known or mimetypes.guess_type(f"x.{ending}" if dot else "x")[0] or UNKNOWN


def is_image(media_type: str) -> bool:
    """True for images of pixels."""
    return media_type in IMAGES


def may_be_text(media_type: str) -> bool:
    """True for types whose files are text."""
    return (
        media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+xml", "+json"))
    )


def is_text(data: bytes, *, is_cut: bool = False) -> bool:
    """True for UTF-8 without NUL; of data that is cut the last character may be incomplete."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return is_cut and error.end == len(data) and len(data) - error.start < 4
    return True


def is_allowed(media_type: str, patterns: Sequence[str]) -> bool:
    """True if a type is among these, such as `image/*`; no patterns allow all."""
    return not patterns or any(fnmatch.fnmatchcase(media_type, pattern.lower()) for pattern in patterns)
