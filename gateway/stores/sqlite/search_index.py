"""How filters of logs are read and kept, with others' in one short commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gateway.stores.stretches import Gathering


def begin(connection: sqlite3.Connection, one: Gathering) -> None:
    """Looks where the log has its mark."""
    found = connection.execute(
        "SELECT key, ifnull((SELECT through FROM search_marks WHERE session = id), 0)"
        " FROM sessions WHERE id = ?",
        (one.row_id,),
    ).fetchone()
    last = connection.execute(
        "SELECT after, through, characters FROM search_stretches WHERE session = ?"
        " ORDER BY through DESC LIMIT 1",
        (one.row_id,),
    ).fetchone()
    key, mark = found or (None, 0)
    one.begin(key, mark, last)


def keep(connection: sqlite3.Connection, done: Iterable[Gathering]) -> list[int]:
    """Keeps what was found, in the thread that writes; the rows of sessions that are gone."""
    gone: list[int] = []
    for one in done:
        found = connection.execute("SELECT key FROM sessions WHERE id = ?", (one.row_id,)).fetchone()
        if found is None or found[0] != one.key:
            gone += [one.row_id] if found is None else []
            continue
        one.is_kept = True
        if one.replaces is not None:
            replaced = (one.row_id, one.replaces)
            connection.execute("DELETE FROM search_stretches WHERE session = ? AND through = ?", replaced)
        connection.executemany(
            "INSERT OR REPLACE INTO search_stretches (session, after, through, characters, grams)"
            " VALUES (?, ?, ?, ?, ?)",
            [(one.row_id, s.after, s.through, s.characters, s.grams) for s in one.stretches],
        )
        connection.execute(
            "INSERT OR REPLACE INTO search_marks (session, through) VALUES (?, ?)", (one.row_id, one.mark)
        )
        connection.executemany(
            "INSERT OR IGNORE INTO search_withdrawn (session, message_id) VALUES (?, ?)",
            [(one.row_id, name) for name in one.withdrawn],
        )
    return gone
