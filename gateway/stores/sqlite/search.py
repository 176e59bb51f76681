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
from typing import Final, NamedTuple

from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.texts import ENDS, Texts
from gateway.stores.database import Database
from gateway.stores.grams import probes
from gateway.stores.search import (
    PER_SESSION,
    TITLES_MOST,
    Match,
    Matches,
    SearchPlace,
    match_of,
    title_match,
)
from gateway.stores.sqlite import log_rows
from gateway.stores.sqlite.search_index import PAGE_BYTES, PAGE_EVENTS, Gathering, keep

log = logging.getLogger(__name__)

SESSIONS_AT_ONCE: Final = 200
"""Sessions whose filters are looked at in one go of the reading thread, about a millisecond."""
TITLES_AT_ONCE: Final = 1_000
TEXT_KEPT: Final = 1_000_000
"""Characters of a stretch that is searched are in memory at once, about."""
SWEPT_AT_ONCE: Final = 500
SLICE_SECONDS: Final = 0.002
"""How long one call of `index` gathers, about; others of this process run meanwhile only if they need no
Python."""
INDEX_SESSIONS: Final = 100
"""So many are kept with one commit."""
_EVER: Final = 2**62

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
_PROBE: Final = "instr(?, substr(grams, 1 + ((? % (length(grams) * 8)) >> 3), 1))"


class _Candidate(NamedTuple):
    row_id: int
    session_id: str
    title: str | None
    at: int
    key: str
    stretches: list[tuple[int, int]]
    """(after, through), the last one first."""


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
        self._unswept = _EVER
        """Rows with this id and below were not compared with their marks since the store was opened."""
        self._queue: list[int] = []
        self._gathering: Gathering | None = None
        self._gathered: list[Gathering] = []
        """What is kept with the next commit."""
        self._below = _EVER
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
                self._gathering.begin(connection)
            if not self._gathering.is_enough:
                self._gathering.page(connection)
            if self._gathering.is_enough:
                one, self._gathering = self._gathering, None
                self._gathered.append(one)
                if not one.is_done:
                    self._queue.append(one.row_id)
                if self._is_due:
                    return

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
                if self._said.get(one.row_id, _EVER) <= one.mark:
                    del self._said[one.row_id]
                if one.is_done and self._ended.get(one.row_id, _EVER) <= one.cursor:
                    del self._ended[one.row_id]
        if not self._queue and self._below < self._unswept:
            self._unswept = self._below

    def _give_up(self, row_id: int) -> None:
        with self._lock:
            self._ended.pop(row_id, None)
            self._said[row_id] = _EVER

    def _is_behind(self, row_id: int) -> bool:
        return row_id in self._said or row_id <= self._unswept

    # -- a search -----------------------------------------------------------------------------------------

    async def find(
        self, owner: str, words: tuple[str, ...], *, place: SearchPlace | None, limit: int, seconds: float
    ) -> Matches:
        deadline = time.monotonic() + seconds
        matches = await self._titles(owner, words) if place is None else []
        at, key, resumed = await self._start(owner, place)
        before, op = (place.before if place else _EVER), ">="
        while page := await self._page(owner, (at, key, op), words):
            for one in page:
                if one.session_id != resumed:
                    before = _EVER
                elif not before:
                    continue
                found, rest = await self._in_session(one, words, before=before, deadline=deadline)
                matches += found
                if rest or len(matches) >= limit or time.monotonic() > deadline:
                    following = SearchPlace(one.at, one.session_id, rest)
                    return Matches(matches=matches, following=following, is_indexing=self._unswept > 0)
            at, key, op, resumed = page[-1].at, page[-1].key, ">", ""
        return Matches(matches=matches, is_indexing=self._unswept > 0)

    async def _start(self, owner: str, place: SearchPlace | None) -> tuple[int, str, str]:
        """The time and key of the session to begin with, and its id if a search goes on in it."""
        if place is None:
            return _EVER, "", ""
        row = await self._database.read(
            lambda c: c.execute(
                "SELECT key FROM sessions WHERE owner = ? AND session_id = ?", (owner, place.session_id)
            ).fetchone()
        )
        return place.at, row[0] if row else "", place.session_id

    async def _titles(self, owner: str, words: tuple[str, ...]) -> list[Match]:
        matches: list[Match] = []
        at, key = _EVER, ""
        while len(matches) < TITLES_MOST:
            rows = await self._database.read(
                functools.partial(_sessions, owner=owner, start=(at, key, ">"), limit=TITLES_AT_ONCE)
            )
            found = (title_match(words, row[1], row[2], row[3]) for row in rows)
            matches += [match for match in found if match is not None]
            if len(rows) < TITLES_AT_ONCE:
                break
            at, key = rows[-1][3], rows[-1][4]
        return matches[:TITLES_MOST]

    async def _page(
        self, owner: str, start: tuple[int, str, str], words: tuple[str, ...]
    ) -> list[_Candidate]:
        asked = probes(words)
        query = _STRETCHES.format(probes="".join(f" AND {_PROBE}" for _ in asked))
        values = [value for number, mask in asked for value in (mask, number)]

        def act(connection: sqlite3.Connection) -> list[_Candidate]:
            rows = _sessions(connection, owner=owner, start=start, limit=SESSIONS_AT_ONCE)
            page = {row[0]: _Candidate(*row, []) for row in rows}
            behind = json.dumps([row_id for row_id in page if self._is_behind(row_id)])
            marks = connection.execute(_BEHIND, (behind,))
            for row_id, through in marks:
                page[row_id].stretches.append((through, _EVER))
            for row_id, after, through in connection.execute(query, (json.dumps(list(page)), *values)):
                page[row_id].stretches.append((after, through))
            return list(page.values())

        return await self._database.read(act)

    async def _in_session(
        self, one: _Candidate, words: tuple[str, ...], *, before: int, deadline: float
    ) -> tuple[list[Match], int]:
        """The last matches before a number, and the number before which the rest is to be searched, or 0."""
        matches: dict[str, Match] = {}
        withdrawn: set[str] = set()
        searched = 0
        for after, through in one.stretches:
            if after + 1 >= before:
                continue
            if searched and time.monotonic() > deadline:
                return list(matches.values()), searched
            reading = _Reading(one, words, after, through, withdrawn)
            while not reading.is_done:
                await self._database.read(reading.page)
            for match in reading.matches(before):
                matches.setdefault(match.message_id or "", match)
            searched = min(after + 1, before)
            if len(matches) >= PER_SESSION:
                break
        return list(matches.values())[:PER_SESSION], 0


