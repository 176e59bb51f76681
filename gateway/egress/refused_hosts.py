"""Which hosts were refused in the last day, by agent: what an operator looks at to widen a list.

Guarantee: bounded, whatever agents try; it forgets with the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.config.tables import DAY_MILLISECONDS
from gateway.egress.admission import Why

HOSTS: Final = 100
"""The last ones of one agent and tenant: what one agent tries pushes out nothing of another's."""


class RefusedHost(Struct, kw_only=True):
    """One host of one agent and tenant."""

    tenant: str
    agent: str
    host: str
    port: int
    why: Why
    count: int
    last_at: int
    """Milliseconds since 1970 UTC."""


class RefusedHosts:
    """See the module."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._known: dict[tuple[str, str], dict[tuple[str, int, Why], RefusedHost]] = {}
        """By tenant and agent."""

    def note(self, *, tenant: str, agent: str, host: str, port: int, why: Why) -> None:
        """Counts one."""
        now, hosts = self._wall_ms(), self._known.setdefault((tenant, agent), {})
        known = hosts.pop((host, port, why), None)
        count = 0 if known is None or now - known.last_at > DAY_MILLISECONDS else known.count
        hosts[host, port, why] = RefusedHost(
            tenant=tenant, agent=agent, host=host, port=port, why=why, count=count + 1, last_at=now
        )
        if len(hosts) > HOSTS:
            del hosts[next(iter(hosts))]

    def last_day(self, *, tenant: str | None) -> list[RefusedHost]:
        """Those of the last 24 hours, of one tenant or of all, the last one first."""
        since = self._wall_ms() - DAY_MILLISECONDS
        found = [
            one
            for (whose, _), hosts in self._known.items()
            for one in hosts.values()
            if one.last_at > since and tenant in (None, whose)
        ]
        found.reverse()
        return sorted(found, key=lambda one: -one.last_at)
