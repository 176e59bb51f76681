"""Workers with the network `broker`, behind strict walls: nothing but the gateway is reached, everything that
is listed is, and nothing is left of a worker that ended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import msgspec
import psutil
import pytest

from gateway.config.tables import WorkersConfig
from gateway.egress.names import NameServer
from gateway.egress.routes import RouteAnswer, RouteHandler, RouteRequest
from gateway.workers import walls
from gateway.workers.spawner import StartFailed
from gateway.workers.walls import WalledSpawner, WallsMissing
from tests.doors import LISTED, OTHER, Hosts, Rules, echo, serve, spawn
from tests.hostile.requests import ATTACKS
from tests.inside import gateway_inside
from tests.patience import soon, within
from tests.shared import crowding, eventually
from tests.walls import PYTHON, USERS, User, yard
from worker.spec import Profile, Spawn

INSIDER: Final = str(pathlib.Path(__file__).parent.parent / "hostile" / "insider.py")
FURTHER: Final = (22, 5432)
DENIED: Final = "TLSV1_ALERT_ACCESS_DENIED"

EXPECTED: Final[dict[str, object]] = {
    "the machine's gateway": "ECONNREFUSED",
    "the machine's gateway by UDP": "ECONNREFUSED",
    "another port": "ECONNREFUSED",
    "port 53 by TCP": "ECONNREFUSED",
    "port 25": "ECONNREFUSED",
    "UDP": "ECONNREFUSED",
    "IPv6": "ENETUNREACH",
    "IPv6 loopback": "ECONNREFUSED",
    "IPv6 link": "nowhere",
    "multicast": "nowhere",
    "raw socket": "EPERM",
    "ping socket": "EACCES",
    "packet socket": "EAFNOSUPPORT",
    "vsock": "EAFNOSUPPORT",
    "a route": "EPERM",
    "unshare": "EPERM",
    "setns": "EPERM",
    "interfaces": ["lo"],
    "take the door": "EADDRINUSE",
    "take a port": "EACCES",
    "a server of its own": "x",
    "an abstract socket": "ECONNREFUSED",
    "TXT": [0, 0, ""],
    "AAAA": [0, 0, ""],
    "A": [0, 1],
    "A at this machine": [0, 1],
    "looked up": True,
    "TLS listed": "the host heard GET /tls",
    "TLS listed, any case": "the host heard GET /tls",
    "TLS to an address, SNI listed": "the host heard GET /tls",
    "TLS to metadata, SNI listed": "the host heard GET /tls",
    "TLS to an address, no SNI": DENIED,
    "TLS unlisted": DENIED,
    "TLS no SNI": DENIED,
    "TLS SNI of another": DENIED,
    "TLS to another, SNI listed": DENIED,
    "HTTP at 443": "\x15\x03\x03\0\2\2\x31",
    "ssh": "SSH-2.0-greeter\r\nyou said SSH-2.0-x\r\n",
    "ssh to another": "",
    "ssh to an address": "",
    "an old name": [0, 1],
}


@pytest.fixture
async def hosts() -> AsyncIterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="hosts-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        async with Hosts.running(directory) as running:
            yield running


@pytest.mark.parametrize("user", USERS)
async def test_every_way_out_ends_at_a_door_or_nowhere(user: User, hosts: Hosts) -> None:
    rules = hosts.rules()
    attacks = {attack.name: [attack.port, attack.data.decode("latin-1")] for attack in ATTACKS}
    asked = {
        "listed": LISTED,
        "other": OTHER,
        "requests": True,
        "names": 4_200,
        "curl": shutil.which("curl"),
    }
    with socket.socket() as gateway, socket.socket(socket.AF_UNIX) as abstract:
        gateway.bind(("127.0.0.1", 0))
        gateway.listen()
        abstract.bind("\0agent-gateway-test")
        abstract.listen()
        asked["ports"] = {"gateway": gateway.getsockname()[1]}
        async with (
            yard("strict", user=user) as here,
            await spawn(
                here, PYTHON, INSIDER, json.dumps(asked), readable=(INSIDER,), ports=FURTHER
            ) as inmate,
        ):
            door = serve(inmate, rules, routes=echo)
            os.set_blocking(inmate.worker.stdin, True)
            await asyncio.to_thread(feed, inmate.worker.stdin, json.dumps(attacks).encode())
            said = await inmate.read_all()
            assert door.connections == 0
            assert said.startswith("{"), said + inmate.worker.stderr_tail()
    found: dict[str, Any] = json.loads(said)
    answers = {attack.name: attack for attack in ATTACKS}
    wrong = {
        name: found[name][:200]
        for name, attack in answers.items()
        if not re.match(attack.answer, found[name].encode("latin-1"), re.DOTALL)
    }
    assert not wrong
    kept, failed = found.pop("names")
    assert failed > 100
    assert kept + 100 > 4_096 - len(EXPECTED)
    assert re.match("HTTP/1.1 403 .*is refused: address", found.pop("metadata"), re.DOTALL)
    if asked["curl"]:
        assert found.pop("curl") == f"{OTHER}:80 is refused: unlisted."
    for name in ("IPv6 link", "multicast"):  # kernels differ in the word
        found[name] = "nowhere" if found[name] in ("EINVAL", "ENETUNREACH") else found[name]
    assert {name: what for name, what in found.items() if name not in answers} == EXPECTED
    assert len([head for head in hosts.heads if head.startswith(b"GET /tls")]) == 4
    assert {"address", "unlisted", "server_name", "malformed", "limit"} <= set(rules.whys)


def feed(fd: int, data: bytes) -> None:
    os.write(fd, data)
    os.close(fd)
    os.open(os.devnull, os.O_RDONLY)  # the number is closed once more at the end


async def test_names_of_the_machine_are_not_those_of_a_worker_with_its_own_network() -> None:
    async with yard("strict") as here:
        said = await here.run("/bin/sh", "-c", "cat /etc/hosts /etc/resolv.conf", network="broker")
        assert said == (
            "127.0.0.1 localhost agent\n::1 localhost\nnameserver 127.0.0.1\noptions timeout:2 attempts:2\n"
        )
        assert await here.run("/bin/sh", "-c", "cat /etc/hosts") == pathlib.Path("/etc/hosts").read_text()


@pytest.mark.parametrize("user", USERS)
async def test_curl_reaches_listed_hosts_with_and_without_a_proxy_and_hears_of_others_in_words(
    user: User, hosts: Hosts
) -> None:
    script = f"""exec 2>&1; C="curl -sS -m 10 --cacert {hosts.authority.root_file}"; P="-p -x http://127.0.0.1:3128"
    $C https://{LISTED}/one; echo; $C http://{LISTED}/two; echo; $C $P https://{LISTED}/three; echo
    $C $P https://{LISTED}:8443/four; echo; $C -x http://127.0.0.1:3128 http://{LISTED}:8080/five; echo
    $C -d body http://127.0.0.1:3128/llm/six; echo
    $C https://{OTHER}/; $C http://{OTHER}/; $C $P https://{OTHER}/; $C -m 2 http://{LISTED}:8081/"""
    async with (
        yard("strict", user=user) as here,
        await spawn(here, "/bin/sh", "-c", script, readable=(str(hosts.authority.root_file),)) as inmate,
    ):
        serve(inmate, hosts.rules(), routes=echo)
        lines = (await inmate.read_all()).splitlines()
    heard = [f"the host heard GET /{name}" for name in ("one", "two", "three", "four", "five")]
    assert lines[:6] == [*heard, "POST /llm/six body"]
    assert "access denied" in lines[6]
    assert lines[7] == f"{OTHER}:80 is refused: unlisted."
    assert "403" in lines[8]
    assert "connect" in lines[9].lower()


