"""Groups of a provider, of tokens and of a proxy: what they give, and that a sign-in loses what they lose."""

from __future__ import annotations

import contextlib
import json
import pathlib
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from gateway.auth.sign_ins import CONFIRM_SECONDS, EARLY_SECONDS, GRACE_SECONDS, RETRY_SECONDS
from gateway.principal import with_implied
from tests.inside import GatewayInside, gateway_inside
from tests.issuer import CLIENT, SECRET, Issuer, running_issuer
from tests.shared import Answer, ask, eventually
from tests.streams import open_stream

HERE: Final = "http://gateway.example/api/auth/oidc/callback"
TENANTS: Final = """
[tenants.acme]
[tenants.beta]
[agents.small]
command = "true"
[agents.large]
command = "true"
"""
GROUPS: Final = """
[{table}.groups."Acme Staff"]
tenant = "acme"
[{table}.groups."/support"]
tenant = "beta"
scopes = ["support"]
agents = ["small"]
[{table}.groups.builders]
scopes = ["chat"]
agents = ["large", "small"]
"""
OIDC: Final = """
[auth]
modes = ["anonymous", "oidc"]
[oidc]
issuer = "{issuer}"
client_id = "gateway"
client_secret_file = "{secret}"
redirect_url = "{here}"
scopes = ["read"]
"""


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@contextlib.asynccontextmanager
async def with_groups(
    directory: pathlib.Path, provider: Issuer, more: str = "", at_ms: int | None = None
) -> AsyncIterator[GatewayInside]:
    secret = directory / "secret"
    secret.write_text(SECRET)
    settings = OIDC.format(issuer=provider.url, secret=secret, here=HERE) + more
    settings += GROUPS.format(table="oidc") + TENANTS
    async with gateway_inside(directory, config=settings, at_ms=at_ms) as gateway:
        yield gateway


def browser_of(gateway: GatewayInside) -> aiohttp.ClientSession:
    return gateway.caller(Origin=gateway.url)


async def sign_in(browser: aiohttp.ClientSession, **query: str) -> Answer:
    """Follows the redirects of a sign-in as a browser does; the last answer."""
    start = await ask(browser, "GET", "/api/auth/oidc/start", params=query)
    assert start.status == 302, start
    async with aiohttp.ClientSession() as at_the_provider:
        async with at_the_provider.get(start.headers["Location"], allow_redirects=False) as answer:
            back = urllib.parse.urlsplit(answer.headers["Location"])
    return await ask(browser, "GET", f"{back.path}?{back.query}")


async def me(browser: aiohttp.ClientSession) -> Answer:
    return await ask(browser, "GET", "/api/me")


async def is_in(browser: aiohttp.ClientSession) -> bool:
    return (await me(browser)).status == 200


def advance(gateway: GatewayInside, provider: Issuer, seconds: float) -> None:
    gateway.clock.advance(seconds)
    provider.ahead_seconds += seconds


def implied(*scopes: str) -> list[str]:
    """What `/api/me` says of these scopes, all of which include `chat`."""
    return sorted(with_implied(frozenset(scopes)))


# -- what groups give ---------------------------------------------------------------------------------------

GIVEN: Final[list[tuple[Any, tuple[str, list[str], list[str]]]]] = [
    (["Acme Staff"], ("acme", ["read"], ["built-in", "small", "large"])),
    (["/support"], ("beta", implied("support"), ["small"])),
    (["builders"], ("default", implied("chat"), ["small", "large"])),
    ("builders", ("default", implied("chat"), ["small", "large"])),
    (["builders", "/support", "Acme Staff"], ("acme", implied("chat", "support"), ["small", "large"])),
    ([None, 5, {"a": 1}, "builders", "others"], ("default", implied("chat"), ["small", "large"])),
]


@pytest.mark.parametrize(("groups", "expected"), GIVEN)
async def test_groups_of_a_sign_in_give_tenant_scopes_and_agents(
    tmp_path: pathlib.Path, provider: Issuer, groups: Any, expected: tuple[str, list[str], list[str]]
) -> None:
    provider.claims = {"groups": groups}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        assert (await sign_in(browser)).status == 302
        who, agents = (await me(browser)).body, await ask(browser, "GET", "/api/agents")
        assert (who["tenant"], who["scopes"]) == expected[:2]
        assert [agent["name"] for agent in agents.body["agents"]] == expected[2]


