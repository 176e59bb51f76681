"""`SearchStore` in PostgreSQL: the log, and the filters that SQLite's store has, too (stores/grams.py).

No extension is needed, and no second copy of the texts is kept, nor anything that could be read back into
them. A search looks into the stretches of one owner's logs that the filters let pass, and into what no filter
knows yet.

Guarantees: what has no filter yet is told by the log itself (`_SAID`), not by what this process remembers:
texts that another gateway wrote are found as soon as they are committed. Filters are made after that, of logs
in which a turn has ended and, once after a start, of all. All of it goes with the session, by foreign keys.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.texts import ENDS
from gateway.stores import searching, stretches
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.grams import probes
from gateway.stores.postgresql import log_rows
from gateway.stores.postgresql.search_index import WITHDRAW, begin, keep
from gateway.stores.postgresql.texts import kept
from gateway.stores.search import Matches, SearchPlace
from gateway.stores.searching import EVER, SESSIONS_AT_ONCE, Candidate, Reading, Start
from gateway.stores.stretches import Gathering

SWEPT_AT_ONCE: Final = 500
INDEX_PAGES: Final = 20
"""One call of `index` reads about so many pages."""
HERE_BYTES: Final = 64 * 1024
"""So much of a log is searched on the loop, in about a millisecond; more in a thread."""
_IS_TEXT: Final = " OR ".join(
    f"""position('"type":"{kind.__struct_config__.tag}"'::bytea IN body) > 0"""
    for kind in (ev.TextDelta, ev.MessageAdded)
)
_SAID: Final = (
    "coalesce((SELECT true FROM events WHERE session = s.id"  # noqa: S608 - literals
    " AND seq > coalesce((SELECT through FROM search_marks WHERE session = s.id), 0)"
    f" AND ({_IS_TEXT}) LIMIT 1), false)"
)
"""True if there is a text behind the mark, or what looks like one. Asked of one log after the other, whatever
the planner knows of the tables: EXISTS may be turned into a join that reads all logs.
"""
_SWEEP: Final = f"SELECT id, {_SAID} FROM sessions AS s WHERE id <= $1 ORDER BY id DESC LIMIT $2"  # noqa: S608 - literals
_SESSIONS: Final = (
    "SELECT id, session_id, title, last_active_at, key FROM sessions"
    " WHERE owner = $1 AND last_active_at <= $2"
    " AND (last_active_at < $2 OR key {op} $3) ORDER BY last_active_at DESC, key LIMIT $4"
)
_STRETCHES: Final = (
    "SELECT session, after, through FROM search_stretches WHERE session = ANY($1::bigint[]){probes}"
    " ORDER BY through DESC"
)
_PROBE: Final = " AND get_bit(grams, ${place}::bigint % (length(grams) * 8)) = 1"
_BEHIND: Final = (
    "SELECT s.id, coalesce((SELECT through FROM search_marks WHERE session = s.id), 0),"  # noqa: S608 - literals
    " (SELECT max(seq) FROM events WHERE session = s.id)"
    f" FROM unnest($1::bigint[]) AS s (id) WHERE {_SAID}"
)
_WITHDRAWN: Final = "SELECT session, message_id FROM search_withdrawn WHERE session = ANY($1::bigint[])"


class PostgresqlSearch:
    """See the module."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database
        self._due: dict[int, int] = {}
        """Logs to look at, by the ids of their rows: the number up to which they are to be read. A commit
        that is under way is here already.
        """
        self._unswept = EVER
        """Rows with this id and below were not compared with their marks since the store was opened."""
        self._queue: dict[int, None] = {}
        database.project(ENDS, self._ended)
        database.project((ev.MessageWithdrawn,), _withdrawn)

    def touch(self, row_id: int, seq: int) -> None:
        """Events up to this number were written beside the projections."""
        self._due[row_id] = seq

    async def _ended(self, _connection: Statements, row_id: int, event: Event) -> None:
        self.touch(row_id, event.seq)

    # -- the index ----------------------------------------------------------------------------------------

    async def index(self) -> bool:
        if not self._queue:
            await self._fill()
        done: list[Gathering] = []
        pages = 0
        while self._queue and pages < INDEX_PAGES and (not done or done[-1].is_done):
            row_id = next(iter(self._queue))
            del self._queue[row_id]
            try:
                one, count = await self._gathered(row_id)
            except GatewayError:
                self._queue[row_id] = None
                raise
            pages += count
            done.append(one)
        if not done:
            return False
        await self._keep(done)
        is_read = [self._settled(one) for one in done]
        return any(is_read) or bool(self._queue)

    async def _fill(self) -> None:
        """What has to be looked at next: what was said lately, then rows that were never compared."""
        while self._unswept > 0 and not self._due:
            rows = await self._database.query(lambda c: c.fetch(_SWEEP, self._unswept, SWEPT_AT_ONCE))
            self._due.update((row[0], 0) for row in rows if row[1])
            self._unswept = rows[-1][0] - 1 if len(rows) == SWEPT_AT_ONCE else 0
        self._queue = dict.fromkeys(self._due)

    async def _gathered(self, row_id: int) -> tuple[Gathering, int]:
        """The filters of a log since its mark, or of its next piece; and how many pages were read."""
        one = Gathering(row_id)
        await self._database.query(lambda c: begin(c, one))
        pages = 0
        while not one.is_enough:
            events = await self._database.query(lambda c: _page(c, one))
            await asyncio.to_thread(one.add, events)
            pages += 1
        return one, pages

    async def _keep(self, done: list[Gathering]) -> None:
        try:
            await self._database.transact(lambda c: keep(c, done), is_long=True)
        except GatewayError:
            self._queue |= dict.fromkeys(one.row_id for one in done)
            raise

    def _settled(self, one: Gathering) -> bool:
        """False if a log is to be read once more, when a commit that was under way may be done."""
        if not one.is_done:
            self._queue[one.row_id] = None  # its rest begins behind what is kept
            return True
        if one.key is not None and one.cursor < self._due.get(one.row_id, 0):
            self._due[one.row_id] = one.cursor
            return False
        self._due.pop(one.row_id, None)
        return True

    @property
    def _is_indexing(self) -> bool:
        return self._unswept > 0 or 0 in self._due.values()

    # -- a search -----------------------------------------------------------------------------------------

    async def find(
        self, owner: str, words: tuple[str, ...], *, place: SearchPlace | None, limit: int, seconds: float
    ) -> Matches:
        return await searching.search(
            self, owner, words, place=place, limit=limit, seconds=seconds,
            is_indexing=lambda: self._is_indexing,
        )  # fmt: skip

    async def key_of(self, owner: str, session_id: str) -> str:
        query = "SELECT key FROM sessions WHERE owner = $1 AND session_id = $2"
        return await self._database.query(lambda c: c.fetchval(query, owner, session_id)) or ""

    async def sessions(
        self, owner: str, start: Start, *, limit: int
    ) -> list[tuple[int, str, str | None, int, str]]:
        return await self._database.query(lambda c: _sessions(c, owner, start, limit))

    async def candidates(self, owner: str, start: Start, words: tuple[str, ...]) -> list[Candidate]:
        asked = [number for number, _ in probes(words)]
        places = range(2, 2 + len(asked))
        query = _STRETCHES.format(probes="".join(_PROBE.format(place=place) for place in places))

        async def act(connection: Statements) -> list[Candidate]:
            rows = await _sessions(connection, owner, start, SESSIONS_AT_ONCE)
            page = {row[0]: Candidate(*row, [], set()) for row in rows}
            ids = list(page)
            for row_id, after, through in await connection.fetch(_BEHIND, ids):
                page[row_id].stretches.append((after, through))
            for row_id, after, through in await connection.fetch(query, ids, *asked):
                page[row_id].stretches.append((after, through))
            for row_id, message_id in await connection.fetch(_WITHDRAWN, ids):
                page[row_id].withdrawn.add(message_id)
            return list(page.values())

        return await self._database.query(act)

    async def read(self, reading: Reading) -> None:
        events = await self._database.query(lambda c: _page(c, reading))
        if reading.characters + sum(event.size_bytes for event in events) < HERE_BYTES:
            reading.add(events)
        else:
            await asyncio.to_thread(reading.add, events)


async def _page(connection: Statements, log: Gathering | Reading) -> list[Event]:
    """The next page of a log."""
    limit, max_bytes = stretches.PAGE_EVENTS, stretches.PAGE_BYTES
    return await log_rows.read_said(
        connection, log.row_id, after=log.cursor, limit=limit, max_bytes=max_bytes
    )


async def _sessions(
    connection: Statements, owner: str, start: Start, limit: int
) -> list[tuple[int, str, str | None, int, str]]:
    at, key, op = start
    return [tuple(row) for row in await connection.fetch(_SESSIONS.format(op=op), owner, at, key, limit)]


async def _withdrawn(connection: Statements, row_id: int, event: Event) -> None:
    assert isinstance(event.data, ev.MessageWithdrawn)  # noqa: S101 - it is projected for these alone
    await connection.execute(WITHDRAW, [row_id], [kept(event.data.message_id)])
