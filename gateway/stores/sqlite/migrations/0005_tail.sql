-- Where events arrive, in the order of commits. A commit appends a row or a few for each log in it, all to the
-- same pages, where `events` would have a page changed for every log. When there are enough rows they move into
-- `events` together; nothing stays here for long, so nothing is indexed.
--
-- A row of either table holds one event, or neighbours of one log as a JSON array [[seq, at, event], ...]; its
-- seq is the last one's, its at the first one's.

CREATE TABLE tail (
    id      INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    BLOB    NOT NULL
) STRICT;
