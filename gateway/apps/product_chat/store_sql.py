"""What both databases are asked for product chats."""

from __future__ import annotations

import re
from typing import Final

CHAT_COLUMNS: Final = (
    "c.id, c.session_id, s.owner, s.session_id AS record_id, c.tenant, c.product_id, c.product_name,"
    " c.customer_name, c.customer_email, c.status, c.priority, c.assigned_to, c.spam_score, c.created_at,"
    " c.updated_at, c.last_message_at,"
    " (SELECT count(*) FROM product_chat_messages m WHERE m.session_id = c.id) AS message_count,"
    " (SELECT count(*) FROM product_chat_messages m WHERE m.session_id = c.id AND {unread}"
    "  AND m.sender_type = 'customer') AS unread_count,"
    " (SELECT message_text FROM product_chat_messages m WHERE m.session_id = c.id ORDER BY id DESC LIMIT 1)"
    "  AS last_text,"
    " (SELECT sender_type FROM product_chat_messages m WHERE m.session_id = c.id ORDER BY id DESC LIMIT 1)"
    "  AS last_sender,"
    " (SELECT m.created_at FROM product_chat_messages m WHERE m.session_id = c.id"
    "  AND m.sender_type = 'customer' AND m.id > coalesce("
    "   (SELECT max(a.id) FROM product_chat_messages a WHERE a.session_id = c.id"
    "   AND a.sender_type IN ('assistant', 'admin')), 0) ORDER BY m.id LIMIT 1) AS waiting_since"
)
"""With `unread`: what is true of a message `m` that is not read, in the words of its index."""
CHATS_FROM: Final = "FROM product_chat_sessions c JOIN sessions s ON s.id = c.session"
MESSAGE_COLUMNS: Final = (
    "id, session_id, seq, sender_type, sender_id, sender_name, message_text, message_type, is_read,"
    " spam_score, created_at, updated_at"
)


def containing(search: str) -> str:
    """The pattern of LIKE for what has this text in it."""
    escaped = re.sub(r"([\\%_])", r"\\\1", search)
    return f"%{escaped}%"
