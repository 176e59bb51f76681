"""Who may reach the gateway, and what a worker may know: Host, Origin, preflights, bind address, the key."""

from __future__ import annotations

import asyncio
import pathlib
import sys
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.gateways import ROOT, RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.patience import soon
from tests.shared import SHARED, fresh_id, shared_gateway

pytestmark = SHARED

KEY = "sk-canary-0f3a9c51d2e84b67"
OTHER_SECRET = "canary-of-the-operator-77"
CONFIG = """
[server]
hosts = ["chat.example.org"]
[cors]
origins = ["https://app.example.org"]
"""
gateway = shared_gateway(
    CONFIG,
    environ={
        "AGENT_MODEL_URL": "http://127.0.0.1:9/v1",
        "AGENT_MODEL": "nobody",
        "AGENT_MODEL_KEY": KEY,
        "DATABASE_PASSWORD": OTHER_SECRET,
        "AGENT_GATEWAY_SERVER_LOG_LEVEL": "debug",
    },
    agents={"scripted": "echoes"},
    is_process=True,  # whose environment no worker may see
)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9999",
        "localhost",
        "LOCALHOST:1",
        "[::1]:80",
        "x.localhost",
        "chat.example.org",
    ],
)
async def test_own_and_loopback_hosts_are_served(gateway: RunningGateway, host: str) -> None:
    async with gateway.http.get("/api/state", headers={"Host": host}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "192.168.1.1",
    ],
)
async def test_a_foreign_host_is_403_on_every_route(gateway: RunningGateway, host: str) -> None:
    for path in ("/api/state", "/health", "/", "/openapi.json", "/api/chat/stream", "/nothing"):
        async with gateway.http.get(path, headers={"Host": host}) as response:
            assert response.status == 403, path
            assert (await response.json())["error"]["code"] == "forbidden_host"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "null",
        "file://",
        "http://10.1.2.3:3000",
        "https://app.example.org.evil.example",
        "http://app.example.org",
    ],
)
async def test_a_foreign_origin_is_403_and_changes_nothing(gateway: RunningGateway, origin: str) -> None:
    before = await gateway.count()
    for method, path in (("POST", "/api/chat"), ("OPTIONS", "/api/chat"), ("GET", "/api/state")):
        headers = {"Origin": origin}
        body = {"message": "hi"} if method == "POST" else None
        async with gateway.http.request(method, path, json=body, headers=headers) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers
            assert (await response.json())["error"]["code"] == "forbidden_origin"
    assert await gateway.count() == before


async def test_two_origins_are_none(gateway: RunningGateway) -> None:
    pairs = [
        [("Origin", "http://localhost http://evil.example")],
        [("Origin", "http://localhost, http://evil.example")],
        [("Origin", "http://localhost"), ("Origin", "https://evil.example")],
        [("Origin", "https://evil.example"), ("Origin", "http://localhost")],
        [("Origin", "")],
    ]
    for headers in pairs:
        async with gateway.http.post("/api/chat", json={"message": "hi"}, headers=headers) as response:
            assert response.status == 403, headers
            assert (await response.json())["error"]["code"] == "forbidden_origin"


CHANGING = [
    *("/api/chat", "/api/system", "/api/interrupt", "/api/mcp-command", "/api/sessions"),
    *("/api/auth/sign-in", "/api/auth/sign-out", "/api/auth/handover", "/api/auth/handover/claim", "/mcp"),
]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_a_page_of_another_site_asks_without_origin_changes_nothing(
    gateway: RunningGateway, site: str
) -> None:
    before = await gateway.count()
    for path in CHANGING:
        headers = {"Sec-Fetch-Site": site}
        async with gateway.http.post(path, json={"message": "hi"}, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (403, "forbidden_origin"), (
                path
            )
    assert await gateway.count() == before
    async with gateway.http.get("/api/state", headers={"Sec-Fetch-Site": site}) as response:
        assert response.status == 200
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await gateway.http.ws_connect("/ws/chat/customer/1/a", headers={"Sec-Fetch-Site": site})


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:80", "https://app.example.org"],
)
async def test_a_loopback_or_configured_origin_is_answered_with_credentials(
    gateway: RunningGateway, origin: str
) -> None:
    async with gateway.http.get("/api/state", headers={"Origin": origin}) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in response.headers["Vary"]
        assert "X-Session-Id" in response.headers["Access-Control-Expose-Headers"]


async def test_a_refusal_to_an_allowed_origin_can_be_read_by_it(gateway: RunningGateway) -> None:
    headers = {"Origin": "http://localhost:3000"}
    async with gateway.http.post("/api/chat", json={}, headers=headers) as response:
        assert response.status == 422
        assert response.headers["Access-Control-Allow-Origin"] == headers["Origin"]


