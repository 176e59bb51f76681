-- Sessions, their events, and what is left of them.

CREATE TABLE sessions (
    id               INTEGER PRIMARY KEY,
    key              TEXT    NOT NULL UNIQUE,
    owner            TEXT    NOT NULL,
    session_id       TEXT    NOT NULL,
    agent            TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    last_active_at   INTEGER NOT NULL,
    title            TEXT,
    agent_session_id TEXT,
    uid              INTEGER,
    message_count    INTEGER NOT NULL DEFAULT 0,
    retention_days   REAL,
    expires_at       INTEGER,
    reserved_seq     INTEGER NOT NULL DEFAULT 0,
    compacted_seq    INTEGER NOT NULL DEFAULT 0,
    has_open_turn    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, session_id)
) STRICT;

CREATE INDEX sessions_by_use      ON sessions (owner, last_active_at DESC, key);
CREATE INDEX sessions_by_creation ON sessions (owner, id);
CREATE INDEX sessions_by_expiry   ON sessions (expires_at) WHERE expires_at IS NOT NULL;

CREATE INDEX sessions_with_open_turn ON sessions (has_open_turn) WHERE has_open_turn = 1;

CREATE TABLE events (
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

-- A life of a log that ended in a crash: numbers strictly between were seen by clients and are lost.
CREATE TABLE gaps (
    session   INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    last_kept INTEGER NOT NULL,
    first_new INTEGER NOT NULL,
    PRIMARY KEY (session, first_new)
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    owner        TEXT    NOT NULL,
    session_hash TEXT    NOT NULL,
    last_seq     INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (owner, session_hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX tombstones_by_age ON tombstones (at);

CREATE TABLE idempotency_keys (
    owner      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    body_hash  TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_session ON idempotency_keys (owner, session_id);
CREATE INDEX idempotency_keys_by_age     ON idempotency_keys (at);
