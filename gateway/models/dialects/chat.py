"""OpenAI's chat completions, which most other providers and local servers speak, too. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw, Struct

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

_PATH: Final = "chat/completions"
_SEARCHES: Final = ("web_search_options", "search_parameters", "plugins", "enable_search", "web_search")
"""Members that make one or another provider search by itself."""
_GUARDED: Final = (
    *("model", "messages", "tools", "functions", "stream", "stream_options", "store", "background"),
    *("models", "n", *TIERS, *_SEARCHES),
)


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: openai.Details | None = None
    completion_tokens_details: openai.Details | None = None


class _Said(Struct):
    model: Name | None = None
    usage: _Usage | None = None


def _take(text: bytes, figures: Figures) -> None:
    said = read(text, _Said)
    figures.model = said.model or figures.model
    if (usage := said.usage) is None:
        return
    openai.take_usage(
        *(figures, usage.prompt_tokens, usage.prompt_tokens_details),
        *(usage.completion_tokens, usage.completion_tokens_details),
    )


def _keep_models(fields: dict[str, Raw], rules: CallRules) -> None:
    """Some providers take models that they may answer with instead; those that may be used stay."""
    if "models" in fields:
        given = value_of(fields, "models")
        names = given if isinstance(given, list) else []
        kept = [name for name in names if isinstance(name, str) and rules.has_model(name)]
        del fields["models"]
        if kept:
            fields["models"] = raw(kept)


_TEXT: Final = words_of("content", "reasoning_content", "reasoning", "arguments")


class Chat:
    """`Tongue` of chat completions."""

    name: Dialect = "chat"
    budget_status = 402
    credentials = staticmethod(openai.credentials)
    headers = staticmethod(openai.headers)
    error = staticmethod(openai.error)
    listing = staticmethod(openai.listing)

    def takes(self, method: str, path: str) -> bool:
        """Completions, and the list of models."""
        return takes(method, versioned(path, openai.BELOW), (_PATH,))

    def read(self, path: str, _query: Mapping[str, str], body: bytes, rules: CallRules) -> AskedCall:
        """Reads a call that it takes. Raises ModelCallRefused."""
        below = versioned(path, openai.BELOW) or ""
        if below != _PATH:
            return AskedCall(operation="models", path=below)
        fields = members(body, _GUARDED)
        refuse_fetched(fields, ("messages",), rules)
        stripped = Stripped(rules)
        for member in _SEARCHES:
            stripped.member(fields, member, "web_search")
        stripped.member(fields, "store", "store")
        stripped.member(fields, "background", "background")
        openai.strip_tools(fields, stripped)
        _keep_models(fields, rules)
        return generation(
            body, fields, rules, stripped, path=_PATH, limits=("max_completion_tokens", "max_tokens")
        )

    def address(self, base: str, asked: AskedCall) -> str:
        """Below the base, which has its version."""
        return f"{based(base)}/{asked.path}"

    def encoded(self, asked: AskedCall, *, asks_usage: bool) -> bytes:
        """The body; a stream is asked to say what it used."""
        fields = asked.fields or {}
        if asked.is_stream and asks_usage:
            options = value_of(fields, "stream_options")
            given = options if isinstance(options, dict) else {}
            fields = {**fields, "stream_options": raw({**given, "include_usage": True})}
        elif asked.is_stream:
            fields = {name: value for name, value in fields.items() if name != "stream_options"}
        return encoded(fields)

    def usage(self, asked: AskedCall) -> UsageReader:
        """Reads `usage` of the last event, or of the whole answer."""
        return UsageReader(_take, text=_TEXT, marks=(b'"usage"',), input_tokens=asked.input_tokens)


CHAT: Final = Chat()
