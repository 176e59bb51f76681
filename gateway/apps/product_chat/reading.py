"""Requests of product chat as values: pages, addresses, names."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import HTTPConnection, Request

from gateway.apps.product_chat import words
from gateway.apps.product_chat.answers import ChatInfo, MessagePage, Pagination, row_of
from gateway.apps.product_chat.desk import SUPPORT, Desk
from gateway.apps.product_chat.errors import AdminNeeded, InvalidInput
from gateway.apps.product_chat.store import ProductSession
from gateway.errors import InvalidField
from gateway.events.facts import iso
from gateway.http.connections import counted_address
from gateway.http.gate import principal_of
from gateway.http.operation import Parameter

PAGE_LIMIT: Final = 100
DEFAULT_PAGE: Final = 50
OFFSET_LIMIT: Final = 10_000_000
CLIENT_ID_CHARACTERS: Final = 128
STANDS: Final = ("active", "pending", "in_progress", "resolved", "closed")

LIMIT = Parameter(
    name="limit", schema={"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT}, description="How many."
)
OFFSET = Parameter(name="offset", schema={"type": "integer", "minimum": 0}, description="How many to skip.")
ORDER = Parameter(name="order", schema={"enum": ["asc", "desc"]}, description="By number.")
SEARCH = Parameter(
    name="search",
    schema={"type": "string", "maxLength": words.NAME_CHARACTERS},
    description="What a message, a name, an address or the product has in it.",
)
WITH_MESSAGES = Parameter(
    name="with_messages", schema={"type": "boolean"}, description="Leave out those that nobody wrote in."
)
STATUS = Parameter(name="status", schema={"enum": list(STANDS)}, description="Where the chat stands.")


def address_of(request: HTTPConnection) -> str:
    """What limits count a caller by."""
    return counted_address(request.client.host if request.client else "")


def names_of(request: Request) -> tuple[int, str]:
    """The product and the chat that a path names. Raises InvalidInput."""
    path = request.path_params
    return words.product_id(path["product_id"]), words.session_id(path["session_id"])


async def staffed(request: Request, desk: Desk) -> ProductSession:
    """The chat that a path names, for its staff. Raises InvalidInput, ChatNotFound, AdminNeeded."""
    principal = principal_of(request)
    chat = await desk.chat(principal, words.session_id(request.path_params["session_id"]), None)
    if SUPPORT not in principal.scopes:
        raise AdminNeeded
    return chat


def page_of_query(request: Request) -> tuple[int, int]:
    """Limit and offset. Raises InvalidInput, or InvalidField if one is no number."""
    limit, offset = request.query_params.get("limit"), request.query_params.get("offset")
    for name, text in (("limit", limit), ("offset", offset)):
        if text is not None and not re.fullmatch("[+-]?[0-9]+", text, re.ASCII):
            raise InvalidField(f"{name.capitalize()} must be a whole number", field=("query", name))
    if limit is not None and not (limit.isascii() and limit.isdecimal() and 1 <= _int(limit) <= PAGE_LIMIT):
        raise InvalidInput(f"Limit must be between 1 and {PAGE_LIMIT}")
    if offset is not None and not (offset.isascii() and offset.isdecimal() and _int(offset) <= OFFSET_LIMIT):
        raise InvalidInput("Offset must be a whole number from 0")
    return _int(limit or str(DEFAULT_PAGE)), _int(offset or "0")


def _int(text: str) -> int:
    return int(text[:12])


def client_id(text: str | None) -> str | None:
    """What a client calls its message."""
    return words.short(text, most=CLIENT_ID_CHARACTERS)


async def message_page(request: Request, desk: Desk, chat: ProductSession) -> MessagePage:
    """The page that a request asks for. Raises InvalidInput."""
    limit, offset = page_of_query(request)
    order = request.query_params.get("order") or "asc"
    if order not in ("asc", "desc"):
        raise InvalidInput("Order must be asc or desc")
    store = desk.store
    rows = await store.messages(chat.id, limit=limit, offset=offset, newest_first=order == "desc")
    total = await store.count(chat.id)
    is_customer = chat.owner == principal_of(request).owner
    unread = await store.unread(chat.id, by_customer=is_customer)
    ends = iso(chat.last_message_at) if chat.last_message_at is not None else None
    return MessagePage(
        [row_of(row) for row in rows],
        ChatInfo(
            chat.session_id,
            chat.customer_name,
            chat.customer_email,
            chat.status,
            iso(chat.created_at),
            ends,
        ),
        Pagination(
            total_count=total,
            limit=limit,
            offset=offset,
            has_more=offset + len(rows) < total,
            has_previous=offset > 0,
            current_page=offset // limit + 1,
            total_pages=-(-total // limit),
        ),
        len(unread),
    )
