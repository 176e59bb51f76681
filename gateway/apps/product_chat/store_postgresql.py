"""`ProductStore` in the same PostgreSQL database as the sessions; rows are written in the commit of their
event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.apps.product_chat import facts
from gateway.apps.product_chat.store import PROJECTED, ProductMessage, ProductSession
from gateway.apps.product_chat.store_sql import CHAT_COLUMNS, CHATS_FROM, MESSAGE_COLUMNS, containing
from gateway.events import facts as ev
from gateway.extension import PostgresqlDatabase, Statements

NUMBERS: Final = 64
"""Reserved at once: so many may be lost with a process, and so many messages need one transaction for it."""
_TAKE: Final = (
    "INSERT INTO sequences AS s (name, next)"
    " SELECT 'product_chat_messages', coalesce(max(id), 0) + 1 + $1::bigint FROM product_chat_messages"
    " ON CONFLICT (name) DO UPDATE SET next = greatest(s.next + $1, excluded.next) RETURNING next"
)
_CHAT: Final = CHAT_COLUMNS.format(unread="NOT m.is_read")


class PostgresqlProducts:
    """See the module."""

    def __init__(self, store: PostgresqlDatabase) -> None:
        self._store = store
        store.project(PROJECTED, project)

    async def numbers(self) -> range:
        """Larger than those of messages that came with a copy of another store, too."""
        after = await self._store.transact(lambda connection: connection.fetchval(_TAKE, NUMBERS))
        return range(after - NUMBERS, after)

    async def find(self, session_id: str) -> ProductSession | None:
        found = await self._chats("WHERE c.session_id = $1", session_id)
        return found[0] if found else None

    async def _chats(self, rest: str, *values: object) -> list[ProductSession]:
        query = f"SELECT {_CHAT} {CHATS_FROM} {rest}"
        rows = await self._store.query(lambda connection: connection.fetch(query, *values))
        return [ProductSession(**dict(row)) for row in rows]

    async def messages(
        self, row_id: int, *, limit: int, offset: int = 0, newest_first: bool
    ) -> Sequence[ProductMessage]:
        order = "DESC" if newest_first else "ASC"
        query = (
            f"SELECT {MESSAGE_COLUMNS} FROM product_chat_messages WHERE session_id = $1"  # noqa: S608
            f" ORDER BY id {order} LIMIT $2 OFFSET $3"
        )
        rows = await self._store.query(lambda connection: connection.fetch(query, row_id, limit, offset))
        return [ProductMessage(**dict(row)) for row in rows]

    async def count(self, row_id: int) -> int:
        query = "SELECT count(*) FROM product_chat_messages WHERE session_id = $1"
        return int(await self._store.query(lambda connection: connection.fetchval(query, row_id)))

    async def unread(self, row_id: int, *, by_customer: bool) -> Sequence[int]:
        query = (
            "SELECT id FROM product_chat_messages WHERE session_id = $1 AND NOT is_read"
            " AND (sender_type = 'customer') <> $2 ORDER BY id"
        )
        rows = await self._store.query(lambda connection: connection.fetch(query, row_id, by_customer))
        return [row[0] for row in rows]

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
            "WHERE c.tenant = $1 AND ($2::text IS NULL OR c.status = $2)"
            " AND (NOT $6 OR c.last_message_at IS NOT NULL)"
            " AND ($5 = '%%' OR c.product_name ILIKE $5 OR c.customer_name ILIKE $5"
            "  OR c.customer_email ILIKE $5 OR EXISTS (SELECT 1 FROM product_chat_messages m"
            "   WHERE m.session_id = c.id AND m.message_text ILIKE $5))"
            " ORDER BY c.priority = 'urgent' DESC,"
            " coalesce(c.last_message_at, c.created_at) DESC, c.id DESC LIMIT $3 OFFSET $4",
            tenant, status, limit, offset, containing(search), with_messages,
        )  # fmt: skip


async def project(connection: Statements, session: int, event: ev.Event) -> None:
    """Writes the rows that an event makes; `session` is the id of the session's own row."""
    match event.data:
        case facts.ChatOpened() as opened:
            await connection.execute(
                "INSERT INTO product_chat_sessions (session, session_id, tenant, product_id, product_name,"
                " customer_name, customer_email, created_at, updated_at)"
                " SELECT id, session_id, split_part(owner, '/', 1), $1, $2, $3, $4, $5, $5"
                " FROM sessions WHERE id = $6 ON CONFLICT DO NOTHING",
                opened.product_id, opened.product_name, opened.customer_name, opened.customer_email,
                event.at, session,
            )  # fmt: skip
        case facts.ChatPost() as post:
            await connection.execute(
                "WITH chat AS (UPDATE product_chat_sessions SET last_message_at = $9, updated_at = $9,"
                " spam_score = greatest(spam_score, $8) WHERE session = $10 RETURNING id)"
                " INSERT INTO product_chat_messages (id, session_id, seq, sender_type, sender_id,"
                " sender_name, message_text, message_type, spam_score, created_at, updated_at)"
                " SELECT $1, id, $2, $3, $4, $5, $6, $7, $8, $9, $9 FROM chat ON CONFLICT DO NOTHING",
                post.post_id, event.seq, post.sender_type, post.sender_id, post.sender_name, post.text,
                post.message_type, post.spam_score, event.at, session,
            )  # fmt: skip
        case facts.ChatRead(post_ids=post_ids):
            await connection.execute(
                "UPDATE product_chat_messages SET is_read = true, updated_at = $1"
                " WHERE id = ANY($2::bigint[])"
                " AND session_id = (SELECT id FROM product_chat_sessions WHERE session = $3)",
                *(event.at, post_ids, session),
            )
        case facts.ChatStatus() as status:
            await connection.execute(
                "UPDATE product_chat_sessions SET status = $1, priority = $2, assigned_to = $3,"
                " updated_at = $4 WHERE session = $5",
                *(status.status, status.priority, status.person, event.at, session),
            )
