"""Hostile agents, with real hostile programs.

A probe that fails proves nothing by itself: each must first reach its target where there are no walls, in the
same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final, Literal, cast

import psutil
import pytest
import pytest_asyncio

from gateway.workers.peer_identity import PeerIdentity
from tests.gateways import RunningGateway, running_gateway
from tests.hostile import card
from tests.ordinary import as_ordinary
from tests.shared import SHARED, crowding, fresh_id, shared_gateway
from tests.walls import FIRST_UID, NOBODY, PYTHON, USERS, User, Yard, finds, yard
from worker.spec import Limits, Network, Profile

HOSTILE: Final = pathlib.Path(__file__).parents[1] / "hostile"
PROBES: Final = str(HOSTILE / "probes.py")
VICTIM: Final = str(HOSTILE / "victim.py")
UNHELD_BY_BASIC: Final = {
    "root": {"command_line_of_another", "command_line_of_the_gateway"},
    "nobody": {
        *("command_line_of_another", "command_line_of_the_gateway"),
        *("limiting_another", "slowing_another", "pinning_another", "socket_of_the_gateway"),
    },
}
"""What docs/isolation admits: /proc lists every process; where there are no uids of their own, processes may
slow each other and reach their user's local sockets.
"""
UNHELD_BY_SHARED: Final = {"a_route_off_the_host", "a_listener_in_the_hosts_namespace"}
"""What docs/isolation admits of `network = "shared"`; the gateway's own port is not among it."""
FAR: Final = "198.51.100.1"
SO_NETNS_COOKIE: Final = 71


async def attack(profile: Profile, user: User, *, network: Network = "shared") -> dict[str, dict[str, str]]:
    """All probes from one session, with another session and a gateway beside it."""
    canary = "canary-" + os.urandom(16).hex()
    async with yard(profile, user=user) as here, port(here, canary, user) as opened:
        gateway = await decoy(here, canary, user)
        victim = here.request(PYTHON, VICTIM, "session", canary)
        try:
            async with await here.spawn(
                *victim.argv, env={**victim.env, "SECRET": canary}, **places(victim)
            ) as prey:
                there = json.loads(await prey.read_line())
                # What lies where is seen from outside: the walls may not make the probes miss by accident.
                first = psutil.Process(prey.worker.pid)
                there["victim"] = (first.children() or [first])[0].pid
                there["home"] = victim.home
                targets = {
                    **gateway[1],
                    **there,
                    **opened,
                    "server": here.spawner.server_pid,
                    "canary": canary,
                }
                said = await here.run(PYTHON, PROBES, json.dumps(targets), network=network)
                results: dict[str, dict[str, str]] = json.loads(said)
                if profile != "none":
                    held = len(results) - len(reached(results))
                    card.note(
                        f"probes, {profile} as {user}, network {network}", tried=len(results), held=held
                    )
                return results
        finally:
            await gateway[0].communicate(b"\n")