async def test_a_worker_has_its_own_doors_and_no_one_elses(hosts: Hosts) -> None:
    def says(name: str) -> RouteHandler:
        async def handler(_request: RouteRequest, answer: RouteAnswer) -> None:
            answer.start(200)
            await answer.write(name.encode())

        return handler

    program = "import http.client as h; c = h.HTTPConnection('127.0.0.1', 3128); c.request('GET', '/llm/x'); "
    program += "print(c.getresponse().read().decode())"
    async with yard("strict") as here:
        async with (
            await spawn(here, PYTHON, "-c", program) as one,
            await spawn(here, PYTHON, "-c", program) as two,
        ):
            for name, inmate in (("one", one), ("two", two)):
                serve(inmate, Rules(), routes=says(name))
            assert await one.read_line() == "one"
            assert await two.read_line() == "two"


@pytest.mark.parametrize("end", ["killed by itself", "stopped", "the fork server is lost"])
async def test_when_a_worker_ends_its_calls_are_cancelled_and_nothing_is_left(end: str, hosts: Hosts) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(_request: RouteRequest, answer: RouteAnswer) -> None:
        answer.start(200)
        await answer.write(b"begun")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    program = (
        f"import socket, time; a = socket.create_connection(('{LISTED}', 5432)); a.send(b'x'); a.recv(1); "
        "b = socket.create_connection(('127.0.0.1', 3128)); "
        "b.send(b'GET /llm/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); b.recv(9); time.sleep(60)"
    )
    loop = asyncio.get_running_loop()
    async with yard("strict") as here:
        files = len(os.listdir("/proc/self/fd"))
        inmate = await spawn(here, PYTHON, "-c", program, ports=FURTHER)
        door = weakref.ref(serve(inmate, hosts.rules(), routes=forever))
        tasks = list(door()._tasks)  # type: ignore[union-attr]
        await soon(begun.wait(), 20)
        tasks = list(door()._tasks)  # type: ignore[union-attr]
        assert len(tasks) == 2
        began = loop.time()
        if end == "killed by itself":
            os.kill(inmate.worker.pid, signal.SIGKILL)
        elif end == "stopped":
            await inmate.worker.stop(grace_seconds=0)
        else:
            os.kill(here.spawner.server_pid, signal.SIGKILL)
        await soon(cancelled.wait(), 5)
        assert loop.time() - began < 2 * crowding()
        await asyncio.wait(tasks, timeout=5 * crowding())
        await asyncio.wait([inmate.worker.exited], timeout=5 * crowding())
        assert inmate.worker.doors is not None
        assert len(inmate.worker.doors) == 0
        await inmate.worker.stop(grace_seconds=0)
        for fd in (inmate.worker.stdin, inmate.worker.stdout):
            os.close(fd)
        if end != "the fork server is lost":
            assert len(os.listdir("/proc/self/fd")) == files
        del inmate, tasks
        gc.collect()
        assert door() is None


