"""What a gateway is made to do without, for the proof that the campaign's checkers see what the fence holds.

`alone`: nothing but the fence keeps it from the sessions of another one: no lease, no look at its own row, no
rest of its workers. `off`: not even that.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, Final

from gateway.sessions.lease import Lease
from gateway.sessions.membership import Membership
from gateway.stores.postgresql import appending, writer
from gateway.stores.postgresql.claims import HeldSessions
from gateway.stores.postgresql.lease import NodeLease

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
_MINE: Final = " AND sessions.generation = f.generation AND sessions.node = $1"
TAKE_AWAY: Final = "ALTER TABLE commits DROP CONSTRAINT commits_node_fkey"
"""What `off` wants of the database: else nobody writes whose row is gone."""
_THERE: Final = "SELECT id FROM nodes WHERE id = $1 FOR KEY SHARE"


def environment(directory: pathlib.Path, what: Callable[[], None]) -> dict[str, str]:
    """That of gateways which begin with this; `directory` is theirs alone."""
    (directory / "sitecustomize.py").write_text(
        f"from tests.torture import unfenced\nunfenced.{what.__name__}()\n"
    )
    return {"PYTHONPATH": f"{directory}:{ROOT}"}


def alone() -> None:
    """See the module."""
    answered, beat = Lease.answered, NodeLease._beat

    async def _beat(self: NodeLease) -> Any:
        await beat(self)
        return True

    changed: tuple[tuple[type, str, object], ...] = (
        (Lease, "may_work_now", lambda _self: True),
        (Lease, "look", lambda _self: None),
        (Lease, "answered", lambda self, *, sent, is_mine: answered(self, sent=sent, is_mine=True)),
        (Membership, "_hold", lambda _self: None),
        (NodeLease, "_beat", _beat),
    )
    for kind, name, value in changed:
        setattr(kind, name, value)


def off() -> None:
    """See the module."""
    alone()
    everybodys: tuple[type, str, object] = (HeldSessions, "of", lambda _self, key: (key, None, 0))
    setattr(*everybodys)
    for module, names in ((appending, ("_PUT", "_FENCE", "_CLAIM_AGAIN")), (writer, ("_BEGIN",))):
        for name in names:
            text = getattr(module, name).replace(_MINE, " AND $1::bigint = $1")
            setattr(module, name, text.replace(_THERE, "SELECT $1::bigint AS id"))
