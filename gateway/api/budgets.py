"""What the model calls of one session may cost in all: its person within what the configuration leaves to
people, and operators, change it while the session waits or runs.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Forbidden, InvalidField, SessionNotFound
from gateway.events.facts import Spending
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import checked_session_id, read_body
from gateway.models.budgets import MICRO, dollars
from gateway.principal import Principal, reach
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session

MOST: Final = 1_000_000_000.0
"""Dollars: more is a mistake."""


class BudgetRequest(Struct):
    """`POST /api/sessions/{id}/budget`: dollars that all model calls of the session together may cost; 0: no
    limit of its own.
    """

    cost: float


class BudgetsFace:
    """The handlers."""

    def __init__(self, manager: SessionManager, services: FaceServices) -> None:
        self._manager = manager
        self._services = services

    def operations(self) -> list[Operation]:
        """Budgets of sessions as operations."""
        return [
            Operation(
                method="POST", scope="chat", path="/api/sessions/{session_id}/budget",
                handler=self.set_budget, summary="Say what a session's model calls may cost in all",
                body=BudgetRequest, answer=Spending, errors=(403, 404, 507),
            ),
            Operation(
                method="POST", scope="operate", path="/api/admin/sessions/{key}/budget",
                handler=self.set_budget_by_key,
                summary="Say what the model calls of somebody's session may cost in all",
                body=BudgetRequest, answer=Spending, errors=(404, 507),
            ),
        ]  # fmt: skip

    async def set_budget(self, request: Request) -> Response:
        principal, cost = principal_of(request), await self._asked(request)
        session_id = checked_session_id(request.path_params["session_id"])

        async def act(session: Session) -> Spending:
            if "operate" in principal.scopes:
                return await session.set_budget(cost, by="operator")
            self._check(session.spending, cost)
            by = session.spending.budget_by or "person"  # what an operator has set stays theirs
            return await session.set_budget(cost, by=by)

        session, spending = await self._manager.do(principal.owner, session_id, act, is_making=False)
        self._note(principal, session, cost)
        return json_response(spending)

    async def set_budget_by_key(self, request: Request) -> Response:
        principal, cost = principal_of(request), await self._asked(request)
        session = await self._manager.here_by_key(request.path_params["key"])
        if session is None or reach(principal) not in (None, session.tenant):
            raise SessionNotFound
        spending = await session.set_budget(cost, by="operator")
        self._note(principal, session, cost)
        return json_response(spending)

    async def _asked(self, request: Request) -> float:
        body = await read_body(request, BudgetRequest, self._services.config)
        if not (math.isfinite(body.cost) and 0 <= body.cost <= MOST):
            raise InvalidField(f"cost is 0 to {MOST:,.0f} dollars - at `$.cost`.")
        return body.cost

    def _check(self, now: Spending, cost: float) -> None:
        """Whether a person may set a budget for their own session. Raises Forbidden."""
        quota = self._services.config.quotas.session
        if now.budget_by == "operator":
            most = now.budget or 0.0
        else:
            most = max(quota.cost, quota.cost_most) if quota.cost else 0.0
        if most and not 0 < cost <= most:
            raise Forbidden(
                f"You may set the budget of this session to at most {dollars(round(most * MICRO))}. The "
                "administrator of this gateway can raise it further."
            )

    def _note(self, principal: Principal, session: Session, cost: float) -> None:
        self._services.audit.note(
            principal, "session.budget", target=session.record.key, detail=f"{cost:.6f} USD"
        )
