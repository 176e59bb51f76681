"""The six verbs: chat, state, stream, interrupt, system, mcp-command.

Unknown, foreign and fresh ids behave alike (200): an id routes, it never authorises. GETs have no side
effect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import CommandAnswer, MinimalAnswer
from gateway.api.history import LAST_PARAMETER, WINDOW_PARAMETERS
from gateway.api.stream import CURSOR_PARAMETERS, Stream, absent_fold, absent_state, while_good
from gateway.buckets import Gauge
from gateway.errors import AttachmentRefused, SessionEnded, SessionFenced, TooManyStreams
from gateway.events.fold import Outside, State, StateMessage
from gateway.http import cookies
from gateway.http.event_stream import FrameResponse, direct
from gateway.http.gate import Gate, is_by_https, principal_of
from gateway.http.operation import (
    IDEMPOTENCY_KEY,
    PREFER,
    SESSION_ID_HEADER,
    SESSION_ID_QUERY,
    AnySessionId,
    Operation,
    Parameter,
    Spoken,
    json_response,
)
from gateway.http.packing import packed
from gateway.http.preferences import APPLIED, minimal_response, wants_minimal
from gateway.http.reading import (
    checked_message,
    cookie_session_id,
    cursor_of,
    named_session_id,
    query_int,
    query_last,
    query_view,
    query_window,
    read_body,
    session_cookie_name,
)
from gateway.http.scope import carried
from gateway.principal import Account
from gateway.sessions import servers
from gateway.sessions.idempotency import Once
from gateway.sessions.manager import SessionManager, new_session_id
from gateway.sessions.presence import OWNER, Presence
from gateway.sessions.queue import Turn
from gateway.sessions.reader import minimal
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.telemetry.metrics import Readers

MAX_WAIT_SECONDS = 600
NETWORK_CHARACTERS = 100


class ChatRequest(Struct):
    """`POST /api/chat`."""

    message: Spoken
    session_id: AnySessionId | None = None
    agent: str | None = None
    attachments: list[str] | None = None
    """Paths of files in the session's working directory, which the agent gets with the message. With some,
    the message itself may be empty.
    """


class InterruptRequest(Struct):
    """`POST /api/interrupt`."""

    session_id: AnySessionId | None = None


class SystemRequest(Struct):
    """`POST /api/system`."""

    message: Spoken
    session_id: AnySessionId | None = None


class CommandRequest(Struct):
    """`POST /api/mcp-command`; `args` as the command wants them."""

    command: str
    args: Any | UnsetType = UNSET
    session_id: AnySessionId | None = None


class SystemAnswer(State, frozen=True, kw_only=True):
    """State, and the message that was just said."""

    res: StateMessage


class ChatFace:
    """The handlers of the six verbs."""

    def __init__(self, manager: SessionManager, services: FaceServices, gate: Gate) -> None:
        self._manager = manager
        self._gate = gate
        self._services = services
        self._server = services.config.server
        self._limits = services.config.limits
        self._streams = Gauge(self._limits.streams_per_owner)
        self._waiting = Gauge(self._limits.waiting_streams_per_owner)
        self._unnamed: dict[str, list[Stream]] = {}
        self._readers: dict[Stream, str] = {}

    def readers(self) -> dict[str, Readers]:
        """The open streams of each view."""
        found = {"state": Readers(), "events": Readers()}
        for stream, view in self._readers.items():
            readers, lag = found[view], stream.lag
            readers.count += 1
            readers.lag += lag
            readers.max_lag = max(readers.max_lag, lag)
        return found

    def operations(self) -> list[Operation]:
        """The six verbs as operations."""
        named = (SESSION_ID_QUERY, SESSION_ID_HEADER)
        wait = Parameter(
            name="wait",
            schema={"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
            description="Seconds to wait for the turn's end before answering.",
        )
        return [
            Operation(
                method="POST", scope="chat", path="/api/chat", handler=self.chat, summary="Send a message",
                body=ChatRequest, answer=State, minimal=MinimalAnswer,
                parameters=(*named, wait, IDEMPOTENCY_KEY), errors=(402,),
            ),
            Operation(
                method="GET", scope="read", path="/api/state", handler=self.state,
                summary="Where a session stands",
                answer=State, parameters=(*named, *WINDOW_PARAMETERS),
            ),
            Operation(
                method="GET", scope="read", path="/api/chat/stream", handler=self.stream,
                summary="Follow a session",
                media_type="text/event-stream", errors=(204,),
                parameters=(*named, *CURSOR_PARAMETERS, LAST_PARAMETER, PREFER),
            ),
            Operation(
                method="POST", scope="chat", path="/api/interrupt", handler=self.interrupt,
                summary="Stop the answer",
                body=InterruptRequest, answer=State, minimal=MinimalAnswer, parameters=named,
            ),
            Operation(
                method="POST", scope="chat", path="/api/system", handler=self.system,
                summary="Send a system message",
                body=SystemRequest, answer=SystemAnswer, minimal=MinimalAnswer, parameters=named,
            ),
            Operation(
                method="POST", scope="chat", path="/api/mcp-command", handler=self.mcp_command,
                summary="Run a command",
                body=CommandRequest, answer=CommandAnswer, parameters=named,
            ),
        ]  # fmt: skip

    # -- verbs ------------------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        body = await read_body(request, ChatRequest, self._services.config)
        attached = tuple(body.attachments or ())
        checked_message(body.message, self._limits, may_be_empty=bool(attached))
        wait = query_int(request, "wait", default=0, low=0, high=MAX_WAIT_SECONDS)
        principal = principal_of(request)
        owner = principal.owner
        agent = self._services.agent_of(principal, body.agent)
        self._manager.refuse_while_draining()
        session_id = await self._chat_session_id(request, body.session_id, owner)
        if is_new := session_id is None:
            self._manager.refuse_new()
        session_id = session_id or new_session_id()
        key = request.headers.get("idempotency-key")
        asked = "\0".join((f"{body.agent}\0{body.message}", *attached))
        once = None if key is None else Once(key, asked, is_unnamed=is_new)

        async def say(session: Session) -> Turn | None:
            if wait:
                waiting.enter_context(session.log.awaited())
            account = Account(owner, session.record.key, principal.key_id)
            if key is None:
                return await session.chat(body.message, account=account, attachments=attached)
            return await self._manager.idempotency.chat(
                session, body.message, account=account, key=key, attachments=attached
            )

        if attached and not await self._manager.exists(owner, session_id):
            raise AttachmentRefused("This session has no files; upload them before the message.")
        with contextlib.ExitStack() as waiting:
            session, turn = await self._manager.do(
                owner, session_id, say, agent=agent, once=once, founds=True, asks=True
            )
            if wait and turn is not None:
                with contextlib.suppress(TimeoutError):  # a full disk may keep a turn's end for long
                    async with asyncio.timeout(wait):
                        await asyncio.wait([turn.done])
                        await session.log.commit(session.log.last_seq)
                self._gate.check_served(principal)
        if session.record.owner != owner:  # somebody signed in meanwhile, and it is theirs
            return await self._state_of(request, owner, session_id)
        return self._answer(request, session, is_new=is_new)

    async def state(self, request: Request) -> Response:
        owner = principal_of(request).owner
        window = query_window(request)
        session_id = await self._reading_session_id(request, owner)
        source = await self._manager.source(owner, session_id)
        if source is not None:
            return packed(request, json_response(source.state_json(window=window)))
        outside = self._outside(None)
        return json_response(await absent_state(self._manager, owner, session_id, outside, window))

    async def stream(self, request: Request) -> Response:
        owner = principal_of(request).owner
        view = query_view(request)
        session_id = named_session_id(request) or cookie_session_id(request, self._services.config.server)
        cursor = cursor_of(request)
        agent = None
        await self._manager.check_here(owner, session_id)
        if session_id is not None:
            known = self._manager.get(owner, session_id)
            record = known.record if known else await self._services.store.sessions.find(owner, session_id)
            if record is None and cursor > 0 and await self._is_over(owner, session_id, cursor):
                return Response(status_code=204)
            agent = record.agent if record is not None else None
        waits = session_id is not None and agent is None
        place = Presence(self._services.rooms, OWNER)
        permit = self._gate.permit(request)
        is_brief = view == "events" and wants_minimal(request)
        follower = Stream(
            *(self._manager, owner, session_id),
            outside=self._outside(agent),
            place=place,
            is_brief=is_brief,
            window=query_last(request),
            direct=direct(request, permit),
        )
        release = self._admit(owner, follower, view, place, is_waiting=waits, is_unnamed=session_id is None)
        frames = follower.events(cursor) if view == "events" else follower.states()
        headers = {"X-Session-Id": session_id} if session_id else {}
        headers |= APPLIED if is_brief else {}
        return FrameResponse(while_good(frames, permit), headers=headers, on_end=release)

    async def interrupt(self, request: Request) -> Response:
        body = await read_body(request, InterruptRequest, self._services.config)
        owner = principal_of(request).owner
        session_id = await self._reading_session_id(request, owner, body.session_id)
        self._manager.count_request(owner, session_id)
        session = await self._manager.here(owner, session_id)
        if session is None:
            return await self._state_of(request, owner, session_id)
        with contextlib.suppress(SessionEnded, SessionFenced):
            await session.interrupt()
        return self._answer(request, session)

    async def _state_of(self, request: Request, owner: str, session_id: str) -> Response:
        """What a verb answers of a session that is not in the map."""
        source = await self._manager.source(owner, session_id)
        if wants_minimal(request):
            if source is not None:
                return minimal_response(source.minimal())
            fold = await absent_fold(self._manager, owner, session_id)
            return minimal_response(minimal(fold, self._outside(None)))
        if source is not None:
            return json_response(source.state_json())
        return json_response(await absent_state(self._manager, owner, session_id, self._outside(None)))

    async def system(self, request: Request) -> Response:
        body = await read_body(request, SystemRequest, self._services.config)
        checked_message(body.message, self._limits)
        principal = principal_of(request)
        owner, agent = principal.owner, self._services.agent_of(principal, None)
        session_id, is_new = await self._writing_session_id(request, owner, body.session_id)
        session, message_id = await self._manager.do(
            owner, session_id, lambda s: s.system(body.message), agent=agent, founds=True
        )
        said = next(message for message in reversed(session.fold.messages) if message.id == message_id)
        return self._answer(request, session, is_new=is_new, extra=b',"res":' + said.json(keep=False))

    async def mcp_command(self, request: Request) -> Response:
        body = await read_body(request, CommandRequest, self._services.config)
        owner = principal_of(request).owner
        if body.command == "set_network":
            return await self._set_network(request, owner, body)
        if body.command in servers.COMMANDS:
            return await self._server_command(request, owner, body)
        named_session_id(request, body.session_id)
        known = ", ".join(("set_network", *servers.COMMANDS))
        words = f"Unknown command: {body.command[:100]!r}. There are: {known}."
        return json_response(CommandAnswer(False, words))

    async def _server_command(self, request: Request, owner: str, body: CommandRequest) -> Response:
        headers = {}

        async def run(session: Session | None) -> CommandAnswer:
            return await servers.run(session, body.command, body.args, client=self._services.mcp)

        if servers.needs_session(body.command):
            session_id, is_new = await self._writing_session_id(request, owner, body.session_id)
            agent = self._services.agent_of(principal_of(request), None)
            session, answer = await self._manager.do(owner, session_id, run, agent=agent)
            headers = self._headers(request, session.session_id, is_new=is_new)
        else:
            session_id = await self._reading_session_id(request, owner, body.session_id)
            self._manager.count_request(owner, session_id)
            answer = await run(await self._manager.here(owner, session_id))
        return json_response(answer, headers=headers)

    async def _set_network(self, request: Request, owner: str, body: CommandRequest) -> Response:
        args = body.args
        network = args.get("network") if isinstance(args, dict) else args
        if not isinstance(network, str) or not network.strip() or len(network) > NETWORK_CHARACTERS:
            return json_response(CommandAnswer(False, 'set_network wants args {"network": NAME}.'))
        session_id, is_new = await self._writing_session_id(request, owner, body.session_id)
        agent = self._services.agent_of(principal_of(request), None)
        session, _ = await self._manager.do(owner, session_id, lambda s: s.set_network(network), agent=agent)
        answer = CommandAnswer(True, f"Network set to {network}.", {"network": network})
        return json_response(answer, headers=self._headers(request, session.session_id, is_new=is_new))

    # -- inner ------------------------------------------------------------------------------------------

    async def _chat_session_id(self, request: Request, in_body: str | None, owner: str) -> str | None:
        """The session that a chat without an id talks to: the cookie's, or the one that an open stream
        without an id shows (a client that knows one session only); None: a new one.
        """
        known = named_session_id(request, in_body) or cookie_session_id(request, self._services.config.server)
        if known is None and (followers := self._unnamed.get(owner)):
            return followers[-1].following or await self._manager.newest(owner)
        return known

    async def _reading_session_id(self, request: Request, owner: str, in_body: str | None = None) -> str:
        known = named_session_id(request, in_body) or cookie_session_id(request, self._services.config.server)
        return known or await self._manager.newest(owner) or new_session_id()

    async def _writing_session_id(
        self, request: Request, owner: str, in_body: str | None
    ) -> tuple[str, bool]:
        known = (
            named_session_id(request, in_body)
            or cookie_session_id(request, self._services.config.server)
            or await self._manager.newest(owner)
        )
        if known is None:
            self._manager.refuse_new()
        return known or new_session_id(), known is None

    def _outside(self, agent: str | None) -> Outside:
        return self._services.outside(agent)

    async def _is_over(self, owner: str, session_id: str, cursor: int) -> bool:
        """Whether a client that has seen this much has seen the end of a deleted session."""
        tombstone = await self._manager.tombstone(owner, session_id)
        return tombstone is not None and cursor >= tombstone.last_seq

    def _admit(
        self, owner: str, follower: Stream, view: str, place: Presence, *, is_waiting: bool, is_unnamed: bool
    ) -> Callable[[], Awaitable[None]]:
        """Counts a stream; what it returns uncounts it. Raises TooManyStreams."""
        gauge = self._waiting if is_waiting else self._streams
        if not gauge.take(owner):
            raise TooManyStreams(retry_after_seconds=5)
        self._readers[follower] = view
        if is_unnamed:
            self._unnamed.setdefault(owner, []).append(follower)

        async def release() -> None:
            gauge.give(owner)
            place.leave()
            del self._readers[follower]
            if is_unnamed:
                self._unnamed[owner].remove(follower)
                if not self._unnamed[owner]:
                    del self._unnamed[owner]

        return release

    def _answer(
        self, request: Request, session: Session, *, is_new: bool = False, extra: bytes = b""
    ) -> Response:
        headers = self._headers(request, session.session_id, is_new=is_new)
        if wants_minimal(request):
            return minimal_response(session.minimal(), headers=headers)
        body = session.state_json()
        return json_response(_extended(body, extra) if extra else body, headers=headers)

    def _headers(self, request: Request, session_id: str, *, is_new: bool) -> dict[str, str]:
        headers = {"X-Session-Id": session_id}
        if is_new:
            server = self._services.config.server
            name = session_cookie_name(request, server)
            is_secure = is_by_https(request, server)
            headers["Set-Cookie"] = cookies.header(name, session_id, is_secure=is_secure)
            # Scripts look for the old name, too; if another gateway sets it, the new one goes before it.
            old = cookies.header(cookies.SESSION, session_id, is_secure=is_secure)
            carried(request.scope).answer_headers.append(("Set-Cookie", old))
        return headers


def _extended(body: bytes | Iterator[bytes], extra: bytes) -> bytes | Iterator[bytes]:
    """A JSON object with further members before its end."""
    if isinstance(body, bytes):
        return body[:-1] + extra + b"}"
    parts = list(body)
    return iter((*parts[:-1], parts[-1][:-1] + extra + b"}"))
