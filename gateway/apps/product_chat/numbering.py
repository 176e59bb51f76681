"""The numbers of messages: each message of a product chat gets one, larger than every one before it in the
chat, whatever way it came.

Numbers come in blocks that the store reserves, so that one costs a transaction only now and then, and
gateways on one store never give the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from gateway.apps.product_chat import facts, words
from gateway.apps.product_chat.frames import ASSISTANT
from gateway.apps.product_chat.posting import VISITOR, Posting, posting_of
from gateway.errors import GatewayError
from gateway.events.fold import Message
from gateway.extension import Session

log = logging.getLogger(__name__)

SYSTEM: Final = "System"
REPEATS: Final = 5
"""Messages of a visitor that a new one is compared with."""
AGAIN_SECONDS: Final = 1.0
"""After the store gave no numbers."""
_SENDERS: Final[dict[str, tuple[facts.PosterType, str]]] = {
    "user": ("customer", VISITOR),
    "agent": ("assistant", ASSISTANT),
    "system": ("system", SYSTEM),
}


class Numbers:
    """Numbers, each given once, to those who ask in the order in which they asked."""

    def __init__(self, reserve: Callable[[], Awaitable[range]]) -> None:
        """`reserve` gives numbers that are larger than all that it ever gave."""
        self._reserve = reserve
        self._left = range(0)
        self._turn = asyncio.Lock()

    async def take(self, count: int = 1, *, above: int) -> list[int]:
        """So many, ascending, all larger than `above`. Raises StoreFull, StoreFailed."""
        async with self._turn:
            taken: list[int] = []
            while len(taken) < count:
                left = _larger(self._left, above) or _larger(await self._reserve(), above)
                part = left[: count - len(taken)]
                taken += part
                self._left = left[len(part) :]
            return taken


class Numbering:
    """Gives the messages of sessions their numbers."""

    def __init__(self, reserve: Callable[[], Awaitable[range]]) -> None:
        self._numbers = Numbers(reserve)
        self._coming: set[tuple[str, str]] = set()
        """Messages whose numbers are on their way into the log."""
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Messages that have none get theirs when the session is loaded again."""
        for task in self._tasks:
            task.cancel()

    async def next(self, session: Session) -> int:
        """For a message that is about to be said. Raises StoreFull, StoreFailed."""
        posting = posting_of(session.fold)
        [number] = await self._numbers.take(above=0 if posting is None else posting.last)
        return number

    @contextlib.contextmanager
    def coming(self, session: Session, post: facts.ChatPost) -> Iterator[None]:
        """The message and its number go into the log together, but may become visible one after the other:
        meanwhile nobody gives it another number.
        """
        name = (session.record.key, post.message_id)
        self._coming.add(name)
        try:
            yield
        except BaseException:
            self._coming.discard(name)
            raise

    def arrived(self, session: Session, post: facts.ChatPost) -> None:
        """The number is in the log."""
        self._coming.discard((session.record.key, post.message_id))

    def soon(self, session: Session) -> None:
        """Numbers every message that has no number, as soon as the loop comes to it."""
        task = asyncio.create_task(self._number(session), name=f"number {session.record.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _number(self, session: Session) -> None:
        posting, key = posting_of(session.fold), session.record.key
        if posting is None or session.log.is_closed:
            return
        unposted = posting.unposted(session.fold.messages)
        found = [message for message in unposted if (key, message.id) not in self._coming]
        names = {(key, message.id) for message in found}
        self._coming |= names
        try:
            numbers = await self._numbers.take(len(found), above=posting.last)
        except GatewayError as error:
            self._coming -= names
            log.warning("session %s: messages have no numbers yet: %s", key, error)
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.soon, session)
            return
        if session.log.is_closed:
            self._coming -= names
        elif found:
            posts = (_numbered(session, posting, *one) for one in zip(found, numbers, strict=True))
            session.log.append(*posts, durable=True)


def spam_of(session: Session, text: str) -> int:
    """0 to 100: how much a visitor's message looks like spam, beside those before it."""
    before = [str(m.text) for m in session.fold.messages[-4 * REPEATS :] if m.sender == "user"][-REPEATS:]
    return words.spam_score(text, repeats=before.count(text))


def _larger(block: range, above: int) -> range:
    return block[max(0, above + 1 - block.start) :]


def _numbered(session: Session, posting: Posting, message: Message, number: int) -> facts.ChatPost:
    kind, name = _SENDERS[message.sender]
    text = str(message.text)
    is_customer = kind == "customer"
    return facts.ChatPost(
        number,
        message.id,
        kind,
        posting.customer if is_customer else name,
        text,
        spam_score=spam_of(session, text) if is_customer else 0,
    )
