"""Settings: their tables with units and reasons, and reading them from TOML and the environment.

Imports only `events`, `principal` and `errors`.
"""
