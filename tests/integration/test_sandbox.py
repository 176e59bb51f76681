"""The walls, with real workers: what each profile gives and what it holds."""

from __future__ import annotations

import os
import sys
from typing import Literal

import pytest

from gateway.workers.spawner import StartFailed, why_ended
from tests.walls import PYTHON, USERS, User, yard
from worker.spec import Limits, Profile, Sandbox

STATUS = (
    "import os; print(open('/proc/self/status').read()); print(os.getcwd(), os.environ['HOME'], os.getpid())"
)


def fields(said: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in said.splitlines())}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("profile", ["basic", "strict"])
async def test_a_walled_command_has_no_privilege_and_cannot_gain_any(profile: Profile, user: User) -> None:
    async with yard(profile, user=user) as here:
        status = fields(await here.run(PYTHON, "-c", STATUS))
    assert [status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")] == ["0" * 16] * 4
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split()[0] != "0"


@pytest.mark.parametrize("user", USERS)
async def test_a_strict_command_sees_the_same_machine_whatever_its_session(user: User) -> None:
    async with yard("strict", user=user) as here:
        said = await here.run(PYTHON, "-c", STATUS)
        processes = await here.run(
            "/bin/sh", "-c", "ls /proc | grep -c '^[0-9]'; id -un; hostname; ls -A /tmp /dev/shm"
        )
    assert "/session/work /session/home 2" in said
    assert fields(said)["CapBnd"] == "0" * 16
    count, user_name, hostname, *_ = processes.split("\n")
    assert (user_name, hostname) == ("agent", "agent")
    assert int(count) <= 6


async def test_an_interpreter_that_only_root_can_reach_runs_in_strict() -> None:
    async with yard("strict") as here:
        said = await here.run(
            sys.executable, "-I", "-c", "import sys, json, msgspec; print(sys.prefix, 'works')"
        )
    assert said.split()[:2] == [sys.prefix, "works"]


@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
async def test_only_its_own_environment_and_descriptors_are_there(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-of-the-gateway")
    program = "import os; print(sorted(os.environ), sorted(map(int, os.listdir('/proc/self/fd')))[:9])"
    async with yard(profile) as here:
        said = await here.run(PYTHON, "-c", program)
    names, _, descriptors = said.partition("] [")
    assert "canary" not in said
    assert "OPENAI_API_KEY" not in names
    assert descriptors.split("]")[0] == "0, 1, 2, 3"  # 3 is the listing itself


async def test_writing_works_in_home_work_and_private_places_and_nowhere_else() -> None:
    script = (
        "for d in $HOME . /tmp /dev/shm / /usr /etc /session /proc /work /root; do"
        " touch $d/probe 2>/dev/null && echo $d; done; echo x > /dev/null && echo null"
    )
    async with yard("strict") as here:
        said = await here.run("/bin/sh", "-c", script)
    assert said.split() == ["/session/home", ".", "/tmp", "/dev/shm", "null"]


async def test_granted_paths_are_read_or_written_and_nothing_beside_them(tmp_path: os.PathLike[str]) -> None:
    async with yard("strict") as here:
        for name, mode in (("read", 0o755), ("write", 0o777), ("other", 0o777)):
            (here.root / name).mkdir()
            (here.root / name).chmod(mode)
            (here.root / name / "file").write_text(name)
        read, write, other = (str(here.root / name) for name in ("read", "write", "other"))
        script = f"cat {read}/file; touch {read}/new; cat {write}/file; touch {write}/new; cat {other}/file"
        sandbox = Sandbox(readable=(read,), writable=(write,))
        await here.run("/bin/sh", "-c", script, sandbox=sandbox)
        assert not (here.root / "read" / "new").exists()
        assert (here.root / "write" / "new").exists()
        assert await here.run(
            "/bin/sh", "-c", f"cat {read}/file; cat {other}/file 2>&1", sandbox=sandbox
        ) == (f"readcat: {other}/file: No such file or directory\n")


CONNECT = """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", {port})),):
    try:
        socket.create_connection(address, 2).close(); print("reached")
    except OSError as error:
        print("refused")
"""


@pytest.mark.parametrize("profile", ["basic", "strict"])
@pytest.mark.parametrize(("network", "outcome"), [("shared", "reached"), ("none", "refused")])
async def test_the_network_is_shared_or_not_there(profile: Profile, network: str, outcome: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        program = CONNECT.format(port=server.getsockname()[1])
        async with yard(profile) as here:
            assert (await here.run(PYTHON, "-c", program, network=network)).strip() == outcome


@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
@pytest.mark.parametrize(
    ("command", "words"),
    [("/no/such/agent", "is not there: /no/such/agent"), ("/etc/hostname", "cannot be run|is not there")],
)
async def test_a_command_that_cannot_run_says_why(profile: Profile, command: str, words: str) -> None:
    async with yard(profile) as here:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(StartFailed, match=words):
            await here.spawn(command)
        assert len(os.listdir("/proc/self/fd")) == before


ESCAPES = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1); os.close(2)
        time.sleep(600)
    os._exit(0)
os.wait()
print("away", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
async def test_a_process_that_slipped_away_ends_with_its_worker(profile: Profile) -> None:
    async with yard(profile) as here:
        inmate = await here.spawn(PYTHON, "-c", ESCAPES)
        assert await inmate.read_line() == "away"
        receipt = await inmate.worker.stop(grace_seconds=0)
        os.close(inmate.worker.stdin)
        os.close(inmate.worker.stdout)
    assert (receipt.processes, receipt.survivors) == (2, 0)
    assert receipt.bytes_freed > 0


@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
async def test_a_gentle_stop_reaches_the_agent_and_its_exit_is_told_as_it_was(profile: Profile) -> None:
    polite = "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"
    async with yard(profile) as here:
        for script, end in (
            (polite, (7, None)),
            ("echo up; kill -SEGV $$", (None, 11)),
            ("echo up; exit 3", (3, None)),
        ):
            async with await here.spawn("/bin/sh", "-c", script) as inmate:
                await inmate.read_line()
                await inmate.worker.stop(grace_seconds=0.2)
                exit = inmate.worker.exited.result()
                assert (exit.code, exit.signal) == end


BOMBS = {
    "files": ("import os\nwhile True: os.dup(0)", "Too many open files"),
    "one file": ("f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))", "File too large"),
    "temporary": ("f = open('/tmp/big', 'wb')\nwhile True: f.write(bytes(1 << 20))", "No space left"),
    "processes": (
        "import os, time\nwhile True:\n if os.fork() == 0: time.sleep(600)",
        "temporarily unavailable",
    ),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", BOMBS)
async def test_a_bomb_meets_its_limit(kind: str, user: User) -> None:
    program, words = BOMBS[kind]
    limits = Limits(
        memory_bytes=128 << 20, processes=32, open_files=64, file_bytes=8 << 20, temporary_bytes=4 << 20
    )
    async with yard("strict", user=user) as here:
        assert words in await here.run(PYTHON, "-c", program, limits=limits)


PAST = {
    "memory": "for _ in range(8):\n if os.fork() == 0:\n  b = bytearray(40 << 20)\n  break\ntime.sleep(600)",
    "disk": "for n in range(40): open(f'{n}', 'wb').write(os.urandom(1 << 20))\ntime.sleep(600)",
    "cpu": "while True: pass",
}


@pytest.mark.parametrize("cgroups", ["auto", "off"])
@pytest.mark.parametrize("cause", PAST)
async def test_past_a_limit_of_the_whole_worker_it_ends_with_the_cause(
    cause: str, cgroups: Literal["auto", "off"]
) -> None:
    limits = Limits(memory_bytes=100 << 20, disk_bytes=20 << 20, cpu_seconds=1)
    async with (
        yard("strict", cgroups=cgroups) as here,
        await here.spawn(PYTHON, "-c", "import os, time\n" + PAST[cause], limits=limits) as inmate,
    ):
        await inmate.read_all()
        assert inmate.worker.exited.result().cause == cause


IMPORTS = "import os, time\n"
BURNS = {
    "itself": "while True: pass",
    "short-lived children that nobody waits for": """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        end = time.monotonic() + 0.2
        while time.monotonic() < end: pass
        os._exit(0)
    time.sleep(0.1)
""",
}


@pytest.mark.parametrize(
    ("how", "cgroups"),
    [("itself", "auto"), ("itself", "off"),      ("short-lived children that nobody waits for", "auto")],
)  # fmt: skip
async def test_a_turn_that_burns_cpu_time_is_ended(how: str, cgroups: Literal["auto", "off"]) -> None:
    limits = Limits(turn_cpu_seconds=1)
    async with yard("strict", cgroups=cgroups) as here:
        if cgroups == "auto" and not here.spawner.counting.memory:
            pytest.skip("NOT TESTED, no control groups can be made here")
        async with await here.spawn(PYTHON, "-c", IMPORTS + BURNS[how], limits=limits, nice=0) as inmate:
            assert bool(inmate.worker.cpu_file) == (cgroups == "auto")
            inmate.worker.begin_turn()
            await inmate.read_all()
            end = inmate.worker.exited.result()
    assert end.cause == "turn_cpu"
    assert "more than the 1 seconds of CPU that one answer may take" in str(why_ended(end, limits))
    assert end.cpu_seconds > 1


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("profile", ["none", "basic", "strict"])
async def test_workers_give_way_and_cannot_take_it_back(profile: Profile, user: User) -> None:
    program = (
        "import os\nprint(os.nice(0))\n"
        "try: os.setpriority(os.PRIO_PROCESS, 0, 0)\nexcept OSError as error: print(type(error).__name__)"
    )
    own = os.nice(0)
    async with yard(profile, user=user) as here:
        said = (await here.run(PYTHON, "-c", program, nice=3)).split()
    assert said[0] == str(own + 3)
    assert profile == "none" or said[1:] == ["PermissionError"]
