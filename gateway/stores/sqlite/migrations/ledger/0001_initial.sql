-- What was used and what it cost: a row for each model call, and sums by day, which outlive them.

CREATE TABLE ledger_calls (
    id             TEXT    NOT NULL PRIMARY KEY,
    at             INTEGER NOT NULL,
    owner          TEXT    NOT NULL,
    session_key    TEXT    NOT NULL,
    key_id         TEXT    NOT NULL,
    agent          TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    model_answered TEXT    NOT NULL,
    dialect        TEXT    NOT NULL,
    key_owner      TEXT    NOT NULL,
    input          INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    cache_write    INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    reasoning      INTEGER NOT NULL,
    cost           INTEGER,
    is_estimated   INTEGER NOT NULL,
    status         INTEGER,
    first_byte_ms  INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_calls_by_time    ON ledger_calls (at);
CREATE INDEX ledger_calls_by_session ON ledger_calls (session_key) WHERE session_key <> '';
CREATE INDEX ledger_calls_in_flight  ON ledger_calls (at) WHERE status IS NULL;

CREATE TABLE ledger_sums (
    day               INTEGER NOT NULL,
    tenant            TEXT    NOT NULL,
    owner             TEXT    NOT NULL,
    session_key       TEXT    NOT NULL,
    key_id            TEXT    NOT NULL,
    agent             TEXT    NOT NULL,
    provider          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    calls             INTEGER NOT NULL,
    estimated_calls   INTEGER NOT NULL,
    unpriced_calls    INTEGER NOT NULL,
    input             INTEGER NOT NULL,
    cache_read        INTEGER NOT NULL,
    cache_write       INTEGER NOT NULL,
    output            INTEGER NOT NULL,
    reasoning         INTEGER NOT NULL,
    told_tokens       INTEGER NOT NULL,
    cost              INTEGER NOT NULL,
    cpu_ms            INTEGER NOT NULL,
    memory_mb_seconds INTEGER NOT NULL,
    wall_ms           INTEGER NOT NULL,
    stored_bytes      INTEGER NOT NULL,
    PRIMARY KEY (day, owner, session_key, key_id, agent, provider, model)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_sums_by_session ON ledger_sums (session_key) WHERE session_key <> '';
CREATE INDEX ledger_sums_by_owner   ON ledger_sums (owner, day);
