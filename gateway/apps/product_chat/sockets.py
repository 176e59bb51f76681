"""Product chat over WebSockets: each socket is a cursor on its session's log.

Guarantees: all participants of a chat see the same messages in the same order; a socket gets no echo of its
own frames; a slow or dead socket delays no other and keeps only its own integer; `?after=SEQ` continues
without loss or repeat; a visitor's sockets end (1012) when the chat moves to a signed-in user, before they
show more of it; a frame that cannot be read is answered with an error and the socket stays open, except for
floods (1008); a socket over a connection limit gets `CONNECTION_LIMIT_EXCEEDED` and is closed (1008).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.apps.product_chat import facts, words
from gateway.apps.product_chat.desk import Desk, is_staff_of
from gateway.apps.product_chat.detail import DETAIL, words_of
from gateway.apps.product_chat.drafts import Draft
from gateway.apps.product_chat.floor import Floor, Guest
from gateway.apps.product_chat.frames import Frames, encoded, origin
from gateway.apps.product_chat.reading import address_of
from gateway.apps.product_chat.reading import client_id as named
from gateway.apps.product_chat.settings import ProductsConfig
from gateway.apps.product_chat.store import ProductSession
from gateway.apps.product_chat.visitors import ChatKeys
from gateway.errors import GatewayError, RateLimited, RouteNotFound, SessionElsewhere
from gateway.events.facts import Event, iso
from gateway.extension import (
    Context,
    Events,
    Gap,
    MemoryBuckets,
    Permit,
    Principal,
    Session,
    Socket,
    Tenure,
    follow,
)
from gateway.http.gate import principal_of
from gateway.http.reading import cursor_in_query, mended

NORMAL: Final = 1000
RESTART: Final = 1012
"""Service restart: clients that take 1001 for a farewell come back after this one."""
MOVED: Final = RESTART
"""The chat is somebody else's: who signed in comes back by a new name, anybody else is turned away."""
POLICY: Final = 1008
PAGE_BYTES: Final = 64 * 1024
STRIKES: Final = 100
"""Frames too many, in a row, after which a socket is closed."""
READ_AT_ONCE: Final = 100
CROWD: Final = 100
"""A chat with more sockets sends no frames on joining, leaving and typing: n sockets would make n² frames."""
LIMIT_CODE: Final = "CONNECTION_LIMIT_EXCEEDED"
CREDENTIAL_ENDED: Final = "the credential does not stand any more"


class Incoming(Struct):
    """What a client says; each type uses its own fields."""

    type: str
    message: str = ""
    message_type: str = "text"
    sender_name: str | None = None
    client_id: str | None = None
    is_typing: bool = False
    message_ids: list[int] = []
    timestamp: Any = None
    session_id: str | None = None


_decode = msgspec.json.Decoder(Incoming).decode


class Place:
    """The chat that a socket is in, as its owner calls it at the moment."""

    def __init__(self, chat: ProductSession, tenure: Tenure) -> None:
        self.chat = chat
        self.tenure = tenure


class Visit:
    """One open socket and what is known of its holder."""

    def __init__(self, socket: WebSocket, principal: Principal, guest: Guest, *, is_good: Permit) -> None:
        self.socket = socket
        self.is_good = is_good
        """Whether the credential that opened it is still valid."""
        self.principal = principal
        self.guest = guest
        self.strikes = 0

    async def tell(self, kind: str, **content: Any) -> None:
        """Says something to this socket alone."""
        await self.show(encoded({"type": kind, **content}))

    async def show(self, frame: str) -> None:
        """Sends a frame, unless its holder may not be here any more: then nothing is shown after that."""
        if not self.is_good():
            await self.socket.close(POLICY, CREDENTIAL_ENDED)
            raise WebSocketDisconnect(POLICY)
        await self.socket.send_text(frame)


