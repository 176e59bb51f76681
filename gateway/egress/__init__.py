"""Connections that the gateway makes for sessions: addresses that people name, MCP servers.

Imports `workers`, `telemetry`, `config` and what lies below.
"""
