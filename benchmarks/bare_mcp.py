"""The SDK's own bare server with the shop's search and cart tools, answering from memory: the floor of
benchmarks/shop.py. `python -m benchmarks.bare_mcp PORT`; it keeps one dictionary and checks nothing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import mcp_types as types
import uvicorn
import uvloop
from mcp.server.lowlevel.server import Server

from gateway.apps.shop.cart import Shop
from gateway.apps.shop.catalog import SHIPPED, load
from gateway.apps.shop.tools import described

STORE = "nitzat-haduvdevan"


class Pictures:
    """A shop without a path before its addresses."""

    def picture_address(self, image: str) -> str:
        return image


def build() -> Server[Any]:
    """Three tools that answer with what the shop's answer with."""
    shop = cast("Shop", Pictures())
    products = [described(product, shop) for product in load(SHIPPED / STORE, STORE)]
    carts: dict[str, dict[str, int]] = {}

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        arguments = params.arguments or {}
        if params.name == "search_products":
            found = [product for product in products if arguments["search"] in product["name"]][:12]
            return _result(str(len(found)), {"products": found})
        cart = carts.setdefault(arguments["_sessionId"], {})
        if params.name == "add_to_cart":
            cart[arguments["product_id"]] = min(999, cart.get(arguments["product_id"], 0) + 1)
        return _result("cart", {"items": [{"id": name, "quantity": count} for name, count in cart.items()]})

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(name=name, input_schema={"type": "object"})
                for name in ("search_products", "add_to_cart", "view_cart")
            ]
        )

    return Server("bare", on_call_tool=call_tool, on_list_tools=list_tools)


def _result(text: str, structured: dict[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured)


async def serve(port: int) -> None:
    """Until it is ended."""
    app = build().streamable_http_app(json_response=True, stateless_http=True)
    config = uvicorn.Config(app, port=port, log_level="warning", access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
