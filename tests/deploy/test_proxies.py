"""nginx and Caddy, really in front of a gateway: TLS, HTTP/2, streams at once, reconnecting, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import urljoin

import aiohttp
import pytest
from playwright.async_api import Browser

from tests.chromium import launched
from tests.deploy.load import People
from tests.deploy.tools import DEPLOY, run, tool
from tests.gateways import RunningGateway, running_gateway
from tests.patience import soon
from tests.shared import crowding, free_port
from tests.streams import open_stream

CONFIG = (
    '[limits]\nsession_burst = 100_000\naddress_burst = 100_000\n[server]\ntrusted_proxies = ["127.0.0.1"]\n'
)
CADDYFILE = DEPLOY / "proxy" / "Caddyfile"
NGINX_CONF = DEPLOY / "proxy" / "nginx.conf"
LAG_SECONDS = 1.0
"""A proxy that buffers holds a stream back until its end, many times as long."""
START_SECONDS = 15
STOP_SECONDS = 1
TABS = 7


Proxy = Callable[[pathlib.Path, str], AbstractAsyncContextManager[str]]
"""(directory, the gateway's host:port) → the proxy's URL."""


@contextlib.asynccontextmanager
async def caddy(
    directory: pathlib.Path, gateway: str, *, text: str = "", kind: str = "gateway"
) -> AsyncIterator[str]:
    """Caddy with its file as it is, or with this text of it; `kind`: what PROXY names."""
    path = CADDYFILE
    if text:
        path = directory / "Caddyfile"
        path.write_text(text)
    port = free_port()
    environ = {
        **os.environ,
        "SITE": f"localhost:{port}", "GATEWAY": gateway, "PROXY": kind, "HTTP_PORT": str(free_port()),
        "XDG_DATA_HOME": str(directory / "caddy"), "XDG_CONFIG_HOME": str(directory / "caddy"),
    }  # fmt: skip
    command = [
        tool("caddy"),
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        str(path),
    ]
    async with _running(command, directory, environ, port) as url:
        yield url


@contextlib.asynccontextmanager
async def nginx(directory: pathlib.Path, gateway: str, *, text: str = "") -> AsyncIterator[str]:
    """nginx with its file, but for ports, paths and the certificate."""
    port = free_port()
    run(
        *(
            tool("openssl"),
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ),
        *("-keyout", directory / "key.pem", "-out", directory / "crt.pem"),
    )
    text = text or NGINX_CONF.read_text()
    mime = directory / "mime.types"
    mime.write_text("types {}\n")
    for old, new in (
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("listen [::]:443 ssl http2;", ""),
        ("/etc/ssl/chat.example.crt", str(directory / "crt.pem")),
        ("/etc/ssl/chat.example.key", str(directory / "key.pem")),
        ("/etc/nginx/mime.types", str(mime)),
        ("server_name chat.example;", "server_name localhost;"),
        ("server 127.0.0.1:8080 ", f"server {gateway} "),
        ("worker_processes auto;", f"worker_processes 1; daemon off; pid {directory}/nginx.pid;"),
        ("access_log off;", "access_log off; " + _temporary(directory)),
    ):
        assert old in text, f"{old} is not in nginx.conf any more"
        text = text.replace(old, new)
    if os.geteuid() == 0:
        text = "user root;\n" + text
    (directory / "nginx.conf").write_text(text)
    command = [tool("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
    run(*command, "-t")
    async with _running(command, directory, dict(os.environ), port) as url:
        yield url


def _temporary(directory: pathlib.Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)


@contextlib.asynccontextmanager
async def _running(
    command: list[str], directory: pathlib.Path, environ: dict[str, str], port: int
) -> AsyncIterator[str]:
    log = directory / "proxy.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(command, env=environ, cwd=directory, stdout=stream, stderr=stream)  # noqa: ASYNC220
    try:
        deadline = time.monotonic() + START_SECONDS * crowding()
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # a port is open before there is a certificate
                with socket.create_connection(("127.0.0.1", port), timeout=1) as plain:
                    _trusting().wrap_socket(plain, server_hostname="localhost").close()
                break
            await asyncio.sleep(0.05)
        assert process.poll() is None, log.read_text()
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS * crowding())
        except subprocess.TimeoutExpired:  # it gives what is open its grace
            process.kill()
            process.wait()


@pytest.fixture(params=[caddy, nginx], ids=["caddy", "nginx"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    tool(request.param.__name__)
    made: Proxy = request.param
    return made


def _client(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=False))


def _address(gateway: RunningGateway) -> str:
    return gateway.url.removeprefix("http://")


async def test_streams_come_at_once_and_go_on_where_they_broke(tmp_path: pathlib.Path, proxy: Proxy) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway, proxy(tmp_path, _address(gateway)) as url:
        async with _client(url) as http:
            async with open_stream(http, "a") as stream:
                await http.post("/api/chat", json={"session_id": "a", "message": "/count 60 50"})
                first = await stream.until_event("text_delta")
                state = await gateway.state("a")
                assert state["is_processing"], (
                    "the first word came when the answer was over: something buffers"
                )
                began = time.monotonic()
                while (frame := await stream.next()) is not None and frame.event != "text_delta":
                    pass
                assert time.monotonic() - began < LAG_SECONDS * crowding()
            async with open_stream(http, "a", after=first.id) as stream:
                await stream.until_event("turn_ended")
                assert (first.data["text"] + stream.text).split() == [str(number) for number in range(1, 61)]


BELOW = "/assistant"
"""The path that the proxies' files give as an example."""


@contextlib.asynccontextmanager
async def caddy_below(directory: pathlib.Path, gateway: str) -> AsyncIterator[str]:
    """Caddy with its file as its comment says for a path."""
    async with caddy(
        directory, gateway, text=_with_the_example(CADDYFILE.read_text(), "import {$PROXY:gateway}")
    ) as url:
        yield url + BELOW


@contextlib.asynccontextmanager
async def nginx_below(directory: pathlib.Path, gateway: str) -> AsyncIterator[str]:
    """nginx with its file as its comment says for a path."""
    at_root = "location / {\n\t\t\tproxy_pass http://gateway;\n\t\t}"
    async with nginx(directory, gateway, text=_with_the_example(NGINX_CONF.read_text(), at_root)) as url:
        yield url + BELOW


def _with_the_example(text: str, at_root: str) -> str:
    """The text with its example for a path in place of what serves the root."""
    before, marker, example = text.partition("# Below a path of a site instead")
    assert marker, "the file has no example for a path any more"
    assert at_root in before
    head, _, tail = before.rpartition(at_root)
    words, _, rest = example.partition("\n")
    return head + tail + marker + words + "\n" + rest.replace("# ", "")


@pytest.mark.parametrize(
    ("proxy", "prefix"),
    [(caddy, ""), (nginx, ""), (caddy_below, BELOW), (nginx_below, BELOW)],
    ids=["caddy", "nginx", "caddy-below-a-path", "nginx-below-a-path"],
)
async def test_everything_passes(tmp_path: pathlib.Path, proxy: Proxy, prefix: str) -> None:
    """The pages and what they load, a stream, sockets of a visitor and of staff, MCP, and no way out."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            running_gateway(tmp_path, config=CONFIG + f'public_url = "https://chat.example{prefix}"\n')
        )
        url = await stack.enter_async_context(proxy(tmp_path, _address(gateway)))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                f"{url}/",
                connector=aiohttp.TCPConnector(ssl=False),
                headers={"Origin": "https://chat.example"},
            )
        )
        for page in ("", "inbox", "demo/product"):
            await _loads(http, page)
        async with http.get("api/chat/stream?session_id=a&view=events") as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert await soon(answer.content.readline(), START_SECONDS)
        chat = {"session_id": "session_1_a_b"}
        async with http.post("api/products/1/chat/sessions", json=chat) as answer:
            assert answer.status == 200, await answer.text()
        for socket_path in ("ws/chat/customer/1/session_1_a_b", "ws/chat/session/session_1_a_b"):
            async with http.ws_connect(socket_path) as opened:
                said = await opened.receive_json(timeout=START_SECONDS * crowding())
                assert said["type"] == "connection_status"
        async with http.ws_connect("ws/chat/admin/1") as opened:
            said = await opened.receive_json(timeout=START_SECONDS * crowding())
            assert said["type"] == "connection_status"
        ping = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for path in ("mcp", "mcp/"):
            async with http.post(path, json=ping, headers={"Accept": "application/json"}) as answer:
                assert (answer.status, str(answer.url)) == (200, f"{url}/mcp"), await answer.text()
        search = {"name": "search_products", "arguments": {"search": "", "page_size": 50}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": search}
        async with http.post("mcp", json=call) as answer:
            products = (await answer.json())["result"]["structuredContent"]["products"]
        picture = next(product["image"] for product in products if product["image"].startswith("/"))
        async with http.get(f"{url.removesuffix(prefix)}{picture}") as answer:
            assert answer.status == 200, f"{answer.url} is no picture"


_LOADED = re.compile(r'(?:src|href)="([^"#]+)"')


async def _loads(http: aiohttp.ClientSession, page: str) -> None:
    """A page comes, and so does everything that its HTML names."""
    async with http.get(page) as answer:
        assert answer.status == 200, f"{answer.url}: {answer.status}"
        found, base = _LOADED.findall(await answer.text()), str(answer.url)
    assert found
    for name in found:
        if name.startswith(("https:", "http:", "data:")):
            continue
        async with http.get(urljoin(base, name)) as answer:
            assert answer.status == 200, f"{answer.url}: {answer.status}"


async def test_seven_streams_at_once_over_http_2(tmp_path: pathlib.Path, proxy: Proxy) -> None:
    """A browser opens six connections to an origin over HTTP/1.1, and the seventh waits; over HTTP/2 not."""
    async with running_gateway(tmp_path, config=CONFIG) as gateway, proxy(tmp_path, _address(gateway)) as url:
        async with launched("--ignore-certificate-errors") as browser:
            assert await _streams_that_open(browser, url) == (TABS, "h2")
            assert (await _streams_that_open(browser, gateway.url))[0] < TABS, "it cannot fail"


async def _streams_that_open(browser: Browser, url: str) -> tuple[int, str]:
    """How many of seven streams a browser gets at once, and by which protocol."""
    page = await browser.new_page(ignore_https_errors=True)
    await page.goto(f"{url}/")
    opened = await page.evaluate(
        """async tabs => {
            let open = 0;
            const aborter = new AbortController();
            const streams = Array.from({length: tabs}, (_, tab) =>
                fetch(`/api/chat/stream?session_id=t${tab}&view=events`, {signal: aborter.signal})
                    .then(() => { open += 1; }).catch(() => {}));
            await Promise.race([Promise.all(streams), new Promise(done => setTimeout(done, 2000))]);
            aborter.abort();
            const [entry] = performance.getEntriesByType("navigation");
            return [open, entry.nextHopProtocol];
        }""",
        TABS,
    )
    await page.close()
    return opened[0], opened[1]


async def test_a_restart_behind_a_proxy_loses_nothing_and_shows_nobody_an_error_page(
    tmp_path: pathlib.Path, proxy: Proxy
) -> None:
    """The gateway's socket is held by its service manager, as deploy/systemd does."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(
                running_gateway(tmp_path, config=CONFIG, listener=listener)
            )
            people = People(await stack.enter_async_context(proxy(tmp_path, address)), ssl=_trusting())
            async with people.at_work():
                await people.until(50)
                assert await first.stop() == 0
                second = await stack.enter_async_context(
                    running_gateway(tmp_path, config=CONFIG, listener=listener)
                )
                await people.until(50)
            words = await people.check(second.http)
    print(f"\n{words} words, 0 lost, trouble {dict(people.trouble)}, longest wait {max(people.waits):.2f} s")  # noqa: T201
    assert set(people.trouble) <= {"status 503"}, "502 and cut connections are what a restart must not show"


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
