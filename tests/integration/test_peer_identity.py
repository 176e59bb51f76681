"""By what an agent's connection is told from others, with the kernel's own answers; and what a gateway does
where none of it can be had, on machines that are made of this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, cast

import pytest

from gateway.config.file import load
from gateway.config.tables import Config
from gateway.workers.peer_identity import (
    AGENT,
    ELSEWHERE,
    UNKNOWN,
    Family,
    Method,
    PeerIdentity,
    PeerOrigin,
    own_addresses,
)
from gateway.workers.sockdiag import SockDiag
from tests.gateways import running_gateway
from tests.ordinary import as_ordinary, directory_of_its_own, launcher
from tests.patience import crowding
from tests.walls import NOBODY, PYTHON
from worker.forkserver import hierarchies
from worker.spec import Counting

ROOT: Final = pathlib.Path(__file__).parents[2]
CLIENT: Final = (
    "import socket, sys; kept = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
    "sys.stdin.readline()"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root")


class FakeFamily:
    """A fork server whose workers are what a test says."""

    def __init__(self, counting: Counting | None = None, *, server_pid: int = 0) -> None:
        self.counting = counting or Counting()
        self.server_pid = server_pid
        self.workers: list[Any] = []
        self.shares_network = False
        self.group_ids: set[int] = set()


class Accepted:
    """A transport, as far as it is looked at."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._sock


def origin_of(peers: PeerIdentity, sock: socket.socket) -> PeerOrigin:
    return peers.origin(cast("asyncio.Transport", Accepted(sock)))


@contextlib.asynccontextmanager
async def identity(family: FakeFamily, *, uid: int | None = None) -> AsyncIterator[PeerIdentity]:
    """`uid`: the user that the gateway is taken to run as."""
    peers = PeerIdentity(cast("Family", family), is_worker_uid=lambda found: found == NOBODY and uid is None)
    if uid is not None:
        peers._uid = uid
    peers.open()
    try:
        yield peers
    finally:
        await peers.close()


@contextlib.contextmanager
def connection(*prefix: str, **keywords: Any) -> Iterator[socket.socket]:
    """The accepted end of a connection that another process makes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [*prefix, PYTHON, "-c", CLIENT, str(listener.getsockname()[1])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, **keywords) as client:
            listener.settimeout(10 * crowding())
            accepted, _ = listener.accept()
            with accepted:
                yield accepted
            client.communicate(b"\n")


@pytest.fixture
def groups() -> Iterator[tuple[str, str]]:
    """Two control groups of version 2."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    point = hierarchies._mount(mounts, "")
    if point is None or not os.access(point[1], os.W_OK) or os.geteuid() != 0:
        pytest.skip("NOT TESTED, no control group of version 2 can be made here")
    paths = f"{point[1]}/peers-{os.getpid()}", f"{point[1]}/others-{os.getpid()}"
    for path in paths:
        os.mkdir(path)
    try:
        yield paths
    finally:
        for path in paths:
            os.rmdir(path)


