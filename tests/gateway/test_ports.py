"""Servers that agents start are reached by their session's owner, and do nothing in the gateway's name."""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import pytest

from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.shared import free_port

SERVED: Final = pathlib.Path(__file__).parent.parent / "served.py"
VISITORS: Final = "[auth]\nmodes = ['anonymous']\n"


def config(network: str) -> str:
    command = json.dumps([sys.executable, "-I", str(SERVED)])
    return (
        f'[agents.served]\ncommand = {command}\nreadable = ["{SERVED}"]\nnetwork = "{network}"\n'
        "[sessions]\npark_after_seconds = 0\n"
    )


@pytest.fixture(params=["broker", "shared"])
async def gateway(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[GatewayInside]:
    async with gateway_inside(tmp_path, config=config(request.param)) as running:
        yield running


async def served(gateway: GatewayInside, session_id: str, host: str = "127.0.0.1") -> int:
    """A session whose agent serves; the port."""
    port = free_port()
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "served"}, status=201)
    state = await gateway.chat(session_id, f"{host} {port}")
    assert state["messages"][-1]["content"] == "listening"
    return port


async def test_a_server_is_listed_and_reached_by_every_way(gateway: GatewayInside) -> None:
    port = await served(gateway, "s")
    at = f"/api/sessions/s/ports/{port}/"
    assert await gateway.get("/api/sessions/s/ports") == {"ports": [{"port": port, "url": at}]}

    async with gateway.http.post(at + "a%2Fb?x=1&y", data=b"body", headers={"Origin": gateway.url}) as answer:
        line, head, body = await answer.json(content_type=None)
        assert (line, body) == ("POST /a%2Fb?x=1&y HTTP/1.1", "body")
        assert f"Host: localhost:{port}" in head
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        for name in ("Set-Cookie", "Strict-Transport-Security", "Clear-Site-Data"):
            assert name not in answer.headers
        assert answer.headers.get("Access-Control-Allow-Origin") != "http://evil.example"
    for path in ("switch", "interim"):
        async with within(10), gateway.http.get(at + path) as answer:
            assert answer.status == 502
    signed = dict.fromkeys(("X-Forwarded-User", "Cf-Access-Jwt", "X-Hop"), "secret") | {"Connection": "X-Hop"}
    async with gateway.http.get(at + "x?visitor=agv_secret&y=1", headers=signed) as answer:
        line, head, _ = await answer.json(content_type=None)
        assert line == "GET /x?y=1 HTTP/1.1"
        assert "secret" not in head
        assert "X-Accel-Redirect" not in answer.headers
    async with gateway.http.get(at.replace("sessions/s/", "sessions/%73/") + "x") as answer:
        assert (await answer.json(content_type=None))[0] == "GET /x HTTP/1.1"
    async with gateway.http.get(at + "moved", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, f"{at}there?x=1")
    async with gateway.http.ws_connect(at + "socket", protocols=("vite-hmr",)) as socket:
        assert socket.protocol == "vite-hmr"
        await socket.send_str("words" * 100)
        assert await socket.receive_str() == "words" * 100
        await socket.send_bytes(b"\0\1")
        assert await socket.receive_bytes() == b"\0\1"
    async with gateway.http.get(at + "stream") as answer:
        assert (await answer.content.readline()) == b"data: 0\n"


