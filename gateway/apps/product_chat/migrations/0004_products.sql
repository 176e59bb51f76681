-- Product chats as relations. The log of the session is the truth; these rows are written from its events, in
-- the same commit, and go with the session.

CREATE TABLE product_chat_sessions (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    session         INTEGER NOT NULL UNIQUE REFERENCES sessions (id) ON DELETE CASCADE,
    session_id      TEXT    NOT NULL UNIQUE,
    tenant          TEXT    NOT NULL,
    product_id      INTEGER NOT NULL,
    product_name    TEXT    NOT NULL,
    customer_name   TEXT,
    customer_email  TEXT,
    status          TEXT    NOT NULL DEFAULT 'active'
                    CHECK (status IN ('active', 'pending', 'in_progress', 'resolved', 'closed')),
    priority        TEXT    NOT NULL DEFAULT 'normal' CHECK (priority IN ('normal', 'urgent')),
    assigned_to     TEXT,
    spam_score      INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    last_message_at INTEGER
) STRICT;

CREATE INDEX product_chat_sessions_by_status  ON product_chat_sessions (tenant, status, last_message_at);
CREATE INDEX product_chat_sessions_by_use     ON product_chat_sessions (tenant, last_message_at);
CREATE INDEX product_chat_sessions_by_product ON product_chat_sessions (product_id, last_message_at);

CREATE TABLE product_chat_messages (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id   INTEGER NOT NULL REFERENCES product_chat_sessions (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,
    sender_type  TEXT    NOT NULL CHECK (sender_type IN ('customer', 'assistant', 'admin', 'system')),
    sender_id    TEXT,
    sender_name  TEXT    NOT NULL,
    message_text TEXT    NOT NULL,
    message_type TEXT    NOT NULL DEFAULT 'text',
    is_read      INTEGER NOT NULL DEFAULT 0 CHECK (is_read IN (0, 1)),
    spam_score   INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (session_id, seq)
) STRICT;

CREATE INDEX product_chat_messages_in_order ON product_chat_messages (session_id, id);
CREATE INDEX product_chat_messages_unread   ON product_chat_messages (session_id, sender_type, id) WHERE is_read = 0;
