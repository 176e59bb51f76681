"""Which sessions this gateway has, and how often each was claimed: what every write to a session names.

A gateway that is alone claims a session when it first writes events of it; nobody else could have it, so
nothing else is asked. One of several claims it before it reads it (directory.py), and each statement that
changes something of it finds the row only under that claim.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from gateway.errors import SessionFenced
from gateway.stores.database import Statements
from gateway.stores.postgresql.statements import changed

FENCE: Final = "($2::bigint IS NULL OR (node = $2 AND generation = $3))"
"""Of a row of `sessions`, in a statement of which `$1` is the key of the session."""
_IS_THERE: Final = "SELECT EXISTS (SELECT FROM sessions WHERE key = $1)"
_NOBODYS: Final = (0, 0)
FORMER: Final = 10_000
"""Claims that were dropped and are remembered: more than are in the time of recent.py."""


class HeldSessions:
    """See the module."""

    def __init__(self, *, is_alone: bool) -> None:
        self.is_alone = is_alone
        self.node = 0
        """The id of this gateway's row in `nodes`."""
        self.held: dict[str, tuple[int, int]] = {}
        """By key: the session's row, and the generation of the claim."""
        self._former: dict[str, tuple[int, int]] = {}
        """The last that were dropped, for what is done again after a failover."""
        self._counts_former = False

    def take(self, key: str, row_id: int, generation: int) -> None:
        """A session is this gateway's."""
        self.held[key] = (row_id, generation)

    def drop(self, key: str) -> None:
        """It is not any more; perhaps that is undone."""
        former = self.held.pop(key, None)
        if former is None or self.is_alone:
            return
        self._former[key] = former
        if len(self._former) > FORMER:
            del self._former[next(iter(self._former))]

    @contextlib.contextmanager
    def as_before(self) -> Iterator[dict[str, tuple[int, int]]]:
        """While the block runs, who dropped a session may still change it: what it did before that was undone
        by a failover, and is done again. All claims, by key.
        """
        self._counts_former = True
        try:
            yield self._former | self.held
        finally:
            self._counts_former = False

    def of(self, key: str) -> tuple[str, int | None, int]:
        """The first three values of a statement with `FENCE`."""
        if self.is_alone:
            return key, None, 0
        former = self._former.get(key, _NOBODYS) if self._counts_former else _NOBODYS
        generation = self.held.get(key, former)[1]
        return key, self.node, generation

    async def change(self, connection: Statements, statement: str, key: str, *values: object) -> bool:
        """Runs a statement with `FENCE`; False if the session is gone. Raises SessionFenced."""
        if changed(await connection.execute(statement, *self.of(key), *values)):
            return True
        await self.check_gone(connection, key)
        return False

    async def check_gone(self, connection: Statements, key: str) -> None:
        """A statement with `FENCE` found nothing. Raises SessionFenced if the session is there."""
        if not self.is_alone and await connection.fetchval(_IS_THERE, key):
            raise SessionFenced
