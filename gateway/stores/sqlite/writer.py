"""The one thread that writes to SQLite: group commits, and honest words when it cannot.

What goes together: stores/grouping.py. Events are appended in the order of commits, and move to their logs by
the thousand (log_rows.py).

Guarantees: `committed` is said only after COMMIT with synchronous=FULL, and only while the file is the one
that was opened (file_watch.py); when a commit fails nothing of it is written, every waiting call gets the
error, events are kept and tried again, but for those that their logs take back, and no new try begins before
they had the chance to. The thread survives whatever a call or an event raises: the one that raised is undone
and told in words, its neighbours are committed. If the thread ends after all, everybody who waits hears of
it, and so does the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError, StoreDamaged, StoreFailed, StoreFull
from gateway.events.facts import LARGE_BYTES, Event
from gateway.stores.database import Projection
from gateway.stores.grouping import Grouping, WriteCall, WriteGroup, refuse
from gateway.stores.logs import Sink
from gateway.stores.packing import MARKS, Row, rows_of, turn_after
from gateway.stores.sqlite import log_rows
from gateway.telemetry.processor import give_way

log = logging.getLogger(__name__)

SETTLE_ROWS: Final = 8_000
"""So many rows move to their logs at a time: two to six megabytes, some 20 ms of the thread. The more there
are of each log, the fewer pages are written; the fewer there are in all, the sooner a log is read.
"""
RETRY_SECONDS: Final = 0.5
"""How often a write that failed is tried again while nothing new arrives."""
HEARD_SECONDS: Final = 10.0
"""How long the loop may take to hear of a failure before that is said."""
NICE: Final = 3
"""nice(2). More would let busy workers, at 5 unless configured, keep commits waiting."""
LOOK_SECONDS: Final = 1.0
"""How often the file is looked at while nothing is written."""

Act = Callable[[sqlite3.Connection], Any]


class Writer:
    """See the module. `start` opens the connection in the thread; `stop` commits what is left and joins
    it.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        on_commit: Callable[[float, bool], None],
        look: Callable[[sqlite3.Connection], None] = lambda _connection: None,
        on_end: Callable[[str], None] = lambda _words: None,
    ) -> None:
        """`look` raises StoreFailed, in the thread, while the file is not the one that was opened. `on_end`
        hears, on the loop, that the thread has ended although it was not asked to.
        """
        self._connect = connect
        self._on_commit = on_commit
        """Hears, in the thread, how long each group took and whether it was committed."""
        self._look = look
        self._on_end = on_end
        self._end: StoreFailed | None = None
        """Why the thread has ended; None while it lives."""
        self._in_hand = WriteGroup({}, [])
        self._loop = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._grouping = Grouping()
        self._unsettled = 0
        """Rows that came since they were moved to their logs last, about."""
        self._has_large_rows = False
        """Whether a large one was written since memory was let go."""
        self._has_written = False
        """Whether anything was."""
        self._heard = threading.Event()
        self.projections: dict[type, list[Projection]] = {}
        """Of events of these types."""
        self._row_ids: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="sqlite writer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Commits what is enqueued, once, and ends the thread."""
        with self._condition:
            self._grouping.is_stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    # -- from the loop ------------------------------------------------------------------------------------

    def put(self, sink: Sink, events: Sequence[Event], *, urgent: bool) -> None:
        """Events for one and the same group."""
        with self._condition:
            if self._grouping.put(sink, events, urgent=urgent):
                self._condition.notify()

    def call_soon(self, act: Act) -> None:
        """Runs `act` with the next group, as late as events may wait; if it is refused, it is lost."""
        with self._condition:
            is_open = self._end is None and not self._grouping.is_stopping
            if is_open and self._grouping.call_soon(act):
                self._condition.notify()

    async def call(self, act: Act, *, is_long: bool = False) -> Any:
        """Runs `act` inside the next group; its result, once it is committed. Raises what it raised, or
        StoreFull, StoreFailed. One that `is_long` waits for those that came before it, one a group.
        """
        future = self._loop.create_future()
        with self._condition:
            if self._grouping.is_stopping:
                raise StoreFailed("The store is closed.")
            if self._end is not None:
                raise self._end
            self._grouping.call(act, future, is_long=is_long)
            self._condition.notify()
        return await future

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Takes back events that were refused; called while the thread waits to be heard."""
        with self._condition:
            self._grouping.forget(sink, seqs)

    def backlog(self) -> int:
        """How many events and calls wait, those that were refused and are tried again among them."""
        with self._condition:
            return self._grouping.backlog()

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        give_way(NICE)  # and before the workers
        try:
            self._work()
        except BaseException as error:
            log.critical("THE THREAD THAT WRITES THE DATABASE HAS ENDED: %s", error, exc_info=True)
            with contextlib.suppress(RuntimeError):  # the loop has ended, too
                self._loop.call_soon_threadsafe(self._ended, error)

    def _work(self) -> None:
        connection = self._connect()
        self._unsettled = log_rows.waiting(connection)
        try:
            while (group := self._next_group()) is not None:
                self._in_hand = group
                self._write_group(connection, group)
                self._in_hand = WriteGroup({}, [])
                del group  # while it waits for the next one, this one's events are somebody else's
        finally:
            connection.close()

    def _ended(self, error: BaseException) -> None:
        """On the loop: nobody waits for a thread that is no more."""
        words = f"The thread that writes the database has ended ({type(error).__name__})."
        self._end = StoreFailed(words)
        with self._condition:
            waiting = self._grouping.empty()
        calls = [*self._in_hand.calls, *waiting.calls]
        sinks = [*self._in_hand.events, *waiting.events]
        self._refuse(calls, sinks, self._end)
        self._on_end(words)

    def _next_group(self) -> WriteGroup | None:
        """Waits for work and for its group to fill, but not for long; None when it is time to stop and
        nothing is left.
        """
        grouping = self._grouping
        with self._condition:
            while not (grouping.has_new or grouping.is_stopping):
                if grouping.kept:
                    self._condition.wait(RETRY_SECONDS)
                    break
                if not self._condition.wait(LOOK_SECONDS):
                    return WriteGroup({}, [])
            while (left := grouping.left()) > 0:
                self._condition.wait(left)
            if grouping.is_stopping and not (grouping.has_new or grouping.kept):
                return None
            return grouping.take()

    def _write_group(self, connection: sqlite3.Connection, group: WriteGroup) -> None:
        if not (group.events or group.calls):
            with contextlib.suppress(StoreFailed):  # who writes next hears of it
                self._look(connection)
            self._let_go(connection)
            return
        began = time.monotonic()
        try:
            self._look(connection)
            self._commit_somehow(connection, group)
            self._look(connection)
        except Exception as error:
            self._on_commit(time.monotonic() - began, False)
            self._fail(connection, group, error)
            return
        self._on_commit(time.monotonic() - began, True)
        self._loop.call_soon_threadsafe(group.tell)
        if self._unsettled >= SETTLE_ROWS:
            self._settle(connection)
        self._has_written = True
        if self._has_large_rows:
            self._let_go(connection)

    def _let_go(self, connection: sqlite3.Connection) -> None:
        """Gives memory back after large rows, and whenever there is nothing to do."""
        if self._has_written:
            self._has_written = self._has_large_rows = False
            with contextlib.suppress(sqlite3.Error):  # what is kept is only memory
                log_rows.let_go(connection)

    def _commit_somehow(self, connection: sqlite3.Connection, group: WriteGroup) -> None:
        """As one transaction, or, if something in the group cannot be written, without that."""
        try:
            self._commit(connection, group)
        except Exception as error:
            if log_rows.is_of_the_file(error) and not (group.calls and log_rows.is_damage(error)):
                raise
            self._commit_apart(connection, group)

    def _commit(self, connection: sqlite3.Connection, group: WriteGroup) -> None:
        connection.execute("BEGIN IMMEDIATE")
        self._write_events(connection, group.events)
        for call in group.calls:
            self._act(connection, call)
        connection.execute("COMMIT")

    def _commit_apart(self, connection: sqlite3.Connection, group: WriteGroup) -> None:
        """Event by event, then each call in a transaction of its own, which damage would spoil: what cannot
        be written hurts nobody else.
        """
        _roll_back(connection)
        connection.execute("BEGIN IMMEDIATE")
        group.spoiled = self._write_events_apart(connection, group.events)
        connection.execute("COMMIT")
        for call in group.calls:
            try:
                self._commit(connection, WriteGroup({}, [call]))
            except Exception as error:
                if log_rows.is_of_the_file(error) and not log_rows.is_damage(error):
                    raise
                _roll_back(connection)
                call.error = worded(error)

    def _write_events_apart(
        self, connection: sqlite3.Connection, logs: dict[Sink, list[Event]]
    ) -> dict[Sink, set[int]]:
        """Writes every event that can be written; those that cannot, log by log."""
        spoiled: dict[Sink, set[int]] = {}
        for sink, events in logs.items():
            for event in events:
                connection.execute("SAVEPOINT event")
                try:
                    self._write_events(connection, {sink: [event]})
                except Exception as error:
                    if log_rows.is_of_the_file(error):
                        raise
                    log.error("event %d of session %s cannot be stored: %s", event.seq, sink.key, error)
                    spoiled.setdefault(sink, set()).add(event.seq)
                    connection.execute("ROLLBACK TO event")
                connection.execute("RELEASE event")
        return spoiled

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Moves rows to their logs. A row that cannot be moved is kept in `tail` and still read."""
        self._unsettled = 0
        try:
            _transact(connection, log_rows.settle)
        except Exception as error:
            log.warning("events were not moved to their logs for now: %s", error)
            if log_rows.is_damage(error):
                self._settle_apart(connection)

    def _settle_apart(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            for session in log_rows.unsettled(connection):
                with contextlib.suppress(sqlite3.Error):
                    _transact(connection, functools.partial(log_rows.settle_one, session=session))

    def _write_events(self, connection: sqlite3.Connection, logs: dict[Sink, list[Event]]) -> None:
        of_rows: list[tuple[int, Sequence[Event]]] = []
        for sink, events in logs.items():
            row_id = self._row_ids.get(sink.key) or self._row_id(connection, sink.key)
            if row_id is not None:
                of_rows.append((row_id, events))
        self.append(connection, of_rows)

    def append(self, connection: sqlite3.Connection, logs: Sequence[tuple[int, Sequence[Event]]]) -> None:
        """Writes events of logs, by the ids of their rows, and what follows from them; called in the thread,
        inside a transaction.
        """
        rows: list[Row] = []
        turns: list[tuple[int, int]] = []
        projected: list[tuple[Projection, int, Event]] = []
        watched = MARKS | self.projections.keys()
        for row_id, events in logs:
            rows += rows_of(row_id, events)
            for event in events:
                kind = event.kind
                if kind not in watched:
                    continue
                if kind in MARKS and (turn := turn_after(event)) is not None:
                    turns.append((turn, row_id))
                projected += [(project, row_id, event) for project in self.projections.get(kind, ())]
        log_rows.append(connection, rows)
        self._unsettled += len(rows)
        self._has_large_rows = self._has_large_rows or any(len(row[3]) > LARGE_BYTES for row in rows)
        for project, row_id, event in projected:
            project(connection, row_id, event)
        connection.executemany("UPDATE sessions SET has_open_turn = ? WHERE id = ?", turns)

    def _act(self, connection: sqlite3.Connection, call: WriteCall) -> None:
        """Runs a call; what it raises undoes only itself, unless the file is at fault."""
        call.error = None
        connection.execute("SAVEPOINT call")
        try:
            call.result = call.act(connection)
        except Exception as error:
            if log_rows.is_of_the_file(error) and log_rows.code_of(error) != sqlite3.SQLITE_ERROR:
                raise
            call.error = worded(error)
        if call.error is not None:
            connection.execute("ROLLBACK TO call")
        connection.execute("RELEASE call")

    def _row_id(self, connection: sqlite3.Connection, key: str) -> int | None:
        row = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        self._row_ids[key] = row_id = int(row[0])
        return row_id

    def drop_row_id(self, key: str) -> None:
        """A session was deleted; called in the thread, by the call that deletes it."""
        self._row_ids.pop(key, None)

    def _fail(self, connection: sqlite3.Connection, group: WriteGroup, error: Exception) -> None:
        """Nothing was written: tells everybody, keeps the events, and waits until they were heard of."""
        with contextlib.suppress(sqlite3.Error):
            _roll_back(connection)
        self._row_ids.clear()
        words = worded(error)
        log.error("nothing could be written: %s", error)
        with self._condition:
            self._grouping.kept = {} if self._grouping.is_stopping else group.events
            is_kept = bool(self._grouping.kept)
        if not is_kept and group.events:
            log.critical("%d events were not written", sum(len(events) for events in group.events.values()))
        self._heard.clear()
        self._loop.call_soon_threadsafe(self._refuse, group.calls, list(group.events), words)
        while not self._heard.wait(HEARD_SECONDS) and not self._grouping.is_stopping:
            log.warning("the loop has not heard for %g s that nothing could be written", HEARD_SECONDS)

    def _refuse(self, calls: list[WriteCall], sinks: list[Sink], error: GatewayError) -> None:
        """On the loop."""
        refuse(calls, sinks, error)
        self._heard.set()


def _transact(connection: sqlite3.Connection, act: Act) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        act(connection)
        connection.execute("COMMIT")
    finally:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def worded(error: Exception) -> GatewayError:
    """What went wrong in the store, in words that say what to do."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, msgspec.MsgspecError):
        return StoreFailed(f"A stored event is unreadable: {error}.")
    if not log_rows.is_of_the_file(error):
        log.error("the store refused something: %s", error, exc_info=error)
        return StoreFailed(f"This cannot be stored: {error}.")
    code = log_rows.code_of(error)
    if log_rows.is_damage(error):
        log.critical(
            "THE DATABASE IS DAMAGED (%s). What is stored where it is not goes on. Look at the disk, make a "
            "copy of the data directory, and restore the last backup.",
            error,
        )
        return StoreDamaged()
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(retry_after_seconds=RETRY_AFTER_SECONDS)
    if code == sqlite3.SQLITE_READONLY:
        return StoreFailed(
            "The data directory cannot be written to.", retry_after_seconds=RETRY_AFTER_SECONDS
        )
    if code == sqlite3.SQLITE_IOERR and os.strerror(errno.ENOSPC) in str(error):
        return StoreFull(retry_after_seconds=RETRY_AFTER_SECONDS)
    return StoreFailed(f"The database cannot be written: {error}.", retry_after_seconds=RETRY_AFTER_SECONDS)


RETRY_AFTER_SECONDS: Final = 5
