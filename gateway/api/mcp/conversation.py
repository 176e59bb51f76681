"""Which conversation an MCP request belongs to.

Its id may sit in several places; the first in the order below wins, and one that disagrees is logged. Ids
route, they do not authorise: the owner is the principal's, narrowed by the end user that ChatGPT names. If no
id came along, the call gets a fresh conversation of its own, never one that somebody else may have.

A visitor without a cookie is a new visitor at every request, as ChatGPT is. The conversation is then its end
user's; without one, only an id that nobody can guess leads to it.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.agents.toolsets import Caller
from gateway.auth.passes import Granted
from gateway.principal import ConversationKey, Principal

log = logging.getLogger(__name__)

META_KEYS: Final = ("sessionId", "conversationId", "session_id", "openai/session")
SUBJECT: Final = "openai/subject"
LOCALE: Final = "openai/locale"
ARGUMENT: Final = "_sessionId"
TRANSPORT: Final = "transport"
SESSION: Final = "session"
FRESH: Final = "fresh"
MAX_ID: Final = 256
HARD_TO_GUESS: Final = 24
"""Characters from which on an `openai/session` is taken for the random one that ChatGPT sends."""
END_USERS: Final = "~openai"
HANDLES: Final = "~handle"
"""Subjects that no visitor has: owners of conversations that an end user's name, or an unguessable id, leads
to.
"""

_MINTED: Final = re.compile(r"agw-[0-9a-f]{32}")


class MalformedConversation(Exception):
    """An id that cannot be one; `source` is the place that it came from."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(source)


class CallOrigin(Struct, frozen=True, kw_only=True):
    """What is known of a request besides its message."""

    principal: Principal
    granted: Granted | None = None
    """The caller is the agent of a session, and this is what its pass opens: nothing else is asked."""
    outer_meta: Mapping[str, Any] = {}
    """The `_meta` beside `params`."""
    transport: str | None = None
    """The transport's own session."""
    is_private: bool = False
    """The caller asked not to be counted (Global Privacy Control)."""
    is_nobody: bool = False
    """Nothing says who asks, and the next request will not either."""


class Named(Struct, frozen=True, kw_only=True):
    """What a request says about its conversation, as it came."""

    meta: Mapping[str, Any]
    """`params._meta`."""
    arguments: Mapping[str, Any]
    origin: CallOrigin


def mint() -> str:
    """A new id that cannot be guessed."""
    return f"agw-{secrets.token_hex(16)}"


def is_minted(session_id: str) -> bool:
    """Whether an id looks like one of ours: only such a one is taken for a transport's session."""
    return _MINTED.fullmatch(session_id) is not None


def caller_of(named: Named) -> Caller:
    """On whose behalf, and for which conversation, a tool is called. Raises MalformedConversation."""
    origin = named.origin
    if origin.granted is not None:
        return Caller(key=origin.granted.key, source=SESSION, is_agent=True, locale=_locale(named))
    found = list(_sources(named))
    if any(session_id != found[0][1] for _, session_id in found[1:]):
        log.warning(
            "a request names more than one conversation (%s); the first counts",
            ", ".join(source for source, _ in found),
        )
    if found and not _is_anybodys(named, *found[0]):
        source, conversation = found[0]
    elif origin.transport is not None:
        source, conversation = TRANSPORT, origin.transport
    else:
        source, conversation = FRESH, mint()
        log.warning("a tool was called without a conversation's id: it got a fresh one")
    return Caller(
        key=ConversationKey(origin.principal.tenant, _owner(named), conversation),
        source=source,
        is_fresh=source == FRESH,
        is_private=origin.is_private,
        locale=_locale(named),
    )


def _sources(named: Named) -> Iterator[tuple[str, str]]:
    for place, meta in (("params._meta", named.meta), ("_meta", named.origin.outer_meta)):
        for key in META_KEYS:
            if meta.get(key) is not None:
                yield f"{place}.{key}", checked_id(f"{place}.{key}", meta[key])
    if named.arguments.get(ARGUMENT) is not None:
        source = f"arguments.{ARGUMENT}"
        yield source, checked_id(source, named.arguments[ARGUMENT])


def checked_id(source: str, value: object) -> str:
    """An id as it came, letter for letter: two that look alike are two. Raises MalformedConversation."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID or not value.isprintable():
        raise MalformedConversation(source)
    return value


def _owner(named: Named) -> str:
    """The principal's, and the end user's behind it. No printable id can imitate the line break."""
    end_user, principal = _end_user(named), named.origin.principal
    if named.origin.is_nobody:
        owner = f"{principal.tenant}/{HANDLES if end_user is None else END_USERS}"
    else:
        owner = principal.owner
    return owner if end_user is None else f"{owner}\n{end_user}"


def _end_user(named: Named) -> str | None:
    for place, meta in (("params._meta", named.meta), ("_meta", named.origin.outer_meta)):
        if meta.get(SUBJECT) is not None:
            return checked_id(f"{place}.{SUBJECT}", meta[SUBJECT])
    return None


def _is_anybodys(named: Named, source: str, conversation: str) -> bool:
    """Whether a stranger may have the same id, and nothing else tells the two apart."""
    if not named.origin.is_nobody or _end_user(named) is not None or is_minted(conversation):
        return False
    return not (source.endswith("openai/session") and len(conversation) >= HARD_TO_GUESS)


def _locale(named: Named) -> str | None:
    for meta in (named.meta, named.origin.outer_meta):
        if isinstance(meta.get(LOCALE), str):
            return str(meta[LOCALE])
    return None
