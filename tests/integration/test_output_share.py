"""One agent's output takes at most its share of the gateway's time: a flooding agent beside a quiet one."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import pytest

from gateway.agents import connection as agent
from gateway.agents.connection import AcpConnection
from gateway.agents.spool import Intake
from gateway.workers.freezing import Freezer
from gateway.workers.spawner import Worker
from tests.handlers import Unbounded
from tests.patience import soon
from worker import acp

LINES: Final = 20_000
DEAR: Final = 50
FLOOD: Final = (
    "import json, sys\n"
    "for n in range(int(sys.argv[1])):\n"
    " print(json.dumps({'jsonrpc': '2.0', 'method': 'session/update',"
    " 'params': {'sessionId': 's', 'update': {'n': n}}}))\n"
)
QUIET: Final = (
    "import json, sys\n"
    "for line in sys.stdin:\n"
    " print(json.dumps({'jsonrpc': '2.0', 'id': json.loads(line)['id'], 'result': {}}), flush=True)\n"
)


class Counting(Unbounded):
    """Hears updates, numbered, and makes each so dear that the flood comes faster than it is handled."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def on_updates(self, updates: Sequence[msgspec.Raw]) -> None:
        for update in updates:
            numbers = {msgspec.json.decode(update)["n"] for _ in range(DEAR)}
            self.numbers += numbers

    def on_long_update(self, update: msgspec.Raw, used: Callable[[int], None]) -> Iterator[None]:
        self.on_updates([update])
        yield

    def on_request(self, message: acp.Envelope) -> bool:
        return False

    def on_notification(self, message: acp.Envelope) -> None:
        pass


@asynccontextmanager
async def agent_of(program: str, *arguments: str) -> AsyncIterator[tuple[AcpConnection, Counting]]:
    """A real process on real pipes, with a connection to it."""
    (stdin, ours), (theirs, stdout) = os.pipe(), os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", program, *arguments, stdin=stdin, stdout=stdout
    )
    os.close(stdin)
    os.close(stdout)
    counting = Counting()
    worker = cast("Worker", SimpleNamespace(pid=process.pid, stdin=ours, stdout=theirs, freezer=Freezer()))
    try:
        async with AcpConnection(
            worker, counting, line_bytes=1 << 20, spool_dir=tempfile.gettempdir(), intake=Intake()
        ) as connection:
            yield connection, counting
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.sleep(0)  # transports close in the next round of the loop


async def test_a_flood_is_held_back_loses_nothing_and_a_quiet_agent_is_answered_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent, "OUTPUT_BURST_SECONDS", 0.02)
    monkeypatch.setattr(agent, "OUTPUT_PAUSE_SECONDS", 0.02)
    async with agent_of(FLOOD, str(LINES)) as (flooding, heard), agent_of(QUIET) as (quiet, _):
        reader = cast("Any", flooding)._reader
        held_back = 0
        while not flooding.closed.done():
            await soon(quiet.call("ping", {}), 10)
            held_back += "share" in reader._reasons
        assert held_back, "the flood was never held back"
        assert heard.numbers == list(range(LINES)), "what was held back arrives, whole and in order"


async def test_an_agent_within_its_share_is_never_held_back() -> None:
    """The same output, but with the burst that agents really have."""
    async with agent_of(FLOOD, "2000") as (modest, heard):
        reader = cast("Any", modest)._reader
        while not modest.closed.done():
            assert "share" not in reader._reasons
            await asyncio.sleep(0.001)
        assert heard.numbers == list(range(2000))
