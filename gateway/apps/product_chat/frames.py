"""Events of a product chat as the frames of its sockets: encoded once for all readers.

Every frame that follows from an event carries the event's `seq`. A client that connects again with `?after=`
gets the later frames in the same order, and none twice.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import msgspec

from gateway.apps.product_chat import facts
from gateway.events import facts as ev
from gateway.events.facts import Event, iso

CACHED: Final = 512
ASSISTANT: Final = "Assistant"
_CONNECTIONS: Final = (facts.ChatPost, facts.ChatPresence)


class Frames:
    """See the module."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], str | None] = OrderedDict()

    def of(self, key: str, session_id: str, event: Event, *, product_id: int | None = None) -> str | None:
        """The frame of an event; None if sockets are not told of it. `product_id` is the chat's."""
        name = (key, event.seq)
        if name in self._known:
            return self._known[name]
        content = content_of(session_id, event, product_id=product_id)
        text = None if content is None else encoded({**content, "seq": event.seq})
        self._known[name] = text
        if len(self._known) > CACHED:
            self._known.popitem(last=False)
        return text


def origin(event: Event) -> str | None:
    """The socket that an event came by, which needs no echo of it."""
    return event.data.connection_id if isinstance(event.data, _CONNECTIONS) else None


def encoded(content: dict[str, Any]) -> str:
    """A frame as text."""
    return msgspec.json.encode(content).decode()


def content_of(session_id: str, event: Event, *, product_id: int | None = None) -> dict[str, Any] | None:
    """What a frame says, without its seq."""
    where = {"session_id": session_id, "timestamp": iso(event.at)}
    match event.data:
        case facts.ChatPost() as post:
            return {
                "type": "chat_message", **where, "message": post.text, "sender_type": post.sender_type,
                "sender_name": post.sender_name, "sender_id": post.sender_id, "message_id": post.post_id,
                "connection_id": post.connection_id,
                **({"product_id": product_id} if post.connection_id is None else {}),
            }  # fmt: skip
        case facts.ChatRead() as read:
            return {
                "type": "message_read", **where, "message_ids": read.post_ids, "read_by": read.read_by,
                "read_by_type": read.read_by_type,
            }  # fmt: skip
        case facts.ChatStatus() as status:
            return {
                "type": "session_status", **where, "status": status.status, "assigned_to": status.person,
                "priority": status.priority,
            }  # fmt: skip
        case facts.ChatPresence(what="joined" | "left" as what) as presence:
            user = {"user_name": presence.user_name, "user_type": presence.user_type}
            return {"type": f"user_{what}", **where, **user}
        case facts.ChatPresence() as presence:
            return _typing(where, presence.user_name, presence.user_type, is_typing=presence.what == "typing")
        case ev.TurnStarted():
            return _typing(where, ASSISTANT, "assistant", is_typing=True)
        case ev.TurnEnded() | ev.TurnInterrupted():
            return _typing(where, ASSISTANT, "assistant", is_typing=False)
        case ev.SessionClosed(reason=reason):
            return {"type": "session_closed", **where, "reason": reason}
    return None


def _typing(where: dict[str, Any], name: str, kind: str, *, is_typing: bool) -> dict[str, Any]:
    return {
        "type": "typing_indicator", **where, "user_name": name, "user_type": kind, "is_typing": is_typing
    }  # fmt: skip
