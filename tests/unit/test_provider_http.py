"""The client for providers, to servers and proxies that say what a test wants them to say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.egress import provider_http
from gateway.egress.http_wire import INTERIM, AnswerCut, AnswerMissing
from gateway.egress.lookup import LookupFailed, system_lookup
from gateway.egress.provider_http import (
    ConnectFailed,
    ProviderAnswer,
    ProviderHttp,
    Unsendable,
    destination_of,
)
from gateway.egress.tunnel import connected_to
from tests.certificates import Authority
from tests.patience import soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
KEY = {"Authorization": "Bearer sk-1"}


class Server:
    """Answers each request with the next of `says`; a `None` in it closes the connection."""

    def __init__(self) -> None:
        self.says: list[bytes | None] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.gone = 0
        self.port = 0
        self.greets = b""
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.greets:
                writer.write(self.greets)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                sizes = [line[15:] for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"]
                said = self.says.pop(0) if self.says else b""
                if sizes and said is not None and not said.startswith(b"HTTP/1.1 413"):
                    self.bodies.append(await reader.readexactly(int(sizes[0])))
                if said is None:
                    break
                writer.write(said)
                await writer.drain()
                if self.says[:1] == [None]:
                    break
        self.gone += 1
        writer.close()

    async def speak(self, data: bytes) -> None:
        """Says something that nobody asked for."""
        self._writers[-1].write(data)
        await self._writers[-1].drain()

    async def end(self) -> None:
        for writer in self._writers:
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        await made.end()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[ProviderHttp]:
    made = ProviderHttp()
    yield made
    made.close()


async def asked(
    http: ProviderHttp, url: str, body: bytes | None = b"{}", headers: dict[str, str] = KEY, **more: Any
) -> ProviderAnswer:
    limits = {"connect_seconds": 10.0, "silence_seconds": 10.0} | more
    return await soon(http.ask(destination_of(url), headers, body, **limits), 20)


async def whole(http: ProviderHttp, server: Server, **more: Any) -> bytes:
    answer = await asked(http, f"http://127.0.0.1:{server.port}/v1/x?y=%20", **more)
    try:
        parts = []
        while part := await soon(answer.part(), 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        answer.close()


async def test_one_connection_serves_one_call_after_the_other(http: ProviderHttp, server: Server) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n"
    server.says = [OK, chunked, b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"HTTP/1.1 204 No\r\n\r\n", OK]
    assert [await whole(http, server) for _ in range(3)] == [b"hello"] * 3
    assert await whole(http, server, body=None) == b""
    assert await whole(http, server) == b"hello"
    assert server.connections == http.made == 1
    where = f"HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer sk-1\r\n".encode()
    assert server.heads[0] == b"POST /v1/x?y=%20 " + where + b"Content-Length: 2\r\n\r\n"
    assert server.heads[3] == b"GET /v1/x?y=%20 " + where + b"\r\n"


@pytest.mark.parametrize(
    "said",
    [
        OK + OK.replace(b"200", b"403"),
        OK + b"more",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello" + OK,
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_what_follows_an_answer_is_no_answer(http: ProviderHttp, server: Server, said: bytes) -> None:
    server.says = [said, OK]
    answer = await asked(http, f"http://127.0.0.1:{server.port}/")
    assert (answer.status, await soon(answer.part(), 10)) == (200, b"hello")
    assert await soon(answer.part(), 10) == b""
    answer.close()
    assert await whole(http, server) == b"hello"
    assert server.connections == 2


async def test_what_was_not_asked_for_is_no_answer(http: ProviderHttp, server: Server) -> None:
    server.says = [OK, OK]
    assert await whole(http, server) == b"hello"
    await server.speak(OK.replace(b"hello", b"wrong"))
    while http._idle._idle and next(iter(http._idle._idle.values()))[0].is_open:
        await asyncio.sleep(0)
    assert await whole(http, server) == b"hello"
    assert server.connections == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_used(http: ProviderHttp, server: Server) -> None:
    server.says = [OK, None]
    assert await whole(http, server) == b"hello"
    while server.gone == 0 or next(iter(http._idle._idle.values()))[0].is_open:
        await asyncio.sleep(0)
    server.says = [OK]
    assert await whole(http, server) == b"hello"
    assert len(server.heads) == 2  # nothing was sent twice


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", "cut"),
        (b"HTTP/1.1 2", "cut"),
        (b"SSH-2.0\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "malformed"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * (INTERIM + 1), "cut"),
    ],
)
async def test_no_answer(http: ProviderHttp, server: Server, said: bytes, kind: str) -> None:
    server.says = [said or None, None]
    with pytest.raises(AnswerMissing) as missing:
        await whole(http, server)
    assert missing.value.kind == kind
    assert not http._used
    assert not http._idle._idle


async def test_an_answer_that_ends_early_is_cut(http: ProviderHttp, server: Server) -> None:
    for said in (b"Content-Length: 9\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"):
        server.says = [b"HTTP/1.1 200 OK\r\n" + said, None]
        with pytest.raises(AnswerCut):
            await whole(http, server)
    server.says = [b"HTTP/1.1 200 OK\n\nall there", None]  # as some small servers write it
    assert await whole(http, server) == b"all there"


async def test_silence_ends_a_call_before_and_within_an_answer(http: ProviderHttp, server: Server) -> None:
    with pytest.raises(AnswerMissing) as missing:
        await whole(http, server, silence_seconds=0.05)
    assert missing.value.kind == "silent"
    server.says = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"]
    with pytest.raises(AnswerCut) as cut:
        await whole(http, server, silence_seconds=0.05)
    assert cut.value.kind == "silent"


async def test_an_answer_that_goes_on_is_not_silent(http: ProviderHttp, server: Server) -> None:
    server.says = [b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"]
    answer = await asked(http, f"http://127.0.0.1:{server.port}/", silence_seconds=0.4)
    for _ in range(20):
        await asyncio.sleep(0.03)
        await server.speak(b"x")
        assert await soon(answer.part(), 10) == b"x"
    assert await answer.part() == b""
    answer.close()


async def test_a_large_body_is_left_when_the_answer_is_there(http: ProviderHttp, server: Server) -> None:
    large = bytes(24 * 1024 * 1024)
    server.says = [b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"]
    assert await whole(http, server, body=large) == b"no"
    server.says = [OK]
    assert await whole(http, server, body=large) == b"hello"
    assert server.bodies[-1] == large
    assert server.connections == 2


async def test_cancelling_a_call_ends_its_connection(http: ProviderHttp, server: Server) -> None:
    calling = asyncio.create_task(whole(http, server))
    while not server.heads:
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    while not server.gone:
        await asyncio.sleep(0)
    assert not http._used


async def test_closing_ends_calls_in_flight(http: ProviderHttp, server: Server) -> None:
    calling = asyncio.create_task(whole(http, server))
    while not server.heads:
        await asyncio.sleep(0)
    http.close()
    with pytest.raises(AnswerMissing):
        await calling


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:{}/a\r\nX: 1", KEY),
        ("http://127.0.0.1:{}/a b", KEY),
        ("http://127.0.0.1:{}/", {"x": "1\r\nHost: other"}),
        ("http://127.0.0.1:{}/", {"x": "1\n2"}),
        ("http://127.0.0.1:{}/", {"x\r\ny": "1"}),
        ("http://127.0.0.1:{}/", {"x": "\udc80"}),
        ("http://user:password@127.0.0.1:{}/", KEY),
        ("gopher://127.0.0.1:{}/", KEY),
        ("http://127.0.0.1:999999/", KEY),
    ],
)
async def test_what_is_no_request_is_not_sent(
    http: ProviderHttp, server: Server, url: str, headers: dict[str, str]
) -> None:
    with pytest.raises(Unsendable):
        await asked(http, url.format(server.port), headers=headers)
    assert not server.heads


async def test_a_host_that_cannot_be_reached(http: ProviderHttp) -> None:
    with pytest.raises(ConnectFailed) as failed:
        await asked(http, "http://127.0.0.1:1/")
    assert not failed.value.is_late
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(3):  # the queue is full, and further ones are dropped
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            with pytest.raises(ConnectFailed) as failed:
                await asked(http, f"http://127.0.0.1:{port}/", connect_seconds=0.2)
    assert failed.value.is_late


async def test_the_next_address_is_tried_soon(
    http: ProviderHttp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []

    async def dial(address: str, port: int) -> socket.socket:
        dialled.append(address)
        if address == "127.0.0.3":
            raise OSError("refused")
        if address != "127.0.0.1":
            await asyncio.Event().wait()
        return await connected_to("127.0.0.1", port)

    async def found(_host: str, _port: int) -> list[str]:
        return ["::5", "127.0.0.3", "127.0.0.4", "127.0.0.1", "127.0.0.9"]

    monkeypatch.setattr("gateway.egress.provider_http.connected_to", dial)
    monkeypatch.setattr(system_lookup, "addresses", found)
    monkeypatch.setattr(provider_http, "NEXT_ADDRESS_SECONDS", 0.01)
    server.says = [OK]
    answer = await asked(http, f"http://two.test:{server.port}/")
    answer.close()
    assert dialled[:4] == ["::5", "127.0.0.3", "127.0.0.4", "127.0.0.1"]
    assert server.heads[0].startswith(f"POST / HTTP/1.1\r\nHost: two.test:{server.port}\r\n".encode())


async def test_many_who_connect_at_once_wait_for_one_look_up(
    http: ProviderHttp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    may_answer = asyncio.Event()

    async def found(host: str, _port: int) -> list[str]:
        looked.append(host)
        await may_answer.wait()
        if len(looked) == 1:
            raise LookupFailed("not yet")
        return ["127.0.0.1"]

    async def call() -> int:
        answer = await asked(http, f"http://one.test:{server.port}/")
        answer.close()
        return answer.status

    monkeypatch.setattr(system_lookup, "addresses", found)
    calls = [asyncio.create_task(call()) for _ in range(300)]
    await asyncio.sleep(0)
    calls[0].cancel()
    may_answer.set()
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in failed] == [asyncio.CancelledError] + [ConnectFailed] * 299
    server.says = [OK] * 20
    assert await asyncio.gather(*(call() for _ in range(20))) == [200] * 20
    assert looked == ["one.test"] * 2
    with pytest.raises(ConnectFailed):
        await asked(http, "http://one.test:1/")
    server.says = [OK]
    http._idle.close()
    await call()
    assert looked == ["one.test"] * 3, "after a failure it is looked up again"


# -- TLS and proxies ------------------------------------------------------------------------------------


class Proxy:
    """Lets CONNECT through to `port`, whatever host it names."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[bytes] = []
        self.refuses = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self.refuses:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            else:
                out_reader, out_writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await asyncio.gather(self._copy(reader, out_writer), self._copy(out_reader, writer))
        writer.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()


