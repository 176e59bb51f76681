-- Who may do what: keys, shared links, what was revoked, and what was used.

ALTER TABLE sessions ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0;

CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    hash         TEXT    NOT NULL,
    tenant       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE shares (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       TEXT    NOT NULL,
    session    INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX shares_by_session ON shares (session);

-- Signed credentials (cookies, visitor tokens) of an owner that were issued before this are refused.
CREATE TABLE revocations (
    owner TEXT    NOT NULL PRIMARY KEY,
    at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One-time tokens that were used, until they would have expired.
CREATE TABLE used_tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (
    scope     TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    day       INTEGER NOT NULL,
    messages  INTEGER NOT NULL DEFAULT 0,
    tokens    INTEGER NOT NULL DEFAULT 0,
    cpu_ms    INTEGER NOT NULL DEFAULT 0,
    memory_mb_seconds INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, name, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_by_day ON usage (day);
