"""The campaign of restarts that nobody notices: several gateways on one PostgreSQL behind a balancer that
asks /readyz; one after the other is stopped by SIGTERM and started again, while people talk to them all the
time and read what is answered. Then it is counted what anybody noticed: a refusal, a turn that ended early,
an answer that was lost or came twice, a gap.

`python -m tests.torture.cluster --rolling` is the long form. `--without-heirs` proves that the counting sees
something: there a gateway that is stopped gives nothing to the others, and cuts its turns after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from msgspec import Struct, field

from tests.aims import none_of, table
from tests.balancer import Balancer
from tests.nodes import PATIENT, Nodes, running_nodes
from tests.shared import crowding, fresh_id
from tests.streams import StreamReader, open_stream
from tests.torture.campaign import middle, worst

LOOK_SECONDS: Final = 0.1
"""How often the balancer asks each gateway."""
NUMBERS: Final = 30
"""That an answer counts to."""
BETWEEN_SECONDS: Final = 1.0
"""From the moment in which all are up to the next stop."""
QUICK_SECONDS: Final = 0.2
"""Between an answer to a quick message and the next one."""
TURN_SECONDS: Final = 90.0
"""In which a turn must have come to its end, where nothing else runs."""
CONFIG: Final = """
[applications]
enabled = []
[limits]
address_requests_per_second = 1000000
address_burst = 1000000
"""
WITHOUT_HEIRS: Final = """
import gateway.server.leaving as leaving
async def leave(gateway, hurrying):
    return False
leaving.leave = leave
"""
"""What a gateway that gives nothing away begins with."""


def without_heirs(directory: pathlib.Path) -> dict[str, str]:
    """The environment of gateways that give nothing away when they are stopped."""
    (directory / "sitecustomize.py").write_text(WITHOUT_HEIRS)
    return {"PYTHONPATH": str(directory), "AGENT_GATEWAY_SERVER_DRAIN_SECONDS": "1"}


class Noticed(Struct):
    """What people noticed, and how much they did."""

    turns: int = 0
    echoes: int = 0
    refused: list[str] = field(default_factory=list)
    """Requests that were answered with an error."""
    broken: list[str] = field(default_factory=list)
    """Requests that were not answered."""
    ended: list[str] = field(default_factory=list)
    """Turns that ended before their end."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    cuts: int = 0
    """Streams that ended and were opened again at their cursor."""
    cuts_without_end: list[str] = field(default_factory=list)
    """Those that ended although no gateway had."""
    waits: list[float] = field(default_factory=list)
    """Of requests for their answer."""
    stops: list[float] = field(default_factory=list)
    """From SIGTERM to the end of a gateway."""
    exit_codes: list[int] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that nobody shall notice."""
        kinds = {
            "refused": self.refused,
            "broken": self.broken,
            "ended": self.ended,
            "lost": self.lost,
            "doubled": self.doubled,
            "gap": self.gaps,
            "stream cut": self.cuts_without_end,
        }
        return [f"{kind}: {words}" for kind, found in kinds.items() for words in found]

    def table(self) -> str:
        """The figures, printed, with row 7 of the acceptance."""
        rows: list[tuple[str, Any]] = [
            ("gateways stopped and started", len(self.stops)),
            ("from SIGTERM to the end, p50 and max s", f"{middle(self.stops)} {worst(self.stops)}"),
            ("exit codes", self.exit_codes),
            ("turns of some seconds", self.turns),
            ("quick messages", self.echoes),
            ("requests refused", len(self.refused)),
            ("requests not answered", len(self.broken)),
            ("turns ended early", len(self.ended)),
            ("answers lost", len(self.lost)),
            ("answers doubled", len(self.doubled)),
            ("gaps", len(self.gaps)),
            ("streams opened again after a gateway's end", self.cuts),
            ("streams cut although none had ended", len(self.cuts_without_end)),
            ("longest wait for an answer, p50 and max s", f"{middle(self.waits)} {worst(self.waits)}"),
        ]
        aims = [
            none_of("requests refused or not answered", len(self.refused) + len(self.broken)),
            none_of("turns ended early", len(self.ended)),
            none_of("answers lost, or gaps", len(self.lost) + len(self.gaps)),
            none_of("answers doubled", len(self.doubled)),
            none_of("streams cut although no gateway had ended", len(self.cuts_without_end)),
        ]
        return table(rows, 7, aims)


class Checked:
    """The gateways that a balancer may use: those that said so when they were asked last."""

    def __init__(self) -> None:
        self.urls: set[str] = set()
        """All that are asked."""
        self.ready: list[str] = []

    async def run(self) -> None:
        """For ever."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            while True:
                asked = sorted(self.urls)
                found = await asyncio.gather(*(_is_ready(http, url) for url in asked))
                self.ready = [url for url, is_ready in zip(asked, found, strict=True) if is_ready]
                await asyncio.sleep(LOOK_SECONDS)

    async def until_ready(self, url: str) -> None:
        while url not in self.ready:
            await asyncio.sleep(LOOK_SECONDS)


