"""The clients of the campaign: each tells the history what it sent, what was said to it and every byte it
saw.

They behave as good clients do: a request that got no answer is sent again with the same Idempotency-Key, a
stream that broke is opened again at its cursor, a refusal is waited out. They live longer than any gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import Any, Final

import aiohttp

from tests.history import History, LogReader, canary
from tests.patience import within
from tests.shared import crowding
from worker.agent.offline import answer

TURN_SECONDS: Final = 60.0
"""A turn that takes longer, restarts included, is stuck. For an idle machine, as the next two."""
REQUEST_SECONDS: Final = 15.0
STREAM_SECONDS: Final = 20.0
"""Without a byte for so long, a stream is dead: heartbeats come every ten seconds."""
POLL_SECONDS: Final = (0.03, 0.25)
TURNS: Final = (4, 25)
"""Messages in one session, before its client goes on with a new one."""
QUEUED_SHARE: Final = 0.25
IMPATIENT_SHARE: Final = 0.3
"""Of requests whose client hangs up at once and sends the same again, while the first may be under way."""
IMPATIENT_SECONDS: Final = (0.001, 0.03)
TWICE_SHARE: Final = 0.2
"""Of requests that are sent again although they were acknowledged."""
DROPPED_SHARE: Final = 0.05
"""Of frames after which a follower hangs up by itself."""

Broken = (aiohttp.ClientError, TimeoutError, ConnectionError)


class World:
    """What all clients share: the gateway as it stands, and the history."""

    def __init__(self, *, seed: int) -> None:
        self.history = History()
        self.random = random.Random(seed)
        self._urls: list[str] = []
        self.life = 0
        self.is_stopping = False
        self.acked = asyncio.Event()
        """Set at every acknowledgement: the moment to kill between a turn's acceptance and its worker."""
        self._up = asyncio.Event()
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        await self._http.close()

    @property
    def url(self) -> str:
        """Of a gateway that is up, another each time; of the last one, if none is."""
        return self.random.choice(self._urls)

    def came_up(self, *urls: str) -> None:
        """These gateways are up now, and no others."""
        self._urls = list(urls)
        self.life += 1
        self._up.set()

    def went_down(self) -> None:
        self._up.clear()

    async def until_up(self) -> None:
        await self._up.wait()

    async def pause(self, low: float, high: float) -> None:
        """Thinks for a moment."""
        await asyncio.sleep(self.random.uniform(low, high))

    async def call(
        self, session: str, method: str, path: str, *, seconds: float = REQUEST_SECONDS, **kwargs: Any
    ) -> tuple[int, Any]:
        """One request: status and JSON. Raises `Broken`."""
        patience = crowding() if seconds == REQUEST_SECONDS else 1
        timeout = aiohttp.ClientTimeout(total=seconds * patience)
        life, url = self.life, self.url + path
        try:
            async with self._http.request(method, url, timeout=timeout, **kwargs) as response:
                data = await response.read()
        except TimeoutError:
            if self.life == life and self._up.is_set() and seconds == REQUEST_SECONDS:
                self.history.hung(session, f"{method} {path} had no answer in {seconds:g} s")
            raise
        self.history.saw_bytes(session, data)
        return response.status, json.loads(data) if data else None

    async def status(self, url: str) -> int:
        """What a gateway answers a GET with, at once. Raises `Broken`."""
        async with self._http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status

    def stream(self, session: str, **params: Any) -> Any:
        """An open stream of a session, as a context manager."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=STREAM_SECONDS * crowding())
        params = {"session_id": session, **params}
        return self._http.get(f"{self.url}/api/chat/stream", params=params, timeout=timeout)


class Talker:
    """One person: a session after the other, a message after the other."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self._count = 0

    async def run(self) -> None:
        """Talks until the campaign ends; followers of each session come and go with it."""
        while not self._world.is_stopping:
            self._count += 1
            session = f"p{self._number}.{self._count}"
            over = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                for follower in (EventFollower(self._world, session), StateFollower(self._world, session)):
                    tasks.create_task(follower.run(over), name=f"follow {session}")
                await self._converse(session)
                over.set()

    async def _converse(self, session: str) -> None:
        world = self._world
        for number in range(world.random.randint(*TURNS)):
            text, expected = _message(world.random, number)
            try:
                async with within(TURN_SECONDS):
                    await self._say(session, text, expected)
                    if world.random.random() > QUEUED_SHARE:
                        await self.settle(session)
            except TimeoutError:
                world.history.hung(session, f"nothing came of it in {TURN_SECONDS:g} s: {text:.60}")
            if world.is_stopping:
                break
        with contextlib.suppress(TimeoutError):
            async with within(TURN_SECONDS):
                await self.settle(session)

    async def _say(self, session: str, text: str, expected: str) -> None:
        """Sends until it is acknowledged, always under the same key."""
        world = self._world
        world.history.sent(session, text, expected=expected)
        headers = {"Idempotency-Key": f"{session}/{canary()[7:]}"}
        body = {"message": text, "session_id": session}
        while True:
            await world.until_up()
            life, began = world.life, time.monotonic()
            is_impatient = world.random.random() < IMPATIENT_SHARE
            seconds = world.random.uniform(*IMPATIENT_SECONDS) if is_impatient else REQUEST_SECONDS
            try:
                status, state = await world.call(
                    session, "POST", "/api/chat", seconds=seconds, json=body, headers=headers
                )
            except Broken:
                await world.pause(0, 0.02 if is_impatient else 0.1)
                continue
            if status == 200 and world.random.random() < TWICE_SHARE:
                continue
            if status == 200:
                break
            if status < 500 and status != 429:
                world.history.violated("lost", session, f"{status} {state} to {text:.60}")
            await world.pause(0.1, 0.5)
        world.history.acknowledged(session, text)
        world.acked.set()
        self._saw(session, state, life, began)

    async def settle(self, session: str) -> dict[str, Any]:
        """Polls State until nothing runs and nothing waits; sends what was held."""
        world = self._world
        while True:
            await world.until_up()
            life, began = world.life, time.monotonic()
            try:
                status, state = await world.call(session, "GET", "/api/state", params={"session_id": session})
                if status >= 500:  # refused for now, in words
                    await world.pause(*POLL_SECONDS)
                    continue
                self._saw(session, state, life, began)
                if not state["is_processing"] and not state["queued"]:
                    return dict(state)
                if not state["is_processing"]:
                    path = f"/api/sessions/{session}/queue"
                    await world.call(session, "POST", path, json={"action": "send"})
            except Broken:
                pass
            await world.pause(*POLL_SECONDS)

    def _saw(self, session: str, state: Any, life: int, began: float) -> None:
        now = time.monotonic()
        self._world.history.saw_state(session, state, chain="polls", life=life, began=began, ended=now)


