-- What a shared link allows besides reading, and how often it was opened. A link without a row here only reads.

CREATE TABLE share_access (
    share        TEXT    NOT NULL PRIMARY KEY REFERENCES shares (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL,
    by_approver  INTEGER NOT NULL,
    uses         INTEGER NOT NULL DEFAULT 0,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
