"""test-sessions.sh passes against a sound gateway, and its checks fail where their fault is planted."""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys

import pytest

from tests.acceptance.faulty_gateway import faulty_gateway
from tests.gateways import ROOT, RunningGateway
from tests.patience import soon
from tests.shared import SHARED, shared_gateway

pytestmark = [SHARED, pytest.mark.timeout(600)]
gateway = shared_gateway()


async def run(base_url: str = "") -> tuple[int, list[str]]:
    """The script's exit code and lines. It calls python3 a hundred times, so it gets the real one and no shim
    of pyenv's.
    """
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        str(ROOT / "test-sessions.sh"),
        env={**os.environ, "BASE_URL": base_url, "PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await soon(process.communicate(), 60)
    return process.returncode or 0, out.decode().splitlines()


def failed(lines: list[str]) -> set[str]:
    return {line.removeprefix("FAIL  ").partition(" — ")[0] for line in lines if line.startswith("FAIL")}


async def test_it_passes_against_a_gateway_that_runs_and_leaves_no_session(gateway: RunningGateway) -> None:
    code, lines = await run(gateway.url)
    assert (code, failed(lines)) == (0, set()), lines
    assert lines[-1] == f"{sum(line.startswith('PASS') for line in lines)} passed, 0 failed"
    assert await gateway.count() == 0
    assert gateway.workers() == []


async def test_it_starts_and_stops_a_gateway_of_its_own_and_says_where_there_is_none() -> None:
    (code, lines), (other_code, other_lines) = await asyncio.gather(run(), run("http://127.0.0.1:9"))
    assert (code, failed(lines)) == (0, set()), lines
    assert other_code != 0
    assert other_lines[-1].startswith("FAIL  no gateway at 'http://127.0.0.1:9'")


SHARED_SESSION = {
    "nothing of the second in the first one's State",
    "nothing of the first in the second one's State",
    "nothing of the second in the first one's stream",
    "nothing of the first in the second one's stream",
    "the same id goes on in its session",
}
MANY_FAULTS = {
    "the new session is named in the header",
    "and in the cookie",
    "the cookie leads back to it",
    "a malformed id is refused",
    "an interrupt stops the answer",
    "and says so",
    "a system message is kept exactly",
    "mcp-command set_network",
    "an unknown mcp-command fails and is named",
    "a resumed stream has no gap and no repeat",
    "its ids only grow",
    "the count of sessions goes up",
    "a deletion leaves no process",
    "a deleted session is empty",
}
PLANTED: list[tuple[str, set[str]]] = [
    ("shares", SHARED_SESSION),
    ("nameless careless deaf garbles boasts repeats miscounts keeps", MANY_FAULTS),
    ("skips", {"a resumed stream has no gap and no repeat"}),
]
"""Faults, and the checks that must find them."""


async def test_it_finds_the_faults_that_are_planted(gateway: RunningGateway) -> None:
    async def missed(faults: str, found: set[str]) -> set[str]:
        async with faulty_gateway(gateway.url, *faults.split()) as broken:
            code, lines = await run(broken.url)
        assert code != 0
        return found - failed(lines)

    assert await asyncio.gather(*(missed(*planted) for planted in PLANTED)) == [set()] * len(PLANTED)
    for session in (await gateway.get("/api/sessions"))["sessions"]:
        await gateway.delete(session["session_id"])
