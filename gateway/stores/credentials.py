"""What a gateway remembers about its callers: API keys, shared links, revocations, one-time tokens.

Secrets are kept as SHA-256 only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key without its secret. Times are milliseconds since 1970 UTC."""

    id: str
    """The public part, by which people tell keys apart."""
    hash: str
    tenant: str
    subject: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


ShareKind = Literal["view", "drive", "approve"]
"""What a link allows: to read; to write, too; to answer permission requests and questions, too."""


class Share(Struct, frozen=True, kw_only=True):
    """A link to one session, for others than its owner."""

    id: str
    hash: str
    session_key: str
    created_at: int
    expires_at: int | None = None
    kind: ShareKind = "view"
    by_approver: bool = False
    """Whether who made it had the scope `approve` by name."""
    uses: int = 0
    """How often somebody began to follow the session by it."""
    last_used_at: int | None = None


class SharedSession(Struct, frozen=True, kw_only=True):
    """Where a shared link leads."""

    share: Share
    owner: str
    session_id: str


class CredentialStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def keys(self) -> Sequence[ApiKey]:
        """Every key, revoked ones too."""

    async def put_key(self, key: ApiKey) -> None:
        """Keeps a key, in place of the one of the same id. One that was revoked stays so."""

    async def find_key(self, key_id: str) -> ApiKey | None:
        """The key of this id, revoked or not."""

    async def use_keys(self, uses: Mapping[str, int]) -> None:
        """Notes when keys were used last, by their ids."""

    async def put_share(self, share: Share) -> None:
        """Keeps a link."""

    async def shares(self, session_key: str) -> Sequence[Share]:
        """The links to a session, oldest first."""

    async def count_shares(self, owner: str) -> int:
        """How many links there are to an owner's sessions."""

    async def find_share(self, share_id: str) -> SharedSession | None:
        """The link of this id, and the session it leads to."""

    async def use_share(self, share_id: str, *, at: int) -> None:
        """Counts a use of a link; nothing if there is none."""

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        """Forgets a link; whether there was one."""

    async def shares_there(self, share_ids: Collection[str]) -> set[str]:
        """Those of these links that there still are."""

    async def revocations(self) -> dict[str, int]:
        """Owner → when what was issued to it before was revoked."""

    async def revoke(self, owner: str, at: int) -> None:
        """Notes a revocation."""

    async def use_once(self, token_id: str, *, expires_at: int) -> bool:
        """Whether this one-time token is used for the first time."""

    async def forget_used(self, *, now: int) -> None:
        """Forgets one-time tokens that have expired; nobody could use them again."""
