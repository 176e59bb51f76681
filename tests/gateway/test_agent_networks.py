"""The network that agents get if nobody names one: decided when the walls are known, and said."""

from __future__ import annotations

import json
import pathlib
import tempfile
import threading
from collections.abc import Iterator

import pytest

from gateway.egress import registries
from tests.inside import GatewayInside, gateway_inside
from tests.patience import crowding
from tests.shared import eventually

AGENTS = {"plain": "echoes", "own": "echoes"}
OWN_KEY = '[agents.own.env]\nSOME_API_KEY = "sk-secret"\n'


async def networks(gateway: GatewayInside) -> dict[str, tuple[str, str]]:
    agents = (await gateway.get("/api/agents"))["agents"]
    return {one["name"]: (one["network"], one.get("network_advice", "")) for one in agents}


async def network_of_its_worker(gateway: GatewayInside, agent: str) -> str:
    await gateway.post("/api/sessions", {"session_id": agent, "agent": agent}, status=201)
    await gateway.chat(agent, "hello")
    (worker,) = gateway.inner.spawner.workers
    network = worker.request.sandbox.network
    async with gateway.http.get(f"/api/sessions/{agent}/export") as response:
        events = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [one["network"] for one in events if one.get("type") == "agent_started"] == [network]
    (row,) = (await gateway.get("/api/admin/sessions"))["sessions"]
    assert row["network"] == network
    await gateway.delete(agent)
    return network


def with_own_key(directory: pathlib.Path) -> str:
    """What comes after the tables of the agents: the last one is that of `own`."""
    path = directory / "config.toml"
    path.write_text(path.read_text().replace("[egress]", f"{OWN_KEY}[egress]"))
    return str(path)


async def test_a_command_is_behind_the_gateway_unless_it_has_a_key_of_its_own(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents=AGENTS) as gateway:
        if gateway.inner.spawner.profile != "strict":
            pytest.skip("NOT TESTED: no strict walls here")
        with_own_key(tmp_path)
        await gateway.post("/api/admin/reload", {})
        found = await networks(gateway)
        assert (found["plain"][0], found["built-in"]) == ("broker", ("none", ""))
        assert "agents.plain.hosts" in found["plain"][1]
        mode, advice = found["own"]
        assert mode == "shared"
        assert "agents.own.env.SOME_API_KEY" in advice
        assert f"WARNING gateway.agents.catalogue: {advice}" in gateway.log()
        assert "sk-secret" not in gateway.log()
        assert await network_of_its_worker(gateway, "plain") == "broker"
        assert await network_of_its_worker(gateway, "own") == "shared"


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory that workers of their own uid may enter."""
    with tempfile.TemporaryDirectory(prefix="place-") as name:
        pathlib.Path(name).chmod(0o755)
        yield pathlib.Path(name)


async def test_walls_that_cannot_hold_it_leave_the_network_and_say_so(place: pathlib.Path) -> None:
    config = '[workers]\nsandbox = "none"\n[auth]\nmodes = ["keys"]\n'
    async with gateway_inside(place, agents={"plain": "echoes"}, config=config) as gateway:
        assert "agent plain shares this machine's network, because the network `broker`" in gateway.log()
        for scopes, is_told in ((("chat",), False), (("chat", "operate"), True)):
            key = await gateway.mint(f"k{len(scopes)}", scopes=scopes)
            async with gateway.caller(key) as caller, caller.get("/api/agents") as response:
                agents = (await response.json())["agents"]
            (plain,) = [one for one in agents if one["name"] == "plain"]
            assert plain["network"] == "shared"
            assert ("network_advice" in plain) == is_told


async def test_a_gateway_serves_while_it_asks_for_registries_and_ends_without_them(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = threading.Event()

    def ask(_tools: object, command: tuple[str, ...]) -> str:
        may_answer.wait(30 * crowding())
        return "https://index.example/" if "-c" in command else ""

    monkeypatch.setattr(registries._Tools, "ask", ask)
    monkeypatch.setattr(registries._Tools, "stop", lambda _tools: may_answer.set())
    config = "[egress]\ndenied = []\n"
    async with gateway_inside(tmp_path, agents={"plain": "echoes"}, config=config) as gateway:
        if gateway.inner.spawner.profile != "strict":
            pytest.skip("NOT TESTED: no strict walls here")
        await gateway.post("/api/sessions", {"session_id": "a", "agent": "plain"}, status=201)
        assert (await gateway.get("/api/sessions/a/egress"))["hosts"] == []
        may_answer.set()

        async def is_known() -> bool:
            return bool((await gateway.get("/api/sessions/a/egress"))["hosts"] == ["index.example:443"])

        await eventually(is_known)
    may_answer.clear()
    async with gateway_inside(tmp_path, agents={"plain": "echoes"}, config=config) as gateway:
        assert not gateway.inner.services.egress.registries.is_known
