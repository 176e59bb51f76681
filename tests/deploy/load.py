"""People at work while a gateway is restarted or replaced: what they lost, and how long they waited."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp

from tests.patience import within

PEOPLE: Final = 8
RETRY_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 30.0


class People:
    """Each says one word after the other in a session of their own, tries again with the same Idempotency-Key
    until it is taken, and waits for the whole answer.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl: Any = True,
        name: str = "p",
        key: str | None = None,
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
    ) -> None:
        """`name`: what their sessions' ids begin with. `key`: the API key that all of them show. `connector`:
        makes each one's connections.
        """
        self.url = url
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._connector = connector or (lambda: aiohttp.TCPConnector(force_close=True, ssl=ssl))
        self.answered: dict[str, list[str]] = {f"{name}{number}": [] for number in range(PEOPLE)}
        self.trouble: Counter[str] = Counter()
        """What they met, by name: refused connections, answers that say to come again."""
        self.waits: list[float] = []
        """Seconds between the first try of a message and its acknowledgement."""

    async def _person(self, session_id: str) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        async with aiohttp.ClientSession(
            self.url, timeout=timeout, connector=self._connector(), headers=self._headers
        ) as http:
            for number in itertools.count():
                word = f"{session_id}-word-{number}"
                began = time.monotonic()
                await self._taken(http, session_id, word)
                self.waits.append(time.monotonic() - began)
                await self._answered(http, session_id, word)
                self.answered[session_id].append(word)

    async def _taken(self, http: aiohttp.ClientSession, session_id: str, word: str) -> None:
        body = {"session_id": session_id, "message": f"/echo {word}"}
        while True:
            try:
                async with http.post("/api/chat", json=body, headers={"Idempotency-Key": word}) as response:
                    if response.status == 200:
                        return
                    self.trouble[f"status {response.status}"] += 1
            except aiohttp.ClientError as error:
                self.trouble[type(error).__name__] += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _answered(self, http: aiohttp.ClientSession, session_id: str, word: str) -> None:
        """A turn that a restart cut ends with words of its own; that is an answer, too."""
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get("/api/state", params={"session_id": session_id}) as response:
                    if response.status == 200 and _is_over(await response.json(), word):
                        return
            await asyncio.sleep(RETRY_SECONDS)

    async def check(self, http: aiohttp.ClientSession) -> int:
        """Every word that was answered is there once, in order; how many words that were."""
        for session_id, words in self.answered.items():
            async with http.get("/api/state", params={"session_id": session_id}) as response:
                messages = (await response.json())["messages"]
            said = [m["content"].removeprefix("/echo ") for m in messages if m["sender"] == "user"]
            assert said[: len(words)] == words, f"{session_id}: lost, doubled or out of order"
        return sum(len(words) for words in self.answered.values())

    @property
    def words(self) -> int:
        return sum(len(words) for words in self.answered.values())

    async def until(self, words: int) -> None:
        """Returns when so many more words were answered."""
        wanted = self.words + words
        async with within(PATIENCE_SECONDS):
            while self.words < wanted:
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """They talk until the block ends."""
        tasks = [asyncio.create_task(self._person(name), name=name) for name in self.answered]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


def _is_over(state: Any, word: str) -> bool:
    said = [message["content"] for message in state["messages"] if message["sender"] == "user"]
    return f"/echo {word}" in said and not state["is_processing"]
