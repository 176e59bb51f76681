"""The one thread that writes to SQLite: group commits, and honest words when it cannot.

Whatever arrives while a commit runs goes into the next one, so a hundred writers cost one fsync; events that
nobody waits for are held back up to 50 ms. Work is done in the order it was given.

Guarantees: `committed` is said only after COMMIT with synchronous=FULL; when a commit fails nothing of it is
written, every waiting call gets the error, events are kept and tried again, but for those that their logs
take back, and no new try begins before they had the chance to.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError, StoreFailed, StoreFull
from gateway.events import Event, TurnEnded, TurnInterrupted, TurnStarted
from gateway.stores.base import Sink

log = logging.getLogger(__name__)

GROUP_SECONDS: Final = 0.05
"""How long an event that nobody waits for may be held back for its group."""
RETRY_SECONDS: Final = 0.5
"""How often a write that failed is tried again while nothing new arrives."""
ANSWER_SECONDS: Final = 10.0
"""How long the writer waits for the loop to hear of a failure."""

_TURN_EDGES: Final = (TurnStarted, TurnEnded, TurnInterrupted)

Act = Callable[[sqlite3.Connection], Any]


class _Call:
    """Work of which somebody awaits the outcome."""

    __slots__ = ("act", "error", "future", "result")

    def __init__(self, act: Act, future: asyncio.Future[Any]) -> None:
        self.act = act
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None


class _Write:
    """An event on its way to the disk."""

    __slots__ = ("event", "sink")

    def __init__(self, sink: Sink, event: Event) -> None:
        self.sink = sink
        self.event = event


Item = _Call | _Write


class Writer:
    """See the module. `start` opens the connection in the thread; `stop` commits what is left and joins
    it.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._queue: list[Item] = []
        self._is_urgent = False
        self._is_stopping = False
        self._kept: list[_Write] = []
        self._forgotten: set[tuple[str, int]] = set()
        self._heard = threading.Event()
        self._row_ids: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="sqlite writer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Commits what is enqueued, once, and ends the thread."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    # -- from the loop ------------------------------------------------------------------------------------

    def put(self, sink: Sink, event: Event, *, urgent: bool) -> None:
        """An event for the next group."""
        with self._condition:
            self._queue.append(_Write(sink, event))
            if urgent and not self._is_urgent:
                self._is_urgent = True
                self._condition.notify()
            elif len(self._queue) == 1:
                self._condition.notify()

    async def call(self, act: Act) -> Any:
        """Runs `act` inside the next group; its result, once it is committed. Raises what it raised, or
        StoreFull, StoreFailed.
        """
        call = _Call(act, self._loop.create_future())
        with self._condition:
            if self._is_stopping:
                raise StoreFailed("The store is closed.")
            self._queue.append(call)
            self._is_urgent = True
            self._condition.notify()
        return await call.future

    def forget(self, key: str, seqs: set[int]) -> None:
        """Takes back events that were refused."""
        with self._condition:
            self._forgotten |= {(key, seq) for seq in seqs}

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        connection = self._connect()
        try:
            while (items := self._next_group()) is not None:
                self._write_group(connection, items)
        finally:
            connection.close()

    def _next_group(self) -> list[Item] | None:
        """Waits for work and for its group to fill; None when it is time to stop and nothing is left."""
        with self._condition:
            while not self._queue and not self._is_stopping:
                if self._kept:
                    self._condition.wait(RETRY_SECONDS)
                    break
                self._condition.wait()
            deadline = time.monotonic() + GROUP_SECONDS
            while not (self._is_urgent or self._is_stopping) and (left := deadline - time.monotonic()) > 0:
                self._condition.wait(left)
            if self._is_stopping and not self._queue and not self._kept:
                return None
            items: list[Item] = [*self._kept, *self._queue]
            self._queue = []
            self._kept = []
            self._is_urgent = False
            if self._forgotten:
                items = [item for item in items if not self._is_forgotten(item)]
                self._forgotten.clear()
            return items

    def _is_forgotten(self, item: Item) -> bool:
        return isinstance(item, _Write) and (item.sink.key, item.event.seq) in self._forgotten

    def _write_group(self, connection: sqlite3.Connection, items: list[Item]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._write_items(connection, items)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(connection, items, error)
            return
        self._loop.call_soon_threadsafe(_tell, items)

    def _write_items(self, connection: sqlite3.Connection, items: list[Item]) -> None:
        rows: list[tuple[int, int, int, bytes]] = []
        turns: dict[int, bool] = {}
        for item in items:
            if isinstance(item, _Write):
                event, row_id = item.event, self._row_id(connection, item.sink.key)
                if row_id is not None:
                    rows.append((row_id, event.seq, event.at, event.body))
                    if isinstance(event.data, _TURN_EDGES):
                        turns[row_id] = isinstance(event.data, TurnStarted)
                continue
            _insert(connection, rows)
            rows = []
            self._act(connection, item)
        _insert(connection, rows)
        for row_id, has_open_turn in turns.items():
            connection.execute("UPDATE sessions SET has_open_turn = ? WHERE id = ?", (has_open_turn, row_id))

    def _act(self, connection: sqlite3.Connection, call: _Call) -> None:
        """Runs a call; its own refusal undoes only itself."""
        connection.execute("SAVEPOINT call")
        try:
            call.result = call.act(connection)
        except (GatewayError, msgspec.MsgspecError) as error:
            connection.execute("ROLLBACK TO call")
            is_worded = isinstance(error, GatewayError)
            call.error = error if is_worded else StoreFailed(f"A stored event is unreadable: {error}.")
        connection.execute("RELEASE call")

    def _row_id(self, connection: sqlite3.Connection, key: str) -> int | None:
        known = self._row_ids.get(key)
        if known is None:
            row = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            known = self._row_ids[key] = int(row[0])
        return known

    def drop_row_id(self, key: str) -> None:
        """A session was deleted; called in the thread, by the call that deletes it."""
        self._row_ids.pop(key, None)

    def _fail(self, connection: sqlite3.Connection, items: list[Item], error: sqlite3.Error) -> None:
        """Nothing was written: tells everybody, keeps the events, and waits until they were heard of."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._row_ids.clear()
        words = worded(error)
        log.error("nothing could be written: %s", error)
        with self._condition:
            self._kept = [item for item in items if isinstance(item, _Write)]
            if self._is_stopping:
                log.critical("%d events were not written", len(self._kept))
                self._kept = []
        self._heard.clear()
        self._loop.call_soon_threadsafe(self._refuse, items, words)
        self._heard.wait(ANSWER_SECONDS)

    def _refuse(self, items: list[Item], error: GatewayError) -> None:
        """On the loop: every waiting call and every log hears of the failure."""
        for item in items:
            if isinstance(item, _Call) and not item.future.done():
                item.future.set_exception(error)
        for sink in {id(item.sink): item.sink for item in items if isinstance(item, _Write)}.values():
            sink.refused(error)
        self._heard.set()


def _insert(connection: sqlite3.Connection, rows: list[tuple[int, int, int, bytes]]) -> None:
    if rows:
        connection.executemany(
            "INSERT OR IGNORE INTO events (session, seq, at, body) VALUES (?, ?, ?, ?)", rows
        )


def _tell(items: list[Item]) -> None:
    """On the loop: what was committed, in order."""
    last: dict[int, _Write] = {}
    for item in items:
        if isinstance(item, _Write):
            last[id(item.sink)] = item
        elif not item.future.done():
            if item.error is not None:
                item.future.set_exception(item.error)
            else:
                item.future.set_result(item.result)
    for write in last.values():
        write.sink.committed(write.event.seq)


def worded(error: sqlite3.Error) -> GatewayError:
    """SQLite's error in words that say what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
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
