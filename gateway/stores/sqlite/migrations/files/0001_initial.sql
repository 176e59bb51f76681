-- Snapshots of sessions' files as several gateways on PostgreSQL keep them: what a copy or a backup of such a
-- store brings along, until it is copied back. A gateway on SQLite has its snapshots beside its database.

CREATE TABLE file_manifests (
    session TEXT    NOT NULL,
    place   INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (session, place)
) STRICT;

CREATE TABLE file_contents (
    session TEXT    NOT NULL,
    digest  BLOB    NOT NULL,
    part    INTEGER NOT NULL,
    is_last INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (session, digest, part)
) STRICT;

CREATE TABLE file_holders (
    session TEXT PRIMARY KEY,
    holder  TEXT NOT NULL
) STRICT;

CREATE TRIGGER files_go_with_their_session AFTER DELETE ON sessions BEGIN
    DELETE FROM file_manifests WHERE session = OLD.key;
    DELETE FROM file_contents WHERE session = OLD.key;
    DELETE FROM file_holders WHERE session = OLD.key;
END;
