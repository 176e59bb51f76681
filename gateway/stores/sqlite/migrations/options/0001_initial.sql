-- What people chose of an agent's options (its mode, its model, …), for their next sessions with it.

CREATE TABLE chosen_options (
    owner     TEXT    NOT NULL,
    agent     TEXT    NOT NULL,
    option_id TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    is_switch INTEGER NOT NULL,
    PRIMARY KEY (owner, agent, option_id)
) STRICT, WITHOUT ROWID;
