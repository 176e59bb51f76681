"""Who: a tenant, and on whose behalf inside it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Principal(Struct, frozen=True):
    """A tenant and a subject. Both are chosen by the gateway's credentials, never by a request's ids."""

    tenant: str
    subject: str

    @property
    def owner(self) -> str:
        """The owner of what this principal makes: sessions are keyed by (owner, id)."""
        return f"{self.tenant}/{self.subject}"


LOCAL: Final = Principal("default", "local")
"""The person at the machine: the one owner in `open` mode."""
