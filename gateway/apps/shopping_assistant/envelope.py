"""The shopping assistant's envelope: `{"success", "data", "meta", "error"}` round everything it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from gateway.apps.shopping_assistant.errors import AnswerDropped, AnswerFailed
from gateway.errors import GatewayError
from gateway.events.facts import iso
from gateway.http.operation import Dialect, json_response


class EnvelopeError(Struct, frozen=True):
    """What went wrong: `code` and `numeric_code` of a short list, `details` with this gateway's own code."""

    code: str
    message: str
    details: dict[str, Any]
    numeric_code: int
    http_status: int
    timestamp: str


class FieldError(Struct, frozen=True):
    """What is wrong with a field: `loc` is `["body", "q"]`."""

    loc: tuple[str, ...]
    msg: str
    type: str


class AssistantEnvelope(Struct, frozen=True):
    """Round every answer; `error` is null where it succeeded, else `data` is."""

    success: bool
    data: Any = None
    meta: Any = None
    error: EnvelopeError | None = None
    detail: list[FieldError] | UnsetType = UNSET
    """The fields that are missing or wrong, for clients that look for them here; with a 422 alone."""


_CODES: Final = {
    401: ("unauthorized", 1003),
    403: ("forbidden", 1004),
    404: ("not_found", 1002),
    413: ("request_too_large", 1006),
    429: ("rate_limit_exceeded", 1005),
    502: ("llm_error", 1009),
}
_INVALID: Final = ("invalid_input", 1001)
_INTERNAL: Final = ("internal_error", 1007)


def good(data: object, *, meta: object = None) -> Response:
    """A success."""
    return json_response(AssistantEnvelope(True, data, meta))


def _field_error(error: GatewayError) -> FieldError:
    is_missing = "missing required field" in error.message
    return FieldError(error.field or ("body",), error.message, "missing" if is_missing else "value_error")


def dialect(wall_ms: Callable[[], int]) -> Dialect:
    """How this face says errors."""

    def render(error: GatewayError, status: int) -> AssistantEnvelope:
        code, number = _CODES.get(status) or (_INTERNAL if status >= 500 else _INVALID)
        details: dict[str, Any] = {"reason": error.code}
        if error.session_id is not None:
            details["session_id"] = error.session_id
        if error.retry_after_seconds is not None:
            details["retry_after_seconds"] = error.retry_after_seconds
        if isinstance(error, AnswerDropped | AnswerFailed):
            details |= {"intent": error.intent, "cause": error.cause}
        if error.field:
            details["field"] = error.field[-1]
        told = EnvelopeError(code, error.message, details, number, status, iso(wall_ms()))
        return AssistantEnvelope(False, error=told, detail=[_field_error(error)] if status == 422 else UNSET)

    return Dialect(body=AssistantEnvelope, render=render)
