"""A stand-in that is broken on purpose: a proxy before a real gateway that plants faults, so that a check
which never fails is found out. What it does not break is the gateway's own answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from aiohttp import web

FAULTS: Final = frozenset(
    {
        "shares",  # one session for everybody, under whatever id it was asked for
        "nameless",  # neither header nor cookie names the new session
        "careless",  # takes every id
        "deaf",  # an interrupt interrupts nothing
        "garbles",  # a system message is changed on its way
        "boasts",  # every command succeeds
        "repeats",  # a resumed stream begins again
        "skips",  # a resumed stream leaves something out
        "miscounts",  # the count of sessions stands still
        "keeps",  # a deletion deletes nothing
    }
)
EVERYBODY: Final = "everybody"
_HOP: Final = {"Transfer-Encoding", "Content-Length", "Connection", "Content-Encoding"}


class FaultyGateway:
    """The proxy."""

    def __init__(self, target: str, faults: frozenset[str]) -> None:
        assert faults <= FAULTS, faults - FAULTS
        self._target = target
        self._faults = faults
        self._http = aiohttp.ClientSession(target, auto_decompress=False)
        self.url = ""

    async def close(self) -> None:
        await self._http.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        params = dict(request.query)
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", *_HOP)}
        given = self._json(body)
        asked = given.get("session_id") or params.get("session_id")
        if planted := self._planted(request, given, params):
            return planted
        if asked and (stands_for := self._stand_in()):
            given |= {"session_id": stands_for} if "session_id" in given else {}
            params |= {"session_id": stands_for} if "session_id" in params else {}
        self._spoil(request, given, params, headers)
        data = json.dumps(given).encode() if given else body or None
        method, path = self._aim(request)
        async with self._http.request(method, path, data=data, params=params, headers=headers) as answer:
            return await self._pass_back(request, answer, asked)

    def _json(self, body: bytes) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            given = json.loads(body)
            return given if isinstance(given, dict) else {}
        return {}

    def _planted(
        self, request: web.Request, given: dict[str, Any], params: dict[str, str]
    ) -> web.Response | None:
        """An answer of its own, where a fault wants one."""
        if "boasts" in self._faults and request.path == "/api/mcp-command":
            return web.json_response({"success": True, "message": "Done.", "data": {"network": "mainnet"}})
        if "miscounts" in self._faults and request.path == "/api/sessions/count":
            return web.json_response({"active_sessions": 7, "live": 7, "parked": 0})
        if "careless" in self._faults and params.get("session_id", "").startswith("."):
            return web.json_response({})
        return None

    def _stand_in(self) -> str | None:
        return EVERYBODY if "shares" in self._faults else None

    def _spoil(
        self, request: web.Request, given: dict[str, Any], params: dict[str, str], headers: dict[str, str]
    ) -> None:
        if "garbles" in self._faults and request.path == "/api/system":
            given["message"] = given["message"].strip()
        if "deaf" in self._faults and request.path == "/api/interrupt":
            params["session_id"] = given["session_id"]
        if "Last-Event-ID" in headers:
            cursor = int(headers["Last-Event-ID"] or 0)
            if "repeats" in self._faults:
                headers["Last-Event-ID"] = "0"
            if "skips" in self._faults:
                headers["Last-Event-ID"] = str(cursor + 1)

    def _aim(self, request: web.Request) -> tuple[str, str]:
        if "deaf" in self._faults and request.path == "/api/interrupt":
            return "GET", "/api/state"
        if "keeps" in self._faults and request.method == "DELETE":
            return "DELETE", "/api/sessions/nobody-at-all"
        if "shares" in self._faults and request.method == "DELETE":
            return "DELETE", f"/api/sessions/{EVERYBODY}"
        return request.method, request.path

    async def _pass_back(
        self, request: web.Request, answer: aiohttp.ClientResponse, asked: str | None
    ) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP}
        if "nameless" in self._faults:
            headers = {n: v for n, v in headers.items() if n.lower() not in ("x-session-id", "set-cookie")}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk.replace(EVERYBODY.encode(), (asked or EVERYBODY).encode()))
        return response


@contextlib.asynccontextmanager
async def faulty_gateway(target: str, *faults: str) -> AsyncIterator[FaultyGateway]:
    """Serves on loopback before the gateway at `target` until the end of the block."""
    gateway = FaultyGateway(target, frozenset(faults))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield gateway
    finally:
        await runner.cleanup()
        await gateway.close()
