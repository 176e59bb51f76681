-- Several gateways on one database: what each says of itself, and what all of them must hear of.

ALTER TABLE nodes
    ADD COLUMN url           text             COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN version       text             COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN mark          text             COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN schema        text             COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN lease_seconds double precision NOT NULL DEFAULT 0,
    ADD COLUMN state         text             COLLATE "C" NOT NULL DEFAULT 'up',
    ADD COLUMN sessions      int              NOT NULL DEFAULT 0,
    ADD COLUMN workers       int              NOT NULL DEFAULT 0,
    ADD COLUMN worker_limit  int              NOT NULL DEFAULT 0;

-- One row. `changes` is raised by whoever changes something that gateways keep in memory; each hears of it with
-- its next beat.
CREATE TABLE IF NOT EXISTS cluster (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    changes  bigint  NOT NULL DEFAULT 0
);

INSERT INTO cluster DEFAULT VALUES ON CONFLICT DO NOTHING;
