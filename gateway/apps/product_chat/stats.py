"""Who is in product chats at the moment, at all gateways on the store, for the staff of their tenant."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.apps.product_chat import words
from gateway.apps.product_chat.desk import Desk
from gateway.apps.product_chat.detail import DETAIL
from gateway.apps.product_chat.floor import Floor
from gateway.apps.product_chat.guest_list import GuestList
from gateway.apps.product_chat.settings import ProductsConfig
from gateway.events.facts import iso
from gateway.extension import Context
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, json_response


class SocketStats:
    """The handlers."""

    def __init__(self, desk: Desk, floor: Floor, guests: GuestList, context: Context) -> None:
        self._desk = desk
        self._guests = guests
        self._floor = floor
        self._context = context

    def operations(self) -> list[Operation]:
        """Who is there, for the staff."""
        return [
            Operation(
                method="GET", path="/api/websocket/stats", scope="support", handler=self.socket_stats,
                summary="How many sockets are open", answer=dict[str, Any], dialect=DETAIL,
            ),
            Operation(
                method="GET", path="/api/websocket/sessions/{session_id}", scope="support",
                handler=self.socket_session, summary="Who is in a chat", answer=dict[str, Any],
                dialect=DETAIL, errors=(400, 404),
            ),
            Operation(
                method="GET", path="/api/debug/websocket-status", scope="support", handler=self.socket_debug,
                summary="Limits and sockets in numbers", answer=dict[str, Any], dialect=DETAIL,
            ),
        ]  # fmt: skip

    async def socket_stats(self, request: Request) -> Response:
        return json_response(self._guests.stats(principal_of(request).tenant))

    async def socket_session(self, request: Request) -> Response:
        session_id = words.session_id(request.path_params["session_id"])
        chat = await self._desk.chat(principal_of(request), session_id, None)
        guests = self._guests.in_session(chat.session_id)
        people = [
            {"user_name": guest.name, "user_type": guest.kind, "connected_at": guest.since}
            for guest in guests
        ]
        return json_response(
            {
                "session_id": chat.session_id,
                "total_connections": len(guests),
                "customer_connections": sum(guest.kind == "customer" for guest in guests),
                "admin_connections": sum(guest.kind == "admin" for guest in guests),
                "participants": people,
            }
        )

    async def socket_debug(self, request: Request) -> Response:
        rates, stats = self._desk.rates, self._guests.stats(principal_of(request).tenant)
        config = self._context.settings(ProductsConfig)
        return json_response(
            {
                "timestamp": iso(self._context.wall_ms()),
                "rate_limiter": {"stats": {"taken": rates.taken, "refused": rates.refused}},
                "connection_pool": {
                    "refused": self._floor.refused,
                    "per_visitor": config.sockets_per_visitor,
                    "per_session": config.sockets_per_session,
                    "per_address": config.sockets_per_address,
                },
                "websocket_manager": {"stats": stats, "active_connections": stats["total_connections"]},
            }
        )
