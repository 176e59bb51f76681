"""Agents, spoken to in ACP: which there are, a connection to one, what it says as events of the log.

Imports `auth` beside it and what lies below: `egress`, `workers`, `stores`, `telemetry`, `config`, `events`.
"""
