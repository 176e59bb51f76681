"""A host that a credential is for, with a certificate of a test's own authority, and a worker's door in front
of it, both on loopback.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from msgspec import Struct, field

from gateway.config.credentials import CredentialConfig
from gateway.config.tables import AgentConfig, Config
from gateway.egress.admission import Admitted, NotAdmitted, Why
from gateway.egress.authority import Authority as WorkerAuthority
from gateway.egress.authority import variables
from gateway.egress.credential_values import CredentialValues
from gateway.egress.intercept import Interception, Outcome
from gateway.egress.pace import LoopShare
from gateway.egress.vault import Vault
from gateway.principal import Account
from gateway.stores.memory.secrets import MemorySecrets
from tests.certificates import Authority
from tests.patience import soon

HOST: Final = "git.example.test"
TOKEN: Final = "ghp_canary-0123456789"
ANN: Final = Account("acme/ann", "session-1", agent="coder")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Rules:
    """What the rules hear of a worker's connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.refusals: list[tuple[str, int, Why]] = []
        self.sent = self.received = 0
        self.limit: int | None = None

    async def admit(self, host: str, port: int) -> Admitted | NotAdmitted:
        """At a worker's own door, where the host has the usual port."""
        if (host, port) != (HOST, 443):
            return self.refuse(host, port, "unlisted")
        return Admitted(host=HOST, port=self._port, addresses=("127.0.0.1",), credential="forge")

    def refuse(self, host: str, port: int, why: Why) -> NotAdmitted:
        self.refusals.append((host, port, why))
        return NotAdmitted(why=why, words="")

    def may_go_on(self, host: str, port: int) -> bool:
        return True

    def on_changed(self, watcher: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def transferred(self, *, sent: int, received: int) -> bool:
        self.sent += sent
        self.received += received
        return self.limit is None or self.sent + self.received <= self.limit


class Seen(Struct):
    """A request as the host got it."""

    method: str
    target: str
    headers: dict[str, str]
    size: int


class Place(Struct):
    """A host, and a door that leads to it."""

    port: int
    """Of the door."""
    bundle: pathlib.Path
    """What a worker trusts."""
    vault: Vault
    rules: Rules
    interception: Interception
    configs: list[Config]
    """The last one holds."""
    seen: list[Seen] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    dialled: list[Admitted] = field(default_factory=list)
    serving: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """A worker's."""
        names = ("PATH", "HOME", "LANG")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return kept | variables(self.bundle) | {"GIT_TERMINAL_PROMPT": "0"}

    async def run(self, *argv: str, ok: bool = True, cwd: pathlib.Path | None = None) -> str:
        """What a real program prints, both streams together."""
        process = await asyncio.create_subprocess_exec(
            *argv, env=self.environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await soon(process.communicate(), 60)
        assert (process.returncode == 0) is ok, out.decode()
        return out.decode()

    async def curl(self, path: str, *arguments: str, ok: bool = True) -> str:
        """curl, which looks nothing up."""
        resolved = f"{HOST}:{self.port}:127.0.0.1"
        return await self.run(
            "curl", "-sS", "--max-time", "30", "--path-as-is", "--resolve", resolved, *arguments,
            self.url + path, ok=ok,
        )  # fmt: skip

    async def raw(self, data: bytes, *, pieces: int = 1) -> bytes:
        """What comes back for these bytes, until the connection ends."""
        context = ssl.create_default_context(cafile=str(self.bundle))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=HOST
        )
        try:
            size = -(-len(data) // pieces)
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)
            return await soon(reader.read(-1), 20)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def place(
    directory: pathlib.Path,
    serve: Serve | None = None,
    *,
    account: Account = ANN,
    certificate: str = HOST,
    **settings: Any,
) -> AsyncIterator[Place]:
    """A door to a host; `serve` answers connections instead of the usual host. `settings` are those of the
    credential.
    """
    issuer = Authority(directory, "company")
    value_file = directory / "value"
    value_file.write_text(f"{TOKEN}\n")
    source: dict[str, Any] = {} if {"command", "per"} & settings.keys() else {"value_file": str(value_file)}
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    credential = CredentialConfig(
        hosts=(f"{HOST}:{port}",), ca_file=str(issuer.root_file), **source, **settings
    )
    coder = AgentConfig(command="true", credentials=("forge",))
    configs = [Config(credentials={"forge": credential}, agents={"coder": coder})]
    vault = Vault(MemorySecrets(), wall_ms=lambda: 1)
    await vault.open(b"s" * 32)
    authority = WorkerAuthority(directory / "trust")
    outcomes: list[Outcome] = []
    dialled: list[Admitted] = []

    async def dial(admitted: Admitted) -> socket.socket:
        dialled.append(admitted)
        made = socket.socket()
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (admitted.addresses[0], upstream_port))
        return made

    interception = Interception(
        lambda: configs[-1],
        authority=authority,
        values=CredentialValues(vault, monotonic=asyncio.get_running_loop().time),
        dial=dial,
        on_outcome=lambda _name, outcome: outcomes.append(outcome),
    )
    found = Place(
        port, authority.bundle((HOST,)), vault, Rules(port), interception,
        configs=configs, outcomes=outcomes, dialled=dialled,
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        context = issuer.server(certificate)
        if serve is None:
            upstream_port = await _usual_host(stack, context, found, directory)
        else:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            upstream_port = server.sockets[0].getsockname()[1]
        accepting = asyncio.ensure_future(_accept(listener, found, account))
        try:
            yield found
        finally:
            accepting.cancel()
            for serving in found.serving:
                serving.cancel()
            await asyncio.wait([accepting, *found.serving])
            listener.close()


async def _accept(listener: socket.socket, found: Place, account: Account) -> None:
    loop = asyncio.get_running_loop()
    interceptor, share = found.interception.of(account), LoopShare()
    while True:
        client, _ = await loop.sock_accept(listener)
        admitted = Admitted(host=HOST, port=found.port, addresses=("127.0.0.1",), credential="forge")

        async def serve(client: socket.socket = client, admitted: Admitted = admitted) -> None:
            try:
                await interceptor.serve(client, admitted, admission=found.rules, share=share)
            finally:
                client.close()

        found.serving.add(asyncio.ensure_future(serve()))


# -- the usual host ---------------------------------------------------------------------------------------


async def _usual_host(
    stack: contextlib.AsyncExitStack, context: ssl.SSLContext, found: Place, directory: pathlib.Path
) -> int:
    """A server of a few pages, and of git repositories below `directory / "git"`."""

    async def note(request: web.Request) -> None:
        size = 0
        async for chunk in request.content.iter_chunked(65_536):
            size += len(chunk)
        headers = {name.lower(): value for name, value in request.headers.items()}
        found.seen.append(Seen(request.method, request.raw_path, headers, size))

    async def page(request: web.Request) -> web.StreamResponse:
        await note(request)
        return web.json_response({name.lower(): value for name, value in request.headers.items()})

    async def cookie(request: web.Request) -> web.StreamResponse:
        await note(request)
        answer = web.Response(
            status=302, headers={"Location": "https://elsewhere.test/", "Alt-Svc": 'h3=":1"'}
        )
        answer.set_cookie("a", "b")
        answer.headers["X-Quoted"] = f"token {TOKEN}"
        return answer

    async def stream(request: web.Request) -> web.StreamResponse:
        await note(request)
        answer = web.StreamResponse()
        await answer.prepare(request)
        for at in range(0, len(TOKEN), 5):
            await answer.write(TOKEN[at : at + 5].encode())
        await answer.write(b" end")
        return answer

    async def large(request: web.Request) -> web.StreamResponse:
        size = int(request.query["size"])
        answer = web.StreamResponse(headers={"Content-Length": str(size)})
        await answer.prepare(request)
        for _ in range(size // 65_536):
            await answer.write(b"x" * 65_536)
        return answer

    async def denied(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, text="no")

    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/cookie", cookie)
    application.router.add_route("*", "/stream", stream)
    application.router.add_route("GET", "/large", large)
    application.router.add_route("*", "/denied", denied)
    application.router.add_route("*", "/git/{path:.*}", _git(found, directory / "git"))
    application.router.add_route("*", "/{path:.*}", page)
    runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    return int(runner.addresses[0][1])


def _git(found: Place, root: pathlib.Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """git's own server, as CGI; only who shows the token may write or read."""

    async def handle(request: web.Request) -> web.StreamResponse:
        found.seen.append(
            Seen(request.method, request.raw_path, {k.lower(): v for k, v in request.headers.items()}, 0)
        )
        expected = f"Basic {base64.b64encode(f'x:{TOKEN}'.encode()).decode()}"
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": "/" + request.match_info["path"],
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "x",
        }
        process = await asyncio.create_subprocess_exec(
            "git", "-c", "safe.directory=*", "http-backend", env=environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        async def give() -> None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                async for chunk in request.content.iter_chunked(65_536):
                    process.stdin.write(chunk)
                    await process.stdin.drain()
            process.stdin.close()

        giving = asyncio.ensure_future(give())
        head = await process.stdout.readuntil(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().strip().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in lines if name == "Status"), 200)
        answer = web.StreamResponse(
            status=status, headers={name: value for name, value in lines if name != "Status"}
        )
        await answer.prepare(request)
        while chunk := await process.stdout.read(65_536):
            await answer.write(chunk)
        await giving
        await process.wait()
        return answer

    return handle
