"""Anonymous visitors: a cookie that owns what it makes, a token where cookies do not go, and moving on."""

from __future__ import annotations

import pathlib
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from gateway.api import stream
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.patience import within
from tests.shared import SHARED, ask, fresh_id, shared_gateway

pytestmark = SHARED

DAY_SECONDS = 86_400
SHOP = "https://shop.example"
CONFIG = f"""
[auth]
modes = ["anonymous", "keys"]
[visitors]
commands = true
origins = ["{SHOP}"]
[tenants.acme]
"""
gateway = shared_gateway(CONFIG)


async def test_each_browser_is_a_visitor_of_its_own(gateway: RunningGateway) -> None:
    origin = {"Origin": gateway.url}
    name = fresh_id()
    async with gateway.caller(**origin) as one, gateway.caller(**origin) as two:
        said = {"session_id": name, "message": "/echo mine"}
        answer = await ask(one, "POST", "/api/chat?wait=240", said)
        assert answer.status == 200
        assert len((await ask(one, "GET", f"/api/state?session_id={name}")).body["messages"]) == 2
        assert (await ask(two, "GET", f"/api/state?session_id={name}")).body["messages"] == []
        assert (await ask(two, "GET", f"/api/sessions/{name}")).status == 404
        first, second = [(await ask(caller, "GET", "/api/me")).body for caller in (one, two)]
        assert first["subject"] != second["subject"]
        assert first["subject"].startswith("~")
        assert first["scopes"] == ["chat", "read"]


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(gateway: RunningGateway) -> None:
    answer = await ask(gateway.http, "GET", "/api/me")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"agw_visitor_{urlsplit(gateway.url).port}=")
    assert "; HttpOnly; SameSite=Lax" in cookie
    assert "Max-Age=2592000" in cookie
    assert "Secure" not in cookie


async def test_behind_https_the_cookie_is_kept_to_it(tmp_path: pathlib.Path) -> None:
    config = CONFIG + '[server]\npublic_url = "https://chat.example"\n'
    async with gateway_inside(tmp_path, config=config) as own:
        answer = await ask(own.http, "GET", "/api/me", headers={"Host": "chat.example"})
        assert answer.status == 200
        assert answer.headers["Set-Cookie"].endswith("; Secure")


async def test_a_cookie_alone_changes_nothing(gateway: RunningGateway) -> None:
    async with gateway.caller() as thief:
        me = (await ask(thief, "GET", "/api/me")).body
        name = fresh_id()
        for method, path, body in (
            ("POST", "/api/chat", {"session_id": name, "message": "hi"}),
            ("POST", "/api/system", {"session_id": name, "message": "hi"}),
            ("POST", "/api/sessions", {"session_id": name}),
            ("DELETE", f"/api/sessions/{name}", None),
            ("PATCH", f"/api/sessions/{name}", {"title": "x"}),
        ):
            answer = await ask(thief, method, path, body)
            assert (answer.status, answer.code) == (403, "csrf_missing"), path
            answer = await ask(thief, method, path, body, headers={"X-CSRF-Token": "0" * 64})
            assert (answer.status, answer.code) == (403, "csrf_missing"), path
        assert (await ask(thief, "GET", "/api/sessions")).body == {"sessions": []}
        right = {"X-CSRF-Token": me["csrf_token"]}
        answer = await ask(thief, "POST", "/api/sessions", {"session_id": name}, headers=right)
        assert answer.status == 201
        evil = {"Origin": "https://evil.example", **right}
        assert (await ask(thief, "DELETE", f"/api/sessions/{name}", headers=evil)).code == "forbidden_origin"


async def test_a_forged_cookie_is_a_new_visitor(gateway: RunningGateway) -> None:
    me = (await ask(gateway.http, "GET", "/api/me")).body
    for cookie in ("x", "agw.sig", "e30.AAAA", "a" * 4000):
        for name in ("agw_visitor", f"agw_visitor_{urlsplit(gateway.url).port}"):
            answer = await ask(gateway.http, "GET", "/api/me", headers={"Cookie": f"{name}={cookie}"})
            assert answer.status == 200
            assert answer.body["subject"] != me["subject"]
            assert "agw_visitor_" in answer.headers["Set-Cookie"]


