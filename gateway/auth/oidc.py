"""Signing in with an OpenID provider: authorization code flow with PKCE (OpenID Connect Core 3.1, RFC 7636).

The provider's addresses come from its discovery document. The gateway keeps nothing of a sign-in under way:
state, nonce and verifier travel in a signed cookie of the browser that began it. What the provider answers is
read leniently (worker/foreign.py).
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
import secrets
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from gateway.auth.tokens import FileKeys, TokenRefused, TokenVerifier, UrlKeys
from gateway.config.tables import JwtConfig, OidcConfig
from gateway.telemetry.heavy import lazily, loaded
from worker import foreign
from worker.foreign import OnOdd

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = lazily("aiohttp")

T = TypeVar("T")
TIMEOUT_SECONDS: Final = 10
ANSWER_BYTES: Final = 256 * 1024
_BUSY: Final = (408, 425, 429)
"""Statuses below 500 that say nothing about what was asked."""


class ProviderFailed(Exception):
    """The provider did not answer as it should; the words name no secret."""


class NotConfirmed(Exception):
    """The provider does not confirm a sign-in, or gave nothing to ask it with."""


class Confirmed(Struct, frozen=True):
    """What the provider said of who signed in, and what it gave to ask it again with. Never stored."""

    claims: dict[str, Any]
    access_token: str | None = None
    refresh_token: str | None = None

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"Confirmed({self.claims.get('sub')!r})"


class Attempt(Struct, frozen=True):
    """A sign-in under way: where the browser is sent, and what it must bring back."""

    url: str
    state: str
    nonce: str
    verifier: str


class _Discovery(Struct):
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    issuer: str
    userinfo_endpoint: str | None = None


class _Tokens(Struct):
    id_token: str
    access_token: str | None = None
    refresh_token: str | None = None


class _Refreshed(Struct):
    id_token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None


class _Refusal(OSError):
    """The provider answered that it does not do this (4xx)."""


class Http:
    """The one client for issuers and providers, opened at the first call."""

    def __init__(self) -> None:
        self._client: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes every connection."""
        if self._client is not None:
            await self._client.close()

    async def get(self, url: str, *, bearer: str | None = None) -> bytes:
        """The body of a GET. Raises OSError."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
        return await self._ask("GET", url, headers=headers)

    async def post_form(self, url: str, form: dict[str, str], *, auth: tuple[str, str] | None) -> bytes:
        """The body of the answer to a form. Raises OSError."""
        headers = {"Authorization": _basic(*auth)} if auth is not None else {}
        return await self._ask("POST", url, data=form, headers=headers)

    async def _ask(self, method: str, url: str, **kwargs: Any) -> bytes:
        await loaded("aiohttp")
        if self._client is None:
            self._client = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with self._client.request(method, url, allow_redirects=False, **kwargs) as response:
                if response.status != 200:
                    is_refusal = 400 <= response.status < 500 and response.status not in _BUSY
                    raise (_Refusal if is_refusal else OSError)(f"status {response.status}")
                return await _whole(response)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OSError(type(error).__name__) from None


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body, in however many pieces it comes. Raises OSError if it is too long."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES:
            raise OSError(f"an answer of more than {ANSWER_BYTES >> 10} KiB")
    return bytes(body)


def _basic(client_id: str, secret: str) -> str:
    """RFC 6749, 2.3.1: both are form-encoded first."""
    pair = f"{urllib.parse.quote_plus(client_id)}:{urllib.parse.quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def verifier_of(
    config: JwtConfig,
    http: Http,
    *,
    monotonic: Callable[[], float],
    wall_ms: Callable[[], int],
    on_odd: OnOdd = foreign.ignored,
) -> TokenVerifier:
    """The verifier of Bearer tokens that `[jwt]` describes."""
    keys: FileKeys | UrlKeys
    if config.jwks_file:
        keys = FileKeys(config.jwks_file, on_odd)
    else:
        keys = UrlKeys(
            config.jwks_url, http.get, seconds=config.jwks_seconds, monotonic=monotonic, on_odd=on_odd
        )
    return TokenVerifier(
        keys,
        issuer=config.issuer,
        audience=config.audience,
        algorithms=config.algorithms,
        leeway_seconds=config.leeway_seconds,
        wall_ms=wall_ms,
        on_odd=on_odd,
    )


class Provider:
    """One OpenID provider; see the module."""

    def __init__(
        self,
        config: OidcConfig,
        http: Http,
        *,
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        on_odd: OnOdd = foreign.ignored,
    ) -> None:
        self.config = config
        self._http = http
        self._on_odd = on_odd
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._known: tuple[_Discovery, TokenVerifier] | None = None

    async def begin(self, *, is_silent: bool = False) -> Attempt:
        """Where to send a browser that wants to sign in. Silently: without a question to the person, who
        comes back with an error if there is something to ask. Raises ProviderFailed.
        """
        found, _ = await self._discovered()
        state, nonce, verifier = (secrets.token_urlsafe(24) for _ in range(3))
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.redirect_url,
            "scope": " ".join(self.config.request_scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        } | ({"prompt": "none"} if is_silent else {})
        mark = "&" if "?" in found.authorization_endpoint else "?"
        url = found.authorization_endpoint + mark + urllib.parse.urlencode(query)
        return Attempt(url, state, nonce, verifier)

    async def finish(self, code: str, *, verifier: str, nonce: str) -> Confirmed:
        """What the provider says of who signed in. Raises ProviderFailed."""
        found, tokens = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.config.redirect_url,
            "client_id": self.config.client_id,
            "code_verifier": verifier,
        }
        try:
            body = await self._http.post_form(found.token_endpoint, form, auth=self._credentials())
            given = self._read(body, _Tokens)
            claims = await tokens.claims(given.id_token)
        except OSError as error:
            raise ProviderFailed(f"The sign-in was not confirmed ({error}). Try again.") from None
        except (msgspec.DecodeError, TokenRefused) as error:
            raise ProviderFailed(f"The provider's answer is not accepted: {error}.") from None
        if claims.get("nonce") != nonce:
            raise ProviderFailed("The provider's answer belongs to another sign-in. Try again.")
        return Confirmed(claims, given.access_token, given.refresh_token)

    async def confirm(self, known: Confirmed) -> Confirmed:
        """Asks again about somebody who signed in. What the provider leaves out is as before, but for the
        groups, which it must say.

        Raises NotConfirmed, and ProviderFailed if it does not answer.
        """
        found, tokens = await self._discovered()
        try:
            if known.refresh_token:
                return self._same_person(known, await self._refreshed(known, found, tokens))
            if known.access_token:
                claims = await self._userinfo(known.access_token, found)
                return self._same_person(known, msgspec.structs.replace(known, claims=claims))
        except _Refusal as error:
            raise NotConfirmed(f"the provider refuses it ({error})") from None
        except OSError as error:
            raise ProviderFailed(f"The sign-in provider does not answer ({error}).") from None
        except (msgspec.DecodeError, TokenRefused) as error:
            raise NotConfirmed(f"the provider's answer is not accepted: {error}") from None
        raise NotConfirmed("the provider gave nothing to ask it with")

    async def _refreshed(self, known: Confirmed, found: _Discovery, tokens: TokenVerifier) -> Confirmed:
        """What the refresh token brings (OpenID Connect Core 12.2). A token that is left out is as before."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": known.refresh_token or "",
            "client_id": self.config.client_id,
        }
        body = await self._http.post_form(found.token_endpoint, form, auth=self._credentials())
        given = self._read(body, _Refreshed)
        claims = await tokens.claims(given.id_token) if given.id_token else {}
        access = given.access_token or known.access_token
        if self.config.groups_claim not in claims and access:
            claims = claims | await self._userinfo(access, found)
        return Confirmed(claims, access, given.refresh_token or known.refresh_token)

    async def _userinfo(self, access_token: str, found: _Discovery) -> dict[str, Any]:
        """The claims of the userinfo endpoint (OpenID Connect Core 5.3), as JSON."""
        if found.userinfo_endpoint is None or not _is_url(found.userinfo_endpoint):
            raise NotConfirmed("the provider has no userinfo endpoint")
        body = await self._http.get(found.userinfo_endpoint, bearer=access_token)
        return self._read(body, dict[str, Any])

    def _same_person(self, known: Confirmed, new: Confirmed) -> Confirmed:
        """The new answer over the old one. Raises NotConfirmed if it is about somebody else, or says nothing
        of groups.
        """
        if new.claims.get("sub") != known.claims.get("sub"):
            raise NotConfirmed("the provider's answer is about somebody else")
        if self.config.groups_claim not in new.claims:
            raise NotConfirmed("the provider's answer says nothing of groups")
        return msgspec.structs.replace(new, claims=known.claims | new.claims)

    def _credentials(self) -> tuple[str, str] | None:
        if not self.config.client_secret_file:
            return None
        try:
            secret = pathlib.Path(self.config.client_secret_file).expanduser().read_text("utf-8-sig").strip()
        except OSError as error:
            raise ProviderFailed(f"oidc.client_secret_file cannot be read: {error.strerror}.") from None
        return self.config.client_id, secret

    async def _discovered(self) -> tuple[_Discovery, TokenVerifier]:
        if self._known is None:
            url = self.config.issuer.rstrip("/") + "/.well-known/openid-configuration"
            try:
                found = self._read(await self._http.get(url), _Discovery)
            except OSError as error:
                raise ProviderFailed(f"The sign-in provider does not answer ({error}). Try again.") from None
            except msgspec.DecodeError as error:
                raise ProviderFailed(f"The sign-in provider's description cannot be used: {error}.") from None
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not _is_url(getattr(found, name)):
                    raise ProviderFailed(
                        f"The sign-in provider's description cannot be used: its {name} is no address."
                    )
            if found.issuer.rstrip("/") != self.config.issuer.rstrip("/"):
                raise ProviderFailed("The sign-in provider calls itself by another name than oidc.issuer.")
            keys = UrlKeys(
                found.jwks_uri,
                self._http.get,
                seconds=300,
                monotonic=self._monotonic,
                on_odd=self._on_odd,
            )
            self._known = (
                found,
                TokenVerifier(
                    keys,
                    issuer=found.issuer,
                    audience=self.config.client_id,
                    algorithms=JwtConfig().algorithms,
                    leeway_seconds=30,
                    wall_ms=self._wall_ms,
                    on_odd=self._on_odd,
                ),
            )
        return self._known

    def _read(self, body: bytes, kind: type[T]) -> T:
        return foreign.read(body, kind, self._on_odd)


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable()
    except ValueError:
        return False
