"""`ProductStore` in the same SQLite file as the sessions; rows are written in the commit of their event."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from typing import Any, Final

from gateway.apps.product_chat import facts
from gateway.apps.product_chat.store import PROJECTED, ProductMessage, ProductSession
from gateway.apps.product_chat.store_sql import CHAT_COLUMNS, CHATS_FROM, MESSAGE_COLUMNS, containing
from gateway.events import facts as ev
from gateway.extension import Database

_CHAT: Final = CHAT_COLUMNS.format(unread="m.is_read = 0")


class SqliteProducts:
    """See the module."""

    def __init__(self, store: Database) -> None:
        self._store = store
        store.project(PROJECTED, project)

    async def numbers(self) -> range:
        """All that there are: one gateway uses the file."""
        query = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'product_chat_messages'"
        last = await self._store.read(lambda c: int(c.execute(query).fetchone()[0] or 0))
        return range(last + 1, sys.maxsize)

    async def find(self, session_id: str) -> ProductSession | None:
        found = await self._chats("WHERE c.session_id = ?", session_id)
        return found[0] if found else None

    async def _chats(self, rest: str, *values: object) -> list[ProductSession]:
        query = f"SELECT {_CHAT} {CHATS_FROM} {rest}"
        return await self._store.read(
            lambda c: [ProductSession(**row) for row in _named(c.execute(query, values))]
        )

    async def messages(
        self, row_id: int, *, limit: int, offset: int = 0, newest_first: bool
    ) -> Sequence[ProductMessage]:
        order = "DESC" if newest_first else "ASC"
        query = (
            f"SELECT {MESSAGE_COLUMNS} FROM product_chat_messages WHERE session_id = ?"  # noqa: S608
            f" ORDER BY id {order} LIMIT ? OFFSET ?"
        )
        return await self._store.read(
            lambda c: [
                ProductMessage(**row | {"is_read": bool(row["is_read"])})
                for row in _named(c.execute(query, (row_id, limit, offset)))
            ]
        )

    async def count(self, row_id: int) -> int:
        query = "SELECT count(*) FROM product_chat_messages WHERE session_id = ?"
        return await self._store.read(lambda c: int(c.execute(query, (row_id,)).fetchone()[0]))

    async def unread(self, row_id: int, *, by_customer: bool) -> Sequence[int]:
        query = (
            "SELECT id FROM product_chat_messages WHERE session_id = ? AND is_read = 0"
            " AND (sender_type = 'customer') <> ? ORDER BY id"
        )
        return await self._store.read(lambda c: [row[0] for row in c.execute(query, (row_id, by_customer))])

    async def sessions(
        self,
        tenant: str,
        *,
        status: str | None,
        limit: int,
        offset: int = 0,
        search: str = "",
        with_messages: bool = False,
    ) -> Sequence[ProductSession]:
        return await self._chats(
            "WHERE c.tenant = ?1 AND (?2 IS NULL OR c.status = ?2)"
            " AND (NOT ?6 OR c.last_message_at IS NOT NULL)"
            " AND (?5 = '%%' OR c.product_name LIKE ?5 ESCAPE '\\' OR c.customer_name LIKE ?5 ESCAPE '\\'"
            "  OR c.customer_email LIKE ?5 ESCAPE '\\' OR EXISTS (SELECT 1 FROM product_chat_messages m"
            "   WHERE m.session_id = c.id AND m.message_text LIKE ?5 ESCAPE '\\'))"
            " ORDER BY c.priority = 'urgent' DESC,"
            " coalesce(c.last_message_at, c.created_at) DESC, c.id DESC LIMIT ?3 OFFSET ?4",
            tenant, status, limit, offset, containing(search), with_messages,
        )  # fmt: skip


def project(connection: sqlite3.Connection, session: int, event: ev.Event) -> None:
    """Writes the rows that an event makes; `session` is the id of the session's own row."""
    match event.data:
        case facts.ChatOpened() as opened:
            connection.execute(
                "INSERT OR IGNORE INTO product_chat_sessions (session, session_id, tenant, product_id,"
                " product_name, customer_name, customer_email, created_at, updated_at)"
                " SELECT id, session_id, substr(owner, 1, instr(owner, '/') - 1), ?1, ?2, ?3, ?4, ?5, ?5"
                " FROM sessions WHERE id = ?6",
                (
                    opened.product_id, opened.product_name, opened.customer_name, opened.customer_email,
                    event.at, session,
                ),
            )  # fmt: skip
        case facts.ChatPost() as post:
            connection.execute(
                "INSERT OR IGNORE INTO product_chat_messages (id, session_id, seq, sender_type, sender_id,"
                " sender_name, message_text, message_type, spam_score, created_at, updated_at)"
                " SELECT ?1, id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9 FROM product_chat_sessions"
                " WHERE session = ?10",
                (
                    post.post_id, event.seq, post.sender_type, post.sender_id, post.sender_name, post.text,
                    post.message_type, post.spam_score, event.at, session,
                ),
            )  # fmt: skip
            connection.execute(
                "UPDATE product_chat_sessions SET last_message_at = ?1, updated_at = ?1,"
                " spam_score = max(spam_score, ?2) WHERE session = ?3",
                (event.at, post.spam_score, session),
            )
        case facts.ChatRead(post_ids=post_ids):
            connection.executemany(
                "UPDATE product_chat_messages SET is_read = 1, updated_at = ? WHERE id = ?"
                " AND session_id = (SELECT id FROM product_chat_sessions WHERE session = ?)",
                [(event.at, post_id, session) for post_id in post_ids],
            )
        case facts.ChatStatus() as status:
            connection.execute(
                "UPDATE product_chat_sessions SET status = ?, priority = ?, assigned_to = ?, updated_at = ?"
                " WHERE session = ?",
                (status.status, status.priority, status.person, event.at, session),
            )


def _named(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
