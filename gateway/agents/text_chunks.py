"""Pieces of text, which are most of what agents say, decoded once instead of in three steps. Pure.

Guarantee: it takes no line that `worker/acp.py` and `translate.py` would read differently. If one line of a
read is anything but a plain piece of text, nothing is taken, and all of them are read there.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType


class _Text(Struct, gc=False):
    type: Literal["text"]
    text: str


class _Chunk(Struct, tag_field="sessionUpdate", rename="camel", gc=False):
    content: _Text
    message_id: str | None = None


class MessageText(_Chunk, tag="agent_message_chunk", gc=False):
    """ACP `agent_message_chunk` of a text."""


class ThoughtText(_Chunk, tag="agent_thought_chunk", gc=False):
    """ACP `agent_thought_chunk` of a text."""


TextChunk = MessageText | ThoughtText


class _Params(Struct, gc=False):
    update: TextChunk


class _Line(Struct, gc=False):
    method: Literal["session/update"]
    params: _Params
    id: UnsetType | None = UNSET
    error: UnsetType | None = UNSET


_decode: Final = msgspec.json.Decoder(_Line).decode


def text_chunks(lines: bytes) -> list[TextChunk] | None:
    """What whole lines say; None if not all of them are plain pieces of text."""
    try:
        return [line.params.update for line in map(_decode, lines[:-1].split(b"\n"))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
