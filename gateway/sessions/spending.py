"""What the ledger says of calls and budgets, brought to the session that it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from gateway.errors import BudgetReached
from gateway.models.budgets import Near
from gateway.stores.ledger import LedgerCall

if TYPE_CHECKING:
    from gateway.sessions.session import Session


class SpendingNews:
    """A `Listener` of the ledger. Of a session that is not in memory any more nobody hears."""

    def __init__(self) -> None:
        self.sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()
        """Those in memory, by key."""

    def settled(self, call: LedgerCall, seconds: float) -> None:
        if (session := self.sessions.get(call.session_key)) is not None:
            session.on_settled(call, seconds)

    def near(self, session_key: str, near: Near) -> None:
        if (session := self.sessions.get(session_key)) is not None:
            session.on_budget_near(near)

    def reached(self, session_key: str, error: BudgetReached) -> None:
        if (session := self.sessions.get(session_key)) is not None:
            session.on_budget_reached(error)
