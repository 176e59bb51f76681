"""Applications that are switched off: nothing of them is there, and what they have stored is looked after."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from gateway.api import page
from gateway.app import Gateway
from gateway.config.applications import SHIPPED
from gateway.config.tables import ApplicationsConfig, Config
from tests.asked import Inside
from tests.gateways import running_gateway
from tests.integration.test_backup import back_up
from tests.integration.test_restored_erasures import holds, restored
from tests.patience import within

ALL: Final = tuple(SHIPPED)
CANARY: Final = "canary-of-a-cart"
ROUTES: Final = {
    "shop": {"/mcp", "/shop/images/{store}/{name}"},
    "shopping_assistant": {"/api/v1/shopping/query", "/api/admin/shop/insights"},
    "product_chat": {"/api/login", "/ws/chat/session/{session_id}", "/inbox", "/demo/product", "/widget.js"},
}
TABLES: Final = ("shop_sessions", "shop_purchases", "product_chat_sessions", "product_chat_messages")


@contextlib.asynccontextmanager
async def opened(directory: pathlib.Path, *enabled: str) -> AsyncIterator[Inside]:
    """A gateway in this process over the database in a directory."""
    config = Config(data_dir=str(directory), applications=ApplicationsConfig(enabled=enabled))
    gateway = Gateway(config)
    async with gateway.lifespan():
        yield Inside(gateway)


def counted(directory: pathlib.Path) -> dict[str, int]:
    """The rows of the applications' tables that are there."""
    found = {}
    with contextlib.closing(sqlite3.connect(directory / "gateway.db")) as connection:
        for table in TABLES:
            with contextlib.suppress(sqlite3.OperationalError):
                query = f"SELECT count(*) FROM {table}"  # noqa: S608 - one of the above
                found[table] = connection.execute(query).fetchone()[0]
    return found


async def fill(inside: Inside, name: str) -> None:
    """A session with a cart, and one with a product chat."""
    await inside.chat(name, "/echo hello")
    item = {"name": CANARY, "price": 9}
    for path in ("add", "checkout", "add"):
        body = item if path == "add" else {}
        answer = await inside.ask("POST", f"/api/v1/shopping/session/{name}/cart/{path}", body)
        assert answer.status == 200, answer.text
    chat = {"session_id": f"chat-{name}", "initial_message": "/echo is it red?"}
    answer = await inside.ask("POST", "/api/products/1/chat/sessions", chat)
    assert answer.status == 200, answer.text


async def types(inside: Inside, name: str) -> list[str]:
    """The types of the events in a session's log."""
    session = await inside.gateway.manager.find("default/local", name)
    assert session is not None
    page = await session.log.read(0, max_bytes=1 << 20)
    return [event.type for event in page.events]