@pytest.mark.parametrize("claims", [{}, {"groups": []}, {"groups": ["others"]}, {"groups": 5}])
async def test_who_is_in_no_group_is_refused_in_words_or_gets_the_defaults(
    tmp_path: pathlib.Path, provider: Issuer, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        refused = await sign_in(browser)
        assert (refused.status, refused.code) == (403, "no_group")
        words = refused.body["error"]["message"]
        assert ("'groups' is missing" in words) == (not claims), words
        assert (await me(browser)).body["kind"] == "visitor"
    (tmp_path / "other").mkdir()
    more = 'without_group = "default"\n'
    async with with_groups(tmp_path / "other", provider, more) as gateway, browser_of(gateway) as browser:
        assert (await sign_in(browser)).status == 302
        assert (await me(browser)).body["scopes"] == ["read"]


async def test_groups_of_a_token_give_the_same(tmp_path: pathlib.Path) -> None:
    issuer = Issuer()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(issuer.jwks()))
    settings = f"""
[auth]
modes = ["jwt"]
[jwt]
issuer = "{issuer.url}"
audience = "{CLIENT}"
jwks_file = "{keys}"
groups_claim = "https://acme.example/groups"
scopes = ["read"]
"""
    settings += GROUPS.format(table="jwt") + TENANTS
    async with gateway_inside(tmp_path, config=settings) as gateway:
        for groups, (tenant, scopes, agents) in GIVEN:
            token = issuer.token(**{"https://acme.example/groups": groups})
            async with gateway.caller(token) as caller:
                who = (await me(caller)).body
                assert (who["tenant"], who["scopes"]) == (tenant, scopes)
                listed = (await ask(caller, "GET", "/api/agents")).body["agents"]
                assert [agent["name"] for agent in listed] == agents
        async with gateway.caller(issuer.token(groups=["builders"])) as caller:
            assert (await me(caller)).code == "no_group"


async def test_groups_of_a_proxy_give_the_same_and_its_streams_ask_it_again(tmp_path: pathlib.Path) -> None:
    settings = """
[auth]
modes = ["proxy"]
[proxy]
peers = ["127.0.0.1"]
groups_header = "X-Forwarded-Groups"
scopes = ["read"]
"""
    settings += GROUPS.format(table="proxy") + TENANTS
    async with gateway_inside(tmp_path, config=settings) as gateway:
        for groups, (tenant, scopes, agents) in GIVEN:
            if not all(isinstance(group, str) for group in groups):
                continue
            named = groups if isinstance(groups, str) else " , ".join(groups)
            headers = {"X-Forwarded-User": "ann", "X-Forwarded-Groups": named, "Origin": gateway.url}
            async with gateway.caller(**headers) as caller:
                who = (await me(caller)).body
                assert (who["tenant"], who["scopes"]) == (tenant, scopes)
                listed = (await ask(caller, "GET", "/api/agents")).body["agents"]
                assert [agent["name"] for agent in listed] == agents
        async with gateway.caller(**headers) as caller, open_stream(caller, "s") as stream:
            handing = await ask(caller, "POST", "/api/auth/handover", {})
            assert (handing.status, "a proxy says" in handing.body["error"]["message"]) == (403, True)
            await stream.next()
            gateway.clock.advance(CONFIRM_SECONDS + 1)
            gateway.inner.gate.look_again()
            await stream.to_end(seconds=5)
        async with gateway.caller(**{"X-Forwarded-User": "ann"}) as caller:
            assert (await me(caller)).code == "no_group"


async def test_mistakes_in_groups_are_named(tmp_path: pathlib.Path) -> None:
    settings = (
        '[oidc.groups."a b"]\ntenant = "none"\nscopes = ["fly"]\nagents = ["rocket"]\n[proxy.groups.x]\n'
    )
    with pytest.raises(Exception, match="no tenant 'none'") as caught:
        async with gateway_inside(tmp_path, config=settings):
            pass
    words = str(caught.value)
    assert "oidc.groups.a b.tenant" in words
    assert "oidc.groups.a b.scopes: 'fly' is no scope" in words
    assert "oidc.groups.a b.agents: there is no agent 'rocket'" in words
    assert "proxy.groups_header: name the header" in words


