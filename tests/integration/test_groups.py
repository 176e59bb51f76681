"""Control groups, with the kernel's own: what they hold, what they tell, and that none is left.

Skipped, loudly, where the kernel lets nobody here make one; in CI at least the memory must be counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import msgspec
import psutil
import pytest

from gateway.workers.spawner import why_ended
from tests.gateways import running_gateway
from tests.patience import soon, within
from tests.walls import NOBODY, PYTHON, User, Yard, yard
from worker.forkserver import groups, hierarchies
from worker.forkserver.groups import Groups
from worker.spec import Counting, Limits, Profile

ALONE: Final = pytest.mark.alone
"""Other gateways that start meanwhile would sweep, too; and all tests are in one group."""
ROOT: Final = pathlib.Path(__file__).parents[2]
FAMILY: Final = (
    "import os, time\n"
    "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)\n os._exit(0)\n"
    "os.wait(); print('away', flush=True); time.sleep(600)"
)
COUNTS: Final = (
    "import os, time\nmade = 0\n"
    "try:\n"
    " while made < 500:\n"
    "  if os.fork() == 0: time.sleep(600)\n"
    "  made += 1\n"
    "except OSError as error: print(made, error.strerror, flush=True)\n"
)


@pytest.fixture(scope="module", autouse=True)
def counting() -> Counting:
    """What can be made here."""
    code = (
        "import msgspec, os, sys; from worker.forkserver.groups import Groups; "
        "groups = Groups(sys.argv[1], os.getpid()); groups.open(); "
        "print(msgspec.json.encode(groups.counting()).decode()); groups.close()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, f"agent-gateway-test-{secrets.token_hex(4)}"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip

    found = msgspec.json.decode(said, type=Counting)
    if not (found.memory and found.processes):
        pytest.skip(f"NOT TESTED, no control groups can be made here: {found.missing or 'no hierarchy'}")
    return found


def groups_of(here: Yard) -> list[pathlib.Path]:
    """The directories of this yard's groups."""
    return [pathlib.Path(path) for path in here.spawner.counting.directories]


def members(path: pathlib.Path) -> set[int]:
    return set(map(int, (path / "cgroup.procs").read_text().split()))


@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
async def test_everything_a_worker_starts_is_in_its_group_and_the_group_goes_with_it(
    profile: Profile,
) -> None:
    async with yard(profile) as here:
        async with await here.spawn(PYTHON, "-c", FAMILY) as inmate, await here.spawn() as built_in:
            await inmate.read_line()
            server = psutil.Process(here.spawner.server_pid)
            family = {process.pid for process in server.children(recursive=True)} - {built_in.worker.pid}
            assert len(family) == 3, "an init, the command, and what slipped away"
            for base in groups_of(here):
                assert members(base / "1") == family
                assert members(base / "2") == {built_in.worker.pid}
            assert inmate.worker.memory_events.startswith(tuple(map(str, groups_of(here))))
        bases = groups_of(here)
        assert [entry for base in bases for entry in base.iterdir() if entry.is_dir()] == []
    assert not [base for base in bases if base.exists()]


async def test_all_workers_together_weigh_less_than_the_gateway_and_each_the_same(
    counting: Counting,
) -> None:
    if not counting.cpu:
        pytest.skip(f"NOT TESTED, CPU time is not shared out by groups here: {counting.missing}")
    name, half, each = {"cgroup v1": ("cpu.shares", 512, 1024), "cgroup v2": ("cpu.weight", 50, 100)}[
        counting.cpu
    ]
    async with yard("strict") as here, await here.spawn("/bin/sleep", "600") as inmate:
        found = [path for path in groups_of(here) if (path / name).exists()]
        assert [(path / name).read_text().strip() for path in found] == [str(half * (os.cpu_count() or 1))]
        assert [(path / "1" / name).read_text().strip() for path in found] == [str(each)]
        assert pathlib.Path(inmate.worker.cpu_file).exists()


async def test_what_nobody_waited_for_is_counted_when_a_worker_ends() -> None:
    """Its CPU time is in its group's figure, and in nobody's rusage."""
    burns = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n while time.process_time() < 0.5: pass\n os._exit(0)\n"
        "try: os.wait()\nexcept ChildProcessError: pass\n"
    )
    async with yard("strict") as here, await here.spawn(PYTHON, "-c", burns) as inmate:
        await inmate.read_all()
        assert inmate.worker.exited.result().cpu_seconds >= 0.5


