"""The catalogue: what comes along, what a search finds, and what a file that changes or breaks does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from gateway.apps.shop.catalog import (
    MAX_PICTURE_BYTES,
    SHIPPED,
    Catalogue,
    Query,
    decimals,
    formatted,
    number,
)
from gateway.apps.shop.errors import ProductNotFound


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(name: str = "אורז", **fields: Any) -> dict[str, Any]:
    return {"name": name, "price": 9.9, "category": "דגנים", **fields}


def write(directory: pathlib.Path, products: list[dict[str, Any]] | str, *, store: str = "s") -> pathlib.Path:
    path = directory / store / "data" / "products.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = products if isinstance(products, str) else json.dumps({"products": products})
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)
    return path


async def loaded(directory: pathlib.Path, clock: Callable[[], float] | None = None) -> Catalogue:
    catalogue = Catalogue(directory, monotonic=clock or Clock(), check_seconds=1)
    await catalogue.refresh()
    return catalogue


async def test_the_shipped_catalogue_is_a_shop() -> None:
    catalogue = await loaded(SHIPPED)
    products = catalogue.all()
    assert catalogue.stores() == [("nitzat-haduvdevan", len(products))]
    assert len(products) >= 40
    assert len({product.name for product in products}) == len(products)
    assert len({product.category for product in products}) >= 5
    assert {product.is_in_stock for product in products} == {True, False}
    for number_, product in enumerate(products):
        assert product.id == f"nitzat-haduvdevan:{number_}"
        assert any("א" <= letter <= "ת" for letter in product.name)
        assert product.name_en.isascii()
        assert product.picture.startswith("data:image/svg+xml;base64,")
        picture = catalogue.picture(*product.image.removeprefix("/shop/images/").split("/"))
        assert picture is not None
        assert b"<script" not in picture
        assert 0 < len(picture) < MAX_PICTURE_BYTES


async def test_many_first_callers_all_find_the_catalogue_loaded() -> None:
    catalogue = Catalogue(SHIPPED, monotonic=Clock())

    async def first() -> int:
        await catalogue.refresh()
        return len(catalogue.all())

    assert min(await asyncio.gather(*(first() for _ in range(20)))) >= 40


async def test_a_changed_file_is_read_again(tmp_path: pathlib.Path) -> None:
    clock = Clock()
    write(tmp_path, [entry("one")])
    catalogue = await loaded(tmp_path, clock)
    version = catalogue.version
    write(tmp_path, [entry("one"), entry("two", price=12)])
    await catalogue.refresh()
    assert len(catalogue.all()) == 1
    clock.now = 1
    await catalogue.refresh()
    assert [product.name for product in catalogue.all()] == ["one", "two"]
    assert catalogue.version > version
    write(tmp_path, [entry("three")], store="another")
    clock.now = 2
    await catalogue.refresh()
    assert catalogue.stores() == [("another", 1), ("s", 2)]


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{",
        "[]",
        '{"products": 3}',
        '{"products": [{"name": "a"}]}',
        '{"products": [{"name": " ", "price": 1, "category": "c"}]}',
        '{"products": [{"name": "a", "price": 1.999, "category": "c"}]}',
        '{"products": [{"name": "a", "price": -1, "category": "c"}]}',
        '{"products": [{"name": "a", "price": "NaN", "category": "c"}]}',
        '{"products": [{"name": "a", "price": 1e12, "category": "c"}]}',
        '{"products": [{"name": "a", "price": 1, "category": "c", "image": "images/none.svg"}]}',
        None,
    ],
)
async def test_a_broken_or_missing_file_changes_nothing_and_is_said_once(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    clock = Clock()
    path = write(tmp_path, [entry("one")])
    catalogue = await loaded(tmp_path, clock)
    if broken is None:
        path.unlink()
    else:
        write(tmp_path, broken)
    for now in (1, 2, 3):
        clock.now = now
        await catalogue.refresh()
    assert [product.name for product in catalogue.all()] == ["one"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "THE CATALOGUE of s cannot be read, 1 products known before stay" in errors[0].getMessage()
    write(tmp_path, [entry("two")])
    clock.now = 4
    await catalogue.refresh()
    assert [product.name for product in catalogue.all()] == ["two"]


async def test_no_catalogue_at_all_is_said(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue = await loaded(tmp_path / "nowhere")
    assert catalogue.all() == []
    assert "THERE IS NO CATALOGUE" in caplog.text


async def test_a_folder_with_another_name_is_no_store(tmp_path: pathlib.Path) -> None:
    for store in ("Big", "a_b", ".hidden", "a b"):
        write(tmp_path, [entry()], store=store)
    assert (await loaded(tmp_path)).stores() == []


async def test_pictures_lie_in_their_folder_or_elsewhere_on_the_web(tmp_path: pathlib.Path) -> None:
    images = [
        "../data/x.svg",
        "images/../x.svg",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://x.y/z.png",
    ]
    write(tmp_path, [entry(image=image) for image in images])
    products = (await loaded(tmp_path)).all()
    assert [product.image for product in products] == ["", "", "", "", "https://x.y/z.png"]
    assert {product.picture for product in products} == {""}


async def test_searching(tmp_path: pathlib.Path) -> None:
    write(
        tmp_path,
        [
            entry("Straße", price=1, category="A"),
            entry("STRASSE 2", price=2, category="a"),
            entry("אורז", name_en="Rice", price=3, category="B", is_in_stock=False),
        ],
    )
    catalogue = await loaded(tmp_path)

    def names(**query: Any) -> list[str]:
        return [product.name for product in catalogue.search(Query(**query)).products]

    assert names(text="strasse") == ["Straße", "STRASSE 2"]
    assert names(text=" RICE ") == ["אורז"]
    assert names(category="a") == ["Straße", "STRASSE 2"]
    assert names(low=200, high=300) == ["STRASSE 2", "אורז"]
    assert names(is_in_stock=True, low=150) == ["STRASSE 2"]
    assert names(text="%") == names(text=".*") == []
    page = catalogue.search(Query(page=2, page_size=2))
    assert (page.total, page.pages, len(page.products)) == (3, 2, 1)
    assert catalogue.search(Query(text="nothing")).pages == 0


async def test_an_id_of_another_form_is_the_id_of_nothing(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [entry()])
    catalogue = await loaded(tmp_path)
    assert catalogue.product("s:0").name == "אורז"
    for wrong in ("s:1", "s:-1", "s:00", "s:0 ", " s:0", "s:٠", "../s:0", "s", "s:", ":0", "s:0:0", ""):
        with pytest.raises(ProductNotFound):
            catalogue.product(wrong)


@pytest.mark.parametrize(
    ("agorot", "short", "long"),
    [(0, "0 ₪", "0.00"), (5, "0.05 ₪", "0.05"), (990, "9.9 ₪", "9.90"), (1000, "10 ₪", "10.00"),
     (100_000_000, "1000000 ₪", "1000000.00")],
)  # fmt: skip
def test_money_is_written_without_arithmetic_on_floats(agorot: int, short: str, long: str) -> None:
    assert (formatted(agorot), decimals(agorot)) == (short, long)
    assert f"{number(agorot):.2f}" == long
