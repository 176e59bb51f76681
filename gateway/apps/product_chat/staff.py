"""Operations for a shop's staff: get a token, list the tenant's chats, answer a chat, set its status.

They need the scope `support`, which `admin` and `POST /api/login` include, and which gives access only to the
caller's own tenant.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.apps.product_chat import words
from gateway.apps.product_chat.answers import (
    AdminChats,
    LoggedIn,
    LoginRequest,
    MessagePage,
    RespondRequest,
    Sent,
    StatusChanged,
    admin_chat_of,
    sent,
)
from gateway.apps.product_chat.desk import Desk
from gateway.apps.product_chat.detail import DETAIL
from gateway.apps.product_chat.drafts import Draft
from gateway.apps.product_chat.errors import InvalidInput, WrongPassword
from gateway.apps.product_chat.reading import (
    LIMIT,
    OFFSET,
    ORDER,
    SEARCH,
    STANDS,
    STATUS,
    WITH_MESSAGES,
    address_of,
    client_id,
    message_page,
    page_of_query,
    staffed,
)
from gateway.apps.product_chat.settings import ProductsConfig
from gateway.errors import RateLimited
from gateway.extension import Context, MemoryBuckets, lazily
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import read_body

if TYPE_CHECKING:
    import argon2
else:
    argon2 = lazily("argon2")

LOGINS_PER_SECOND: Final = 0.2
LOGIN_BURST: Final = 10.0
"""Failed ones, of one address."""
LOGINS_AT_ONCE: Final = 1
"""A check of a password takes tens of megabytes for a moment."""
NAME_CHARACTERS: Final = 100
PASSWORD_CHARACTERS: Final = 1_024
NOBODY: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$+MeFxRO04HogDocTfczQQg$K7+nd/yAIUV408GsKlwEYHgdRaZhFUNOGRArKNgDEUw"
)
"""The hash of a password that nobody has: checking a name that there is not takes as long."""
_BAD: Final = (400, 404)


class StaffFace:
    """The handlers."""

    def __init__(self, desk: Desk, context: Context) -> None:
        self._desk = desk
        self._context = context
        context.gate.add_staff(self._is_staff)
        self._checking = asyncio.Semaphore(LOGINS_AT_ONCE)
        self._failures = MemoryBuckets(context.monotonic)

    def _is_staff(self, name: str) -> bool:
        return name in self._context.settings(ProductsConfig).admins

    def operations(self) -> list[Operation]:
        """What the staff may do, as operations."""
        admin = "/api/admin/chat/sessions"
        return [
            Operation(
                method="POST", path="/api/login", scope="", handler=self.log_in_staff, dialect=DETAIL,
                summary="A token for the staff", body=LoginRequest, answer=LoggedIn, errors=(400, 401),
            ),
            Operation(
                method="GET", path=admin, scope="support", handler=self.list_product_chats, dialect=DETAIL,
                summary="The tenant's product chats", answer=AdminChats,
                parameters=(LIMIT, OFFSET, STATUS, SEARCH, WITH_MESSAGES), errors=(400,),
            ),
            Operation(
                method="GET", path=admin + "/{session_id}/messages", scope="support", dialect=DETAIL,
                handler=self.read_product_chat, summary="What was said in one", answer=MessagePage,
                parameters=(LIMIT, OFFSET, ORDER), errors=_BAD,
            ),
            Operation(
                method="POST", path=admin + "/{session_id}/respond", scope="support", dialect=DETAIL,
                handler=self.respond_to_product_chat, summary="Answer as a person", body=RespondRequest,
                answer=Sent, errors=_BAD,
            ),
            Operation(
                method="POST", path=admin + "/{session_id}/take-over", scope="support", dialect=DETAIL,
                handler=self.take_product_chat_over, summary="Silence the agent", answer=StatusChanged,
                errors=_BAD,
            ),
            Operation(
                method="POST", path=admin + "/{session_id}/hand-back", scope="support", dialect=DETAIL,
                handler=self.hand_product_chat_back, summary="Let the agent answer again",
                answer=StatusChanged, errors=_BAD,
            ),
            Operation(
                method="PUT", path=admin + "/{session_id}/status", scope="support", dialect=DETAIL,
                handler=self.set_product_chat_status, summary="Say where it stands", answer=StatusChanged,
                parameters=(STATUS,), errors=_BAD,
            ),
        ]  # fmt: skip

    async def log_in_staff(self, request: Request) -> Response:
        body = await read_body(request, LoginRequest, self._context.config())
        address, limits = address_of(request), {"rate": LOGINS_PER_SECOND, "burst": LOGIN_BURST}
        if seconds := self._failures.wait(address, **limits):
            raise RateLimited("Too many failed logins of one address", retry_after_seconds=seconds)
        settings = self._context.settings(ProductsConfig)
        admins = settings.admins
        is_long = len(body.username) > NAME_CHARACTERS or len(body.password) > PASSWORD_CHARACTERS
        known = None if is_long else admins.get(body.username)
        if not await self._is_password(known, "" if is_long else body.password):
            self._failures.spend(address, **limits)
            raise WrongPassword
        token = self._context.gate.access_token(body.username, hours=settings.token_hours)
        number = sorted(admins).index(body.username) + 1
        return json_response(LoggedIn(token, "bearer", number, body.username, True))

    async def _is_password(self, known: str | None, given: str) -> bool:
        """As long for a name that there is not as for one that there is."""

        def check() -> bool:
            try:
                return argon2.PasswordHasher().verify(known or NOBODY, given.encode("utf-8", "replace"))
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False

        async with self._checking:
            return await asyncio.to_thread(check) and known is not None

    async def list_product_chats(self, request: Request) -> Response:
        status = request.query_params.get("status") or None
        if status is not None and status not in STANDS:
            raise InvalidInput(f"Invalid status: it is one of {', '.join(STANDS)}")
        limit, offset = page_of_query(request)
        tenant = principal_of(request).tenant
        query = request.query_params
        chats = await self._desk.store.sessions(
            tenant, status=status, limit=limit, offset=offset,
            search=words.short(query.get("search")) or "",
            with_messages=query.get("with_messages") == "true",
        )  # fmt: skip
        return json_response(AdminChats([admin_chat_of(chat) for chat in chats], limit, offset))

    async def read_product_chat(self, request: Request) -> Response:
        return json_response(await message_page(request, self._desk, await staffed(request, self._desk)))

    async def respond_to_product_chat(self, request: Request) -> Response:
        body = await read_body(request, RespondRequest, self._context.config())
        chat = await staffed(request, self._desk)
        draft = Draft(
            text=body.message_text,
            name=words.short(body.sender_name or body.admin_name),
            message_type=body.message_type,
            client_id=client_id(body.client_id),
        )
        said = await self._desk.say_as_staff(chat, draft, principal=principal_of(request))
        return json_response(sent(said, chat.session_id, "Response sent successfully"))

    async def take_product_chat_over(self, request: Request) -> Response:
        return await self._set(request, "in_progress")

    async def hand_product_chat_back(self, request: Request) -> Response:
        return await self._set(request, "active")

    async def set_product_chat_status(self, request: Request) -> Response:
        return await self._set(request, request.query_params.get("status", ""))

    async def _set(self, request: Request, status: str) -> Response:
        stand = next((stand for stand in STANDS if stand == status), None)
        if stand is None:
            raise InvalidInput(f"Invalid status: it is one of {', '.join(STANDS)}")
        chat = await staffed(request, self._desk)
        await self._desk.set_status(chat, stand, name=principal_of(request).subject)
        now = await staffed(request, self._desk)
        words_ = f"Chat session is {now.status}"
        inquiry = now.id if now.status == "closed" else None
        return json_response(StatusChanged(words_, now.session_id, now.status, now.assigned_to, inquiry))
