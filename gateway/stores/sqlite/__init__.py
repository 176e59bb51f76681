"""The SQLite engine: one writer thread with group commits, one reader thread, logs as rows."""
