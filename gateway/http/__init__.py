"""What every route shares: the gate (credentials), the guard, operations, reading bodies, cookies.

Imports `sessions` beside it and what lies below: `auth`, `agents`, `telemetry`, `config`, `events`.
"""
