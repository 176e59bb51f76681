"""The desk of a shop: product chats on the gateway's own sessions.

A product chat *is* a session of its visitor. What is said goes into the session's log, and the log is the
truth for order and real time; the tables `product_chat_sessions` and `product_chat_messages` are written
from the log's events, in the same commit (`store.py`). Whatever way a message came, by REST, by a socket, by
the six verbs or from the agent, it gets one number (`chat_post`), larger than every one before it.

While a person has taken over, the agent is not asked; it hears of what was said with its next prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from gateway.apps.product_chat import facts, words
from gateway.apps.product_chat.briefing import Briefings
from gateway.apps.product_chat.catalogue import ChatProduct, Products
from gateway.apps.product_chat.drafts import Draft, PostedMessage
from gateway.apps.product_chat.errors import ChatClosed, ChatIdTaken, ChatNotFound, UnknownProduct
from gateway.apps.product_chat.hours import OpeningHours
from gateway.apps.product_chat.notices import Notices
from gateway.apps.product_chat.numbering import SYSTEM, Numbering, spam_of
from gateway.apps.product_chat.posting import Posting, posting_of
from gateway.apps.product_chat.rates import Rates
from gateway.apps.product_chat.settings import ProductsConfig
from gateway.apps.product_chat.store import ProductSession, ProductStore
from gateway.events import facts as ev
from gateway.events.facts import Event, iso
from gateway.extension import Account, Context, MemoryBuckets, Observer, Principal, Session, tenant_of

SUPPORT: Final = "support"
AWAY_AGAIN_MILLISECONDS: Final = 12 * 3600 * 1000
"""A visitor is told so once a night."""


class StaffNotice(Struct, frozen=True, tag="staff_notice"):
    """What one gateway tells the others that it has told the staff."""

    tenant: str
    notice: dict[str, Any]


class Desk(Observer):
    """See the module."""

    def __init__(self, context: Context, store: ProductStore, catalogue: Callable[[], Products]) -> None:
        """`catalogue` says what can be chatted about now."""
        self._context = context
        self.store = store
        self._catalogue = catalogue
        self.notices = Notices()
        self._briefings = Briefings(self._settings, monotonic=context.monotonic)
        self.hours = OpeningHours(self._settings, wall_ms=context.wall_ms)
        self.rates = Rates(self._settings, MemoryBuckets(context.monotonic))
        self._manager = context.sessions
        self._numbering = Numbering(store.numbers)
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _settings(self) -> ProductsConfig:
        return self._context.settings(ProductsConfig)

    def close(self) -> None:
        """Lets go of what is known of the shop."""
        self._numbering.close()
        self._briefings.knowledge.close()

    # -- chats ------------------------------------------------------------------------------------------

    async def product(self, product_id: int) -> ChatProduct:
        """The product of this id. Raises UnknownProduct."""
        product = await self._catalogue().find(product_id)
        if product is None:
            raise UnknownProduct
        return product

    async def open_chat(
        self,
        principal: Principal,
        product: ChatProduct,
        session_id: str,
        *,
        name: str | None,
        email: str | None,
    ) -> tuple[ProductSession, bool]:
        """The visitor's chat of this id about the product, and whether it was there already.

        Raises ChatIdTaken if the id is another product's or another visitor's.
        """
        lock = self._opening.setdefault(session_id, asyncio.Lock())
        async with lock:
            known = await self.store.find(session_id)
            if known is not None:
                if (known.owner, known.product_id) != (principal.owner, product.id):
                    raise ChatIdTaken
                return known, True
            agent = self._settings().agent or None
            session = await self._manager.get_or_create(principal.owner, session_id, agent=agent)
            opened = facts.ChatOpened(product.id, product.name, name, email)
            await session.brief(Posting(opened).about, opened)
            made = await self.store.find(session_id)
        if made is None:
            raise ChatNotFound
        return made, False

    async def chat(self, principal: Principal, session_id: str, product_id: int | None) -> ProductSession:
        """The chat of this id, the caller's own or, for the staff, their tenant's; its product need not be
        sold any more.

        Raises UnknownProduct, or ChatNotFound: not there and not yours are the same.
        """
        found = await self.store.find(session_id)
        if found is not None and product_id in (None, found.product_id):
            if found.owner == principal.owner or is_staff_of(principal, found):
                return found
        elif product_id is not None:
            await self.product(product_id)
        raise ChatNotFound

    async def session(self, chat: ProductSession) -> Session:
        """The session that carries a chat. Raises ChatNotFound if it was deleted meanwhile."""
        session = await self._manager.find(chat.owner, chat.record_id)
        if session is None or posting_of(session.fold) is None:
            raise ChatNotFound
        return session

    # -- saying -----------------------------------------------------------------------------------------

    async def say_as_customer(
        self, chat: ProductSession, draft: Draft, *, key_id: str | None
    ) -> PostedMessage:
        """A visitor's message; the agent answers unless a person has taken over. Raises ChatClosed."""
        text = words.message_text(draft.text)
        product = await self._catalogue().find(chat.product_id)
        context = await self._briefings.context(text, product)
        session, posting = await self._writable(chat)
        post = await self._post(session, draft, text, sender=("customer", draft.name or posting.customer))
        if (known := _known(posting, draft)) is not None:
            return PostedMessage(known, text != draft.text)
        asks, was = words.asks_for_person(text), posting.priority
        status = _reopened(posting, is_urgent=asks)
        also: list[ev.EventData] = [post] if status is None else [status, post]
        account = Account(chat.owner, session.record.key, key_id)
        is_command = words.command_of(text) in self._settings().commands
        with self._numbering.coming(session, post):
            await session.chat(
                text, account=account, message_id=post.message_id, also=also, context=context,
                is_command=is_command,
            )  # fmt: skip
        if asks:
            await self._wanted(session, posting, was)
        return PostedMessage(post.post_id, text != draft.text)

    async def want_person(self, chat: ProductSession) -> None:
        """The visitor wants a person: the chat is urgent from here on. Raises ChatClosed."""
        session, posting = await self._writable(chat)
        was = posting.priority
        if (status := _reopened(posting, is_urgent=True)) is not None:
            await session.note(status)
        await self._wanted(session, posting, was)

    async def _wanted(self, session: Session, posting: Posting, was: facts.ChatPriority) -> None:
        """Tells who should come, once for each chat that becomes urgent; the visitor hears if nobody can."""
        if was != "urgent":
            about = {"product_id": posting.opened.product_id, "is_open": self.hours.is_open}
            self._context.notify(session, facts.PERSON_WANTED, about)
        now = self._context.wall_ms()
        if (
            self.hours.is_open
            or posting.person is not None
            or now - posting.away_at < AWAY_AGAIN_MILLISECONDS
        ):
            return
        text = self.hours.away
        draft = Draft(text=text, message_type=facts.AWAY)
        post = await self._post(session, draft, text, sender=("system", SYSTEM))
        with self._numbering.coming(session, post):
            await session.note(ev.MessageAdded(post.message_id, "system", text), post)

    async def say_as_staff(
        self, chat: ProductSession, draft: Draft, *, principal: Principal
    ) -> PostedMessage:
        """Stores a person's answer; answering takes the chat over. Raises ChatClosed."""
        text = words.message_text(draft.text)
        session, posting = await self._writable(chat)
        if (known := _known(posting, draft)) is not None:
            return PostedMessage(known, text != draft.text)
        name = draft.name or principal.subject
        if posting.person is None:
            await self.take_over(chat, name)
        post = await self._post(session, draft, text, sender=("admin", name), sender_id=principal.subject)
        with self._numbering.coming(session, post):
            await session.answer_as_person(post.message_id, text, post)
        return PostedMessage(post.post_id, text != draft.text)

    async def say_as_system(self, chat: ProductSession, draft: Draft) -> PostedMessage:
        """A notice to everybody in the chat."""
        text = words.message_text(draft.text)
        session, _ = await self._writable(chat)
        post = await self._post(session, draft, text, sender=("system", draft.name or SYSTEM))
        with self._numbering.coming(session, post):
            await session.note(ev.MessageAdded(post.message_id, "system", text), post)
        return PostedMessage(post.post_id, text != draft.text)

    async def _writable(self, chat: ProductSession) -> tuple[Session, Posting]:
        session = await self.session(chat)
        posting = posting_of(session.fold)
        if posting is None:
            raise ChatNotFound
        if posting.status == "closed":
            raise ChatClosed
        return session, posting

    async def _post(
        self,
        session: Session,
        draft: Draft,
        text: str,
        *,
        sender: tuple[facts.PosterType, str],
        sender_id: str | None = None,
    ) -> facts.ChatPost:
        number = await self._numbering.next(session)
        mark = "sp" if sender[0] == "system" else "p"
        return facts.ChatPost(
            number,
            f"{mark}{number}",
            *sender,
            text,
            sender_id=sender_id,
            message_type=words.short(draft.message_type, most=words.KIND_CHARACTERS) or "text",
            client_id=draft.client_id,
            connection_id=draft.connection_id,
            spam_score=spam_of(session, text) if sender[0] == "customer" else 0,
        )

    # -- what the staff does ----------------------------------------------------------------------------

    async def take_over(self, chat: ProductSession, name: str) -> None:
        """A person answers from here on, and the agent is silent."""
        session = await self.session(chat)
        await session.hand_over(facts.ChatStatus("in_progress", name, chat.priority))

    async def set_status(self, chat: ProductSession, status: facts.ChatStand, *, name: str) -> None:
        """Sets the chat's status: `in_progress` takes over, `pending` changes nothing else, every other one
        hands back to the agent.
        """
        if status == "in_progress":
            await self.take_over(chat, name)
            return
        session = await self.session(chat)
        person = chat.assigned_to if status == "pending" else None
        priority: facts.ChatPriority = "normal" if status in ("resolved", "closed") else chat.priority
        await session.note(facts.ChatStatus(status, person, priority))
        if status == "closed":
            await session.interrupt()

    # -- reading ----------------------------------------------------------------------------------------

    async def mark_read(
        self, chat: ProductSession, message_ids: list[int] | None, *, reader: tuple[facts.PosterType, str]
    ) -> list[int]:
        """Marks what others said as read, all of it or these; what was marked."""
        session = await self.session(chat)
        unread = await self.store.unread(chat.id, by_customer=reader[0] == "customer")
        wanted = unread if message_ids is None else set(message_ids).intersection(unread)
        marked = sorted(wanted)
        if marked:
            await session.note(facts.ChatRead(tuple(marked), reader[1], reader[0]))
        return marked

    # -- what the sessions say --------------------------------------------------------------------------

    def appended(self, session: Session, event: Event | None) -> None:
        """Numbers every message that has none, and tells the staff what is new."""
        posting = posting_of(session.fold)
        if posting is None:
            return
        match event.data if event is not None else None:
            case None | ev.MessageAdded() | ev.TurnEnded() | ev.TurnInterrupted() | facts.ChatOpened():
                self._numbering.soon(session)
            case facts.ChatPost() as post:
                self._numbering.arrived(session, post)
        if event is not None:
            self._notify(session, posting, event)

    def _notify(self, session: Session, posting: Posting, event: Event) -> None:
        tenant = tenant_of(session.record.owner)
        where = {
            "session_id": session.session_id,
            "product_id": posting.opened.product_id,
            "timestamp": iso(event.at),
        }
        match event.data:
            case facts.ChatPost(sender_type="customer") as post:
                self._tell_staff(
                    tenant,
                    {
                        "type": "new_customer_message", **where, "customer_name": post.sender_name,
                        "message": post.text, "message_id": post.post_id, "priority": posting.priority,
                        "is_spam": post.spam_score >= words.SPAM,
                    },
                )  # fmt: skip
            case facts.ChatOpened() | facts.ChatStatus():
                status = {"status": posting.status, "priority": posting.priority}
                self._tell_staff(
                    tenant,
                    {
                        "type": "session_status", **where, **status, "assigned_to": posting.person,
                        "customer_name": posting.customer,
                    },
                )  # fmt: skip

    def _tell_staff(self, tenant: str, notice: dict[str, Any]) -> None:
        """Tells those who watch the tenant, whichever gateway they watch at."""
        self.notices.put(tenant, notice)
        self._context.tell_others(msgspec.json.encode(StaffNotice(tenant, notice)))

    def hear(self, told: StaffNotice) -> None:
        """Another gateway has told its staff something."""
        self.notices.put(told.tenant, told.notice)


def is_staff_of(principal: Principal, chat: ProductSession) -> bool:
    """Whether somebody may answer as a person in this chat."""
    return SUPPORT in principal.scopes and principal.tenant == chat.tenant


def _known(posting: Posting, draft: Draft) -> int | None:
    return posting.clients.get(draft.client_id) if draft.client_id is not None else None


def _reopened(posting: Posting, *, is_urgent: bool) -> facts.ChatStatus | None:
    """The status that a visitor's message leads to; None: as it is."""
    status: facts.ChatStand = "in_progress" if posting.person is not None else "active"
    priority: facts.ChatPriority = "urgent" if is_urgent else posting.priority
    if (status, priority) == (posting.status, posting.priority):
        return None
    return facts.ChatStatus(status, posting.person, priority)
