"""What a spawner is asked for: the words that both ends use. Pure."""

from __future__ import annotations

from msgspec import Struct


class SpawnRequest(Struct, frozen=True, kw_only=True):
    """One worker: what to run, where, as whom."""

    argv: tuple[str, ...]
    env: dict[str, str]
    """The whole environment; nothing is inherited."""
    cwd: str
    home: str
    session_key: str
    uid: int | None = None
    """None: the gateway's own user."""


class Receipt(Struct, frozen=True, kw_only=True):
    """What the end of a worker came to. `survivors` must be 0."""

    processes: int = 0
    survivors: int = 0
    bytes_freed: int = 0
    milliseconds: int = 0


class Exit(Struct, frozen=True, kw_only=True):
    """How a worker's first process ended: an exit code, or the signal that killed it."""

    code: int | None = None
    signal: int | None = None
    cpu_seconds: float = 0.0

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal else f"exit code {self.code}"
