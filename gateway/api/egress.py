"""Which hosts a session's worker reaches, what was refused, and the answers of its person."""

from __future__ import annotations

from typing import Annotated, Final, get_args

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.host_rules import WEB_PORTS, HostRule
from gateway.egress.refused_hosts import RefusedHost
from gateway.egress.session_admission import Choice
from gateway.errors import Forbidden, InvalidField, SessionNotFound
from gateway.events.facts import iso
from gateway.events.fold import EgressState
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import checked_session_id, read_body
from gateway.principal import reach
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.sights import RefusedHostRow, RefusedHostTable

REFUSED_HOSTS: Final = 200
"""The last ones: a page asks for them every other second."""


class EgressAnswerRequest(Struct):
    """`POST /api/sessions/{id}/egress/{ask_id}`: for this connection, for the session, for good (operators),
    or not at all.
    """

    answer: Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Choice))})]


class EgressFace:
    """The handlers."""

    def __init__(self, manager: SessionManager, services: FaceServices) -> None:
        self._manager = manager
        self._services = services

    def operations(self) -> list[Operation]:
        """Egress as operations."""
        one = "/api/sessions/{session_id}/egress"
        return [
            Operation(
                method="GET", scope="read", path=one, handler=self.show_egress,
                summary="Which hosts a session's worker reaches, and what was refused", answer=EgressState,
                errors=(404,),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/{ask_id}", handler=self.answer_egress,
                summary="Answer a question about a host", body=EgressAnswerRequest, answer=EgressState,
                errors=(403, 404, 409),
            ),
            Operation(
                method="GET", scope="operate", path="/api/admin/egress", handler=self.list_refused_hosts,
                summary="Hosts that were refused in the last day, by agent", answer=RefusedHostTable,
            ),
        ]  # fmt: skip

    async def show_egress(self, request: Request) -> Response:
        session_id, owner = checked_session_id(request.path_params["session_id"]), principal_of(request).owner
        source = await self._manager.source(owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        outside = self._services.outside(source.record.agent, owner=owner)
        return json_response(source.fold.egress.state(outside))

    async def answer_egress(self, request: Request) -> Response:
        body = await read_body(request, EgressAnswerRequest, self._services.config)
        principal, session_id = principal_of(request), checked_session_id(request.path_params["session_id"])
        choice, ask_id = _choice(body.answer), request.path_params["ask_id"]

        async def answer(session: Session) -> HostRule:
            if choice == "always" and "operate" not in principal.scopes:
                raise Forbidden("Only an operator allows a host for good. Answer once or session.")
            return await session.answer_egress(ask_id, choice, principal=principal)

        session, rule = await self._manager.do(principal.owner, session_id, answer, is_making=False)
        self._services.audit.note(
            principal, "egress.answered", target=session.record.key, detail=f"{choice} {rule.text}"
        )
        outside = self._services.outside(session.record.agent, owner=principal.owner)
        return json_response(session.fold.egress.state(outside))

    async def list_refused_hosts(self, request: Request) -> Response:
        refused = self._services.egress.refused.last_day(tenant=reach(principal_of(request)))
        return json_response(RefusedHostTable([_row(each) for each in refused[:REFUSED_HOSTS]]))


def _choice(text: str) -> Choice:
    for choice in get_args(Choice):
        if text == choice:
            found: Choice = choice
            return found
    raise InvalidField(f"answer is one of {', '.join(get_args(Choice))} - at `$.answer`.")


def _row(each: RefusedHost) -> RefusedHostRow:
    return RefusedHostRow(
        agent=each.agent,
        tenant=each.tenant,
        host=each.host,
        port=each.port,
        why=each.why,
        count=each.count,
        last_at=iso(each.last_at),
        toml=toml_to_add(each) if each.why == "unlisted" and each.host else "",
    )


def toml_to_add(each: RefusedHost) -> str:
    """The lines that let an agent reach a host, to be added to its list."""
    entry = each.host if each.port in WEB_PORTS else f"{each.host}:{each.port}"
    return f'[agents.{each.agent}]\nhosts = ["{entry}"]'
