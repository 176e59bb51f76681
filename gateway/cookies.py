"""The cookies: what each is called at this gateway, and the header that sets one.

A browser keeps cookies by host, not by port, so a name also says which gateway: by a hash of
`server.public_url`, or by the port that the browser asked. Two gateways of one host therefore never overwrite
each other's. Over https a prefix keeps other hosts of the domain from setting ours (RFC 6265bis, 4.1.3):
`__Host-`, or `__Secure-` if the public address has a path.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Final
from urllib.parse import urlsplit

from gateway.addresses import host_and_port

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


def _prefix(scheme: str, path: str) -> str:
    if scheme != "https":
        return ""
    return "__Secure-" if path.strip("/") else "__Host-"


def header(name: str, text: str, *, is_secure: bool, seconds: float | None = None) -> str:
    """The value of Set-Cookie; without `seconds` the cookie goes with the browser's session."""
    age = "" if seconds is None else f"; Max-Age={round(seconds)}"
    return f"{name}={text}; Path=/{age}; HttpOnly; SameSite=Lax{'; Secure' * is_secure}"
