"""What a worker asks of the gateway itself through its door: the words between the door and the routes that
answer, which are those of the models.

Guarantee: a handler is cancelled when its caller is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct


class RouteRequest(Struct, frozen=True, kw_only=True):
    """One request, read to its end."""

    method: str
    target: str
    """Path and query as they were sent: `/llm/anthropic/v1/messages`."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes


class RouteAnswer(Protocol):
    """Where a handler writes its answer: `start` once, then `write` as often as needed."""

    def start(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Status and headers; the framing of the body is the door's."""

    async def write(self, data: bytes) -> None:
        """Sends at once, and waits if the caller is slow. Raises ConnectionError once it is gone."""


RouteHandler = Callable[[RouteRequest, RouteAnswer], Awaitable[None]]