async def test_switched_off_there_are_none() -> None:
    async with yard("strict", cgroups="off") as here, await here.spawn("/bin/sleep", "600") as inmate:
        assert here.spawner.counting == Counting()
        assert inmate.worker.memory_events == ""
        before = pathlib.Path("/proc/self/cgroup").read_text().split(":")
        inside = pathlib.Path(f"/proc/{inmate.worker.pid}/cgroup").read_text().split(":")
        assert inside == before


@pytest.mark.parametrize("profile", ["none", "basic"])
async def test_processes_are_held_without_a_namespace(profile: Profile) -> None:
    """In `basic` the kernel counts processes by user; by group it counts them by worker."""
    async with yard(profile) as here:
        said = await here.run(PYTHON, "-c", COUNTS, limits=Limits(processes=20))
        assert said.split()[0] == "19", said


async def test_without_groups_the_same_program_is_not_held() -> None:
    """The probe of the test above: it can fail."""
    async with yard("none", cgroups="off") as here:
        said = await here.run(PYTHON, "-c", COUNTS, limits=Limits(processes=20))
        assert said == ""


@contextlib.contextmanager
def delegated(user: User, *, memory_bytes: int = 0) -> Iterator[list[str]]:
    """Version 1 groups that belong to a user, as an administrator makes them."""
    own = pathlib.Path("/proc/self/cgroup").read_text()
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    found = [each for each in hierarchies.find(own, mounts) if each.version == 1]
    paths = [f"{each.own}/delegated-{os.getpid()}" for each in found]
    if len(paths) < 2:
        pytest.skip("NOT TESTED, memory and pids are not in hierarchies of version 1 here")
    try:
        for path in paths:
            os.mkdir(path)
            for file in ("", "/tasks", "/cgroup.procs"):
                os.chown(path + file, *([NOBODY] * 2 if user == "nobody" else [0] * 2))
            if memory_bytes and os.path.exists(f"{path}/memory.limit_in_bytes"):
                pathlib.Path(f"{path}/memory.limit_in_bytes").write_text(str(memory_bytes))
        yield paths
    finally:
        for path in paths:
            os.rmdir(path)


async def test_an_ordinary_user_makes_groups_where_some_were_given_to_it() -> None:
    with delegated("nobody") as paths:
        async with yard("basic", user="nobody", inside=paths) as here:
            assert here.spawner.counting.memory == here.spawner.counting.processes == "cgroup v1"
            assert all(path.parent in map(pathlib.Path, paths) for path in groups_of(here))
            said = await here.run(PYTHON, "-c", COUNTS, limits=Limits(processes=20))
            assert said.split()[0] == "19", said


async def test_an_ordinary_user_without_any_falls_back_and_says_why() -> None:
    async with yard("strict", user="nobody") as here, await here.spawn("/bin/sleep", "600") as inmate:
        assert here.spawner.counting.memory == ""
        assert "Permission denied" in here.spawner.counting.missing
        assert inmate.worker.memory_events == ""


HOG: Final = "held = []\nwhile True: held.append(bytearray(1 << 22))"


async def test_the_end_of_the_machines_memory_is_not_the_agents_limit() -> None:
    """The machine is a group round everything; the agent may use more than that."""
    with delegated("root", memory_bytes=160 << 20) as paths:
        async with (
            yard("strict", inside=paths) as here,
            await here.spawn(PYTHON, "-c", HOG, limits=Limits(memory_bytes=1 << 30)) as inmate,
        ):
            await inmate.read_all()
            end = inmate.worker.exited.result()
            assert end.cause == "machine_memory"
            assert "machine ran out of memory" in str(why_ended(end, Limits()))
            async with await here.spawn("/bin/echo", "still serving") as other:
                assert await other.read_line() == "still serving"