async def test_every_application_can_be_there_without_those_that_it_does_not_need(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page").mkdir()
    for name in ("index.html", "inbox.html", "demo.html", "widget.js"):
        (tmp_path / "page" / name).touch()
    monkeypatch.setattr(page, "PLACES", (tmp_path / "page",))
    for number, enabled in enumerate(((), ("shop",), ("product_chat",), ("shop", "shopping_assistant"), ALL)):
        async with opened(tmp_path / str(number), *enabled) as inside:
            routes = {getattr(route, "path", "") for route in inside.gateway.app.routes}
            for name, paths in ROUTES.items():
                assert paths & routes == (paths if name in enabled else set()), (enabled, name)
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            assert (await inside.ask("POST", "/mcp", message)).status == (200 if "shop" in enabled else 404)
            told = (await inside.ask("GET", "/api/auth")).json
            assert sorted(told["applications"]) == sorted(enabled)
            described = set((await inside.ask("GET", "/openapi.json")).json["paths"])
            assert any(path.startswith("/api/v1/shopping") for path in described) == (
                "shopping_assistant" in enabled
            )
            assert any(path.startswith("/api/products") for path in described) == ("product_chat" in enabled)
            agents = inside.gateway.services.agents.known
            assert ("shop" in agents) == ("shop" in enabled)
            assert await inside.chat("s", "/echo hello") == ["/echo hello", "hello"]
        there = counted(tmp_path / str(number))
        assert ("shop_sessions" in there) == ("shop" in enabled)
        assert ("product_chat_sessions" in there) == ("product_chat" in enabled)


async def test_what_was_stored_stays_and_goes_on_when_they_are_switched_on_again(
    tmp_path: pathlib.Path,
) -> None:
    async with opened(tmp_path, *ALL) as inside:
        await fill(inside, "a")
        before = await types(inside, "a")
        assert before.count("cart") == 3
        chats = await types(inside, "chat-a")
        assert {"chat_opened", "chat_post"} <= set(chats)
    rows = counted(tmp_path)
    async with opened(tmp_path) as inside:
        assert [kind for kind in await types(inside, "a") if kind == "cart"] == ["cart"] * 3
        assert (await types(inside, "chat-a"))[: len(chats)] == chats
        assert (await inside.chat("a", "/echo again"))[-2:] == ["/echo again", "again"]
        said = await inside.chat("chat-a", "/echo and blue?")
        assert said[-1] == "and blue?"
        session = await inside.gateway.manager.find("default/local", "a")
        assert session is not None
        assert "cart" not in session.fold.snapshot()
    assert counted(tmp_path) == rows
    async with opened(tmp_path, *ALL) as inside:
        cart = (await inside.ask("GET", "/api/v1/shopping/session/a/cart")).json
        assert [item["name"] for item in cart["data"]["cart"]] == [CANARY]
        session = await inside.gateway.manager.find("default/local", "a")
        assert session is not None
        assert session.fold.snapshot()["cart"] == {"lines": 1, "items": 1, "total": "9.00"}
        async with within(10):
            while counted(tmp_path)["product_chat_messages"] < rows["product_chat_messages"] + 2:
                await inside.gateway.manager.find("default/local", "chat-a")
                await asyncio.sleep(0.01)


async def test_a_deleted_session_takes_along_what_applications_that_are_off_have_stored(
    tmp_path: pathlib.Path,
) -> None:
    async with opened(tmp_path, *ALL) as inside:
        await fill(inside, "a")
        await fill(inside, "b")
    assert set(counted(tmp_path).values()) >= {2}
    async with opened(tmp_path) as inside:
        for name in ("a", "chat-a"):
            answer = await inside.ask("DELETE", f"/api/sessions/{name}")
            assert answer.status == 200, answer.text
    left = counted(tmp_path)
    assert (left["shop_sessions"], left["shop_purchases"], left["product_chat_sessions"]) == (1, 1, 1)
    assert left["product_chat_messages"] > 0


async def test_what_is_over_is_forgotten_while_its_application_is_off(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, *ALL) as inside:
        await fill(inside, "a")
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db")) as connection, connection:
        past = time.time_ns() // 1_000_000 - 1_000
        for table in ("shop_sessions", "shop_purchases", "sessions"):
            connection.execute(f"UPDATE {table} SET expires_at = {past}")  # noqa: S608 - one of the three
    async with opened(tmp_path) as inside:
        assert await inside.gateway.reaper.sweep() == 0
    assert set(counted(tmp_path).values()) == {0}


async def test_a_session_that_moves_takes_its_cart_along_while_the_shop_is_off(
    tmp_path: pathlib.Path,
) -> None:
    async with opened(tmp_path, *ALL) as inside:
        await fill(inside, "a")
    async with opened(tmp_path) as inside:
        await inside.gateway.manager.adopt("default/local", "default/ann", keeps_shares=False)
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        assert connection.execute("SELECT owner, conversation FROM shop_sessions").fetchall() == [
            ("default/ann", "a")
        ]


async def test_a_backup_and_a_restore_cover_what_is_switched_off(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for name in ("gone", "kept"):
            await gateway.chat(name, "/echo hello")
            item = {"name": f"{CANARY}-{name}", "price": 9}
            await gateway.post(f"/api/v1/shopping/session/{name}/cart/add", item)
    async with running_gateway(tmp_path, config="[applications]\nenabled = []\n") as gateway:
        file = await back_up(tmp_path, "one.tar")
        await gateway.delete("gone")
    assert CANARY.encode() in file.read_bytes()
    await restored(tmp_path, file, "--replace")
    data = tmp_path / "data"
    assert holds(data, f"{CANARY}-gone") == []
    assert holds(data, f"{CANARY}-kept") != []
