"""Links to a session, for others than its owner: made, listed and revoked by the owner.

A link lets others read, or write, too, or answer for the owner, too; `api/shared.py` has the routes that it
opens. When a link is revoked, its streams end before they show anything more, and what came by it and still
waits is withdrawn.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from typing import Annotated, Final
from weakref import WeakValueDictionary

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.auth.guests import came_by
from gateway.auth.permits import Permit
from gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidField,
    PersonDisabled,
    SessionElsewhere,
    SessionNotFound,
    ShareNotFound,
    TenantDisabled,
)
from gateway.events.facts import iso
from gateway.http.gate import Gate, principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import checked_session_id, public_base, read_body
from gateway.principal import tenant_of
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.stores.contract import SessionRecord
from gateway.stores.credentials import CredentialStore, Share, SharedSession, ShareKind

log = logging.getLogger(__name__)

MAX_HOURS: Final = 24 * 365
PREFIX: Final = "ags_"
_TOKEN: Final = re.compile(PREFIX + r"([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{43})")


_HOURS: Final = {"exclusiveMinimum": 0, "maximum": MAX_HOURS}


class ShareRequest(Struct):
    """`POST /api/sessions/{id}/shares`; without `hours` the link is good until it is revoked. `view` only
    reads, `drive` writes, too, `approve` answers permission requests and questions, too.
    """

    hours: Annotated[float, Meta(extra_json_schema=_HOURS)] | None = None
    kind: ShareKind = "view"


class ShareSummary(Struct, frozen=True):
    """A link without its secret."""

    share_id: str
    created_at: str
    expires_at: str | None
    kind: ShareKind
    uses: int
    """How often somebody began to follow the session by it."""
    last_used_at: str | None


class ShareList(Struct, frozen=True):
    """The links to a session."""

    shares: list[ShareSummary]


class NewShare(Struct, frozen=True):
    """A new link; `token` is told this once."""

    share_id: str
    token: str
    url: str
    expires_at: str | None
    kind: ShareKind


class Unshared(Struct, frozen=True):
    """A link that leads nowhere any more."""

    share_id: str
    revoked: bool


class _Followed:
    """A link for as long as something is open by it."""

    def __init__(self, share: Share) -> None:
        self.share = share


class Links:
    """The links of this gateway: where each leads, and whether it still does."""

    def __init__(self, services: FaceServices, credentials: CredentialStore, gate: Gate) -> None:
        self._services = services
        self._credentials = credentials
        self._gate = gate
        self._revoked: set[str] = set()
        self._followed: WeakValueDictionary[str, _Followed] = WeakValueDictionary()
        """Links by which something is open now, by their ids."""

    def permit(self, shared: SharedSession) -> Permit:
        """Asks, later on, whether a link that something was opened by is still good."""
        share = shared.share
        followed = self._followed.get(share.id)
        if followed is None:
            followed = self._followed[share.id] = _Followed(share)
        return self._gate.permit_of(shared.owner, lambda: self.is_good(followed.share))

    async def read_anew(self) -> None:
        """Asks which of the links that something is open by were revoked at another gateway, and ends that.
        Raises StoreFailed.
        """
        followed = {share_id: one.share for share_id, one in self._followed.items()}
        if followed:
            there = await self._credentials.shares_there(followed)
            self._revoked |= followed.keys() - there
            self._gate.look_again()

    def revoke(self, share_id: str) -> None:
        """From here on nothing is shown or taken by this link."""
        self._revoked.add(share_id)

    def is_good(self, share: Share) -> bool:
        """Whether it was neither revoked nor has expired."""
        is_over = share.expires_at is not None and self._services.wall_ms() >= share.expires_at
        return not is_over and share.id not in self._revoked

    async def find(self, token: str) -> SharedSession:
        """Where a link leads. Raises ShareNotFound: unknown, revoked and expired ones look alike; of a good
        one PersonDisabled or TenantDisabled, if what it leads to is not served.
        """
        match = _TOKEN.fullmatch(token)
        found = await self._credentials.find_share(match[1]) if match else None
        given = _hash(match[2] if match else "")
        is_right = hmac.compare_digest(given, found.share.hash if found else _hash("no link"))
        if found is None or not is_right or not self.is_good(found.share):
            raise ShareNotFound
        if self._gate.people.is_disabled(found.owner):
            raise PersonDisabled("The account that made this link is disabled.")
        if not self._gate.is_served(tenant_of(found.owner)):
            raise TenantDisabled
        return found


class SharesFace:
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

    def operations(self) -> list[Operation]:
        """Links as operations of the owner."""
        of = "/api/sessions/{session_id}/shares"
        return [
            Operation(
                method="POST", path=of, scope="chat", handler=self.share_session, summary="Share a session",
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
        ]  # fmt: skip

    async def share_session(self, request: Request) -> Response:
        body = await read_body(request, ShareRequest, self._services.config)
        if body.hours is not None and not 0 < body.hours <= MAX_HOURS:
            raise InvalidField(f"hours is more than 0, at most {MAX_HOURS} - at `$.hours`.")
        principal = principal_of(request)
        if body.kind == "approve" and not self._gate.may(principal, "approve"):
            raise Forbidden("Your credentials do not allow this: they may not approve themselves.")
        record = await self._record(request)
        now = self._services.wall_ms()
        expires_at = now + round(body.hours * 3_600_000) if body.hours else None
        share_id, secret = secrets.token_urlsafe(12), secrets.token_urlsafe(32)
        share = Share(
            id=share_id, hash=_hash(secret), session_key=record.key, created_at=now, expires_at=expires_at,
            kind=body.kind, by_approver="approve" in principal.scopes,
        )  # fmt: skip
        await self._credentials.put_share(share)
        self._services.audit.note(
            principal, "share.made", target=record.key, detail=f"{share_id} {body.kind}"
        )
        base = public_base(request, self._services.config)
        token = f"{PREFIX}{share_id}.{secret}"
        ends = iso(expires_at) if expires_at else None
        return json_response(
            NewShare(share_id, token, f"{base}/#shared={token}", ends, body.kind), status=201
        )

    async def list_shares(self, request: Request) -> Response:
        record = await self._record(request)
        found = await self._credentials.shares(record.key)
        return json_response(ShareList([_summary(share) for share in found]))

    async def revoke_share(self, request: Request) -> Response:
        record = await self._record(request)
        await self._manager.check_here(record.owner, record.session_id)  # what came by it may wait there
        share_id = request.path_params["share_id"]
        known = await self._credentials.shares(record.key)
        may_wait = any(share.id == share_id and share.kind != "view" for share in known)
        session = await self._in_memory(record) if may_wait else None
        if not await self._credentials.delete_share(record.key, share_id):
            raise ShareNotFound
        self._links.revoke(share_id)
        self._gate.look_again(principal_of(request).owner)
        if session is not None:
            await self._withdraw(session, share_id)
        self._services.audit.note(principal_of(request), "share.revoked", target=record.key, detail=share_id)
        return json_response(Unshared(share_id, True))

    # -- inner ------------------------------------------------------------------------------------------

    async def _in_memory(self, record: SessionRecord) -> Session | None:
        """The session, so that what waits in it can be withdrawn. Raises SessionElsewhere, before anything is
        done: then it is done there.
        """
        try:
            return await self._manager.find(record.owner, record.session_id)
        except SessionElsewhere:
            raise
        except GatewayError as error:
            log.warning("session %s: messages of a revoked link still wait: %s", record.key, error)
            return None

    async def _withdraw(self, session: Session, share_id: str) -> None:
        """What came by a link and waits for its turn is not sent. The link is revoked whatever fails here:
        what an earlier gateway left waiting is held, and the owner sees it.
        """
        try:
            await session.withdraw(lambda author: came_by(author, share_id))
        except GatewayError as error:
            log.warning("session %s: messages of a revoked link still wait: %s", session.record.key, error)

    async def _record(self, request: Request) -> SessionRecord:
        session_id = checked_session_id(request.path_params["session_id"])
        record = await self._services.store.sessions.find(principal_of(request).owner, session_id)
        if record is None:
            raise SessionNotFound(session_id=session_id)
        return record


def _summary(share: Share) -> ShareSummary:
    return ShareSummary(
        share.id,
        iso(share.created_at),
        iso(share.expires_at) if share.expires_at else None,
        share.kind,
        share.uses,
        iso(share.last_used_at) if share.last_used_at else None,
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
