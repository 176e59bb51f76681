"""OpenAI's responses. Pure. Nothing is stored at the provider unless that is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from gateway.config.models import based
from gateway.models.dialects import openai
from gateway.models.dialects.contract import AskedCall, CallRules
from gateway.models.dialects.parts import (
    TIERS,
    Stripped,
    encoded,
    generation,
    members,
    raw,
    refuse_fetched,
    takes,
    value_of,
    versioned,
)
from gateway.models.dialects.usage import Figures, UsageReader, read, words_of
from gateway.models.meter import Dialect
from worker.foreign import Count, Name

_PATH: Final = "responses"
_STORED: Final = ("previous_response_id", "conversation", "prompt")
"""Members that refer to what the provider keeps, which may be somebody else's."""
_GUARDED: Final = (
    *("model", "input", "tools", "tool_choice", "stream", "store", "background", "include"),
    *("max_output_tokens", *TIERS, *_STORED),
)


class _Usage(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: openai.Details | None = None
    output_tokens_details: openai.Details | None = None


class _Response(Struct):
    model: Name | None = None
    usage: _Usage | None = None


class _Event(Struct):
    response: _Response | None = None
    model: Name | None = None
    usage: _Usage | None = None


def _take(text: bytes, figures: Figures) -> None:
    event = read(text, _Event)
    said = event.response or event
    figures.model = said.model or figures.model
    if (usage := said.usage) is None:
        return
    openai.take_usage(
        *(figures, usage.input_tokens, usage.input_tokens_details),
        *(usage.output_tokens, usage.output_tokens_details),
    )


_TEXT: Final = words_of("delta")


class Responses:
    """`Tongue` of responses."""

    name: Dialect = "responses"
    budget_status = 400  # after 402 Codex goes on trying
    credentials = staticmethod(openai.credentials)
    headers = staticmethod(openai.headers)
    error = staticmethod(openai.error)
    listing = staticmethod(openai.listing)

    def takes(self, method: str, path: str) -> bool:
        """Responses alone; models are listed by `chat`."""
        return takes(method, versioned(path, openai.BELOW), (_PATH,))

    def read(self, path: str, _query: Mapping[str, str], body: bytes, rules: CallRules) -> AskedCall:
        """Reads a call that it takes. Raises ModelCallRefused."""
        below = versioned(path, openai.BELOW) or ""
        if below != _PATH:
            return AskedCall(operation="models", path=below)
        fields = members(body, _GUARDED)
        refuse_fetched(fields, ("input",), rules)
        stripped = Stripped(rules)
        stripped.refuse(fields, "background", "background")
        for member in _STORED:
            stripped.refuse(fields, member, "store")
        if "store" not in rules.tools:
            fields["store"] = raw(False)  # the provider's default is to store
        openai.strip_tools(fields, stripped)
        choice = value_of(fields, "tool_choice")
        if isinstance(choice, dict) and openai.kind_of(choice) in stripped.names:
            del fields["tool_choice"]
        return generation(body, fields, rules, stripped, path=_PATH, limits=("max_output_tokens",))

    def address(self, base: str, asked: AskedCall) -> str:
        """Below the base, which has its version."""
        return f"{based(base)}/{asked.path}"

    def encoded(self, asked: AskedCall, *, asks_usage: bool) -> bytes:
        """The body; what it used is said unasked."""
        return encoded(asked.fields or {})

    def usage(self, asked: AskedCall) -> UsageReader:
        """Reads `response.completed` and its like, or the whole answer."""
        return UsageReader(_take, text=_TEXT, marks=(b'"usage"',), input_tokens=asked.input_tokens)


RESPONSES: Final = Responses()
