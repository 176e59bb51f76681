"""Machines that refuse what `strict` needs, made of this one: no user namespaces, and /proc with parts of it
covered as container engines cover them. The gateway falls back to `basic` and says so.
"""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
from typing import Final

import pytest

from tests.gateways import running_gateway
from tests.patience import crowding
from tests.streams import open_stream

ROOT: Final = pathlib.Path(__file__).parents[2]
LESSER: Final = """
import ctypes, os, sys
sys.path.insert(0, {root!r})
from worker.sandbox import kernel
def write(path, text):
    with open(path, "w") as file: file.write(text)
uid, gid = os.geteuid(), os.getegid()
kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
write("/proc/self/setgroups", "deny")
write("/proc/self/uid_map", f"1000 {{uid}} 1")
write("/proc/self/gid_map", f"1000 {{gid}} 1")
if sys.argv[1] == "no-namespaces":
    write("/proc/sys/user/max_user_namespaces", "0")
if sys.argv[1] == "masked":
    kernel.mount("", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list"):
        if os.path.exists(path): kernel.mount("/dev/null", path, None, kernel.MS_BIND)
    kernel.mount("/proc/sys", "/proc/sys", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.protect("/proc/sys", recursive=True)
if len(sys.argv) > 2:
    os.execvp(sys.argv[2], sys.argv[2:])
"""
LAUNCH: Final = (sys.executable, "-c", LESSER.format(root=str(ROOT)))
WORDS: Final = {"no-namespaces": "no namespaces of its own", "masked": "mount /sys/proc"}


@pytest.fixture(autouse=True)
def can_be_made() -> None:
    done = subprocess.run([*LAUNCH, "nothing"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TESTED, this machine gives no namespaces to begin with: {done.stderr[-200:]}")


@pytest.mark.parametrize("kind", WORDS)
async def test_the_walls_fall_back_to_basic_and_it_is_said(kind: str, tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, prefix=(*LAUNCH, kind)) as gateway:
        assert "strict walls cannot be built here" in gateway.log()
        assert WORDS[kind] in gateway.log()
        async with open_stream(gateway.http, "s") as stream:
            await gateway.post("/api/chat", {"message": "/echo works", "session_id": "s"})
            started = (await stream.until_event("agent_started")).data
            await stream.until_event("turn_ended")
        assert started["walls"] == "basic"
        assert (await gateway.state("s"))["messages"][-1]["content"] == "works"
        assert (await gateway.delete("s"))["receipt"]["survivors"] == 0


async def test_the_same_namespace_without_its_fault_has_strict_walls(tmp_path: pathlib.Path) -> None:
    """That it is the fault which takes the walls away, not how it was brought about."""
    async with running_gateway(tmp_path, prefix=(*LAUNCH, "nothing")) as gateway:
        assert "workers run behind strict walls" in gateway.log()


@pytest.mark.parametrize("kind", WORDS)
async def test_where_strict_is_required_the_gateway_does_not_start_and_says_why(
    kind: str, tmp_path: pathlib.Path
) -> None:
    environ = {"AGENT_GATEWAY_WORKERS_REQUIRE": "strict", "PATH": "/usr/bin:/bin"}
    command = [
        *LAUNCH,
        kind,
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(tmp_path),
    ]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30 * crowding(),
    )
    assert done.returncode != 0
    assert WORDS[kind] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", WORDS)
async def test_the_doctor_says_it_too(kind: str, tmp_path: pathlib.Path) -> None:
    command = [*LAUNCH, kind, sys.executable, "-m", "gateway", "doctor", "--data-dir", str(tmp_path)]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=30 * crowding()
    )
    assert "walls: basic (not strict: " in done.stdout
    assert WORDS[kind] in done.stdout