def entering(group: str) -> tuple[str, ...]:
    """Runs a command as an ordinary user in a control group."""
    code = (
        f"import os, sys; open('{group}/cgroup.procs', 'w').write('0'); os.setgroups([]); "
        f"os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return (PYTHON, "-c", code)


@needs_root
async def test_a_uid_tells_whatever_becomes_of_the_socket() -> None:
    async with identity(FakeFamily()) as peers:
        assert peers.method == "uid"
        with connection(**as_ordinary()) as sock:
            assert origin_of(peers, sock) is AGENT
        with connection() as sock:
            assert origin_of(peers, sock) is ELSEWHERE


async def test_a_control_group_tells(groups: tuple[str, str]) -> None:
    mine, others = groups
    family = FakeFamily(Counting(memory="cgroup v2", directories=(mine,)))
    family.group_ids = {os.stat(mine).st_ino}
    async with identity(family, uid=NOBODY) as peers:
        assert peers.method == "control group"
        with connection(*entering(mine)) as sock:
            assert origin_of(peers, sock) is AGENT
        with connection(*entering(others)) as sock:
            assert origin_of(peers, sock) is ELSEWHERE


async def test_of_another_control_group_than_agents_it_is_no_agents(groups: tuple[str, str]) -> None:
    """If agents have none of their own: a neighbour in another container has their uid, and is not seen."""
    family = FakeFamily(server_pid=os.getpid())
    family.shares_network = True
    async with identity(family, uid=NOBODY) as peers:
        assert peers.method == "process"
        with connection(*entering(groups[0])) as sock:
            assert origin_of(peers, sock) is ELSEWHERE
        with connection(**as_ordinary()) as sock:
            assert await origin_of(peers, sock).is_agent(), (
                "it descends from what is taken for the fork server"
            )


async def test_a_local_peer_that_has_gone_is_refused_and_a_remote_one_is_not_looked_for() -> None:
    async with identity(FakeFamily()) as peers:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            accepted, _ = listener.accept()
            with accepted:
                assert origin_of(peers, accepted) is ELSEWHERE
                client.close()
                assert origin_of(peers, accepted) is UNKNOWN
        diag = SockDiag()
        assert diag.is_own(("127.0.0.99", 1))
        assert all(diag.is_own((address, 1)) for address in own_addresses() if not address.startswith("fe80"))
        assert not diag.is_own(("198.51.100.1", 1))
        assert diag.find(("198.51.100.1", 1), ("127.0.0.1", 1)) is None
        diag.close()


async def test_a_listener_on_the_peers_port_is_not_taken_for_the_peer() -> None:
    """The kernel falls back to one when it finds no connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        diag = SockDiag()
        assert diag.find(listener.getsockname(), ("127.0.0.1", 1)) is None
        diag.close()


# -- where it cannot be told --------------------------------------------------------------------------------

SHARED: Final = ["mine"]
PROXY: Final[dict[str, object]] = {"auth.modes": ["proxy"], "proxy.peers": ["127.0.0.1"]}


@pytest.mark.parametrize(
    ("settings", "sharing", "words"),
    [
        ({}, SHARED, "in open mode everybody is"),
        (PROXY, SHARED, "proxy.peers holds an address of its own"),
        ({**PROXY, "proxy.peers": ["0.0.0.0/0"]}, SHARED, "proxy.peers"),
        ({**PROXY, "proxy.peers": ["203.0.113.7"]}, SHARED, ""),
        ({"auth.modes": ["keys"]}, SHARED, ""),
        ({}, [], ""),
    ],
)
def test_what_must_not_be_served_where_nothing_tells_agents_apart(
    settings: dict[str, object], sharing: list[str], words: str
) -> None:
    config: Config = load(environ={}, overrides=settings)
    blind = PeerIdentity(cast("Family", FakeFamily()), is_worker_uid=lambda _: False)
    blind.missing = "nothing is said"
    said = blind.objection(config, sharing)
    assert (words in said) if words else not said
    assert not words or ("server.allow_agent_connections = true" in said and "mine" in said)


DEAF: Final = f"""
import ctypes, os, sys
sys.path.insert(0, {str(ROOT)!r})
from worker.sandbox import kernel, seccomp
no_netlink = seccomp._instruction(0x15, 16, 0, 1) + seccomp._answer(97)
code = seccomp._instruction(0x20, 0) + seccomp._by_argument(seccomp._SOCKET, 0, no_netlink)
code += seccomp._instruction(6, 0x7FFF0000)
buffer = ctypes.create_string_buffer(code, len(code))
program = seccomp._Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
kernel.renounce_new_privileges()
kernel.prctl(22, 2, ctypes.byref(program), what="seccomp")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A container's filter that knows no netlink."""
BLIND: Final = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from worker.sandbox import kernel
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
kernel.mount("proc", "/proc", "proc", 0, "hidepid=2")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""An administrator who shows nobody the processes of others."""


def run(directory: pathlib.Path, command: str, *words: str, prefix: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and words of a gateway's command that ends by itself; its agents share the network."""
    (directory / "config.toml").write_text('[workers]\nnetwork = "shared"\n')
    argv = [*prefix, sys.executable, "-m", "gateway", command, "--data-dir", str(directory / "data"), *words]
    argv += ["--config", str(directory / "config.toml")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60 * crowding())
    return done.returncode, done.stdout + done.stderr


async def test_where_the_kernel_says_nothing_open_mode_does_not_start_unless_it_is_allowed_by_name(
    tmp_path: pathlib.Path,
) -> None:
    prefix = (sys.executable, "-c", DEAF)
    code, said = await asyncio.to_thread(run, tmp_path, "serve", "--port", "0", prefix=prefix)
    assert code == 1
    assert "the kernel does not say who made a socket" in said
    assert 'Set workers.network = "none"' in said
    assert "Traceback" not in said
    code, said = await asyncio.to_thread(run, tmp_path, "doctor", prefix=prefix)
    assert code == 1
    assert "FAIL  connections of agents: An agent could call this gateway" in said
    shared = '[workers]\nnetwork = "shared"\n'
    for config in (f"{shared}[server]\nallow_agent_connections = true\n", '[workers]\nnetwork = "none"\n'):
        async with running_gateway(tmp_path, config=config, prefix=prefix) as gateway:
            assert (await gateway.chat("s", "/echo served"))["messages"][-1]["content"] == "served"


@needs_root
async def test_an_ordinary_user_who_is_shown_no_processes_does_not_start_it_either() -> None:
    with directory_of_its_own() as directory:
        prefix = (sys.executable, "-c", BLIND, *launcher())
        code, said = await asyncio.to_thread(run, directory, "serve", "--port", "0", prefix=prefix)
        assert code == 1
        assert "/proc does not show the processes of this machine" in said


async def test_the_doctor_says_by_what_agents_are_told_apart() -> None:
    methods: dict[Method, tuple[str, ...]] = {"process": launcher()}
    if os.geteuid() == 0:
        methods["uid"] = ()
    for method, prefix in methods.items():
        with directory_of_its_own() as directory:
            _, said = await asyncio.to_thread(run, directory, "doctor", prefix=prefix)
            assert f"ok    connections of agents: told from others by {method}, and refused" in said
