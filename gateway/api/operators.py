"""The operators' API: every owner's sessions as metadata, and the few things an operator may do to them.

Nothing here shows a title or a client's session id, except to the operator at the machine, who may read the
database anyhow, and a conversation only if its tenant lets operators read: sessions go by their internal key.
Operators of a tenant reach that tenant's sessions, those of the gateway's own tenant everybody's. Whatever is
done is in the audit log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.agents.permission_rules import all_rules
from gateway.errors import Forbidden, SessionBusy, SessionNotFound
from gateway.events.facts import NamedRule, iso
from gateway.events.fold import State
from gateway.http.gate import is_at_machine, principal_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import query_int
from gateway.principal import reach
from gateway.sessions.census import Census, Wanted
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.sights import Acted, DrainBegun, Overview, OwnedSession, OwnedSessions, WatchedSessions
from gateway.stores.contract import SessionRecord

MAX_ROWS: Final = 10_000
_FILTERS: Final = (
    Parameter(
        name="q", schema={"type": "string"},
        description="Words that are in the key, the tenant, the agent, the state or the person.",
    ),
    Parameter(name="state", schema={"type": "string"}, description="Only in this state."),
    Parameter(name="agent", schema={"type": "string"}, description="Only of this agent."),
)  # fmt: skip


class OperatorRules(Struct, frozen=True):
    """The permission rules of the configuration, by their names in it."""

    rules: list[NamedRule]


async def _interrupt(session: Session) -> bool:
    had_worker = session.is_live
    await session.interrupt()
    return had_worker


class AdminFace:
    """The handlers. `drain` asks the server to end as SIGTERM does."""

    def __init__(
        self, manager: SessionManager, services: FaceServices, census: Census, *, drain: Callable[[], None]
    ) -> None:
        self._manager = manager
        self._services = services
        self._census = census
        self._drain = drain

    def operations(self) -> list[Operation]:
        """Watching and ending as operations."""
        one = "/api/admin/sessions/{key}"
        limit = Parameter(
            name="limit",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
            description="How many.",
        )
        tenant = Parameter(name="tenant", schema={"type": "string"}, description="Only of this tenant.")
        return [
            Operation(
                method="GET", scope="operate", path="/api/admin/overview", handler=self.show_overview,
                summary="The gateway at a glance", answer=Overview, is_gateway_wide=True,
            ),
            Operation(
                method="GET", scope="operate", path="/api/admin/sessions", handler=self.list_all_sessions,
                summary="Everybody's sessions, without their content", answer=WatchedSessions,
                parameters=(limit, tenant, *_FILTERS),
            ),
            Operation(
                method="GET", scope="admin", path="/api/admin/owned-sessions",
                handler=self.list_owned_sessions,
                summary="Everybody's sessions with their owners, for the operator at the machine",
                answer=OwnedSessions, parameters=(limit, tenant),
            ),
            Operation(
                method="GET", scope="operate", path="/api/admin/permissions",
                handler=self.list_operator_rules,
                summary="The permission rules of the configuration", answer=OperatorRules,
            ),
            Operation(
                method="POST", scope="operate", path=one + "/end", handler=self.end_turn,
                summary="Interrupt the turn that runs in a session", answer=Acted, errors=(404,),
            ),
            Operation(
                method="POST", scope="operate", path=one + "/park", handler=self.park_session,
                summary="Stop an idle session's worker", answer=Acted, errors=(404, 409),
            ),
            Operation(
                method="POST", scope="operate", path=one + "/kill", handler=self.kill_session,
                summary="End a session's worker and the turn that runs", answer=Acted, errors=(404,),
            ),
            Operation(
                method="POST", scope="operate", path="/api/admin/drain", handler=self.drain_gateway,
                summary="Take no new work, let turns end, and exit", answer=DrainBegun, status=202,
                is_gateway_wide=True,
            ),
            Operation(
                method="GET", scope="operate", path=one + "/state", handler=self.read_session,
                summary="What is said in a session, where its tenant lets operators read", answer=State,
                errors=(404,),
            ),
        ]  # fmt: skip

    async def show_overview(self, request: Request) -> Response:
        return json_response(await self._census.overview())

    async def list_all_sessions(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=1_000, low=1, high=MAX_ROWS)
        principal, query = principal_of(request), request.query_params
        wanted = Wanted(
            words=tuple(query.get("q", "").casefold().split()),
            state=query.get("state", ""),
            agent=query.get("agent", ""),
            tenant=query.get("tenant", ""),
        )
        shows_people = "admin" in principal.scopes
        return json_response(
            await self._census.sessions(
                limit=limit, tenant=reach(principal), wanted=wanted, shows_people=shows_people
            )
        )

    async def list_owned_sessions(self, request: Request) -> Response:
        if not is_at_machine(request):
            raise Forbidden(
                "Only the operator at the machine sees whose sessions there are: sessions ls --all."
            )
        limit = query_int(request, "limit", default=1_000, low=1, high=MAX_ROWS)
        found = await self._manager.all_stored(tenant=request.query_params.get("tenant"), limit=limit + 1)
        rows = [self._owned(record) for record in found[:limit]]
        return json_response(OwnedSessions(sessions=rows, has_more=len(found) > limit))

    def _owned(self, record: SessionRecord) -> OwnedSession:
        return OwnedSession(
            owner=record.owner,
            session_id=record.session_id,
            title=record.title,
            state=str(self._manager.state_of(record)),
            agent=record.agent,
            created_at=iso(record.created_at),
            last_active_at=iso(record.last_active_at),
            messages=record.message_count,
        )

    async def read_session(self, request: Request) -> Response:
        session = await self._reached(request)
        audit, principal = self._services.audit, principal_of(request)
        tenant = self._services.config.tenant(session.tenant)
        if tenant is None or not tenant.operators_see_content:
            audit.note(principal, "session.read", target=session.record.key, outcome="refused")
            raise Forbidden("This tenant does not let operators read its sessions (operators_see_content).")
        audit.note(principal, "session.read", target=session.record.key)
        return json_response(session.state_json())

    async def list_operator_rules(self, request: Request) -> Response:
        config, tenant = self._services.config, reach(principal_of(request))
        return json_response(OperatorRules(list(all_rules(config, tenant=tenant))))

    async def end_turn(self, request: Request) -> Response:
        return await self._act(request, "session.interrupted", _interrupt)

    async def park_session(self, request: Request) -> Response:
        return await self._act(request, "session.parked", Session.park)

    async def kill_session(self, request: Request) -> Response:
        return await self._act(request, "session.killed", Session.kill)

    async def drain_gateway(self, request: Request) -> Response:
        self._services.audit.note(principal_of(request), "gateway.drained")
        self._drain()
        return json_response(DrainBegun(grace_seconds=self._manager.grace_seconds), status=202)

    async def _reached(self, request: Request) -> Session:
        """The session, if it is there and within the operator's reach: otherwise it is not there."""
        session = await self._manager.here_by_key(request.path_params["key"])
        if session is None or reach(principal_of(request)) not in (None, session.tenant):
            raise SessionNotFound
        return session

    async def _act(
        self, request: Request, action: str, act: Callable[[Session], Awaitable[bool]]
    ) -> Response:
        session = await self._reached(request)
        audit, principal = self._services.audit, principal_of(request)
        key = session.record.key
        try:
            had_worker = await act(session)
        except SessionBusy as error:
            audit.note(principal, action, target=key, outcome="refused", detail=error.code)
            raise
        audit.note(principal, action, target=key, detail=None if had_worker else "no worker")
        return json_response(Acted(key=key, state=str(session.state), had_worker=had_worker))