class _Reading:
    """A stretch of a log as it is searched, a page at a time."""

    def __init__(
        self, one: _Candidate, words: tuple[str, ...], after: int, through: int, withdrawn: set[str]
    ) -> None:
        self._one = one
        self._words = words
        self._cursor = after
        self._through = through
        self._withdrawn = withdrawn
        self._texts = Texts()
        self._found: list[Match] = []
        self.is_done = False

    def page(self, connection: sqlite3.Connection) -> None:
        """The next page of it, in the thread that reads."""
        events = log_rows.read(
            connection, self._one.row_id, after=self._cursor, limit=PAGE_EVENTS, max_bytes=PAGE_BYTES
        )
        for event in events:
            if event.seq > self._through:
                break
            self._texts.add(event)
        self.is_done = not events or events[-1].seq >= self._through
        self._cursor = events[-1].seq if events else self._cursor
        if self.is_done:
            query = "SELECT message_id FROM search_withdrawn WHERE session = ?"
            self._withdrawn |= {row[0] for row in connection.execute(query, (self._one.row_id,))}
        if self.is_done or self._texts.characters > TEXT_KEPT:
            self._look(keeps_last=not self.is_done)

    def _look(self, *, keeps_last: bool) -> None:
        self._withdrawn |= self._texts.withdrawn
        messages = list(self._texts.messages.values())
        last = messages.pop() if keeps_last and messages else None
        for message in messages:
            match = match_of(self._words, self._one.session_id, self._one.title, message)
            if match is not None:
                self._found.append(match)
        self._texts = Texts()
        if last is not None:
            self._texts.messages[last.message_id] = last

    def matches(self, before: int) -> list[Match]:
        """What was found, the last one first."""
        found = [
            one for one in self._found if (one.seq or 0) < before and one.message_id not in self._withdrawn
        ]
        return sorted(found, key=lambda match: -(match.seq or 0))


def _sessions(
    connection: sqlite3.Connection, *, owner: str, start: tuple[int, str, str], limit: int
) -> list[tuple[int, str, str | None, int, str]]:
    at, key, op = start
    return connection.execute(_SESSIONS.format(op=op), (owner, at, key, limit)).fetchall()
