"""A whole gateway whose workers are behind the broker: what lists, people and reloads come to for a client
that runs inside a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from gateway.egress.lookup import Lookup
from tests.inside import GatewayInside, gateway_inside
from tests.shared import ask, eventually
from tests.walls import PYTHON

LISTED: Final = "listed.test"
OTHER: Final = "other.test"
CLIENT: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=40) as it:
    it.sendall(b"GET / HTTP/1.1\\r\\nHost: " + sys.argv[1].encode() + b"\\r\\n\\r\\n")
    while data := it.recv(4096):
        print(data.decode(), end="", flush=True)
print("<end>")
"""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Invented names, and where the gateway finds them."""
    known: dict[str, list[str]] = {}

    async def addresses(_: Lookup, host: str, _port: int) -> list[str]:
        return known.get(host, ["127.0.0.1"])

    monkeypatch.setattr(Lookup, "addresses", addresses)
    return known


@contextlib.asynccontextmanager
async def greeter() -> AsyncIterator[int]:
    """A host that greets whoever comes, and stays; its port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome ")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def config(port: int, *, hosts: str = LISTED, unlisted: str = "deny") -> str:
    return f"""
[workers]
network = "broker"
sandbox = "strict"
[egress]
hosts = ["{hosts}:{port}"]
private_hosts = ["{LISTED}", "{OTHER}"]
unlisted = "{unlisted}"
"""


def connecting(host: str, port: int) -> dict[str, Any]:
    """An agent that starts a client, and says so."""
    script = f"{PYTHON} -c '{CLIENT}' {host} {port} > $HOME/said 2>&1"
    return {"turns": [[{"spawn": ["/bin/sh", "-c", script]}, {"say": "begun"}]]}


async def begun(gateway: GatewayInside, agent: str) -> None:
    await gateway.post("/api/sessions", {"session_id": agent, "agent": agent}, status=201)
    await gateway.send(agent, "go")


async def heard(gateway: GatewayInside, words: str) -> str:
    """What the client wrote, as soon as these words are in it."""
    homes = gateway.data_path / "sessions"

    def said() -> str:
        return "".join(path.read_text() for path in homes.glob("*/home/said"))

    async def is_said() -> bool:
        return words in said()

    await eventually(is_said)
    return said()


async def egress(gateway: GatewayInside, session_id: str) -> Any:
    return (await ask(gateway.http, "GET", f"/api/sessions/{session_id}/egress")).body


async def test_a_listed_host_is_reached_until_a_reload_takes_it_away(
    tmp_path: pathlib.Path, names: dict[str, list[str]]
) -> None:
    async with greeter() as port:
        text = config(port)
        async with gateway_inside(tmp_path, config=text, agents={"a": connecting(LISTED, port)}) as gateway:
            await begun(gateway, "a")
            await heard(gateway, "welcome ")
            assert (await egress(gateway, "a"))["denied"] == []
            kept = (tmp_path / "config.toml").read_text()
            (tmp_path / "config.toml").write_text(kept.replace(f"{LISTED}:{port}", f"elsewhere.test:{port}"))
            gateway.inner.reload()
            assert "<end>" in await heard(gateway, "<end>")


async def test_an_unlisted_host_is_refused_and_the_person_sees_which(
    tmp_path: pathlib.Path, names: dict[str, list[str]]
) -> None:
    async with greeter() as port:
        text = config(port)
        async with gateway_inside(tmp_path, config=text, agents={"a": connecting(OTHER, port)}) as gateway:
            await begun(gateway, "a")
            assert "welcome" not in await heard(gateway, "\n")

            async def was_told() -> bool:
                return bool((await egress(gateway, "a"))["denied"])

            await eventually(was_told)  # denials are joined for a moment
            (denied,) = (await egress(gateway, "a"))["denied"]
            assert (denied["host"], denied["port"], denied["why"]) == (OTHER, port, "unlisted")
            rows = (await ask(gateway.http, "GET", "/api/admin/egress")).body["hosts"]
            assert [row["toml"] for row in rows] == [f'[agents.a]\nhosts = ["{OTHER}:{port}"]']


async def test_a_listed_name_that_leads_to_metadata_is_refused(
    tmp_path: pathlib.Path, names: dict[str, list[str]]
) -> None:
    names[LISTED] = ["169.254.169.254"]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        text = config(port)
        async with gateway_inside(tmp_path, config=text, agents={"a": connecting(LISTED, port)}) as gateway:
            await begun(gateway, "a")
            await heard(gateway, "\n")
            (denied,) = (await egress(gateway, "a"))["denied"]
            assert (denied["host"], denied["why"]) == (LISTED, "private")


async def test_a_connection_waits_for_its_person(tmp_path: pathlib.Path, names: dict[str, list[str]]) -> None:
    async with greeter() as port:
        text = config(port, unlisted="ask")
        async with gateway_inside(tmp_path, config=text, agents={"a": connecting(OTHER, port)}) as gateway:
            await begun(gateway, "a")

            async def is_asked() -> bool:
                return bool((await egress(gateway, "a"))["asked"])

            await eventually(is_asked)
            (question,) = (await egress(gateway, "a"))["asked"]
            path = f"/api/sessions/a/egress/{question['ask_id']}"
            answer = await ask(gateway.http, "POST", path, {"answer": "session"})
            assert (answer.status, answer.body["asked"]) == (200, [])
            await heard(gateway, "welcome ")
            assert (await egress(gateway, "a"))["denied"] == []


async def test_what_nobody_answered_when_the_worker_ended_is_over(
    tmp_path: pathlib.Path, names: dict[str, list[str]]
) -> None:
    async with greeter() as port:
        text = config(port, unlisted="ask")
        async with gateway_inside(tmp_path, config=text, agents={"a": connecting(OTHER, port)}) as gateway:
            await begun(gateway, "a")

            async def is_asked() -> bool:
                return bool((await egress(gateway, "a"))["asked"])

            await eventually(is_asked)
            session = gateway.inner.manager.get("default/local", "a")
            assert session is not None
            await session.kill()
            assert (await egress(gateway, "a"))["asked"] == []
