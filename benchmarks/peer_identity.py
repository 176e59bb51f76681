"""What telling agents' connections from others costs: one decision, beside the accept(2) of that connection.

`python -m benchmarks.peer_identity [WORKERS]`. So many processes (500) live behind `basic` walls as workers
do, while one client after another connects over loopback. By uid and by control group, one question to the
kernel decides. By process, the user's own client is looked for: among those that connected before, then among
the newest processes; what is not found so, an agent's own connection, waits until all processes were looked
at in a thread. Needs root, to have both users.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from typing import Any, Final, cast

from gateway.workers.peer_identity import Family, PeerIdentity
from tests.ordinary import as_ordinary
from tests.walls import FIRST_UID, NOBODY, PYTHON, Inmate, User, Yard, yard
from worker.spec import Counting

WORKERS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 500
ROUNDS: Final = 300
FRESH: Final = 30
FILES: Final = 16_384
AT_ONCE: Final = 20
CLIENT: Final = (
    "import socket, sys\n"
    "for _ in range(int(sys.argv[2])):\n"
    " with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as sock: sock.recv(1)\n"
)
FORKING: Final = (
    "import subprocess, sys\n"
    "for _ in range(int(sys.argv[2])):\n"
    f" subprocess.run([sys.executable, '-c', {CLIENT!r}, sys.argv[1], '1'])\n"
)


class Accepted:
    """A transport, as far as it is looked at."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._sock


class Grouped:
    """The yard's workers, as if each were in a control group of version 2."""

    def __init__(self, here: Yard) -> None:
        self.workers = here.spawner.workers
        self.server_pid = here.spawner.server_pid
        own = _own_group()
        self.counting = Counting(memory="cgroup v2", directories=(own,))
        self.group_ids = set(range(1 << 20, (1 << 20) + WORKERS))


def _own_group() -> str:
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    point = next(line.split()[4] for line in mounts if " - cgroup2 " in line)
    path = pathlib.Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
    return point + path.rstrip("/")


async def measure(name: str, listener: socket.socket, peers: PeerIdentity, count: int) -> None:
    """Accepts so many connections and prints a row."""
    accepting, deciding, agents = [], [], 0
    for _ in range(count):
        select.select([listener], [], [], 30)
        began = time.perf_counter()
        sock, _ = listener.accept()
        accepted = time.perf_counter()
        is_agent = await peers.origin(cast("asyncio.Transport", Accepted(sock))).is_agent()
        deciding.append(time.perf_counter() - accepted)
        accepting.append(accepted - began)
        agents += is_agent
        sock.close()
    accept, decide = (statistics.median(times) * 1e6 for times in (accepting, deciding))
    worst = sorted(deciding)[int(len(deciding) * 0.99)] * 1e6
    verdict = f"{agents} of {count} refused"
    print(f"{name:42} {accept:9.0f} {decide:9.0f} {worst:9.0f} {decide / accept:7.1f}  {verdict}")


def identity(family: Any, *, uid: int) -> PeerIdentity:
    """The decision of a gateway that runs as this user."""
    peers = PeerIdentity(cast("Family", family), is_worker_uid=lambda found: uid == 0 and found > FIRST_UID)
    peers._uid = uid
    peers.open()
    return peers


async def crowd(here: Yard) -> list[Inmate]:
    """The workers."""
    found: list[Inmate] = []
    while len(found) < WORKERS:
        batch = min(AT_ONCE, WORKERS - len(found))
        found += await asyncio.gather(*(here.spawn("/bin/sleep", "600") for _ in range(batch)))
    return found


async def rows(user: User) -> None:
    """All that is told by one user's gateway."""
    async with yard("basic", user=user) as here:
        inmates = await crowd(here)
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
            if user == "root":
                await by_kernel(here, listener)
            else:
                await by_process(here, listener)
        await asyncio.gather(*(inmate.__aexit__() for inmate in inmates))


async def by_kernel(here: Yard, listener: socket.socket) -> None:
    for name, family, uid in (("uid", here.spawner, 0), ("control group", Grouped(here), NOBODY)):
        peers = identity(family, uid=uid)
        assert peers.method == name
        with client(listener, ROUNDS, **({} if uid == 0 else as_ordinary())):
            await measure(f"by {name}", listener, peers, ROUNDS)
        await peers.close()


async def by_process(here: Yard, listener: socket.socket) -> None:
    peers = identity(here.spawner, uid=NOBODY)
    with client(listener, ROUNDS, **as_ordinary()):
        await measure("by process, a client that is known", listener, peers, ROUNDS)
    with client(listener, FRESH, program=FORKING, **as_ordinary()):
        await measure("by process, clients just started", listener, peers, FRESH)
    port = str(listener.getsockname()[1])
    async with await here.spawn(PYTHON, "-c", CLIENT, port, str(FRESH)):
        await measure("by process, an agent's own", listener, peers, FRESH)
    await peers.close()


def client(
    listener: socket.socket, count: int, *, program: str = CLIENT, **keywords: Any
) -> subprocess.Popen[bytes]:
    """One that connects so many times, one after the other."""
    command = [PYTHON, "-c", program, str(listener.getsockname()[1]), str(count)]
    return subprocess.Popen(command, **keywords)


async def main() -> None:
    """Prints the rows."""
    if os.geteuid() != 0:
        print("needs root, to have both users")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, resource.getrlimit(7)[1])))
    print(f"{WORKERS} live workers, {len(os.sched_getaffinity(0))} cores; microseconds")
    print(f"{'':42} {'ACCEPT':>9} {'DECIDE':>9} {'P99':>9} {'RATIO':>7}")
    for user in ("root", "nobody"):
        await rows(cast("User", user))


if __name__ == "__main__":
    asyncio.run(main())
