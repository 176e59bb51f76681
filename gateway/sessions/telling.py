"""What a gateway tells the others that no log says: a fact that was noted beside a session which another one
has in memory; that a person who signed in has what a visitor had; who gets a session of one that is drained;
and what an application has for its like.

Guarantees: who notes a fact waits for nothing; facts about one session arrive in their order, each at most
once; how much waits is bounded. What can be told to nobody is dropped and counted: what it said is in the
store, and a session that nobody has in memory is shown as it is there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from gateway.errors import GatewayError
from gateway.events.facts import ApplicationFact, Event
from gateway.http.node_post import NodeDeaf
from gateway.principal import ConversationKey
from gateway.stores.directory import Directory, NodePlace
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

WAITING: Final = 1_000
"""So many facts wait to be told, at most."""
AT_ONCE: Final = 8
"""Sessions that are told of at once: each asks the store where it is."""
PAUSES: Final = (0.0, 0.25, 1.25, 3.0)
"""Before each try, in seconds: together as long as it takes to find a gateway dead."""
MOVED_SECONDS: Final = 1.0
"""For so long a sign-in waits until the others have heard of it."""
HEARD_KEPT: Final = 1_000
"""So many messages are known again."""
BODY_BYTES: Final = 256 * 1024
"""Of one message."""

SessionKey = tuple[str, str]
"""(owner, session id)."""
Outcome = Literal["told", "nobody", "dropped"]


class Aside(Struct, frozen=True, tag="aside"):
    """Facts of an application, for the log of a session."""

    mark: str
    owner: str
    session_id: str
    facts: tuple[Raw, ...]


class OwnerMoved(Struct, frozen=True, tag="moved"):
    """All that one owner had is another's: these sessions, by internal key, under their new ids."""

    mark: str
    giver: str
    taker: str
    sessions: dict[str, str]
    keeps_shares: bool


class Word(Struct, frozen=True, tag="word"):
    """What an application says to itself at the other gateways."""

    mark: str
    application: str
    said: Raw


class LetGo(Struct, frozen=True, tag="left"):
    """A gateway that is drained has let go of a session that somebody reads: who is told goes on with it."""

    mark: str
    owner: str
    session_id: str


NodeMessage = Aside | OwnerMoved | Word | LetGo
_decode: Final = msgspec.json.Decoder(NodeMessage).decode
_encode: Final = msgspec.json.Encoder().encode
Tell = Callable[[NodePlace, bytes], Awaitable[bool]]


class Listening(Protocol):
    """Who is told, of this gateway's: its sessions."""

    @property
    def directory(self) -> Directory | None:
        """Who has which session; None if this gateway has all."""

    async def note_here(self, owner: str, session_id: str, facts: Iterable[ApplicationFact]) -> bool:
        """Appends facts to a session in memory; False if it is not."""

    async def moved_elsewhere(
        self, giver: str, taker: str, sessions: Mapping[str, str], *, keeps_shares: bool
    ) -> None:
        """Another gateway has given all that one owner had to another one."""

    async def take(self, owner: str, session_id: str) -> None:
        """Brings a session into memory that another gateway has let go of, if nobody has it yet."""


