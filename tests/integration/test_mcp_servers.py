"""The gateway's own MCP client, against real servers on loopback: which addresses it calls, whom it trusts,
what it survives.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import pathlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
from aiohttp import web

from gateway.egress import caller as calling
from gateway.egress.addresses import AddressRules
from gateway.egress.caller import (
    CALLS_OF_ALL,
    CALLS_OF_OWNER,
    CALLS_OF_SESSION,
    CallFailed,
    CallRefused,
    HttpCaller,
)
from gateway.egress.lookup import LOOKUPS, Lookup, system_addresses
from gateway.egress.mcp_client import McpClient
from tests.certificates import Authority
from tests.mcp_servers import OddServer, answered, odd_server, sdk_server
from tests.shared import crowding, free_port
from tests.unit.test_egress_addresses import NEVER, PRIVATE

pytestmark = pytest.mark.usefixtures("no_task_of_the_client_is_left")
QUICK_SECONDS: Final = 0.5
Route = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


def client_of(
    *private_hosts: str,
    resolve: Callable[[str, int], list[str]] = system_addresses,
    own_url: str = "",
    seconds: float = 10,
) -> McpClient:
    return McpClient(
        HttpCaller(
            AddressRules(
                private_hosts=lambda: private_hosts, own_url=lambda: own_url, lookup=Lookup(resolve)
            ),
            seconds=seconds,
        )
    )


async def list_tools(client: McpClient, url: str, session: str = "s", owner: str = "o") -> Any:
    return await client.ask(url, "tools/list", {}, session=session, owner=owner)


@pytest.fixture
async def no_task_of_the_client_is_left() -> AsyncIterator[None]:
    """The servers have tasks too, which end a moment after them."""
    yield
    coroutines = [task.get_coro() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    files = [pathlib.Path(coroutine.cr_code.co_filename).name for coroutine in coroutines]  # type: ignore[union-attr]
    assert set(files) <= {"web_protocol.py", "sse.py"}


@pytest.fixture
async def server() -> AsyncIterator[OddServer]:
    async with odd_server() as running:
        yield running


# -- asking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_plain_json", [True, False])
async def test_a_server_of_the_official_sdk_is_asked(is_plain_json: bool) -> None:
    client = client_of("localhost")
    async with sdk_server(is_plain_json=is_plain_json) as port:
        url = f"http://localhost:{port}/mcp"
        tools = await list_tools(client, url)
        assert [tool["name"] for tool in tools["tools"]] == ["add", "fail"]
        added = await client.ask(
            url, "tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}}, session="s", owner="o"
        )
        assert added["content"][0]["text"] == "5"
        with pytest.raises(CallFailed, match="refused no/such"):
            await client.ask(url, "no/such", {}, session="s", owner="o")


async def test_a_session_with_a_server_is_ended_and_its_version_is_spoken(server: OddServer) -> None:
    async def opens(_request: web.Request, message: Any) -> web.StreamResponse:
        if message.get("method") != "initialize":
            return answered(message)
        result = {"protocolVersion": "2025-03-26"}
        return web.json_response({"id": 1, "result": result}, headers={"Mcp-Session-Id": "its-own"})

    server.routes["/mcp"] = opens
    await list_tools(client_of("localhost"), server.url())
    assert [request.method for request in server.requests] == ["POST", "POST", "POST", "DELETE"]
    assert [request.headers.get("Mcp-Session-Id") for request in server.requests] == [None, *["its-own"] * 3]
    assert {request.headers["MCP-Protocol-Version"] for request in server.requests[1:]} == {"2025-03-26"}
    assert "Cookie" not in server.requests[-1].headers


async def test_a_path_and_a_query_with_other_letters_arrive(server: OddServer) -> None:
    await list_tools(client_of("localhost"), server.url("/café/ß?q=é ü".replace(" ", "%20")))
    assert {request.path_qs for request in server.requests} == {"/caf%C3%A9/%C3%9F?q=%C3%A9%20%C3%BC"}


async def test_a_name_with_other_letters_is_looked_up_in_ascii(server: OddServer) -> None:
    asked = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    await list_tools(client_of("xn--bcher-kva.test", resolve=resolve), server.url(host="Bücher.test."))
    assert asked == ["xn--bcher-kva.test"]
    assert server.requests[0].host == f"xn--bcher-kva.test:{server.port}"


async def test_an_event_stream_is_left_when_the_answer_has_come(server: OddServer) -> None:
    async def stream(request: web.Request, message: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "Text/Event-Stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(b"id: 0\nretry: 10\ndata:\n\n")  # how servers begin what can be resumed
        await response.write(b'data: {"jsonrpc":"2.0","id":"r1","method":"ping"}\n\n')
        if "id" in message:
            await response.write(b'data: {"id":%d,"result":{"tools":[1]}}\n\n' % message["id"])
        await asyncio.sleep(60)
        return response

    server.routes["/mcp"] = stream
    began = time.monotonic()
    assert await list_tools(client_of("localhost"), server.url()) == {"tools": [1]}
    assert time.monotonic() - began < 5 * crowding()


# -- redirects --------------------------------------------------------------------------------------------


def leads(status: int, to: str) -> Route:
    async def route(_request: web.Request, _message: Any) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    return route


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_that_keeps_the_method_is_followed(server: OddServer, status: int) -> None:
    server.routes |= {"/a": leads(status, "/b"), "/b": leads(status, "c?x=é"), "/c": plainly}
    assert await list_tools(client_of("localhost"), server.url("/a")) == {"tools": []}
    assert [message["method"] for message in server.messages[:3]] == ["initialize"] * 3
    assert [request.path for request in server.requests].count("/a") == 1, "the rest goes where it led"


async def plainly(_request: web.Request, message: Any) -> web.StreamResponse:
    return answered(message)


async def test_redirects_without_an_end_are_given_up(server: OddServer) -> None:
    server.routes["/a"] = leads(307, "/a")
    with pytest.raises(CallFailed, match="without an end"):
        await list_tools(client_of("localhost"), server.url("/a"))
    assert len(server.requests) == 1 + calling.REDIRECTS


@pytest.mark.parametrize(
    "to",
    ["http://169.254.169.254/latest", "http://127.0.0.1/", "//10.0.0.1/", "http://[::ffff:7f00:1]/",
     "file:///etc/passwd", "http://u:p@localhost/", "http://2852039166/", "gopher://x/"],
)  # fmt: skip
async def test_a_redirect_leads_nowhere_that_may_not_be_called(server: OddServer, to: str) -> None:
    server.routes["/a"] = leads(307, to)
    with pytest.raises(CallRefused):
        await list_tools(client_of("localhost"), server.url("/a"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_would_lose_the_question_is_a_failure(server: OddServer, status: int) -> None:
    server.routes["/a"] = leads(status, "/mcp")
    with pytest.raises(CallFailed, match=f"answered {status}"):
        await list_tools(client_of("localhost"), server.url("/a"))


async def test_another_origin_does_not_get_the_sessions_name(server: OddServer) -> None:
    async with odd_server() as other:

        async def moves(_request: web.Request, message: Any) -> web.StreamResponse:
            if message.get("method") == "tools/list":
                return web.Response(status=307, headers={"Location": other.url("/elsewhere")})
            return answered(message, **{"Mcp-Session-Id": "its-own"})

        server.routes["/mcp"] = moves
        await list_tools(client_of("localhost"), server.url())
        assert server.requests[2].headers["Mcp-Session-Id"] == "its-own"
        assert "Mcp-Session-Id" not in other.requests[0].headers


# -- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_leads_to_a_private_address_is_not_called(address: str) -> None:
    client = client_of(resolve=lambda _host, _port: ["8.8.8.8", address])
    with pytest.raises(CallRefused) as refused:
        await list_tools(client, "http://tools.example:1/mcp")
    assert '[egress] private_hosts = ["tools.example"]' in str(refused.value)
    assert address not in str(refused.value), "who asks does not learn what lies where"


@pytest.mark.parametrize("address", [address for address in NEVER if "." in address or ":" in address])
async def test_some_addresses_are_never_called_whoever_names_them(address: str) -> None:
    client = client_of("tools.example", resolve=lambda _host, _port: [address])
    with pytest.raises(CallRefused, match="never calls"):
        await list_tools(client, "http://tools.example:1/mcp")


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "0", "2130706433", "0x7f.1", "0177.1", "[::1]", "[::ffff:127.0.0.1]",
     "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "１２７.0.0.1", "ⓛocalhost", "localhost.", "x.localhost"],
)  # fmt: skip
async def test_this_machine_is_not_called_however_it_is_written(server: OddServer, host: str) -> None:
    with pytest.raises(CallRefused):
        await list_tools(client_of(), server.url(host=host))
    with pytest.raises(CallRefused):
        client_of().check(server.url(host=host))
    assert server.requests == []


async def test_the_machines_own_name_is_not_called(server: OddServer) -> None:
    resolve = lambda _host, _port: ["127.0.1.1"]  # noqa: E731 - what Debian writes into /etc/hosts
    with pytest.raises(CallRefused, match=r"private_hosts = \[\"myhost\"\]"):
        await list_tools(client_of(resolve=resolve), server.url(host="myhost"))
    assert server.requests == []


async def test_a_host_is_named_with_its_port(server: OddServer) -> None:
    assert await list_tools(client_of(f"localhost:{server.port}"), server.url()) == {"tools": []}
    with pytest.raises(CallRefused):
        await list_tools(client_of(f"localhost:{server.port + 1}"), server.url())


async def test_the_gateway_does_not_call_itself(server: OddServer) -> None:
    hosts = ("localhost", "127.0.0.1", "127.0.0.9", "[::1]", "[::ffff:127.0.0.1]")
    client = client_of(*hosts, own_url=f"http://127.0.0.1:{server.port}")
    for host in hosts:
        with pytest.raises(CallRefused, match="gateway itself"):
            await list_tools(client, server.url(host=host))
    assert server.requests == []


async def test_a_name_is_looked_up_once_and_what_was_checked_is_dialled() -> None:
    """The answer changes between the check and the connection: each connection is a new one here."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]])
    asked = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    async def closes(_request: web.Request, message: Any) -> web.StreamResponse:
        response = answered(message)
        response.force_close()
        return response

    async with odd_server(host="127.0.0.2") as right, odd_server(port=right.port) as wrong:
        right.routes["/mcp"] = closes
        await list_tools(client_of("tools.example", resolve=resolve), right.url(host="tools.example"))
        assert (asked, len(right.requests), wrong.requests) == (["tools.example"], 3, [])


