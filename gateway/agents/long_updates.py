"""A long `session/update` taken apart without decoding it whole. Pure.

Any member may be the long one: sixteen megabytes of text, of a title, of JSON. Text becomes deltas piece by
piece; JSON that is kept raw stays a view of the line; anything else that is long counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

PIECE_BYTES: Final = 64 * 1024
"""Text is handed on in pieces of about so many bytes."""
NAME_BYTES: Final = 4 * 1024
"""A longer title, id, kind or status counts as absent."""

_WHOLE: Final = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
"""Text up to the last escape, or pair of them, that ends inside."""

_Part = Raw | UnsetType


class Members(Struct, frozen=True, rename="camel"):
    """The members of an update, none of them decoded."""

    session_update: _Part = UNSET
    message_id: _Part = UNSET
    tool_call_id: _Part = UNSET
    title: _Part = UNSET
    kind: _Part = UNSET
    status: _Part = UNSET
    content: _Part = UNSET
    locations: _Part = UNSET
    raw_input: _Part = UNSET
    raw_output: _Part = UNSET

    def short(self) -> Raw:
        """The update as JSON with only those members that are short, and something for its content."""
        fields = {name: getattr(self, field) for field, name in _NAMES if field not in RAW_MEMBERS}
        kept = {n: v for n, v in fields.items() if isinstance(v, Raw) and _size(v) <= NAME_BYTES}
        if isinstance(self.content, Raw):
            kept["content"] = _SOME_CONTENT
        return Raw(_encode(kept))


class Content(Struct, frozen=True):
    """A content block, not decoded."""

    type: _Part = UNSET
    text: _Part = UNSET

    @property
    def is_text(self) -> bool:
        """Whether `text` holds a JSON string to be handed on in pieces."""
        return (
            isinstance(self.type, Raw)
            and bytes(memoryview(self.type)[:NAME_BYTES]) == b'"text"'
            and isinstance(self.text, Raw)
            and bytes(memoryview(self.text)[:1]) == b'"'
        )


RAW_MEMBERS: Final = ("content", "locations", "raw_input", "raw_output")
_NAMES: Final = tuple(zip(Members.__struct_fields__, Members.__struct_encode_fields__, strict=True))
_SOME_CONTENT: Final = Raw(b"{}")
_encode = msgspec.json.Encoder().encode
_string = msgspec.json.Decoder(str).decode
members = msgspec.json.Decoder(Members).decode
"""The members of an update. Raises msgspec.DecodeError."""
content = msgspec.json.Decoder(Content).decode
"""A content block. Raises msgspec.DecodeError."""


def pieces(text: Raw) -> Iterator[tuple[str, int]]:
    """A JSON string in pieces, each with how many bytes of the string are done after it. Raises
    msgspec.DecodeError if it is not well formed.
    """
    body = memoryview(text)
    start, end = 1, body.nbytes - 1
    while start < end:
        stop = min(start + PIECE_BYTES, end)
        if stop < end:
            stop = _cut(body, start, stop)
        yield _string(b'"%b"' % body[start:stop].tobytes()), stop
        start = stop


def _cut(body: memoryview, start: int, stop: int) -> int:
    """The last place up to `stop` that is inside no escape and no character."""
    found = _WHOLE.match(body, start, stop)
    cut = found.end() if found is not None else stop
    while cut > start and body[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut if cut > start else stop


def _size(value: Raw) -> int:
    return memoryview(value).nbytes
