"""Elicitations: the questions of one agent that wait for its user, over ACP `elicitation/create`.

Guarantees: each question is answered to the agent exactly once, at the latest with `cancel` when its turn
ends; a question that cannot be shown is refused to the agent, and the user reads that it was; an address
counts as done if the agent says so (`elicitation/complete`) before the user does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from gateway.agents import questions
from gateway.agents.connection import AcpConnection
from gateway.agents.questions import ElicitationParams, UnshowableQuestion
from gateway.events import facts as ev
from worker import acp
from worker.foreign import Name

PENDING: Final = 16
"""Questions of one agent that wait at once."""
CANCELLED: Final = -32800
"""The JSON-RPC code for a request that its sender took back."""


class QuestionOwner(Protocol):
    """The session, as its agent's questions see it."""

    def on_events(self, events: list[ev.EventData]) -> None:
        """Appends what the agent says."""

    def on_question(self, asked: ev.QuestionAsked) -> None:
        """The agent asks its user."""


class WaitingQuestion(Struct, frozen=True):
    """The agent's request behind a question."""

    request_id: acp.Id
    turn_id: str
    elicitation_id: str


class _Completed(Struct, rename="camel"):
    elicitation_id: Name


class _Cancelled(Struct, rename="camel"):
    request_id: acp.Id


class Elicitations:
    """See the module."""

    def __init__(
        self, owner: QuestionOwner, connection: AcpConnection, tool_call_id: Callable[[str], str]
    ) -> None:
        """`tool_call_id` gives the log's id for the agent's."""
        self._owner = owner
        self._connection = connection
        self._tool_call_id = tool_call_id
        self._waiting: dict[str, WaitingQuestion] = {}
        self._asked = 0
        self._turn_id = ""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, question_id: str) -> bool:
        return question_id in self._waiting

    def ask(self, message: acp.Envelope, turn_id: str) -> None:
        """Shows a question; without a turn nobody is there to answer it."""
        try:
            asked = acp.parse(
                message.params,
                ElicitationParams,
                self._connection.on_odd,
                limit_bytes=2 * questions.FORM_BYTES,
            )
            shown = self._shown(asked, turn_id)
        except (msgspec.DecodeError, UnshowableQuestion) as error:
            self._refuse(message, turn_id, str(error))
            return
        if not turn_id:
            self._connection.respond(message.id_or_none, {"action": "cancel"})
            return
        if len(self._waiting) >= PENDING:
            self._refuse(message, turn_id, f"At most {PENDING} questions wait at once.")
            return
        self._waiting[shown.question_id] = WaitingQuestion(message.id_or_none, turn_id, asked.elicitation_id)
        self._turn_id = turn_id
        self._owner.on_question(shown)

    def _shown(self, asked: ElicitationParams, turn_id: str) -> ev.QuestionAsked:
        """Raises UnshowableQuestion."""
        self._asked += 1
        call_id = self._tool_call_id(asked.tool_call_id) if asked.tool_call_id else None
        question_id = f"{turn_id}.q{self._asked}"
        words = asked.message.strip()[: questions.MESSAGE_CHARACTERS] or "The agent asks you something."
        match asked.mode:
            case "form":
                fields = questions.form(asked.requested_schema, self._connection.on_odd)
                return ev.QuestionAsked(question_id, turn_id, "form", words, fields, tool_call_id=call_id)
            case "url":
                host = questions.host_of(asked.url)
                return ev.QuestionAsked(
                    question_id, turn_id, "url", words, url=asked.url, host=host, tool_call_id=call_id
                )
        raise UnshowableQuestion(f"A question is a form or an address, not {asked.mode[:40]!r}.")

    def _refuse(self, message: acp.Envelope, turn_id: str, words: str) -> None:
        self._connection.respond_error(message.id_or_none, acp.INVALID_PARAMS, words)
        if turn_id:
            said = f"The agent asked a question that cannot be shown. {words}"
            notice = ev.Notice(
                f"{turn_id}.unshown", "warning", "question_refused", said, values={"why": words}
            )
            self._owner.on_events([notice])

    def take(self, question_id: str) -> WaitingQuestion | None:
        """Takes a question away for the one who answers it; None if it does not wait."""
        return self._waiting.pop(question_id, None)

    def put_back(self, question_id: str, waiting: WaitingQuestion) -> None:
        """The answer could not be kept: the question waits again, unless its turn is over."""
        if waiting.turn_id == self._turn_id:
            self._waiting[question_id] = waiting
            return
        self.answer(waiting, "cancel")
        self._owner.on_events([ev.QuestionAnswered(question_id, "cancel")])

    def answer(self, waiting: WaitingQuestion, action: str, content: Mapping[str, Any] | None = None) -> None:
        """Hands an answer to the agent."""
        result = {"action": action} if content is None else {"action": action, "content": content}
        self._connection.respond(waiting.request_id, result)

    def on_completed(self, message: acp.Envelope) -> None:
        """The agent saw that what an address was for is done. Raises msgspec.DecodeError."""
        done = acp.parse(message.params, _Completed, self._connection.on_odd).elicitation_id
        for question_id, waiting in list(self._waiting.items()):
            if waiting.elicitation_id == done and done:
                del self._waiting[question_id]
                self.answer(waiting, "accept")
                self._owner.on_events([ev.QuestionAnswered(question_id, "complete")])

    def on_taken_back(self, message: acp.Envelope) -> None:
        """The agent takes a request back. Raises msgspec.DecodeError."""
        request_id = acp.parse(message.params, _Cancelled, self._connection.on_odd).request_id
        for question_id, waiting in list(self._waiting.items()):
            if waiting.request_id == request_id:
                del self._waiting[question_id]
                self._connection.respond_error(request_id, CANCELLED, "Cancelled.")
                self._owner.on_events([ev.QuestionAnswered(question_id, "cancel")])

    def cancel(self, *, is_kept: bool = False) -> None:
        """The turn is over: answers what waits with `cancel`; `is_kept` leaves it open in the log."""
        answered: list[ev.EventData] = []
        for question_id, waiting in self._waiting.items():
            self.answer(waiting, "cancel")
            answered.append(ev.QuestionAnswered(question_id, "cancel"))
        self._waiting.clear()
        self._turn_id = ""
        if answered and not is_kept:
            self._owner.on_events(answered)
