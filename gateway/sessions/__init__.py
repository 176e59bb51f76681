"""The heart: the map of sessions, a session's life, its turns, its log and its worker's host.

Imports `http` beside it and what lies below: `agents`, `auth`, `egress`, `workers`, `stores`, `telemetry`.
"""