async def test_an_answer_that_turns_private_after_the_check_leads_nowhere(server: OddServer) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    client = client_of(resolve=lambda _host, _port: next(answers), seconds=QUICK_SECONDS)
    with pytest.raises(CallFailed):
        await list_tools(client, server.url(host="rebinding.example"))
    assert server.requests == []
    assert next(answers) == ["127.0.0.1"], "nobody asked again"


# -- certificates -----------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.root_file))
    return made


async def test_a_chain_of_certificates_to_a_trusted_root_is_accepted(authority: Authority) -> None:
    async with odd_server(tls=authority.server("localhost", "127.0.0.1")) as server:
        client = client_of("localhost", "127.0.0.1")
        assert await list_tools(client, server.url()) == {"tools": []}
        assert await list_tools(client, server.url(host="127.0.0.1")) == {"tools": []}


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [(("other.example",), 1, "[Hh]ostname mismatch"), (("localhost",), -1, "expired")],
)
async def test_a_certificate_for_another_name_or_time_is_not(
    authority: Authority, names: tuple[str, ...], days: int, words: str
) -> None:
    async with odd_server(tls=authority.server(*names, days=days)) as server:
        with pytest.raises(CallFailed, match=f"certificate of localhost is not accepted: .*{words}"):
            await list_tools(client_of("localhost"), server.url())
        assert server.requests == []


