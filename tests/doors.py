"""Doors of workers in tests: rules that list hosts by hand, hosts under invented names, and workers behind
strict walls whose doors are served.

`async with Hosts.running(directory) as hosts` starts the hosts; `door_here(...)` serves doors that listen on
the machine's own loopback, for what needs no worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from gateway.config.hosts import is_address, plain_host
from gateway.egress.admission import Admitted, NotAdmitted, Why
from gateway.egress.door import WorkerDoor
from gateway.egress.front import DoorTimes
from gateway.egress.routes import RouteAnswer, RouteHandler, RouteRequest
from gateway.principal import Account
from gateway.workers.doors import DoorSockets
from tests.certificates import Authority
from tests.patience import crowding
from tests.walls import Inmate, Yard

LISTED: Final = "files.invented.test"
OTHER: Final = "other.invented.test"
"""Not listed."""
ACCOUNT: Final = Account("default/local", "0" * 32)


async def echo(request: RouteRequest, answer: RouteAnswer) -> None:
    """A route of the gateway, below /llm/, that says what it was asked."""
    answer.start(200 if request.target.startswith("/llm/") else 404, [("content-type", "text/plain")])
    await answer.write(f"{request.method} {request.target} ".encode())
    await answer.write(request.body)


class Rules:
    """Admits what it was given, and notes what it refused."""

    def __init__(self) -> None:
        self.hosts: dict[tuple[str, int], tuple[int, tuple[str, ...]]] = {}
        """(host, port) → the port and the addresses where it is in this test."""
        self.refused: list[tuple[str, int, Why]] = []
        self.credentials: dict[str, str] = {}
        self.sent = self.received = 0
        self.allowance = 1 << 40
        self.watchers: list[Callable[[], None]] = []

    def allow(self, host: str, port: int, *, at: int, addresses: tuple[str, ...] = ("127.0.0.1",)) -> None:
        """Lists a host."""
        self.hosts[host, port] = (at, addresses)

    async def admit(self, host: str, port: int) -> Admitted | NotAdmitted:
        """See Admission."""
        name = plain_host(host)
        if is_address(name):
            return self.refuse(host, port, "address")
        if (name, port) not in self.hosts:
            return self.refuse(host, port, "unlisted")
        at, addresses = self.hosts[name, port]
        return Admitted(host=name, port=at, addresses=addresses, credential=self.credentials.get(name, ""))

    def refuse(self, host: str, port: int, why: Why) -> NotAdmitted:
        """See Admission."""
        self.refused.append((host, port, why))
        return NotAdmitted(why=why, words=f"{host}:{port} is refused: {why}.")

    def may_go_on(self, host: str, port: int) -> bool:
        """See Admission; ports are those of this test."""
        return any(host == name for name, _ in self.hosts)

    def on_changed(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """See Admission."""
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    def deny(self, host: str) -> None:
        """Takes a host off the lists."""
        self.hosts = {key: where for key, where in self.hosts.items() if key[0] != host}
        for watcher in list(self.watchers):
            watcher()

    def transferred(self, *, sent: int, received: int) -> bool:
        """See Admission."""
        self.sent += sent
        self.received += received
        return self.sent + self.received <= self.allowance

    @property
    def whys(self) -> list[Why]:
        """Why it refused, one after the other."""
        return [why for _, _, why in self.refused]


class Hosts:
    """An HTTP host, an HTTPS host and one that speaks first, all of which say what they were asked."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.authority = Authority(directory)
        self.authority.root_file.chmod(0o644)
        self.heads: list[bytes] = []
        """What was asked for, whole heads."""
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: pathlib.Path) -> AsyncIterator[Hosts]:
        """Until the block is left."""
        hosts = cls(directory)
        try:
            await hosts._start("http", hosts._answer)
            await hosts._start("https", hosts._answer, hosts.authority.server(LISTED))
            await hosts._start("greeter", hosts._greet)
            await hosts._start("echo", hosts._echo)
            yield hosts
        finally:
            for server in hosts._servers:
                server.close()

    async def _start(self, name: str, serve: Any, tls: ssl.SSLContext | None = None) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        self._servers.append(server)
        self.ports[name] = server.sockets[0].getsockname()[1]

    def rules(self) -> Rules:
        """The listed host, at the usual ports and some others."""
        rules = Rules()
        for port, name in ((443, "https"), (8443, "https"), (80, "http"), (8080, "http"), (22, "greeter")):
            rules.allow(LISTED, port, at=self.ports[name])
        rules.allow(LISTED, 5432, at=self.ports["echo"])
        return rules

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            body = b"the host heard " + head.split(b" HTTP/", 1)[0]
            if b"/large" in head:
                body = bytes(int(head.split(b"/large/", 1)[1].split(b" ", 1)[0]))
            if b"upgrade: websocket" in head.lower():
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                writer.write(await reader.readexactly(5))
            else:
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if length:
                    body += b" and " + await reader.readexactly(int(length[0].split(b":")[1]))
                if b"transfer-encoding: chunked" in head.lower():
                    body += b" in chunks " + (await reader.readuntil(b"0\r\n\r\n")).replace(b"\r\n", b"|")
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                    % (len(body), body)
                )
            await writer.drain()
        writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"SSH-2.0-greeter\r\n")
            writer.write(b"you said " + await reader.readline())
            await writer.drain()
        writer.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


def local_sockets(*further: int) -> DoorSockets:
    """Doors on the machine's own loopback, at any ports; `further` are what they are taken for."""
    found = [_listener() for _ in range(3)]
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 0))
    return DoorSockets([*found, names, *(_listener() for _ in further)], further)


def _listener() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(512)
    return made


@contextlib.asynccontextmanager
async def door_here(
    rules: Rules, *, routes: RouteHandler | None = None, further: tuple[int, ...] = (), **keywords: Any
) -> AsyncIterator[tuple[WorkerDoor, DoorSockets]]:
    """A door that is served on the machine's own loopback, and its sockets."""
    sockets = local_sockets(*further)
    door = WorkerDoor(sockets, account=ACCOUNT, admission=rules, routes=routes, **keywords)
    try:
        yield door, sockets
    finally:
        tasks = list(door._tasks)
        sockets.close()
        if tasks:
            await asyncio.wait(tasks, timeout=5 * crowding())
        assert door.connections == 0


QUICK: Final = DoorTimes(head=0.3, body=0.3, idle=0.3, forwarded=0.3)


async def spawn(
    here: Yard, *argv: str, readable: tuple[str, ...] = (), ports: tuple[int, ...] = ()
) -> Inmate:
    """A worker with a network of its own."""
    request = here.request(*argv, network="broker")
    walls = msgspec.structs.replace(
        request.sandbox, readable=(*request.sandbox.readable, *readable), ports=ports
    )
    return Inmate(await here.spawner.spawn(msgspec.structs.replace(request, sandbox=walls)))


def serve(inmate: Inmate, rules: Rules, *, routes: RouteHandler | None = None, **keywords: Any) -> WorkerDoor:
    """Serves a worker's doors."""
    assert inmate.worker.doors is not None
    return WorkerDoor(inmate.worker.doors, account=ACCOUNT, admission=rules, routes=routes, **keywords)
