-- Tenants that an administrator made while the gateway ran, and those of the configuration that one disabled.

CREATE TABLE kept_tenants (
    name        TEXT    NOT NULL PRIMARY KEY,
    title       TEXT    NOT NULL,
    is_made     INTEGER NOT NULL,
    is_disabled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