async def test_a_chain_to_an_unknown_root_is_not(authority: Authority, tmp_path: pathlib.Path) -> None:
    async with odd_server(tls=Authority(tmp_path, "unknown").server("localhost")) as server:
        with pytest.raises(CallFailed, match="certificate of localhost is not accepted"):
            await list_tools(client_of("localhost"), server.url())


async def test_https_is_never_left_for_http(authority: Authority, server: OddServer) -> None:
    async with odd_server(tls=authority.server("localhost")) as secure:
        secure.routes["/mcp"] = leads(307, server.url())
        with pytest.raises(CallRefused, match="from https to http"):
            await list_tools(client_of("localhost"), secure.url())
    assert server.requests == []


async def test_http_spoken_to_a_port_of_tls_and_the_other_way_round(
    authority: Authority, server: OddServer
) -> None:
    client = client_of("localhost")
    with pytest.raises(CallFailed, match="localhost"):
        await list_tools(client, server.url().replace("http:", "https:"))
    async with odd_server(tls=authority.server("localhost")) as secure:
        with pytest.raises(CallFailed, match="localhost"):
            await list_tools(client, secure.url().replace("https:", "http:"))


# -- bounds -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw_server(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Reads a head and answers with bytes; its URL."""
    over, talking = asyncio.Event(), set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            answering = asyncio.ensure_future(answer(writer))
            ending = asyncio.ensure_future(over.wait())
            await asyncio.wait([answering, ending], return_when=asyncio.FIRST_COMPLETED)
            answering.cancel()
            ending.cancel()
            await asyncio.gather(answering, ending, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://localhost:{listening.sockets[0].getsockname()[1]}/mcp"
    finally:
        listening.close()
        over.set()
        await asyncio.gather(*filter(None, talking))
        await listening.wait_closed()


OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
FLOOD: Final = 30_000


def says(*parts: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


async def drips(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"\r\n")
    for _ in range(500):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def hangs(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def floods_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(FLOOD):
        writer.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
        await writer.drain()


ODD: Final[dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]]] = {
    "nothing": says(b""),
    "no http": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "no status": says(b"HTTP/1.1\r\n\r\n"),
    "garbage": says(OK + b"Content-Length: 6\r\n\r\n<html>"),
    "empty": says(OK + b"Content-Length: 0\r\n\r\n"),
    "cut off": says(OK + b'Content-Length: 900\r\n\r\n{"id":1,'),
    "two lengths": says(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "bad chunk": says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "no end of chunks": says(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n" * 10),
    "huge": says(OK + b"\r\n" + b'{"x": "', *[b"x" * 100_000] * 30),
    "huge stream": says(STREAM, *[b"data: x\n\n" * 9000] * 30),
    "huge line of a head": says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
    "many lines of a head": floods_head,
    "huge reason": says(b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n"),
    "zip bomb": says(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 50_000_000)),
    "unknown encoding": says(OK + b"Content-Encoding: x\r\nContent-Length: 2\r\n\r\n\xff\xfe"),
    "deep": says(OK + b"\r\n" + b"[" * 500_000),
    "a bad answer": says(OK + b'Content-Length: 22\r\n\r\n{"id":1,"result":"\\ud8"}'),
    "interim answers": says(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 2_000),
    "another protocol": says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "drip": drips,
    "silence": hangs,
    "wants credentials": says(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    "no way back": says(b"HTTP/1.1 307 Away\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("how", ODD)
async def test_an_odd_server_is_a_failure_in_words_within_its_time(how: str) -> None:
    began = time.monotonic()
    async with raw_server(ODD[how]) as url:
        with pytest.raises(CallFailed) as failed:
            await list_tools(client_of("localhost", seconds=QUICK_SECONDS), url)
    assert str(failed.value).endswith((".", "]", "."))
    assert time.monotonic() - began < 10 * QUICK_SECONDS * crowding()


async def test_a_port_where_nobody_listens_is_said() -> None:
    with pytest.raises(CallFailed, match="localhost could not be reached"):
        await list_tools(client_of("localhost"), f"http://localhost:{free_port()}/")


async def test_a_name_that_nobody_knows_is_said() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(CallFailed, match=r"nosuch\.example cannot be found"):
        await list_tools(client_of(resolve=resolve), "http://nosuch.example/")


async def test_so_many_calls_run_at_once_and_the_next_hears_so(server: OddServer) -> None:
    async def holds(_request: web.Request, message: Any) -> web.StreamResponse:
        await asyncio.sleep(60)
        return answered(message)

    server.routes["/mcp"] = holds
    client = client_of("localhost")
    asking: list[asyncio.Task[Any]] = []

    async def ask(session: str, owner: str) -> Any:
        return await list_tools(client, server.url(), session, owner)

    async def fill(count: int, *, session: str, owner: str) -> None:
        """So many calls that hang, each of them at the server."""
        new = len(server.requests) + count
        asking.extend(
            asyncio.create_task(ask(session.format(n), owner.format(n)), name="asking") for n in range(count)
        )
        while len(server.requests) < new:
            await asyncio.sleep(0.01)
            for task in asking:
                assert not task.done(), task

    async def is_full(session: str, owner: str) -> None:
        with pytest.raises(CallRefused, match="Too many calls"):
            await ask(session, owner)

    try:
        await fill(CALLS_OF_SESSION, session="mine", owner="me")
        await is_full("mine", "me")
        await fill(CALLS_OF_OWNER - CALLS_OF_SESSION, session="s{}", owner="me")
        await is_full("another", "me")
        await fill(CALLS_OF_ALL - CALLS_OF_OWNER, session="t{}", owner="o{}")
        await is_full("another", "somebody else")
        files = [task.get_coro().cr_code.co_filename for task in asyncio.all_tasks()]  # type: ignore[union-attr]
        clients = [
            file for file in files if not file.endswith(("web_protocol.py", "pytest_asyncio/plugin.py"))
        ]
        assert len(clients) == CALLS_OF_ALL + 1, "a call holds the task of who asked (and this one), no other"
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    del server.routes["/mcp"]
    assert await ask("mine", "me") == {"tools": []}
    assert not client._caller._running


SILENT: Final = "http://silent.example/"


async def test_names_whose_servers_are_silent_hold_nobody_up(server: OddServer) -> None:
    silent = threading.Event()

    def resolve(_host: str, _port: int) -> list[str]:
        silent.wait(30 * crowding())
        return ["127.0.0.1"]

    lookup = Lookup(resolve)
    caller = HttpCaller(
        AddressRules(private_hosts=lambda: ("localhost", "127.0.0.1"), lookup=lookup), seconds=QUICK_SECONDS
    )
    client = McpClient(caller)
    try:
        for _ in range(LOOKUPS // CALLS_OF_ALL):
            asking = [list_tools(client, SILENT, f"s{n}", f"o{n}") for n in range(CALLS_OF_ALL)]
            failures = await asyncio.gather(*asking, return_exceptions=True)
            assert {str(failure) for failure in failures} == {"The server did not answer within 0.5 seconds."}
        with pytest.raises(CallFailed, match="Too many names"):
            await list_tools(client, SILENT)
        assert await list_tools(client, server.url(host="127.0.0.1")) == {"tools": []}
    finally:
        silent.set()
    while lookup._running:
        await asyncio.sleep(0.01)
