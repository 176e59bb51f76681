"""Cookies of several gateways in one browser: none overwrites another's, and old names are exchanged."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.auth.tickets import Tickets, read_secret
from gateway.principal import Principal
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.shared import SHARED, ask, fresh_id, shared_gateway

pytestmark = SHARED

CONFIG: Final = '[auth]\nmodes = ["anonymous", "keys"]\n[visitors]\ncommands = true\n[tenants.acme]\n'
DAY_MS: Final = 24 * 3600 * 1000
gateway = shared_gateway(CONFIG)


def tickets_of(gateway: RunningGateway, *, days_ago: float = 0) -> Tickets:
    """Signs as the gateway did so long ago."""
    made = Tickets(wall_ms=lambda: round(time.time() * 1000 - days_ago * DAY_MS))
    made.open(read_secret("", gateway.data_path))
    return made


def old_cookie(gateway: RunningGateway, *, use: Any = "visitor", days_ago: float = 0) -> tuple[str, str]:
    """The subject and the text of a cookie of an old name."""
    subject = fresh_id("~old") if use == "visitor" else fresh_id("old")
    principal = Principal("default", subject, use, frozenset({"chat", "read"}))
    signer = tickets_of(gateway, days_ago=days_ago)
    return subject, signer.issue(use, seconds=365 * 86_400, principal=principal)


def set_cookies(headers: Mapping[str, str]) -> dict[str, Any]:
    """The cookies that an answer sets, by name."""
    found: dict[str, Any] = {}
    for line in headers.getall("Set-Cookie", []):  # type: ignore[attr-defined]
        found.update(SimpleCookie(line))
    return found


async def test_two_gateways_on_one_host_keep_their_visitors_apart(
    gateway: RunningGateway, tmp_path: pathlib.Path
) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with gateway_inside(tmp_path, config=CONFIG) as second:
        sessions = [
            aiohttp.ClientSession(own.url, headers={"Origin": own.url}, cookie_jar=jar)
            for own in (gateway, second)
        ]
        async with sessions[0] as one, sessions[1] as two:
            subjects = [(await ask(http, "GET", "/api/me")).body["subject"] for http in (one, two)]
            for _ in range(2):
                for http, name in ((one, "first"), (two, "second")):
                    said = {"message": f"/echo {name}"}
                    state = (await ask(http, "POST", "/api/chat?wait=240", said)).body
                    assert {m["content"] for m in state["messages"]} == {f"/echo {name}", name}
            again = [(await ask(http, "GET", "/api/me")).body["subject"] for http in (one, two)]
            assert again == subjects
            assert [
                len((await ask(http, "GET", "/api/sessions")).body["sessions"]) for http in (one, two)
            ] == [
                1,
                1,
            ]
            key = await gateway.mint("ann", tenant="acme")
            assert (await ask(one, "POST", "/api/auth/sign-in", {"key": key})).status == 200
            assert (await ask(two, "GET", "/api/me")).body["subject"] == subjects[1]
            assert (await ask(one, "POST", "/api/auth/sign-out", {})).status == 204
            assert (await ask(two, "GET", "/api/me")).body["subject"] == subjects[1]
            assert (await ask(one, "GET", "/api/me")).body["kind"] == "visitor"


@pytest.mark.parametrize("use", ["visitor", "user"])
async def test_a_cookie_of_an_old_name_is_exchanged(gateway: RunningGateway, use: str) -> None:
    subject, text = old_cookie(gateway, use=use, days_ago=20)
    answer = await ask(gateway.http, "GET", "/api/me", headers={"Cookie": f"agw_{use}={text}"})
    assert answer.body["subject"] == subject
    given = set_cookies(answer.headers)
    name = f"agw_{use}_{urlsplit(gateway.url).port}"
    assert set(given) == {name, f"agw_{use}"}
    assert (given[f"agw_{use}"].value, given[f"agw_{use}"]["max-age"]) == ("", "0")
    headers = {"Cookie": f"{name}={given[name].value}"}
    after = await ask(gateway.http, "GET", "/api/me", headers=headers)
    assert (after.body["subject"], set_cookies(after.headers)) == (subject, {})


async def test_an_old_name_is_read_for_ninety_days(gateway: RunningGateway) -> None:
    for days, is_read in ((89, True), (91, False)):
        subject, text = old_cookie(gateway, days_ago=days)
        answer = await ask(gateway.http, "GET", "/api/me", headers={"Cookie": f"agw_visitor={text}"})
        assert (answer.body["subject"] == subject) is is_read


async def test_what_was_issued_for_todays_name_is_nothing_under_the_old_one(gateway: RunningGateway) -> None:
    first = await ask(gateway.http, "GET", "/api/me")
    (given,) = set_cookies(first.headers).values()
    planted = {"Cookie": f"agw_visitor={given.value}"}
    answer = await ask(gateway.http, "GET", "/api/me", headers=planted)
    assert answer.body["subject"] != first.body["subject"]


async def test_signing_out_takes_back_an_old_name_too(gateway: RunningGateway) -> None:
    subject, text = old_cookie(gateway, use="user")
    headers = {"Cookie": f"agw_user={text}", "Origin": gateway.url}
    answer = await ask(gateway.http, "POST", "/api/auth/sign-out", {}, headers=headers)
    assert answer.status == 204
    given = set_cookies(answer.headers)
    assert {cookie.value for cookie in given.values()} == {""}
    assert {"agw_user", f"agw_user_{urlsplit(gateway.url).port}"} <= set(given)
    assert subject


async def test_a_cookie_of_another_secret_is_never_deleted(gateway: RunningGateway) -> None:
    other = Tickets(wall_ms=lambda: round(time.time() * 1000))
    other.open(b"o" * 32)
    principal = Principal("default", "somebody", "user", frozenset({"chat", "read"}))
    foreign = {
        "agw_user": other.issue("user", seconds=3600, principal=principal),
        "agw_visitor": other.issue("visitor", seconds=3600, principal=principal),
    }
    key = await gateway.mint(fresh_id("ann"), tenant="acme")
    headers = {"Cookie": "; ".join(f"{n}={v}" for n, v in foreign.items()), "Origin": gateway.url}
    signed = await ask(gateway.http, "POST", "/api/auth/sign-in", {"key": key}, headers=headers)
    assert signed.status == 200
    mine = set_cookies(signed.headers)
    assert not set(foreign) & set(mine)
    name = f"agw_user_{urlsplit(gateway.url).port}"
    headers["Cookie"] += f"; {name}={mine[name].value}"
    out = await ask(gateway.http, "POST", "/api/auth/sign-out", {}, headers=headers)
    assert out.status == 204
    assert not set(foreign) & set(set_cookies(out.headers))
    strange = {"Cookie": f"{name}={foreign['agw_user']}", "Origin": gateway.url}
    out = await ask(gateway.http, "POST", "/api/auth/sign-out", {}, headers=strange)
    assert name not in set_cookies(out.headers)


async def test_over_https_the_host_alone_can_set_them(tmp_path: pathlib.Path) -> None:
    config = CONFIG + '[server]\npublic_url = "https://chat.example"\n'
    async with gateway_inside(tmp_path, config=config) as own:
        headers = {"Host": "chat.example", "Origin": "https://chat.example"}
        said = {"message": "/echo hi"}
        answer = await ask(own.http, "POST", "/api/chat", said, headers=headers)
        given = set_cookies(answer.headers)
        given.pop("agw_session")  # where scripts look for it; it opens nothing, and the other goes before it
        assert [name.rpartition("_")[0] for name in sorted(given)] == [
            "__Host-agw_session",
            "__Host-agw_visitor",
        ]
        for cookie in given.values():
            assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")


async def test_the_session_of_an_old_cookie_goes_on(gateway: RunningGateway) -> None:
    async with gateway.caller(Origin=gateway.url) as browser:
        name = fresh_id()
        said = {"session_id": name, "message": "/echo before"}
        assert (await ask(browser, "POST", "/api/chat?wait=240", said)).status == 200
        browser.cookie_jar.update_cookies({"agw_session": name}, browser._base_url)  # type: ignore[arg-type]
        state = (await ask(browser, "POST", "/api/chat?wait=240", {"message": "/echo after"})).body
        assert [m["content"] for m in state["messages"]][-1] == "after"
        assert len(state["messages"]) == 4


async def test_a_gateway_that_moves_to_another_port_knows_what_it_signed(gateway: RunningGateway) -> None:
    port = urlsplit(gateway.url).port
    me = {"subject": fresh_id("~moving")}
    principal = Principal("default", me["subject"], "visitor", frozenset({"chat", "read"}))
    given = tickets_of(gateway).issue(
        "visitor", seconds=3600, principal=principal, extra={"name": "agw_visitor_1"}
    )
    moved = {"Cookie": f"agw_visitor_1={given}", "Origin": gateway.url}
    answer = await ask(gateway.http, "GET", "/api/me", headers=moved)
    assert answer.body["subject"] == me["subject"]
    assert set(set_cookies(answer.headers)) == {f"agw_visitor_{port}"}
    key = await gateway.mint(fresh_id("ann"), tenant="acme")
    answer = await ask(gateway.http, "POST", "/api/auth/sign-in", {"key": key}, headers=moved)
    assert set_cookies(answer.headers)["agw_visitor_1"].value == ""
