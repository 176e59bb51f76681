"""What a session's fold knows of the product chat that it carries, if it carries one. Pure.

In a product chat, `chat_post` assigns every message a number, for every sender and every way to send it.
`unposted` lists the messages that have no number yet, so that after a crash between a message and its number,
the number is assigned when the session is loaded again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from gateway.apps.product_chat.facts import AWAY, ChatOpened, ChatPost, ChatPriority, ChatStand, ChatStatus
from gateway.events.facts import EventData
from gateway.events.fold import ChatState, FoldPart

VISITOR = "Visitor"
"""Who gave no name."""
CUT_MARK = ".cut"
"""How the ids of messages end that say an answer was cut: a visitor sees who took over instead."""


class _Text(Protocol):
    length: int


class _Message(Protocol):
    """A message of the fold."""

    id: str
    is_streaming: bool

    @property
    def text(self) -> _Text: ...

    @property
    def says_nothing(self) -> bool: ...


M = TypeVar("M", bound=_Message)


class Posting:
    """A product chat: its product, its status, who answers, and which messages have numbers."""

    def __init__(self, opened: ChatOpened) -> None:
        self.opened = opened
        self.status: ChatStand = "active"
        self.priority: ChatPriority = "normal"
        self.person: str | None = None
        """Who has taken over from the agent."""
        self.away_at = 0
        """When the visitor last read that nobody is there."""
        self.last = 0
        """The largest number of a message."""
        self.clients: dict[str, int] = {}
        """The client's own names of messages that it sent, and their numbers."""
        self._posted: set[str] = set()
        self._done = 0
        """So many messages of the conversation, from its start, need no number any more."""

    @property
    def customer(self) -> str:
        """The visitor's name."""
        return self.opened.customer_name or VISITOR

    @property
    def about(self) -> str:
        """The text that the agent gets before the first prompt."""
        product = f"{self.opened.product_name} (product {self.opened.product_id})"
        return f"You answer a visitor of the shop who is looking at: {product}."

    def apply(self, data: ChatPost | ChatStatus, at: int) -> None:
        """Takes a fact in."""
        if isinstance(data, ChatStatus):
            self.status, self.person, self.priority = data.status, data.person, data.priority
            return
        if data.message_type == AWAY:
            self.away_at = at
        self.last = max(self.last, data.post_id)
        self._posted.add(data.message_id)
        if data.client_id is not None:
            self.clients[data.client_id] = data.post_id

    def unposted(self, messages: Sequence[M]) -> Iterator[M]:
        """The finished messages without a number, in order."""
        is_prefix = True
        for message in messages[self._done :]:
            needs = message.text.length and not (message.id.endswith(CUT_MARK) or message.says_nothing)
            is_done = not message.is_streaming and (message.id in self._posted or not needs)
            is_prefix = is_prefix and is_done and not message.says_nothing  # which goes, and others move up
            self._done += is_prefix
            if not is_done and not message.is_streaming:
                yield message


class ChatPart(FoldPart):
    """The product chat that a session carries, if it carries one."""

    __slots__ = ("posting",)
    name = "product_chat"

    def __init__(self) -> None:
        self.posting: Posting | None = None

    def apply(self, data: EventData, at: int) -> None:
        match data:
            case ChatOpened():
                self.posting = Posting(data)
            case ChatPost() | ChatStatus() if self.posting is not None:
                self.posting.apply(data, at)

    @property
    def person(self) -> str | None:
        return None if self.posting is None else self.posting.person

    @property
    def is_joined(self) -> bool:
        """A visitor's lines are one prompt, however many there are."""
        return self.posting is not None

    @property
    def refuses_commands(self) -> bool:
        """Whoever finds the shop's page is no user of its agent."""
        return self.posting is not None

    @property
    def briefing(self) -> str:
        return "" if self.posting is None else self.posting.about


def posting_of(fold: ChatState) -> Posting | None:
    """The product chat that a session carries."""
    return fold.part(ChatPart).posting
