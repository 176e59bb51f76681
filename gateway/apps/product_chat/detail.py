"""Errors as the product chat's clients know them: `{"detail": …}`, and a 429 in both of its shapes."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.errors import GatewayError
from gateway.http.operation import Dialect


class LimitDetail(Struct, frozen=True):
    """The `detail` of a 429."""

    error: str
    message: str
    retry_after: int


class DetailBody(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An error: `detail` in words. A 429 says it twice, for both generations of clients."""

    detail: str | LimitDetail
    error: str | None = None
    reason: str | None = None
    retry_after: int | None = None


def rendered(error: GatewayError, status: int) -> DetailBody:
    """An error in this dialect."""
    message = words_of(error)
    if status != 429:
        return DetailBody(detail=message)
    seconds = max(1, round((error.retry_after_seconds or 1) + 0.5))
    limit = LimitDetail(error.code, message, seconds)
    return DetailBody(detail=limit, error=error.code, reason=message, retry_after=seconds)


def words_of(error: GatewayError) -> str:
    """An error's words, without the full stop: that is how these clients know them."""
    return error.message.removesuffix(".")


DETAIL: Final = Dialect(body=DetailBody, render=rendered)
