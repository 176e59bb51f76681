-- Operators list everybody's sessions, the last used first: without this, all of them are read and sorted.
CREATE INDEX sessions_by_last_use ON sessions (last_active_at DESC, key);
