"""What a link opens: routes of their own, so no caller ever holds somebody else's credentials.

Guarantees: a link does nothing that is not listed here with the kind that allows it; what somebody does by a
link is paid for by the owner and bears its author; nothing is taken by a link from the moment that it is
revoked, not even what was on its way.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, cast, get_args

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.agents.questions import Action
from gateway.answers import MinimalAnswer
from gateway.api.history import DEFAULT, LAST_PARAMETER, WINDOW_PARAMETERS, HistoryPage, history
from gateway.api.sessions import QUESTION_ID, AnswerRequest, PermissionRequest
from gateway.api.shares import Links
from gateway.api.stream import CURSOR_PARAMETERS, Stream, absent_state, while_good
from gateway.auth import guests
from gateway.buckets import Gauge, TokenBuckets
from gateway.errors import (
    GatewayError,
    InvalidField,
    SessionNotFound,
    ShareNotAllowed,
    ShareNotFound,
    SignInStale,
    TooManyStreams,
    Unauthorized,
)
from gateway.events.facts import Contributor, iso
from gateway.events.fold import Participant, State
from gateway.http.event_stream import FrameResponse, direct
from gateway.http.gate import Gate
from gateway.http.operation import IDEMPOTENCY_KEY, Operation, Parameter, Spoken, json_response
from gateway.http.preferences import minimal_response, wants_minimal
from gateway.http.reading import checked_message, cursor_of, query_last, query_view, query_window, read_body
from gateway.principal import Account, Principal
from gateway.sessions.idempotency import KEY_CHARACTERS, Once
from gateway.sessions.manager import SessionManager
from gateway.sessions.presence import OWNER, Presence
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.stores.credentials import CredentialStore, Share, SharedSession, ShareKind

STREAMS_PER_SHARE: Final = 200
USE_SECONDS: Final = 600.0
"""Somebody who comes back within this is not counted as a further use of the link."""
ALLOWS: Final[dict[ShareKind, frozenset[ShareKind]]] = {
    "view": frozenset({"view"}),
    "drive": frozenset({"view", "drive"}),
    "approve": frozenset({"view", "drive", "approve"}),
}
"""Of each kind of link: what it allows."""
NEEDS: Final[dict[str, ShareKind]] = {
    "shared_link": "view",
    "shared_state": "view",
    "shared_history": "view",
    "shared_stream": "view",
    "shared_chat": "drive",
    "shared_interrupt": "drive",
    "shared_permission": "approve",
    "shared_question": "approve",
}
"""What each operation needs, by the handler's name. One that is not here is refused for every link."""
NAMED: Final = (
    Parameter(
        name="name", schema={"type": "string", "maxLength": guests.NAME_CHARACTERS},
        description="What others call you here. Who is signed in is called by their own name.",
    ),
    Parameter(
        name="guest", schema={"type": "string", "pattern": "^([A-Za-z0-9_-]{16,64})?$"},
        description="A random value that you keep: your tabs are one person by it, and nobody else is you.",
    ),
)  # fmt: skip


class SharedMessage(Struct):
    """`POST /api/shared/{token}/chat`."""

    message: Spoken


class SharedLink(Struct, frozen=True):
    """What a link allows, and who you are to the others: absent until you have a name."""

    kind: ShareKind
    expires_at: str | None
    you: Contributor | UnsetType = UNSET
    is_owner: bool = False


