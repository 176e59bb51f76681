"""Programs that try to get out: each is run as an agent's command, by the tests only."""
