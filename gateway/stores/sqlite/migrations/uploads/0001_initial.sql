-- How much of what is stored of a session its people uploaded.

CREATE TABLE uploads (
    session INTEGER PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    bytes   INTEGER NOT NULL
) STRICT;
