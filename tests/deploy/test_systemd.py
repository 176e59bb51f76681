"""The units under a real systemd, installed by the lines of deploy/README.md on a machine of their own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import aiohttp
import psutil
import pytest
from msgspec import Struct

from tests.deploy.load import People
from tests.deploy.machine import Machine, booted
from tests.deploy.systems import base
from tests.deploy.tools import DEPLOY
from tests.patience import within
from tests.shared import crowding
from tests.streams import open_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

URL: Final = "http://127.0.0.1:8080"
CONFIG: Final = "/etc/agent-gateway/config.toml"
INSTALL_SECONDS: Final = 240
KILLS: Final = 6
"""Within ten seconds: more than systemd's own limit on starts lets through."""
RESTART_SECONDS: Final = 10
_UNLIMITED: Final = "[limits]\nsession_burst = 100_000\naddress_burst = 100_000\n"


class Installed(Struct, frozen=True):
    """What the README's lines leave behind."""

    machine: Machine
    key: str


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A machine on which the gateway was installed as the README says."""
    with booted(base(), tmp_path_factory.mktemp("machine")) as machine:
        began = time.monotonic()
        said = machine.run(_lines_of_the_readme(), seconds=INSTALL_SECONDS * crowding())
        print(f"\ninstalled by the README's lines in {time.monotonic() - began:.0f} s")  # noqa: T201
        machine.run(f"printf '{_UNLIMITED}' >> {CONFIG}; systemctl restart agent-gateway")
        yield Installed(machine, re.findall(r"^agw_\S+$", said, re.M)[0])


def _lines_of_the_readme() -> str:
    section = re.search(r"^## systemd\n\n```sh\n(.*?)^```", (DEPLOY / "README.md").read_text(), re.M | re.S)
    assert section is not None
    return section[1]


@pytest.fixture
def machine(installed: Installed) -> Machine:
    """The machine."""
    return installed.machine


@pytest.fixture
def key(installed: Installed) -> str:
    """The API key that the README's last line made."""
    return installed.key


@contextlib.asynccontextmanager
async def _talking(machine: Machine, key: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(URL, headers=headers, connector=machine.connector()) as http:
        yield http


async def _said(http: aiohttp.ClientSession, session_id: str, word: str) -> str:
    """What the agent answers."""
    body = {"session_id": session_id, "message": f"/echo {word}"}
    async with http.post("/api/chat", params={"wait": 30}, json=body) as response:
        state: Any = await response.json()
    assert response.status == 200, state
    return str(state["messages"][-1]["content"])


def _shown(machine: Machine, name: str, *, unit: str = "agent-gateway.service") -> str:
    return machine.run(f"systemctl show --value --property={name} {unit}")


def _children(machine: Machine, *, recursive: bool = False) -> list[psutil.Process]:
    return psutil.Process(machine.pid).children(recursive=recursive)


def _processes(machine: Machine) -> list[psutil.Process]:
    """Everything of the gateway's user."""
    uid = int(machine.run("id -u agent-gateway"))
    found = []
    for process in _children(machine, recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.uids().real == uid:
                found.append(process)
    return found


async def test_it_says_when_it_is_ready_and_its_workers_stand_behind_strict_walls(
    machine: Machine, key: str
) -> None:
    assert machine.run("systemctl is-active agent-gateway.service agent-gateway.socket") == "active\nactive"
    assert (_shown(machine, "Type"), _shown(machine, "NotifyAccess")) == ("notify", "main")
    began, ready = (
        int(_shown(machine, f"{name}TimestampMonotonic")) for name in ("InactiveExit", "ActiveEnter")
    )
    async with _talking(machine, key) as http:
        assert await _said(http, "walls", "hello") == "hello"
        async with open_stream(http, "walls") as stream:
            started = await stream.until_event("agent_started")
    assert started.data["walls"] == "strict"
    log = machine.run("journalctl --unit=agent-gateway --output=cat --no-pager")
    assert "workers run behind strict walls" in log
    print(f"\nready after {(ready - began) / 1e6:.2f} s, walls: {started.data['walls']}")  # noqa: T201


async def test_a_restart_under_load_refuses_nobody(machine: Machine, key: str) -> None:
    people = People(URL, name="r", key=key, connector=machine.connector)
    async with people.at_work():
        await people.until(50)
        for _ in range(2):
            await asyncio.to_thread(machine.run, "systemctl restart agent-gateway")
            await people.until(50)
    async with _talking(machine, key) as http:
        words = await people.check(http)
    print(f"\n2 restarts, {words} words, trouble {dict(people.trouble)}, longest {max(people.waits):.2f} s")  # noqa: T201
    assert set(people.trouble) <= {"status 503"}, "503 says to come again; anything else is a cut"


async def test_a_gateway_that_is_killed_comes_back_however_often(machine: Machine, key: str) -> None:
    people = People(URL, name="k", key=key, connector=machine.connector)
    async with people.at_work():
        await people.until(20)
        before = _processes(machine)
        for _ in range(KILLS):
            await _killed(machine)
        killed = time.monotonic()
        await people.until(20)
        away = time.monotonic() - killed
    async with _talking(machine, key) as http:
        words = await people.check(http)
    assert not [process for process in before if process.is_running()], "something outlived the gateway"
    assert "ClientConnectorError" not in people.trouble, "systemd holds the socket: nobody is refused"
    figures = f"{KILLS} kills, {words} words, 0 lost, {away:.1f} s until 20 more"
    print(f"\n{figures}, trouble {dict(people.trouble)}")  # noqa: T201


async def _killed(machine: Machine) -> None:
    """Kills the gateway as soon as there is one."""
    async with within(RESTART_SECONDS):
        while not (found := [each for each in _children(machine) if _name(each) == "agent-gateway"]):
            await asyncio.sleep(0.02)
    found[0].kill()
    await asyncio.to_thread(found[0].wait, RESTART_SECONDS * crowding())


def _name(process: psutil.Process) -> str:
    """Empty if it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


async def test_a_stop_leaves_no_process_and_the_next_connection_starts_it_again(
    machine: Machine, key: str
) -> None:
    async with _talking(machine, key) as http:
        assert await _said(http, "stopped", "before") == "before"
        assert len(_processes(machine)) > 2, "the gateway, its fork server and a worker"
        machine.run("systemctl stop agent-gateway.service")
        assert not _processes(machine)
        assert machine.tried("systemctl is-active agent-gateway.service").stdout.strip() == "inactive"
        assert await _said(http, "stopped", "after") == "after"
    assert machine.run("systemctl is-active agent-gateway.service") == "active"


async def test_a_reload_says_whether_the_file_is_good_and_the_gateway_goes_on(
    machine: Machine, key: str
) -> None:
    main = _shown(machine, "MainPID")
    machine.run("systemctl reload agent-gateway")
    machine.run(f"cp --preserve {CONFIG} /root/good.toml; echo nonsense >> {CONFIG}")
    assert machine.tried("systemctl reload agent-gateway").returncode != 0
    machine.run(f"cp --preserve /root/good.toml {CONFIG}; systemctl reload agent-gateway")
    assert _shown(machine, "MainPID") == main
    async with _talking(machine, key) as http:
        assert await _said(http, "reloaded", "still here") == "still here"
