-- A note belongs to a conversation, which need not be a session: MCP clients have conversations of their own.
CREATE TABLE notes (
    id         INTEGER PRIMARY KEY,
    owner      TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    text       TEXT    NOT NULL
) STRICT;

CREATE INDEX notes_by_session ON notes (owner, session_id, id);
