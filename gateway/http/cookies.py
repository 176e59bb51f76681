"""The cookies: what each is called at this gateway, and the header that sets one.

A browser keeps cookies by host, not by port, so a name also says which gateway: by a hash of
`server.public_url`, or by the port that the browser asked. Two gateways of one host therefore never overwrite
each other's; one that moves to another port reads what it signed before. Over https a prefix keeps other
hosts of the domain from setting ours (RFC 6265bis, 4.1.3): `__Host-`, or `__Secure-` if the public address
has a path.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from gateway.config.addresses import host_and_port

VISITOR: Final = "agw_visitor"
USER: Final = "agw_user"
SIGN_IN: Final = "agw_signin"
SESSION: Final = "agw_session"
"""The first parts of the names, which were whole names until the gateway's own part was added."""
OLD_NAME_DAYS: Final = 90
"""A cookie of an old name is read, and exchanged for one of today's, if it was signed within so many days.
None is signed for an old name any more.
"""
HASH_LETTERS: Final = 8
_PORTS: Final = {"https": 443, "wss": 443}
_HTTP_PORT: Final = 80


@functools.lru_cache(maxsize=1_024)
def name_of(kind: str, *, public_url: str, host: str, scheme: str) -> str:
    """The name of a cookie; `host` and `scheme` are those of the request."""
    if public_url:
        parts = urlsplit(public_url)
        digest = hashlib.sha256(public_url.rstrip("/").encode()).hexdigest()[:HASH_LETTERS]
        return f"{_prefix(parts.scheme, parts.path)}{kind}_{digest}"
    _, port = host_and_port(host)
    return f"{kind}_{port or _PORTS.get(scheme, _HTTP_PORT)}"


def of_other_ports(kind: str, own: str, given: Iterable[str]) -> list[str]:
    """The names that this kind has at other ports of the host, of those that a browser sent. None if `own` is
    the name of a public address.
    """
    if not _PORT.fullmatch(own.removeprefix(kind)):
        return []
    return [name for name in given if name != own and _is_at_port(kind, name)]


def _is_at_port(kind: str, name: str) -> bool:
    return name.startswith(kind) and _PORT.fullmatch(name.removeprefix(kind)) is not None


_PORT: Final = re.compile("_[0-9]{1,5}")


def _prefix(scheme: str, path: str) -> str:
    if scheme != "https":
        return ""
    return "__Secure-" if path.strip("/") else "__Host-"


def header(name: str, text: str, *, is_secure: bool, seconds: float | None = None) -> str:
    """The value of Set-Cookie; without `seconds` the cookie goes with the browser's session."""
    age = "" if seconds is None else f"; Max-Age={round(seconds)}"
    return f"{name}={text}; Path=/{age}; HttpOnly; SameSite=Lax{'; Secure' * is_secure}"
