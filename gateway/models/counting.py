"""A meter for today's quotas: it counts tokens and refuses nothing."""

from __future__ import annotations

from collections.abc import Callable

from gateway.models.meter import CallUsage, Meter, ModelCall, Reservation
from gateway.principal import Account

Count = Callable[[Account, int], None]
"""Counts so many tokens for an account."""


class CountingMeter:
    """`Meter` that tells a quota of every call, and then another meter, if there is one."""

    def __init__(self, count: Count, *, then: Meter | None = None) -> None:
        self._count = count
        self._then = then

    def reserve(self, call: ModelCall) -> Reservation:
        """Never refuses by itself. Raises what the other meter raises."""
        inner = self._then.reserve(call) if self._then is not None else None
        return _Counting(call, self._count, inner)


class _Counting:
    """One call."""

    def __init__(self, call: ModelCall, count: Count, inner: Reservation | None) -> None:
        self._call = call
        self._count = count
        self._inner = inner
        self._is_settled = False

    def settle(
        self, usage: CallUsage, *, status: int, model: str = "", first_byte_milliseconds: int | None = None
    ) -> None:
        """Counts the tokens, once."""
        if self._is_settled:
            return
        self._is_settled = True
        if usage.total:
            self._count(self._call.account, usage.total)
        if self._inner is not None:
            self._inner.settle(
                usage, status=status, model=model, first_byte_milliseconds=first_byte_milliseconds
            )


def uncounted(_account: Account, _tokens: int) -> None:
    """For what counts elsewhere, or not at all."""