@pytest.fixture
def authority(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.root_file))
    return made


async def test_tls_names_the_host(http: ProviderHttp, authority: Authority) -> None:
    async with serving(authority.server("127.0.0.1")) as server:
        server.says = [OK, OK]
        for _ in range(2):
            answer = await asked(http, f"https://127.0.0.1:{server.port}/")
            assert await soon(answer.part(), 10) == b"hello"
            answer.close()
        assert server.connections == 1
    async with serving(authority.server("other.test")) as server:
        with pytest.raises(ConnectFailed):
            await asked(http, f"https://127.0.0.1:{server.port}/")
        assert not server.heads


@pytest.mark.parametrize("is_proxy_secure", [False, True])
async def test_tls_goes_through_a_proxy_unread(
    http: ProviderHttp, authority: Authority, *, is_proxy_secure: bool
) -> None:
    async with serving(authority.server("models.test")) as server:
        proxy = Proxy(server.port)
        tls = authority.server("127.0.0.1") if is_proxy_secure else None
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
        scheme = "https" if is_proxy_secure else "http"
        address = f"{scheme}://me:p%40ss@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        server.says = [OK, OK]
        for _ in range(2):
            answer = await asked(http, "https://models.test/v1", proxy=address)
            assert await soon(answer.part(), 10) == b"hello"
            answer.close()
        credentials = base64.b64encode(b"me:p@ss").decode()
        head = "CONNECT models.test:443 HTTP/1.1\r\nHost: models.test:443\r\n"
        assert proxy.heads == [f"{head}Proxy-Authorization: Basic {credentials}\r\n\r\n".encode()]
        assert b"Proxy-" not in b"".join(server.heads)
        proxy.refuses = True
        with pytest.raises(ConnectFailed):
            await asked(http, "https://others.test/v1", proxy=address)
        http.close()
        listening.close()


async def test_a_proxy_gets_plain_requests_whole(http: ProviderHttp, server: Server) -> None:
    server.says = [OK, OK]
    for proxy in (f"http://me:x@127.0.0.1:{server.port}", f"127.0.0.1:{server.port}"):
        answer = await asked(http, "http://models.test/v1?a=b", proxy=proxy)
        answer.close()
    lines = server.heads[0].split(b"\r\n")
    assert lines[:2] == [b"POST http://models.test/v1?a=b HTTP/1.1", b"Host: models.test"]
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:x") in lines
    with pytest.raises(Unsendable):
        await asked(http, "http://models.test/v1", proxy="socks5://127.0.0.1:1")
