-- Events too large to move or to be in memory more than once. A row of `tail` or `events` is copied whole, by
-- way of memory, when it moves; a row here is written where it stays. One event a row.

CREATE TABLE large (
    id      INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    UNIQUE (session, seq)
) STRICT;
