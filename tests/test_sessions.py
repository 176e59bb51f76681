#!/usr/bin/env python3
"""Does every conversation have a cart of its own? Alice and Bob find out, over MCP.

    python tests/test_sessions.py [BASE_URL]      against a running gateway; http://127.0.0.1:8080 by default

One line a check, PASS or FAIL; the exit code is 0 only where all passed. It needs nothing but Python, and
AGENT_GATEWAY_KEY where the gateway wants a key. As a pytest module it starts a gateway and checks that one,
and it checks itself: against a server whose callers all share one cart it must fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import secrets
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.patience import soon

TIMEOUT_SECONDS = 30
DEFAULT_URL = "http://127.0.0.1:8080"
WANTED_TOOLS = {
    "search_products",
    "add_to_cart",
    "view_cart",
    "remove_from_cart",
    "clear_cart",
    "debug_session",
}


class Shop:
    """The tools of an MCP server, called on behalf of a conversation."""

    def __init__(self, base_url: str) -> None:
        self._url = base_url.rstrip("/") + "/mcp"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def rpc(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request; raises OSError, ValueError or KeyError where there is none."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if key := os.environ.get("AGENT_GATEWAY_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - the address that was typed
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return json.load(response)["result"]

    def call(self, who: str | None, tool: str, *, place: str = "sessionId", **arguments: Any) -> Any:
        """What a tool answers; `who` is the conversation, None: it is not said."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if who is not None:
            params["_meta"] = {place: who}
        return self.rpc("tools/call", params)

    def cart(self, who: str | None, **kwargs: Any) -> dict[str, int]:
        """Quantities by product."""
        items = self.call(who, "view_cart", **kwargs)["structuredContent"]["items"]
        return {item["id"]: item["quantity"] for item in items}


class Report:
    """PASS and FAIL lines, counted."""

    def __init__(self) -> None:
        self.failed = 0
        self.passed = 0

    def check(self, name: str, is_good: bool, detail: object = "") -> None:
        """One line."""
        self.passed += is_good
        self.failed += not is_good
        self.line(f"PASS  {name}" if is_good else f"FAIL  {name}: {detail}")

    def line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def run(base_url: str, report: Report) -> None:
    """The walk through the guide."""
    shop, run_id = Shop(base_url), secrets.token_hex(4)
    alice, bob = f"alice-{run_id}", f"bob-{run_id}"
    tools = {tool["name"] for tool in shop.rpc("tools/list", {})["tools"]}
    report.check("the shop's tools are there", tools >= WANTED_TOOLS, WANTED_TOOLS - tools)
    products = shop.call(alice, "search_products", search="")["structuredContent"]["products"]
    report.check("there are products", len(products) >= 3, len(products))
    first, second, third = (product["id"] for product in products[:3])

    shop.call(alice, "add_to_cart", product_id=first, quantity=2)
    report.check("bob's cart is empty after alice has added", shop.cart(bob) == {}, shop.cart(bob))
    shop.call(bob, "add_to_cart", product_id=second, quantity=1)
    shop.call(bob, "add_to_cart", product_id=third, quantity=3)
    report.check("alice has what alice added", shop.cart(alice) == {first: 2}, shop.cart(alice))
    report.check("bob has what bob added", shop.cart(bob) == {second: 1, third: 3}, shop.cart(bob))

    told = {who: shop.call(who, "debug_session")["content"][0]["text"] for who in (alice, bob)}
    report.check("debug_session tells alice her own id", alice in told[alice], told[alice])
    report.check("debug_session tells bob his own id", bob in told[bob], told[bob])
    report.check("debug_session differs", told[alice] != told[bob])
    is_silent = bob not in told[alice] and alice not in told[bob]
    report.check("debug_session does not name the other", is_silent, told)

    shop.call(alice, "clear_cart")
    report.check("alice's cart is empty after clearing", shop.cart(alice) == {}, shop.cart(alice))
    report.check("bob's cart is as it was", shop.cart(bob) == {second: 1, third: 3}, shop.cart(bob))
    report.check("who says no id gets no other's cart", shop.cart(None) == {}, shop.cart(None))
    chat_gpt = f"v1/{secrets.token_urlsafe(32)}"
    shop.call(chat_gpt, "add_to_cart", place="openai/session", product_id=first)
    found = shop.cart(chat_gpt, place="openai/session")
    report.check("a conversation of ChatGPT has a cart of its own", found == {first: 1}, found)
    shop.call(bob, "clear_cart")


