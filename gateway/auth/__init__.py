"""Who calls, and how much they may use: keys, tickets, tokens, sign-in, quotas. No HTTP server in here.

Imports `agents` beside it and what lies below: `stores`, `telemetry`, `config`, `events`.
"""
