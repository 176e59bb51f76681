"""Notes in the gateway's store: a table in its SQLite file or on PostgreSQL, or a list if it keeps nothing.

The store is an observer, too: notes go with their session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from agent_gateway_notes.errors import TooManyNotes
from gateway.extension import ConversationKey, Database, Observer, PostgresqlDatabase, Statements, Tables


class Note(Struct, frozen=True):
    """A note; `created_at` is in milliseconds since 1970 UTC."""

    id: int
    created_at: int
    text: str


class Notes(Protocol):
    """Where notes are kept."""

    async def add(self, key: ConversationKey, text: str, *, at: int, most: int) -> Note:
        """Keeps a note. Raises TooManyNotes, StoreFull, StoreFailed."""

    async def all(self, key: ConversationKey) -> Sequence[Note]:
        """The notes of a conversation, oldest first."""


class SqliteNotes(Observer):
    """`Notes` in a table. Each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ConversationKey, text: str, *, at: int, most: int) -> Note:
        def act(connection: sqlite3.Connection) -> Note:
            if len(_rows(connection, key)) >= most:
                raise TooManyNotes
            added = connection.execute(
                "INSERT INTO notes (owner, session_id, created_at, text) VALUES (?, ?, ?, ?)",
                (key.owner, key.conversation, at, text),
            )
            return Note(int(added.lastrowid or 0), at, text)

        note: Note = await self._database.write(act)
        return note

    async def all(self, key: ConversationKey) -> Sequence[Note]:
        return await self._database.read(lambda connection: [Note(*row) for row in _rows(connection, key)])

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        await self._change(
            "UPDATE notes SET owner = ?, session_id = ? WHERE owner = ? AND session_id = ?", new, old
        )

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        await self._change("DELETE FROM notes WHERE owner = ? AND session_id = ?", key)

    async def _change(self, statement: str, *keys: ConversationKey) -> None:
        values = [value for key in keys for value in (key.owner, key.conversation)]
        await self._database.write(lambda connection: connection.execute(statement, values))


def _rows(connection: sqlite3.Connection, key: ConversationKey) -> list[Any]:
    return connection.execute(
        "SELECT id, created_at, text FROM notes WHERE owner = ? AND session_id = ? ORDER BY id",
        (key.owner, key.conversation),
    ).fetchall()


class PostgresqlNotes(Observer):
    """`Notes` in a table on PostgreSQL. What is given to `transact` may run again after it was undone, so it
    changes nothing but the database.
    """

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def add(self, key: ConversationKey, text: str, *, at: int, most: int) -> Note:
        async def act(connection: Statements) -> Note:
            count = "SELECT count(*) FROM notes WHERE owner = $1 AND session_id = $2"
            if await connection.fetchval(count, key.owner, key.conversation) >= most:
                raise TooManyNotes
            added = await connection.fetchval(
                "INSERT INTO notes (owner, session_id, created_at, text) VALUES ($1, $2, $3, $4)"
                " RETURNING id",
                *(key.owner, key.conversation, at, text),
            )
            return Note(added, at, text)

        return await self._database.transact(act)

    async def all(self, key: ConversationKey) -> Sequence[Note]:
        query = "SELECT id, created_at, text FROM notes WHERE owner = $1 AND session_id = $2 ORDER BY id"
        rows = await self._database.query(
            lambda connection: connection.fetch(query, key.owner, key.conversation)
        )
        return [Note(*row) for row in rows]

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        await self._change(
            "UPDATE notes SET owner = $1, session_id = $2 WHERE owner = $3 AND session_id = $4", new, old
        )

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        await self._change("DELETE FROM notes WHERE owner = $1 AND session_id = $2", key)

    async def _change(self, statement: str, *keys: ConversationKey) -> None:
        values = [value for key in keys for value in (key.owner, key.conversation)]
        await self._database.transact(lambda connection: connection.execute(statement, *values))


class MemoryNotes(Observer):
    """`Notes` in a dictionary."""

    def __init__(self) -> None:
        self._notes: dict[ConversationKey, list[Note]] = {}
        self._last = 0

    async def add(self, key: ConversationKey, text: str, *, at: int, most: int) -> Note:
        if len(self._notes.get(key, ())) >= most:
            raise TooManyNotes
        self._last += 1
        note = Note(self._last, at, text)
        self._notes.setdefault(key, []).append(note)
        return note

    async def all(self, key: ConversationKey) -> Sequence[Note]:
        return list(self._notes.get(key, ()))

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        if old in self._notes:
            self._notes[new] = self._notes.pop(old)

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        self._notes.pop(key, None)


AnyNotes = SqliteNotes | PostgresqlNotes | MemoryNotes


def keep(tables: Tables) -> AnyNotes:
    """The store, which is the observer of its own rows."""
    if isinstance(tables, PostgresqlDatabase):
        return PostgresqlNotes(tables)
    return SqliteNotes(tables) if isinstance(tables, Database) else MemoryNotes()