@pytest.mark.parametrize("user", USERS)
async def test_fifty_lives_leave_no_descriptor(user: User, hosts: Hosts) -> None:
    """`benchmarks/egress.py` has the long form, with the kernel's memory."""
    program = "import socket; input(); socket.create_connection(('127.0.0.1', 3128)).send(b'GET ')"
    async with yard("strict", user=user) as here:
        first = 0
        for _ in range(50):
            async with await spawn(here, PYTHON, "-S", "-c", program) as inmate:
                door = serve(inmate, Rules())
                inmate.send(b"\n")  # not before its door is served: it may end at once
                await inmate.worker.exited
            if door._tasks:
                await asyncio.wait(list(door._tasks), timeout=5 * crowding())
            first = first or len(os.listdir("/proc/self/fd"))
            async with within(5):  # the last of them is closed in a later turn of the loop
                while len(os.listdir("/proc/self/fd")) > first:
                    await asyncio.sleep(0.001)


@pytest.mark.parametrize("ticks", [0, 1, 2, 5, 50])
async def test_a_cancelled_start_leaves_no_door(ticks: int) -> None:
    async with yard("strict") as here:
        server = psutil.Process(here.spawner.server_pid)
        before, theirs = len(os.listdir("/proc/self/fd")), server.num_fds()
        starting = asyncio.create_task(spawn(here, "/bin/sleep", "600"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])

        async def is_gone() -> bool:
            return not server.children(recursive=True) and server.num_fds() == theirs

        await eventually(is_gone)
        assert len(os.listdir("/proc/self/fd")) == before


async def test_an_order_has_a_channel_if_and_only_if_its_network_has_doors() -> None:
    async with yard("strict") as here:
        link = here.spawner._link
        assert link is not None
        before = len(os.listdir("/proc/self/fd"))
        for number, (network, further) in enumerate([("broker", 0), ("shared", 1), ("none", 1)]):
            order = Spawn(id=1_000 + number, profile="strict", network=network)  # type: ignore[arg-type]
            files = [os.open(os.devnull, os.O_RDONLY) for _ in range(further)]
            with pytest.raises(StartFailed, match="was not complete"):
                await walls._started(link, order, here.request("/bin/true"), *files)
        assert len(os.listdir("/proc/self/fd")) == before
        assert psutil.Process(here.spawner.server_pid).num_fds() < 16


async def test_doors_that_cannot_be_opened_are_named() -> None:
    async with yard("strict") as here:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(StartFailed, match=r"Address already in use.*door at port 443"):
            await spawn(here, "/bin/true", ports=(443,))
        with pytest.raises(StartFailed, match=r"doors of the agent's network did not come: 1\d doors came"):
            await spawn(here, "/bin/true", ports=tuple(range(5_000, 5_020)))
        assert len(os.listdir("/proc/self/fd")) == before


