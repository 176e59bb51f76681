"""How filters of logs are read and kept in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.stores.database import Statements
from gateway.stores.postgresql.texts import kept
from gateway.stores.stretches import Gathering

_BEGIN: Final = (
    "SELECT key, coalesce((SELECT through FROM search_marks WHERE session = id), 0)"
    " FROM sessions WHERE id = $1"
)
_LAST: Final = (
    "SELECT after, through, characters FROM search_stretches WHERE session = $1 ORDER BY through DESC LIMIT 1"
)
_THERE: Final = "SELECT id, key FROM sessions WHERE id = ANY($1::bigint[]) ORDER BY id FOR KEY SHARE"
_DROP: Final = (
    "DELETE FROM search_stretches AS s USING unnest($1::bigint[], $2::bigint[]) AS r (session, through)"
    " WHERE s.session = r.session AND s.through = r.through"
)
_KEEP: Final = (
    "INSERT INTO search_stretches (session, after, through, characters, grams)"
    " SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])"
    " ON CONFLICT (session, through) DO UPDATE SET after = excluded.after, characters = excluded.characters,"
    " grams = excluded.grams"
)
_MARK: Final = (
    "INSERT INTO search_marks (session, through) SELECT * FROM unnest($1::bigint[], $2::bigint[])"
    " ON CONFLICT (session) DO UPDATE SET through = excluded.through"
)
WITHDRAW: Final = (
    "INSERT INTO search_withdrawn (session, message_id)"
    " SELECT * FROM unnest($1::bigint[], $2::text[]) ON CONFLICT DO NOTHING"
)


async def begin(connection: Statements, one: Gathering) -> None:
    """Looks where the log has its mark."""
    found = await connection.fetchrow(_BEGIN, one.row_id)
    last = await connection.fetchrow(_LAST, one.row_id)
    key, mark = found or (None, 0)
    one.begin(key, mark, last and tuple(last))


async def keep(connection: Statements, done: Sequence[Gathering]) -> None:
    """Keeps what was found, but of sessions that are gone."""
    found = await connection.fetch(_THERE, [one.row_id for one in done])
    keys = {row[0]: row[1] for row in found}
    there = [one for one in done if one.key is not None and keys.get(one.row_id) == one.key]
    replaced = [(one.row_id, one.replaces) for one in there if one.replaces is not None]
    made = [(one.row_id, s.after, s.through, s.characters, s.grams) for one in there for s in one.stretches]
    marks = [(one.row_id, one.mark) for one in there]
    withdrawn = [(one.row_id, kept(name)) for one in there for name in one.withdrawn]
    for statement, rows in ((_DROP, replaced), (_KEEP, made), (_MARK, marks), (WITHDRAW, withdrawn)):
        if rows:
            await connection.execute(statement, *map(list, zip(*rows, strict=True)))