async def test_a_fork_bomb_ends_with_words(tmp_path: pathlib.Path) -> None:
    agent = ROOT / "tests" / "hostile" / "agent.py"
    config = f"[workers]\nprocesses = 64\n[agents.hostile]\ncommand = ['{PYTHON}', '{agent}']\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        await gateway.post("/api/sessions", {"agent": "hostile", "session_id": "b"}, status=201)
        state = await gateway.chat("b", "fork_bomb")
        said = [message["content"] for message in state["messages"] if message["sender"] == "system"]
        assert "refused more than its 64 processes" in said[-1]
        assert gateway.workers() == []
        assert (await gateway.delete("b"))["receipt"]["survivors"] == 0


async def test_a_lost_fork_servers_groups_are_swept_by_the_next() -> None:
    async with yard("strict") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        inmate = await here.spawn(PYTHON, "-c", FAMILY)
        await inmate.read_line()
        lost = here.spawner.server_pid
        os.kill(lost, signal.SIGKILL)
        await soon(asyncio.shield(inmate.worker.exited), 5)
        async with inmate:
            pass
        async with within(10):
            while here.spawner.server_pid in (0, lost) or not here.spawner._link.ready.done():  # type: ignore[union-attr]
                await asyncio.sleep(0.02)
        assert [entry for base in groups_of(here) for entry in base.iterdir() if entry.is_dir()] == []
        async with await here.spawn() as fresh:
            assert all(members(base / "2") == {fresh.worker.pid} for base in groups_of(here))


@ALONE
async def test_a_killed_gateways_groups_are_swept_by_the_next(tmp_path: pathlib.Path) -> None:
    """Both the gateway and its fork server die before either can tidy up."""
    async with running_gateway(tmp_path) as first:
        await first.chat("s", "/echo hello")
        [server] = psutil.Process(first.pid).children()
        first.process.send_signal(signal.SIGSTOP)
        server.kill()
        first.process.kill()
        await first.process.wait()
        left = list(pathlib.Path("/sys/fs/cgroup").rglob(f"agent-gateway-{first.pid}-*"))
        assert left, "nothing was left to sweep"
    async with running_gateway(tmp_path) as second:
        assert "control groups that the last gateway left" in second.log()
        assert not [path for path in left if path.exists()]
        assert (await second.chat("s", "/echo again"))["messages"][-1]["content"] == "again"


def hierarchies_here() -> list[str]:
    """The version 1 groups that this process is in, where groups can be made."""
    own = pathlib.Path("/proc/self/cgroup").read_text()
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    return [each.own for each in hierarchies.find(own, mounts) if each.version == 1]


@pytest.fixture
def dead_pid() -> int:
    """Of a process that was."""
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    return process.pid


@contextlib.contextmanager
def left_by(pid: int) -> Iterator[list[pathlib.Path]]:
    """Empty groups, as a gateway of this pid would leave them."""
    name = f"agent-gateway-{pid}-0123abcd"
    bases = [pathlib.Path(own) / name for own in hierarchies_here()]
    try:
        for base in bases:
            (base / "1").mkdir(parents=True)
            (base / "2").mkdir()
        yield bases
    finally:
        for base in bases:
            for path in (base / "1", base / "2", base):
                with contextlib.suppress(FileNotFoundError):
                    path.rmdir()


@ALONE
async def test_empty_groups_of_killed_gateways_are_removed_by_whoever_starts_next(dead_pid: int) -> None:
    with left_by(dead_pid) as bases:
        async with yard("strict") as here:
            assert here.spawner.counting.swept >= 3 * len(bases)
        assert not [base for base in bases if base.exists()]


@ALONE
async def test_groups_are_left_alone_while_their_gateway_or_anything_in_them_lives(dead_pid: int) -> None:
    with left_by(os.getpid()) as bases:
        async with yard("strict"):
            assert all((base / "1").exists() for base in bases), "of a process that lives"
    with left_by(dead_pid) as bases:
        locks = [groups._lock(str(base)) for base in bases]
        async with yard("strict"):
            assert all((base / "1").exists() for base in bases), "of one in another namespace"
        for lock in locks:
            os.close(lock)
        living = await asyncio.create_subprocess_exec("/bin/sleep", "600")
        for base in bases:
            (base / "1" / "tasks").write_text(str(living.pid))
        async with yard("strict"):
            assert all((base / "1").exists() for base in bases), "something lives in it"
            assert not [base for base in bases if (base / "2").exists()]
        living.kill()
        await living.wait()


