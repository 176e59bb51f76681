-- What is kept beside sessions and their events: who may do what, what was used, and what people chose.
-- Texts are compared by code point in every database, whatever its locale.

CREATE TABLE api_keys (
    id           text COLLATE "C" NOT NULL PRIMARY KEY,
    hash         text COLLATE "C" NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    scopes       text COLLATE "C" NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint,
    revoked_at   bigint,
    last_used_at bigint
);

CREATE TABLE shares (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    hash       text COLLATE "C" NOT NULL,
    session    bigint NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_at bigint NOT NULL,
    expires_at bigint
);

CREATE INDEX shares_by_session ON shares (session);

-- What a shared link allows besides reading, and how often it was opened. A link without a row here only reads.
CREATE TABLE share_access (
    share        text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES shares (id) ON DELETE CASCADE,
    kind         text COLLATE "C" NOT NULL,
    by_approver  boolean NOT NULL,
    uses         bigint NOT NULL DEFAULT 0,
    last_used_at bigint
);

-- Signed credentials (cookies, visitor tokens) of an owner that were issued before this are refused.
CREATE TABLE revocations (
    owner text COLLATE "C" NOT NULL PRIMARY KEY,
    at    bigint NOT NULL
);

-- One-time tokens that were used, until they would have expired.
CREATE TABLE used_tokens (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    expires_at bigint NOT NULL
);

CREATE INDEX used_tokens_by_expiry ON used_tokens (expires_at);

CREATE TABLE usage (
    scope             text COLLATE "C" NOT NULL,
    name              text COLLATE "C" NOT NULL,
    day               bigint NOT NULL,
    messages          bigint NOT NULL DEFAULT 0,
    tokens            bigint NOT NULL DEFAULT 0,
    cpu_ms            bigint NOT NULL DEFAULT 0,
    memory_mb_seconds bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, name, day)
);

CREATE INDEX usage_by_day ON usage (day);

-- Keys and credentials of people and tenants, encrypted: the key is not in this database. `owner` is
-- TENANT/SUBJECT for a person, TENANT for a tenant, empty for the gateway.
CREATE TABLE secrets (
    kind       text COLLATE "C" NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    ciphertext bytea NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    set_at     bigint NOT NULL,
    PRIMARY KEY (owner, kind, name)
);

-- What was removed, so that restoring a backup of before removes it again.
CREATE TABLE removed_secrets (
    kind       text COLLATE "C" NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    removed_at bigint NOT NULL,
    PRIMARY KEY (owner, kind, name)
);

-- People whose requests are refused, and since when; everything that is theirs stays.
CREATE TABLE disabled_people (
    owner text COLLATE "C" NOT NULL PRIMARY KEY,
    at    bigint NOT NULL
);

-- Tenants that an administrator made while the gateway ran, and those of the configuration that one disabled.
CREATE TABLE kept_tenants (
    name        text COLLATE "C" NOT NULL PRIMARY KEY,
    title       text COLLATE "C" NOT NULL,
    is_made     boolean NOT NULL,
    is_disabled boolean NOT NULL
);

-- What people chose of an agent's options (its mode, its model, …), for their next sessions with it.
CREATE TABLE chosen_options (
    owner     text COLLATE "C" NOT NULL,
    agent     text COLLATE "C" NOT NULL,
    option_id text COLLATE "C" NOT NULL,
    value     text COLLATE "C" NOT NULL,
    is_switch boolean NOT NULL,
    PRIMARY KEY (owner, agent, option_id)
);

-- How its owner has filed a session, and up to where it was seen. `tags` is a JSON array of texts.
CREATE TABLE session_labels (
    session     bigint NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    is_pinned   boolean NOT NULL DEFAULT false,
    is_archived boolean NOT NULL DEFAULT false,
    tags        text COLLATE "C" NOT NULL DEFAULT '[]',
    seen_seq    bigint NOT NULL DEFAULT 0,
    said_seq    bigint NOT NULL DEFAULT 0
);

-- The next number of each sequence, which is named for the table whose rows carry the numbers.
CREATE TABLE sequences (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    next bigint NOT NULL
);

-- What was used and what it cost: a row for each model call, and sums by day, which outlive them.
CREATE TABLE ledger_calls (
    id             text COLLATE "C" NOT NULL PRIMARY KEY,
    at             bigint NOT NULL,
    owner          text COLLATE "C" NOT NULL,
    session_key    text COLLATE "C" NOT NULL,
    key_id         text COLLATE "C" NOT NULL,
    agent          text COLLATE "C" NOT NULL,
    provider       text COLLATE "C" NOT NULL,
    model          text COLLATE "C" NOT NULL,
    model_answered text COLLATE "C" NOT NULL,
    dialect        text COLLATE "C" NOT NULL,
    key_owner      text COLLATE "C" NOT NULL,
    input          bigint NOT NULL,
    cache_read     bigint NOT NULL,
    cache_write    bigint NOT NULL,
    output         bigint NOT NULL,
    reasoning      bigint NOT NULL,
    cost           bigint,
    is_estimated   boolean NOT NULL,
    status         bigint,
    first_byte_ms  bigint
);

CREATE INDEX ledger_calls_by_time    ON ledger_calls (at);
CREATE INDEX ledger_calls_by_owner   ON ledger_calls (owner);
CREATE INDEX ledger_calls_by_session ON ledger_calls (session_key) WHERE session_key <> '';
CREATE INDEX ledger_calls_in_flight  ON ledger_calls (at) WHERE status IS NULL;

CREATE TABLE ledger_sums (
    day               bigint NOT NULL,
    tenant            text COLLATE "C" NOT NULL,
    owner             text COLLATE "C" NOT NULL,
    session_key       text COLLATE "C" NOT NULL,
    key_id            text COLLATE "C" NOT NULL,
    agent             text COLLATE "C" NOT NULL,
    provider          text COLLATE "C" NOT NULL,
    model             text COLLATE "C" NOT NULL,
    calls             bigint NOT NULL,
    estimated_calls   bigint NOT NULL,
    unpriced_calls    bigint NOT NULL,
    input             bigint NOT NULL,
    cache_read        bigint NOT NULL,
    cache_write       bigint NOT NULL,
    output            bigint NOT NULL,
    reasoning         bigint NOT NULL,
    told_tokens       bigint NOT NULL,
    cost              bigint NOT NULL,
    cpu_ms            bigint NOT NULL,
    memory_mb_seconds bigint NOT NULL,
    wall_ms           bigint NOT NULL,
    stored_bytes      bigint NOT NULL,
    PRIMARY KEY (day, owner, session_key, key_id, agent, provider, model)
);

CREATE INDEX ledger_sums_by_session ON ledger_sums (session_key) WHERE session_key <> '';
CREATE INDEX ledger_sums_by_owner   ON ledger_sums (owner, day);
