"""What people and agents said, read off a stretch of a log. Pure.

Thoughts, system messages and tool calls are not texts of the conversation. A stretch that begins and ends
between turns has each of its messages whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from gateway.events import facts as ev

STARTS: Final[frozenset[type]] = frozenset((ev.TurnStarted,))
ENDS: Final[frozenset[type]] = frozenset((ev.TurnEnded, ev.TurnInterrupted))


class SaidText(Struct, kw_only=True):
    """A message: who said it, when it began, and the number of the last event that is in it."""

    message_id: str
    sender: ev.Sender
    at: int
    """In milliseconds since 1970 UTC."""
    seq: int
    parts: list[str]

    @property
    def text(self) -> str:
        """All of it."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""


class Texts:
    """The messages of a stretch, added event by event."""

    def __init__(self, events: Iterable[ev.Event] = ()) -> None:
        self.messages: dict[str, SaidText] = {}
        """By their ids, in the order in which they began."""
        self.withdrawn: set[str] = set()
        """Ids of those that were taken back, here or in an earlier stretch."""
        self.characters = 0
        """How long they are together, about."""
        for event in events:
            self.add(event)

    def add(self, event: ev.Event) -> None:
        """The next event."""
        match event.data:
            case ev.TextDelta(message_id=name, text=text):
                self._said(event, name, "agent").parts.append(text)
                self.characters += len(text)
            case ev.MessageAdded(message_id=name, sender=sender, content=text) if sender != "system":
                self._said(event, name, sender).parts = [text]
                self.characters += len(text)
            case ev.MessageWithdrawn(message_id=name):
                self.withdrawn.add(name)

    def _said(self, event: ev.Event, name: str, sender: ev.Sender) -> SaidText:
        message = self.messages.get(name)
        if message is None:
            message = self.messages[name] = SaidText(
                message_id=name, sender=sender, at=event.at, seq=event.seq, parts=[]
            )
        message.seq = event.seq
        return message
