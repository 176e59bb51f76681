"""What a model call uses, and who counts it: the words between providers and the ledger. Pure.

Guarantee: the maker of a call reserves before its first byte leaves and settles in a `finally`, so that a
call that was cancelled or cut counts as well.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from msgspec import Struct

from gateway.principal import Account

ASSUMED_OUTPUT: Final = 4096
"""What is held back for the answer of a call that names no limit of its own."""
Dialect = Literal["chat", "responses", "messages", "gemini"]
"""How a provider is spoken to: OpenAI's chat completions and responses, Anthropic's messages, Gemini's
generateContent.
"""
KeyOwner = Literal["gateway", "tenant", "person"]


class CallUsage(Struct, frozen=True, kw_only=True):
    """Tokens of one call. None is counted twice: `input` is without what was read from or written to a cache,
    `output` is without `reasoning`.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    is_estimated: bool = False
    """The provider did not say (the call was cut): known figures, or four characters a token."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning


class ModelCall(Struct, frozen=True, kw_only=True):
    """One call, as it is known before it is made."""

    id: str
    """Random; a call that is settled twice counts once."""
    account: Account
    provider: str
    """The name of its table, `[providers.NAME]`."""
    model: str
    """The model that is asked for, as the provider knows it."""
    dialect: Dialect
    input_tokens: int = 0
    """An estimate: a quarter of the bytes of the prompt."""
    max_output_tokens: int = 0
    """The limit that the call names; 0 if it names none."""
    key_owner: KeyOwner = "gateway"


class Reservation(Protocol):
    """What is held back for one call until it is settled."""

    async def kept(self) -> None:
        """Returns when the reservation outlives this process; awaited before the call's first byte leaves, so
        that a call that is cut by the gateway's own death counts as well. Raises BudgetReached if other
        gateways on the same store have used up what was left; then there was no call, and settling it counts
        nothing.
        """

    def settle(
        self, usage: CallUsage, *, status: int, model: str = "", first_byte_milliseconds: int | None = None
    ) -> None:
        """What the call came to. `status` is the provider's HTTP status, 499 for a call that its caller
        gave up, 0 if no answer came; `model` is the one that answered. Once; never raises.
        """


class Meter(Protocol):
    """Counts calls, and refuses those that a budget does not allow."""

    def reserve(self, call: ModelCall) -> Reservation:
        """Checks every budget and holds back what the call may cost, in one step. Raises BudgetReached."""
