"""A model call under a meter: reserved, made, settled, whatever ends it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Final

from msgspec import Struct

from gateway.models.meter import CallUsage, Meter, ModelCall

TOKEN_BYTES: Final = 4
"""About so many bytes, and characters, are a token; for what a provider does not say."""
GIVEN_UP: Final = 499
"""The status of a call whose caller did not wait for its end."""


class Metered(Struct):
    """What is known so far of a call that is under way."""

    usage: CallUsage | None = None
    """What the provider says; None: nothing."""
    status: int = GIVEN_UP
    model: str = ""
    characters: int = 0
    """Of its answer."""
    first_byte_milliseconds: int | None = None


def call_id() -> str:
    """A new one."""
    return secrets.token_hex(12)


@contextlib.asynccontextmanager
async def metered(meter: Meter, call: ModelCall) -> AsyncIterator[Metered]:
    """The block makes the call and notes what it learns. Raises BudgetReached before the block."""
    reservation = meter.reserve(call)
    so_far = Metered()
    try:
        await reservation.kept()
        yield so_far
    finally:
        reservation.settle(
            so_far.usage or estimated(call, so_far),
            status=so_far.status,
            model=so_far.model,
            first_byte_milliseconds=so_far.first_byte_milliseconds,
        )


def estimated(call: ModelCall, so_far: Metered) -> CallUsage:
    """For a call of which the provider did not say what it used. One that was refused before its first word
    used nothing.
    """
    if so_far.status >= 400 and so_far.status != GIVEN_UP and not so_far.characters:
        return CallUsage()
    output = -(-so_far.characters // TOKEN_BYTES)
    return CallUsage(input=call.input_tokens, output=output, is_estimated=True)
