"""The contract of product chats as relations: rows that are read here, and written only from the log.

`project` turns an event of a session's log into rows, in the event's own commit, so that the tables can say
nothing that the log does not. `MemoryProducts` is the reference; every implementation is held to
tests/contract/test_products.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.apps.product_chat import facts
from gateway.events import facts as ev
from gateway.extension import MemoryTables, tenant_of


class ProductSession(Struct, frozen=True, kw_only=True):
    """A product chat. Times are milliseconds since 1970 UTC."""

    id: int
    session_id: str
    """What clients call it: unique in this gateway."""
    owner: str
    record_id: str
    """What its owner calls the session that carries it."""
    tenant: str
    product_id: int
    product_name: str
    customer_name: str | None
    customer_email: str | None
    status: facts.ChatStand
    priority: facts.ChatPriority
    assigned_to: str | None
    spam_score: int
    created_at: int
    updated_at: int
    last_message_at: int | None
    message_count: int = 0
    unread_count: int = 0
    """Of the customer's messages: what the staff has not read."""
    last_text: str | None = None
    """The last message."""
    last_sender: facts.PosterType | None = None
    waiting_since: int | None = None
    """When the customer wrote what nobody has answered yet; None: there is an answer to everything."""


class ProductMessage(Struct, frozen=True, kw_only=True):
    """A message of a product chat."""

    id: int
    session_id: int
    seq: int
    sender_type: facts.PosterType
    sender_id: str | None
    sender_name: str
    message_text: str
    message_type: str
    is_read: bool
    spam_score: int
    created_at: int
    updated_at: int


PROJECTED: Final = (facts.ChatOpened, facts.ChatPost, facts.ChatRead, facts.ChatStatus)
"""The events that rows are made of."""
CUSTOMER: Final = "customer"
ANSWERING: Final = ("assistant", "admin")
URGENT_FIRST: Final = {"urgent": 0, "normal": 1}


class ProductStore(Protocol):
    """See the module. Every method may raise StoreFailed."""

    async def numbers(self) -> range:
        """Numbers for messages, larger than all that were given before, by any gateway on this store; nobody
        else is given them.
        """

    async def find(self, session_id: str) -> ProductSession | None:
        """The chat of this id."""

    async def messages(
        self, row_id: int, *, limit: int, offset: int = 0, newest_first: bool
    ) -> Sequence[ProductMessage]:
        """A page of a chat's messages, by number."""

    async def count(self, row_id: int) -> int:
        """How many messages a chat has."""

    async def unread(self, row_id: int, *, by_customer: bool) -> Sequence[int]:
        """The numbers of the messages that the customer, or else the staff, has not read: the others'."""

    async def sessions(
        self,
        tenant: str,
        *,
        status: str | None,
        limit: int,
        offset: int = 0,
        search: str = "",
        with_messages: bool = False,
    ) -> Sequence[ProductSession]:
        """A tenant's chats, urgent ones first, then the last used first. `search`: those that have this text
        in a message, a name, an address or the product, whatever its case. `with_messages`: without those in
        which nobody has said anything.
        """


