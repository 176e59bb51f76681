"""The campaign of idempotency keys: each is sent to every gateway at once, until each has acknowledged it,
while one gateway after the other is killed with -9. Then each key must have been answered by one and the same
message, which is there once. Before that, a hundred turns are begun at once at all gateways against a quota
of ten: ten run.

`python -m tests.torture.cluster --keys 1000` is the long form. With `--a-key-each` every gateway is sent a
key of its own, which proves that the counting sees something.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random
import tempfile
import time
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
from msgspec import Struct, field

from tests.aims import Aim, none_of, table
from tests.nodes import Nodes, running_nodes
from tests.shared import ask, crowding, eventually, fresh_id
from tests.torture.campaign import middle, worst

TEN: Final = 10
STARTS: Final = 100
LANES: Final = 6
"""People who send at once, a key after the other."""
KEYS_OF_A_SESSION: Final = 8
DOWN_SECONDS: Final = (0.0, 2.5)
"""How long a killed gateway is away: less than a lease, or more."""
PAUSE_SECONDS: Final = (0.05, 0.3)
"""Before something is sent again that was not answered, or refused for now."""
ANSWER_SECONDS: Final = 20.0
"""Without an answer for so long, a client hangs up and asks again."""
TENANTS: Final = f"""
[limits]
session_requests_per_second = 1000000
session_burst = 1000000
address_requests_per_second = 1000000
address_burst = 1000000
[tenants.keys]
[tenants.ten]
quota = {{ concurrent_turns = {TEN} }}
"""
CONFIG: Final = f"""
[applications]
enabled = []
[auth]
modes = ["keys"]
{TENANTS}
"""


class Sent(Struct):
    """A key, and what was answered to it."""

    text: str
    """Of the message: nobody says the same twice."""
    answers: list[tuple[str, str]] = field(default_factory=list)
    """Of each gateway: the session, and when the message was said in it."""


class KeyFigures(Struct):
    """What was done, and what nobody shall see."""

    keys: int = 0
    kills: int = 0
    again: int = 0
    """Requests that were sent again, because no answer came, or a refusal for now."""
    begun: list[int] = field(default_factory=list)
    """Turns that ran at once, of a hundred, where ten may."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """Keys that were answered by different messages."""
    refused: list[str] = field(default_factory=list)
    """Answers that are neither an acknowledgement nor a refusal for now."""
    waits: list[float] = field(default_factory=list)
    """Until all gateways had acknowledged a key."""

    @property
    def faults(self) -> list[str]:
        kinds = {
            "lost": self.lost,
            "doubled": self.doubled,
            "differing": self.differing,
            "refused": self.refused,
            "quota": [f"{count} turns ran, not {TEN}" for count in self.begun if count != TEN],
        }
        return [f"{kind}: {words}" for kind, found in kinds.items() for words in found]

    def table(self) -> str:
        """The figures, printed, with row 10 of the acceptance."""
        rows: list[tuple[str, Any]] = [
            ("keys, each sent to every gateway at once", self.keys),
            ("gateway kill -9", self.kills),
            ("requests sent again", self.again),
            ("until all acknowledged a key, p50 and max s", f"{middle(self.waits)} {worst(self.waits)}"),
        ]
        aims = [
            none_of("keys lost", len(self.lost)),
            none_of("keys with two messages", len(self.doubled)),
            none_of("keys answered by different messages", len(self.differing)),
            none_of("keys refused for good", len(self.refused)),
            *(Aim(what=f"of {STARTS} turns begun at once", seen=n, least=TEN, most=TEN) for n in self.begun),
        ]
        return table(rows, 10, aims)


def judge(figures: KeyFigures, sent: Iterable[Sent], states: dict[str, Any]) -> None:
    """Compares what was acknowledged with what is there, by session."""
    for one in sent:
        said = [
            (session, message["timestamp"])
            for session, state in states.items()
            for message in state["messages"]
            if message["sender"] == "user" and message["content"] == f"/echo {one.text}"
        ]
        if len(set(one.answers)) > 1:
            figures.differing.append(f"{one.text}: {sorted(set(one.answers))}")
        if not set(one.answers) <= set(said):
            figures.lost.append(f"{one.text}: {sorted(set(one.answers) - set(said))}")
        if len(said) > 1:
            figures.doubled.append(f"{one.text}: {said}")


class KeyCampaign:
    """One run on gateways that are there, which all are there at its end, too."""

    def __init__(
        self, nodes: Nodes, *, keys: int, kills: int, seconds: float, seed: int = 1, is_key_each: bool = False
    ) -> None:
        self.figures = KeyFigures()
        self._nodes = nodes
        self._keys = keys
        self._kills = kills
        self._seconds = seconds
        self._random = random.Random(seed)
        self._is_key_each = is_key_each
        self._sent: list[Sent] = []
        self._sessions: set[str] = set()
        self._began = time.monotonic()
        self._all_sent = asyncio.Event()

    async def run(self) -> None:
        """Sends all keys, unless the seconds are over before, and judges."""
        key = await self._nodes[0].mint("ann", tenant="keys")
        headers = {"Authorization": f"Bearer {key}"}
        jar, connector = aiohttp.DummyCookieJar(), aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS * crowding())
        async with aiohttp.ClientSession(
            headers=headers, cookie_jar=jar, connector=connector, timeout=timeout
        ) as http:
            async with asyncio.TaskGroup() as tasks:
                lanes = [tasks.create_task(self._lane(http)) for _ in range(LANES)]
                tasks.create_task(self._kill())
                await asyncio.wait(lanes)
                self._all_sent.set()
            states = {session: await self._settled(http, session) for session in sorted(self._sessions)}
        judge(self.figures, self._sent, states)

    @property
    def _are_left(self) -> bool:
        return self.figures.keys < self._keys and time.monotonic() - self._began < self._seconds

    async def _kill(self) -> None:
        """One gateway after the other, spread over the keys."""
        nodes = self._nodes
        every = self._keys / (self._kills + 1)
        while self.figures.kills < self._kills and not self._all_sent.is_set():
            if self.figures.keys < every * (self.figures.kills + 1):
                await asyncio.sleep(0.01)
                continue
            self.figures.kills += 1
            index = self._random.choice(nodes.indexes)
            await nodes.kill(index)
            await asyncio.sleep(self._random.uniform(*DOWN_SECONDS))
            await nodes.start(index)

    # -- people -------------------------------------------------------------------------------------------

    async def _lane(self, http: aiohttp.ClientSession) -> None:
        """Sessions are new to all gateways; the first message of each may come without an id."""
        session, left = "", 0
        while self._are_left:
            if not left:
                session, left = self._random.choice(("", fresh_id("keyed"))), KEYS_OF_A_SESSION
            self.figures.keys += 1
            left -= 1
            one = Sent(fresh_id("said"))
            self._sent.append(one)
            began = time.monotonic()
            asked = (self._said(http, index, session, one) for index in range(len(self._nodes.urls)))
            one.answers = [found for found in await asyncio.gather(*asked) if found is not None]
            self.figures.waits.append(time.monotonic() - began)
            self._sessions |= {found for found, _ in one.answers}
            session = one.answers[0][0] if one.answers else ""

    async def _said(
        self, http: aiohttp.ClientSession, index: int, session: str, one: Sent
    ) -> tuple[str, str] | None:
        """Sends to this gateway, or while it is away to any, until one acknowledges; None if none will."""
        own = f"{one.text}-{index}" if self._is_key_each else one.text
        headers, body = {"Idempotency-Key": own}, {"message": f"/echo {one.text}", "session_id": session}
        if not session:
            del body["session_id"]
        while True:
            url = self._nodes[index].url if index in self._nodes.indexes else self._nodes.any.url
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                answer = await ask(http, "POST", f"{url}/api/chat?wait=10", body, headers=headers)
                if answer.status == 200:
                    return answer.headers["X-Session-Id"], _said_at(answer.body, body["message"])
                if answer.status < 500 and answer.status != 429:
                    self.figures.refused.append(f"{one.text}: {answer.status} {answer.body}")
                    return None
            self.figures.again += 1
            await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))

    async def _settled(self, http: aiohttp.ClientSession, session: str) -> Any:
        """State, when nothing is under way in it."""
        found: dict[str, Any] = {}

        async def is_settled() -> bool:
            answer = await ask(http, "GET", f"{self._nodes.any.url}/api/state?session_id={session}")
            if answer.status != 200:
                return False
            found.update(answer.body)
            return not found["is_processing"]

        await eventually(is_settled, seconds=60)
        return found


def _said_at(state: Any, text: str) -> str:
    """When this was said, by a State that an answer brought; "" if it does not show it."""
    found: list[str] = [one["timestamp"] for one in state["messages"] if one["content"] == text]
    return found[0] if found else ""


async def begun_at_once(nodes: Nodes, message: str) -> int:
    """A hundred turns are begun at once, at all gateways; how many run. `message`: of a turn without an end.
    The others are refused, or wait.
    """
    key = await nodes[0].mint("ann", tenant="ten")
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(nodes[index].caller(key)) for index in nodes.indexes]
        sessions = [fresh_id("start") for _ in range(STARTS)]

        async def started(number: int) -> str:
            """The session, if its turn runs; else nothing."""
            http, body = callers[number % len(callers)], {"session_id": sessions[number], "message": message}
            answer = await ask(http, "POST", "/api/chat", body, headers=_key(number))
            while answer.status == 503:  # the database was too slow for the short lease
                await asyncio.sleep(PAUSE_SECONDS[1])
                answer = await ask(http, "POST", "/api/chat", body, headers=_key(number))
            if answer.status == 200:
                assert answer.body["is_processing"], answer.body
                return sessions[number]
            assert answer.status == 429, answer.body
            return ""

        ran = [name for name in await asyncio.gather(*map(started, range(STARTS))) if name]
        for session in ran:
            await ask(callers[0], "DELETE", f"/api/sessions/{session}")
    return len(ran)


def _key(number: int) -> dict[str, str]:
    return {"Idempotency-Key": f"start-{number}"}


def send_keys(*, nodes: int, keys: int, kills: int, seconds: float, seed: int, is_key_each: bool) -> int:
    """Runs the campaign and prints its figures; exit code 1 if a fault was seen."""

    async def run(directory: pathlib.Path) -> KeyFigures:
        async with running_nodes(directory, nodes, config=CONFIG) as running:
            campaign = KeyCampaign(
                running, keys=keys, kills=kills, seconds=seconds, seed=seed, is_key_each=is_key_each
            )
            campaign.figures.begun.append(await begun_at_once(running, "/count 3000 1000"))
            await campaign.run()
            return campaign.figures

    with tempfile.TemporaryDirectory(prefix="keys-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        figures = asyncio.run(run(directory))
    print("\n".join((figures.table(), "", *figures.faults[:20])))  # noqa: T201 - for a person
    return 1 if figures.faults else 0