# -- where it cannot be held ------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["none", "basic"])
async def test_other_walls_refuse_it_in_words(profile: Profile) -> None:
    async with yard(profile) as here:
        with pytest.raises(
            StartFailed, match=f"needs strict walls, and workers run behind {profile} ones here"
        ):
            await spawn(here, "/bin/true")
        request = here.request("/bin/true", network="broker")
        walled = msgspec.structs.replace(request.sandbox, profile=profile)
        with pytest.raises(StartFailed, match="the network `broker` needs strict walls"):
            await here.spawner._spawn(msgspec.structs.replace(request, sandbox=walled, uid=None))


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory that workers of their own uid may enter."""
    with tempfile.TemporaryDirectory(prefix="place-") as name:
        pathlib.Path(name).chmod(0o755)
        yield pathlib.Path(name)


async def test_a_gateway_whose_workers_all_want_it_does_not_start_without_it(place: pathlib.Path) -> None:
    spawner = WalledSpawner(WorkersConfig(sandbox="basic", network="broker"), directory=place)
    with pytest.raises(WallsMissing, match=r"network is `broker`.*needs strict walls.*sandbox is 'basic'"):
        await spawner.open()
    only_some = WalledSpawner(WorkersConfig(sandbox="basic"), directory=place, needs_broker=True)
    await only_some.open()
    assert "needs strict walls" in only_some.broker_lacks
    await only_some.close()


async def test_where_it_is_held_that_is_found_out_at_the_start(place: pathlib.Path) -> None:
    spawner = WalledSpawner(WorkersConfig(network="broker"), directory=place)
    await spawner.open()
    assert (spawner.profile, spawner.broker_lacks) == ("strict", "")
    await spawner.close()


async def test_a_session_of_a_gateway_gets_its_doors_and_its_built_in_agent_works_behind_them(
    place: pathlib.Path,
) -> None:
    fetch = f"{PYTHON} - > $HOME/.answer 2>&1 <<'END'; mv $HOME/.answer $HOME/answer\n"
    fetch += "import urllib.request as u, urllib.error as e\n"
    fetch += f"try: u.urlopen('http://{OTHER}/', timeout=10)\nexcept e.HTTPError as error: "
    fetch += "print(error.code, error.read().decode())\nEND\n"
    agents: dict[str, Any] = {"fetches": {"turns": [[{"spawn": ["/bin/sh", "-c", fetch]}, {"say": "begun"}]]}}
    config = '[workers]\nnetwork = "broker"\nsandbox = "strict"\n'
    async with gateway_inside(place, config=config, agents=agents) as gateway:
        await gateway.post("/api/sessions", {"session_id": "a", "agent": "fetches"}, status=201)
        await gateway.send("a", "go")
        homes = place / "data" / "sessions"

        async def is_answered() -> bool:
            return any(homes.glob("*/home/answer"))

        await eventually(is_answered)
        (answer,) = homes.glob("*/home/answer")
        assert answer.read_text().startswith(f"403 {OTHER} is not on this agent's list")
        await gateway.post("/api/sessions", {"session_id": "b"}, status=201)
        await gateway.send("b", "hello")
        assert {worker.request.sandbox.network for worker in gateway.inner.spawner.workers} == {"broker"}


FLOODS: Final = {
    "connections": "s = socket.socket(); s.settimeout(2); s.connect(('127.0.0.1', 3128)); s.close()",
    "requests": "s = socket.create_connection(('9.9.9.9', 80)); s.send(ASK); s.recv(99); s.close()",
    "names": "u.sendto(NAME, ('8.8.8.8', 53))",
}
FLOOD: Final = f"""
import socket, time
ASK = b'GET / HTTP/1.1\\r\\nHost: {OTHER}\\r\\n\\r\\n'
NAME = b'\\0\\7\\1\\0\\0\\1' + bytes(6) + b'\\1a\\4test\\0\\0\\1\\0\\1'
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        DO
    except OSError:
        pass
"""


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_served_at_the_share_of_its_worker(
    flood: str, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each cost 10 ms: of a second, a fifth is the worker's, and a quarter of a second is a burst."""
    served = 0
    reply_to = NameServer._reply_to

    def count(*arguments: Any) -> Any:
        nonlocal served
        served += 1
        return reply_to(*arguments) if flood == "names" else None

    monkeypatch.setattr("gateway.egress.door.CONNECTION_SECONDS", 0.01)
    monkeypatch.setattr("gateway.egress.names.NAME_SECONDS", 0.01)
    monkeypatch.setattr(NameServer, "_reply_to", lambda *arguments: count(*arguments))
    program = FLOOD.replace("DO", FLOODS[flood])
    async with yard("strict") as here:
        async with await spawn(here, PYTHON, "-S", "-c", program) as inmate:
            serve(inmate, hosts.rules(), on_connection=count)
            began = time.monotonic()
            await inmate.read_all()
            passed = time.monotonic() - began
    at_once = 64 if flood == "names" else 32
    assert 20 < served <= 25 + 20 * passed + at_once