async def test_a_browser_gets_an_origin_of_its_own(gateway: GatewayInside) -> None:
    has_own_network = gateway.inner.config.agents["served"].network == "broker"
    port = await served(gateway, "s", "::1" if has_own_network else "localhost")
    navigating = {"Sec-Fetch-Mode": "navigate", "Cookie": "agw_user=secret", "Authorization": "Bearer x"}
    asked = f"/api/sessions/s/ports/{port}/page?q=1"
    async with gateway.http.get(asked, headers=navigating, allow_redirects=False) as answer:
        shape = r"http://(p-[0-9a-f]{32}\.localhost:\d+)(/page\?q=1&agw_ticket=.+)"
        found = re.fullmatch(shape, answer.headers["Location"])
    assert found is not None
    host, target = found[1], found[2]

    async def ask(path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        async with gateway.http.get(path, headers={"Host": host} | headers, allow_redirects=False) as answer:
            return answer, await answer.text()

    assert (await ask("/page"))[0].status == 404  # the address alone opens nothing
    first, _ = await ask(target)
    assert (first.status, first.headers["Location"]) == (303, "/page?q=1")
    cookie = first.headers["Set-Cookie"].split(";")[0]
    assert "Set-Cookie" not in (await ask(target))[0].headers  # a ticket is good once
    shown, body = await ask("/page?q=1", Cookie=f"{cookie}; theirs=1")
    line, head, _ = json.loads(body)
    assert line == "GET /page?q=1 HTTP/1.1"
    assert "Cookie: theirs=1" in head
    assert "secret" not in head
    assert cookie.partition("=")[2] not in head
    assert shown.headers.getall("Set-Cookie") == ["theirs=1", "more=2"]
    assert "GET /api/state" in (await ask("/api/state?session_id=s", Cookie=cookie))[1]  # not the gateway's

    # What a page there may not do: speak to the gateway.
    async with gateway.http.post(
        "/api/chat", json={"message": "x", "session_id": "s"}, headers={"Origin": f"http://{host}"}
    ) as answer:
        assert answer.status == 403
    await gateway.delete("s")
    assert (await ask("/page", Cookie=cookie))[0].status == 502


async def test_without_a_host_a_browser_gets_a_page_without_an_origin(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(
        tmp_path, config=config("broker") + '[server]\nports_host = "none"\n'
    ) as gateway:
        port = await served(gateway, "s")
        async with gateway.http.get(
            f"/api/sessions/s/ports/{port}/page",
            headers={"Sec-Fetch-Mode": "navigate"},
            allow_redirects=False,
        ) as answer:
            at = answer.headers["Location"]
        assert re.fullmatch(r"/ports/p-[0-9a-f]{32}/page", at)
        async with gateway.http.get(at, headers={"Origin": "null"}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert "Set-Cookie" not in answer.headers
        async with gateway.http.get(at.replace("/ports/p-", "/ports/p-0")) as answer:
            assert answer.status == 404


async def test_nobody_elses_port_is_reached(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=config("shared")) as gateway:
        mine, other = await served(gateway, "mine"), await served(gateway, "other")
        own = int(gateway.url.rpartition(":")[2])
        for port in (other, own, 1, 65_535):
            async with gateway.http.get(f"/api/sessions/mine/ports/{port}/") as answer:
                assert answer.status == 502
                assert (await answer.json())["error"]["code"] == "port_unreachable"
        async with gateway.http.get(f"/api/sessions/mine/ports/{mine}/") as answer:
            assert answer.status == 200
        async with gateway.http.get(f"/api/sessions/unknown/ports/{mine}/") as answer:
            assert answer.status == 404


async def test_a_server_at_the_gateways_port_of_another_family_is_itself(tmp_path: pathlib.Path) -> None:
    """An agent listens at all addresses of IPv6; at 127.0.0.1, the same port is the gateway's."""
    async with gateway_inside(tmp_path, config=config("shared")) as gateway:
        own = int(gateway.url.rpartition(":")[2])
        await gateway.post("/api/sessions", {"session_id": "s", "agent": "served"}, status=201)
        state = await gateway.chat("s", f":: {own}")
        assert state["messages"][-1]["content"] == "listening"
        async with gateway.http.get(f"/api/sessions/s/ports/{own}/api/sessions") as answer:
            assert (await answer.json(content_type=None))[0] == "GET /api/sessions HTTP/1.1"


async def test_the_doors_of_a_worker_are_no_ports(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=config("broker")) as gateway:
        await served(gateway, "s")
        for port in (80, 443, 3128):
            async with gateway.http.get(f"/api/sessions/s/ports/{port}/") as answer:
                assert answer.status == 502


async def test_another_person_gets_what_an_unknown_session_gets(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=config("broker") + VISITORS) as gateway:
        await gateway.http.close()
        jar, origin = aiohttp.CookieJar(unsafe=True), {"Origin": gateway.url}
        gateway.http = aiohttp.ClientSession(gateway.url, cookie_jar=jar, headers=origin)
        port = await served(gateway, "s")
        for session_id in ("s", "unknown"):
            async with aiohttp.ClientSession(gateway.url) as stranger:
                for path in ("ports", f"ports/{port}/"):
                    async with stranger.get(f"/api/sessions/{session_id}/{path}") as answer:
                        assert answer.status == 404
                with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
                    await stranger.ws_connect(f"/api/sessions/{session_id}/ports/{port}/socket")


async def test_use_of_a_port_keeps_its_session_awake(tmp_path: pathlib.Path) -> None:
    slow = config("broker").replace("park_after_seconds = 0", "park_after_seconds = 60")
    async with gateway_inside(tmp_path, config=slow) as gateway:
        port = await served(gateway, "s")
        gateway.clock.advance(50)
        async with gateway.http.get(f"/api/sessions/s/ports/{port}/") as answer:
            assert answer.status == 200
        session = gateway.inner.manager.get("default/local", "s")
        assert session is not None
        assert session.idle_seconds < 50


async def test_a_worker_that_ends_takes_its_sockets_along(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=config("broker")) as gateway:
        port = await served(gateway, "s")
        async with gateway.http.get(f"/api/sessions/s/ports/{port}/stream") as answer:
            await answer.content.readline()
            session = gateway.inner.manager.get("default/local", "s")
            assert session is not None
            worker = session.process
            await gateway.delete("s")
            async with within(5):
                await answer.content.read()  # it has an end
        assert worker is not None
        assert worker._spare == []  # type: ignore[attr-defined]