@contextlib.asynccontextmanager
async def port(here: Yard, canary: str, user: User) -> AsyncIterator[dict[str, object]]:
    """A gateway's port, which shows the canary to everybody but agents. Without walls it makes no difference
    between them, to be reached.
    """
    peers = PeerIdentity(
        here.spawner, is_worker_uid=lambda uid: uid > FIRST_UID, is_allowed=here.spawner.profile == "none"
    )
    if user == "nobody":
        peers._uid = NOBODY  # the fork server's user is the gateway's
    peers.open()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin = peers.origin(cast("asyncio.Transport", writer.transport))
        writer.write(b"HTTP/1.1 403 No\r\n\r\n" if await origin.is_agent() else canary.encode())
        await writer.drain()
        writer.close()

    listener = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    number = listener.getsockname()[1]
    cookie = int.from_bytes(listener.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
    try:
        async with await asyncio.start_server(serve, sock=listener):
            yield {"port": number, "namespace": cookie, "far": FAR}
    finally:
        await peers.close()


def has_route() -> bool:
    """Whether this machine reaches others at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex((FAR, 9)) == 0


_SLOW_ONES_CHILD: Final = """
import os, signal
child = os.fork() or signal.pause()
try:
    os.setpriority(os.PRIO_PROCESS, child, min(19, os.getpriority(os.PRIO_PROCESS, child) + 1))
finally:
    os.kill(child, signal.SIGKILL)
"""


async def may_slow(user: User) -> bool:
    """Whether this machine lets a process slow another of its own user at all, without any walls."""
    who = as_ordinary() if user == "nobody" else {}
    slower = await asyncio.create_subprocess_exec(
        PYTHON, "-c", _SLOW_ONES_CHILD, stderr=asyncio.subprocess.DEVNULL, **who
    )
    return await slower.wait() == 0


def places(request: Any) -> dict[str, Any]:
    return {"cwd": request.cwd, "home": request.home, "uid": request.uid}


async def decoy(here: Yard, canary: str, user: User) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    """A process with a gateway's secrets, of the fork server's own user."""
    home = here.root / "gateway"
    home.mkdir(mode=0o700)
    uid = NOBODY if user == "nobody" and os.geteuid() == 0 else None
    if uid is not None:
        os.chown(home, uid, uid)
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, VICTIM, "gateway", canary),
        env={"HOME": str(home), "OPENAI_API_KEY": canary},
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


def reached(results: dict[str, dict[str, str]]) -> set[str]:
    return {name for name, result in results.items() if "reached" in result}


@pytest.mark.parametrize("user", USERS)
async def test_every_probe_reaches_its_target_without_walls_and_none_in_strict(user: User) -> None:
    without, basic, strict = [await attack(profile, user) for profile in ("none", "basic", "strict")]
    assert len(without) >= 40
    pointless = set() if has_route() else {"a_route_off_the_host"}
    if not await may_slow(user):
        pointless.add("slowing_another")
    assert set(without) - reached(without) == pointless, "a probe that cannot succeed proves nothing"
    assert reached(strict) == UNHELD_BY_SHARED - pointless
    assert reached(basic) <= UNHELD_BY_BASIC[user] | UNHELD_BY_SHARED, (
        "what basic does not hold is written down"
    )
    if "slowing_another" in pointless:
        pytest.skip("NOT TESTED: slowing another, which this kernel forbids among one's own processes, too")


@pytest.mark.parametrize("user", USERS)
async def test_with_a_network_that_leads_to_the_gateway_no_probe_reaches_anything(user: User) -> None:
    assert reached(await attack("strict", user, network="broker")) == set()


@pytest.mark.parametrize("user", USERS)
async def test_without_a_network_no_probe_reaches_anything(user: User) -> None:
    assert reached(await attack("strict", user, network="none")) == set()
    assert reached(await attack("basic", user, network="none")) <= UNHELD_BY_BASIC[user]


LIMITS: Final = Limits(memory_bytes=96 << 20, processes=24)
LIMITS_PROBE: Final = str(HOSTILE / "limits.py")


async def try_limits(profile: Profile, user: User, cgroups: Literal["auto", "off"]) -> set[str]:
    """Which limits a program passes that tries to; None in it: the kernel ended all of it for its memory."""
    numbers = (str(LIMITS.processes), str(LIMITS.memory_bytes))
    async with yard(profile, user=user, cgroups=cgroups) as here:
        if cgroups == "auto" and not (here.spawner.counting.memory and here.spawner.counting.processes):
            pytest.skip(f"NOT TESTED, no control groups here: {here.spawner.counting.missing}")
        async with await here.spawn(PYTHON, LIMITS_PROBE, *numbers, limits=LIMITS) as inmate:
            said: dict[str, dict[str, str]] = {}
            for line in (await inmate.read_all()).splitlines():
                said |= json.loads(line)
            if "memory" not in said and inmate.worker.exited.result().cause == "memory":
                said["memory"] = {"held": "ended"}
    assert set(said) == {"processes", "memory"}
    return reached(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: makes control groups")
@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
async def test_what_a_workers_group_holds_is_held_for_who_tries(profile: Profile) -> None:
    assert await try_limits(profile, "root", "auto") == set()


@pytest.mark.alone
async def test_the_probe_of_limits_passes_them_where_nothing_holds() -> None:
    assert await try_limits("none", USERS[0], "off") == {"processes", "memory"}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("cgroups", ["auto", "off"])
async def test_the_limit_on_processes_can_be_read_whatever_holds_it(
    user: User, cgroups: Literal["auto", "off"]
) -> None:
    program = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[1])"
    async with yard("strict", user=user, cgroups=cgroups) as here:
        said = int(await here.run(PYTHON, "-c", program, limits=LIMITS))
    assert LIMITS.processes <= said <= LIMITS.processes + 64


CHILDREN: Final = """
import asyncio, os, signal, subprocess
async def main():
    children = [await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {n}") for n in range(3)]
    print([await child.wait() for child in children])
    stuck = await asyncio.create_subprocess_exec("/bin/sleep", "600")
    stuck.kill()
    print(await stuck.wait())
asyncio.run(main())
print(subprocess.run(["/bin/sh", "-c", "exit 7"], timeout=30).returncode)
try:
    subprocess.run(["/bin/sleep", "600"], timeout=0.05)
except subprocess.TimeoutExpired:
    print("in time")
try:
    os.pidfd_open(os.getpid())
    print("pidfd")
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("python", sorted({PYTHON, sys.executable}))
@pytest.mark.parametrize(("profile", "last"), [("basic", "Function not implemented"), ("strict", "pidfd")])
async def test_programs_wait_for_their_children_with_or_without_pidfd(
    profile: Profile, last: str, python: str
) -> None:
    async with yard(profile, user="nobody" if python == PYTHON else USERS[0]) as here:
        if profile == "basic" and python != PYTHON and os.geteuid() == 0:
            pytest.skip("NOT TESTED, in basic only root can read this interpreter")
        said = (await here.run(python, "-c", CHILDREN)).splitlines()
    assert said == ["[0, 1, 2]", "-9", "7", "in time", last]


NODE_CHILDREN: Final = """
const {spawn, spawnSync} = require("node:child_process");
console.log(spawnSync("/bin/sh", ["-c", "exit 7"]).status);
const stuck = spawn("/bin/sleep", ["600"]);
stuck.on("exit", (code, signal) => console.log(signal));
stuck.kill("SIGKILL");
"""


async def test_node_waits_for_its_children_without_pidfd() -> None:
    node = shutil.which("node")
    if node is None or not node.startswith("/usr/"):
        pytest.skip("NOT TESTED, there is no Node that every user may execute")
    async with yard("basic") as here:
        assert (await here.run(node, "-e", NODE_CHILDREN)).split() == ["7", "SIGKILL"]


BOMBS: Final = (
    "fork_bomb",
    "memory_bomb",
    "descriptor_bomb",
    "disk_filler",
    "flood",
    "flood_of_errors",
    "spin",
)
NEIGHBOUR_SECONDS: Final = 1.0
ROUNDS: Final = 8
CONFIG: Final = f"""
[sessions]
turn_timeout_seconds = 4
interrupt_timeout_seconds = 0.5
stop_grace_seconds = 0.2
[workers]
memory_bytes = {200 << 20}
disk_bytes = {64 << 20}
processes = 64
[agents.hostile]
command = ["{PYTHON}", "{HOSTILE / "agent.py"}"]
"""


PATIENT: Final = CONFIG.replace("turn_timeout_seconds = 4", "turn_timeout_seconds = 60")
"""For turns that end by themselves, however busy the machine is."""
shared = shared_gateway(PATIENT, is_process=True)


@pytest_asyncio.fixture(loop_scope="module")
async def patient(shared: RunningGateway) -> AsyncIterator[RunningGateway]:
    """The gateway that tests share, without sessions of the one before, however that ended."""
    yield shared
    for session in (await shared.get("/api/sessions"))["sessions"]:
        await shared.delete(session["session_id"])


async def slowest_answer(gateway: RunningGateway, name: str) -> float:
    """The longest of several turns of a neighbour, in seconds."""
    slowest = 0.0
    for number in range(ROUNDS):
        began = time.monotonic()
        state = await gateway.chat(name, f"/echo {number}")
        slowest = max(slowest, time.monotonic() - began)
        assert state["messages"][-1]["content"] == str(number)
        await asyncio.sleep(0.1)  # the campaign lasts as long as the wild turn, not a test's wait
    return slowest


@pytest.mark.parametrize("act", BOMBS)
@pytest.mark.alone
@SHARED
async def test_neighbours_answer_within_a_second_while_an_agent_goes_wild(
    act: str, patient: RunningGateway
) -> None:
    wild, neighbour = fresh_id("wild"), fresh_id("neighbour")
    await patient.chat(neighbour, "/echo warm")
    await patient.send(wild, act, agent="hostile")
    slowest = await slowest_answer(patient, neighbour)
    assert slowest < NEIGHBOUR_SECONDS * crowding(), f"{slowest:.2f} s, {crowding():.1f} for each core"
    family = patient.workers()
    deleted = await patient.delete(wild)
    assert deleted["receipt"]["survivors"] == 0
    await patient.delete(neighbour)
    assert patient.workers() == []
    assert not [process for process in family if process.is_running()]


async def misbehaves(gateway: RunningGateway, act: str, words: str | None) -> None:
    """Checks that an agent's bad turn ends in words, if in any, and that its neighbour notices nothing."""
    wild, victim = fresh_id("wild"), fresh_id("victim")
    await gateway.chat(victim, "/echo mine")
    before = await gateway.state(victim)
    bad = {"message": act, "session_id": wild, "agent": "hostile"}
    state = await gateway.post("/api/chat?wait=240", bad)
    said = [message["content"] for message in state["messages"] if message["sender"] == "system"]
    assert (words in said[-1]) if words else not said
    assert await gateway.state(victim) == before
    assert (await gateway.chat(victim, "/echo still"))["messages"][-1]["content"] == "still"
    receipt = (await gateway.delete(wild))["receipt"]
    assert receipt["survivors"] == 0
    assert len(gateway.workers()) == 1


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("memory_bomb", "more memory than the 209 MB"),
        ("disk_filler", "took more than the 67 MB"),
        ("escape", "ended unexpectedly"),
        ("close_stdout", "ended unexpectedly"),
        ("deep_json", None),
        ("impersonate", None),
    ],
)
@SHARED
async def test_an_agent_that_misbehaves_ends_with_words_and_leaves_nothing(
    act: str, words: str | None, patient: RunningGateway
) -> None:
    await misbehaves(patient, act, words)


