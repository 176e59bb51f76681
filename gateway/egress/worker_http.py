"""HTTP and WebSockets to a server that an agent has started in its worker (`workers.ports`).

One client for all workers: connections are kept by worker and port, and end with the worker. Nothing is
decompressed, no redirect is followed, no cookie is kept: what comes is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
from yarl import URL

from gateway.egress.interim import BoundedHandler
from gateway.workers import ports
from gateway.workers.forks import ForkWorker
from gateway.workers.ports import PortClosed

ANSWER_SECONDS: Final = 120.0
"""To the head of an answer; its body, such as a stream of events, may take as long as it likes."""
KEPT: Final = 32
"""Connections to one port of one worker."""
HEAD_BYTES: Final = 32 * 1024
MESSAGE_BYTES: Final = 1024 * 1024


class WorkerSilent(Exception):
    """The server in the worker did not answer as HTTP says; the text says why."""


class WorkerAnswer:
    """The head of an answer, and its body as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = answer.raw_headers

    async def parts(self) -> AsyncIterator[bytes]:
        """The body. Raises WorkerSilent if it ends early."""
        try:
            async for part in self._answer.content.iter_any():
                yield part
        except (aiohttp.ClientError, OSError) as error:
            raise WorkerSilent("The answer ended early.") from error


class WorkerSocket:
    """A WebSocket that is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.protocol = socket.protocol

    @property
    def close_code(self) -> int | None:
        """That of its end, once it has one."""
        return self._socket.close_code

    async def send(self, message: str | bytes) -> None:
        """Sends text or bytes. Raises WorkerSilent if it has ended."""
        try:
            if isinstance(message, str):
                await self._socket.send_str(message)
            else:
                await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise WorkerSilent("The WebSocket has ended.") from error

    async def messages(self) -> AsyncIterator[str | bytes]:
        """What comes, until its end."""
        async for message in self._socket:
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                yield message.data


class _Connector(aiohttp.BaseConnector):
    """Connects to the worker that a URL's host names."""

    def __init__(self) -> None:
        super().__init__(limit=0, limit_per_host=KEPT)
        self._made = functools.partial(BoundedHandler, loop=self._loop)
        self.workers: weakref.WeakValueDictionary[str, ForkWorker] = weakref.WeakValueDictionary()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, _traces: Any, _timeout: Any
    ) -> aiohttp.client_proto.ResponseHandler:
        worker = self.workers.get(req.url.host or "")
        if worker is None or req.url.port is None:
            raise PortClosed
        made = await ports.connect(worker, req.url.port)
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(self._made, sock=made)
        except BaseException:
            made.close()
            raise
        return protocol


class WorkerHttp:
    """See the module. `close` it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None
        self._names: weakref.WeakKeyDictionary[ForkWorker, str] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _session_for(self, worker: ForkWorker, port: int, target: str) -> tuple[aiohttp.ClientSession, URL]:
        """The session is made when it is first used: on the loop."""
        if self._session is None or self._connector is None:
            self._connector = _Connector()
            self._session = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=HEAD_BYTES,
                max_field_size=HEAD_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=ports.CONNECT_SECONDS),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        name = self._names.setdefault(worker, f"worker-{next(self._numbers)}")
        self._connector.workers[name] = worker
        return self._session, URL(f"http://{name}:{port}{target}", encoded=True)

    @contextlib.asynccontextmanager
    async def asked(
        self,
        worker: ForkWorker,
        port: int,
        *,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: AsyncIterator[bytes] | None,
    ) -> AsyncIterator[WorkerAnswer]:
        """An answer whose body is still to be read. `target` is path and query as they came. Raises
        PortClosed, WorkerSilent.
        """
        session, url = self._session_for(worker, port, target)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await session.request(method, url, headers=headers, data=body, allow_redirects=False)
        except TimeoutError:
            raise WorkerSilent(f"Nothing came from port {port} within {ANSWER_SECONDS:g} seconds.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WorkerSilent(f"Port {port} did not answer as HTTP does: {error}.") from error
        if not 200 <= answer.status <= 599:  # 101 above all: a proxy in front would let the caller through
            answer.close()
            raise WorkerSilent(f"Port {port} answered with the status {answer.status}.")
        try:
            yield WorkerAnswer(answer)
        finally:
            answer.close()

    @contextlib.asynccontextmanager
    async def socket(
        self, worker: ForkWorker, port: int, *, target: str, headers: Mapping[str, str], protocols: list[str]
    ) -> AsyncIterator[WorkerSocket]:
        """A WebSocket. Raises PortClosed, WorkerSilent."""
        session, url = self._session_for(worker, port, target)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                socket = await session.ws_connect(
                    url,
                    headers=headers,
                    protocols=protocols,
                    max_msg_size=MESSAGE_BYTES,
                    autoping=True,
                    compress=0,
                )
        except TimeoutError:
            raise WorkerSilent(f"Nothing came from port {port} within {ANSWER_SECONDS:g} seconds.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WorkerSilent(f"Port {port} opened no WebSocket: {error}.") from error
        try:
            yield WorkerSocket(socket)
        finally:
            await socket.close()
