"""The webhook: signed as Standard Webhooks says, tried again, without a word of the conversation."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.inside import GatewayInside, gateway_inside
from tests.patience import soon
from tests.products.shop import Shop, config
from tests.scrapes import scrape
from tests.shared import eventually

SECRET: Final = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
ASKS: Final = {
    "repeat": True,
    "turns": [[{"ask": {"title": "Delete the secret plan?"}}, {"say": "done with the secret plan"}]],
}
SAYS: Final = {"repeat": True, "turns": [[{"say": "the secret answer"}]]}


class Receiver:
    """Somebody's server, which checks each signature with the library that is made for it."""

    def __init__(self) -> None:
        self.url = ""
        self.got: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.statuses: list[int] = []
        """What the next requests are answered; 204 after that."""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.text()
        message = Webhook(SECRET).verify(body, dict(request.headers))
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + " ", dict(request.headers))
        assert "secret" not in body, "no words of the conversation"
        self.got.put_nowait((request.headers["webhook-id"], message))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    async def next(self) -> tuple[str, dict[str, Any]]:
        return await soon(self.got.get(), 10)


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def settings(receiver: Receiver, *, more: str = "allow_private = true") -> str:
    return f'[webhook]\nurl = "{receiver.url}"\nsecret = "{SECRET}"\nwaits_minutes = 2\n{more}\n'


def look(gateway: GatewayInside) -> None:
    """Time has passed."""
    gateway.inner.watching.look()
    gateway.inner.webhooks.wake()


async def test_waits_and_unseen_ends_are_told_and_failures_tried_again(tmp_path: pathlib.Path) -> None:
    async with receiving() as receiver:
        agents = {"asks": ASKS, "says": SAYS}
        async with gateway_inside(tmp_path, config=settings(receiver), agents=agents) as gateway:
            await gateway.post("/api/sessions", {"session_id": "a", "agent": "asks"}, status=201)
            await gateway.send("a", "my secret wish")
            await eventually(lambda: _is_asked(gateway, "a"))
            gateway.clock.advance(119)
            look(gateway)
            assert receiver.got.empty()
            gateway.clock.advance(2)
            receiver.statuses = [500]
            look(gateway)
            first, message = await receiver.next()
            assert message["type"] == "permission.waiting"
            where = {"tenant": "default", "subject": "local", "session_id": "a", "agent": "asks"}
            assert message["data"] == {**where, "waiting_seconds": message["data"]["waiting_seconds"]}
            assert message["data"]["waiting_seconds"] >= 120

            await eventually(lambda: _has_counted(gateway, "failed", 1))
            gateway.clock.advance(10)
            look(gateway)
            again, same = await receiver.next()
            assert (again, same) == (first, message), "the second try is the same message"
            look(gateway)
            assert receiver.got.empty(), "a wait is told once"

            asked = (await gateway.get("/api/state?session_id=a"))["pending_permission"]
            chosen = {"permission_id": asked["permission_id"], "option_id": asked["options"][0]["option_id"]}
            await gateway.post("/api/sessions/a/permission", chosen)
            _, ended = await receiver.next()
            assert ended["type"] == "turn.ended_unwatched"
            assert ended["data"]["stop_reason"] == "end_turn"
            await gateway.post("/api/sessions", {"session_id": "b", "agent": "says"}, status=201)
            answer = await gateway.post("/api/chat?wait=10", {"session_id": "b", "message": "hello"})
            assert not answer["is_processing"]
            assert not any((tmp_path / "data" / "webhook").iterdir()), "nothing more is to be delivered"
            assert await _has_counted(gateway, "delivered", 2)
            assert receiver.got.empty(), "somebody waited for this turn"
            assert "secret" not in gateway.log_path.read_text().replace(SECRET, "")


async def test_what_failed_outlives_a_restart_and_private_addresses_are_refused(
    tmp_path: pathlib.Path,
) -> None:
    async with receiving() as receiver:
        refused = settings(receiver, more="")
        async with gateway_inside(tmp_path, config=refused, agents={"says": SAYS}) as gateway:
            await gateway.post("/api/sessions", {"session_id": "a", "agent": "says"}, status=201)
            await gateway.send("a", "hello")
            await eventually(lambda: _has_counted(gateway, "failed", 1))
            log = gateway.log_path.read_text()
            assert "is a private address" in log
            assert "webhook.allow_private" in log
        assert receiver.got.empty()
        assert len(list((tmp_path / "data" / "webhook").iterdir())) == 1
        at_ms = gateway.clock.wall_ms() + 60_000
        allowed = settings(receiver)
        async with gateway_inside(tmp_path, config=allowed, agents={"says": SAYS}, at_ms=at_ms) as second:
            _, message = await receiver.next()
            assert message["type"] == "turn.ended_unwatched"
            await eventually(lambda: _has_counted(second, "delivered", 1))
        assert list((tmp_path / "data" / "webhook").iterdir()) == []


async def test_a_visitor_who_asks_for_a_person_is_told_of(tmp_path: pathlib.Path) -> None:
    async with receiving() as receiver:
        text = config() + settings(receiver, more='allow_private = true\nevents = ["person.wanted"]')
        async with gateway_inside(tmp_path, config=text) as gateway:
            shop = Shop(gateway)
            async with shop.visitor() as visitor:
                chat = await visitor.begin(2)
                await visitor.say(chat, "a secret complaint: I need a human", product=2)
                _, message = await receiver.next()
                assert message["type"] == "person.wanted"
                assert message["data"]["session_id"] == chat
                assert message["data"]["product_id"] == 2
                await visitor.say(chat, "urgent secret", product=2)
                assert receiver.got.empty(), "the chat is urgent already"


async def _is_asked(gateway: GatewayInside, session_id: str) -> bool:
    return bool((await gateway.get(f"/api/state?session_id={session_id}"))["pending_permission"])


async def _has_counted(gateway: GatewayInside, outcome: str, count: int) -> bool:
    return (await scrape(gateway)).value("webhook_total", outcome=outcome) == count
