"""What walls cost: start, memory, end and idling of a session's worker behind each profile, beside a cold
start of the same agent.

`python -m benchmarks.walls [WORKERS]`. Memory is what a memory cgroup of the fork server's own counts, kernel
included, where one can be made; else the sum of PSS. Sessions have control groups of their own where the
machine lets them be made, as in a gateway; one row is without.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import msgspec
import psutil

from tests.gateways import running_gateway
from tests.walls import Inmate, Yard, yard
from worker import acp
from worker.spec import Profile

WORKERS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 500
STARTS: Final = 200
BURST: Final = 50
TURNS: Final = 50
CHURN: Final = 2_000
ROOM_BYTES: Final = 2_000_000_000
ROOM_SESSIONS: Final = 450
"""What leaves a fifth of it free."""
IDLE_SECONDS: Final = 10
SETTLE_SECONDS: Final = 0.5
MB: Final = 1_000_000
PAGE: Final = 4096
FEW: Final = 4
PROFILES: Final[tuple[Profile, ...]] = ("none", "basic", "strict")
OPENING: Final = acp.request(0, "initialize", {}) + acp.request(1, "session/new", {"cwd": "/"})


def quantile(values: list[float], share: float) -> float:
    """A quantile by rank."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def shown(name: str, seconds: list[float]) -> None:
    """One row of times."""
    p50, p99 = (quantile(seconds, share) * 1000 for share in (0.5, 0.99))
    print(f"  {name:44s} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  n {len(seconds)}")


async def opened(inmate: Inmate) -> str:
    """The agent's session id, after its first two answers."""
    inmate.send(OPENING)
    said = await inmate.read(lambda data: b'"sessionId"' in data and data.endswith(b"\n"))
    line = next(line for line in said.splitlines() if b'"id":1' in line)
    return str(msgspec.json.decode(line)["result"]["sessionId"])


async def born(here: Yard) -> tuple[Inmate, float, str]:
    """A worker, the seconds from the request to its session, and its id."""
    request = here.request()
    began = time.perf_counter()
    inmate = Inmate(await here.spawner.spawn(request))
    session_id = await opened(inmate)
    return inmate, time.perf_counter() - began, session_id


async def converse(inmate: Inmate, session_id: str) -> None:
    """So many whole turns."""
    for number in range(TURNS):
        text = {"type": "text", "text": f"Tell me about the number {number}, please."}
        inmate.send(acp.request(2 + number, "session/prompt", {"sessionId": session_id, "prompt": [text]}))
        await inmate.read(lambda data: b'"stopReason"' in data)


async def ended(inmate: Inmate) -> float:
    """Seconds until nothing of it is left."""
    began = time.perf_counter()
    async with inmate:
        pass
    return time.perf_counter() - began


async def starts(profile: Profile) -> None:
    """One at a time, many at once, and as many as go."""
    async with yard(profile) as here:
        first, last = [], []
        for _ in range(STARTS):
            inmate, seconds, _ = await born(here)
            first.append(seconds)
            last.append(await ended(inmate))
        shown("start, one at a time (request to session)", first)
        shown("end, one at a time", last)
        began = time.perf_counter()
        burst = await asyncio.gather(*(born(here) for _ in range(BURST)))
        print(f"  {f'{BURST} at once':44s} {(time.perf_counter() - began) * 1000:11.0f} ms")
        await asyncio.gather(*(ended(inmate) for inmate, _, _ in burst))


async def without_groups(profile: Profile) -> None:
    """What a control group each costs: the same starts without."""
    async with yard(profile, cgroups="off") as here:
        first, last = [], []
        for _ in range(STARTS):
            inmate, seconds, _ = await born(here)
            first.append(seconds)
            last.append(await ended(inmate))
        shown("start, without control groups", first)
        shown("end, without control groups", last)


