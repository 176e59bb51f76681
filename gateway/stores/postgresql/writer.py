"""The one task that writes to PostgreSQL: group commits, and honest words when it cannot.

What goes together: stores/grouping.py. A group of events alone is one statement, which finds out itself
whether this gateway may still write (fence). A group with calls, or with rows that are made of events, is a
transaction that begins with the same question; each call has a savepoint.

Nothing is ever cancelled in the middle of a commit. If a connection is lost in one, its outcome is found out
on the next: events are written again, which changes nothing if they are there; a transaction has left its
number in `commits` if it was committed. (The status of its xid would not do: after a failover that lost it,
another transaction may have been given that xid.) If PostgreSQL has lost what it had acknowledged, that is
committed again from memory before anything new (recent.py).

Guarantees: `committed` is said only after the commit; what raised is undone and told in words, its neighbours
are committed; nothing that was committed is done again, or told to have failed. If the task ends after all,
everybody who waits hears of it, and so does the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from gateway.errors import SessionFenced, StoreFailed
from gateway.events.facts import Event
from gateway.stores.database import PostgresqlProjection
from gateway.stores.grouping import Grouping, WriteCall, WriteGroup, refuse
from gateway.stores.logs import Sink
from gateway.stores.postgresql.appending import ALIVE, Appender, CommitAttempt, noting_doubt
from gateway.stores.postgresql.claims import HeldSessions
from gateway.stores.postgresql.connections import PATIENCE_SECONDS, PAUSE_SECONDS
from gateway.stores.postgresql.errors import (
    NodeLost,
    TailLost,
    is_gone,
    is_of_the_engine,
    is_to_be_done_again,
    worded,
)
from gateway.stores.postgresql.recent import Act, Healing, RecentCommits

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
"""How often a write that failed is tried again while nothing new arrives."""
TRIES: Final = 5
"""How often a group that was undone because of others is written."""

_BEGIN: Final = (
    f"WITH {ALIVE}, before AS (SELECT number FROM commits WHERE node = $1)"  # noqa: S608 - literals
    " INSERT INTO commits (node, number) SELECT id, $2::bigint FROM alive ON CONFLICT (node)"
    " DO UPDATE SET number = excluded.number"
    " RETURNING pg_backend_pid(), now(), (SELECT number FROM before)"
)
_NUMBER: Final = "SELECT number FROM commits WHERE node = $1 FOR UPDATE"
"""Waits for a transaction that is still under way."""
_END_OF_IT: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND xact_start = $2"
)
LOST: Final = "Another gateway has taken the database, so this one may not write to it any more."


class PostgresqlWriter:
    """See the module. `start` takes a connection that is open; `stop` commits what is left."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        *,
        claims: HeldSessions,
        projections: Mapping[type, Sequence[PostgresqlProjection]],
        on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None,
        on_end: Callable[[str], None] = lambda _words: None,
        on_healed: Callable[[Healing], None] = lambda _healing: None,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """`claims`: with the id of the row that says that this gateway may write. `on_commit` hears how
        long each group took and whether it was committed, `on_end` that nothing can be stored any more,
        `on_healed` that what PostgreSQL had lost was committed again, `on_doubt` at each try that the outcome
        of a commit is still not known.
        """
        self.recent = RecentCommits()
        self.appender = Appender(claims, projections, self.recent)
        self._connect = connect
        self._claims = claims
        self._on_commit = on_commit
        self._on_end = on_end
        self._on_healed = on_healed
        self._on_doubt = on_doubt
        self._is_behind = False
        """Whether PostgreSQL lacks what was committed."""
        self._end: StoreFailed | None = None
        """Why it has ended; None while it lives."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._grouping = Grouping()
        self._in_hand = WriteGroup({}, [])
        self._connection: Any = None
        self._is_troubled = False
        """Whether the last group could not be written."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task."""
        self._task = self._loop.create_task(self._run(), name="postgresql writer")

    async def stop(self) -> None:
        """Commits what is enqueued, once, and ends the task."""
        self._grouping.is_stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    # -- given --------------------------------------------------------------------------------------------

    def put(self, sink: Sink, events: Sequence[Event], *, urgent: bool) -> None:
        """Events for one and the same group."""
        if self._grouping.put(sink, events, urgent=urgent):
            self._wake.set()

    def call_soon(self, act: Act) -> None:
        """Runs `act` with the next group, as late as events may wait; if it is refused, it is lost."""
        if self._end is None and not self._grouping.is_stopping and self._grouping.call_soon(act):
            self._wake.set()

    async def call(self, act: Act, *, is_long: bool = False) -> Any:
        """Runs `act` inside the next group; its result, once it is committed. Raises what it raised, or
        StoreFull, StoreFailed. One that `is_long` waits for those that came before it, one a group.
        """
        if self._grouping.is_stopping:
            raise StoreFailed("The store is closed.")
        if self._end is not None:
            raise self._end
        future = self._loop.create_future()
        self._grouping.call(act, future, is_long=is_long)
        self._wake.set()
        return await future

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Takes back events that were refused; called while they are."""
        self._grouping.forget(sink, seqs)

    def backlog(self) -> int:
        """How many events and calls wait, those that were refused and are tried again among them."""
        return self._grouping.backlog()

    @property
    def has_lost_place(self) -> bool:
        """Whether another gateway has this one's place: nothing that was not acknowledged is under way."""
        return self._end is not None and self._end.message == LOST

    def heal(self) -> None:
        """PostgreSQL lacks what was committed, as somebody else found out."""
        self._is_behind = True
        self._wake.set()

    def end(self, words: str) -> None:
        """Ends all writing: this gateway may not any more. A commit under way is refused by itself."""
        if self._end is not None:
            return
        self._end = StoreFailed(words)
        waiting = self._grouping.empty()
        self._on_end(words)  # first: nothing of what is refused now may be shown
        refuse(waiting.calls, list(waiting.events), self._end)
        self._wake.set()

    # -- the task -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._work()
        except BaseException as error:
            log.critical("THE TASK THAT WRITES TO POSTGRESQL HAS ENDED: %s", error, exc_info=True)
            group, self._in_hand = self._in_hand, WriteGroup({}, [])
            self.end(f"The task that writes to PostgreSQL has ended ({type(error).__name__}).")
            if self._end is not None:
                refuse(group.calls, list(group.events), self._end)
        finally:
            await self._let_go()

    async def _work(self) -> None:
        while (group := await self._next_group()) is not None:
            self._in_hand = group
            await self._write_group(group)
            self._in_hand = WriteGroup({}, [])
            del group  # while it waits for the next one, this one's events are somebody else's

    async def _next_group(self) -> WriteGroup | None:
        """Waits for work and for its group to fill, but not for long; None when it is time to stop and
        nothing is left.
        """
        grouping = self._grouping
        while not (grouping.has_new or grouping.is_stopping):
            is_left = bool(grouping.kept) or self._is_behind
            if self._is_troubled or not self._is_behind:
                await self._sleep(RETRY_SECONDS if is_left else None)
            if is_left:
                break
        while (left := grouping.left()) > 0:
            await self._sleep(left)
        if grouping.is_stopping and not (grouping.has_new or grouping.kept or self._is_behind):
            return None
        return grouping.take()

    async def _sleep(self, seconds: float | None) -> None:
        """Until there is something new, or so long."""
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer is not None:
            timer.cancel()

    async def _write_group(self, group: WriteGroup) -> None:
        if self._end is not None:
            refuse(group.calls, list(group.events), self._end)
            return
        began = time.monotonic()
        try:
            await self._commit_somehow(group)
        except NodeLost:
            self.end(LOST)
            refuse(group.calls, list(group.events), StoreFailed(LOST))
        except Exception as error:
            self._on_commit(time.monotonic() - began, False)
            self._fail(group, error)
        else:
            self._on_commit(time.monotonic() - began, True)
            self._is_troubled = False
            group.tell()

    async def _commit_somehow(self, group: WriteGroup) -> None:
        """As one transaction, or, if something in the group cannot be written, without that."""
        try:
            number = await self._surely(lambda connection, attempt: self._commit(connection, attempt, group))
        except Exception as error:
            if is_of_the_engine(error):
                raise
            await self._commit_apart(group)
        else:
            self.recent.add(number, group)

    async def _commit_apart(self, group: WriteGroup) -> None:
        """Event by event, then each call in a transaction of its own: what cannot be written hurts nobody
        else. Whoever is through is told at once.
        """
        number = await self._surely(
            lambda connection, attempt: self._commit_events_apart(connection, attempt, group)
        )
        events = WriteGroup(group.events, [], group.spoiled, group.fenced)
        self.recent.add(number, events)
        events.tell()
        group.events = {}
        while group.calls:
            one = WriteGroup({}, group.calls[:1])
            try:
                number = await self._surely(
                    lambda connection, attempt, one=one: self._commit(connection, attempt, one)  # type: ignore[misc]
                )
                self.recent.add(number, one)
            except Exception as error:
                if is_of_the_engine(error):
                    raise
                one.calls[0].error = worded(error)
            one.tell()
            del group.calls[0]

    def _fail(self, group: WriteGroup, error: Exception) -> None:
        """Nothing was written: tells everybody, and keeps the events."""
        self._is_troubled = True
        self._is_behind = self._is_behind and not self._grouping.is_stopping
        if self._claims.is_alone:
            self._claims.held.clear()
        words = worded(error)
        log.error("nothing could be written: %s", words.message)
        self._grouping.kept = {} if self._grouping.is_stopping else group.events
        if not self._grouping.kept and group.events:
            log.critical("%d events were not written", sum(len(events) for events in group.events.values()))
        refuse(group.calls, list(group.events), words)

    # -- connections that are lost ------------------------------------------------------------------------

    async def _surely(self, act: Callable[[Any, CommitAttempt], Awaitable[None]]) -> int:
        """Runs `act` until it is known to have been committed, or not to have been; on a new connection if
        need be. The number that it has left. Raises what it raised.
        """
        until = time.monotonic() + (0 if self._is_troubled else PATIENCE_SECONDS)
        pause, tries = PAUSE_SECONDS, 0
        attempt = CommitAttempt()
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                if attempt.is_in_doubt and await self._was_committed(self._connection, attempt):
                    return attempt.number
                attempt = CommitAttempt()
                if self._is_behind:
                    await self._heal(self._connection)
                await act(self._connection, attempt)
            except TailLost:
                self._is_behind = True
                continue
            except Exception as error:
                tries += 1
                if is_to_be_done_again(error) and tries < TRIES:
                    continue
                if not (is_gone(error) or attempt.is_in_doubt):
                    raise  # in doubt, who is refused a connection asks again: it may have been committed
                await self._let_go()
                is_told = not attempt.is_in_doubt or self._grouping.is_stopping or self._end is not None
                if time.monotonic() >= until:
                    if is_told:
                        raise
                    self._on_doubt()
            else:
                return attempt.number
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS)

    async def _was_committed(self, connection: Any, attempt: CommitAttempt) -> bool:
        if not attempt.pid:
            return False  # events are written again
        await connection.execute(_END_OF_IT, attempt.pid, attempt.began)
        return bool(await connection.fetchval(_NUMBER, self._claims.node) == attempt.number)

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def interrupt(self) -> None:
        """The connection is dead, as somebody else found out."""
        if self._connection is not None:
            self._connection.terminate()

    # -- writing ------------------------------------------------------------------------------------------

    async def _commit(self, connection: Any, attempt: CommitAttempt, group: WriteGroup) -> None:
        appender = self.appender
        if not group.calls and appender.is_one_statement(group.events):
            group.fenced = await appender.put(connection, attempt, group.events)
            return
        await appender.claim(connection, group.events)
        async with self._transaction(connection, attempt):
            group.fenced = await appender.fenced(connection, group.events)
            logs = appender.claimed(group.written())
            await appender.append(connection, [(session, events) for session, _, events in logs])
            for call in group.calls:
                await self._act(connection, call)

    async def _commit_events_apart(self, connection: Any, attempt: CommitAttempt, group: WriteGroup) -> None:
        """Writes every event that can be written, log by log, and notes those that cannot."""
        spoiled: dict[Sink, set[int]] = {}
        await self.appender.claim(connection, group.events)
        async with self._transaction(connection, attempt):
            group.fenced = await self.appender.fenced(connection, group.events)
            for sink, events in group.written().items():
                if (claim := self._claims.held.get(sink.key)) is None:
                    continue  # its session is gone
                if await self._fits(connection, claim[0], events) is None:
                    continue
                for event in events:
                    if (error := await self._fits(connection, claim[0], [event])) is not None:
                        log.error("event %d of session %s cannot be stored: %s", event.seq, sink.key, error)
                        spoiled.setdefault(sink, set()).add(event.seq)
        group.spoiled = spoiled

    async def _fits(self, connection: Any, session: int, events: list[Event]) -> Exception | None:
        """Writes events of one log, or none of them; why they cannot be."""
        try:
            async with connection.transaction():
                await self.appender.append(connection, [(session, events)])
        except Exception as error:
            if is_of_the_engine(error):
                raise
            return error
        return None

    @contextlib.asynccontextmanager
    async def _transaction(
        self, connection: Any, attempt: CommitAttempt, *, heals: bool = False
    ) -> AsyncIterator[int]:
        """One that leaves its number; it is given the one before. Raises NodeLost if this gateway may not
        write any more, TailLost if the database lacks something and this is not what `heals` that.
        """
        transaction = connection.transaction()
        await transaction.start()
        try:
            number = self.recent.next()
            found = await connection.fetchrow(_BEGIN, self._claims.node, number)
            if found is None:
                raise NodeLost
            if self.recent.is_behind(found[2]) and not heals:
                raise TailLost
            attempt.number, attempt.pid, attempt.began = number, found[0], found[1]
            yield found[2] or 0
        except BaseException:
            with contextlib.suppress(Exception):  # the connection is gone, and with it the transaction
                await transaction.rollback()
            raise
        await noting_doubt(attempt, transaction.commit())

    # -- what PostgreSQL has lost -------------------------------------------------------------------------

    async def _heal(self, connection: Any) -> None:
        """Commits again what the database lacks. If the outcome of that is in doubt, the next write looks
        again.
        """
        healing, attempt = Healing(), CommitAttempt()
        try:
            async with self._transaction(connection, attempt, heals=True) as number:
                if self.recent.is_behind(number):
                    with self._claims.as_before() as claims:
                        await self._do_again(connection, number, claims, healing)
        except BaseException:
            if self._claims.is_alone:
                self._claims.held.clear()
            raise
        self._is_behind = False
        self.recent.acknowledged = attempt.number
        for sink in healing.fenced:
            sink.refused(SessionFenced())
        if healing.commits or not healing.is_all:
            log.log(logging.WARNING if healing.is_all else logging.CRITICAL, "%s", healing.words)
            self._on_healed(healing)

    async def _do_again(
        self, connection: Any, number: int, claims: Mapping[str, tuple[int, int]], healing: Healing
    ) -> None:
        if self._claims.is_alone:
            self._claims.held.clear()  # rows may have others' ids
        else:
            await self.appender.claim_again(connection, claims)
        commits, healing.is_whole = self.recent.missing(number)
        healing.commits = len(commits)
        for commit in commits:
            await self.appender.claim(connection, commit.events)
            fenced = await self.appender.fenced(connection, commit.events)
            healing.fenced |= fenced
            for sink, events in commit.events.items():
                claim = self._claims.held.get(sink.key)
                if claim is None:
                    continue  # its session is gone
                if sink in fenced or await self._fits(connection, claim[0], events) is not None:
                    healing.lost_events += len(events)
                else:
                    healing.events += len(events)
            for act in commit.acts:
                call = WriteCall(act, None)
                await self._act(connection, call)
                if call.error is not None:
                    log.error("a change that PostgreSQL had lost is refused now: %s", call.error)
                    healing.lost_calls += 1

    async def _act(self, connection: Any, call: WriteCall) -> None:
        """Runs a call; what it raises undoes only itself, unless the engine is at fault."""
        call.error = None
        try:
            async with connection.transaction():
                call.result = await call.act(connection)
        except Exception as error:
            if is_of_the_engine(error) or is_to_be_done_again(error):
                raise
            call.error = worded(error)