class SharedFace:
    """The handlers."""

    def __init__(
        self,
        manager: SessionManager,
        services: FaceServices,
        credentials: CredentialStore,
        gate: Gate,
        links: Links,
    ) -> None:
        self._manager = manager
        self._services = services
        self._credentials = credentials
        self._gate = gate
        self._links = links
        self._streams = Gauge(STREAMS_PER_SHARE)
        self._uses = TokenBuckets(rate=1 / USE_SECONDS, burst=1, monotonic=services.monotonic)

    def operations(self) -> list[Operation]:
        """What a link opens, as operations. They are public: each proves its link by itself."""
        shared = "/api/shared/{token}"
        return [
            Operation(
                method="GET", path=shared, scope="", handler=self.shared_state,
                summary="What a link shows", answer=State, parameters=WINDOW_PARAMETERS, errors=(404,),
            ),
            Operation(
                method="GET", path=shared + "/history", scope="", handler=self.shared_history,
                summary="Earlier messages, by a link", answer=HistoryPage, parameters=WINDOW_PARAMETERS,
                errors=(404,),
            ),
            Operation(
                method="GET", path=shared + "/link", scope="", handler=self.shared_link,
                summary="What a link allows", answer=SharedLink, parameters=NAMED, errors=(404,),
            ),
            Operation(
                method="GET", path=shared + "/stream", scope="", handler=self.shared_stream,
                summary="Follow what a link shows", media_type="text/event-stream",
                parameters=(*CURSOR_PARAMETERS, LAST_PARAMETER, *NAMED), errors=(404,),
            ),
            Operation(
                method="POST", path=shared + "/chat", scope="", handler=self.shared_chat,
                summary="Send a message by a link", body=SharedMessage, answer=State, minimal=MinimalAnswer,
                parameters=(*NAMED, IDEMPOTENCY_KEY), errors=(402, 404),
            ),
            Operation(
                method="POST", path=shared + "/interrupt", scope="", handler=self.shared_interrupt,
                summary="Stop the answer by a link", answer=State, minimal=MinimalAnswer, parameters=NAMED,
                errors=(404,),
            ),
            Operation(
                method="POST", path=shared + "/permission", scope="", handler=self.shared_permission,
                summary="Answer a permission request by a link", body=PermissionRequest, answer=State,
                minimal=MinimalAnswer, parameters=NAMED, errors=(404, 409),
            ),
            Operation(
                method="POST", path=shared + "/questions/{question_id}", scope="",
                handler=self.shared_question, summary="Answer a question of the agent by a link",
                body=AnswerRequest, answer=State, minimal=MinimalAnswer, parameters=NAMED,
                errors=(404, 409),
                path_schemas={"question_id": QUESTION_ID},
            ),
        ]  # fmt: skip

    # -- reading ----------------------------------------------------------------------------------------

    async def shared_state(self, request: Request) -> Response:
        shared, window = await self._shared(request, "shared_state"), query_window(request)
        source = await self._manager.source(shared.owner, shared.session_id)
        if source is not None and source.record.key == shared.share.session_key:
            return json_response(source.state_json(is_guest=True, window=window))
        outside = self._services.outside(None)
        return json_response(
            await absent_state(self._manager, shared.owner, shared.session_id, outside, window)
        )

    async def shared_history(self, request: Request) -> Response:
        shared, window = await self._shared(request, "shared_history"), query_window(request)
        source = await self._manager.source(shared.owner, shared.session_id)
        if source is None or source.record.key != shared.share.session_key:
            raise ShareNotFound
        return history(source, window or DEFAULT, is_guest=True)

    async def shared_link(self, request: Request) -> Response:
        shared = await self._shared(request, "shared_link")
        share, principal = shared.share, await self._reader(request)
        is_owner = principal is not None and principal.owner == shared.owner
        is_named = principal is not None or bool(request.query_params.get("name"))
        you = self._author(request, shared, principal, self._known(shared)) if is_named else UNSET
        ends = iso(share.expires_at) if share.expires_at else None
        return json_response(SharedLink(share.kind, ends, you, is_owner))

    async def shared_stream(self, request: Request) -> Response:
        shared = await self._shared(request, "shared_stream")
        share, view, cursor = shared.share, query_view(request), cursor_of(request)
        window = query_last(request)
        who = self._participant(request, shared, await self._reader(request))
        tenure = self._manager.tenures.of(shared.owner)
        record = await self._services.store.sessions.find(shared.owner, shared.session_id)
        if record is None or record.key != share.session_key:
            raise ShareNotFound
        outside = self._services.outside(record.agent)
        if not self._streams.take(share.id):
            raise TooManyStreams(retry_after_seconds=5)
        place = Presence(self._services.rooms, who)
        permit = self._links.permit(shared)
        stream = Stream(
            *(self._manager, shared.owner, shared.session_id),
            outside=outside,
            tenure=tenure,
            place=place,
            is_guest=True,
            window=window,
            direct=direct(request, permit),
        )
        frames = stream.events(cursor) if view == "events" else stream.states()
        on_end = self._release(share.id, place)
        try:
            if who is not OWNER:
                await self._count(share, who)
        except BaseException:
            self._streams.give(share.id)
            raise
        return FrameResponse(while_good(frames, permit), headers={}, on_end=on_end)

    def _release(self, share_id: str, place: Presence) -> Callable[[], Awaitable[None]]:
        async def release() -> None:
            self._streams.give(share_id)
            place.leave()

        return release

    async def _count(self, share: Share, who: Participant) -> None:
        """A full disk keeps nobody from reading."""
        with contextlib.suppress(GatewayError):
            self._uses.take(who.person_id)
            await self._credentials.use_share(share.id, at=self._services.wall_ms())

    # -- writing ----------------------------------------------------------------------------------------

    async def shared_chat(self, request: Request) -> Response:
        shared = await self._shared(request, "shared_chat")
        body = await read_body(request, SharedMessage, self._services.config)
        text = checked_message(body.message, self._services.config.limits)
        self._manager.refuse_while_draining()
        given = request.headers.get("idempotency-key")
        once = None if given is None else Once(self._key(request, shared.share, given), f"\0{text}")

        async def say(session: Session, author: Contributor | UnsetType) -> None:
            account = Account(shared.owner, session.record.key)
            if once is None:
                await session.chat(text, account=account, author=author)
            else:
                await self._manager.idempotency.chat(
                    session, text, account=account, key=once.key, author=author
                )

        return await self._done(request, shared, "message", say, once=once)

    async def shared_interrupt(self, request: Request) -> Response:
        shared = await self._shared(request, "shared_interrupt")

        async def stop(session: Session, _author: Contributor | UnsetType) -> None:
            await session.interrupt()

        return await self._done(request, shared, "interrupted", stop)

    async def shared_permission(self, request: Request) -> Response:
        shared = await self._shared(request, "shared_permission")
        body = await read_body(request, PermissionRequest, self._services.config)

        async def answer(session: Session, author: Contributor | UnsetType) -> None:
            await session.answers.answer_permission(body.permission_id, body.option_id, by=author)

        return await self._done(request, shared, "permission", answer)

    async def shared_question(self, request: Request) -> Response:
        shared = await self._shared(request, "shared_question")
        body = await read_body(request, AnswerRequest, self._services.config)
        if body.action not in get_args(Action):
            raise InvalidField(
                f"action is one of {', '.join(get_args(Action))} - at `$.action`.", field=("body", "action")
            )
        question_id, action = request.path_params["question_id"], cast("Action", body.action)

        async def answer(session: Session, author: Contributor | UnsetType) -> None:
            account = Account(shared.owner, session.record.key)
            await session.answers.answer_question(
                question_id, action, body.content, account=account, chat=session.chat, by=author
            )

        return await self._done(request, shared, "question", answer)

    async def _done(
        self,
        request: Request,
        shared: SharedSession,
        action: str,
        verb: Callable[[Session, Contributor | UnsetType], Awaitable[object]],
        *,
        once: Once | None = None,
    ) -> Response:
        """Does it as whoever calls, and shows the session. It is checked last whether the link is good, with
        nothing to wait for in between: what a revocation finds waiting it withdraws, later there is nothing.
        """
        share, principal = shared.share, await self._gate.acquaintance(request)
        scope = "approve" if action in ("permission", "question") else "chat"

        async def act(session: Session) -> Contributor | UnsetType:
            if session.record.key != share.session_key:
                raise ShareNotFound
            known = [(one.author_id, one.name) for one in session.fold.authors.values()]
            author = self._author(request, shared, principal, [*known, *self._known(shared)], scope=scope)
            if not self._links.is_good(share):
                raise ShareNotFound
            await verb(session, author)
            return author

        counted_as = f"link {share.id}"
        try:
            session, author = await self._manager.do(
                *(shared.owner, shared.session_id, act), is_making=False, once=once, counted_as=counted_as
            )
        except SessionNotFound:
            raise ShareNotFound from None
        by = "owner" if author is UNSET else author.author_id
        self._services.audit.note(
            principal, f"shared.{action}", target=share.session_key, detail=f"{share.id} {by}"
        )
        if wants_minimal(request):
            return minimal_response(session.minimal())
        return json_response(session.state_json(is_guest=True))

    # -- who it is --------------------------------------------------------------------------------------

    async def _shared(self, request: Request, operation: str) -> SharedSession:
        """Where the link of this request leads. Raises ShareNotFound, PersonDisabled, TenantDisabled,
        ShareNotAllowed.
        """
        shared = await self._links.find(request.path_params["token"])
        needed, share = NEEDS.get(operation), shared.share
        if needed is None or needed not in ALLOWS[share.kind]:
            raise ShareNotAllowed
        is_apart = self._services.config.approvals.require_scope
        if needed == "approve" and is_apart and not share.by_approver:
            raise ShareNotAllowed("Who made this link may not approve any more, so neither does the link.")
        return shared

    async def _reader(self, request: Request) -> Principal | None:
        """Who reads, as far as that can be known: a sign-in that is over hides nothing of a link."""
        try:
            return await self._gate.acquaintance(request)
        except (Unauthorized, SignInStale):
            return None

    def _author(
        self,
        request: Request,
        shared: SharedSession,
        principal: Principal | None,
        others: list[tuple[str, str]],
        scope: str = "read",
    ) -> Contributor | UnsetType:
        """Who acts; UNSET: the owner. Raises InvalidField for a name that is missing or cannot be taken."""
        if principal is not None and principal.owner == shared.owner and self._gate.may(principal, scope):
            return UNSET
        guest, name = _given(request)
        return guests.author_of(shared.share, principal=principal, guest=guest, name=name, others=others)

    def _participant(
        self, request: Request, shared: SharedSession, principal: Principal | None
    ) -> Participant:
        """Who follows. A name that cannot be taken is not shown, and keeps nobody from reading."""
        share = shared.share
        with contextlib.suppress(InvalidField):
            author = self._author(request, shared, principal, self._known(shared))
            return OWNER if author is UNSET else guests.participant(author, share)
        guest, _ = _given(request)
        with contextlib.suppress(InvalidField):
            if guest:
                return Participant(guests.guest_id(share, guest, ""), "", "guest", share.kind)
        return Participant(
            guests.person_id(share, f"stream\0{secrets.token_hex(8)}"), "", "guest", share.kind
        )

    def _known(self, shared: SharedSession) -> list[tuple[str, str]]:
        """Ids and names of those whom no guest may be called like."""
        return list(self._named(shared))

    def _named(self, shared: SharedSession) -> Iterator[tuple[str, str]]:
        yield "", shared.owner.partition("/")[2]
        for one in self._services.rooms.people(shared.share.session_key):
            if one.name:
                yield one.person_id, one.name
        session = self._manager.get(shared.owner, shared.session_id)
        if session is not None:
            yield "", session.record.agent
            for author in session.fold.authors.values():
                yield author.author_id, author.name

    def _key(self, request: Request, share: Share, given: str) -> str:
        """An Idempotency-Key as it is kept: never one of the owner's, of another link or of another guest."""
        if not 0 < len(given) <= KEY_CHARACTERS or not given.isprintable():
            raise InvalidField(f"Idempotency-Key is 1 to {KEY_CHARACTERS} printable characters.")
        parts = "\0".join((share.id, *_given(request), given))
        return "link " + hashlib.sha256(parts.encode()).hexdigest()


def _given(request: Request) -> tuple[str, str]:
    """What a request says of who calls: the value that the browser keeps, and a name."""
    query = request.query_params
    return query.get("guest", ""), query.get("name", "")
