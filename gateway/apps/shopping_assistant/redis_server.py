"""A server of Redis or Valkey as the mirror needs it: few commands, each whole or not at all, none waited for
long.

Guarantees: whatever is wrong with it is a `RedisFailed` in words without its password; no call takes longer
than some seconds. The library is imported when it is first called, in a thread: it takes long to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from gateway.apps.shopping_assistant.settings import RedisConfig
from gateway.config.tables import Config

ANSWER_SECONDS: Final = 2.0
"""A server that is silent for longer than this is as good as none."""
CALL_SECONDS: Final = 10.0
"""Many commands at once, and the way to a server that must first be looked up and connected to."""
CONNECTIONS: Final = 2
"""A call waits for one: that of a call that was cancelled is there again only when it is closed."""
INSTALL: Final = "pip install 'agent-gateway[redis]'"
NOEVICTION: Final = "noeviction"


class RedisFailed(Exception):
    """The server cannot be reached, or refuses. The text has no password."""


class ServerRefusal(Struct, frozen=True):
    """The server's answer to one of several commands, if it is no."""

    words: str


class ServerFacts(Struct, frozen=True):
    """What a server says of itself; empty if it does not say."""

    version: str
    policy: str


class Script(Struct, frozen=True):
    """A Lua script with what it is called with."""

    text: str
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]


class RedisServer:
    """See the module."""

    def __init__(self, url: str) -> None:
        """`url` has one of the schemes that the settings allow."""
        self._url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
        self._library: Any = None
        self._client: Any = None
        self._calls: set[asyncio.Future[Any]] = set()
        """Those under way."""

    async def look(self) -> ServerFacts:
        """Asks what it is, and so whether it is there. Raises RedisFailed."""
        await self._call(lambda client: client.ping())
        with contextlib.suppress(RedisFailed):  # who may not ask that may still write
            told = await self._call(lambda client: client.info())
            version = told.get("valkey_version") or told.get("redis_version") or ""
            return ServerFacts(str(version), str(told.get("maxmemory_policy") or ""))
        return ServerFacts("", "")

    async def run(self, scripts: Sequence[Script]) -> list[int | ServerRefusal]:
        """Runs scripts in one round trip: what each returned. Raises RedisFailed."""

        async def sent(client: Any) -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                for one in scripts:
                    pipeline.eval(one.text, len(one.keys), *one.keys, *one.arguments)
                found: list[Any] = await pipeline.execute(raise_on_error=False)
                return found

        answers = await self._call(sent)
        return [ServerRefusal(self._said(one)) if isinstance(one, Exception) else int(one) for one in answers]

    async def length(self, key: str) -> int:
        """How long a list is. Raises RedisFailed."""
        return int(await self._call(lambda client: client.llen(key)))

    async def close(self) -> None:
        """Lets go of the connections."""
        if self._client is not None:
            with contextlib.suppress(RedisFailed):
                await self._call(lambda client: client.aclose())

    async def _call(self, act: Any) -> Any:
        """Calls the library in a task of its own: with Python 3.11, a cancellation inside of it may get lost
        (its `asyncio.wait_for`), and who waits here is to be ended whenever that is asked for.
        """
        calling = asyncio.ensure_future(self._acted(act))
        self._calls.add(calling)
        calling.add_done_callback(self._done)
        try:
            done, _ = await asyncio.wait([calling], timeout=CALL_SECONDS)
        except asyncio.CancelledError:
            calling.cancel()
            raise
        if not done:
            calling.cancel()
            raise RedisFailed("it does not answer")
        return calling.result()

    def _done(self, calling: asyncio.Future[Any]) -> None:
        self._calls.discard(calling)
        if not calling.cancelled():
            calling.exception()  # which nobody may be there to hear

    async def _acted(self, act: Any) -> Any:
        try:
            return await act(await self._opened())
        except TimeoutError:
            raise RedisFailed("it does not answer") from None
        except RedisFailed:
            raise
        except Exception as error:  # the library's, the sockets', TLS's: none of them is the gateway's affair
            raise RedisFailed(self._said(error)) from None

    async def _opened(self) -> Any:
        if self._client is None:
            try:
                self._library = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
            except ModuleNotFoundError:
                raise RedisFailed(f"for Redis: {INSTALL}") from None
            self._client = self._made()
        return self._client

    def _made(self) -> Any:
        retries = importlib.import_module("redis.asyncio.retry")
        backoff = importlib.import_module("redis.backoff")
        try:
            pool = self._library.BlockingConnectionPool.from_url(
                self._url,
                protocol=2,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                max_connections=CONNECTIONS,
                timeout=ANSWER_SECONDS,
                retry=retries.Retry(backoff.NoBackoff(), 0),
            )
            return self._library.Redis.from_pool(pool)
        except ValueError:
            raise RedisFailed(
                "its URL cannot be read; what is special in a password (/ @ : # ? %) is written as %XX"
            ) from None

    def _said(self, error: Exception) -> str:
        """An error in words; whatever a server or a library repeats, the password is not among them."""
        words = " ".join(str(error).split()) or type(error).__name__
        with contextlib.suppress(ValueError):
            password = urlsplit(self._url).password or ""
            for secret in {password, unquote(password)} - {""}:
                words = words.replace(secret, "…")
        return words[:300]


async def examine(config: Config) -> list[tuple[bool, str]]:
    """For `agent-gateway doctor`: whether the mirror's server answers, and what it does if it is full."""
    redis = config.of(RedisConfig)
    if redis.mirror == "none":
        return []
    server = RedisServer(redis.url)
    try:
        found = await server.look()
    except RedisFailed as error:
        return [(False, f"Redis: {error}")]
    finally:
        await server.close()
    what = f"Redis answers: version {found.version or 'unknown'}"
    if found.policy in ("", NOEVICTION):
        return [(True, what)]
    return [(True, what), (False, f"Redis: maxmemory-policy is {found.policy} and should be {NOEVICTION}")]
