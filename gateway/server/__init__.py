"""The listening process below ASGI: protocols, WebSockets, refusals, signals, drain, systemd.

Imports `api` and `maintenance` beside it, `http`, `sessions` and what lies below.
"""
