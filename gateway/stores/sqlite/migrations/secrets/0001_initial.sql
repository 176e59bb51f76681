-- Keys and credentials of people and tenants, encrypted: the key is not in this file. `owner` is TENANT/SUBJECT
-- for a person, TENANT for a tenant, empty for the gateway.

CREATE TABLE secrets (
    kind       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    ciphertext BLOB    NOT NULL,
    key_id     TEXT    NOT NULL,
    set_at     INTEGER NOT NULL,
    PRIMARY KEY (owner, kind, name)
) STRICT, WITHOUT ROWID;

-- What was removed, so that restoring a backup of before removes it again.

CREATE TABLE removed_secrets (
    kind       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    removed_at INTEGER NOT NULL,
    PRIMARY KEY (owner, kind, name)
) STRICT, WITHOUT ROWID;
