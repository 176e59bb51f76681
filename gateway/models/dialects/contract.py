"""What a dialect is: how a call is read, rewritten and sent on, and how its answer says what it used. Pure.

Guarantees of every dialect: a call is read by an allow-list of methods and paths, so that no other address of
a provider is ever reached; the model that is checked is the one that is sent; what a provider would do by
itself outside the hosts that an agent may reach is taken out, or refused in words, unless it is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Raw, Struct

from gateway.models.dialects.usage import UsageReader
from gateway.models.meter import Dialect


class ModelCallRefused(Exception):
    """A call that is not made, in words for the agent."""

    def __init__(self, status: int, code: str, words: str) -> None:
        self.status = status
        self.code = code
        self.words = words
        super().__init__(words)


class CallRules(Struct, frozen=True, kw_only=True):
    """What a provider is configured to do."""

    has_model: Callable[[str], bool]
    default_model: str = ""
    tools: frozenset[str] = frozenset()
    """What the provider may do by itself (`config.models.PROVIDER_TOOLS`)."""


Operation = Literal["generate", "count", "models"]


class AskedCall(Struct, frozen=True, kw_only=True):
    """A call, as its dialect has read it."""

    operation: Operation
    path: str
    """Below the provider's base."""
    model: str = ""
    fields: dict[str, Raw] | None = None
    """The members of its body that are sent on; None: it has no body."""
    is_stream: bool = False
    max_output_tokens: int = 0
    input_tokens: int = 0
    """An estimate: a quarter of the bytes."""
    dropped: tuple[str, ...] = ()
    """What was taken out, by the names of `provider_tools`."""


class Tongue(Protocol):
    """One dialect."""

    name: Dialect
    budget_status: int
    """How agents that speak it best understand that a budget is spent."""

    def takes(self, method: str, path: str) -> bool:
        """Whether this method and path, below its family's, are one of its calls."""

    def read(self, path: str, query: Mapping[str, str], body: bytes, rules: CallRules) -> AskedCall:
        """Reads a call that it takes. Raises ModelCallRefused."""

    def address(self, base: str, asked: AskedCall) -> str:
        """Where it is sent."""

    def encoded(self, asked: AskedCall, *, asks_usage: bool) -> bytes:
        """The body that is sent; `asks_usage`: also asks what it used, if the dialect must be asked."""

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, str]) -> list[str]:
        """What a caller shows as its key, in every place that the dialect has for it."""

    def headers(self, key: str, sent: Mapping[str, str], rules: CallRules) -> dict[str, str]:
        """The headers of the dialect's own that go to the provider: the key, and of what the caller sent,
        what is allowed.
        """

    def usage(self, asked: AskedCall) -> UsageReader:
        """Reads what its answer says that it used."""

    def error(self, status: int, code: str, words: str) -> bytes:
        """An error, as clients of the dialect read it."""

    def listing(self, models: Sequence[str], path: str) -> bytes | None:
        """The models as the dialect lists them, or the one that the path names; None if there is none."""
