"""JWTs and sign-ins: what an issuer signs gets in, and nothing that only looks like it."""

from __future__ import annotations

import base64
import json
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.issuer import CLIENT, SECRET, Issuer, running_issuer
from tests.shared import ask

AUDIENCE = CLIENT


def jwt_config(keys: pathlib.Path, *, issuer: str = "https://issuer.example", more: str = "") -> str:
    return f"""
[auth]
modes = ["jwt"]
[jwt]
issuer = "{issuer}"
audience = "{AUDIENCE}"
jwks_file = "{keys}"
leeway_seconds = 1
{more}
[tenants.acme]
"""


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def gateway(tmp_path: pathlib.Path, issuer: Issuer) -> AsyncIterator[RunningGateway]:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(issuer.jwks()))
    more = 'tenant_claim = "org"\nscopes_claim = "scope"\nsubject_claim = "email"'
    async with gateway_inside(tmp_path, config=jwt_config(keys, more=more)) as running:
        yield running


def person(**claims: Any) -> dict[str, Any]:
    return {"email": "alice@acme.example", "org": "acme", "scope": "chat", **claims}


@pytest.mark.parametrize("key_id", ["rsa-1", "ec-1"])
async def test_a_token_names_tenant_subject_and_scopes(
    gateway: RunningGateway, issuer: Issuer, key_id: str
) -> None:
    token = issuer.token(key_id=key_id, **person(scope="chat operate unknown"))
    async with gateway.caller(token) as caller:
        for _ in range(2):  # the second time from memory
            me = (await ask(caller, "GET", "/api/me")).body
            assert (me["tenant"], me["subject"], me["kind"]) == ("acme", "alice@acme.example", "token")
            assert me["scopes"] == ["chat", "operate", "read"]
        said = await ask(caller, "POST", "/api/chat?wait=240", {"session_id": "a", "message": "/echo hi"})
        assert said.body["messages"][-1]["content"] == "hi"