async def test_no_route_makes_a_session_with_an_agent_that_the_person_may_not_choose(
    tmp_path: pathlib.Path, provider: Issuer
) -> None:
    provider.claims = {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        refused: list[tuple[str, object]] = [
            ("/api/chat", {"session_id": "a", "message": "x", "agent": "built-in"}),
            ("/api/sessions", {"session_id": "a", "agent": "built-in"}),
        ]
        for path, body in refused:
            answer = await ask(browser, "POST", path, body)
            assert (answer.status, answer.code) == (422, "unknown_agent"), path
            assert "There are: large, small." in answer.body["error"]["message"]
        taken: list[tuple[str, object]] = [
            ("/api/sessions", {"session_id": "b"}),
            ("/api/chat", {"session_id": "c", "message": "x"}),
            ("/api/system", {"session_id": "d", "message": "x"}),
            ("/api/mcp-command", {"session_id": "e", "command": "set_network", "args": {"network": "n"}}),
            ("/api/mcp-command", {"session_id": "f", "command": "add_mcp_server", "args": {}}),
        ]
        for path, body in taken:
            assert (await ask(browser, "POST", path, body)).status in (200, 201), path
        made = (await ask(browser, "GET", "/api/sessions")).body["sessions"]
        assert {session["agent"] for session in made} == {"large"}
        assert {"b", "c", "d", "e"} <= {session["session_id"] for session in made}


# -- that they are still so ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gives", ["refresh", "access"])
async def test_a_sign_in_follows_the_groups_of_the_provider(
    tmp_path: pathlib.Path, provider: Issuer, gives: str
) -> None:
    """With a refresh token, which is a new one each time, or by the userinfo endpoint."""
    provider.gives, provider.claims = (gives,), {"groups": ["Acme Staff", "builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        for _ in range(3):
            advance(gateway, provider, CONFIRM_SECONDS)
            assert (await me(browser)).body["scopes"] == implied("chat")
        asked = "refresh" if gives == "refresh" else "userinfo"
        assert provider.asked[asked] == 3
        async with open_stream(browser, "s") as stream:
            await stream.next()
            provider.says = {"groups": ["Acme Staff"]}
            advance(gateway, provider, CONFIRM_SECONDS)
            await gateway.inner.auth.sign_ins.confirm_open()
            await stream.to_end(seconds=5)
        assert (await me(browser)).body["scopes"] == ["read"]
        provider.says = {"groups": ["others"]}
        advance(gateway, provider, CONFIRM_SECONDS)
        stale = await me(browser)
        assert (stale.status, stale.code) == (401, "sign_in_stale")
        assert provider.asked["token"] == 1


async def test_a_used_sign_in_is_confirmed_beside_the_requests(
    tmp_path: pathlib.Path, provider: Issuer
) -> None:
    """Before it is too old, once for many requests; one that is younger is not."""
    provider.gives, provider.claims = ("refresh",), {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        advance(gateway, provider, EARLY_SECONDS - 5)
        await me(browser)
        assert provider.asked["refresh"] == 0
        advance(gateway, provider, 10)
        async with open_stream(browser, "s"):
            await me(browser)
            await gateway.inner.auth.sign_ins.confirm_open()
        assert provider.asked["refresh"] == 1


@pytest.mark.parametrize("gives", ["refresh", "access"])
async def test_whom_the_provider_does_not_confirm_is_out(
    tmp_path: pathlib.Path, provider: Issuer, gives: str
) -> None:
    provider.gives, provider.claims = (gives,), {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        async with open_stream(browser, "s") as stream:
            await stream.next()
            provider.refuses = True
            advance(gateway, provider, CONFIRM_SECONDS)
            await gateway.inner.auth.sign_ins.confirm_open()
            await stream.to_end(seconds=5)
        assert (await me(browser)).code == "sign_in_stale"
        state = (await ask(browser, "GET", "/api/auth")).body
        assert (state["me"], state["signs_in_again"]) == (None, True)
        again = await sign_in(browser, next="/chat", silent="true")
        assert (again.status, again.headers["Location"]) == (302, "/chat")
        state = (await ask(browser, "GET", "/api/auth")).body
        assert "signs_in_again" not in state
        assert state["me"]["kind"] == "visitor"


@pytest.mark.parametrize("says", [{"sub": "mallory"}, {"groups": None}])
async def test_an_answer_about_somebody_else_or_without_groups_confirms_nothing(
    tmp_path: pathlib.Path, provider: Issuer, says: dict[str, Any]
) -> None:
    provider.gives, provider.claims = ("access",), {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        provider.says = says
        advance(gateway, provider, CONFIRM_SECONDS)
        assert (await me(browser)).code == "sign_in_stale"


async def test_without_anything_to_ask_with_the_browser_goes_through_the_provider_again(
    tmp_path: pathlib.Path, provider: Issuer
) -> None:
    provider.claims = {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        advance(gateway, provider, CONFIRM_SECONDS - 5)
        assert (await me(browser)).status == 200
        advance(gateway, provider, 10)
        refused = await ask(browser, "POST", "/api/chat", {"session_id": "s", "message": "x"})
        assert (refused.status, refused.code) == (401, "sign_in_stale"), "not as a new visitor"
        assert (await ask(browser, "GET", "/api/auth")).body["signs_in_again"] is True
        assert (await sign_in(browser, silent="true")).status == 302
        assert provider.asked["silent"] == 1
        assert (await me(browser)).body["subject"] == "alice"


async def test_while_the_provider_is_down_a_sign_in_goes_on_for_a_bounded_time(
    tmp_path: pathlib.Path, provider: Issuer
) -> None:
    provider.gives, provider.claims = ("refresh",), {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        provider.is_down = True
        advance(gateway, provider, CONFIRM_SECONDS)
        for _ in range(3):
            assert (await me(browser)).status == 200
        advance(gateway, provider, RETRY_SECONDS)
        assert (await me(browser)).status == 200
        advance(gateway, provider, GRACE_SECONDS - RETRY_SECONDS)
        assert (await me(browser)).code == "sign_in_stale"
        state = (await ask(browser, "GET", "/api/auth")).body
        assert "signs_in_again" not in state, "a browser is not sent to a provider that is down"
        provider.is_down = False
        advance(gateway, provider, RETRY_SECONDS)
        await eventually(lambda: is_in(browser))


async def test_a_restart_forgets_what_the_provider_gave_and_a_sign_in_goes_on_for_its_minutes(
    tmp_path: pathlib.Path, provider: Issuer
) -> None:
    """Nothing that the provider gave is in the data directory."""
    provider.gives, provider.claims = ("refresh",), {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        advance(gateway, provider, EARLY_SECONDS + 1)
        async with open_stream(browser, "s"):
            await gateway.inner.auth.sign_ins.confirm_open()
        assert (await me(browser)).status == 200
        at_ms, kept = gateway.clock.wall_ms(), list(browser.cookie_jar)
        tokens = provider._refresh_tokens
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert not [data for data in files for token in tokens if token.encode() in data]
    cookies = "; ".join(f"{cookie.key}={cookie.value}" for cookie in kept)
    async with with_groups(tmp_path, provider, at_ms=at_ms) as gateway:
        port = urllib.parse.urlsplit(gateway.url).port
        name = next(cookie.key for cookie in kept if cookie.key.startswith("agw_user"))
        renamed = cookies.replace(name, f"agw_user_{port}")
        async with gateway.caller(Origin=gateway.url, Cookie=renamed) as browser:
            assert (await me(browser)).body["subject"] == "alice"
            advance(gateway, provider, CONFIRM_SECONDS - 60)
            assert (await me(browser)).status == 200
            advance(gateway, provider, 61)
            assert (await me(browser)).code == "sign_in_stale"


async def test_another_browser_shares_the_sign_in_and_an_operator_ends_both(
    tmp_path: pathlib.Path, provider: Issuer
) -> None:
    provider.gives, provider.claims = ("refresh",), {"groups": ["builders"]}
    async with (
        with_groups(tmp_path, provider) as gateway,
        browser_of(gateway) as browser,
        browser_of(gateway) as other,
    ):
        await sign_in(browser)
        link = (await ask(browser, "POST", "/api/auth/handover", {})).body["token"]
        assert (await ask(other, "POST", "/api/auth/handover/claim", {"token": link})).status == 200
        advance(gateway, provider, CONFIRM_SECONDS)
        for each in (browser, other):
            assert (await me(each)).body["subject"] == "alice"
        assert provider.asked["refresh"] == 1
        provider.refuses = True
        advance(gateway, provider, CONFIRM_SECONDS)
        for each in (browser, other):
            assert (await me(each)).code == "sign_in_stale"


async def test_a_disabled_person_who_signs_in_is_refused(tmp_path: pathlib.Path, provider: Issuer) -> None:
    provider.claims = {"groups": ["builders"]}
    async with with_groups(tmp_path, provider) as gateway, browser_of(gateway) as browser:
        await sign_in(browser)
        async with gateway.operator() as operator:
            await operator.disable_person("default", "alice")
        assert (await me(browser)).code == "person_disabled"
        async with browser_of(gateway) as fresh:
            assert (await sign_in(fresh)).code == "person_disabled"
        async with gateway.operator() as operator:
            await operator.enable_person("default", "alice")
        assert (await me(browser)).status == 200
