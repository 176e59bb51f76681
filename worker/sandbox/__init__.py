"""The walls that a forked child builds around itself. It imports only `worker.spec`."""
