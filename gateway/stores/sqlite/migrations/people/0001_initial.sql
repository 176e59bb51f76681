-- People whose requests are refused, and since when; everything that is theirs stays.

CREATE TABLE disabled_people (
    owner TEXT    NOT NULL PRIMARY KEY,
    at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
