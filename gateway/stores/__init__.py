"""Where data is kept: contracts by concern, and a folder for each engine.

Imports `workers` and `telemetry` beside it, `config`, `events` and `errors`.
"""
