"""Who may reach the gateway, and what a worker may know: Host, Origin, preflights, bind address, the key."""

from __future__ import annotations

import asyncio
import pathlib
import sys

import pytest

from tests.gateways import ROOT, RunningGateway, running_gateway
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
    _, words = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert host in words.decode()
    assert "--allow-remote" in words.decode()


async def test_an_address_beyond_loopback_is_served_when_forced_by_name(tmp_path: pathlib.Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - what is tested
    async with running_gateway(tmp_path, "--host", everywhere, "--allow-remote") as running:
        assert running.url.startswith(f"http://{everywhere}:")