class Telling:
    """See the module. `heard` is for what others tell; `close` it."""

    def __init__(
        self,
        sessions: Listening,
        *,
        tell: Tell,
        others: Callable[[], Iterable[NodePlace]],
        metrics: Metrics,
    ) -> None:
        """`tell` sends a message, and raises NodeDeaf; `others` are the living ones that share the store."""
        self._sessions = sessions
        self._tell = tell
        self._others = others
        self._metrics = metrics
        self.words: dict[str, Callable[[bytes], None]] = {}
        """What applications do with what their like tells them, by name."""
        self._due: dict[SessionKey, list[Raw]] = {}
        self._waiting = 0
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: OrderedDict[str, None] = OrderedDict()

    async def close(self) -> None:
        """Nothing more is told."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="telling")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- facts ------------------------------------------------------------------------------------------

    def aside(self, key: ConversationKey, fact: ApplicationFact) -> None:
        """Tells a fact to whoever has the session in memory."""
        if self._waiting >= WAITING:
            self._count("fact", "dropped")
            return
        name = (key.owner, key.conversation)
        self._waiting += 1
        due = self._due.get(name)
        if due is not None:
            due.append(Raw(_encode(fact)))
            return
        self._due[name] = [Raw(_encode(fact))]
        self._begin(self._tell_of(name))

    async def _tell_of(self, name: SessionKey) -> None:
        """All that is due of one session: what comes meanwhile goes with the next message."""
        due = self._due[name]
        try:
            while due:
                async with self._room:
                    facts, due[:] = tuple(due), ()
                    try:
                        outcome = await self._told(Aside(_mark(), *name, facts))
                    finally:
                        self._waiting -= len(facts)
                    self._count("fact", outcome, len(facts))
        finally:
            self._waiting -= len(due)
            del self._due[name]

    async def _told(self, aside: Aside) -> Outcome:
        body = _encode(aside)
        if len(body) > BODY_BYTES:
            return "dropped"
        outcome: Outcome = "dropped"
        for pause in PAUSES:
            await asyncio.sleep(pause)
            try:
                place = await self._holder(aside.owner, aside.session_id)
                if place is None:
                    return "told" if await self._noted(aside) else "nobody"
                if await self._tell(place, body):
                    return "told"
                outcome = "nobody"  # it leaves that one's memory; perhaps it comes into another's
            except (GatewayError, NodeDeaf) as error:
                outcome = "dropped"
                log.info("a fact of a session is not told yet: %s", error)
        return outcome

    async def _holder(self, owner: str, session_id: str) -> NodePlace | None:
        directory = self._sessions.directory
        return None if directory is None else await directory.holder(owner, session_id)

    async def _noted(self, aside: Aside) -> bool:
        """Appends the facts here, if the session is in memory."""
        events = [Event.stored(0, 0, bytes(fact)).data for fact in aside.facts]
        facts = [data for data in events if isinstance(data, ApplicationFact)]
        return await self._sessions.note_here(aside.owner, aside.session_id, facts)

    # -- what all hear ----------------------------------------------------------------------------------

    async def moved(self, giver: str, taker: str, sessions: dict[str, str], *, keeps_shares: bool) -> None:
        """Tells all others that what one owner had is another's, and waits a moment until they have heard."""
        message = OwnerMoved(_mark(), giver, taker, sessions, keeps_shares)
        telling = self._tell_all(message, "moved")
        if telling:
            await asyncio.wait(telling, timeout=MOVED_SECONDS)

    def say(self, application: str, said: bytes) -> None:
        """Tells an application's like at all others; `said` is JSON."""
        if len(self._tasks) >= WAITING:
            self._count("word", "dropped")
            return
        self._tell_all(Word(_mark(), application, Raw(said)), "word")

    def left(self, place: NodePlace, owner: str, session_id: str) -> None:
        """Tells a gateway that it gets a session of this one; without that, whoever is asked for it does."""
        if len(self._tasks) >= WAITING:
            self._count("left", "dropped")
            return
        self._begin(self._tell_one(place, _encode(LetGo(_mark(), owner, session_id)), "left"))

    def _tell_all(self, message: NodeMessage, what: str) -> list[asyncio.Task[None]]:
        body = _encode(message)
        return [self._begin(self._tell_one(place, body, what)) for place in self._others()]

    async def _tell_one(self, place: NodePlace, body: bytes, what: str) -> None:
        """As long as that one lives, but not for ever."""
        for pause in PAUSES:
            await asyncio.sleep(pause)
            if pause and place.id not in {other.id for other in self._others()}:
                self._count(what, "nobody")
                return
            try:
                self._count(what, "told" if await self._tell(place, body) else "nobody")
            except NodeDeaf as error:
                log.info("gateway %s is not told yet: %s", place.name, error)
            else:
                return
        self._count(what, "dropped")

    def _count(self, what: str, outcome: Outcome, number: int = 1) -> None:
        self._metrics.told.labels(what, outcome).inc(number)

    # -- what others tell -------------------------------------------------------------------------------

    async def heard(self, body: bytes) -> bool:
        """Does what another gateway tells, once; False if the session is not in memory here. Raises
        msgspec.DecodeError.
        """
        message = _decode(body)
        if message.mark in self._known:
            return True
        self._known[message.mark] = None  # first: the same may come again while this one waits
        if len(self._known) > HEARD_KEPT:
            self._known.popitem(last=False)
        is_done = await self._done(message)
        if not is_done:
            self._known.pop(message.mark, None)
        return is_done

    async def _done(self, message: NodeMessage) -> bool:
        match message:
            case Aside():
                return await self._noted(message)
            case OwnerMoved():
                await self._sessions.moved_elsewhere(
                    message.giver, message.taker, message.sessions, keeps_shares=message.keeps_shares
                )
            case LetGo():
                await self._sessions.take(message.owner, message.session_id)
            case Word() if (hear := self.words.get(message.application)) is not None:
                try:
                    hear(bytes(message.said))
                except Exception:
                    log.exception("an application failed at what its like at another gateway said")
        return True


def _mark() -> str:
    return secrets.token_hex(8)