def main(arguments: list[str]) -> int:
    """Checks the gateway at the address; the exit code."""
    base_url, report = (arguments or [DEFAULT_URL])[0], Report()
    try:
        run(base_url, report)
    except (OSError, ValueError, LookupError, TypeError) as error:
        report.check(f"{base_url} answers as the shop does", False, repr(error))
    report.line(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


# -- as a pytest module --------------------------------------------------------------------------------

SCRIPT = pathlib.Path(__file__)


class _Sharing(BaseHTTPRequestHandler):
    """A shop as it must not be: one cart for everybody. `isolates` mends it."""

    carts: dict[str, dict[str, int]] = {}  # noqa: RUF012 - shared on purpose
    isolates = False

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        params = message["params"]
        meta = params.get("_meta") or {}
        who = next(iter(meta.values()), secrets.token_hex(4)) if self.isolates else "default"
        result = self.answer(message["method"], params, who)
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, method: str, params: dict[str, Any], who: str) -> dict[str, Any]:
        """As the real one, in short."""
        if method == "tools/list":
            return {"tools": [{"name": name} for name in WANTED_TOOLS]}
        cart, arguments = self.carts.setdefault(who, {}), params["arguments"]
        match params["name"]:
            case "add_to_cart":
                cart[arguments["product_id"]] = arguments.get("quantity", 1)
            case "clear_cart":
                cart.clear()
            case "search_products":
                return {"structuredContent": {"products": [{"id": f"s:{n}"} for n in range(3)]}}
            case "view_cart":
                items = [{"id": name, "quantity": quantity} for name, quantity in cart.items()]
                return {"structuredContent": {"items": items}}
        return {"content": [{"type": "text", "text": f"session {who}"}]}

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _stand_in(*, isolates: bool) -> Iterator[str]:
    handler = type("Handler", (_Sharing,), {"carts": {}, "isolates": isolates})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def _script(url: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), url), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await soon(process.communicate(), 2 * TIMEOUT_SECONDS)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_alice_and_bob_have_carts_of_their_own(tmp_path: pathlib.Path) -> None:
    sys.path.insert(0, str(SCRIPT.parent.parent))
    from tests.gateways import running_gateway  # the script itself needs nothing but Python

    async with running_gateway(tmp_path) as gateway:
        code, output = await _script(gateway.url)
    assert (code, "FAIL" in output) == (0, False), output
    assert output.count("PASS") == 13


async def test_the_script_passes_where_carts_are_apart() -> None:
    """So that its failure below is due to the sharing, and not to the stand-in."""
    with _stand_in(isolates=True) as url:
        code, output = await _script(url)
    assert (code, "FAIL" in output) == (0, False), output


async def test_the_script_cannot_pass_where_a_cart_is_shared() -> None:
    with _stand_in(isolates=False) as url:
        code, output = await _script(url)
    assert code == 1
    failed = {line.removeprefix("FAIL  ").partition(":")[0] for line in output.splitlines() if "FAIL" in line}
    assert {
        "bob's cart is empty after alice has added",
        "alice has what alice added",
        "bob's cart is as it was",
        "debug_session differs",
    } <= failed


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    code, output = await _script("http://127.0.0.1:9")
    assert code == 1
    assert output.startswith("FAIL  http://127.0.0.1:9 answers as the shop does")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
