"""Credentials → Principal. So far one mode, `open`: everybody who reaches the gateway is the person at the
machine.

That is why a gateway in `open` mode binds loopback only, unless forced by name.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from gateway.tenants import LOCAL, Principal


def principal_of(_connection: HTTPConnection) -> Principal:
    """On whose behalf a request is made."""
    return LOCAL