async def test_an_agent_that_plays_dead_ends_with_words_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        await misbehaves(gateway, "play_dead", "did not finish within 4 seconds")


async def test_a_key_of_the_gateway_is_in_no_worker(tmp_path: pathlib.Path) -> None:
    canary = "sk-canary-" + os.urandom(16).hex()
    environ = {"AGENT_MODEL_KEY": canary, "AGENT_MODEL_URL": "http://127.0.0.1:9/v1", "AGENT_MODEL": "m"}
    async with running_gateway(tmp_path, config=CONFIG, environ=environ) as gateway:
        await gateway.chat("built-in", "/echo hello")
        await gateway.chat("built-in", "hello, and fail")
        await gateway.post("/api/chat?wait=240", {"message": "hi", "session_id": "other", "agent": "hostile"})
        if os.geteuid() == 0:
            assert finds(gateway.pid, canary), "the search finds what is there"
            below = psutil.Process(gateway.pid).children(recursive=True)
            assert len(below) == 4, "the fork server, the built-in agent, an init and its command"
            for process in below:
                assert canary.encode() not in pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
                assert not finds(process.pid, canary)
        for path in gateway.data_path.glob("sessions/**/*"):
            assert not path.is_file() or canary.encode() not in path.read_bytes()


async def test_links_in_a_working_directory_lead_nobody_out(tmp_path: pathlib.Path) -> None:
    """Deleting follows no link, whatever the agent left in its directory."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        await gateway.post("/api/chat?wait=240", {"message": "hi", "session_id": "wild", "agent": "hostile"})
        [work] = gateway.data_path.glob("sessions/*/work")
        (work / "link").symlink_to(outside)
        (work / "file").symlink_to(outside / "precious")
        os.link(outside / "precious", work / "hard")
        (work.parent / "home" / "loop").symlink_to("..")
        async with gateway.http.get("/api/sessions/wild/export") as response:
            assert "precious" not in await response.text()
        await gateway.delete("wild")
        assert not work.parent.exists()
    assert (outside / "precious").read_text() == "precious"
