-- Snapshots of sessions' files, if several gateways are to find them. Rows are by the key of a session, not by
-- its row: a new session's files may come before that.

-- What each snapshot says of the files; place counts with the session's log.
CREATE TABLE file_manifests (
    session text   COLLATE "C" NOT NULL,
    place   bigint NOT NULL,
    body    bytea  NOT NULL,
    PRIMARY KEY (session, place)
);

-- Contents, of each session its own: compressed as a whole, then cut into parts.
CREATE TABLE file_contents (
    session text    COLLATE "C" NOT NULL,
    digest  bytea   NOT NULL,
    part    int     NOT NULL,
    is_last boolean NOT NULL,
    body    bytea   NOT NULL,
    PRIMARY KEY (session, digest, part)
);

ALTER TABLE file_manifests ALTER body SET STORAGE EXTERNAL;
ALTER TABLE file_contents  ALTER body SET STORAGE EXTERNAL;

-- The data directory in which a session's files were used last: those there may be newer than the snapshots.
CREATE TABLE file_holders (
    session text COLLATE "C" PRIMARY KEY,
    holder  text COLLATE "C" NOT NULL
);
