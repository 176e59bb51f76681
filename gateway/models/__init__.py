"""Models: the providers that sessions call, in the dialects that agents speak, and what each call costs.

Imports `egress`, `workers`, `telemetry`, `config` and what lies below.
"""
