"""Turns with kill -9 of the gateway, against a provider that counts by itself; then both counts are compared.

The provider says another number of input tokens in each answer, so that a row of the ledger names the very
request that it is of. What is looked for:

- a request that the provider got and of which the ledger has no row: it is lost;
- a request of which the ledger has two rows;
- a row that is not marked as estimated and differs from what the provider said, by one token;
- a turn that its user saw the end of whose call is only estimated;
- a row that is not settled after the last start.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import pathlib
import random
import sqlite3
import time
from typing import Any, Final

import aiohttp
from msgspec import Struct

from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.gateways import RunningGateway, running_gateway

LIFE_SECONDS: Final = (0.1, 2.0)
TOKEN_SECONDS: Final = 0.004
FIRST: Final = 1_000_000
"""Input tokens that no estimate comes near."""
WORDS: Final = 12
WAIT_SECONDS: Final = 20
CONFIG: Final = """
[model]
retries = 0
[model.prices."fake-model"]
input = 1.0
output = 1.0
[sessions]
crash_limit = 1000
[limits]
address_requests_per_second = 1000000
address_burst = 1000000
session_requests_per_second = 10000
session_burst = 10000
"""
Broken = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Provider(FakeModel):
    """Counts its requests, and says of each another number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[int, str] = {}
        """The input tokens of each request → the session that it is of."""

    def _behaviour_now(self) -> Behaviour:
        tokens = FIRST + len(self.asked)
        said = [message["content"] for message in self.requests[-1].body["messages"]][-1]
        self.asked[tokens] = str(said).split()[0]
        usage = {"prompt_tokens": tokens, "completion_tokens": output_of(tokens)}
        return Behaviour(usage=usage, seconds_a_token=TOKEN_SECONDS)


def output_of(tokens: int) -> int:
    """What the provider says of the answer to a request of so many tokens."""
    return tokens % 97 + 1


class Row(Struct, frozen=True):
    """A call in the ledger."""

    session: str
    input: int
    output: int
    is_estimated: bool
    status: int | None


