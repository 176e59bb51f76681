"""The facts that product chat adds to a session's log. Pure."""

from __future__ import annotations

from typing import Final, Literal

from gateway.events.facts import ApplicationFact

PERSON_WANTED: Final = "person.wanted"
"""The webhook's event: a visitor wants a person."""
AWAY: Final = "away"
"""The type of the message that says nobody is there now."""

ChatStand = Literal["active", "pending", "in_progress", "resolved", "closed"]
ChatPriority = Literal["normal", "urgent"]
PosterType = Literal["customer", "assistant", "admin", "system"]


class ChatOpened(ApplicationFact, frozen=True, tag="chat_opened"):
    """The session is a product chat from here on: a visitor asks about this product."""

    product_id: int
    product_name: str
    customer_name: str | None = None
    customer_email: str | None = None


class ChatPost(ApplicationFact, frozen=True, tag="chat_post"):
    """A message of a product chat got its number. `message_id` is the message in this log, `client_id` what
    its sender calls it, `connection_id` the socket that it came by.
    """

    post_id: int
    message_id: str
    sender_type: PosterType
    sender_name: str
    text: str
    sender_id: str | None = None
    message_type: str = "text"
    client_id: str | None = None
    connection_id: str | None = None
    spam_score: int = 0


class ChatRead(ApplicationFact, frozen=True, tag="chat_read"):
    """Somebody has read these messages of a product chat."""

    post_ids: tuple[int, ...]
    read_by: str
    read_by_type: PosterType


class ChatStatus(ApplicationFact, frozen=True, tag="chat_status"):
    """Where a product chat stands; `person` has taken over from the agent (null: the agent answers)."""

    status: ChatStand
    person: str | None = None
    priority: ChatPriority = "normal"


class ChatPresence(ApplicationFact, frozen=True, tag="chat_presence"):
    """Somebody joined or left a product chat, began or stopped to type. Shown to who is there, never kept."""

    what: Literal["joined", "left", "typing", "stopped"]
    user_name: str
    user_type: PosterType
    connection_id: str = ""


FACTS = (ChatOpened, ChatPost, ChatRead, ChatStatus, ChatPresence)
