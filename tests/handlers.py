"""What a test's own handler of an agent, or owner of a peer, need not say: nothing is refused or waits; and
what its agent says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Raw

from gateway.principal import Account
from worker import acp


def said(text: Any, *, kind: str = "agent_message_chunk", **more: Any) -> bytes:
    """The line of an agent that says a piece of text."""
    update = {"sessionUpdate": kind, "content": {"type": "text", "text": text}, **more}
    return acp.notification("session/update", {"sessionId": "s", "update": update})


class Unbounded:
    """Takes everything that an agent says, at once."""

    account = Account("default/local", "k")

    def is_ahead(self, most_bytes: int) -> bool:
        return False

    def on_long_update(self, update: Raw, used: Callable[[int], None]) -> Iterator[None]:
        yield

    def refusal(self) -> str | None:
        return None

    async def written(self) -> None:
        """At once."""

    def when_written(self, done: Callable[[], None]) -> None:
        done()


class KeptLine:
    """A spool in memory, for a long line of an agent's."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_dropped = False

    def write(self, data: bytes) -> None:
        self.data += data

    def lines(self) -> bytearray:
        return self.data

    def used(self, count: int) -> None:
        pass

    def drop(self) -> None:
        self.is_dropped = True
