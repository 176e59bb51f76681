"""Names of files, as people and programs of the web see them.

A name on Linux is bytes: any but `/` and NUL. Here a name is text, with bytes that are no UTF-8 as surrogates
(`os.fsdecode`). In an address it is percent-encoded, which every name survives; to a person it is shown with
U+FFFD for what is no text.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

SAFE: Final = "/"
USUAL_LENGTH: Final = 160
"""So long the names may be on average if there are as many as there may be: an agent can make each of them
thousands of characters long.
"""
LEAST_ROOM: Final = 4 * 1024 * 1024
"""So long they may be together in any case: a thousand nested folders take a megabyte."""


def room_for(most: int) -> int:
    """How long the names of at most so many files may be together, in bytes or characters."""
    return max(most * USUAL_LENGTH, LEAST_ROOM)


def in_query(query: bytes, parameter: bytes) -> str | None:
    """The value of a parameter of a query, byte for byte; the first, if there are several."""
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_to_bytes(name) == parameter:
            return os.fsdecode(unquote_to_bytes(value.replace(b"+", b" ")))
    return None


def encoded(name: str) -> str:
    """A name for an address: what comes back by `in_query`."""
    return quote_from_bytes(os.fsencode(name), safe=SAFE)


def shown(name: str) -> str:
    """A name for people, and for JSON, which has only text."""
    return os.fsencode(name).decode("utf-8", "replace")


def joined(folder: str, name: str) -> str:
    """The name of something in a folder."""
    return f"{folder}/{name}" if folder else name


def disposition(name: str, *, is_inline: bool = False) -> str:
    """The value of Content-Disposition for a file of this name (RFC 6266, RFC 8187).

    Characters that end a header or turn a name round are replaced; `filename*` has the others exactly.
    """
    kind = "inline" if is_inline else "attachment"
    text = "".join(letter if letter.isprintable() else "_" for letter in shown(name)) or "file"
    plain = "".join(letter if " " <= letter < "\x7f" and letter not in '"\\%' else "_" for letter in text)
    if plain == text:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(text, safe='')}"
