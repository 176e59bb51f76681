-- Which texts a session may have, without the texts: a filter that says "perhaps" or "certainly not" of each stretch
-- of its log. What it lets pass is looked up in the log itself. All of it goes with its session, and is of the
-- session, whoever owns that.

CREATE TABLE search_stretches (
    session    bigint NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    after      bigint NOT NULL,
    through    bigint NOT NULL,
    characters bigint NOT NULL,
    grams      bytea  NOT NULL,
    PRIMARY KEY (session, through)
);

-- Filters look like noise: there is nothing to make smaller.
ALTER TABLE search_stretches ALTER COLUMN grams SET STORAGE EXTERNAL;

-- How far each log is filtered. What lies behind that is read whenever somebody searches.
CREATE TABLE search_marks (
    session bigint NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    through bigint NOT NULL
);

-- Messages that were taken back after they were said.
CREATE TABLE search_withdrawn (
    session    bigint NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    message_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (session, message_id)
);
