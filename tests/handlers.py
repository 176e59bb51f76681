"""What a test's own handler of an agent, or owner of a peer, need not say: nothing is refused or waits."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Raw


class Unbounded:
    """Takes everything that an agent says, at once."""

    backlog_bytes = 0

    def on_long_update(self, update: Raw) -> Iterator[int]:
        yield 0

    def refusal(self) -> str | None:
        return None

    async def written(self) -> None:
        """At once."""