async def pages(profile: Profile) -> None:
    """Where the private memory of one worker after its turns is: by place, and how much of each page differs
    from the fork server's, eight bytes at a time. A page that is the same was written all the same: reference
    counts that went up and down again.
    """
    async with yard(profile) as here:
        inmate, _, session_id = await born(here)
        await converse(inmate, session_id)
        found: collections.Counter[tuple[str, str]] = collections.Counter()
        with contextlib.suppress(PermissionError):
            for place, kind in written(inmate.worker.pid, here.spawner.server_pid):
                found[place, kind] += 1
        for place in ("objects", "heap", "libraries"):
            kinds = ", ".join(f"{kind} {found[place, kind] * 4}" for kind in ("the same", "a few", "more"))
            print(f"  {f'private KiB of a worker, {place}':44s} {kinds}")
        await ended(inmate)


def written(pid: int, server: int) -> Iterator[tuple[str, str]]:
    """(place, how much of it differs) of each page that a worker has for itself: proc(5), pagemap."""
    with (
        open(f"/proc/{pid}/maps") as maps,
        open(f"/proc/{pid}/pagemap", "rb", 0) as entries,
        open(f"/proc/{pid}/mem", "rb", 0) as ours,
        open(f"/proc/{server}/mem", "rb", 0) as theirs,
    ):
        for line in maps:
            words = line.split()
            start, end = (int(word, 16) for word in words[0].split("-"))
            if "w" not in words[1] or line.rstrip().endswith("[stack]"):
                continue
            place = "objects" if len(words) < 6 else "heap" if words[5] == "[heap]" else "libraries"
            entries.seek(start // PAGE * 8)
            known = memoryview(entries.read((end - start) // PAGE * 8)).cast("Q")
            for at, entry in zip(range(start, end, PAGE), known, strict=True):
                if entry >> 63 and entry >> 56 & 1 and not entry >> 61 & 1:
                    ours.seek(at)
                    theirs.seek(at)
                    pair = [memoryview(file.read(PAGE)).cast("Q") for file in (ours, theirs)]
                    differing = sum(one != other for one, other in zip(*pair, strict=True))
                    yield place, "the same" if not differing else "a few" if differing <= FEW else "more"


async def crowd(profile: Profile) -> None:
    """Memory after turns, idling, and the end of all at once."""
    async with yard(profile) as here:
        with memory_of(here) as used:
            before = used()
            began = time.perf_counter()
            inmates = [await born(here) for _ in range(WORKERS)]
            rate = WORKERS / (time.perf_counter() - began)
            print(f"  {'starts a second, sustained':44s} {rate:11.0f}")
            await asyncio.gather(*(converse(inmate, session_id) for inmate, _, session_id in inmates))
            await asyncio.sleep(SETTLE_SECONDS)
            each = (used() - before) / WORKERS / MB
            print(f"  {f'memory a session after {TURNS} turns, of {WORKERS}':44s} {each:11.2f} MB")
            await idle(here)
            began = time.perf_counter()
            await asyncio.gather(*(ended(inmate) for inmate, _, _ in inmates))
            print(f"  {f'end of all {WORKERS}':44s} {(time.perf_counter() - began) * 1000:11.0f} ms")


async def idle(here: Yard) -> None:
    """CPU that live sessions take without use, fork server and this process included."""
    processes = [psutil.Process(), psutil.Process(here.spawner.server_pid)]
    processes += processes[1].children()
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    await asyncio.sleep(IDLE_SECONDS)
    spent = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    share = spent / IDLE_SECONDS * 100
    print(f"  {f'idle: CPU of {len(processes) - 2} sessions':44s} {share:11.2f} % of a core")


async def churn(profile: Profile) -> None:
    """Many lives in a row leave nothing."""
    async with yard(profile) as here:
        server = psutil.Process(here.spawner.server_pid)
        await ended((await born(here))[0])
        before = server.num_fds(), len(os.listdir("/proc/self/fd")), server.memory_info().rss
        began = time.perf_counter()
        for _ in range(CHURN):
            await ended(Inmate(await here.spawner.spawn(here.request())))
        seconds = time.perf_counter() - began
        after = server.num_fds(), len(os.listdir("/proc/self/fd")), server.memory_info().rss
        grown = [now - then for now, then in zip(after, before, strict=True)]
        print(
            f"  {CHURN} lives in {seconds:.1f} s: processes left {len(server.children())}, "
            f"fds of the server +{grown[0]}, ours +{grown[1]}, its RSS +{grown[2] / 1024:.0f} KiB"
        )


def cold() -> None:
    """The same agent started as a program, without walls."""
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(OPENING)
        process.stdin.flush()
        while b'"sessionId"' not in process.stdout.readline():
            continue
        seconds.append(time.perf_counter() - began)
        memory = psutil.Process(process.pid).memory_full_info().uss
        process.communicate()
    shown("cold start of the same agent, no walls", seconds)
    print(f"  {'memory of it (USS, without the kernel)':44s} {memory / MB:11.2f} MB")


async def over_http() -> list[float]:
    """A first message to a session that is not there, through a whole gateway: answered in full; seconds."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(
            pathlib.Path(directory), config="[workers]\nrequire = 'strict'\n"
        ) as gateway:
            await gateway.chat("warm", "/echo warm")
            seconds = []
            for number in range(STARTS):
                began = time.perf_counter()
                await gateway.chat(f"s{number}", "/echo x")
                seconds.append(time.perf_counter() - began)
            shown("HTTP request to the end of the first turn", seconds)
            began = time.perf_counter()
            await asyncio.gather(*(gateway.chat(f"b{number}", "/echo x") for number in range(BURST)))
            print(f"  {f'{BURST} of them at once':44s} {(time.perf_counter() - began) * 1000:11.0f} ms")
            return seconds


async def room() -> None:
    """How much of two gigabytes a gateway with so many live sessions takes, each having answered."""
    place = cgroup()
    if place is None:
        return
    place.mkdir()
    limit = "memory.max" if (place / "memory.max").exists() else "memory.limit_in_bytes"
    used = "memory.current" if (place / "memory.current").exists() else "memory.usage_in_bytes"
    (place / limit).write_text(str(ROOM_BYTES))
    enter = ("/bin/sh", "-c", f'echo $$ > {place}/cgroup.procs; exec "$@"', "sh")
    try:
        with tempfile.TemporaryDirectory() as directory:
            async with running_gateway(pathlib.Path(directory), prefix=enter) as gateway:
                for number in range(ROOM_SESSIONS):
                    await gateway.chat(f"s{number}", "/echo x")
                taken = int((place / used).read_text()) / MB
                print(
                    f"  {ROOM_SESSIONS} sessions in a memory cgroup of {ROOM_BYTES / MB:.0f} MB: "
                    f"{len(gateway.workers())} workers live, {taken:.0f} MB used, the files' cache included"
                )
    finally:
        place.rmdir()


@contextlib.contextmanager
def memory_of(here: Yard) -> Iterator[Callable[[], int]]:
    """Counts the memory of what the fork server starts from now on, in bytes: a group round the fork server,
    and those of the workers, which are not in it.
    """
    place, pid = cgroup(), here.spawner.server_pid
    if place is None:
        yield lambda: sum(_pss(p.pid) for p in psutil.Process(pid).children(recursive=True))
        return
    place.mkdir()
    (place / "cgroup.procs").write_text(str(pid))
    counted = [place, *map(pathlib.Path, here.spawner.counting.directories)]
    try:
        yield lambda: sum(map(_usage, counted))
    finally:
        for member in (place / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (place.parent / "cgroup.procs").write_text(member)
        place.rmdir()


def cgroup() -> pathlib.Path | None:
    """A memory cgroup below this process's own, not made yet; None where none can be."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            parent = pathlib.Path("/sys/fs/cgroup/memory" + path)
            return parent / f"bench-{os.getpid()}" if os.access(parent, os.W_OK) else None
    return None


def _usage(group: pathlib.Path) -> int:
    files = (group / "memory.current", group / "memory.usage_in_bytes")
    return sum(int(file.read_text()) for file in files if file.exists())


def _pss(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))


async def main() -> None:
    """Prints every row."""
    print(f"Linux {os.uname().release}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    cold()
    steps: list[Callable[[Profile], Awaitable[None]]] = [starts, without_groups, crowd, pages]
    for profile in PROFILES:
        print(f"walls: {profile}")
        for step in steps:
            await step(profile)
    await churn("strict")
    print("a whole gateway, strict")
    await over_http()
    await room()


if __name__ == "__main__":
    asyncio.run(main())
