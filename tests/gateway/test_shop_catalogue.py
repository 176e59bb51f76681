"""A catalogue of one's own behind a running gateway: broken at the start, repaired, changed, broken again."""

from __future__ import annotations

import json
import os
import pathlib

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.mcp_clients import call, refusal, result, said
from tests.shared import eventually

ME = {"sessionId": "alice"}


def write(path: pathlib.Path, text: str) -> None:
    """Replaced at once, as the documentation says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


def products(*names: str, price: str = "9.9") -> str:
    entries = [{"name": name, "price": float(price), "category": "c"} for name in names]
    return json.dumps({"products": entries})


async def until_it_sells(gateway: RunningGateway, count: int) -> None:
    async def holds() -> bool:
        return f"מוצרים: {count}\n" in await said(gateway.http, "list_stores")

    await eventually(holds, seconds=10)


async def test_a_catalogue_changes_under_a_gateway_inside(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "stores" / "corner" / "data" / "products.json"
    write(path, "{broken")
    config = f"[shop]\nstores_dir = {json.dumps(str(tmp_path / 'stores'))}\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        assert "•" not in await said(gateway.http, "list_stores")
        assert "THE CATALOGUE of corner cannot be read" in gateway.log()
        await refusal(gateway.http, "add_to_cart", {"product_id": "corner:0"}, meta=ME)
        write(path, products("figs", "dates"))
        await until_it_sells(gateway, 2)
        await said(gateway.http, "add_to_cart", {"product_id": "corner:0"}, meta=ME)
        write(path, products("figs", "dates", "nuts", price="12"))
        await until_it_sells(gateway, 3)
        assert "סכום כולל: 24.00 ₪" in await said(
            gateway.http, "add_to_cart", {"product_id": "corner:0"}, meta=ME
        )
        path.unlink()
        await eventually(lambda: _said_again(gateway), seconds=10)
        assert "24.00 ₪" in await said(gateway.http, "view_cart", meta=ME)
        found = await result(gateway.http, call("search_products", {"search": ""}))
        assert found["structuredContent"]["pagination"]["totalProducts"] == 3


async def _said_again(gateway: RunningGateway) -> bool:
    await said(gateway.http, "list_stores")
    return "3 products known before stay" in gateway.log()