class Campaign:
    """One run; `faults` says what was wrong, in words."""

    def __init__(
        self, directory: pathlib.Path, *, turns: int, kills: int, sessions: int, seconds: float, seed: int
    ) -> None:
        self._directory = directory
        self._turns = turns
        self._most_kills = kills
        self._sessions = sessions
        self._until = time.monotonic() + seconds
        self._random = random.Random(seed)
        self._provider = Provider()
        self._gateway: RunningGateway | None = None
        self._up = asyncio.Event()
        self._whole: collections.Counter[str] = collections.Counter()
        """Turns of each session of which somebody saw the whole answer."""
        self._sent = 0
        self.kills = 0
        self.faults: list[str] = []
        self.rows: list[Row] = []
        self.seconds = 0.0

    async def run(self) -> None:
        """Kills and starts until there were enough turns, or the time is over; then compares."""
        began = time.monotonic()
        async with fake_model(model=self._provider) as provider:
            environ = {"AGENT_MODEL_URL": provider.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "k"}
            talkers = [asyncio.create_task(self._talk(f"s{number}")) for number in range(self._sessions)]
            while self._is_going_on and self.kills < self._most_kills:
                async with running_gateway(self._directory, config=CONFIG, environ=environ) as gateway:
                    self._came_up(gateway)
                    await asyncio.wait(talkers, timeout=self._random.uniform(*LIFE_SECONDS))
                    self._went_down()
                    gateway.process.kill()
                    self.kills += 1
                    await gateway.process.wait()
            async with running_gateway(self._directory, config=CONFIG, environ=environ) as gateway:
                self._came_up(gateway)
                await asyncio.wait(talkers)
                self._went_down()
                await gateway.stop()
            for talker in talkers:
                talker.result()
        self.seconds = time.monotonic() - began
        self.rows = rows_of(self._directory / "data" / "gateway.db")
        self._compare()

    @property
    def _is_going_on(self) -> bool:
        return len(self._provider.asked) < self._turns and time.monotonic() < self._until

    def _came_up(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._up.set()

    def _went_down(self) -> None:
        self._up.clear()

    # -- who talks --------------------------------------------------------------------------------------

    async def _talk(self, session: str) -> None:
        while self._is_going_on:
            await self._up.wait()
            gateway = self._gateway
            assert gateway is not None
            self._sent += 1
            text = f"{session} {self._sent} " + "word " * self._random.randrange(WORDS)
            with contextlib.suppress(*Broken):
                state = await self._ask(gateway, session, text.strip())
                self._whole[session] += _is_answered(state, text.strip())
                if state.get("queued"):
                    await self._drop(gateway, session)
            await asyncio.sleep(self._random.uniform(0, 0.01))

    async def _ask(self, gateway: RunningGateway, session: str, text: str) -> Any:
        body = {"session_id": session, "message": text}
        async with asyncio.timeout(WAIT_SECONDS + 5):
            path = f"/api/chat?wait={WAIT_SECONDS}"
            async with gateway.http.post(path, json=body) as response:
                return await response.json()

    async def _drop(self, gateway: RunningGateway, session: str) -> None:
        path = f"/api/sessions/{session}/queue"
        async with gateway.http.post(path, json={"action": "drop"}) as response:
            await response.read()

    # -- comparing --------------------------------------------------------------------------------------

    def _compare(self) -> None:
        exact = [row for row in self.rows if not row.is_estimated]
        for row in exact:
            if (self._provider.asked.get(row.input), output_of(row.input)) != (row.session, row.output):
                self.faults.append(f"the provider counted something else than {row}")
        for tokens, count in collections.Counter(row.input for row in exact).items():
            if count > 1:
                self.faults.append(f"the request of {tokens} tokens has {count} rows")
        asked = collections.Counter(self._provider.asked.values())
        counted = collections.Counter(row.session for row in self.rows)
        exactly = collections.Counter(row.session for row in exact)
        for session, count in asked.items():
            if counted[session] < count:
                self.faults.append(f"{session}: {count} requests, {counted[session]} rows")
            if exactly[session] < self._whole[session]:
                whole = self._whole[session]
                self.faults.append(f"{session}: {whole} whole answers, {exactly[session]} exact rows")
        unsent = len(self.rows) - len(self._provider.asked)
        if unsent > self.kills * self._sessions:
            self.faults.append(f"{unsent} rows of calls that were never made")
        self.faults += [f"not settled: {row}" for row in self.rows if row.status is None]

    def table(self) -> str:
        """The figures, printed."""
        exact = [row for row in self.rows if not row.is_estimated]
        rows: list[tuple[str, Any]] = [
            ("requests that the provider counted", len(self._provider.asked)),
            ("gateway kill -9", self.kills),
            ("rows in the ledger", len(self.rows)),
            ("of them with the provider's own figures", len(exact)),
            ("of them estimated, cut by a kill", len(self.rows) - len(exact)),
            ("of these never sent", max(0, len(self.rows) - len(self._provider.asked))),
            ("tokens, the provider's count of the exact", sum(r.input + output_of(r.input) for r in exact)),
            ("tokens, the ledger's", sum(r.input + r.output for r in exact)),
            ("answers that somebody saw the end of", sum(self._whole.values())),
            ("faults", len(self.faults)),
            ("seconds", round(self.seconds)),
        ]
        return "\n".join(f"{name:45} {value}" for name, value in rows)


def _is_answered(state: Any, text: str) -> bool:
    messages = [message["content"] for message in state.get("messages", ()) if message["sender"] == "agent"]
    return not state.get("is_processing", True) and f"You said: {text}" in messages


def rows_of(path: pathlib.Path) -> list[Row]:
    """Every call of a ledger, by the ids of sessions that clients know."""
    query = (
        "SELECT sessions.session_id, input, output, is_estimated, status FROM ledger_calls"
        " LEFT JOIN sessions ON sessions.key = ledger_calls.session_key"
    )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(query).fetchall()
    return [Row(str(row[0]), row[1], row[2], bool(row[3]), row[4]) for row in found]
