"""The secret that a gateway signs with, where several share a store: all of them must have the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SigningStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def secrets(self, offered: bytes) -> Sequence[bytes]:
        """The one to sign with, then the one before it, if there is one: `offered`, if there was none yet."""

    async def agrees(self, digest: str) -> bool:
        """Whether the others that run have the secret of this digest. It is kept; who is alone is right."""


class OwnSigning:
    """`SigningStore` of an engine that one gateway has for itself: it keeps nothing."""

    async def secrets(self, offered: bytes) -> Sequence[bytes]:
        return (offered,)

    async def agrees(self, digest: str) -> bool:
        return True