async def test_a_gateway_holds_its_groups() -> None:
    async with yard("strict") as here:
        for base in groups_of(here):
            if base.name.endswith(".self"):
                continue  # what lives in it holds it
            with pytest.raises(BlockingIOError):
                groups._lock(str(base))


async def test_the_doctor_says_what_holds(tmp_path: pathlib.Path, counting: Counting) -> None:
    doctor = [sys.executable, "-m", "gateway", "doctor", "--data-dir", str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, doctor, cwd=ROOT, capture_output=True, text=True)
    assert f"memory by {counting.memory}, processes by {counting.processes}" in done.stdout


# -- version 2 ----------------------------------------------------------------------------------------------

DIVIDES: Final = """
import os, signal, sys
from worker.forkserver import hierarchies
from worker.sandbox import kernel
own, controllers, name = sys.argv[1], tuple(sys.argv[2].split(",")), "agent-gateway-test"
with open(own + "/cgroup.procs", "w") as file: file.write("0")
text, mounts = open("/proc/self/cgroup").read(), open("/proc/self/mountinfo").read()
[found] = [each for each in hierarchies.find(text, mounts, wanted=controllers) if each.version == 2]
assert found.own == own, (found, own)
stranger = os.fork()
if stranger == 0:
    kernel.set_parent_death_signal(signal.SIGKILL); signal.pause()
try:
    hierarchies.divide(found, name, {os.getpid()})
except OSError as error:
    assert "1 other processes" in str(error), error
else:
    sys.exit("divided a group that others are in")
divided = hierarchies.divide(found, name, {os.getpid(), stranger})
assert divided is not None
assert hierarchies.members(divided.leaf) == {os.getpid(), stranger}
base = own + "/" + name
os.mkdir(base); hierarchies.enable(base, controllers); os.mkdir(base + "/1")
fd = os.open(base + "/1", os.O_PATH)
for flags in (0, kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID):
    said, saying = os.pipe()
    pid = kernel.clone(flags, cgroup_fd=fd)
    if pid == 0:
        os.write(saying, open("/proc/self/cgroup").read().encode()); os._exit(0)
    os.waitpid(pid, 0)
    assert (name + "/1") in os.read(said, 4096).decode()
again = hierarchies.find(open("/proc/self/cgroup").read(), mounts, wanted=controllers, name=name)
assert [each.own for each in again if each.version == 2] == [own], again
os.rmdir(base + "/1"); os.rmdir(base); os.close(fd)
divided.restore()
assert hierarchies.members(own) == {os.getpid(), stranger}
assert not os.path.exists(divided.leaf)
os.kill(stranger, signal.SIGKILL); os.waitpid(stranger, 0)
with open(os.path.dirname(own) + "/cgroup.procs", "w") as file: file.write("0")
print("divided")
"""


@ALONE
def test_a_version_2_group_is_divided_and_workers_are_born_into_its_parts() -> None:
    """With whatever controllers this machine has in version 2: how a group is divided is one for all."""
    own = pathlib.Path("/proc/self/cgroup").read_text()
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    every = ("memory", "pids", "hugetlb", "cpu", "io")
    found = [each for each in hierarchies.find(own, mounts, wanted=every) if each.version == 2]
    if not found or not os.access(found[0].own, os.W_OK):
        pytest.skip("NOT TESTED, no group of version 2 can be made here")
    place, chosen = f"{found[0].own}/divided-{os.getpid()}", found[0].controllers[:1]
    before = hierarchies.read(f"{found[0].own}/cgroup.subtree_control").split()
    os.mkdir(place)
    try:
        with contextlib.suppress(OSError):
            hierarchies.enable(found[0].own, chosen)
        done = subprocess.run(
            [sys.executable, "-c", DIVIDES, place, ",".join(chosen)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout == "divided\n", done.stderr
    finally:
        os.rmdir(place)
        if chosen[0] not in before:
            hierarchies.write(f"{found[0].own}/cgroup.subtree_control", f"-{chosen[0]}")


def test_nothing_is_made_without_a_name() -> None:
    groups = Groups("", os.getpid())
    groups.open()
    assert groups.make(1, memory_bytes=1, processes=1) is None
