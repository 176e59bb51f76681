-- How its owner has filed a session, and up to where it was seen. `tags` is a JSON array of texts.

CREATE TABLE session_labels (
    session     INTEGER PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    is_pinned   INTEGER NOT NULL DEFAULT 0,
    is_archived INTEGER NOT NULL DEFAULT 0,
    tags        TEXT    NOT NULL DEFAULT '[]',
    seen_seq    INTEGER NOT NULL DEFAULT 0,
    said_seq    INTEGER NOT NULL DEFAULT 0
) STRICT;
