"""HTTP at a worker's doors, byte by byte: what is passed on, what is refused, and how it is bounded.

No worker here: the doors listen on the machine's own loopback. `tests/integration/test_worker_doors.py` has
workers, and sends them the same attacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.egress.admission import Admission, Admitted
from gateway.egress.door import WorkerDoor
from gateway.egress.lookup import system_lookup
from gateway.egress.pace import LoopShare, Stalled
from gateway.egress.routes import RouteAnswer, RouteRequest
from gateway.egress.tunnel import ACCESS_DENIED, Splice, dial
from gateway.workers.doors import DoorSockets
from tests.doors import ACCOUNT, LISTED, OTHER, QUICK, Hosts, Rules, door_here, echo, local_sockets
from tests.hostile.requests import ATTACKS, Attack
from tests.patience import crowding, soon
from tests.shared import eventually
from worker.spec import DOOR_PORT, MIB


@pytest.fixture
async def hosts(tmp_path: pathlib.Path) -> AsyncIterator[Hosts]:
    async with Hosts.running(tmp_path) as running:
        yield running


async def connected(listener: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*listener.getsockname())


async def said(listener: socket.socket, data: bytes) -> bytes:
    """Everything that is answered until the connection ends."""
    heard, writer = b"", None
    try:
        reader, writer = await connected(listener)
        writer.write(data)
        while piece := await soon(reader.read(65_536), 10):
            heard += piece
    except ConnectionError:
        pass
    finally:
        if writer is not None:
            writer.close()
    return heard


def sockets_of(sockets: DoorSockets, attack: Attack) -> socket.socket:
    return sockets.own if attack.port == DOOR_PORT else sockets.http


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_a_request_that_can_be_read_in_two_ways_or_leads_nowhere_is_refused(
    attack: Attack, hosts: Hosts
) -> None:
    rules = hosts.rules()
    async with door_here(rules, routes=echo) as (_, sockets):
        heard = await said(sockets_of(sockets, attack), attack.data)
        assert re.match(attack.answer, heard, re.DOTALL), heard[:300]
        assert len(re.findall(rb"HTTP/1\.1 \d", heard)) == 1
    assert len(hosts.heads) == attack.reaches, hosts.heads


# -- the gateway's own routes -------------------------------------------------------------------------


async def test_a_connection_is_kept_and_an_early_request_is_answered_after_the_first() -> None:
    go_on = asyncio.Event()

    async def slowly(request: RouteRequest, answer: RouteAnswer) -> None:
        await echo(request, answer)
        await go_on.wait()

    async with door_here(Rules(), routes=slowly) as (_, sockets):
        reader, writer = await connected(sockets.own)
        writer.write(b"POST /llm/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none")
        assert await reader.readuntil(b"one\r\n")
        writer.write(
            b"POST /llm/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
        )
        await writer.drain()
        go_on.set()
        rest = await reader.readuntil(b"two\r\n")
        assert rest.startswith(b"0\r\n\r\nHTTP/1.1 200 OK\r\n")
        writer.close()


async def test_an_old_client_and_one_that_says_so_get_an_end_of_the_connection() -> None:
    async with door_here(Rules(), routes=echo) as (_, sockets):
        old = await said(sockets.own, b"GET /llm/a HTTP/1.0\r\n\r\n")
        assert old.endswith(b"\r\n\r\nGET /llm/a ")
        assert b"chunked" not in old
        last = await said(sockets.own, b"GET /llm/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"Connection: close" in last


async def test_a_length_that_a_handler_says_is_kept_and_framing_is_the_doors() -> None:
    async def odd(_request: RouteRequest, answer: RouteAnswer) -> None:
        bad = [("x-split", "a\r\nset-cookie: b"), ("bad name", "x"), ("transfer-encoding", "gzip")]
        answer.start(200, [*bad, ("connection", "upgrade"), ("content-length", "4"), ("x-kept", "yes")])
        await answer.write(b"four and more")

    async with door_here(Rules(), routes=odd) as (_, sockets):
        heard = await said(sockets.own, b"GET /llm/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = heard.partition(b"\r\n\r\n")
    assert body == b"four"
    assert b"x-kept: yes" in head
    assert not re.search(rb"set-cookie|bad name|gzip|upgrade", head)


async def test_a_handler_that_fails_or_stops_short_is_never_taken_for_a_whole_answer() -> None:
    async def short(request: RouteRequest, answer: RouteAnswer) -> None:
        if "fails" in request.target:
            raise ValueError("secret-of-the-gateway")
        answer.start(200, [("content-length", "10")])
        await answer.write(b"half")

    async with door_here(Rules(), routes=short) as (_, sockets):
        failed = await said(sockets.own, b"GET /llm/fails HTTP/1.1\r\nHost: x\r\n\r\n")
        assert failed.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in failed
        reader, writer = await connected(sockets.own)
        writer.write(b"GET /llm/short HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readuntil(b"half and six")
        writer.close()


async def test_a_handler_is_cancelled_when_its_caller_is_gone() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(_request: RouteRequest, answer: RouteAnswer) -> None:
        answer.start(200)
        await answer.write(b"begun")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with door_here(Rules(), routes=forever) as (door, sockets):
        _, writer = await connected(sockets.own)
        writer.write(b"GET /llm/a HTTP/1.1\r\nHost: x\r\n\r\n")
        await soon(begun.wait(), 5)
        writer.transport.abort()
        await soon(cancelled.wait(), 5)
        cancelled.clear()
        _, writer = await connected(sockets.own)
        writer.write(b"GET /llm/a HTTP/1.1\r\nHost: x\r\n\r\n")
        begun.clear()
        await soon(begun.wait(), 5)
        door.close()
        await soon(cancelled.wait(), 5)
        writer.close()


async def test_a_reader_that_stands_still_holds_up_its_handler_and_no_memory() -> None:
    written = 0

    async def much(_request: RouteRequest, answer: RouteAnswer) -> None:
        nonlocal written
        answer.start(200)
        for _ in range(1_000):
            await answer.write(bytes(64 * 1024))
            written += 64 * 1024

    async with door_here(Rules(), routes=much) as (_, sockets):
        _, writer = await connected(sockets.own)
        writer.write(b"GET /llm/a HTTP/1.1\r\nHost: x\r\n\r\n")
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.1)
        assert 0 < written < 12 * MIB
        writer.transport.abort()


async def test_a_connection_that_is_taken_as_the_door_closes_is_closed() -> None:
    async with door_here(Rules()) as (door, sockets):
        client = socket.create_connection(sockets.own.getsockname())
        while not door.connections:
            door._accept(sockets.own, "gateway", door._serve_own)
        door.close()
        (task,) = door._tasks
        await asyncio.wait([task])
        client.settimeout(5 * crowding())
        assert client.recv(1) == b""
        client.close()


async def test_the_door_of_a_worker_that_has_ended_already_is_closed() -> None:
    rules, sockets = Rules(), local_sockets(22)
    sockets.close()
    door = WorkerDoor(sockets, account=ACCOUNT, admission=rules)
    assert (door.connections, rules.watchers) == (0, [])
    door.close()


@pytest.mark.parametrize("way", ["tunnel", "port 80", "route"])
async def test_what_is_kept_for_readers_that_stand_still_is_bounded_together(
    way: str, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.egress.pace.STALLED_BYTES", 1 * MIB)

    async def much(_request: RouteRequest, answer: RouteAnswer) -> None:
        answer.start(200)
        for _ in range(1_000):
            await answer.write(bytes(64 * 1024))

    rules = hosts.rules()
    rules.allow(LISTED, 9000, at=hosts.ports["http"])
    target = {"tunnel": "/large/40000000", "port 80": "/large/40000000", "route": "/llm/x"}[way]
    async with door_here(rules, routes=much) as (door, sockets):
        writers = []
        for _ in range(40):
            if way == "tunnel":
                _, _, writer = await tunnel(sockets, LISTED, 9000)
            else:
                _, writer = await connected(sockets.http if way == "port 80" else sockets.own)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {LISTED}\r\n\r\n".encode())
            writers.append(writer)

        async def is_cut() -> bool:
            return 0 < door.connections < 30 and door.stalled._bytes > MIB // 4

        await eventually(is_cut)
        for writer in writers:
            writer.transport.abort()
        tasks = list(door._tasks)
        await asyncio.wait(tasks, timeout=5 * crowding())
        assert door.stalled._bytes == 0


@pytest.mark.parametrize("size", ["said", "chunked"])
async def test_a_body_that_is_too_large_is_refused_in_words(size: str) -> None:
    async with door_here(Rules(), routes=echo) as (door, sockets):
        head = b"POST /llm/a HTTP/1.1\r\nHost: x\r\n"
        if size == "said":
            heard = await said(sockets.own, head + b"Content-Length: %d\r\n\r\n" % (32 * MIB + 1))
        else:
            reader, writer = await connected(sockets.own)
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(33):
                    writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
                    await writer.drain()
            heard = await reader.read(200)
            writer.close()
        assert heard.startswith(b"HTTP/1.1 413 ")
        assert door._bytes == 0


async def test_bodies_of_one_session_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.egress.door.BODIES_BYTES", 100_000)
    async with door_here(Rules(), routes=echo) as (door, sockets):
        head = b"POST /llm/a HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n"
        _, writer = await connected(sockets.own)
        writer.write(head + bytes(69_000))
        while door._bytes < 69_000:
            await asyncio.sleep(0.01)
        assert (await said(sockets.own, head + bytes(70_000))).startswith(b"HTTP/1.1 503 ")
        writer.transport.abort()
        while door._bytes:
            await asyncio.sleep(0.01)
        last = head.replace(b"Host: x", b"Host: x\r\nConnection: close")
        assert (await said(sockets.own, last + bytes(70_000))).startswith(b"HTTP/1.1 200 ")


# -- limits of time and number --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"GET /llm/a HT", b"POST /llm/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nslow"],
    ids=["idle", "head", "body"],
)
async def test_what_is_too_slow_is_cut(data: bytes) -> None:
    async with door_here(Rules(), routes=echo, times=QUICK) as (_, sockets):
        assert await said(sockets.own, data) == b""
        assert await said(sockets.http, data[:13]) == b""


async def test_a_slow_hello_is_cut_and_costs_no_time_until_then(hosts: Hosts) -> None:
    rules = hosts.rules()
    async with door_here(rules, times=QUICK) as (_, sockets):
        began = asyncio.get_running_loop().time()
        cpu = time.process_time()
        assert await said(sockets.tls, b"\x16\x03\x01") == b""
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert time.process_time() - cpu < 0.15, "the loop waits for more bytes, and does not spin"


async def test_idle_connections_make_room_and_others_do_not() -> None:
    rules = Rules()
    running = asyncio.Event()

    async def waits(_request: RouteRequest, answer: RouteAnswer) -> None:
        answer.start(200)
        await answer.write(b"begun")
        await running.wait()

    async with door_here(rules, routes=waits, connections=8) as (door, sockets):
        idle = [await connected(sockets.own) for _ in range(20)]
        for reader, _ in idle[:12]:
            assert await soon(reader.read(), 5) == b""
        assert door.connections == 8
        for _, writer in idle[12:]:
            writer.write(b"GET /llm/a HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader, _ in idle[12:]:
            await soon(reader.readuntil(b"begun"), 5)
        assert await said(sockets.own, b"") == b""
        assert rules.whys == ["limit"]
        running.set()
        for reader, _ in idle[12:]:
            await soon(reader.readuntil(b"0\r\n\r\n"), 5)
        assert b"begun" in await said(
            sockets.own, b"GET /llm/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        for _, writer in idle:
            writer.close()


# -- to other hosts -------------------------------------------------------------------------------------


async def test_the_host_that_was_checked_is_the_one_that_is_sent(hosts: Hosts) -> None:
    async with door_here(hosts.rules()) as (_, sockets):
        target = f"http://{LISTED.upper()}./path?q=1"
        heard = await said(
            sockets.own,
            f"GET {target} HTTP/1.1\r\nHost: {OTHER}\r\nProxy-Authorization: Basic eDp5\r\n"
            "Connection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nTE: trailers\r\n\r\n".encode(),
        )
    assert heard.startswith(b"HTTP/1.1 200 ")
    head = hosts.heads[0].lower()
    assert head.startswith(f"get /path?q=1 http/1.1\r\nhost: {LISTED}\r\n".encode())
    assert b"x-kept: 2" in head
    assert b"connection: close" in head
    assert not re.search(rb"proxy-|x-hop|\nte:|other", head)


@pytest.mark.parametrize(
    ("framing", "body", "heard"),
    [
        ("Content-Length: 5", b"hello", b" and hello"),
        ("Transfer-Encoding: chunked", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hel|2|lo|0||"),
        ("Content-Length: 5\r\nExpect: 100-continue", b"hello", b" and hello"),
    ],
)
async def test_a_body_is_passed_on_in_the_framing_that_it_has(
    framing: str, body: bytes, heard: bytes, hosts: Hosts
) -> None:
    async with door_here(hosts.rules()) as (_, sockets):
        request = f"PUT /x HTTP/1.1\r\nHost: {LISTED}\r\n{framing}\r\n\r\n".encode()
        assert heard in await said(sockets.http, request + body)


async def test_a_large_body_is_passed_on_piece_by_piece(hosts: Hosts) -> None:
    async with door_here(hosts.rules()) as (_, sockets):
        head = f"PUT /x HTTP/1.1\r\nHost: {LISTED}\r\nContent-Length: {3 * MIB}\r\n\r\n"
        heard = await said(sockets.http, head.encode() + b"z" * (3 * MIB))
    assert heard.count(b"z") == 3 * MIB


async def test_a_websocket_to_port_80_is_passed_on(hosts: Hosts) -> None:
    async with door_here(hosts.rules()) as (_, sockets):
        reader, writer = await connected(sockets.http)
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        writer.write(f"GET /ws HTTP/1.1\r\nHost: {LISTED}\r\n{upgrade}".encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"frame")
        assert await reader.readexactly(5) == b"frame"
        writer.close()


async def test_hosts_are_dialled_at_the_addresses_that_were_admitted_and_no_name_is_looked_up(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = hosts.rules()
    rules.allow(LISTED, 80, at=hosts.ports["http"], addresses=("127.0.0.9", "127.0.0.1"))
    rules.allow("nowhere.test", 80, at=1, addresses=("127.0.0.1",))
    rules.allow("name.test", 80, at=hosts.ports["http"], addresses=("localhost",))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a name is looked up")

    async with door_here(rules) as (_, sockets):
        own, http = sockets.own.getsockname(), sockets.http.getsockname()
        assert own != http
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        for host, status in ((LISTED, b"200"), ("nowhere.test", b"502"), ("name.test", b"502")):
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, http)
            await loop.sock_sendall(client, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await soon(loop.sock_recv(client, 4096), 10))[9:12] == status
            client.close()
    assert rules.whys == ["unreachable", "unreachable"]


async def test_a_company_proxy_in_front_is_asked_and_its_refusal_is_one(hosts: Hosts) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        if OTHER.encode() in head:
            writer.write(b"HTTP/1.1 407 No\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nearly words")
        await writer.drain()
        writer.close()

    class Behind(Rules):
        async def admit(self, host: str, port: int) -> Admitted:
            return Admitted(host=host, port=port, addresses=(), proxy=f"http://me:pass%20word@127.0.0.1:{at}")

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    at = server.sockets[0].getsockname()[1]
    rules = Behind()
    async with door_here(rules) as (_, sockets):
        connect = "CONNECT {0}:22 HTTP/1.1\r\nHost: {0}:22\r\n\r\n"
        assert (await said(sockets.own, connect.format(LISTED).encode())).endswith(b"\r\n\r\nearly words")
        assert (await said(sockets.own, connect.format(OTHER).encode())).startswith(b"HTTP/1.1 502 ")
    server.close()
    assert asked[0].startswith(f"CONNECT {LISTED}:22 HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk\r\n" in asked[0]
    assert rules.whys == ["unreachable"]


SILENT, ENDLESS, CUT = "silent.invented.test", "endless.invented.test", "cut.invented.test"


async def test_a_company_proxy_that_is_silent_endless_or_gone_is_given_up_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.egress.tunnel.DIAL_SECONDS", 0.3)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while ENDLESS.encode() in head:
                writer.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000)
                await writer.drain()
            if SILENT.encode() in head:
                await reader.read()
        writer.close()

    async def never(_host: str, _port: int) -> list[str]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    at = server.sockets[0].getsockname()[1]

    class Behind(Rules):
        async def admit(self, host: str, port: int) -> Admitted:
            where = "proxy.invented.test" if host == OTHER else "127.0.0.1"
            return Admitted(host=host, port=port, addresses=(), proxy=f"http://{where}:{at}")

    rules = Behind()
    async with server, door_here(rules) as (_, sockets):
        for host in (SILENT, ENDLESS, CUT):
            request = f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            assert (await said(sockets.http, request)).startswith(b"HTTP/1.1 502 ")
        monkeypatch.setattr(system_lookup, "addresses", never)
        request = f"GET /x HTTP/1.1\r\nHost: {OTHER}\r\n\r\n".encode()
        assert (await said(sockets.http, request)).startswith(b"HTTP/1.1 502 "), "nobody knows its address"
    assert rules.whys == ["unreachable"] * 4


async def test_what_a_session_may_transfer_is_held(hosts: Hosts) -> None:
    rules = hosts.rules()
    rules.allowance = 1 * MIB
    async with door_here(rules) as (_, sockets):
        heard = await said(
            sockets.own, f"GET http://{LISTED}/large/9000000 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        assert len(heard) < 4 * MIB
        assert rules.received >= MIB


# -- tunnels --------------------------------------------------------------------------------------------


def trusting(hosts: Hosts) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(hosts.authority.root_file))


async def tunnel(
    sockets: DoorSockets, host: str, port: int
) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await connected(sockets.own)
    writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return await reader.readuntil(b"\r\n\r\n"), reader, writer


@pytest.mark.parametrize("port", [443, 8443])
async def test_a_tunnel_leads_to_the_host_that_was_asked_for_and_tls_in_it_too(
    port: int, hosts: Hosts
) -> None:
    rules = hosts.rules()
    async with door_here(rules) as (_, sockets):
        status, reader, writer = await tunnel(sockets, LISTED.upper() + ".", port)
        assert status.startswith(b"HTTP/1.1 200 ")
        await writer.start_tls(trusting(hosts), server_hostname=LISTED)
        writer.write(b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"the host heard GET /inside" in await reader.read()
        writer.close()
        for name in (OTHER, None):
            _, reader, writer = await tunnel(sockets, LISTED, port)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)access.denied"):
                await writer.start_tls(context, server_hostname=name)
    assert rules.whys == ["server_name"] * 2
    assert len(hosts.heads) == 1


async def test_a_tunnel_at_443_that_is_no_tls_is_cut(hosts: Hosts) -> None:
    rules = hosts.rules()
    async with door_here(rules) as (_, sockets):
        _, reader, writer = await tunnel(sockets, LISTED, 443)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.read() == ACCESS_DENIED
        writer.close()
    assert rules.whys == ["server_name"]


async def test_in_a_tunnel_to_another_port_the_host_may_speak_first(hosts: Hosts) -> None:
    async with door_here(hosts.rules()) as (_, sockets):
        _, reader, writer = await tunnel(sockets, LISTED, 22)
        assert await reader.readline() == b"SSH-2.0-greeter\r\n"
        writer.write(b"hello\r\n")
        assert await reader.read() == b"you said hello\r\n"
        writer.close()


async def test_a_tunnel_ends_when_either_end_does_and_an_end_of_input_is_passed_on(hosts: Hosts) -> None:
    async with door_here(hosts.rules()) as (door, sockets):
        _, reader, writer = await tunnel(sockets, LISTED, 5432)
        writer.write(b"x" * 3 * MIB)
        writer.write_eof()
        assert len(await reader.read()) == 3 * MIB
        writer.close()
        _, _, writer = await tunnel(sockets, LISTED, 5432)
        writer.transport.abort()
        while door.connections:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_what_has_come_before_both_ends_are_joined_is_passed_on_whole_and_once(has_ended: bool) -> None:
    """More of it than the other end takes at once."""
    rules, data = Rules(), bytes(range(256)) * 4 * 1024
    pairs = [socket.socketpair() for _ in range(2)]
    (client, ours), (theirs, host) = pairs
    for one in (client, ours, theirs, host):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        one.setblocking(False)
    began = client.send(data)
    splice = Splice(rules, share=LoopShare(), stalled=Stalled())
    running = asyncio.create_task(splice.run(ours, theirs))
    reader, answering = await asyncio.open_connection(sock=host)
    _, writer = await asyncio.open_connection(sock=client)
    if not has_ended:
        writer.write(data[began:])
    writer.write_eof()
    heard = await soon(reader.read(), 10)
    assert heard == (data[:began] if has_ended else data)
    running.cancel()
    await asyncio.wait([running])
    assert (rules.sent, rules.received) == (len(heard), 0)
    for one_end in (answering, writer):
        one_end.close()
        with contextlib.suppress(ConnectionError):
            await one_end.wait_closed()
    for one in (ours, theirs):
        one.close()


async def test_a_host_whose_first_address_does_not_answer_is_reached_at_the_next(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.egress.tunnel.ADDRESS_SECONDS", 0.1)
    with socket.socket() as full:
        full.bind(("127.0.0.2", hosts.ports["http"]))  # it listens, and nobody takes a connection
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        rules = Rules()
        rules.allow(LISTED, 80, at=hosts.ports["http"], addresses=("127.0.0.2", "127.0.0.3", "127.0.0.1"))
        async with door_here(rules) as (_, sockets):
            answer = await said(sockets.http, f"GET /x HTTP/1.1\r\nHost: {LISTED}\r\n\r\n".encode())
            assert b"the host heard GET /x" in answer
            monkeypatch.setattr("gateway.egress.tunnel.DIAL_SECONDS", 0.15)
            rules.allow(LISTED, 80, at=hosts.ports["http"], addresses=("127.0.0.2",) * 3)
            began = time.monotonic()
            answer = await said(sockets.http, f"GET /x HTTP/1.1\r\nHost: {LISTED}\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert time.monotonic() - began < 3, "for all addresses together"
        for one in fillers:
            one.close()


async def test_the_gateways_own_door_in_the_form_of_a_proxy_is_the_door() -> None:
    async with door_here(Rules(), routes=echo) as (_, sockets):
        absolute = f"GET http://localhost:{DOOR_PORT}/llm/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await said(sockets.own, absolute.encode())).startswith(b"HTTP/1.1 200 ")
        status, reader, writer = await tunnel(sockets, "127.0.0.1", DOOR_PORT)
        assert status.startswith(b"HTTP/1.1 200 ")
        for _ in range(50):
            writer.write(f"CONNECT localhost:{DOOR_PORT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /llm/inside HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"GET /llm/inside" in await reader.read()
        writer.close()


async def test_connections_that_the_rules_no_longer_allow_are_ended(hosts: Hosts) -> None:
    rules = hosts.rules()
    async with door_here(rules) as (door, sockets):
        _, reader, writer = await tunnel(sockets, LISTED, 5432)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        upgrade = f"GET / HTTP/1.1\r\nHost: {LISTED}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        socket_reader, socket_writer = await connected(sockets.http)
        socket_writer.write(upgrade.encode())
        await socket_reader.readuntil(b"\r\n\r\n")
        rules.deny(OTHER)
        assert door.connections == 2
        rules.deny(LISTED)
        for each in (reader, socket_reader):
            with contextlib.suppress(ConnectionError):
                assert await soon(each.read(), 5) == b""
        for each_writer in (writer, socket_writer):
            each_writer.close()


@pytest.mark.parametrize("way", ["port 80", "a tunnel", "a further port"])
async def test_what_is_denied_while_its_host_is_dialled_is_not_connected(
    way: str, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(admitted: Admitted) -> socket.socket:
        dialled.set()
        await may_answer.wait()
        return await dial(admitted)

    for module in ("door", "front"):
        monkeypatch.setattr(f"gateway.egress.{module}.dial", slowly)
    rules, heard = hosts.rules(), b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % LISTED.encode()
    async with door_here(rules, further=(22,)) as (door, sockets):
        monkeypatch.setattr(door._names, "name_of", lambda _address: LISTED)
        where = {"port 80": sockets.http, "a tunnel": sockets.own, "a further port": sockets.further[22]}[way]
        if way == "a tunnel":
            heard = b"CONNECT %b:22 HTTP/1.1\r\nHost: x\r\n\r\n" % LISTED.encode()
        asking = asyncio.create_task(said(where, heard))
        await soon(dialled.wait(), 5)
        rules.deny(LISTED)
        may_answer.set()
        assert await asking == b""
    assert hosts.heads == []


async def test_a_tunnel_that_is_denied_before_tls_begins_in_it_ends(hosts: Hosts) -> None:
    rules = hosts.rules()
    async with door_here(rules) as (_, sockets):
        _, reader, writer = await tunnel(sockets, LISTED, 443)
        rules.deny(LISTED)
        with contextlib.suppress(ConnectionError):
            assert await soon(reader.read(), 5) == b""
        writer.close()


async def test_a_flood_is_read_at_its_share_of_the_loop_and_comes_through_whole(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.egress.pace.READ_SECONDS", 0.01)
    async with door_here(hosts.rules()) as (_, sockets):
        began = time.monotonic()
        _, reader, writer = await tunnel(sockets, LISTED, 5432)
        writer.write(b"x" * 6 * MIB)
        writer.write_eof()
        assert len(await reader.read()) == 6 * MIB
        assert time.monotonic() - began > 0.5, "24 reads of 10 ms each way, at a fifth of the time"
        writer.close()


# -- credentials ----------------------------------------------------------------------------------------


async def test_a_host_with_a_credential_is_served_by_its_interceptor_and_never_unread(hosts: Hosts) -> None:
    class Terminates:
        async def serve(
            self, client: socket.socket, admitted: Admitted, *, admission: Admission, share: LoopShare
        ) -> None:
            seen.append((admitted.host, admitted.credential, client.recv(1, socket.MSG_PEEK)))

    seen: list[tuple[str, str, bytes]] = []
    rules = hosts.rules()
    rules.credentials[LISTED] = "files"
    for interceptor in (Terminates(), None):
        async with door_here(rules, interceptor=interceptor) as (_, sockets):
            for listener in (sockets.tls, None):
                if listener is None:
                    _, _, writer = await tunnel(sockets, LISTED, 443)
                else:
                    _, writer = await connected(listener)
                with pytest.raises((ssl.SSLError, OSError)):
                    await writer.start_tls(trusting(hosts), server_hostname=LISTED)
                writer.close()
            plain = await said(sockets.http, f"GET / HTTP/1.1\r\nHost: {LISTED}\r\n\r\n".encode())
            assert plain.startswith(b"HTTP/1.1 403 ")
    assert seen == [(LISTED, "files", b"\x16")] * 2
    assert rules.whys == ["credential"] * 4
    assert not hosts.heads
