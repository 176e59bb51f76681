"""Every member of what an OpenID provider answers, mistaken in every way: people sign in, or read why not.

Whoever can be signed in without the member is signed in.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Final

import jwt
import pytest
import pytest_asyncio

from gateway.auth.oidc import Http, Provider, ProviderFailed, verifier_of
from gateway.auth.tokens import TokenRefused, TokenVerifier
from gateway.config.tables import JwtConfig, OidcConfig
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation
from tests.gateways import running_gateway
from tests.issuer import CLIENT, Issuer, running_issuer
from tests.scrapes import parsed
from tests.shared import SHARED, ask

SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
CASES: Final = int(os.environ.get("FUZZ_CASES", "150"))
TOO_LONG: Final = "long_text"
"""A document has a bound, whichever member fills it."""
DESCRIPTION: Final[dict[str, Any]] = {
    "scopes_supported": ["openid"],
    "userinfo_endpoint": "https://issuer.example/me",
    "claims_supported": ["sub"],
    "request_parameter_supported": False,
}
TOKENS: Final[dict[str, Any]] = {
    "access_token": "a",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "r",
    "scope": "openid profile",
}
NEEDED: Final = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "id_token", "the whole")


pytestmark = SHARED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[Http]:
    client = Http()
    yield client
    await client.close()


def some(message: Any) -> list[Mutation]:
    return mutations.some(message, count=CASES, seed=SEED)


def provider_of(issuer: Issuer, http: Http) -> Provider:
    config = OidcConfig(issuer=issuer.url, client_id=CLIENT, redirect_url="http://127.0.0.1/back")
    return Provider(config, http, monotonic=time.monotonic, wall_ms=lambda: int(time.time() * 1000))


def verifier(issuer: Issuer, keys: pathlib.Path, http: Http) -> TokenVerifier:
    config = JwtConfig(issuer=issuer.url, audience=CLIENT, jwks_file=str(keys))
    return verifier_of(config, http, monotonic=time.monotonic, wall_ms=lambda: int(time.time() * 1000))


async def sign_in(issuer: Issuer, http: Http, more: bytes = b"") -> dict[str, Any]:
    """A sign-in from its first step; the token's answer is the given one, with its nonce."""
    provider = provider_of(issuer, http)
    attempt = await provider.begin()
    assert attempt.url.startswith(("http://", "https://"))
    token = issuer.token(key_id="ec-1", nonce=attempt.nonce)
    body = more or json.dumps({"id_token": token}).encode()
    with answering(issuer, "/token", body.replace(b"TOKEN", token.encode())):
        confirmed = await provider.finish("code", verifier=attempt.verifier, nonce=attempt.nonce)
    return confirmed.claims


@contextlib.contextmanager
def answering(issuer: Issuer, path: str, body: bytes) -> Iterator[None]:
    issuer.bodies[path] = body
    try:
        yield
    finally:
        del issuer.bodies[path]


async def taken_or_words(
    mutation: Mutation, attempt: Coroutine[Any, Any, dict[str, Any]], *, may_fail: bool
) -> None:
    try:
        claims = await attempt
    except (ProviderFailed, TokenRefused) as refused:
        words = str(refused)
        assert may_fail, f"FUZZ_SEED={SEED} {mutation.name}: {words}"
        assert words, mutation.name
        assert len(words) < 500, mutation.name
    except Exception as error:
        raise AssertionError(f"FUZZ_SEED={SEED} {mutation.name}: {type(error).__name__}: {error}") from error
    else:
        assert claims.get("sub") == "alice" or mutation.name.startswith("sub: "), mutation.name


def is_needed(mutation: Mutation, needed: tuple[str, ...]) -> bool:
    path, _, kind = mutation.name.rpartition(": ")
    return path.split(".")[0] in needed or kind == TOO_LONG


async def test_a_description_signs_in_or_says_why_not(issuer: Issuer, http: Http) -> None:
    for mutation in some(DESCRIPTION | issuer.description()):
        with answering(issuer, "/.well-known/openid-configuration", mutation.text):
            await taken_or_words(mutation, sign_in(issuer, http), may_fail=is_needed(mutation, NEEDED))


async def test_a_tokens_answer_signs_in_or_says_why_not(issuer: Issuer, http: Http) -> None:
    for mutation in some(TOKENS | {"id_token": "TOKEN"}):
        await taken_or_words(
            mutation, sign_in(issuer, http, mutation.text), may_fail=is_needed(mutation, NEEDED)
        )


def key_set(issuer: Issuer) -> dict[str, Any]:
    """The key that signs, with all that is optional, and one that does not matter."""
    other, signing = issuer.jwks()["keys"]
    assert (other["kid"], signing["kid"]) == ("rsa-1", "ec-1")
    signing |= {"use": "sig", "key_ops": ["verify"], "x5t": "x"}
    return {"keys": [other, signing], "more": 1}


