"""SessionManager: the lock-guarded map from (owner, id) to session, and the one task group they live in.

The lock is held by plain `def`s only, and a `def` cannot await: no process is spawned, and nothing is waited
for, while the map is locked. A slot is reserved under the lock; the session is loaded or made outside it;
everybody else who asks for the same name meanwhile waits for that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET

from gateway.answers import Counts, SessionSummary
from gateway.buckets import TokenBuckets
from gateway.errors import (
    Draining,
    GatewayError,
    SessionElsewhere,
    SessionEnded,
    SessionExists,
    SessionFenced,
    SessionLimit,
    SessionNotFound,
    StoreFailed,
)
from gateway.events import facts as ev
from gateway.events.facts import iso
from gateway.events.lifecycle import CloseReason, SessionState
from gateway.principal import ConversationKey, Principal, reach, session_hash, tenant_of
from gateway.sessions.idempotency import Idempotency, Once
from gateway.sessions.log import EventLog
from gateway.sessions.membership import others_up
from gateway.sessions.reader import Shelf, Source
from gateway.sessions.recent_places import RecentPlaces
from gateway.sessions.services import Services
from gateway.sessions.session import Session
from gateway.sessions.telling import Telling
from gateway.sessions.tenures import Tenures
from gateway.stores.contract import Founding, SessionRecord, Tombstone
from gateway.stores.directory import Directory, NodePlace, Successors
from gateway.telemetry import logs
from worker.spec import Receipt

log = logging.getLogger(__name__)

SessionKey = tuple[str, str]
"""(owner, session id)."""

T = TypeVar("T")

RETRY_SECONDS: Final = 5
ENDED_RETRIES: Final = 3
"""How often a verb that met a session in its last moment is tried on the next life of it."""
ADOPTED: Final = 1_000
"""Sessions that somebody who signs in brings along, at most."""
DRAIN_POLL_SECONDS: Final = 0.05
RECOVERED_AT_ONCE: Final = 200
"""Sessions whose cut turns are ended together, so that they share their commits."""
RECOVERY_SECONDS: Final = 10.0
"""How long the end of a cut turn may take to be stored before the gateway serves without it."""
ELSEWHERE_SECONDS: Final = 1.0
"""How often those who wait for a session ask whether another gateway has it now."""
SHOWN_KEPT: Final = 1_000
"""Sessions that could not be stored and are remembered."""


class SessionManager:
    """See the module. `async with` opens it; leaving closes every session."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._sessions: dict[SessionKey, Session] = {}
        self._by_key: dict[str, Session] = {}
        """The same by internal key."""
        self._opening: dict[SessionKey, asyncio.Future[Session]] = {}
        self._newest: dict[str, str] = {}
        self._shown: OrderedDict[SessionKey, int] = OrderedDict()
        """The last number that was seen of sessions which could not be stored: the next goes on above it."""
        self._arrivals: dict[SessionKey, set[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None
        """Asks where those sessions are that somebody waits for."""
        self.places = RecentPlaces(services.monotonic)
        self.succession: Successors | None = None
        """Who has which session while one gateway takes the place of another on this machine, or gives all it
        has to the others of its store.
        """
        self.is_leaving = False
        """Whether it gives them to those."""
        self.telling: Telling | None = None
        """Tells other gateways what concerns their sessions; None until they are known."""
        self._tasks = asyncio.TaskGroup()
        limits = services.config.limits
        self._rates = TokenBuckets(
            rate=limits.session_requests_per_second,
            burst=limits.session_burst,
            monotonic=services.monotonic,
            on_refused=lambda: services.metrics.rejections.labels("session_requests_per_second").inc(),
        )
        self.idempotency = Idempotency(services.store.idempotency, wall_ms=services.wall_ms)
        self.tenures = Tenures()
        self.is_draining = False
        self.on_draining: Callable[[], None] = lambda: None
        """Hears that this gateway serves no stream any more."""

    async def __aenter__(self) -> SessionManager:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._begin_to_drain()
        for session in self.sessions():
            session.ask_to_close(CloseReason.DRAINED)
        await self._tasks.__aexit__(None, None, None)

    # -- the map ----------------------------------------------------------------------------------------

    def sessions(self) -> list[Session]:
        """Every session in the map."""
        with self._lock:
            return list(self._sessions.values())

    def names(self) -> set[SessionKey]:
        """Those in the map, and those that are about to enter it."""
        with self._lock:
            return self._sessions.keys() | self._opening.keys()

    def get(self, owner: str, session_id: str) -> Session | None:
        """The session in the map under this name."""
        with self._lock:
            return self._sessions.get((owner, session_id))

    def by_key(self, key: str) -> Session | None:
        """The session in the map with this internal key, for any owner."""
        with self._lock:
            return self._by_key.get(key)

    @property
    def directory(self) -> Directory | None:
        """Who has which session; None if this gateway has all."""
        return self.succession or self._services.store.directory

    async def here(self, owner: str, session_id: str) -> Session | None:
        """The session in the map under this name; None if no gateway has it in memory. Raises
        SessionElsewhere, StoreUnreachable.
        """
        self._check_place()
        session = self.get(owner, session_id)
        if (directory := self.directory) is None:
            return session
        if session is not None and not session.log.is_founded and not await self._is_founded(session):
            session = None  # another gateway was faster, and has what was said
        if session is None:
            _refuse(await self._place_of(directory, owner, session_id), session_id)
        return session

    async def _place_of(self, directory: Directory, owner: str, session_id: str) -> NodePlace | None:
        """Which other gateway has a session, or had it a moment ago."""
        if self.succession is not None:
            return await directory.holder(owner, session_id)
        name = owner, session_id
        if (place := self.places.find(name)) is None:
            place = await directory.holder(owner, session_id)
            if place is not None:
                self.places.note(name, place)
        return place

    async def here_by_key(self, key: str) -> Session | None:
        """The same by internal key."""
        self._check_place()
        session = self.by_key(key)
        if session is None and (directory := self.directory) is not None:
            _refuse(await directory.holder_of_key(key))
        return session

    def _check_place(self) -> None:
        """Raises StoreUnreachable if another gateway may have the sessions that are in memory here, so that
        nothing may be said of them.
        """
        if self.directory is not None and self._services.membership is not None:
            self._services.membership.check()

    def get_active_session_count(self) -> int:
        """How many sessions are in the map, with a worker or parked."""
        with self._lock:
            return len(self._sessions)

    async def counts(self, principal: Principal) -> Counts:
        """How many sessions are in memory within one's sight, and how many have a worker: for an operator
        those of all or of the tenant, for others their own. At other gateways those have one in which an
        answer is under way; of all, as many as their last beats said.
        """
        sessions, tenant = self.sessions(), reach(principal)
        if "operate" not in principal.scopes:
            sessions = [session for session in sessions if session.record.owner == principal.owner]
            others, answering = await self._count_elsewhere(owner=principal.owner)
        elif tenant is not None:
            sessions = [session for session in sessions if session.tenant == tenant]
            others, answering = await self._count_elsewhere(tenant=tenant)
        else:
            loads = [] if (member := self._services.membership) is None else member.others()
            others = sum(load.sessions for load in loads)
            answering = sum(min(load.workers, load.sessions) for load in loads)
        live = sum(session.is_live for session in sessions) + answering
        return Counts(len(sessions) + others, live, len(sessions) + others - live)

    async def _count_elsewhere(self, *, owner: str = "", tenant: str = "") -> tuple[int, int]:
        if (directory := self.directory) is None:
            return 0, 0
        return await directory.count_elsewhere(owner=owner, tenant=tenant)

    def summary(self, record: SessionRecord) -> SessionSummary:
        """A session as lists show it."""
        return SessionSummary(
            record.session_id,
            record.title,
            str(self.state_of(record)),
            record.agent,
            iso(record.created_at),
            iso(record.last_active_at),
            record.message_count,
            record.parent or UNSET,
        )

    def state_of(self, record: SessionRecord) -> SessionState:
        """The state of a session; of one that another gateway has, what is stored says."""
        session = self.get(record.owner, record.session_id)
        if session is not None:
            return session.state
        is_answering = self.directory is not None and record.open_turn == 1
        return SessionState.RUNNING if is_answering else SessionState.PARKED

    def _reserve(self, name: SessionKey) -> Session | asyncio.Future[Session] | None:
        """The session of this name, the future of a task that opens it, or None: the caller must open it."""
        with self._lock:
            known = self._sessions.get(name) or self._opening.get(name)
            if known is not None:
                return known
            if len(self._sessions) + len(self._opening) >= self._services.config.limits.max_sessions:
                raise SessionLimit(retry_after_seconds=RETRY_SECONDS)
            self._opening[name] = asyncio.get_running_loop().create_future()
            return None

    def _publish(self, name: SessionKey, session: Session) -> asyncio.Future[Session]:
        with self._lock:
            self._sessions[name] = self._by_key[session.record.key] = session
            return self._opening.pop(name)

    def _withdraw(self, name: SessionKey) -> asyncio.Future[Session]:
        with self._lock:
            return self._opening.pop(name)

    def _remove(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop((session.record.owner, session.session_id), None)
            self._by_key.pop(session.record.key, None)

    # -- the way in -------------------------------------------------------------------------------------

    async def do(
        self,
        owner: str,
        session_id: str,
        verb: Callable[[Session], Awaitable[T]],
        *,
        agent: str | None = None,
        is_making: bool = True,
        once: Once | None = None,
        counted_as: str = "",
        founds: bool = False,
        asks: bool = False,
    ) -> tuple[Session, T]:
        """Does `verb` on the session of this name, and returns the session and what the verb returned. Every
        face comes in here.

        A session that was reaped is revived; one that does not exist is made, unless `is_making` is False;
        one that ends meanwhile is met again in its next life. A request with a key (`once`) goes to the
        session it went to before. `counted_as`: whose rate it counts against, instead of the session's: that
        of a link. `founds`: a new session is stored together with what the verb says first; `asks`: that
        needs a worker. Raises RateLimited, StoreUnreachable, IdempotencyMismatch, SessionNotFound,
        SessionElsewhere, SessionEnded, and what `get_or_create` and the verb raise.
        """
        if self._services.membership is not None:
            self._services.membership.check()
        self._rates.take(counted_as or f"{owner}\0{session_id}")
        if once is not None:
            session_id = await self.idempotency.session_for(owner, once, session_id)
        for _ in range(ENDED_RETRIES):
            if is_making:
                session = await self._obtain(
                    (owner, session_id), agent=agent, is_making=True, is_spoken_to=asks
                )
                if session is not None and not founds and not await self._is_founded(session):
                    continue
            else:
                session = await self.find(owner, session_id)
            if session is None:
                raise SessionNotFound(session_id=session_id)
            with contextlib.suppress(SessionEnded, SessionFenced, *self._founded_elsewhere):
                try:
                    done = await verb(session)
                finally:
                    session.log.found_soon()  # a session whose first message was refused is there, too
                    if asks and not session.is_busy:
                        session.wake()  # nothing starts the worker that it was promised
                await session.founded()
                return session, done
        raise SessionEnded(session_id=session_id)

    def count_request(self, owner: str, session_id: str) -> None:
        """Counts a request against the rate of its session. Raises RateLimited, which is counted too."""
        self._rates.take(f"{owner}\0{session_id}")

    async def source(self, owner: str, session_id: str) -> Source | None:
        """Where the session of this name is read from; None if there is none. Reading starts nothing. Raises
        SessionElsewhere.
        """
        return await self.here(owner, session_id) or await self._shelf(owner, session_id)

    # -- finding and making -----------------------------------------------------------------------------

    def refuse_while_draining(self) -> None:
        """Raises Draining if the gateway no longer accepts new work, and no other one is known that does."""
        if self.is_draining and not self.is_leaving:
            raise Draining(retry_after_seconds=RETRY_SECONDS)

    def refuse_new(self) -> None:
        """Raises Draining, too, and SessionElsewhere if another gateway makes new sessions: one that has no
        name yet gets it there.
        """
        self.refuse_while_draining()
        if self.succession is not None:
            _refuse(self.succession.maker())

    async def get_or_create(self, owner: str, session_id: str, *, agent: str | None = None) -> Session:
        """The session of this name, revived from the store or made. Two callers at once get the same one.

        Raises UnknownAgent, SessionLimit, SessionElsewhere, Draining, StoreFull, StoreFailed.
        """
        for _ in range(ENDED_RETRIES):
            session = await self._obtain((owner, session_id), agent=agent, is_making=True)
            if session is None:
                raise SessionNotFound(session_id=session_id)
            if await self._is_founded(session):
                return session
        raise SessionExists(session_id=session_id)

    @property
    def _founded_elsewhere(self) -> tuple[type[SessionExists], ...]:
        """What a new session ends with if another gateway founded one of its name at the same moment."""
        return () if self.directory is None else (SessionExists,)

    async def _is_founded(self, session: Session) -> bool:
        """Waits until a session is stored; False, once it has left, if another gateway was faster. Raises
        what the store refused it with.
        """
        try:
            await session.founded()
        except self._founded_elsewhere:
            await asyncio.wait([session.left])
            return False
        return True

    async def find(self, owner: str, session_id: str) -> Session | None:
        """The session of this name, revived from the store if it was reaped; None if there is none. Raises
        SessionElsewhere.
        """
        if not await self.exists(owner, session_id):
            return None
        return await self._obtain((owner, session_id), agent=None, is_making=False)

    async def create(
        self, owner: str, session_id: str | None, *, agent: str | None = None, once: Once | None = None
    ) -> Session:
        """A new session; with a key, the one that the same request made before.

        Raises SessionExists and IdempotencyMismatch besides what `get_or_create` raises.
        """
        if session_id is None:
            self.refuse_new()
        self.refuse_while_draining()
        name = session_id or new_session_id()
        if once is None:
            await self._refuse_existing(owner, name)
        else:
            self._services.agent_for(owner, agent)  # a request that cannot be done must not use up its key
            if not await self.idempotency.has_seen(owner, once.key):
                await self._refuse_existing(owner, name)
            name = await self.idempotency.session_for(owner, once, name)
        return await self.get_or_create(owner, name, agent=agent)

    async def exists(self, owner: str, session_id: str) -> bool:
        """True if the owner has a session of this name, in memory or in the store, whichever gateway has
        it.
        """
        if self.get(owner, session_id) is not None:
            return True
        return await self._services.store.sessions.find(owner, session_id) is not None

    async def _refuse_existing(self, owner: str, session_id: str) -> None:
        """Raises SessionExists if the owner has a session of this id."""
        if await self.exists(owner, session_id):
            raise SessionExists(session_id=session_id)

    async def _obtain(
        self, name: SessionKey, *, agent: str | None, is_making: bool, is_spoken_to: bool = False
    ) -> Session | None:
        """`is_spoken_to`: if it is made, it needs its worker at once."""
        while True:
            known = self._reserve(name)
            if known is None:
                make = functools.partial(self._made, *name, agent, is_spoken_to=is_spoken_to)
                return await self._open(name, make if is_making else None)
            session = known if isinstance(known, Session) else await _outcome(known)
            if session is not None and not await self._is_founded(session):
                continue
            if session is not None and not session.is_ending:
                logs.bind(session=session.record.key)
                return session
            if session is not None:
                await asyncio.wait([session.left])
            elif not is_making:
                return None

    async def _open(self, name: SessionKey, make: Callable[[], Awaitable[Session]] | None) -> Session | None:
        """Loads or makes the session whose slot was reserved."""
        try:
            session = await self._load_or_make(name, make)
        except BaseException:
            self._withdraw(name).cancel()
            raise
        if session is None:
            self._withdraw(name).cancel()
            return None
        is_moved = self.by_key(session.record.key) is not None
        waiting = self._publish(name, session)
        if not is_moved:
            self._tasks.create_task(self._host(session), name=f"session {session.record.key}")
        waiting.set_result(session)
        self._newest[name[0]] = name[1] if make is not None else self._newest.get(name[0], name[1])
        self._ring(name)
        return session

    async def _load_or_make(
        self, name: SessionKey, make: Callable[[], Awaitable[Session]] | None
    ) -> Session | None:
        owner, session_id = name
        record = await self._claimed(owner, session_id)
        if record is None:
            return None if make is None else await make()
        if (moved := self.by_key(record.key)) is not None:
            self._note_moved(moved, record)
            return moved
        workspaces = self._services.workers.workspaces
        if record.uid is None and not workspaces.has_own_uids and (uid := workspaces.take_uid()) is not None:
            record = await self._given(record, uid)
        tombstone = await self.tombstone(owner, session_id)
        session = Session(record, self._services)
        await session.load(above=tombstone.last_seq if tombstone else 0)
        return session

    async def _claimed(self, owner: str, session_id: str) -> SessionRecord | None:
        """The record of a session, which is this gateway's from now on. Raises SessionElsewhere."""
        if (directory := self.directory) is None:
            return await self._services.store.sessions.find(owner, session_id)
        found = await directory.claim(owner, session_id)
        if isinstance(found, NodePlace):
            _refuse(found, session_id)
            return None
        if found is not None:
            self._services.metrics.claims.labels("asked").inc()
        return found

    def _note_moved(self, session: Session, record: SessionRecord) -> None:
        """Another gateway has given a session that is in memory here to another owner."""
        old = session.record.owner, session.session_id
        with self.tenures.ending(old[0]):
            with self._lock:
                self._sessions.pop(old, None)
            session.move(record.owner, record.session_id)
        self._services.waits.move(record.key, record.owner, record.session_id)
        self._newest.pop(old[0], None)
        self._wake_readers({old[0], record.owner})

    async def _given(self, record: SessionRecord, uid: int) -> SessionRecord:
        """A session that a gateway without uids of its own made: from now on it has one, and so have its
        files.
        """
        await self._services.workers.workspaces.give(record.key, uid)
        record = msgspec.structs.replace(record, uid=uid)
        await self._services.store.sessions.update(record)
        return record

    async def _made(
        self, owner: str, session_id: str, agent_name: str | None, *, is_spoken_to: bool
    ) -> Session:
        """A new session, which is stored with what is said in it first; if that is refused, all that was
        taken for it is given back (`_unmake`). One that is spoken to gets a spare worker, if there is one.
        Raises Draining, UnknownAgent, QuotaExceeded.
        """
        self.refuse_while_draining()
        services, now = self._services, self._services.wall_ms()
        agent, spares = services.agent_for(owner, agent_name), services.workers.spares
        tombstone = await self.tombstone(owner, session_id)
        with contextlib.ExitStack() as taken:
            await services.quotas.ready_to_store(owner)
            services.quotas.add_session(owner)
            taken.callback(services.quotas.unmake_session, owner)
            spare = spares.promise(agent, tenant_of(owner)) if is_spoken_to else None
            if spare is not None:
                taken.callback(spares.take_back, spare)
                key, uid = spare.key, spare.uid
            else:
                key, uid = secrets.token_hex(12), services.workers.workspaces.take_uid()
                services.workers.workspaces.settle_uid(key, uid)
                taken.callback(services.workers.workspaces.session_gone, key, uid)
                services.workers.workspaces.expect(key)  # before there are files, which a death would leave
                taken.callback(services.workers.workspaces.stored, key)
            made = _new_record(key, owner, session_id, agent.name, at=now, uid=uid)
            record = services.dated(made, used_at=now)
            session = Session(record, services)
            create = functools.partial(self._store, record)
            above = max(tombstone.last_seq if tombstone else 0, self._shown.pop((owner, session_id), 0))
            await session.begin(create, above=above)
            taken.pop_all()
        return session

    async def _store(self, record: SessionRecord, founding: Founding) -> None:
        await self._services.store.sessions.create(record, founding)
        if self.directory is not None:
            self._services.metrics.claims.labels("born").inc()
        self._services.quotas.session_stored(record.owner)
        self._services.workers.workspaces.stored(record.key)

    async def _erase_files(self, key: str) -> None:
        """Erases what is left of a session that is not stored."""
        workspaces = self._services.workers.workspaces
        await workspaces.remove(key)
        await self._services.snapshots.remove(key)
        workspaces.stored(key)

    async def _unmake(self, session: Session) -> None:
        """Gives back what was taken for a session that could not be stored."""
        record = session.record
        self._shown[record.owner, record.session_id] = session.log.last_seq
        if len(self._shown) > SHOWN_KEPT:
            self._shown.popitem(last=False)
        await self._erase_files(record.key)
        self._services.workers.workspaces.session_gone(record.key, record.uid)
        self._services.quotas.session_stored(record.owner)
        self._services.quotas.drop_session(record.owner, record.stored_bytes)
        self._services.quotas.forget_session(record.key)

    def newest_known(self, owner: str) -> str | None:
        """The id that entered the map last for this owner, as far as this process remembers."""
        return self._newest.get(owner)

    async def recover(self) -> int:
        """Ends the turns that the last gateway's death cut, so that no reader is shown one that runs; how
        many. What is left of sessions that it had begun and not stored is erased.
        """
        for key in self._services.workers.workspaces.expected():
            stand = await self._services.store.logs.stand(key)
            if stand.reserved_seq:  # its numbers are kept with it
                self._services.workers.workspaces.stored(key)
            else:
                await self._erase_files(key)
        return await self.end_cut_turns() if self.directory is None else await self.take_over()

    async def end_cut_turns(self) -> int:
        """Ends the turns that are open in the store although nobody runs them; how many."""
        found = await self._services.store.sessions.with_open_turn()
        records = [record for record in found if self.by_key(record.key) is None]
        for start in range(0, len(records), RECOVERED_AT_ONCE):
            await self._end_cut_turns(records[start : start + RECOVERED_AT_ONCE])
        return len(records)

    async def take_over(self) -> int:
        """Ends the turns that the death of other gateways cut, or of this one's last start: those that nobody
        else has taken over; how many. Raises StoreFailed.
        """
        count = 0
        while (directory := self.directory) is not None and not self.is_draining:
            records = await directory.claim_open(limit=RECOVERED_AT_ONCE)
            self._services.metrics.claims.labels("taken_over").inc(len(records))
            if not records:
                break
            cut = [record for record in records if record.open_turn == 1]
            for record in records:
                if record.open_turn != 1:
                    self._services.waits.add(record)
            await self._end_cut_turns(cut)
            count += len(cut)
        return count

    async def _end_cut_turns(self, records: Sequence[SessionRecord]) -> None:
        found = await asyncio.gather(
            *(self._end_cut_turn(record) for record in records), return_exceptions=True
        )
        for record, outcome in zip(records, found, strict=True):
            if isinstance(outcome, Exception):
                log.error("session %s: its cut turn was not ended", record.key, exc_info=outcome)
                await self.release(record.key)  # so that another gateway may try

    async def _end_cut_turn(self, record: SessionRecord) -> None:
        """Returns once readers are shown that it has ended."""
        session = await self.find(record.owner, record.session_id)
        if session is not None:
            async with asyncio.timeout(RECOVERY_SECONDS):
                await session.log.commit(session.log.last_seq)

    async def newest(self, owner: str) -> str | None:
        """The id of the session that the owner created last and still has."""
        known = self._newest.get(owner)
        if self.directory is None and known is not None and self.get(owner, known) is not None:
            return known
        record = await self._services.store.sessions.newest(owner)
        return None if record is None else record.session_id

    async def _shelf(self, owner: str, session_id: str) -> Shelf | None:
        """A stored session, which no gateway has, for reading only: nothing is started."""
        record = await self._services.store.sessions.find(owner, session_id)
        if record is None:
            return None
        fold = self._services.fold(session_id)
        events = EventLog(
            record.key,
            store=self._services.store.logs,
            wall_ms=self._services.wall_ms,
            on_visible=fold.apply,
            max_events=0,
            max_bytes=0,
        )
        await events.load(is_reading_only=True)
        fold.session_id, fold.parent = session_id, record.parent
        return Shelf(record, fold, events, self._services.outside(record.agent, owner=owner, key=record.key))

    async def tombstone(self, owner: str, session_id: str) -> Tombstone | None:
        """What is left of a deleted session of this name."""
        return await self._services.store.tombstones.find(owner, session_hash(owner, session_id))

    async def adopt(self, giver: str, taker: str, *, keeps_shares: bool) -> int:
        """Gives every session of one owner to another; how many. A session whose id the taker has already
        gets a new one. Links to the sessions end, unless they are kept. Raises StoreFull, StoreFailed.

        Whatever is open on the giver's behalf shows nothing from now on, and ends when all is moved.
        """
        store = self._services.store
        try:
            with self.tenures.ending(giver):
                await store.options.move(giver, taker)
                self._services.known_options.move(giver, taker)
                records, moved = await store.sessions.of_owner(giver, limit=ADOPTED), dict[str, str]()
                try:
                    for record in records:
                        moved[record.key] = await self._give(record, taker, keeps_shares=keeps_shares)
                finally:
                    if self.telling is not None:
                        await self.telling.moved(giver, taker, moved, keeps_shares=keeps_shares)
                await self._services.observers.adopted(giver, taker, tenant=tenant_of(taker))
        finally:
            self._wake_readers({giver, taker})
        return len(records)

    async def check_here(self, owner: str, session_id: str | None) -> None:
        """Raises SessionElsewhere if another gateway has a session; of the owner's newest if it has no id."""
        if session_id is not None:
            await self.here(owner, session_id)
        elif (directory := self.directory) is not None:
            found = await directory.holders([(owner, "")])
            _refuse(found.get((owner, "")))

    def wake_readers_of(self, name: SessionKey) -> None:
        """Lets those who read the session of this name look again, though nothing in it is new."""
        session = self.get(*name)
        if session is not None:
            session.log.wake()
        self._ring(name)

    def _wake_readers(self, owners: set[str]) -> None:
        """Lets those who wait for something of these owners look again whether it is still theirs to see."""
        for session in self.sessions():
            if session.record.owner in owners:
                session.log.wake()
        for name in list(self._arrivals):
            if name[0] in owners:
                self._ring(name)

    async def _give(self, record: SessionRecord, taker: str, *, keeps_shares: bool) -> str:
        """Its id from now on. A turn that runs goes on."""
        adopt, session_id = self._services.store.sessions.adopt, record.session_id
        if not await adopt(record.key, owner=taker, session_id=session_id, keeps_shares=keeps_shares):
            session_id = new_session_id()
            await adopt(record.key, owner=taker, session_id=session_id, keeps_shares=keeps_shares)
        old, new = (record.owner, record.session_id), (taker, session_id)
        await self._renamed(record.key, old, new, keeps_shares=keeps_shares)
        self._services.quotas.move_session(record.owner, taker, record.stored_bytes)
        self._newest[taker] = session_id
        self._newest.pop(record.owner, None)
        self._ring(new)
        await self._services.observers.moved(
            ConversationKey(tenant_of(record.owner), *old), ConversationKey(tenant_of(taker), *new)
        )
        return session_id

    async def _renamed(self, key: str, old: SessionKey, new: SessionKey, *, keeps_shares: bool) -> None:
        """A session, if it is in memory, has another name."""
        if (opening := self._opening.get(old)) is not None:
            await asyncio.wait([opening])  # it may have read the record before
        with self._lock:
            session = self._sessions.pop(old, None)
            if session is not None:
                self._sessions[new] = session
        self._services.waits.move(key, *new)
        if session is not None:
            session.move(*new)
            if not keeps_shares:  # and what came by them is withdrawn, as when they are revoked
                with contextlib.suppress(GatewayError):
                    await session.withdraw(lambda _author: True)

    async def moved_elsewhere(
        self, giver: str, taker: str, sessions: Mapping[str, str], *, keeps_shares: bool
    ) -> None:
        """Another gateway has given all that one owner had to another one: these sessions, by internal key,
        under their new ids. What is open on the giver's behalf ends here, too.
        """
        try:
            with self.tenures.ending(giver):
                self._services.known_options.move(giver, taker)
                for key, session_id in sessions.items():
                    for old in [name for name in self._opening if name[0] == giver]:
                        await asyncio.wait([self._opening[old]])
                    if (session := self.by_key(key)) is not None and session.record.owner == giver:
                        old = (giver, session.session_id)
                        await self._renamed(key, old, (taker, session_id), keeps_shares=keeps_shares)
                        self._newest[taker] = session_id
                    else:
                        self._services.waits.move(key, taker, session_id)
                self._newest.pop(giver, None)
        finally:
            self._wake_readers({giver, taker})
            for session_id in sessions.values():
                self._ring((taker, session_id))

    def note_aside(self, key: ConversationKey, fact: ev.ApplicationFact) -> None:
        """Appends a fact to the log of a session, if the session is in memory, here or at another gateway."""
        session = self.get(key.owner, key.conversation)
        if session is None and self.directory is not None and self.telling is not None:
            self.telling.aside(key, fact)
        elif session is not None and not session.is_ending:
            session.note_aside(fact)

    async def note_here(self, owner: str, session_id: str, facts: Iterable[ev.ApplicationFact]) -> bool:
        """Appends facts that another gateway tells to a session in memory; False if it is not."""
        if (opening := self._opening.get((owner, session_id))) is not None:
            await asyncio.wait([opening])
        session = self.get(owner, session_id)
        if session is None or session.is_ending:
            return False
        for fact in facts:
            session.note_aside(fact)
        return True

    async def take(self, owner: str, session_id: str) -> None:
        """Brings a session into memory that another gateway has let go of, if nobody has it yet."""
        with contextlib.suppress(GatewayError):  # then whoever is asked for it next takes it
            await self.find(owner, session_id)

    # -- ending -----------------------------------------------------------------------------------------

    async def _host(self, session: Session) -> None:
        """A session's task: its life, then its leaving. Whatever fails in it ends this session alone: an
        exception that came out of here would end the task group, and with it every session.
        """
        try:
            await session.run()
            await self._services.workers.spares.forget(session.record.key)
            if not session.log.is_founded:
                await self._unmake(session)
            elif session.close_reason is CloseReason.DELETED:
                await self.erase(session.record, session.log.last_seq, reason="deleted")
        except GatewayError as error:
            log.error("session %s: not erased: %s", session.record.key, error)
        except Exception:
            log.exception("session %s: its end failed", session.record.key)
        finally:
            if session.log.is_founded and not session.log.is_fenced:
                await self.release(session.record.key)
            self._remove(session)
            session.left.set_result(None)

    async def release(self, key: str) -> None:
        """Other gateways may have a session from now on; if the store cannot write, once this one ends."""
        if (directory := self.directory) is not None:
            try:
                await directory.release(key)
            except GatewayError as error:
                log.info("session %s: it stays this gateway's: %s", key, error)

    def fence(self) -> None:
        """This gateway has lost its place: others may have its sessions, so they end without a word."""
        for session in self.sessions():
            session.fence()

    async def close(self, session: Session, reason: CloseReason) -> Receipt:
        """Ends a session and waits until it has left; the receipt of its worker.

        Raises StoreFull or StoreFailed if it was to be deleted and the store cannot write; before anything
        is ended, if that is known by then.
        """
        store, record = self._services.store, session.record
        if reason is CloseReason.DELETED:
            await store.sessions.update(session.fresh_record())
        session.ask_to_close(reason)
        await asyncio.wait([session.left])
        kept = await store.sessions.find(record.owner, record.session_id)
        if session.close_reason is CloseReason.DELETED and kept is not None and kept.key == record.key:
            raise StoreFailed("The session has ended but is not erased yet; delete it again.")
        return session.receipt or Receipt()

    async def close_all(self, owner: str, reason: CloseReason) -> int:
        """Ends what is in memory of an owner and waits until it has left; how many sessions that were."""
        sessions = [session for session in self.sessions() if session.record.owner == owner]
        for session in sessions:
            session.ask_to_close(reason)
        if sessions:
            await asyncio.wait([session.left for session in sessions])
        return len(sessions)

    async def erase(self, record: SessionRecord, last_seq: int, *, reason: str) -> None:
        """Erases what is stored of a session and leaves a tombstone without content."""
        tombstone = Tombstone(
            owner=record.owner,
            session_hash=session_hash(record.owner, record.session_id),
            last_seq=last_seq,
            at=self._services.wall_ms(),
            reason=reason,
        )
        await self._services.uploads.stop(record.key)
        await self._services.workers.workspaces.remove(record.key)
        await self._services.snapshots.remove(record.key)
        await self._services.store.sessions.delete(record.key, tombstone)
        self._services.trimmer.soon()  # a long log was in the store's memory as it went
        for session in self.sessions():
            if session.record.owner == record.owner:
                session.lose_parent(record.session_id)
        key = ConversationKey(tenant_of(record.owner), record.owner, record.session_id)
        await self._services.observers.erased(key, reason=reason)
        self._services.workers.workspaces.session_gone(record.key, record.uid)
        self._services.quotas.drop_session(record.owner, record.stored_bytes)
        self._services.quotas.forget_session(record.key)
        repositories = self._services.workers.repositories
        if record.owner in repositories.leaving and not await self.stored(record.owner, limit=1):
            await repositories.forget(record.owner, has_sessions=False)

    async def drain(self, *, grace_seconds: float) -> None:
        """Takes no new work, gives running turns their grace, then ends every session."""
        self._begin_to_drain()
        deadline = self._services.monotonic() + grace_seconds
        while self._services.monotonic() < deadline and any(session.is_busy for session in self.sessions()):
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        sessions = self.sessions()
        for session in sessions:
            session.ask_to_close(CloseReason.DRAINED)
        if sessions:
            await asyncio.wait([session.left for session in sessions])

    # -- arrivals ---------------------------------------------------------------------------------------

    async def arrival(self, owner: str, session_id: str, *, has_come: Callable[[], bool]) -> None:
        """Returns when a session of this name enters the map, `has_come` is true already, or nobody can
        come. Raises SessionElsewhere when another gateway has it; of the owner's newest if the name is "".
        """
        name = (owner, session_id)
        while not has_come() and not self.is_draining:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._arrivals.setdefault(name, set()).add(future)
            if self.directory is not None and (self._looking is None or self._looking.done()):
                self._looking = self._tasks.create_task(self._look_elsewhere(), name="where sessions are")
            try:
                await future
            finally:
                self._arrivals[name].discard(future)
                if not self._arrivals[name]:
                    del self._arrivals[name]

    async def _look_elsewhere(self) -> None:
        """Until nobody waits: asks for all of them at once which sessions another gateway has now."""
        while self._arrivals and (directory := self.directory) is not None:
            try:
                found = await directory.holders(list(self._arrivals))
            except GatewayError:
                found = {}  # the next time
            for name, place in found.items():
                for future in self._arrivals.get(name, ()):
                    if not future.done():
                        future.set_exception(_elsewhere(place, name[1]))
            await asyncio.sleep(ELSEWHERE_SECONDS)

    @property
    def is_going(self) -> bool:
        """Whether this gateway is about to end: it takes no new work, or others do for it."""
        return self.is_draining or self.is_leaving

    @property
    def grace_seconds(self) -> float | None:
        """How long turns may go on once it is asked to end; None: to their end, as others take the work."""
        server, store = self._services.config.server, self._services.store
        membership, directory = self._services.membership, store.directory
        if server.drain_seconds is None and membership is not None and directory is not None:
            return None if others_up(membership, directory.node) else server.grace_seconds
        return server.grace_seconds

    def leave(self, successors: Successors) -> None:
        """The others of the store get what is not in the map, and what leaves it."""
        self.is_leaving = True
        self.succeed(successors)

    def succeed(self, succession: Successors) -> None:
        """What it says another gateway of this directory has is that one's from now on."""
        self.succession = succession
        for name in list(self._arrivals):
            self._ring(name)  # so that those who wait look there

    def _begin_to_drain(self) -> None:
        self.is_draining = True
        self.on_draining()
        if self._looking is not None:
            self._looking.cancel()
        for name in list(self._arrivals):
            self._ring(name)

    def _ring(self, name: SessionKey) -> None:
        for wanted in (name, (name[0], "")):
            for future in self._arrivals.get(wanted, ()):
                if not future.done():
                    future.set_result(None)

    async def record(self, owner: str, session_id: str) -> SessionRecord | None:
        """The record of a session, of one in the map as it is now. Raises SessionElsewhere."""
        session = await self.here(owner, session_id)
        if session is not None:
            return session.fresh_record()
        return await self._services.store.sessions.find(owner, session_id)

    async def stored(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        """The owner's sessions, those in the map as they are now, last active first."""
        records = await self._services.store.sessions.of_owner(owner, limit=limit)
        fresh = [self._fresh(record) for record in records]
        return sorted(fresh, key=lambda record: -record.last_active_at)

    async def all_stored(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        """Everybody's sessions, of a tenant or of all, as they are now, last active first."""
        records = await self._services.store.sessions.of_all(tenant=tenant, limit=limit)
        fresh = [self._fresh(record) for record in records]
        return sorted(fresh, key=lambda record: -record.last_active_at)

    def _fresh(self, record: SessionRecord) -> SessionRecord:
        session = self.get(record.owner, record.session_id)
        if session is None:
            return record
        return msgspec.structs.replace(session.fresh_record(), parent=record.parent)


def _elsewhere(place: NodePlace, session_id: str = "") -> SessionElsewhere:
    return SessionElsewhere(node=place.id, url=place.url, session_id=session_id or None)


def _refuse(place: NodePlace | None, session_id: str = "") -> None:
    """Raises SessionElsewhere if another gateway has a session."""
    if place is not None:
        raise _elsewhere(place, session_id)


async def _outcome(opening: asyncio.Future[Session]) -> Session | None:
    """The session that another task opens; None if opening failed."""
    await asyncio.wait([opening])
    return None if opening.cancelled() else opening.result()


def _new_record(
    key: str, owner: str, session_id: str, agent: str, *, at: int, uid: int | None
) -> SessionRecord:
    return SessionRecord(
        key=key,
        owner=owner,
        session_id=session_id,
        agent=agent,
        created_at=at,
        last_active_at=at,
        uid=uid,
    )


def new_session_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_urlsafe(18)