async def test_what_is_wrong_with_a_token_keeps_it_out(
    gateway: RunningGateway, issuer: Issuer, tmp_path: pathlib.Path
) -> None:
    now = int(time.time())
    other = rsa.generate_private_key(65537, 2048)
    good = issuer.token(**person())
    header, payload, signature = good.split(".")
    public = (
        issuer.keys["rsa-1"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    claims = person(iss=issuer.url, aud=AUDIENCE, exp=now + 600)
    wrong = {
        "expired": issuer.token(**person(exp=now - 60)),
        "not yet": issuer.token(**person(nbf=now + 600)),
        "no end": issuer.token(**person(exp=None)),
        "other audience": issuer.token(**person(aud="somebody")),
        "no audience": issuer.token(**person(aud=None)),
        "other issuer": issuer.token(**person(iss="https://evil.example")),
        "no subject": issuer.token(**person(email=None)),
        "subject is a number": issuer.token(**person(email=5)),
        "subject of a visitor": issuer.token(**person(email="~somebody")),
        "empty subject": issuer.token(**person(email="")),
        "no tenant": issuer.token(**person(org=None)),
        "alg none": f"{_b64({'alg': 'none', 'kid': 'rsa-1'})}.{payload}.",
        "other key": jwt.encode(claims, other, algorithm="RS256", headers={"kid": "rsa-1"}),
        "unknown key id": jwt.encode(claims, other, algorithm="RS256", headers={"kid": "new"}),
        "public key as secret": _hs256(claims, public),
        "changed payload": f"{header}.{_b64(claims | {'scope': 'admin'})}.{signature}",
        "cut": good[:-10],
        "not a token": "a.b.c",
        "very long": good + "A" * 20_000,
    }
    assert (await _me(gateway, good)).status == 200
    for name, token in wrong.items():
        answer = await _me(gateway, token)
        assert (answer.status, answer.code) == (401, "unauthorized"), (name, answer)
        assert token[:40] not in str(answer.body)
    assert (await _me(gateway, issuer.token(**person(org="nobody")))).code == "tenant_disabled"
    assert (await _me(gateway, good)).status == 200
    assert signature not in gateway.log()


async def _me(gateway: RunningGateway, token: str) -> Any:
    async with gateway.caller(token) as caller:
        return await ask(caller, "GET", "/api/me")


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _hs256(claims: dict[str, Any], secret: bytes) -> str:
    """What `jwt.encode` refuses to make: an HMAC with the public key as its secret."""
    import hashlib
    import hmac

    body = f"{_b64({'alg': 'HS256', 'kid': 'rsa-1', 'typ': 'JWT'})}.{_b64(claims)}"
    digest = hmac.new(secret, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


async def test_keys_of_a_url_are_kept_and_asked_for_again(tmp_path: pathlib.Path) -> None:
    async with running_issuer() as issuer:
        config = jwt_config(tmp_path / "none", issuer=issuer.url).replace(
            f'jwks_file = "{tmp_path / "none"}"', f'jwks_url = "{issuer.url}/keys"'
        )
        async with gateway_inside(tmp_path, config=config) as gateway:
            for number in range(5):
                assert (await _me(gateway, issuer.token(f"user-{number}"))).status == 200
            assert issuer.asked["keys"] == 1
            stranger = jwt.encode({"sub": "x"}, issuer.keys["rsa-1"], "RS256", headers={"kid": "new"})
            for _ in range(5):
                assert (await _me(gateway, stranger)).status == 401
            assert issuer.asked["keys"] == 1  # not more than twice a minute


OIDC = """
[auth]
modes = ["anonymous", "oidc"]
[visitors]
commands = true
[server]
port = {port}
[oidc]
issuer = "{issuer}"
client_id = "gateway"
client_secret_file = "{secret}"
redirect_url = "http://127.0.0.1:{port}/api/auth/oidc/callback"
"""


@pytest.fixture
async def provider() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest.fixture
async def with_sign_in(
    tmp_path: pathlib.Path, provider: Issuer, unused_tcp_port: int
) -> AsyncIterator[RunningGateway]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    config = OIDC.format(issuer=provider.url, secret=secret, port=unused_tcp_port)
    async with running_gateway(tmp_path, "--port", str(unused_tcp_port), config=config) as running:
        yield running


async def _signed_in(browser: Any, *, after: str = "/", **query: str) -> Any:
    """Follows the redirects of a sign-in as a browser does; the last answer."""
    start = await ask(browser, "GET", "/api/auth/oidc/start", params={"next": after, **query})
    assert start.status == 302
    async with browser.get(start.headers["Location"], allow_redirects=False) as answer:
        back = answer.headers["Location"]
    return await ask(browser, "GET", back)


async def test_somebody_signs_in_and_brings_their_sessions(
    with_sign_in: RunningGateway, provider: Issuer
) -> None:
    gateway = with_sign_in
    origin = {"Origin": gateway.url}
    async with gateway.caller(**origin) as browser, gateway.caller(**origin) as other:
        said = {"session_id": "mine", "message": "/echo before"}
        assert (await ask(browser, "POST", "/api/chat?wait=240", said)).status == 200
        visitor = (await ask(browser, "GET", "/api/me")).body
        assert visitor["kind"] == "visitor"
        done = await _signed_in(browser, after="/shop?x=1")
        assert (done.status, done.headers["Location"]) == (302, "/shop?x=1")
        me = (await ask(browser, "GET", "/api/me")).body
        assert (me["subject"], me["kind"], me["scopes"]) == ("alice", "user", ["chat", "read"])
        said = {"session_id": "mine", "message": "/echo after"}
        state = (await ask(browser, "POST", "/api/chat?wait=240", said)).body
        assert [m["content"] for m in state["messages"]] == ["/echo before", "before", "/echo after", "after"]
        assert (await _signed_in(other)).status == 302
        assert len((await ask(other, "GET", "/api/state?session_id=mine")).body["messages"]) == 4
        assert (await ask(browser, "POST", "/api/auth/sign-out", {"everywhere": True})).status == 204
        assert (await ask(other, "GET", "/api/me")).body["kind"] == "visitor"
    assert SECRET not in gateway.log()


async def test_links_are_kept_through_the_provider_by_choice_alone(
    with_sign_in: RunningGateway, provider: Issuer
) -> None:
    gateway, origin = with_sign_in, {"Origin": with_sign_in.url}
    choices = {"true": 200, "1": 200, "True": 200, "false": 404, "0": 404, "": 404, "yes": 404, None: 404}
    for number, (choice, status) in enumerate(choices.items()):
        provider.user = f"user-{number}"
        async with gateway.caller(**origin) as browser, gateway.caller() as reader:
            said = {"session_id": "mine", "message": "/echo before"}
            assert (await ask(browser, "POST", "/api/chat?wait=240", said)).status == 200
            share = (await ask(browser, "POST", "/api/sessions/mine/shares", {})).body
            shared = f"/api/shared/{share['token']}"
            assert (await ask(reader, "GET", shared)).status == 200
            query = {} if choice is None else {"keep_shares": choice}
            assert (await _signed_in(browser, **query)).status == 302
            assert (await ask(browser, "GET", "/api/me")).body["subject"] == provider.user
            assert (await ask(reader, "GET", shared)).status == status, choice
            listed = (await ask(browser, "GET", "/api/sessions/mine/shares")).body["shares"]
            assert [one["share_id"] for one in listed] == [share["share_id"]] * (status == 200), choice


async def test_the_callback_cannot_choose_to_keep_links(
    with_sign_in: RunningGateway, provider: Issuer
) -> None:
    gateway = with_sign_in
    async with gateway.caller(Origin=gateway.url) as browser, gateway.caller() as reader:
        said = {"session_id": "mine", "message": "/echo before"}
        assert (await ask(browser, "POST", "/api/chat?wait=240", said)).status == 200
        share = (await ask(browser, "POST", "/api/sessions/mine/shares", {})).body
        start = await ask(browser, "GET", "/api/auth/oidc/start")
        async with browser.get(start.headers["Location"], allow_redirects=False) as answer:
            back = answer.headers["Location"]
        assert (await ask(browser, "GET", f"{back}&keep_shares=true")).status == 302
        assert (await ask(reader, "GET", f"/api/shared/{share['token']}")).status == 404


async def test_a_sign_in_leads_to_no_other_site(with_sign_in: RunningGateway) -> None:
    for after in (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "",
        "a\nb",
    ):
        async with with_sign_in.caller() as browser:
            assert (await _signed_in(browser, after=after)).headers["Location"] == "/"


async def test_a_callback_that_nobody_began_is_refused(
    with_sign_in: RunningGateway, provider: Issuer
) -> None:
    async with with_sign_in.caller() as browser, with_sign_in.caller() as victim:
        start = await ask(browser, "GET", "/api/auth/oidc/start")
        async with browser.get(start.headers["Location"], allow_redirects=False) as answer:
            back = answer.headers["Location"]
        stolen = await ask(victim, "GET", back)
        assert (stolen.status, stolen.code) == (401, "sign_in_failed")
        state = parse_qs(urlsplit(back).query)["state"][0]
        for query in (f"code=wrong&state={state}", f"state={state}", "", "code=x&state=y"):
            refused = await ask(browser, "GET", f"/api/auth/oidc/callback?{query}")
            assert (refused.status, refused.code) == (401, "sign_in_failed"), query


async def test_a_sign_in_is_finished_once(with_sign_in: RunningGateway, provider: Issuer) -> None:
    async with with_sign_in.caller() as browser, with_sign_in.caller() as copied:
        start = await ask(browser, "GET", "/api/auth/oidc/start")
        copied.cookie_jar.update_cookies({cookie.key: cookie.value for cookie in browser.cookie_jar})
        back = []
        for _ in range(2):  # the provider would confirm each
            async with browser.get(start.headers["Location"], allow_redirects=False) as answer:
                back.append(answer.headers["Location"])
        done = await ask(browser, "GET", back[0])
        assert done.status == 302
        assert "signin" not in {cookie.key.split("_")[1] for cookie in browser.cookie_jar}
        again = await ask(copied, "GET", back[1])
        assert (again.status, again.code) == (401, "sign_in_failed")
        assert "used already" in again.body["error"]["message"]
        assert provider.asked["token"] == 1


async def test_an_answer_for_another_sign_in_is_refused(
    with_sign_in: RunningGateway, provider: Issuer
) -> None:
    provider.nonce_override = "replayed"
    async with with_sign_in.caller() as browser:
        assert "another sign-in" in (await _signed_in(browser)).body["error"]["message"]


async def test_a_provider_that_is_not_there_is_said(tmp_path: pathlib.Path) -> None:
    config = OIDC.format(issuer="http://127.0.0.1:9", secret="/nowhere", port=0)
    async with gateway_inside(tmp_path, config=config) as gateway:
        answer = await ask(gateway.http, "GET", "/api/auth/oidc/start")
        assert (answer.status, answer.code) == (401, "sign_in_failed")
        assert "does not answer" in answer.body["error"]["message"]
