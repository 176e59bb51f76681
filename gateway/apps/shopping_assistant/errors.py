"""What the shopping assistant refuses, or fails at."""

from __future__ import annotations

from gateway.errors import GatewayError


class AnswerFailed(GatewayError):
    """The agent did not answer."""

    code = "answer_failed"
    status = 502

    def __init__(self, message: str = "", *, intent: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.intent = intent
        self.cause = cause


class AnswerDropped(GatewayError):
    """Somebody dropped the question, or ended its session, before it was answered."""

    code = "answer_dropped"
    status = 409

    def __init__(self, message: str = "", *, intent: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.intent = intent
        self.cause = cause


ERRORS = (
    AnswerFailed,
    AnswerDropped,
)
