"""Workers under the other interpreters that this project says it runs on, where they are found."""

from __future__ import annotations

import asyncio
import functools
import json
import pathlib
import shlex
import subprocess
import sys
from typing import Final

import pytest

from tests.patience import crowding
from tests.real_agents import AgentUnavailable, by_pip, installed

ROOT: Final = pathlib.Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "pythons"
VERSIONS: Final = ("3.12", "3.13")
LOCK: Final = ROOT / "requirements.txt"
PROGRAM: Final = """
import asyncio, json, os, pathlib, sys, tempfile
sys.path.insert(0, sys.argv[1])
from gateway.config.tables import WorkersConfig
from gateway.workers.spawner import base_environment
from gateway.workers.walls import WalledSpawner
from worker import acp
from worker.spec import SpawnRequest

ASK = (acp.request(0, "initialize", {}) + acp.request(1, "session/new", {"cwd": "/"}))

def modules(pid):
    maps = open(f"/proc/{pid}/maps").read()
    return {line.split()[-1] for line in maps.splitlines() if ".so" in line}

async def answered(worker, text):
    data = b""
    while text not in data:
        data += await asyncio.to_thread(os.read, worker.stdout, 65536)
    return data

async def main(place):
    spawner = WalledSpawner(WorkersConfig(), directory=place)
    await spawner.open()
    ready = await spawner._link.ready
    home, work = str(place / "h"), str(place / "w")
    uid = 210001 if os.geteuid() == 0 else None
    for path in (home, work):
        os.mkdir(path, 0o700)
        if uid: os.chown(path, uid, uid)
    request = SpawnRequest(argv=(), env=base_environment(home), cwd=work, home=home, session_key="s",
                           uid=uid, is_built_in=True)
    worker = await spawner.spawn(request)
    os.write(worker.stdin, ASK)
    said = await answered(worker, b"sessionId")
    session = json.loads(next(l for l in said.splitlines() if b'"id":1' in l))["result"]["sessionId"]
    before = modules(worker.pid) if os.access(f"/proc/{worker.pid}/maps", os.R_OK) else None
    prompt = {"sessionId": session, "prompt": [{"type": "text", "text": "/echo heliotrope"}]}
    os.write(worker.stdin, acp.request(2, "session/prompt", prompt))
    answer = await answered(worker, b"stopReason")
    grown = sorted(modules(worker.pid) - before) if before is not None else []
    receipt = await worker.stop(grace_seconds=1)
    os.close(worker.stdin); os.close(worker.stdout)
    await spawner.close()
    print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "threads": ready.threads,
                      "frozen": ready.frozen_objects, "walls": worker.profile, "grown": grown,
                      "answered": b"heliotrope" in answer, "survivors": receipt.survivors}))

with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
    os.chmod(directory, 0o755)
    asyncio.run(main(pathlib.Path(directory)))
"""
IMPORTS_NOTHING: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); import worker.agent.agent as agent; "
    "before = set(sys.modules); agent.warm_up(); print(sorted(set(sys.modules) - before))"
)


def python(version: str) -> pathlib.Path:
    """An interpreter of this version with what a fork server needs; skips where there is none."""

    def install(folder: pathlib.Path, _pin: str) -> None:
        by_pip((version,), folder, f"--no-deps --require-hashes --requirement {shlex.quote(str(LOCK))}")

    try:
        return installed(version, LOCK.read_text(), install, below=CACHE) / "bin" / "python"
    except AgentUnavailable as error:
        pytest.skip(f"NOT TESTED under Python {version}: {error}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", VERSIONS)
async def test_workers_run_under_another_python(version: str) -> None:
    program = str(await asyncio.to_thread(python, version))
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=60 * crowding())
    done = await asyncio.to_thread(run, [program, "-I", "-W", "error", "-c", PROGRAM, str(ROOT)])
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["version"] == version
    assert (said["threads"], said["answered"], said["survivors"], said["grown"]) == (1, True, 0, [])
    assert said["frozen"] > 5_000
    assert said["walls"] in ("basic", "strict")
    imports = await asyncio.to_thread(run, [program, "-I", "-c", IMPORTS_NOTHING, str(ROOT)])
    assert imports.stdout == "[]\n", imports.stderr


def test_the_interpreter_of_this_run_is_one_of_those_promised() -> None:
    assert "{}.{}".format(*sys.version_info) in ("3.11", *VERSIONS, "3.14")
