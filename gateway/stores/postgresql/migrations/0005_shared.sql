-- What several gateways on one database tell each other by it.

CREATE TABLE IF NOT EXISTS cluster (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    changes  bigint  NOT NULL DEFAULT 0
);

INSERT INTO cluster DEFAULT VALUES ON CONFLICT DO NOTHING;

-- How often each kind of what gateways keep in memory was changed: raised in the commit of each change.
CREATE TABLE changes (
    kind   text COLLATE "C" NOT NULL PRIMARY KEY,
    number bigint NOT NULL
);

-- What cookies are signed with, if the configuration names no file: the last one, and the one before.
CREATE TABLE signing_secrets (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret bytea  NOT NULL
);

-- By this a gateway learns that its secret is not that of the others.
CREATE TABLE signing_digest (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    digest   text    COLLATE "C" NOT NULL
);

-- What each gateway holds of quotas at the moment. Rows of gateways that are gone do not count.
CREATE TABLE held (
    scope  text   COLLATE "C" NOT NULL,
    name   text   COLLATE "C" NOT NULL,
    what   text   COLLATE "C" NOT NULL,
    node   bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (scope, name, what, node)
) WITH (fillfactor = 50);

-- Which gateway makes a model call that is not settled yet.
CREATE TABLE ledger_flights (
    id   text   COLLATE "C" NOT NULL PRIMARY KEY,
    node bigint NOT NULL
);