def is_needed_key(mutation: Mutation) -> bool:
    path, _, kind = mutation.name.rpartition(": ")
    if kind == TOO_LONG or path in ("the whole", "keys", "keys.1"):
        return True
    is_wrong_name = path == "keys.1.kid" and kind not in ("null", "missing", "doubled")
    return is_wrong_name or (path.startswith("keys.1.") and path.split(".")[2] in ("kty", "crv", "x", "y"))


async def test_a_key_set_signs_in_or_says_why_not(issuer: Issuer, http: Http) -> None:
    for mutation in some(key_set(issuer)):
        with answering(issuer, "/keys", mutation.text):
            await taken_or_words(mutation, sign_in(issuer, http), may_fail=is_needed_key(mutation))


async def test_claims_are_taken_or_refused_in_words(
    issuer: Issuer, http: Http, tmp_path: pathlib.Path
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(issuer.jwks()))
    checked = verifier(issuer, keys, http)
    now = int(time.time())
    claims = {"iss": issuer.url, "sub": "alice", "aud": [CLIENT, "other"], "exp": now + 600, "iat": now}
    claims |= {"nbf": now, "jti": "j", "auth_time": now, "email_verified": True, "groups": ["a"]}
    for mutation in some(claims):
        path, _, kind = mutation.name.rpartition(": ")
        may_fail = path in ("the whole", "iss", "aud", "aud.0", "exp", "sub", "nbf") or kind == TOO_LONG
        is_late = path == "iat" and kind in ("past_exact", "past_int64", "past_uint64")
        taken = checked.claims(issuer.signed(mutation.text))
        await taken_or_words(mutation, taken, may_fail=may_fail or is_late)


@pytest.mark.parametrize(
    ("change", "algorithm"),
    [
        ({"alg": None}, "RS512"),
        ({"alg": 5}, "RS256"),
        ({"alg": []}, "RS256"),
        ({"kid": None}, "RS256"),
        ({"kid": 7}, "RS256"),
        ({"use": 1, "key_ops": 7}, "RS256"),
    ],
)
async def test_what_is_optional_in_a_key_is_not_demanded(
    issuer: Issuer, http: Http, tmp_path: pathlib.Path, change: dict[str, Any], algorithm: str
) -> None:
    """A key that names no `alg` serves each of those that are accepted, and one without an id any token."""
    odd: list[str] = []
    own = issuer.jwks()["keys"][0]
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [5, {"kty": "RSA", "kid": "broken", "n": 5}, own | change]}))
    config = JwtConfig(
        issuer=issuer.url, audience=CLIENT, jwks_file=str(keys), algorithms=("RS256", "RS512", "ES256")
    )
    checked = verifier_of(
        config, http, monotonic=time.monotonic, wall_ms=lambda: int(time.time() * 1000), on_odd=odd.append
    )
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": [CLIENT, 7], "sub": "alice", "exp": now + 60.5, "jti": 7}
    claims |= {"iat": None, "nbf": None}
    kid = str(change.get("kid") or "rsa-1")
    token = jwt.encode(claims, issuer.keys["rsa-1"], algorithm=algorithm, headers={"kid": kid})
    assert (await checked.claims(token))["sub"] == "alice"
    assert odd


async def test_a_provider_that_answers_in_pieces_signs_in(http: Http) -> None:
    async with running_issuer() as slow:
        slow.piece_bytes = 7
        assert (await sign_in(slow, http))["sub"] == "alice"


async def test_a_gateway_says_what_is_wrong_with_its_provider(
    tmp_path: pathlib.Path, unused_tcp_port: int
) -> None:
    """The same through a gateway: what is left out is counted, and no answer is a traceback."""
    async with running_issuer() as issuer:
        config = f"""
[auth]
modes = ["anonymous", "oidc", "keys"]
[oidc]
issuer = "{issuer.url}"
client_id = "{CLIENT}"
redirect_url = "http://127.0.0.1:{unused_tcp_port}/api/auth/oidc/callback"
"""
        async with running_gateway(tmp_path, config=config) as gateway:
            for body in (b"", b"[" * 50_000, b"\xff", b"7", json.dumps({"issuer": issuer.url}).encode()):
                with answering(issuer, "/.well-known/openid-configuration", body):
                    answer = await ask(gateway.http, "GET", "/api/auth/oidc/start")
                    assert (answer.status, answer.code) == (401, "sign_in_failed"), body[:20]
                    assert "cannot be used" in answer.body["error"]["message"], body[:20]
            deep = json.dumps(issuer.description() | {"more": "DEEP"}).replace(
                '"DEEP"', "[" * 9_000 + "]" * 9_000
            )
            with answering(issuer, "/.well-known/openid-configuration", b"\xef\xbb\xbf" + deep.encode()):
                assert (await ask(gateway.http, "GET", "/api/auth/oidc/start")).status == 302
            async with gateway.caller(await gateway.mint("watcher", scopes=["operate"])) as watcher:
                scraped = (await ask(watcher, "GET", "/metrics")).body
            assert parsed(scraped).value("odd_values_total", source="issuer") > 0
            assert "Traceback" not in gateway.log()
