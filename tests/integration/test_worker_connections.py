"""A connection that an agent's process makes is nobody's, whatever way it comes; anybody else's is served.

The attacks are made by a real agent behind real walls (tests/hostile/caller.py), as root and as an ordinary
user, for whom the gateway tells agents by other means.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import pathlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from tests.gateways import RunningGateway, running_gateway
from tests.hostile import card
from tests.ordinary import as_ordinary, directory_of_its_own, launcher
from tests.shared import ask, crowding
from tests.walls import PYTHON, USERS, User

CALLER: Final = str(pathlib.Path(__file__).parents[1] / "hostile" / "caller.py")
HELD: Final = [403, "agent_connection"]
GUESSES: Final = 12
STORM_SECONDS: Final = 3
NEIGHBOUR_SECONDS: Final = 3.0
"""While two thousand connections a second are made."""
METHODS: Final[dict[User, str]] = {"root": "uid", "nobody": "process"}
AGENT: Final = f"""
[sessions]
stop_grace_seconds = 0.1
[agents.caller]
command = ["{PYTHON}", "{CALLER}"]
network = "shared"
tools = ["shop"]
"""
PROXY: Final = f"""
[auth]
modes = ["proxy", "keys"]
[proxy]
peers = ["127.0.0.1"]
scopes = ["chat", "admin"]
[server]
trusted_proxies = ["127.0.0.1"]
[limits]
wrong_credentials_per_minute = {GUESSES // 2}
"""
CLIENT: Final = (
    "import sys, urllib.request as r; "
    "sys.stdout.write(str(r.urlopen(sys.argv[1] + '/api/sessions/count').status))"
)


@contextlib.asynccontextmanager
async def gateway_of(user: User, config: str, *arguments: str) -> AsyncIterator[RunningGateway]:
    """A gateway that this user runs."""
    prefix = launcher() if user == "nobody" else ()
    with directory_of_its_own() as directory:
        async with running_gateway(directory, *arguments, config=config + AGENT, prefix=prefix) as gateway:
            yield gateway


def own_address(family: int, far: str) -> list[str]:
    """The machine's address on the way to another one; none where there is no way."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((far, 9))
        return [probe.getsockname()[0]]
    return []


async def attack(gateway: RunningGateway, **target: Any) -> Any:
    """What the agent reports."""
    port = int(gateway.url.rpartition(":")[2])
    prompt = json.dumps({"victim": "victim", "mine": "evil", "port": port, **target})
    body = {"message": prompt, "session_id": "evil", "agent": "caller"}
    state = await gateway.post("/api/chat?wait=240", body, headers=people(target))
    said = [message["content"] for message in state["messages"] if message["sender"] == "agent"]
    assert any(said), state["messages"]
    return json.loads(said[-1])


def people(target: dict[str, Any]) -> dict[str, str]:
    return person("mallory") if target["mode"] == "proxy" else {}


def person(name: str) -> dict[str, str]:
    """What a proxy adds, and what a browser does."""
    return {"X-Forwarded-User": name, "Sec-Fetch-Site": "same-origin"}


def not_held(attempts: dict[str, dict[str, Any]], walls: str) -> list[tuple[str, str, Any]]:
    """Attempts that were answered otherwise than by the refusal, after noting all on the card."""
    tried = [(way, name, result) for way, results in attempts.items() for name, result in results.items()]
    reached = [each for each in tried if each[2] != HELD]
    card.note(f"calling the gateway, {walls}", tried=len(tried), held=len(tried) - len(reached))
    return reached


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("profile", ["strict", "basic"])
async def test_in_open_mode_an_agent_owns_nothing(profile: str, user: User) -> None:
    walls = f'[workers]\nsandbox = "{profile}"\n'
    async with gateway_of(user, walls, "--host", "::", "--allow-remote") as gateway:
        await gateway.chat("victim", "/echo precious")
        own = own_address(socket.AF_INET, "192.0.2.200") + own_address(socket.AF_INET6, "2001:db8::1")
        report = await attack(
            gateway,
            mode="open",
            hosts=["127.0.0.1", "127.0.0.77", "::1", "localhost", *own],
            sources=["127.0.0.5", *(address for address in own if ":" not in address)],
            unix=str(gateway.data_path / "operator.sock") if (profile, user) == ("basic", "nobody") else "",
        )
        attempts = report["attempts"]
        own_pass = attempts.pop("pass")
        assert not_held(attempts, f"{profile} as {user}") == []
        assert own_pass["mcp"] == [200, ""]
        assert own_pass["mcp without"] == own_pass["elsewhere"] == HELD
        assert report["allowed"] is False
        await nothing_has_happened(gateway)
        await others_are_served(gateway)
        assert f"told from others by {METHODS[user]}" in gateway.log()


async def nothing_has_happened(gateway: RunningGateway) -> None:
    """Of what connections that were gone at once have asked for, either."""
    assert {session["session_id"] for session in (await gateway.get("/api/sessions"))["sessions"]} == {
        "victim",
        "evil",
    }
    victim = await gateway.get("/api/sessions/victim")
    assert victim["title"] != "owned"
    assert (await gateway.state("victim"))["messages"][-1]["content"] == "precious"
    assert (await gateway.get("/api/admin/keys"))["keys"] == []


async def others_are_served(gateway: RunningGateway) -> None:
    """A process of the agents' own user, one of another, and the operator, while an agent lives."""
    assert [p for p in gateway.workers() if CALLER in " ".join(p.cmdline())], "an agent lives"
    url = f"http://127.0.0.1:{gateway.url.rpartition(':')[2]}"
    for keywords in (as_ordinary(), {}):
        client = functools.partial(subprocess.run, capture_output=True, text=True, **keywords)
        done = await asyncio.to_thread(client, [PYTHON, "-c", CLIENT, url])
        assert done.stdout == "200", done.stderr
    async with gateway.operator() as operator:
        assert len(await operator.sessions()) == 2


@pytest.mark.parametrize("user", USERS)
async def test_an_agent_is_no_proxy(user: User) -> None:
    """It neither speaks in another's name nor tries keys without end."""
    async with gateway_of(user, PROXY) as gateway:
        alice = person("alice")
        await gateway.post(
            "/api/chat?wait=240", {"message": "/echo precious", "session_id": "victim"}, headers=alice
        )
        report = await attack(gateway, mode="proxy", name="alice", guesses=GUESSES)
        assert not_held(report["attempts"], f"as a proxy, {user}") == []
        seen = await ask(gateway.http, "GET", "/api/state?session_id=victim", headers=alice)
        assert seen.body["messages"][-1]["content"] == "precious"
        wrong = {"Authorization": "Bearer agk_no_no", "X-Forwarded-For": "198.51.100.200"}
        assert (await ask(gateway.http, "GET", "/api/sessions", headers=wrong)).status == 401, "not used up"


async def test_where_it_is_allowed_by_name_every_attempt_gets_through() -> None:
    """The probe of the tests above: an attempt that cannot succeed proves nothing."""
    allowed = "[server]\nallow_agent_connections = true\n"
    async with gateway_of(USERS[0], allowed) as gateway:
        assert "served like any other" in gateway.log()
        await gateway.chat("victim", "/echo precious")
        report = await attack(gateway, mode="open", hosts=["127.0.0.1"], sources=[])
        first = report["attempts"]["tcp 127.0.0.1"]
        assert {name for name, result in first.items() if result[0] not in (200, 201, 204)} == set()
        assert report["allowed"] is True


@pytest.mark.parametrize("user", USERS)
@pytest.mark.alone
async def test_an_agent_that_connects_without_end_keeps_nobody_waiting(user: User) -> None:
    """Not even those who have its address, who ask more often here than one address may."""
    async with gateway_of(user, "[limits]\naddress_burst = 100000\n") as gateway:
        storming = asyncio.create_task(attack(gateway, mode="storm", seconds=STORM_SECONDS))
        while not gateway.workers():
            await asyncio.sleep(0.01)
        slowest, url = 0.0, f"{gateway.url}/api/sessions/count"
        while not storming.done():
            began = time.monotonic()
            async with aiohttp.ClientSession() as fresh, fresh.get(url) as response:
                assert response.status == 200
            slowest = max(slowest, time.monotonic() - began)
        assert (await storming)["attempts"]["storm"]["made"][0] > 200
        assert slowest < NEIGHBOUR_SECONDS * crowding()
