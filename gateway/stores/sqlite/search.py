"""`SearchStore` in SQLite: a small filter for each stretch of a log, and the log itself.

No second copy of the texts is kept, nor anything that could be read back into them. A stretch of some
thousand characters, between turns, has a row with a filter (gateway/stores/grams.py); a search looks into the
stretches of one owner that the filter lets pass. FTS5 would serve less well here: before SQLite 3.43 it must
be given a text again to forget it, what it forgets stays in the file until segments are merged, an earlier
program that deletes a session would leave it behind, and owners would share one index, so that the time of a
search would tell of others' texts.

Guarantees: filters are made after the commit, in another thread than the one that writes; what has none yet
is read by each search, by the numbers of what was said and not filtered (`_said`), so that a search sees
every commit. How far a log is filtered is kept (`search_marks`), so that it goes on after a restart, and what
another program wrote meanwhile is behind the mark. All of it goes with the session, by foreign keys.
"""

from __future__ import annotations

import functools
import json
import logging
import sqlite3
import threading
import time
from typing import Final

from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.texts import ENDS
from gateway.stores import searching, stretches
from gateway.stores.database import Database
from gateway.stores.grams import probes
from gateway.stores.search import Matches, SearchPlace
from gateway.stores.searching import EVER, SESSIONS_AT_ONCE, Candidate, Reading, Start
from gateway.stores.sqlite import log_rows
from gateway.stores.sqlite.search_index import begin, keep
from gateway.stores.stretches import Gathering

log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 500
SLICE_SECONDS: Final = 0.002
"""How long one call of `index` gathers, about; others of this process run meanwhile only if they need no
Python."""
INDEX_SESSIONS: Final = 100
"""So many are kept with one commit."""
PAGES_KEPT: Final = 64
"""After more pages of logs (2 MiB), SQLite gives back what it keeps of them when the index is up to date."""

_LAST: Final = (
    "max(coalesce((SELECT max(seq) FROM events WHERE session = sessions.id), 0),"
    " coalesce((SELECT max(seq) FROM tail WHERE session = sessions.id), 0),"
    " coalesce((SELECT max(seq) FROM large WHERE session = sessions.id), 0))"
)
_SWEEP: Final = (
    f"SELECT id, {_LAST}, ifnull((SELECT through FROM search_marks WHERE session = id), 0)"  # noqa: S608 - literals
    " FROM sessions WHERE id <= ? ORDER BY id DESC LIMIT ?"
)
_SESSIONS: Final = (
    "SELECT id, session_id, title, last_active_at, key FROM sessions"
    " WHERE owner = ?1 AND last_active_at <= ?2"
    " AND (last_active_at < ?2 OR key {op} ?3) ORDER BY last_active_at DESC, key LIMIT ?4"
)
_STRETCHES: Final = (
    "SELECT session, after, through FROM search_stretches"
    " WHERE session IN (SELECT value FROM json_each(?)){probes} ORDER BY through DESC"
)
_BEHIND: Final = (
    "SELECT value, ifnull(through, 0) FROM json_each(?) LEFT JOIN search_marks ON session = value"
)
_WITHDRAWN: Final = (
    "SELECT session, message_id FROM search_withdrawn WHERE session IN (SELECT value FROM json_each(?))"
)
_PROBE: Final = "instr(?, substr(grams, 1 + ((? % (length(grams) * 8)) >> 3), 1))"