async def test_a_page_of_another_site_gets_a_token_bound_to_it(gateway: RunningGateway) -> None:
    cross = {"Origin": SHOP, "Sec-Fetch-Site": "cross-site"}
    first = await ask(gateway.http, "GET", "/api/me", headers=cross)
    token = first.headers["X-Visitor-Token"]
    assert "Set-Cookie" not in first.headers
    assert "X-Visitor-Token" in first.headers["Access-Control-Expose-Headers"]
    bearer = {**cross, "Authorization": f"Bearer {token}"}
    name = fresh_id()
    said = {"session_id": name, "message": "/echo there"}
    answer = await ask(gateway.http, "POST", "/api/chat?wait=240", said, headers=bearer)
    assert answer.body["messages"][-1]["content"] == "there"
    by_query = f"/api/state?session_id={name}&visitor={token}"
    assert len((await ask(gateway.http, "GET", by_query, headers=cross)).body["messages"]) == 2
    for elsewhere in ({"Origin": gateway.url}, {}):
        headers = {**elsewhere, "Authorization": f"Bearer {token}"}
        assert (await ask(gateway.http, "GET", "/api/me", headers=headers)).status == 401
    forged = {**cross, "Authorization": f"Bearer {token[:-2]}AA"}
    assert (await ask(gateway.http, "GET", "/api/me", headers=forged)).status == 401


