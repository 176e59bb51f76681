"""JWTs that somebody else signs: checked against that issuer's public keys, from a file or a URL.

Only signatures with a public key are accepted, of the kinds that the configuration lists, so neither `none`
nor a public key taken for an HMAC secret gets in (RFC 8725, 3.1 and 3.2). `exp`, `iss` and `aud` must be
there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import pathlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import jwt
from msgspec import Struct

log = logging.getLogger(__name__)

ASKED_AGAIN_SECONDS: Final = 30.0
"""An unknown key id makes the keys be fetched anew, but not more often than this."""
KNOWN_TOKENS: Final = 10_000
"""Verified ones that are remembered until they expire: a signature costs 50 µs, a look-up 1."""

Fetch = Callable[[str], Awaitable[bytes]]
"""URL → body; raises OSError."""


class TokenRefused(Exception):
    """The token is not accepted; the words say why, without repeating it."""


class Keys(Protocol):
    """Where public keys come from."""

    async def find(self, key_id: str | None) -> jwt.PyJWK:
        """The key of this id, or the only one there is. Raises TokenRefused."""


class FileKeys:
    """A JWKS file, read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path).expanduser()
        self._stamp = 0
        self._keys: list[jwt.PyJWK] = []

    async def find(self, key_id: str | None) -> jwt.PyJWK:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._keys, self._stamp = _parsed(self._path.read_bytes()), stamp
        except (OSError, ValueError) as error:
            log.error("the key file of [jwt] cannot be used: %s", error)
        return _chosen(self._keys, key_id)


class UrlKeys:
    """A JWKS URL, kept for a while; where it does not answer, the keys that are known stay."""

    def __init__(self, url: str, fetch: Fetch, *, seconds: float, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._fetch = fetch
        self._seconds = seconds
        self._monotonic = monotonic
        self._keys: list[jwt.PyJWK] = []
        self._fetched: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK:
        async with self._lock:
            if self._is_due(self._seconds):
                await self._refresh()
            try:
                return _chosen(self._keys, key_id)
            except TokenRefused:
                if not self._is_due(ASKED_AGAIN_SECONDS):
                    raise
            await self._refresh()
        return _chosen(self._keys, key_id)

    def _is_due(self, seconds: float) -> bool:
        return self._fetched is None or self._monotonic() - self._fetched >= seconds

    async def _refresh(self) -> None:
        self._fetched = self._monotonic()
        try:
            self._keys = _parsed(await self._fetch(self._url))
        except (OSError, ValueError) as error:
            log.error("the keys at %s cannot be had: %s", self._url, error)


def _parsed(body: bytes) -> list[jwt.PyJWK]:
    try:
        return jwt.PyJWKSet.from_dict(json.loads(body)).keys
    except (jwt.PyJWTError, AttributeError, TypeError) as error:
        raise ValueError(f"no JWKS: {error}") from None


def _chosen(keys: list[jwt.PyJWK], key_id: str | None) -> jwt.PyJWK:
    fitting = [key for key in keys if key_id is None or key.key_id == key_id]
    if len(fitting) != 1:
        raise TokenRefused("it is signed with a key that is not known here")
    return fitting[0]


class _Known(Struct, frozen=True):
    claims: dict[str, Any]
    expires_at: float


class TokenVerifier:
    """Checks the tokens of one issuer."""

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        algorithms: tuple[str, ...],
        leeway_seconds: float,
        wall_ms: Callable[[], int],
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = algorithms
        self._leeway = leeway_seconds
        self._wall_ms = wall_ms
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def claims(self, token: str) -> dict[str, Any]:
        """What the token says. Raises TokenRefused."""
        name = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(name)
        if known is not None:
            if self._wall_ms() / 1000 < known.expires_at + self._leeway:
                return known.claims
            del self._known[name]
        claims = await self._verified(token)
        self._known[name] = _Known(claims, float(claims["exp"]))
        if len(self._known) > KNOWN_TOKENS:
            self._known.popitem(last=False)
        return claims

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._algorithms:
                raise TokenRefused("its signature is of a kind that is not accepted here")
            key = await self._keys.find(header.get("kid"))
            return jwt.decode(
                token,
                key,
                algorithms=[str(header["alg"])],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(f"{error}".rstrip(".").lower()) from None
        except (ValueError, TypeError, KeyError) as error:
            raise TokenRefused(f"it cannot be read ({type(error).__name__})") from None
