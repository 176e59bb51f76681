"""The table `[cluster]`: how a gateway holds its place at a store that others can reach, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import Config

_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class ClusterConfig(Table, frozen=True, kw_only=True):
    """Used with `store = "postgresql://…"` alone. With `url`, several gateways share the store."""

    name: Annotated[str, Meta(max_length=100)] = ""
    """What this gateway is called among those that share the store, the same at each start; "": the name of
    the machine.
    """
    url: str = ""
    """Where the other gateways reach this one, `http://10.0.0.5:8081`; "": it is the only one."""
    listen: str = ""
    """Address and port at which it listens for them, `0.0.0.0:8081`; "": those of `url`."""

    lease_seconds: _Seconds = 3.0
    """A gateway that had no answer from its store for so long does nothing until it has: its workers rest."""
    beat_seconds: _Seconds = 0.5
    """How often it says that it is there; a lease is more than four beats."""
    kill_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    """Workers that have rested for so long are ended."""

    def contradictions(self, config: Config) -> Iterator[str]:
        if self.lease_seconds <= 4 * self.beat_seconds:
            yield "lease_seconds: more than four times cluster.beat_seconds"
