"""JWTs that somebody else signs: checked against that issuer's public keys, from a file or a URL.

Only signatures with a public key are accepted, of the kinds that the configuration lists, so neither `none`
nor a public key taken for an HMAC secret gets in (RFC 8725, 3.1 and 3.2). `exp`, `iss` and `aud` must be
there.

Keys and claims are what others wrote (worker/foreign.py): an optional member that is odd counts as absent, a
key that cannot be used is left out. One exception: an `nbf` that cannot be read refuses the token, because it
is a restriction.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import pathlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec
from msgspec import Raw, Struct

from gateway.telemetry.heavy import lazily
from worker import foreign
from worker.foreign import Name, OnOdd

if TYPE_CHECKING:
    import jwt
    from cryptography import exceptions
else:
    jwt = lazily("jwt")
    exceptions = lazily("cryptography.exceptions")

log = logging.getLogger(__name__)

ASKED_AGAIN_SECONDS: Final = 30.0
"""An unknown key id makes the keys be fetched anew, but not more often than this."""
_PUBLIC_KINDS: Final = ("RSA", "EC", "OKP")
KNOWN_TOKENS: Final = 10_000
"""Verified ones that are remembered until they expire: a signature costs 50 µs, a look-up 1."""

Fetch = Callable[[str], Awaitable[bytes]]
"""URL → body; raises OSError."""


class TokenRefused(Exception):
    """The token is not accepted; the words say why, without repeating it."""


class Keys(Protocol):
    """Where public keys come from."""

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """The key of this id, or the only one that fits. Raises TokenRefused."""


class _Jwk(Struct, frozen=True, omit_defaults=True):
    """The public members of a key (RFC 7517, 7518, 8037); private and symmetric ones are not read."""

    kty: str
    kid: Name | None = None
    use: str | None = None
    alg: str | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    n: str | None = None
    e: str | None = None


class _JwkSet(Struct, frozen=True):
    keys: list[_Jwk]


class FileKeys:
    """A JWKS file, read again when it has changed."""

    def __init__(self, path: str, on_odd: OnOdd = foreign.ignored) -> None:
        self._path = pathlib.Path(path).expanduser()
        self._on_odd = on_odd
        self._stamp = 0
        self._keys: list[_Jwk] = []

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._keys, self._stamp = _parsed(self._path.read_bytes(), self._on_odd), stamp
        except (OSError, ValueError) as error:
            log.error("the key file of [jwt] cannot be used: %s", error)
        return _chosen(self._keys, key_id, algorithm)


class UrlKeys:
    """A JWKS URL, kept for a while; if it does not answer, the keys that are known stay."""

    def __init__(
        self,
        url: str,
        fetch: Fetch,
        *,
        seconds: float,
        monotonic: Callable[[], float],
        on_odd: OnOdd = foreign.ignored,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._seconds = seconds
        self._monotonic = monotonic
        self._on_odd = on_odd
        self._keys: list[_Jwk] = []
        self._fetched: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        async with self._lock:
            if self._is_due(self._seconds):
                await self._refresh()
            try:
                return _chosen(self._keys, key_id, algorithm)
            except TokenRefused:
                if not self._is_due(ASKED_AGAIN_SECONDS):
                    raise
            await self._refresh()
        return _chosen(self._keys, key_id, algorithm)

    def _is_due(self, seconds: float) -> bool:
        return self._fetched is None or self._monotonic() - self._fetched >= seconds

    async def _refresh(self) -> None:
        self._fetched = self._monotonic()
        try:
            self._keys = _parsed(await self._fetch(self._url), self._on_odd)
        except (OSError, ValueError) as error:
            log.error("the keys at %s cannot be had: %s", self._url, error)


def _parsed(body: bytes, on_odd: OnOdd) -> list[_Jwk]:
    """The keys of a JWKS that check signatures. Raises ValueError if there is none."""
    found = foreign.read(body, _JwkSet, on_odd).keys
    usable = []
    for key in found:
        if key.use == "enc" or key.kty not in _PUBLIC_KINDS:
            continue
        if _built(key, None) is None:
            on_odd("keys[]")
        else:
            usable.append(key)
    if not usable:
        raise ValueError("no JWKS: it has no public key that can be used")
    return usable


def _chosen(keys: list[_Jwk], key_id: str | None, algorithm: str) -> jwt.PyJWK:
    """The key of this id; keys without an id are asked if none has it, or if the token names none."""
    named = [key for key in keys if key_id is None or key.kid == key_id]
    candidates = named or [key for key in keys if key.kid is None]
    fitting = {built for key in candidates if (built := _built(key, algorithm)) is not None}
    if len(fitting) != 1:
        raise TokenRefused("it is signed with a key that is not known here")
    return fitting.pop()


@functools.lru_cache(maxsize=64)
def _built(key: _Jwk, algorithm: str | None) -> jwt.PyJWK | None:
    """The key for signatures of this kind (None: of any), if it can be used for them.

    A key that does not say its own `alg` serves each kind that its type can: the token's header is one of
    those that the configuration lists, and the library refuses a type that does not fit it.
    """
    members = msgspec.to_builtins(key)
    own = members.pop("alg", None)
    if own and algorithm is not None and own != algorithm:
        return None
    try:
        return jwt.PyJWK(members, algorithm or own or None)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, exceptions.UnsupportedAlgorithm):
        return None


_SHAPES: Final[dict[str, Any]] = {"aud": str | list[str]}
"""Claims of which a part may be left out; others are taken whole or not at all."""


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
        on_odd: OnOdd = foreign.ignored,
    ) -> None:
        self._keys = keys
        self._on_odd = on_odd
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
            algorithm = header.get("alg")
            if algorithm not in self._algorithms:
                raise TokenRefused("its signature is of a kind that is not accepted here")
            key = await self._keys.find(header.get("kid"), str(algorithm))
            payload: bytes = jwt.PyJWS().decode(token, key, algorithms=[str(algorithm)])
            claims = _read(payload, self._on_odd)
        except jwt.PyJWTError as error:
            raise TokenRefused(f"{error}".rstrip(".").lower()) from None
        except (ValueError, TypeError, KeyError) as error:
            raise TokenRefused(f"it cannot be read ({type(error).__name__})") from None
        self._check_parties(claims)
        self._check_times(claims)
        return claims

    def _check_parties(self, claims: dict[str, Any]) -> None:
        """RFC 7519, 4.1.1 and 4.1.3: `aud` is a text, or a list of which one is ours."""
        missing = [name for name in ("exp", "iss", "aud") if claims.get(name) is None]
        if missing:
            raise TokenRefused(f"it has no {missing[0]}")
        if claims["iss"] != self._issuer:
            raise TokenRefused("it is of another issuer")
        named = claims["aud"]
        if self._audience not in (named if isinstance(named, list) else [named]):
            raise TokenRefused("it is meant for somebody else")

    def _check_times(self, claims: dict[str, Any]) -> None:
        now = self._wall_ms() / 1000
        ends, begins, issued = (_time(claims.get(name)) for name in ("exp", "nbf", "iat"))
        if ends is None:
            raise TokenRefused("its exp is not a time")
        if ends <= now - self._leeway:
            raise TokenRefused("it has expired")
        if begins is None and claims.get("nbf") is not None:
            raise TokenRefused("its nbf is not a time")
        if max(begins or 0, issued or 0) > now + self._leeway:
            raise TokenRefused("it is not valid yet")


def _read(payload: bytes, on_odd: OnOdd) -> dict[str, Any]:
    """The claims, without those that cannot be held. Raises ValueError if they are no object."""
    members = foreign.read(payload, dict[str, Raw], on_odd)
    claims: dict[str, Any] = {}
    for name, text in members.items():
        try:
            claims[name] = foreign.decode(text, _SHAPES.get(name, cast("Any", object)), on_odd)
        except msgspec.DecodeError:
            on_odd(name)
    return claims


def _time(claim: Any) -> float | None:
    """Seconds since 1970, in whatever form a number has; None if it is none."""
    if isinstance(claim, bool) or not isinstance(claim, int | float | str):
        return None
    try:
        seconds = float(claim)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None