class MemoryProducts:
    """`ProductStore` in dictionaries, beside the sessions in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._record_of = tables.record_of
        tables.project(PROJECTED, self.project, drop=self.drop)
        self._chats: dict[str, ProductSession] = {}
        self._messages: dict[int, list[ProductMessage]] = {}
        self._last_chat = 0
        self._last_message = 0

    def project(self, key: str, event: ev.Event) -> None:
        """Takes an event in."""
        record, chat = self._record_of(key), self._chats.get(key)
        if record is None:
            return
        match event.data:
            case facts.ChatOpened() as opened if chat is None:
                self._last_chat += 1
                self._chats[key] = ProductSession(
                    id=self._last_chat, session_id=record.session_id, owner=record.owner,
                    record_id=record.session_id, tenant=tenant_of(record.owner),
                    product_id=opened.product_id, product_name=opened.product_name,
                    customer_name=opened.customer_name, customer_email=opened.customer_email,
                    status="active", priority="normal", assigned_to=None, spam_score=0,
                    created_at=event.at, updated_at=event.at, last_message_at=None,
                )  # fmt: skip
            case facts.ChatPost() as post if chat is not None:
                self._post(key, chat, post, event)
            case facts.ChatRead(post_ids=post_ids) if chat is not None:
                rows = self._messages.get(chat.id, [])
                for index, row in enumerate(rows):
                    if row.id in post_ids:
                        rows[index] = msgspec.structs.replace(row, is_read=True, updated_at=event.at)
            case facts.ChatStatus() as status if chat is not None:
                self._chats[key] = msgspec.structs.replace(
                    chat,
                    status=status.status,
                    priority=status.priority,
                    assigned_to=status.person,
                    updated_at=event.at,
                )

    def _post(self, key: str, chat: ProductSession, post: facts.ChatPost, event: ev.Event) -> None:
        self._last_message = max(self._last_message, post.post_id)
        self._messages.setdefault(chat.id, []).append(
            ProductMessage(
                id=post.post_id, session_id=chat.id, seq=event.seq, sender_type=post.sender_type,
                sender_id=post.sender_id, sender_name=post.sender_name, message_text=post.text,
                message_type=post.message_type, is_read=False, spam_score=post.spam_score,
                created_at=event.at, updated_at=event.at,
            )
        )  # fmt: skip
        self._chats[key] = msgspec.structs.replace(
            chat,
            spam_score=max(chat.spam_score, post.spam_score),
            updated_at=event.at,
            last_message_at=event.at,
        )

    def drop(self, key: str) -> None:
        """A session was deleted, and its chat with it."""
        chat = self._chats.pop(key, None)
        if chat is not None:
            self._messages.pop(chat.id, None)

    def _fresh(self, key: str) -> ProductSession | None:
        record, chat = self._record_of(key), self._chats.get(key)
        if record is None or chat is None:
            return None
        rows = sorted(self._messages.get(chat.id, []), key=lambda row: row.id)
        last = rows[-1] if rows else None
        answered = max((row.id for row in rows if row.sender_type in ANSWERING), default=0)
        waits = [row.created_at for row in rows if row.sender_type == CUSTOMER and row.id > answered]
        return msgspec.structs.replace(
            chat,
            last_text=last.message_text if last is not None else None,
            last_sender=last.sender_type if last is not None else None,
            waiting_since=waits[0] if waits else None,
            owner=record.owner,
            record_id=record.session_id,
            message_count=len(rows),
            unread_count=sum(row.sender_type == CUSTOMER and not row.is_read for row in rows),
        )

    async def numbers(self) -> range:
        return range(self._last_message + 1, sys.maxsize)

    async def find(self, session_id: str) -> ProductSession | None:
        keys = (key for key, chat in self._chats.items() if chat.session_id == session_id)
        return next(filter(None, map(self._fresh, keys)), None)

    async def messages(
        self, row_id: int, *, limit: int, offset: int = 0, newest_first: bool
    ) -> Sequence[ProductMessage]:
        rows = sorted(self._messages.get(row_id, []), key=lambda row: row.id, reverse=newest_first)
        return rows[offset : offset + limit]

    async def count(self, row_id: int) -> int:
        return len(self._messages.get(row_id, []))

    async def unread(self, row_id: int, *, by_customer: bool) -> Sequence[int]:
        rows = self._messages.get(row_id, [])
        return [row.id for row in rows if not row.is_read and (row.sender_type == CUSTOMER) != by_customer]

    async def sessions(
        self,
        tenant: str,
        *,
        status: str | None,
        limit: int,
        offset: int = 0,
        search: str = "",
        with_messages: bool = False,
    ) -> Sequence[ProductSession]:
        chats = [chat for chat in filter(None, map(self._fresh, self._chats)) if chat.tenant == tenant]
        found = [chat for chat in chats if status in (None, chat.status) and self._has(chat, search)]
        found = [chat for chat in found if chat.last_text is not None or not with_messages]
        found.sort(key=lambda c: (URGENT_FIRST[c.priority], -(c.last_message_at or c.created_at), -c.id))
        return found[offset : offset + limit]

    def _has(self, chat: ProductSession, search: str) -> bool:
        said = (row.message_text for row in self._messages.get(chat.id, []))
        texts = (chat.product_name, chat.customer_name or "", chat.customer_email or "", *said)
        return not search or any(search.lower() in text.lower() for text in texts)
