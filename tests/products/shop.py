"""A shop for tests: a gateway with visitors and staff, and sockets of an independent library."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import argon2
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.gateways import RunningGateway, Scenario, running_gateway
from tests.inside import GatewayInside, gateway_inside
from tests.patience import soon, within

PASSWORD: Final = "open sesame"
QUICK: Final = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
WAIT_SECONDS: Final = 15
CHATS: Final = "/api/products/{}/chat/sessions"
ADMIN_CHATS: Final = "/api/admin/chat/sessions"
Frame = dict[str, Any]


def config(**settings: Any) -> str:
    """A shop's configuration; `settings` are those of `[products]`. Its visitors may let the built-in agent
    echo.
    """
    settings = {"commands": ["echo", "count"]} | settings
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    return (
        '[auth]\nmodes = ["anonymous", "keys"]\n[visitors]\norigins = ["http://localhost:1"]\n'
        f'[products]\n{lines}[products.admins]\nruth = "{QUICK.hash(PASSWORD)}"\n'
    )


@contextlib.asynccontextmanager
async def running_shop(
    directory: pathlib.Path,
    *,
    agent: Scenario | None = None,
    also: str = "",
    is_process: bool = False,
    **settings: Any,
) -> AsyncIterator[Shop]:
    """A shop; `agent` is the scripted one that answers, else the built-in one does; `also` more tables. It is
    in the loop of its test, unless it has to be a process.
    """
    start = running_gateway if is_process else gateway_inside
    agents = {} if agent is None else {"clerk": agent}
    if agent is not None:
        settings["agent"] = "clerk"
    async with start(directory, config=config(**settings) + also, agents=agents) as gateway:
        yield Shop(gateway)


def shared_shop(*, agent: Scenario | None = None, **settings: Any) -> Any:
    """The fixture `shop` of a module: one for all of its tests, which keep apart by visitors."""

    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
        async with running_shop(tmp_path_factory.mktemp("shop"), agent=agent, **settings) as running:
            yield running

    return shop


class Answer:
    """A status with its JSON."""

    def __init__(self, status: int, json_: Any, headers: Any) -> None:
        self.status = status
        self.json = json_
        self.headers = headers


class Browser:
    """A visitor's browser: cookies of its own. Or the staff's client, with a Bearer."""

    def __init__(self, gateway: RunningGateway, token: str | None = None) -> None:
        self.gateway = gateway
        self.token = token
        self.origin: str | None = gateway.url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(limit=0)
        jar = aiohttp.CookieJar(unsafe=True)
        self.http = aiohttp.ClientSession(gateway.url, cookie_jar=jar, headers=headers, connector=connector)

    async def ask(self, method: str, path: str, body: object = None, **kwargs: Any) -> Answer:
        """Any request; the body as JSON."""
        headers = {**({"Origin": self.origin} if self.origin else {}), **kwargs.pop("headers", {})}
        more: Any = {"json": body} if method != "GET" else {}
        async with self.http.request(method, path, headers=headers, **more, **kwargs) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def begin(self, product: int = 1, session_id: str | None = None, **body: Any) -> str:
        """A new chat; its id."""
        session_id = session_id or fresh_id()
        answer = await self.ask("POST", CHATS.format(product), {"session_id": session_id, **body})
        assert answer.status == 200, answer.json
        return session_id

    async def say(self, session_id: str, text: str, *, product: int = 1, **body: Any) -> Answer:
        """A message by REST."""
        path = f"{CHATS.format(product)}/{session_id}/messages"
        return await self.ask("POST", path, {"message_text": text, **body})

    async def history(self, session_id: str, *, product: int = 1, **query: Any) -> Any:
        """The messages."""
        answer = await self.ask("GET", f"{CHATS.format(product)}/{session_id}/messages", params=query)
        assert answer.status == 200, answer.json
        return answer.json

    async def until(
        self, session_id: str, fits: Callable[[list[Any]], bool], *, product: int = 1
    ) -> list[Any]:
        """The messages as soon as they fit."""
        async with within(WAIT_SECONDS):
            while not fits(messages := await self.history(session_id, product=product)):
                await asyncio.sleep(0.02)
        return list(messages)

    @contextlib.asynccontextmanager
    async def socket(self, path: str, **kwargs: Any) -> AsyncIterator[Socket]:
        """An open WebSocket of this browser."""
        cookies = "; ".join(f"{cookie.key}={cookie.value}" for cookie in self.http.cookie_jar)
        headers = {"Cookie": cookies} if cookies else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        url = self.gateway.url.replace("http", "ws", 1) + path
        origin = kwargs.pop("origin", self.origin)
        async with connect(url, additional_headers=headers, origin=origin, **kwargs) as connection:
            yield Socket(connection)

    def chat_socket(self, session_id: str, *, product: int = 1, query: str = "") -> Any:
        """The visitor's socket of a chat."""
        return self.socket(f"/ws/chat/customer/{product}/{session_id}{query}")


class Socket:
    """A WebSocket and every frame that it brought."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Frame] = []

    async def next(self) -> Frame:
        """The next frame."""
        frame: Frame = json.loads(await soon(self.connection.recv(), WAIT_SECONDS))
        self.frames.append(frame)
        return frame

    async def until(self, kind: str, **fields: Any) -> Frame:
        """The first frame from here on that is so."""
        async with within(WAIT_SECONDS):
            while True:
                frame = await self.next()
                if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                    return frame

    async def send(self, kind: str, **fields: Any) -> None:
        """A frame."""
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def closed(self) -> int:
        """Reads to the end; the closing code."""
        async with within(WAIT_SECONDS):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    self.frames.append(json.loads(await self.connection.recv()))
        return self.connection.close_code or 0

    async def settled(self) -> list[Frame]:
        """Everything that was on its way: a ping comes back behind it."""
        mark = secrets.token_hex(4)
        await self.send("ping", timestamp=mark)
        await self.until("pong", timestamp=mark)
        return self.frames


class Shop:
    """A running shop, its visitors and its staff."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway

    def advance(self, seconds: float) -> None:
        """So many seconds pass at once."""
        assert isinstance(self.gateway, GatewayInside)
        self.gateway.clock.advance(seconds)

    @contextlib.asynccontextmanager
    async def visitor(self) -> AsyncIterator[Browser]:
        """A browser that nobody knows."""
        browser = Browser(self.gateway)
        try:
            yield browser
        finally:
            await browser.http.close()

    @contextlib.asynccontextmanager
    async def staff(self) -> AsyncIterator[Browser]:
        """Ruth, logged in."""
        body = {"username": "ruth", "password": PASSWORD}
        answer = await self.gateway.post("/api/login", body)
        browser = Browser(self.gateway, answer["access_token"])
        try:
            yield browser
        finally:
            await browser.http.close()


def fresh_id() -> str:
    """A session id as browsers make them."""
    return f"session_1700000000000_{secrets.token_hex(6)}_f1"
