"""What was changed, where several gateways share a store: so that each of them reads anew what another one
changed, and nothing else.

Guarantee: a number is raised in the commit of the change that it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

ChangeKind = Literal["keys", "shares", "revocations", "people", "tenants", "secrets", "signing"]
"""API keys; links that ended; what was revoked; who is disabled; tenants that administrators made or
disabled; encrypted values; the secret that gateways sign with.
"""


class ChangeStore(Protocol):
    """How often each kind was changed. May raise StoreFull or StoreFailed."""

    async def numbers(self) -> Mapping[str, int]:
        """By kind; one that was never changed may be missing."""


class NoChanges:
    """`ChangeStore` of an engine that one gateway has for itself."""

    async def numbers(self) -> Mapping[str, int]:
        return {}
