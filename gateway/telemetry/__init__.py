"""What operators watch: metrics, traces, logs, audit, and tasks that are kept running.

Imports `stores` and `workers` beside it, `config`, `events` and `errors`.
"""
