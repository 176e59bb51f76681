"""nginx and Caddy in front of several gateways: what comes to which, and what is never sent twice.

The gateways are stand-ins that count what they get: that real ones answer for each other is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from tests.deploy.test_proxies import NGINX_CONF, caddy, nginx
from tests.deploy.tools import tool
from tests.shared import eventually

REQUESTS: Final = 12
SESSIONS: Final = 24
"""By chance all of so many would come to one of two once in eight million times."""


class StandIn:
    """Counts requests by method and path. It ends the connection of what is asked below `/cut`."""

    def __init__(self) -> None:
        self.got: Counter[str] = Counter()
        self.is_ready = True
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.path == "/readyz":
            return web.Response(status=200 if self.is_ready else 503)
        self.got[f"{request.method} {request.path}"] += 1
        assert "X-Sticky" not in request.headers
        if request.path.startswith("/cut/") and request.transport is not None:
            request.transport.abort()
        return web.Response(status=200 if self.is_ready else 503)


Balancer = Callable[[pathlib.Path, list[str]], AbstractAsyncContextManager[str]]


@contextlib.asynccontextmanager
async def caddy_before(directory: pathlib.Path, gateways: list[str]) -> AsyncIterator[str]:
    async with caddy(directory, " ".join(gateways), kind="gateways") as url:
        yield url


@contextlib.asynccontextmanager
async def nginx_before(directory: pathlib.Path, gateways: list[str]) -> AsyncIterator[str]:
    """With the lines that its file gives as an example for several."""
    text, count = re.subn(r"server 127.0.0.1:8080 max_fails=0;\n.*\n", "", NGINX_CONF.read_text())
    assert count == 1
    for example, address in zip(("10.0.0.5", "10.0.0.6"), ("127.0.0.1:8080", gateways[1]), strict=True):
        assert f"# server {example}:8080 " in text
        text = text.replace(f"# server {example}:8080 ", f"server {address} ")
    async with nginx(directory, gateways[0], text=text) as url:
        yield url


@pytest.fixture(params=[caddy_before, nginx_before], ids=["caddy", "nginx"])
def balancer(request: pytest.FixtureRequest) -> Balancer:
    tool(request.param.__name__.partition("_")[0])
    found: Balancer = request.param
    return found


@contextlib.asynccontextmanager
async def balanced(
    balancer: Balancer, directory: pathlib.Path
) -> AsyncIterator[tuple[aiohttp.ClientSession, list[StandIn]]]:
    """A client of the balancer, and the two behind it."""
    async with contextlib.AsyncExitStack() as stack:
        two = [StandIn(), StandIn()]
        for one in two:
            await one.start()
            stack.push_async_callback(one.stop)
        url = await stack.enter_async_context(balancer(directory, [f"127.0.0.1:{one.port}" for one in two]))
        connector = aiohttp.TCPConnector(ssl=False)
        yield await stack.enter_async_context(aiohttp.ClientSession(url, connector=connector)), two


async def _status(http: aiohttp.ClientSession, method: str, path: str, session_id: str = "") -> int:
    headers = {"X-Session-Id": session_id} if session_id else {}
    async with http.request(method, path, headers=headers) as answer:
        return answer.status


async def test_a_session_comes_to_one_and_no_post_comes_twice(
    tmp_path: pathlib.Path, balancer: Balancer
) -> None:
    async with balanced(balancer, tmp_path) as (http, two):
        for number in range(SESSIONS):
            for _ in range(2):
                assert await _status(http, "POST", f"/h/{number}", f"s-{number}") == 200
                assert await _status(http, "GET", f"/q/{number}?session_id=s-{number}") == 200
        for kind in ("POST /h", "GET /q"):
            counts = [one.got[f"{kind}/{number}"] for number in range(SESSIONS) for one in two]
            assert set(counts) == {0, 2}, kind
        assert all(one.got for one in two)

        # A POST that has arrived may have been done: whoever sent it has to decide.
        for number in range(REQUESTS):
            assert await _status(http, "POST", f"/cut/{number}", f"s-{number}") == 502
        times = [sum(one.got[f"POST /cut/{number}"] for one in two) for number in range(REQUESTS)]
        assert max(times) == 1


async def test_who_is_not_there_or_not_ready_is_left_out(tmp_path: pathlib.Path, balancer: Balancer) -> None:
    async with balanced(balancer, tmp_path) as (http, two):
        await two[0].stop()
        for number in range(REQUESTS):  # what could not be delivered may be delivered elsewhere, also a POST
            assert await _status(http, "POST", f"/{number}", f"s-{number}") == 200
        assert sum(two[1].got.values()) == REQUESTS
        two[0].got.clear()
        await two[0].start()

        async def is_back() -> bool:
            for number in range(REQUESTS):
                await _status(http, "GET", "/back", f"s-{number}")
            return bool(two[0].got)

        await eventually(is_back)
        two[0].is_ready = False

        async def all_are_well() -> bool:
            found = [await _status(http, "GET", "/well", f"s-{number}") for number in range(REQUESTS)]
            return set(found) == {200}

        await eventually(all_are_well)