class SqliteSearch:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._said: dict[int, int] = {}
        """The last number that was said in a log and has no filter, by the id of its row."""
        self._ended: dict[int, int] = {}
        """The same of logs of which something is complete: what `index` does next."""
        self._running: set[int] = set()
        """Rows of logs in which a turn runs, for the thread that writes."""
        self._unswept = EVER
        """Rows with this id and below were not compared with their marks since the store was opened."""
        self._queue: list[int] = []
        self._gathering: Gathering | None = None
        self._gathered: list[Gathering] = []
        """What is kept with the next commit."""
        self._pages = 0
        """Read since memory was given back."""
        self._below = EVER
        """What `_unswept` becomes once the queue is empty."""
        database.project((ev.TurnStarted,), self._begun)
        database.project((ev.MessageAdded, ev.TurnEnded, ev.TurnInterrupted), self._complete)
        database.project((ev.TextDelta,), self._spoken)
        database.project((ev.MessageWithdrawn,), self._withdrawn)

    # -- what is said, in the thread that writes ----------------------------------------------------------

    def began(self, row_id: int) -> None:
        """Nothing was said yet in the log of this row, whatever was said in that of a session before it."""
        with self._lock:
            self._said.pop(row_id, None)
            self._ended.pop(row_id, None)
        self._running.discard(row_id)

    def touch(self, row_id: int, seq: int) -> None:
        """Events up to this number were written beside the projections."""
        with self._lock:
            self._said[row_id] = self._ended[row_id] = seq

    def _begun(self, _connection: sqlite3.Connection, row_id: int, event: Event) -> None:
        self._running.add(row_id)
        with self._lock:
            self._said[row_id] = event.seq

    def _complete(self, _connection: sqlite3.Connection, row_id: int, event: Event) -> None:
        if event.kind in ENDS:
            self._running.discard(row_id)
        self.touch(row_id, event.seq)

    def _spoken(self, _connection: sqlite3.Connection, row_id: int, event: Event) -> None:
        """What an agent says in a turn is behind its start; what it says by itself is noted here."""
        if row_id not in self._running:
            self.touch(row_id, event.seq)

    def _withdrawn(self, connection: sqlite3.Connection, row_id: int, event: Event) -> None:
        assert isinstance(event.data, ev.MessageWithdrawn)  # noqa: S101 - it is projected for these alone
        connection.execute(
            "INSERT OR IGNORE INTO search_withdrawn (session, message_id) VALUES (?, ?)",
            (row_id, event.data.message_id),
        )

    # -- the index ----------------------------------------------------------------------------------------

    async def index(self) -> bool:
        if not (self._queue or self._gathering):
            await self._fill()
        if not (self._queue or self._gathering):
            return False
        try:
            await self._database.read(self._work)
        except GatewayError as error:  # of this log: it is read by each search
            log.error("the texts of a session cannot be indexed: %s", error)
            if self._gathering is not None:
                self._give_up(self._gathering.row_id)
            self._gathering = None
        is_last = not (self._queue or self._gathering)
        if is_last or self._is_due:
            await self._commit()
        return True

    @property
    def _is_due(self) -> bool:
        """The commit of what was gathered cannot wait: the rest of a log begins behind what is kept."""
        is_whole = not self._gathered or self._gathered[-1].is_done
        return not is_whole or len(self._gathered) >= INDEX_SESSIONS

    def _work(self, connection: sqlite3.Connection) -> None:
        """Gathers for a moment, in the thread that reads: who waits for that waits no longer than this."""
        end = time.monotonic() + SLICE_SECONDS
        while (self._gathering or self._queue) and time.monotonic() < end:
            if self._gathering is None:
                self._gathering = Gathering(self._queue.pop())
                begin(connection, self._gathering)
            if not self._gathering.is_enough:
                self._gathering.add(_page(connection, self._gathering))
                self._pages += 1
            if self._gathering.is_enough:
                one, self._gathering = self._gathering, None
                self._gathered.append(one)
                if not one.is_done:
                    self._queue.append(one.row_id)
                if self._is_due:
                    return
        if self._pages > PAGES_KEPT and not (self._gathering or self._queue):
            self._pages = 0
            connection.execute("PRAGMA shrink_memory")

    async def _commit(self) -> None:
        done, self._gathered = self._gathered, []
        try:
            await self._database.write(lambda connection: self._keep(connection, done))
        except GatewayError:
            self._queue = list(dict.fromkeys((*self._queue, *(one.row_id for one in done))))
            raise
        self._settle(done)

    async def _fill(self) -> None:
        """What has to be looked at next: what was said lately, then rows that were never compared."""
        while self._unswept > 0 and not self._queue:
            rows = await self._database.read(
                lambda c: c.execute(_SWEEP, (self._unswept, SWEPT_AT_ONCE)).fetchall()
            )
            self._below = rows[-1][0] - 1 if len(rows) == SWEPT_AT_ONCE else 0
            self._queue = [row_id for row_id, last, through in reversed(rows) if last > through]
            self._unswept = self._unswept if self._queue else self._below
        with self._lock:
            self._queue = list(dict.fromkeys((*self._queue, *self._ended)))

    def _keep(self, connection: sqlite3.Connection, done: list[Gathering]) -> None:
        """In the thread that writes: a row that is gone here has not been given to another session yet."""
        gone = keep(connection, done)
        with self._lock:
            for row_id in gone:
                self._said.pop(row_id, None)
                self._ended.pop(row_id, None)

    def _settle(self, done: list[Gathering]) -> None:
        with self._lock:
            for one in (one for one in done if one.is_kept):
                if one.is_open:
                    self._said.setdefault(one.row_id, one.cursor)
                if self._said.get(one.row_id, EVER) <= one.mark:
                    del self._said[one.row_id]
                if one.is_done and self._ended.get(one.row_id, EVER) <= one.cursor:
                    del self._ended[one.row_id]
        if not self._queue and self._below < self._unswept:
            self._unswept = self._below

    def _give_up(self, row_id: int) -> None:
        with self._lock:
            self._ended.pop(row_id, None)
            self._said[row_id] = EVER

    def _is_behind(self, row_id: int) -> bool:
        return row_id in self._said or row_id <= self._unswept

    # -- a search -----------------------------------------------------------------------------------------

    async def find(
        self, owner: str, words: tuple[str, ...], *, place: SearchPlace | None, limit: int, seconds: float
    ) -> Matches:
        return await searching.search(
            self, owner, words, place=place, limit=limit, seconds=seconds,
            is_indexing=lambda: self._unswept > 0,
        )  # fmt: skip

    async def key_of(self, owner: str, session_id: str) -> str:
        row = await self._database.read(
            lambda c: c.execute(
                "SELECT key FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id)
            ).fetchone()
        )
        return row[0] if row else ""

    async def sessions(
        self, owner: str, start: Start, *, limit: int
    ) -> list[tuple[int, str, str | None, int, str]]:
        return await self._database.read(functools.partial(_sessions, owner=owner, start=start, limit=limit))

    async def candidates(self, owner: str, start: Start, words: tuple[str, ...]) -> list[Candidate]:
        asked = probes(words)
        query = _STRETCHES.format(probes="".join(f" AND {_PROBE}" for _ in asked))
        values = [value for number, mask in asked for value in (mask, number)]

        def act(connection: sqlite3.Connection) -> list[Candidate]:
            rows = _sessions(connection, owner=owner, start=start, limit=SESSIONS_AT_ONCE)
            page = {row[0]: Candidate(*row, [], set()) for row in rows}
            ids = json.dumps(list(page))
            behind = json.dumps([row_id for row_id in page if self._is_behind(row_id)])
            marks = connection.execute(_BEHIND, (behind,))
            for row_id, through in marks:
                page[row_id].stretches.append((through, EVER))
            for row_id, after, through in connection.execute(query, (ids, *values)):
                page[row_id].stretches.append((after, through))
            for row_id, message_id in connection.execute(_WITHDRAWN, (ids,)):
                page[row_id].withdrawn.add(message_id)
            return list(page.values())

        return await self._database.read(act)

    async def read(self, reading: Reading) -> None:
        await self._database.read(lambda c: reading.add(_page(c, reading)))


def _page(connection: sqlite3.Connection, log: Gathering | Reading) -> list[Event]:
    """The next page of a log, in the thread that reads."""
    limit, max_bytes = stretches.PAGE_EVENTS, stretches.PAGE_BYTES
    return log_rows.read_said(connection, log.row_id, after=log.cursor, limit=limit, max_bytes=max_bytes)


def _sessions(
    connection: sqlite3.Connection, *, owner: str, start: tuple[int, str, str], limit: int
) -> list[tuple[int, str, str | None, int, str]]:
    at, key, op = start
    return connection.execute(_SESSIONS.format(op=op), (owner, at, key, limit)).fetchall()