async def test_a_one_time_link_moves_a_visitor_to_another_browser(gateway: RunningGateway) -> None:
    origin = {"Origin": gateway.url}
    async with (
        gateway.caller(**origin) as old,
        gateway.caller(**origin) as new,
        gateway.caller(**origin) as third,
    ):
        name, here = fresh_id(), fresh_id()
        await ask(old, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo there"})
        await ask(new, "POST", "/api/chat?wait=240", {"session_id": here, "message": "/echo here"})
        link = (await ask(old, "POST", "/api/auth/handover", {})).body
        assert link["url"] == f"{gateway.url}/#handover={link['token']}"
        claimed = await ask(new, "POST", "/api/auth/handover/claim", {"token": link["token"]})
        assert claimed.status == 200
        ids = {found["session_id"] for found in (await ask(new, "GET", "/api/sessions")).body["sessions"]}
        assert ids == {name, here}
        again = await ask(third, "POST", "/api/auth/handover/claim", {"token": link["token"]})
        assert (again.status, again.code) == (401, "sign_in_failed")
        forged = await ask(third, "POST", "/api/auth/handover/claim", {"token": "x" + link["token"]})
        assert forged.status == 401


async def test_a_key_cannot_be_handed_over(gateway: RunningGateway) -> None:
    async with gateway.caller(await gateway.mint("robot")) as caller:
        assert (await ask(caller, "POST", "/api/auth/handover", {})).status == 403


async def test_signing_in_adopts_what_the_visitor_made_also_where_an_id_is_taken(
    gateway: RunningGateway,
) -> None:
    origin, key = {"Origin": gateway.url}, await gateway.mint("zoe", tenant="acme")
    taken, free = fresh_id(), fresh_id()
    async with gateway.caller(key) as zoe, gateway.caller(**origin) as browser:
        await ask(zoe, "POST", "/api/chat?wait=240", {"session_id": taken, "message": "/echo zoes"})
        for name in (taken, free):
            await ask(
                browser, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo visitors"}
            )
        assert (await ask(browser, "POST", "/api/auth/sign-in", {"key": key})).status == 200
        found = (await ask(browser, "GET", "/api/sessions")).body["sessions"]
        assert len(found) == 3
        assert {taken, free} < {session["session_id"] for session in found}
        for session in found:
            state = (await ask(zoe, "GET", f"/api/state?session_id={session['session_id']}")).body
            assert len(state["messages"]) == 2
            assert state["session_id"] == session["session_id"]
        kept = (await ask(zoe, "GET", f"/api/state?session_id={taken}")).body["messages"]
        assert kept[-1]["content"] == "zoes"


async def test_an_operator_ends_what_browsers_hold(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.1)
    origin = {"Origin": gateway.url}
    async with gateway.caller(**origin) as browser:
        me = (await ask(browser, "GET", "/api/me")).body
        await ask(browser, "POST", "/api/chat?wait=240", {"session_id": "s", "message": "/echo x"})
        held = await browser.get("/api/chat/stream?session_id=s")
        admin = await gateway.mint("admin", scopes=("admin",))
        async with gateway.caller(admin) as caller:
            body = {"tenant": me["tenant"], "subject": me["subject"]}
            assert (await ask(caller, "POST", "/api/admin/revoke", body)).status == 200
        async with within(15):
            await held.read()  # it ends with the next heartbeat at the latest
        assert (await ask(browser, "GET", "/api/me")).body["subject"] != me["subject"]


async def test_a_visitor_survives_a_restart(tmp_path: pathlib.Path, unused_tcp_port: int) -> None:
    jar, port = {}, ("--port", str(unused_tcp_port))
    async with running_gateway(tmp_path, *port, config=CONFIG) as own:
        async with own.caller(Origin=own.url) as browser:
            await ask(browser, "POST", "/api/chat?wait=240", {"session_id": "a", "message": "/echo kept"})
            jar = {cookie.key: cookie.value for cookie in browser.cookie_jar}
    async with running_gateway(tmp_path, *port, config=CONFIG) as own:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        state = (await ask(own.http, "GET", "/api/state?session_id=a", headers=headers)).body
        assert state["messages"][-1]["content"] == "kept"


async def test_a_trusted_proxy_says_who_it_is_and_nobody_else(tmp_path: pathlib.Path) -> None:
    config = """
[auth]
modes = ["proxy"]
[proxy]
peers = ["127.0.0.0/8"]
tenant_header = "X-Org"
[tenants.acme]
"""
    async with gateway_inside(tmp_path, config=config) as own:
        said = {"X-Forwarded-User": "alice", "X-Org": "acme"}
        me = (await ask(own.http, "GET", "/api/me", headers=said)).body
        assert (me["tenant"], me["subject"]) == ("acme", "alice")
        assert (await ask(own.http, "GET", "/api/me")).status == 401
        assert (await ask(own.http, "GET", "/api/me", headers={"X-Forwarded-User": "~x"})).status == 401
    (tmp_path / "b").mkdir()
    async with gateway_inside(tmp_path / "b", config=config.replace("127.0.0.0/8", "10.0.0.0/8")) as own:
        assert (await ask(own.http, "GET", "/api/me", headers=said)).status == 401


async def test_behind_a_trusted_proxy_each_caller_has_limits_of_its_own(tmp_path: pathlib.Path) -> None:
    config = """
[server]
trusted_proxies = ["127.0.0.1"]
max_connections_per_address = 2
[limits]
address_requests_per_second = 0.01
address_burst = 3
"""
    async with gateway_inside(tmp_path, config=config) as own:
        one, two = ({"X-Forwarded-For": f"6.6.6.6, 198.51.100.{number}"} for number in (1, 2))
        statuses = [(await ask(own.http, "GET", "/health", headers=one)).status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert (await ask(own.http, "GET", "/health", headers=two)).status == 200
        async with AsyncExitStack() as stack:
            for number in range(6):
                caller = await stack.enter_async_context(own.caller())
                many = {"X-Forwarded-For": f"192.0.2.{number}"}
                response = await stack.enter_async_context(
                    caller.get(f"/api/chat/stream?session_id=s{number}", headers=many)
                )
                assert response.status == 200


async def test_a_proxy_that_ends_https_makes_cookies_secure(tmp_path: pathlib.Path) -> None:
    config = CONFIG + '[server]\ntrusted_proxies = ["127.0.0.1"]\n'
    async with gateway_inside(tmp_path, config=config) as own:
        answer = await ask(own.http, "GET", "/api/me", headers={"X-Forwarded-Proto": "https"})
        assert answer.headers["Set-Cookie"].endswith("; Secure")


async def test_a_visitors_cookie_is_renewed_while_it_is_used(tmp_path: pathlib.Path) -> None:
    config = '[auth]\nmodes = ["anonymous"]\n[visitors]\ncommands = true\ndays = 30\n'
    async with gateway_inside(tmp_path, config=config) as own, own.caller() as browser:
        first = await ask(browser, "GET", "/api/me")
        assert "Set-Cookie" not in (await ask(browser, "GET", "/api/me")).headers
        subjects = set()
        for _ in range(4):
            own.clock.advance(10 * DAY_SECONDS)
            subjects.add((await ask(browser, "GET", "/api/me")).body["subject"])
        assert subjects == {first.body["subject"]}, "forty days later it is still the same visitor"
        own.clock.advance(31 * DAY_SECONDS)
        assert (await ask(browser, "GET", "/api/me")).body["subject"] not in subjects
