-- Which session each fork was made of. The parent is named by its key: its id changes if it changes hands, and
-- a fork outlives it.

CREATE TABLE forks (
    session    INTEGER PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    parent_key TEXT NOT NULL
) STRICT;