class _Follower:
    """A client with an open stream, which it opens again whenever it breaks."""

    def __init__(self, world: World, session: str) -> None:
        self._world = world
        self.session = session

    async def run(self, over: asyncio.Event) -> None:
        """Follows until it is over."""
        following = asyncio.ensure_future(self._follow())
        waiting = asyncio.ensure_future(over.wait())
        await asyncio.wait([following, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in (following, waiting):
            task.cancel()
        await asyncio.wait([following, waiting])
        if not following.cancelled() and (error := following.exception()) is not None:
            raise error

    async def _follow(self) -> None:
        while True:
            await self._world.until_up()
            with contextlib.suppress(*Broken):
                await self._connection(self._world.life)
            await self._world.pause(0.01, 0.2)

    async def _connection(self, life: int) -> None:
        async with self._world.stream(self.session, **self.params()) as response:
            buffer, tail = b"", b""
            while chunk := await response.content.readany():
                tail = self._world.history.saw_bytes(self.session, chunk, before=tail)
                *frames, buffer = (buffer + chunk).split(b"\n\n")
                for frame in frames:
                    self.take(_fields(frame), life)
                if self._world.random.random() < DROPPED_SHARE:
                    return

    def params(self) -> dict[str, Any]:
        raise NotImplementedError

    def take(self, frame: dict[str, str], life: int) -> None:
        raise NotImplementedError


class EventFollower(_Follower):
    """Follows the log by cursor; `reader` is what it knows."""

    def __init__(self, world: World, session: str) -> None:
        super().__init__(world, session)
        self.reader: LogReader = world.history.reader(session, "follower")

    def params(self) -> dict[str, Any]:
        return {"view": "events", "after": self.reader.cursor}

    def take(self, frame: dict[str, str], life: int) -> None:
        if "id" in frame:
            self.reader.took(frame["event"], int(frame["id"]), json.loads(frame["data"]))


class StateFollower(_Follower):
    """Follows State."""

    def params(self) -> dict[str, Any]:
        return {}

    def take(self, frame: dict[str, str], life: int) -> None:
        if "data" in frame:
            now, state = time.monotonic(), json.loads(frame["data"])
            history, life = self._world.history, self._world.life  # a connection may outlive a gateway
            history.saw_state(self.session, state, chain="stream", life=life, began=now, ended=now)


async def read_log(world: World, session: str, *, upto: int) -> LogReader:
    """A new reader that has read a log from its beginning up to a number."""
    follower = EventFollower(world, session)
    async with world.stream(session, **follower.params()) as response:
        buffer, tail = b"", b""
        while follower.reader.cursor < upto and (chunk := await response.content.readany()):
            tail = world.history.saw_bytes(session, chunk, before=tail)
            *frames, buffer = (buffer + chunk).split(b"\n\n")
            for frame in frames:
                follower.take(_fields(frame), world.life)
    return follower.reader


def _fields(frame: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in frame.decode().split("\n"))
    return {name: value.removeprefix(" ") for name, _, value in lines if name}


def _message(rng: random.Random, number: int) -> tuple[str, str]:
    """A message that is unique in its session, and the whole answer to it."""
    kind = rng.random()
    if kind < 0.1:
        upto = 20 + number
        return f"/count {upto} 5", " ".join(str(n) for n in range(1, upto + 1))
    words = " ".join([canary(), *(f"word{n}" for n in range(rng.choice((1, 8, 60, 400))))])
    if kind < 0.65:
        return f"/echo {words}", words
    text = f"consider {words}"
    return text, answer([{"role": "user", "content": text}])
