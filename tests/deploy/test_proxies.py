"""nginx and Caddy, really in front of a gateway: TLS, HTTP/2, streams at once, reconnecting, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest
from playwright.async_api import Browser

from tests.chromium import launched
from tests.deploy.load import People
from tests.deploy.tools import DEPLOY, run, tool
from tests.gateways import RunningGateway, running_gateway
from tests.streams import open_stream

CONFIG = (
    '[limits]\nsession_burst = 100_000\naddress_burst = 100_000\n[server]\ntrusted_proxies = ["127.0.0.1"]\n'
)
LAG_SECONDS = 1.0
"""A proxy that buffers holds a stream back until its end, many times as long."""
START_SECONDS = 15
STOP_SECONDS = 1
TABS = 7


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


Proxy = Callable[[pathlib.Path, str], AbstractAsyncContextManager[str]]
"""(directory, the gateway's host:port) → the proxy's URL."""


@contextlib.asynccontextmanager
async def caddy(directory: pathlib.Path, gateway: str) -> AsyncIterator[str]:
    """Caddy with its file as it stands."""
    port = free_port()
    environ = {
        **os.environ,
        "SITE": f"localhost:{port}", "GATEWAY": gateway, "HTTP_PORT": str(free_port()),
        "XDG_DATA_HOME": str(directory / "caddy"), "XDG_CONFIG_HOME": str(directory / "caddy"),
    }  # fmt: skip
    command = [
        tool("caddy"),
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        str(DEPLOY / "proxy" / "Caddyfile"),
    ]
    async with _running(command, directory, environ, port) as url:
        yield url


@contextlib.asynccontextmanager
async def nginx(directory: pathlib.Path, gateway: str) -> AsyncIterator[str]:
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
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
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
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            await asyncio.sleep(0.05)
        assert process.poll() is None, log.read_text()
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
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
                assert time.monotonic() - began < LAG_SECONDS
            async with open_stream(http, "a", after=first.id) as stream:
                await stream.until_event("turn_ended")
                assert (first.data["text"] + stream.text).split() == [str(number) for number in range(1, 61)]


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