class ProductSockets:
    """The three sockets."""

    def __init__(self, desk: Desk, context: Context, keys: ChatKeys) -> None:
        self._desk = desk
        self._gate = context.gate
        self._keys = keys
        self._manager = context.sessions
        self._context = context
        self._frames = Frames()
        self._buckets = MemoryBuckets(context.monotonic)
        self.floor = Floor(lambda: context.settings(ProductsConfig))

    def sockets(self) -> list[Socket]:
        """The sockets."""
        return [
            Socket(
                path="/ws/chat/customer/{product_id}/{session_id}", scope="chat", handler=self.customer,
                summary="A visitor's chat", dialect=DETAIL,
            ),
            Socket(
                path="/ws/chat/session/{session_id}", scope="chat", handler=self.session,
                summary="A chat, for its visitor or the staff", dialect=DETAIL,
            ),
            Socket(
                path="/ws/chat/admin/{admin_id}", scope="support", handler=self.admin,
                summary="What is new in a tenant's chats", dialect=DETAIL,
            ),
            Socket(path="/ws/{path:path}", scope="", handler=self.nothing, summary="Nothing is there"),
        ]  # fmt: skip

    # -- the sockets ------------------------------------------------------------------------------------

    async def nothing(self, _socket: WebSocket) -> None:
        raise RouteNotFound

    async def customer(self, socket: WebSocket) -> None:
        await self._in_chat(socket, product_id=socket.path_params["product_id"])

    async def session(self, socket: WebSocket) -> None:
        await self._in_chat(socket, product_id=None)

    async def _in_chat(self, socket: WebSocket, *, product_id: str | None) -> None:
        try:
            number = None if product_id is None else words.product_id(product_id)
            session_id = words.session_id(socket.path_params["session_id"])
            principal = await self._keys.visitor(socket, session_id)
            chat = await self._desk.chat(principal, session_id, number)
            session = await self._desk.session(chat)
        except SessionElsewhere:
            raise  # the handshake goes there
        except GatewayError as error:
            await self._turn_away(socket, words_of(error), error.code.upper())
            return
        is_staff = chat.owner != principal.owner and is_staff_of(principal, chat)
        kind: facts.PosterType = "admin" if is_staff else "customer"
        query = socket.query_params
        name = words.short(query.get("admin_name" if is_staff else "customer_name") or query.get("user_name"))
        default = principal.subject if is_staff else chat.customer_name or "Visitor"
        guest = self._guest(socket, principal, kind, name or default, chat)
        cursor, place = _cursor(socket, session), Place(chat, self._manager.tenures.of(chat.owner))

        async def write(visit: Visit) -> None:
            try:
                await self._follow(visit, place, cursor)
            except SessionElsewhere:
                await visit.socket.close(RESTART, "the chat goes on elsewhere")

        async def act(visit: Visit, said: Incoming) -> None:
            known = await self._found(place) if place.tenure.is_over else place.chat
            if known is not None and self._may_stay(visit, known):  # else the socket closes
                await self._act(visit, known, said)

        joined = self._presence(guest, "joined")
        await self._serve(
            socket, principal, guest, write=write, act=act, on_open=lambda: self._show(chat, joined)
        )
        self._show(place.chat, self._presence(guest, "left"))

    async def admin(self, socket: WebSocket) -> None:
        principal = principal_of(socket)
        name = words.short(socket.query_params.get("admin_name")) or principal.subject
        guest = self._guest(socket, principal, "admin", name, None)

        async def write(visit: Visit) -> None:
            await self._follow_notices(visit)

        async def act(visit: Visit, said: Incoming) -> None:
            chat = await self._desk.chat(principal, words.session_id(said.session_id or ""), None)
            await self._act(visit, chat, said)

        await self._serve(socket, principal, guest, write=write, act=act)

    async def _serve(
        self,
        socket: WebSocket,
        principal: Principal,
        guest: Guest,
        *,
        write: Callable[[Visit], Awaitable[None]],
        act: Callable[[Visit, Incoming], Awaitable[None]],
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        """An open socket's whole life."""
        if (bound := self.floor.enter(guest)) is not None:
            await self._turn_away(socket, f"Too many connections of one {bound}", LIMIT_CODE)
            return
        visit = Visit(socket, principal, guest, is_good=self._gate.permit(socket))
        try:
            await socket.accept()
            on_open()
            await visit.tell(
                "connection_status",
                status="connected",
                connection_id=guest.connection_id,
                timestamp=guest.since,
            )
            writing = asyncio.create_task(self._until_gone(write(visit)), name="product socket")
            try:
                await self._until_gone(self._read(visit, act))
            finally:
                writing.cancel()
                await asyncio.wait([writing])
        finally:
            self.floor.leave(guest)

    async def _until_gone(self, work: Awaitable[None]) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await work

    async def _turn_away(self, socket: WebSocket, words_: str, code: str) -> None:
        """A handshake that fails tells a browser nothing: the socket is opened, told, and closed for good."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await socket.accept()
            await socket.send_text(
                encoded({"type": "error", "error": words_, "code": code, "timestamp": self._now()})
            )
            await socket.close(POLICY, words_[:120])

    # -- reading ----------------------------------------------------------------------------------------

    async def _read(self, visit: Visit, act: Callable[[Visit, Incoming], Awaitable[None]]) -> None:
        config = self._context.settings(ProductsConfig)
        while True:
            try:
                async with visit.is_good.timeout(config.socket_idle_seconds):
                    message = await visit.socket.receive()
            except TimeoutError:
                if visit.is_good():
                    await visit.socket.close(NORMAL, "idle")
                else:
                    await visit.socket.close(POLICY, CREDENTIAL_ENDED)
                return
            if message["type"] != "websocket.receive":
                return
            if not visit.is_good():
                await visit.socket.close(POLICY, CREDENTIAL_ENDED)
                return
            if not self._may_go_on(visit):
                if visit.strikes > STRIKES:
                    await visit.socket.close(POLICY, "too many frames")
                    return
                if visit.strikes == 1:
                    await self._complain(visit, "Too many messages; slow down", code="RATE_LIMITED")
                continue
            await self._take(visit, message.get("text"), act)

    def _may_go_on(self, visit: Visit) -> bool:
        rate = self._context.settings(ProductsConfig).socket_frames_per_second
        name, burst = visit.guest.connection_id, 3 * rate
        if self._buckets.wait(name, rate=rate, burst=burst):
            visit.strikes += 1
            return False
        self._buckets.spend(name, rate=rate, burst=burst)
        visit.strikes = 0
        return True

    async def _take(
        self, visit: Visit, text: str | None, act: Callable[[Visit, Incoming], Awaitable[None]]
    ) -> None:
        """One frame."""
        try:
            said = _decode(mended((text or "").encode()))
        except (msgspec.MsgspecError, UnicodeError):
            await self._complain(visit, "Invalid JSON format")
            return
        if said.type == "ping":
            await visit.tell("pong", timestamp=said.timestamp or self._now())
            return
        try:
            await act(visit, said)
        except RateLimited as error:
            seconds = max(1, round((error.retry_after_seconds or 1) + 0.5))
            await self._complain(
                visit, words_of(error), code="RATE_LIMITED", retry_after=seconds, client_id=said.client_id
            )
        except GatewayError as error:
            await self._complain(visit, words_of(error), code=error.code.upper(), client_id=said.client_id)

    async def _complain(self, visit: Visit, error: str, **more: Any) -> None:
        told = {name: value for name, value in more.items() if value is not None}
        await visit.tell("error", error=error, timestamp=self._now(), **told)

    async def _act(self, visit: Visit, chat: ProductSession, said: Incoming) -> None:
        match said.type:
            case "chat_message":
                await self._say(visit, chat, said)
            case "typing_indicator":
                what = "typing" if said.is_typing else "stopped"
                self._show(chat, self._presence(visit.guest, what))
            case "message_read":
                reader, ids = (visit.guest.kind, visit.guest.name), said.message_ids[:READ_AT_ONCE]
                marked = await self._desk.mark_read(chat, ids, reader=reader)
                if not set(ids) <= set(marked):  # the others hear of every id; only what is there is marked
                    self._show(chat, facts.ChatRead(tuple(ids), reader[1], reader[0]))
            case _:
                await self._complain(visit, "Unknown message type")

    async def _say(self, visit: Visit, chat: ProductSession, said: Incoming) -> None:
        guest = visit.guest
        client_id = named(said.client_id)
        draft = Draft(
            text=said.message,
            name=guest.name,
            message_type=said.message_type,
            client_id=client_id,
            connection_id=guest.connection_id,
        )
        if guest.kind == "admin":
            stands = await self._desk.say_as_staff(chat, draft, principal=visit.principal)
        else:
            self._desk.rates.take(
                owner=guest.owner,
                address=guest.address,
                product_id=chat.product_id,
                session_id=chat.session_id,
            )
            stands = await self._desk.say_as_customer(chat, draft, key_id=visit.principal.key_id)
        if client_id is not None:
            await visit.tell(
                "message_sent",
                client_id=client_id,
                message_id=stands.message_id,
                session_id=chat.session_id,
                timestamp=self._now(),
            )

    # -- writing ----------------------------------------------------------------------------------------

    async def _follow(self, visit: Visit, place: Place, cursor: int) -> None:
        """The log from a cursor on, through every life of the session and every owner."""
        while not self._manager.is_draining:
            chat = place.chat
            tenure = place.tenure = self._manager.tenures.of(chat.owner)
            session = self._manager.get(chat.owner, chat.record_id)
            known: ProductSession | None = chat
            if session is not None:
                cursor = await self._follow_life(visit, session, cursor, tenure)
                has_ended = session.fold.ended is not None
                known = None if has_ended else await self._found(place)
            del session  # a socket that waits keeps nothing of a session that left
            if known is not None and known == chat:
                has_come = functools.partial(self._is_there, chat, tenure)
                await self._manager.arrival(chat.owner, chat.record_id, has_come=has_come)
                known = await self._found(place)
            if known is None:
                await visit.socket.close(NORMAL, "the chat was deleted")
                return
            place.chat = known
            if known.owner != chat.owner and not self._may_stay(visit, known):
                await visit.socket.close(MOVED, "the chat belongs to somebody who signed in")
                return
        await visit.socket.close(RESTART, "the gateway stops")

    async def _found(self, place: Place) -> ProductSession | None:
        """The chat as it is now; its visitor may have signed in, and own it under another name."""
        if place.tenure.is_over:
            await place.tenure.settled()
        return await self._desk.store.find(place.chat.session_id)

    def _may_stay(self, visit: Visit, chat: ProductSession) -> bool:
        return chat.owner == visit.principal.owner or is_staff_of(visit.principal, chat)

    def _is_there(self, chat: ProductSession, tenure: Tenure) -> bool:
        session = self._manager.get(chat.owner, chat.record_id)
        return tenure.is_over or (session is not None and not session.log.is_closed)

    async def _follow_life(self, visit: Visit, session: Session, cursor: int, tenure: Tenure) -> int:
        """Shows one life of the session, until it or its owner's tenure is over; the cursor then."""
        with self._context.watching(session):
            return await self._follow_log(visit, session, cursor, tenure)

    async def _follow_log(self, visit: Visit, session: Session, cursor: int, tenure: Tenure) -> int:
        async for item in follow(session, cursor, page_bytes=PAGE_BYTES):
            if tenure.is_over:
                return cursor
            if isinstance(item, Gap):
                cursor = item.seq
                await visit.tell("resync", session_id=session.session_id, seq=cursor, timestamp=self._now())
            elif isinstance(item, Events):
                for event in item.events:
                    if tenure.is_over:
                        return cursor
                    await self._show_event(visit, session.record.key, event)
                    cursor = event.seq
        return cursor

    async def _show_event(self, visit: Visit, key: str, event: Event) -> None:
        guest = visit.guest
        frame = self._frames.of(key, guest.session_id or "", event, product_id=guest.product_id)
        if frame is not None and origin(event) != guest.connection_id:
            await visit.show(frame)

    async def _follow_notices(self, visit: Visit) -> None:
        board, tenant = self._desk.notices, visit.principal.tenant
        cursor = board.last(tenant)
        while True:
            notices, cursor, is_lost = await board.after(tenant, cursor)
            if is_lost:
                await visit.tell("resync", timestamp=self._now())
            for notice in notices:
                await visit.show(notice)

    # -- inner ------------------------------------------------------------------------------------------

    def _show(self, chat: ProductSession, presence: facts.ChatPresence | facts.ChatRead) -> None:
        session = self._manager.get(chat.owner, chat.record_id)
        if session is None or session.log.is_closed or self.floor.crowd(chat.session_id) > CROWD:
            return
        session.log.show(presence)

    def _presence(self, guest: Guest, what: Any) -> facts.ChatPresence:
        return facts.ChatPresence(what, guest.name, guest.kind, guest.connection_id)

    def _guest(
        self,
        socket: WebSocket,
        principal: Principal,
        kind: facts.PosterType,
        name: str,
        chat: ProductSession | None,
    ) -> Guest:
        return Guest(
            connection_id=f"c{secrets.token_hex(8)}",
            kind=kind,
            name=name,
            owner=principal.owner,
            address=address_of(socket),
            tenant=principal.tenant,
            session_id=chat.session_id if chat is not None else None,
            product_id=chat.product_id if chat is not None else None,
            since=self._now(),
        )

    def _now(self) -> str:
        return iso(self._context.wall_ms())


def _cursor(socket: WebSocket, session: Session) -> int:
    """Where a socket begins: behind what the client has seen, else at this moment."""
    text = cursor_in_query(socket)
    is_number = text.isascii() and text.isdecimal() and len(text) < 18
    return int(text) if is_number else session.log.visible_seq