async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with http.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=10)) as answer:
            return answer.status == 200
    return False


class Rolling:
    """One run. `run` returns when every answer is counted; `noticed` says how it went."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        nodes: int = 3,
        rounds: int,
        talkers: int,
        turn_seconds: float,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.noticed = Noticed()
        self._directory = directory
        self._count = nodes
        self._rounds = rounds
        self._talkers = talkers
        self._pause_ms = round(1000 * turn_seconds / NUMBERS)
        self._environ = {**PATIENT, "AGENT_GATEWAY_CLUSTER_LEAVE_SECONDS": "2", **(environ or {})}
        self._checked = Checked()
        self._is_stopping = False
        self._stopping = set[str]()

    async def run(self) -> None:
        """Restarts each gateway so many times, then lets everybody come to an end."""
        starting = running_nodes(self._directory, self._count, config=CONFIG, environ=self._environ)
        async with starting as nodes, self._front() as url, asyncio.TaskGroup() as tasks:
            self._checked.urls = {nodes[index].url for index in nodes.indexes}
            for index in nodes.indexes:
                await self._checked.until_ready(nodes[index].url)
            for number in range(self._talkers):
                tasks.create_task(self._talk(url, f"t{number}-{fresh_id()}"), name=f"talker {number}")
                tasks.create_task(self._echo(url, f"e{number}-{fresh_id()}"), name=f"quick {number}")
            for _ in range(self._rounds):
                for index in range(self._count):
                    await asyncio.sleep(BETWEEN_SECONDS)
                    await self._restart(nodes, index)
            self._is_stopping = True

    @contextlib.asynccontextmanager
    async def _front(self) -> AsyncIterator[str]:
        """The balancer."""
        asking = asyncio.create_task(self._checked.run(), name="balancer's checks")
        balancer = Balancer(lambda: self._checked.ready)
        server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await balancer.close()
            asking.cancel()
            await asyncio.wait([asking])

    async def _restart(self, nodes: Nodes, index: int) -> None:
        url, began = nodes[index].url, time.monotonic()
        self._stopping = {url}
        self.noticed.exit_codes.append(await nodes.stop(index))
        self.noticed.stops.append(time.monotonic() - began)
        self._checked.urls.discard(url)
        new = await nodes.start(index)
        self._checked.urls.add(new.url)
        await self._checked.until_ready(new.url)
        self._stopping = set()

    # -- people -------------------------------------------------------------------------------------------

    async def _talk(self, url: str, session: str) -> None:
        """A turn of some seconds after the other, and somebody who reads."""
        said = 0
        reader = _Reader(self, url, session)
        async with _people(url) as http:
            reading = asyncio.create_task(reader.run(), name=f"reader {session}")
            while not self._is_stopping:
                said += 1
                await self._post(http, session, f"/count {NUMBERS} {self._pause_ms}", wait=0)
                self.noticed.turns += 1
                if not await reader.has_ended(said):
                    break
            reading.cancel()
            await asyncio.wait([reading])
            counted = " ".join(map(str, range(1, NUMBERS + 1)))
            await self._check(http, session, [counted] * said)

    async def _echo(self, url: str, session: str) -> None:
        """A quick message after the other; each is answered when its turn has ended."""
        said: list[str] = []
        async with _people(url) as http:
            while not self._is_stopping:
                said.append(f"{session} {len(said)}")
                await self._post(http, session, f"/echo {said[-1]}", wait=60)
                self.noticed.echoes += 1
                await asyncio.sleep(QUICK_SECONDS)
            await self._check(http, session, said)

    async def _post(self, http: aiohttp.ClientSession, session: str, text: str, *, wait: int) -> None:
        """Sends under one key until it is taken."""
        headers, body = {"Idempotency-Key": fresh_id()}, {"message": text, "session_id": session}
        await self._asked(http, "POST", f"/api/chat?wait={wait}", json=body, headers=headers)

    async def _asked(self, http: aiohttp.ClientSession, method: str, path: str, **kwargs: Any) -> Any:
        """What is answered at last; whatever else came before is noticed."""
        while True:
            began = time.monotonic()
            try:
                async with http.request(method, path, **kwargs) as answer:
                    words = await answer.text()
            except (aiohttp.ClientError, OSError) as error:
                self.noticed.broken.append(f"{method} {path}: {error!r}")
            else:
                self.noticed.waits.append(time.monotonic() - began)
                if answer.status == 200:
                    return json.loads(words)
                self.noticed.refused.append(f"{method} {path}: {answer.status} {words[:200]}")
            await asyncio.sleep(0.2)

    async def _check(self, http: aiohttp.ClientSession, session: str, answers: list[str]) -> None:
        """Whether exactly this was answered."""
        state = await self._asked(http, "GET", "/api/state", params={"session_id": session})
        said = [one["content"] for one in state["messages"] if one["sender"] == "agent"]
        if len(said) > len(answers):
            self.noticed.doubled.append(f"{session}: {len(said)} answers to {len(answers)} messages")
        elif said != answers:
            self.noticed.lost.append(f"{session}: {[one[:60] for one in said][-3:]}")

    @property
    def stopping(self) -> set[str]:
        """The gateway that is about to end: only it may close the stream of somebody who reads."""
        return self._stopping


class _Reader:
    """Follows a session by cursor, over as many connections as it takes."""

    def __init__(self, rolling: Rolling, url: str, session: str) -> None:
        self._rolling = rolling
        self._url = url
        self._session = session
        self._cursor = 0
        self._texts: list[str] = []
        self._ended = 0
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        noticed = self._rolling.noticed
        async with _people(self._url) as http:
            while True:
                before = self._rolling.stopping
                with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError):
                    async with open_stream(http, self._session, after=self._cursor) as stream:
                        await self._follow(stream)
                noticed.cuts += 1
                if not before | self._rolling.stopping:
                    noticed.cuts_without_end.append(self._session)

    async def _follow(self, stream: StreamReader) -> None:
        noticed = self._rolling.noticed
        while (frame := await stream.next()) is not None:
            if frame.event == "resync" and self._cursor:
                noticed.gaps.append(f"{self._session}: after {self._cursor}")
            if frame.id is None:
                continue
            if int(frame.id) <= self._cursor:
                noticed.doubled.append(f"{self._session}: event {frame.id} after {self._cursor}")
            self._cursor = int(frame.id)
            if frame.event == "text_delta":
                self._texts.append(frame.data["text"])
            elif frame.event == "turn_interrupted":
                noticed.ended.append(f"{self._session}: {frame.data}")
            if frame.event in ("turn_ended", "turn_interrupted"):
                self._check_text()
                self._ended += 1
                self._news.set()

    def _check_text(self) -> None:
        text, self._texts = "".join(self._texts), []
        if text != " ".join(map(str, range(1, NUMBERS + 1))):
            self._rolling.noticed.gaps.append(f"{self._session}: read {text!r}")

    async def has_ended(self, count: int) -> bool:
        """Whether so many turns have ended in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS * crowding()):
                while self._ended < count:
                    self._news.clear()
                    await self._news.wait()
            return True
        self._rolling.noticed.lost.append(f"{self._session}: turn {count} had no end")
        return False


def _people(url: str) -> aiohttp.ClientSession:
    """A client with a connection for each request."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120 * crowding())
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(force_close=True), timeout=timeout)


def roll(*, nodes: int, rounds: int, talkers: int, is_without_heirs: bool) -> int:
    """Runs a campaign and prints its figures; exit code 1 if anybody noticed anything."""
    with tempfile.TemporaryDirectory(prefix="rolling-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        environ = without_heirs(directory) if is_without_heirs else {}
        rolling = Rolling(
            directory, nodes=nodes, rounds=rounds, talkers=talkers, turn_seconds=5, environ=environ
        )
        asyncio.run(rolling.run())
        lines = [line for path in directory.glob("*/gateway.log") for line in path.read_text().splitlines()]
    complaints = [line for line in lines if re.search(r"Traceback|ERROR|CRITICAL", line)]
    noticed = rolling.noticed
    last = f"complaints in the logs: {len(complaints)}", *complaints[-10:]
    print("\n".join((noticed.table(), "", *noticed.faults[:20], *last)))  # noqa: T201 - for a person
    return 1 if noticed.faults else 0
