"""The mirror: what the shopping assistant remembers, shown in Redis or Valkey for people with `redis-cli`.

Guarantees: nothing is ever read from there but how long a list is, so a server that is down, slow, full or
empty changes no answer and delays none; what is shown was committed before, and is written whole; what was
erased is erased there, too, as soon as the server answers; what waits is bounded. That something is wrong is
logged once, and so is its end; a metric counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from gateway.apps.shop.cart import Shop
from gateway.apps.shop.store import ShopKey
from gateway.apps.shopping_assistant import layout
from gateway.apps.shopping_assistant.layout import Mirrored
from gateway.apps.shopping_assistant.redis_server import (
    NOEVICTION,
    RedisFailed,
    RedisServer,
    Script,
    ServerFacts,
    ServerRefusal,
)
from gateway.apps.shopping_assistant.remembered import ShopMemory, entry
from gateway.apps.shopping_assistant.settings import MirrorNames
from gateway.errors import GatewayError, SessionElsewhere
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.fold import Message
from gateway.extension import Context, ConversationKey, Observer, Session

log = logging.getLogger(__name__)

WAITING: Final = 10_000
"""Sessions that wait to be written; past it the longest waiting is left out until it is used again."""
KNOWN: Final = 10_000
"""Sessions whose list is known; of another one the whole list is written."""
AT_ONCE: Final = 32
"""Sessions that are read and written together."""
TRIES: Final = 3
"""A session that the server refuses so often is left out until it is used again."""
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
LAST_SECONDS: Final = 1.0
"""A gateway that ends waits so long for what is still to be written."""
MESSAGES: Final = 200
"""Of one conversation, the newest: as many as its clients may read at once."""
MESSAGE_BYTES: Final = 1024 * 1024
"""All messages of one conversation."""
_TOLD: Final = frozenset({ev.MessageAdded, ev.MessageWithdrawn, ev.TurnEnded, ev.TurnInterrupted})
"""What changes a conversation, once it is whole."""


class _Wait(Struct, frozen=True):
    """Why a session waits."""

    is_erased: bool = False
    tries: int = 0


class Mirror(Observer):
    """See the module."""

    def __init__(
        self, context: Context, shop: Shop, remembered: ShopMemory, server: RedisServer, kind: MirrorNames
    ) -> None:
        self._shop = shop
        self._remembered = remembered
        self._server = server
        self._kind = kind
        self._counted = context.metrics.mirrored
        self._waiting: OrderedDict[ShopKey, _Wait] = OrderedDict()
        self._known: OrderedDict[ShopKey, bytes] = OrderedDict()
        """What the list of a session was when it was last written here (`layout.marks`)."""
        self._bell = asyncio.Event()
        self._idle = asyncio.Event()
        self._is_there = False
        """Whether the server did the last thing that it was asked."""
        self._trouble: Literal["", "away", "refusing"] = ""
        """What was logged, and is not over."""
        self._policy = NOEVICTION
        self._has_told_of_another = False
        shop.on_use.append(self.touch)

    # -- what happens to sessions -----------------------------------------------------------------------

    def touch(self, key: ShopKey) -> None:
        """Something that is shown of a session may be another now."""
        self._put(key, _Wait())

    def appended(self, session: Session, event: Event | None) -> None:
        if event is None or event.kind not in _TOLD:
            return
        said = event.data
        if isinstance(said, ev.MessageAdded) and said.is_streaming:
            return  # the end of its turn says when it is whole
        owner = session.record.owner
        self.touch(ConversationKey(owner.partition("/")[0], owner, session.session_id))

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        self._put(old, _Wait(is_erased=True))
        self.touch(new)

    async def adopted(self, giver: str, taker: str, *, tenant: str) -> None:
        for key in [key for key in (*self._known, *self._waiting) if key.owner == giver]:
            await self.moved(key, ConversationKey(tenant, taker, key.conversation))

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        """Of a session that was purged the cart may still be there."""
        self._put(key, _Wait(is_erased=reason == "deleted"))

    def _put(self, key: ShopKey, wait: _Wait) -> None:
        self._waiting.pop(key, None)
        self._waiting[key] = wait
        if len(self._waiting) > WAITING:
            self._waiting.popitem(last=False)
            self._counted.labels("left_out").inc()
        self._bell.set()

    # -- the task ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Mirrors for as long as the block runs; what waits at its end is still written if the server is
        well.
        """
        task = asyncio.create_task(self._run(), name="mirror")
        try:
            yield
        finally:
            if self._is_there:
                self._idle.clear()
                self._bell.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._idle.wait(), LAST_SECONDS)
            task.cancel()
            await asyncio.wait([task])
            await self._server.close()

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._bell.clear()
            try:
                if not self._is_there:
                    self._found(await self._server.look())
                await self._write_waiting()
                pause = FIRST_PAUSE_SECONDS
                self._idle.set()
                await self._bell.wait()
                self._idle.clear()
            except RedisFailed as error:
                self._failed("away", str(error))
            except _Refusing as error:
                self._failed("refusing", str(error))
            except Exception:
                log.exception("the mirror in Redis failed; it goes on")
            else:
                continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _found(self, found: ServerFacts) -> None:
        self._is_there = True
        self._known.clear()  # it may have been started anew
        if self._trouble == "away":
            self._well()
        if found.policy and found.policy not in (NOEVICTION, self._policy):
            words = (
                "Redis may drop keys by itself, so sessions may be missing there: its maxmemory-policy is %s "
                "and should be noeviction"
            )
            log.warning(words, found.policy)
        self._policy = found.policy or self._policy

    def _failed(self, trouble: Literal["away", "refusing"], words: str) -> None:
        self._is_there = False
        self._counted.labels("failed").inc()
        if not self._trouble:
            self._trouble = trouble
            log.warning("nothing is mirrored to Redis until it goes on; no session needs it: %s", words)

    def _well(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("Redis goes on: sessions are mirrored to it as they are used")

    # -- writing ----------------------------------------------------------------------------------------

    async def _write_waiting(self) -> None:
        """Raises RedisFailed and _Refusing; what was not written waits again."""
        while self._waiting:
            batch = dict(list(self._waiting.items())[:AT_ONCE])
            for key in batch:
                del self._waiting[key]
            try:
                refusal = await self._write(batch)
            except RedisFailed:
                for key, wait in reversed(batch.items()):
                    self._again(key, wait)
                raise
            if refusal:
                raise _Refusing(refusal)
            self._well()

    async def _write(self, batch: Mapping[ShopKey, _Wait]) -> str:
        """Writes these sessions as they are now; the words of a refusal. Raises RedisFailed."""
        found = await asyncio.gather(*(self._shown(key, wait) for key, wait in batch.items()))
        shown = dict(zip(batch, found, strict=True))
        scripts: dict[ShopKey, Script] = {}
        marks: dict[ShopKey, bytes] = {}
        for key, what in shown.items():
            if isinstance(what, Mirrored):
                now = marks[key] = layout.marks(what.messages or ())
                scripts[key] = layout.write(key, self._kind, what, before=self._known.get(key, b""), now=now)
            elif what == "unread":
                self._later(key, batch[key])
            elif batch[key].is_erased or key in self._known:
                scripts[key] = layout.erase(key, self._kind)
        answers = await self._server.run(list(scripts.values())) if scripts else []
        refusal = ""
        for key, answer in zip(scripts, answers, strict=True):
            self._known.pop(key, None)
            if isinstance(answer, ServerRefusal):
                refusal = answer.words
                self._later(key, batch[key])
            elif answer == layout.CHANGED:
                self._again(key, batch[key])  # and as a whole
            else:
                self._written(key, shown[key], answer, now=marks.get(key, b""))
        return refusal

    def _written(self, key: ShopKey, what: Mirrored | str, answer: int, *, now: bytes) -> None:
        if answer == layout.OF_ANOTHER:
            self._of_another(key)
        elif not isinstance(what, Mirrored):
            self._counted.labels("erased").inc()
        else:
            self._counted.labels("written").inc()
            if what.messages is not None:
                self._known[key] = now
                if len(self._known) > KNOWN:
                    self._known.popitem(last=False)

    async def _shown(self, key: ShopKey, wait: _Wait) -> Mirrored | Literal["gone", "unread"]:
        """What there is to show of a session now. Raises RedisFailed."""
        if wait.is_erased:
            return "gone"
        try:
            session = await self._shop.session(key)
            if session is None:
                return "gone"
            try:
                messages = [one for one in await self._remembered.messages(key) if not one.is_streaming]
                lines: list[bytes] | None = lines_of(messages)
                count = len(messages)
            except SessionElsewhere:  # that gateway mirrors its messages
                messages, lines = [], None
                count = await self._server.length(layout.names(key, self._kind)[1])
            info = await self._remembered.info(key, session, messages=count)
        except GatewayError as error:
            log.debug("session %s cannot be read for Redis: %s", key.conversation, error)
            return "unread"
        return Mirrored(
            info=msgspec.json.encode(info),
            info_seconds=math.ceil((session.expires_at - self._shop.now) / 1000),
            messages=lines,
            seconds=math.ceil(self._remembered.seconds_left(messages[-1].at)) if messages else 0,
        )

    def _again(self, key: ShopKey, wait: _Wait) -> None:
        """It waits in the first place, unless something newer is known."""
        if key not in self._waiting:
            self._waiting[key] = wait
            self._waiting.move_to_end(key, last=False)

    def _later(self, key: ShopKey, wait: _Wait) -> None:
        """It is tried again, but not for ever: only what is to be erased is."""
        if wait.is_erased or wait.tries + 1 < TRIES:
            self._again(key, _Wait(wait.is_erased, wait.tries + 1))
        else:
            self._counted.labels("left_out").inc()

    def _of_another(self, key: ShopKey) -> None:
        self._counted.labels("of_another").inc()
        if not self._has_told_of_another:
            self._has_told_of_another = True
            words = (
                "two owners have a session %s: Redis shows the one that it had first, and this is not said "
                'again. redis.mirror = "owned" shows both'
            )
            log.warning(words, key.conversation)


class _Refusing(Exception):
    """The server answers, and does not do what it is asked: it is full, or only to be read."""


def lines_of(messages: Sequence[Message]) -> list[bytes]:
    """The newest messages of a conversation as they are written, oldest first."""
    lines: list[bytes] = []
    room = MESSAGE_BYTES
    for message in reversed(messages):
        if len(lines) == MESSAGES or message.text.length > room:
            break
        line = msgspec.json.encode(entry(message))
        room -= len(line)
        lines.append(line)
    return lines[::-1]
