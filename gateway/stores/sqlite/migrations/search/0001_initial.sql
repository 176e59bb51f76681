-- Which texts a session may have, without the texts: a filter that says "perhaps" or "certainly not" of each stretch
-- of its log. What it lets pass is looked up in the log itself. All of it goes with its session, by foreign keys,
-- whichever program deletes that; and it is of the session, whoever owns that.

CREATE TABLE search_stretches (
    id         INTEGER PRIMARY KEY,
    session    INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    after      INTEGER NOT NULL,
    through    INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    grams      BLOB    NOT NULL,
    UNIQUE (session, through)
) STRICT;

-- How far each log is filtered. What lies behind that is read whenever somebody searches.
CREATE TABLE search_marks (
    session INTEGER PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    through INTEGER NOT NULL
) STRICT;

-- Messages that were taken back after they were said.
CREATE TABLE search_withdrawn (
    session    INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    message_id TEXT    NOT NULL,
    PRIMARY KEY (session, message_id)
) STRICT, WITHOUT ROWID;
