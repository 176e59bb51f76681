"""The engine that keeps everything in memory: the reference of the contracts."""
