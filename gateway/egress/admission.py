"""May a worker connect there, and where does that lead? The words between a worker's doors and the rules.

Guarantee: what is admitted was resolved once, and these addresses are what is dialled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

Why = Literal[
    "unlisted",  # no list names it
    "denied",  # a list of denied hosts names it
    "address",  # an address, not a name
    "malformed",  # no host name at all
    "private",  # its name leads to no public address
    "unknown",  # its name leads nowhere
    "unreachable",  # it cannot be reached
    "server_name",  # TLS names no host, or another than the name that was looked up
    "limit",  # too many connections, names or bytes
    "credential",  # a method or path that its credential is not for
]


class Admitted(Struct, frozen=True, kw_only=True):
    """A connection that may be made."""

    host: str
    """Canonical: lower case, no dot at the end, ASCII."""
    port: int
    addresses: tuple[str, ...]
    """All of them were checked; dialled in this order. Empty if a proxy in front resolves."""
    proxy: str = ""
    """The URL of the company's proxy to go through."""
    credential: str = ""
    """The `[credentials.NAME]` whose header is added; empty: the connection is passed on unread."""


class NotAdmitted(Struct, frozen=True, kw_only=True):
    """A connection that may not be made, in words for the person."""

    why: Why
    words: str


class Admission(Protocol):
    """The rules of one worker."""

    async def admit(self, host: str, port: int) -> Admitted | NotAdmitted:
        """Decides. A refusal is noted (event, metric, audit) by the implementation; it may wait for the
        person's answer, 30 s at most.
        """

    def may_go_on(self, host: str, port: int) -> bool:
        """Whether a connection that was admitted is still allowed: asked again after `on_changed`."""

    def on_changed(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Calls `watcher` whenever the rules may be other ones; what is returned ends that."""

    def refuse(self, host: str, port: int, why: Why) -> NotAdmitted:
        """Notes a refusal that a door decided by itself, and says it in words."""

    def transferred(self, *, sent: int, received: int) -> bool:
        """Counts bytes of a connection; False if the session has used up what it may transfer."""
