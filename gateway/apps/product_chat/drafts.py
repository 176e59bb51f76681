"""A message of a product chat before and after it has its number."""

from __future__ import annotations

from msgspec import Struct


class Draft(Struct, frozen=True, kw_only=True):
    """A message that somebody wants to say."""

    text: str
    name: str | None = None
    message_type: str = "text"
    client_id: str | None = None
    """The sender's own id of the message: messages with the same id are stored once."""
    connection_id: str | None = None


class PostedMessage(Struct, frozen=True):
    """A stored message."""

    message_id: int
    was_changed: bool
    """Whether cleaning changed what was typed."""
