-- The shop: a cart, preferences and counts for each conversation, and what was bought.
-- Money is whole agorot; times are milliseconds since 1970 UTC.

CREATE TABLE shop_sessions (
    id           INTEGER PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    owner        TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    may_count    INTEGER NOT NULL DEFAULT 0,
    searches     INTEGER NOT NULL DEFAULT 0,
    views        INTEGER NOT NULL DEFAULT 0,
    adds         INTEGER NOT NULL DEFAULT 0,
    removes      INTEGER NOT NULL DEFAULT 0,
    clears       INTEGER NOT NULL DEFAULT 0,
    checkouts    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, conversation)
) STRICT;

CREATE INDEX shop_sessions_by_expiry ON shop_sessions (expires_at);
CREATE INDEX shop_sessions_by_tenant ON shop_sessions (tenant, expires_at);

CREATE TABLE shop_items (
    id       INTEGER PRIMARY KEY,
    session  INTEGER NOT NULL REFERENCES shop_sessions (id) ON DELETE CASCADE,
    line     TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    price    INTEGER NOT NULL CHECK (price >= 0),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    image    TEXT    NOT NULL,
    extra    TEXT    NOT NULL,
    added_at INTEGER NOT NULL,
    UNIQUE (session, line)
) STRICT;

CREATE TABLE shop_preferences (
    session INTEGER NOT NULL REFERENCES shop_sessions (id) ON DELETE CASCADE,
    key     TEXT    NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (session, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE shop_words (
    session INTEGER NOT NULL REFERENCES shop_sessions (id) ON DELETE CASCADE,
    word    TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (session, word)
) STRICT, WITHOUT ROWID;

-- Outlives the cart that it came from, so it names its owner itself.
CREATE TABLE shop_purchases (
    id           INTEGER PRIMARY KEY,
    owner        TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    total        INTEGER NOT NULL,
    items        TEXT    NOT NULL
) STRICT;

CREATE INDEX shop_purchases_by_conversation ON shop_purchases (owner, conversation, id);
CREATE INDEX shop_purchases_by_expiry       ON shop_purchases (expires_at);
