"""Links to a session that others may read: explicit, revocable, and good for nothing else.

What a link opens has routes of its own, so no caller ever holds somebody else's credentials. A revoked link's
streams end before they show anything more.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from msgspec import Meta, Struct
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.stream import CURSOR_PARAMETERS, Stream, absent_state, response, while_good
from gateway.buckets import Gauge
from gateway.errors import (
    InvalidField,
    PersonDisabled,
    SessionNotFound,
    ShareNotFound,
    TenantDisabled,
    TooManyStreams,
)
from gateway.events.facts import iso
from gateway.events.fold import State
from gateway.http.gate import Gate, principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import checked_session_id, cursor_of, public_base, query_view, read_body
from gateway.principal import tenant_of
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.stores.contract import SessionRecord
from gateway.stores.credentials import CredentialStore, Share, SharedSession

MAX_HOURS: Final = 24 * 365
STREAMS_PER_SHARE: Final = 200
PREFIX: Final = "ags_"
_TOKEN: Final = re.compile(PREFIX + r"([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{43})")


_HOURS: Final = {"exclusiveMinimum": 0, "maximum": MAX_HOURS}


class ShareRequest(Struct):
    """`POST /api/sessions/{id}/shares`; without `hours` the link is good until it is revoked."""

    hours: Annotated[float, Meta(extra_json_schema=_HOURS)] | None = None


class ShareSummary(Struct, frozen=True):
    """A link without its secret."""

    share_id: str
    created_at: str
    expires_at: str | None


class ShareList(Struct, frozen=True):
    """The links to a session."""

    shares: list[ShareSummary]


class NewShare(Struct, frozen=True):
    """A new link; `token` is told this once."""

    share_id: str
    token: str
    url: str
    expires_at: str | None


class Unshared(Struct, frozen=True):
    """A link that leads nowhere any more."""

    share_id: str
    revoked: bool


class SharesFace:
    """The handlers."""

    def __init__(
        self, manager: SessionManager, services: FaceServices, credentials: CredentialStore, gate: Gate
    ) -> None:
        self._manager = manager
        self._services = services
        self._credentials = credentials
        self._gate = gate
        self._streams = Gauge(STREAMS_PER_SHARE)
        self._revoked: set[str] = set()

    def operations(self) -> list[Operation]:
        """Shares as operations."""
        of = "/api/sessions/{session_id}/shares"
        shared = "/api/shared/{token}"
        return [
            Operation(
                method="POST", path=of, scope="chat", handler=self.share_session, summary="Share for reading",
                body=ShareRequest, answer=NewShare, status=201, errors=(404,),
            ),
            Operation(
                method="GET", path=of, scope="read", handler=self.list_shares, summary="Its links",
                answer=ShareList, errors=(404,),
            ),
            Operation(
                method="DELETE", path=of + "/{share_id}", scope="chat", handler=self.revoke_share,
                summary="Revoke a link", answer=Unshared, errors=(404,),
            ),
            Operation(
                method="GET", path=shared, scope="", handler=self.shared_state,
                summary="What a link shows", answer=State, errors=(404,),
            ),
            Operation(
                method="GET", path=shared + "/stream", scope="", handler=self.shared_stream,
                summary="Follow what a link shows", media_type="text/event-stream",
                parameters=CURSOR_PARAMETERS, errors=(404,),
            ),
        ]  # fmt: skip

    # -- its owner --------------------------------------------------------------------------------------

    async def share_session(self, request: Request) -> Response:
        body = await read_body(request, ShareRequest, self._services.config)
        if body.hours is not None and not 0 < body.hours <= MAX_HOURS:
            raise InvalidField(f"hours is more than 0, at most {MAX_HOURS} - at `$.hours`.")
        record = await self._record(request)
        now = self._services.wall_ms()
        expires_at = now + round(body.hours * 3_600_000) if body.hours else None
        share_id, secret = secrets.token_urlsafe(12), secrets.token_urlsafe(32)
        share = Share(
            id=share_id, hash=_hash(secret), session_key=record.key, created_at=now, expires_at=expires_at
        )
        await self._credentials.put_share(share)
        self._services.audit.note(principal_of(request), "share.made", target=record.key, detail=share_id)
        base = public_base(request, self._services.config)
        token = f"{PREFIX}{share_id}.{secret}"
        ends = iso(expires_at) if expires_at else None
        return json_response(NewShare(share_id, token, f"{base}/#shared={token}", ends), status=201)

    async def list_shares(self, request: Request) -> Response:
        record = await self._record(request)
        found = await self._credentials.shares(record.key)
        return json_response(
            ShareList(
                [
                    ShareSummary(s.id, iso(s.created_at), iso(s.expires_at) if s.expires_at else None)
                    for s in found
                ]
            )
        )

    async def revoke_share(self, request: Request) -> Response:
        record = await self._record(request)
        share_id = request.path_params["share_id"]
        if not await self._credentials.delete_share(record.key, share_id):
            raise ShareNotFound
        self._revoked.add(share_id)
        self._gate.look_again(principal_of(request).owner)
        self._services.audit.note(principal_of(request), "share.revoked", target=record.key, detail=share_id)
        return json_response(Unshared(share_id, True))

    # -- who has the link -------------------------------------------------------------------------------

    async def shared_state(self, request: Request) -> Response:
        shared = await self._shared(request)
        source = await self._manager.source(shared.owner, shared.session_id)
        if source is not None and source.record.key == shared.share.session_key:
            return json_response(source.state_json(is_guest=True))
        outside = self._services.outside(None)
        return json_response(await absent_state(self._manager, shared.owner, shared.session_id, outside))

    async def shared_stream(self, request: Request) -> Response:
        shared = await self._shared(request)
        view, cursor = query_view(request), cursor_of(request)
        tenure = self._manager.tenures.of(shared.owner)
        record = await self._services.store.sessions.find(shared.owner, shared.session_id)
        if record is None or record.key != shared.share.session_key:
            raise ShareNotFound
        outside = self._services.outside(record.agent)
        if not self._streams.take(shared.share.id):
            raise TooManyStreams(retry_after_seconds=5)
        stream = Stream(
            *(self._manager, shared.owner, shared.session_id),
            outside=outside,
            tenure=tenure,
            is_guest=True,
        )
        frames = stream.events(cursor) if view == "events" else stream.states()
        permit = self._gate.permit_of(shared.owner, lambda: self._is_good(shared.share))
        return response(
            while_good(frames, permit),
            headers={},
            on_end=BackgroundTask(self._release(shared.share.id)),
        )

    def _release(self, share_id: str) -> Callable[[], Awaitable[None]]:
        async def release() -> None:
            self._streams.give(share_id)

        return release

    def _is_good(self, share: Share) -> bool:
        is_over = share.expires_at is not None and self._services.wall_ms() >= share.expires_at
        return not is_over and share.id not in self._revoked

    async def _shared(self, request: Request) -> SharedSession:
        """Where the link leads. Raises ShareNotFound: unknown, revoked and expired ones look alike; of a good
        one PersonDisabled or TenantDisabled, if what it leads to is not served.
        """
        match = _TOKEN.fullmatch(request.path_params["token"])
        found = await self._credentials.find_share(match[1]) if match else None
        given = _hash(match[2] if match else "")
        is_right = hmac.compare_digest(given, found.share.hash if found else _hash("no link"))
        if found is None or not is_right or not self._is_good(found.share):
            raise ShareNotFound
        if self._gate.people.is_disabled(found.owner):
            raise PersonDisabled("The account that made this link is disabled.")
        if not self._gate.is_served(tenant_of(found.owner)):
            raise TenantDisabled
        return found

    # -- inner ------------------------------------------------------------------------------------------

    async def _record(self, request: Request) -> SessionRecord:
        session_id = checked_session_id(request.path_params["session_id"])
        record = await self._services.store.sessions.find(principal_of(request).owner, session_id)
        if record is None:
            raise SessionNotFound(session_id=session_id)
        return record


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
