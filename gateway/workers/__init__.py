"""Worker processes from the gateway's side: spawning, walls, watching, files, who is connected.

Imports `stores` and `telemetry` beside it, `config`, `events`, `errors`, and `worker.spec`.
"""
