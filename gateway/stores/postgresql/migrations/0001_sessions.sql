-- Sessions, their events, and what is left of them; which gateway writes. Names are those of SQLite's tables,
-- times milliseconds since 1970 UTC. Texts are ordered by code point.

-- Gateways that run: one row for each start. Deleting a row ends its writing, whatever the gateway thinks.
CREATE TABLE nodes (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        COLLATE "C" NOT NULL UNIQUE,
    place      text        COLLATE "C" NOT NULL,
    has_lock   boolean     NOT NULL,
    beat       bigint      NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The number of the last transaction of each gateway that was committed: so it learns what became of one whose
-- answer did not come.
CREATE TABLE commits (
    node   bigint PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    number bigint NOT NULL
) WITH (fillfactor = 50);

-- Whoever writes a log first after its start takes the session: node is its row's id, and generation counts
-- the takers. There is no foreign key to nodes: what a gateway leaves must not be touched when its row goes.
CREATE TABLE sessions (
    id               bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key              text             COLLATE "C" NOT NULL UNIQUE,
    owner            text             COLLATE "C" NOT NULL,
    session_id       text             COLLATE "C" NOT NULL,
    agent            text             COLLATE "C" NOT NULL,
    created_at       bigint           NOT NULL,
    last_active_at   bigint           NOT NULL,
    title            text             COLLATE "C",
    agent_session_id text             COLLATE "C",
    uid              bigint,
    message_count    bigint           NOT NULL DEFAULT 0,
    retention_days   double precision,
    expires_at       bigint,
    stored_bytes     bigint           NOT NULL DEFAULT 0,
    reserved_seq     bigint           NOT NULL DEFAULT 0,
    compacted_seq    bigint           NOT NULL DEFAULT 0,
    has_open_turn    smallint         NOT NULL DEFAULT 0,
    node             bigint,
    generation       int              NOT NULL DEFAULT 0,
    UNIQUE (owner, session_id)
) WITH (fillfactor = 80);

CREATE INDEX sessions_by_use         ON sessions (owner, last_active_at DESC, key);
CREATE INDEX sessions_by_creation    ON sessions (owner, id);
CREATE INDEX sessions_by_expiry      ON sessions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX sessions_by_uid         ON sessions (uid) WHERE uid IS NOT NULL;
CREATE INDEX sessions_with_open_turn ON sessions (has_open_turn) WHERE has_open_turn <> 0;

-- A row holds one event, or neighbours of one log as a JSON array [[seq, at, event], ...]; its seq is the last
-- one's, its at the first one's. There is no foreign key, which would cost as much again for each row: events
-- are written only where their session's row is found, and deleted with it (sessions.py).
CREATE TABLE events (
    session bigint NOT NULL,
    seq     bigint NOT NULL,
    at      bigint NOT NULL,
    body    bytea  NOT NULL,
    PRIMARY KEY (session, seq)
);

-- A life of a log that ended in a crash: numbers strictly between were seen by clients and are lost.
CREATE TABLE gaps (
    session   bigint NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    last_kept bigint NOT NULL,
    first_new bigint NOT NULL,
    PRIMARY KEY (session, first_new)
);

-- Which session each fork was made of; a fork outlives its parent.
CREATE TABLE forks (
    session    bigint PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    parent_key text   COLLATE "C" NOT NULL
);

-- How much of what is stored of a session its people uploaded.
CREATE TABLE uploads (
    session bigint PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    bytes   bigint NOT NULL
);

CREATE TABLE tombstones (
    owner        text   COLLATE "C" NOT NULL,
    session_hash text   COLLATE "C" NOT NULL,
    last_seq     bigint NOT NULL,
    at           bigint NOT NULL,
    reason       text   COLLATE "C" NOT NULL,
    PRIMARY KEY (owner, session_hash)
);

CREATE INDEX tombstones_by_age ON tombstones (at);

CREATE TABLE idempotency_keys (
    owner      text   COLLATE "C" NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    body_hash  text   COLLATE "C" NOT NULL,
    session_id text   COLLATE "C" NOT NULL,
    at         bigint NOT NULL,
    PRIMARY KEY (owner, key)
);

CREATE INDEX idempotency_keys_by_session ON idempotency_keys (owner, session_id);
CREATE INDEX idempotency_keys_by_age     ON idempotency_keys (at);
