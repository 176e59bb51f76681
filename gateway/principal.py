"""Who: a tenant, on whose behalf inside it, and what they may do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

Scope = Literal["", "read", "chat", "approve", "support", "operate", "admin"]
"""What an operation asks of its caller. Empty: nothing, it is public.

`read` sees one's own sessions, `chat` uses them, `approve` answers their permission requests (which `chat`
may too, unless `approvals.require_scope` is set), `operate` watches and ends everybody's without seeing their
content, `support` answers its tenant's visitors as a person, `admin` makes keys and may
do what `operate` and `support` may.
"""

IMPLIED: Final[dict[str, frozenset[str]]] = {
    "read": frozenset({"read"}),
    "chat": frozenset({"chat", "read"}),
    "approve": frozenset({"approve", "read"}),
    "support": frozenset({"support", "chat", "read"}),
    "operate": frozenset({"operate"}),
    "admin": frozenset({"admin", "operate", "support"}),
}
"""A scope and everything that comes with it."""

ALL_SCOPES: Final = frozenset(IMPLIED)

VISITOR_MARK: Final = "~"
"""What the subject of an anonymous visitor begins with; no other subject does."""

SUBJECT_CHARACTERS: Final = 255

Kind = Literal["local", "key", "token", "user", "visitor"]


class ConversationKey(Struct, frozen=True):
    """Whose conversation: a session's, or one of an MCP client that has no session. The owner is decided by
    credentials, the conversation's id only routes.
    """

    tenant: str
    owner: str
    conversation: str


class Principal(Struct, frozen=True):
    """A tenant and a subject. Both are chosen by the gateway's credentials, never by a request's ids."""

    tenant: str
    subject: str
    kind: Kind = "local"
    """How it is known: the machine, an API key, a JWT, a sign-in, a visitor's cookie."""
    scopes: frozenset[str] = ALL_SCOPES
    key_id: str | None = None
    """The public part of the API key, which limits of a key count by."""
    agents: tuple[str, ...] = ()
    """The agents that it may choose, the first by default; empty: all."""

    @property
    def owner(self) -> str:
        """The owner of what this principal makes: sessions are keyed by (owner, id)."""
        return f"{self.tenant}/{self.subject}"


class Account(Struct, frozen=True):
    """Who pays for something."""

    owner: str
    session_key: str
    key_id: str | None = None
    agent: str = ""
    """The agent that uses it, by its name in the catalogue; empty if no agent does."""

    def names(self) -> Iterator[tuple[str, str]]:
        """Everybody who pays, as (kind, name): these are `stores.usage.UseName`s."""
        yield "tenant", tenant_of(self.owner)
        yield "subject", self.owner
        yield "session", self.session_key
        if self.key_id is not None:
            yield "key", self.key_id


LOCAL: Final = Principal("default", "local")
"""The person at the machine: the one owner in `open` mode."""


def with_implied(scopes: frozenset[str]) -> frozenset[str]:
    """These scopes and those that come with them. Raises KeyError for one that there is not."""
    return frozenset().union(*(IMPLIED[scope] for scope in scopes))


def reach(principal: Principal) -> str | None:
    """The tenant that an operator's or administrator's word holds for; None: the whole gateway.

    The tenant `default` is the gateway's own.
    """
    return None if principal.tenant == LOCAL.tenant else principal.tenant


def tenant_of(owner: str) -> str:
    """The tenant in an owner's name; no tenant's name has a slash."""
    return owner.partition("/")[0]


def subject_of(owner: str) -> str:
    """The subject in an owner's name."""
    return owner.partition("/")[2]


def is_visitor(owner: str) -> bool:
    """Whether this is the owner's name of an anonymous visitor."""
    return owner.partition("/")[2].startswith(VISITOR_MARK)


def is_subject(text: str) -> bool:
    """Whether somebody may be called so: short, printable, whole (two broken names read alike), and not as
    visitors are.
    """
    is_whole = text.isprintable() and "\ufffd" not in text
    return 0 < len(text) <= SUBJECT_CHARACTERS and is_whole and not text.startswith(VISITOR_MARK)


def session_hash(owner: str, session_id: str) -> str:
    """What is kept instead of the id of an erased session."""
    return hashlib.sha256(f"{owner}\0{session_id}".encode()).hexdigest()
