"""What visitors can chat about: a file of the shop's own, a store of the shop, or the few that come along."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from gateway.apps.product_chat.catalogue import CHECK_SECONDS
from gateway.config.file import ConfigError, load
from tests.products.shop import CHATS, Browser, running_shop


def file_of(path: pathlib.Path, *products: dict[str, object]) -> pathlib.Path:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"products": products}))
    os.replace(fresh, path)
    return path


async def name_of(visitor: Browser, product: int) -> str | None:
    answer = await visitor.ask("GET", f"/api/products/{product}")
    return answer.json["name"] if answer.status == 200 else None


async def test_a_file_has_numbers_of_its_own_and_is_read_again(tmp_path: pathlib.Path) -> None:
    path = file_of(tmp_path / "mine.json", {"id": 7001, "name": "Oak chair"}, {"id": 12, "name": "Lamp"})
    async with running_shop(tmp_path, catalogue=str(path)) as shop, shop.visitor() as visitor:
        assert [await name_of(visitor, number) for number in (7001, 12, 1)] == ["Oak chair", "Lamp", None]
        chat = await visitor.begin(12)
        file_of(path, {"id": 7001, "name": "Oak stool"})
        assert await name_of(visitor, 7001) == "Oak chair", "it was looked at a moment ago"
        shop.advance(CHECK_SECONDS)
        assert await name_of(visitor, 7001) == "Oak stool"
        assert (await visitor.ask("POST", CHATS.format(12), {"session_id": "other_1"})).status == 404
        assert (await visitor.say(chat, "/echo is it still here?", product=12)).status == 200
        async with visitor.chat_socket(chat, product=12) as socket:
            await socket.until("connection_status")
        path.write_text("{ this is broken")
        shop.advance(CHECK_SECONDS)
        assert await name_of(visitor, 7001) == "Oak stool"
        assert "THE PRODUCTS in" in shop.gateway.log()
        assert "Traceback" not in shop.gateway.log()


async def test_the_products_of_a_store_are_numbered_from_one(tmp_path: pathlib.Path) -> None:
    async with running_shop(tmp_path, catalogue="shop:nitzat-haduvdevan") as shop, shop.visitor() as visitor:
        shown = await visitor.ask("GET", "/api/v1/shopping/products")
        first = await visitor.ask("GET", "/api/products/1")
        assert first.status == 200
        assert first.json["name"] == shown.json["data"]["products"][0]["name"]
        assert first.json["price"].endswith("₪")
        chat = await visitor.ask("POST", CHATS.format(1), {"session_id": "s_1"})
        assert chat.json["product_name"] == first.json["name"]
        assert await name_of(visitor, 0) is None
        assert await name_of(visitor, 100_000) is None


@pytest.mark.parametrize("named", ["/nowhere/products.json", "shop:no-such-store"])
def test_a_catalogue_that_is_not_there_is_a_mistake(tmp_path: pathlib.Path, named: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[shop]\nstores_dir = "{tmp_path}"\n[products]\ncatalogue = "{named}"\n')
    with pytest.raises(ConfigError, match=r"products\.catalogue: there is no file"):
        load(path, environ={})


TWICE = [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]
ZERO = [{"id": 0, "name": "a"}]
NAMELESS = [{"id": 3, "name": " "}]


@pytest.mark.parametrize("products", [TWICE, ZERO, NAMELESS])
async def test_a_file_that_cannot_be_meant_is_said(
    tmp_path: pathlib.Path, products: list[dict[str, object]]
) -> None:
    path = file_of(tmp_path / "mine.json", *products)
    async with running_shop(tmp_path, catalogue=str(path)) as shop, shop.visitor() as visitor:
        assert await name_of(visitor, 1) is None
        assert "THE PRODUCTS in" in shop.gateway.log()