async def test_a_preflight_is_answered(gateway: RunningGateway) -> None:
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-session-id",
        "Access-Control-Request-Private-Network": "true",
    }
    async with gateway.http.options("/api/chat", headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == headers["Origin"]
        for method in ("GET", "POST", "PATCH", "DELETE"):
            assert method in response.headers["Access-Control-Allow-Methods"]
        allowed = response.headers["Access-Control-Allow-Headers"].lower()
        for header in ("content-type", "x-session-id", "idempotency-key", "last-event-id"):
            assert header in allowed
        assert response.headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize("agent", ["built-in", "scripted"])
async def test_neither_key_nor_other_secrets_reach_a_worker_or_the_log(
    gateway: RunningGateway, agent: str
) -> None:
    session_id = fresh_id("secret")
    await gateway.send(session_id, "/echo hello", agent=agent)
    state = await gateway.chat(session_id, "/echo again")
    assert state["messages"][-1]["content"].endswith("again")
    assert gateway.workers()
    for worker in gateway.workers():
        environ = pathlib.Path(f"/proc/{worker.pid}/environ").read_bytes()
        assert environ
        for secret in (KEY, OTHER_SECRET):
            assert secret.encode() not in environ
            assert secret not in " ".join(worker.cmdline())
        names = {entry.partition(b"=")[0].decode() for entry in environ.split(b"\0") if entry}
        assert names <= {
            *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HOME", "TMPDIR"),
            "AGENT_GATEWAY_SESSION_KEY",
        }
    await gateway.delete(session_id)
    assert KEY not in gateway.log()


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "example.org"])
async def test_an_address_beyond_loopback_is_refused_with_words(host: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--host", host, "--port", "0"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, words = await soon(process.communicate(), 20)
    assert process.returncode == 2
    assert host in words.decode()
    assert "--allow-remote" in words.decode()


async def test_an_address_beyond_loopback_is_served_when_forced_by_name(tmp_path: pathlib.Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - what is tested
    async with running_gateway(tmp_path, "--host", everywhere, "--allow-remote") as running:
        assert running.url.startswith(f"http://{everywhere}:")


async def test_an_address_may_have_the_brackets_of_a_url(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, "--host", "[::1]") as running:
        assert running.url.startswith("http://[::1]:")


PROXIED = """
[auth]
modes = ["keys"]
[server]
public_url = "https://chat.example:8443/gateway"
hosts = ["chat.example"]
"""
ORIGIN = "https://chat.example:8443"


async def status_of(running: RunningGateway, headers: dict[str, str]) -> int:
    """What a sign-in with a wrong key is answered: 401 if it was heard, 403 if it was refused before."""
    body = {"key": "agw_nothing"}
    async with running.http.post("/api/auth/sign-in", json=body, headers=headers) as response:
        return response.status


async def test_the_public_address_is_an_origin_whatever_host_a_proxy_names(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=PROXIED) as running:
        for host in ("chat.example", "chat.example:8443", "chat.example:443", "127.0.0.1:8080", "localhost"):
            assert await status_of(running, {"Host": host, "Origin": ORIGIN}) == 401, host
        for origin in ("https://chat.example:9443", "http://chat.example:8443", "https://evil.example:8443"):
            assert await status_of(running, {"Host": "chat.example", "Origin": origin}) == 403, origin
        headers = {
            "Host": "chat.example",
            "X-Forwarded-Host": "other.example",
            "Origin": "https://other.example",
        }
        assert await status_of(running, headers) == 403


async def test_a_trusted_proxy_names_the_host_and_another_is_named_once(tmp_path: pathlib.Path) -> None:
    config = PROXIED.replace("[server]", '[server]\ntrusted_proxies = ["127.0.0.1"]').replace(
        'hosts = ["chat.example"]', 'hosts = ["chat.example", "other.example"]'
    )
    async with gateway_inside(tmp_path, config=config) as running:
        ways = (
            {"X-Forwarded-Host": "other.example"},
            {"X-Forwarded-Host": "other.example:443"},
            {"Forwarded": "for=192.0.2.1;proto=https;host=other.example"},
            {"Host": "other.example", "X-Forwarded-Port": "443"},
            {"Host": "other.example:443"},
        )
        for way in ways:
            assert await status_of(running, {**way, "Origin": "https://other.example"}) == 401, way
        for way in (
            {"X-Forwarded-Host": "evil.example"},
            {"Host": "evil.example", "X-Forwarded-Host": "localhost"},
        ):
            assert await status_of(running, way) == 403, way
        assert "trusted_proxies" not in running.log()
    (tmp_path / "b").mkdir()
    async with gateway_inside(tmp_path / "b", config=PROXIED) as running:
        for number in range(3):
            await status_of(running, {"X-Forwarded-For": f"192.0.2.{number}"})
        lines = [line for line in running.log().splitlines() if "trusted_proxies" in line]
        assert len(lines) == 1
        assert "127.0.0.1 sends x-forwarded-for, which is ignored" in lines[0]


async def test_ipv4_peers_of_a_dual_listener_are_known_by_their_addresses(tmp_path: pathlib.Path) -> None:
    config = PROXIED.replace("[server]", '[server]\ntrusted_proxies = ["127.0.0.1"]\nallow_remote = true')
    config = config.replace('["keys"]', '["keys", "proxy"]') + '[proxy]\npeers = ["127.0.0.1"]\n'
    async with running_gateway(tmp_path, "--host", "::", config=config) as running:
        port = urlsplit(running.url).port
        headers = {"X-Forwarded-User": "ann", "X-Forwarded-For": "203.0.113.7:4711"}
        async with running.http.get(f"http://127.0.0.1:{port}/api/me", headers=headers) as response:
            assert (await response.json())["subject"] == "ann"
        assert "::ffff:" not in running.log()


async def test_probes_of_life_use_up_no_rate(tmp_path: pathlib.Path) -> None:
    config = "[limits]\naddress_requests_per_second = 0.01\naddress_burst = 3\n"
    async with gateway_inside(tmp_path, config=config) as running:
        statuses = []
        for path in (*["/livez"] * 10, *["/health"] * 4, "/livez"):
            async with running.http.get(path) as response:
                statuses.append(response.status)
        assert statuses[:10] == [200] * 10
        assert 429 in statuses[10:14]
        assert statuses[14] == 200
