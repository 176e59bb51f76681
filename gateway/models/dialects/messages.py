"""Anthropic's messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.models.dialects.contract import AskedCall, CallRules, Operation
from gateway.models.dialects.parts import (
    TIERS,
    Stripped,
    bearer_of,
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

VERSION: Final = "2023-06-01"
_BELOW: Final = ("v1",)
_PATHS: Final = ("messages", "messages/count_tokens")
_GUARDED: Final = (
    "model",
    "messages",
    "tools",
    "tool_choice",
    "stream",
    "mcp_servers",
    "container",
    "max_tokens",
    *TIERS,
)
_CLIENT_TOOLS: Final = ("bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_")
"""Tools of the provider's own making that the agent runs itself, or that reach nothing; with their dates."""
_KINDS: Final = (
    ("web_search", "web_search"),
    ("web_fetch", "web_fetch"),
    ("code_execution", "code_execution"),
    ("mcp", "mcp"),
)
_VERSION: Final = re.compile(r"\d{4}-\d\d-\d\d")
_BETA: Final = re.compile(r"[a-z0-9-]{1,64}")
_OFF_BETAS: Final = (
    ("mcp-client", "mcp"),
    ("code-execution", "code_execution"),
    ("skills", "code_execution"),
    ("web-fetch", "web_fetch"),
    ("web-search", "web_search"),
    ("files-api", "store"),
    ("message-batches", "batches"),
)
"""Beta features that are an exit of their own; others are passed on."""
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class _Usage(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None


class _Message(Struct):
    model: Name | None = None
    usage: _Usage | None = None


class _Event(Struct):
    type: Name | None = None
    message: _Message | None = None
    model: Name | None = None
    usage: _Usage | None = None


def _take(text: bytes, figures: Figures) -> None:
    event = read(text, _Event)
    said: _Message | _Event = event.message or event
    figures.model = said.model or figures.model
    if (usage := said.usage) is None:
        return
    if usage.input_tokens is not None:
        figures.input, figures.has_input = usage.input_tokens, True
    if usage.cache_creation_input_tokens is not None:
        figures.cache_write = usage.cache_creation_input_tokens
    if usage.cache_read_input_tokens is not None:
        figures.cache_read = usage.cache_read_input_tokens
    if usage.output_tokens is not None:
        figures.output, figures.has_output = usage.output_tokens, True
    figures.is_final = event.type in ("message_delta", "message")


_TEXT: Final = words_of("text", "partial_json", "thinking")


class Messages:
    """`Tongue` of messages."""

    name: Dialect = "messages"
    budget_status = 402

    def takes(self, method: str, path: str) -> bool:
        """Messages, counting their tokens, and the list of models."""
        return takes(method, versioned(path, _BELOW), _PATHS)

    def read(self, path: str, _query: Mapping[str, str], body: bytes, rules: CallRules) -> AskedCall:
        """Reads a call that it takes. Raises ModelCallRefused."""
        below = versioned(path, _BELOW) or ""
        if below not in _PATHS:
            return AskedCall(operation="models", path=below)
        fields = members(body, _GUARDED)
        refuse_fetched(fields, ("messages", "system"), rules)
        stripped = Stripped(rules)
        stripped.member(fields, "mcp_servers", "mcp")
        stripped.member(fields, "container", "code_execution")
        if isinstance(given := value_of(fields, "tools"), list):
            self._strip_tools(fields, given, stripped)
        operation: Operation = "generate" if below == "messages" else "count"
        return generation(
            *(body, fields, rules, stripped), path=below, limits=("max_tokens",), operation=operation
        )

    def _strip_tools(self, fields: dict[str, msgspec.Raw], given: list[Any], stripped: Stripped) -> None:
        kept = [tool for tool in given if not ((kind := _kind_of(tool)) and stripped.takes_out(kind))]
        stripped.tools(given, kept)
        if len(kept) == len(given):
            return
        fields["tools"] = raw(kept)
        choice = value_of(fields, "tool_choice")
        names = [tool.get("name") for tool in kept if isinstance(tool, dict)]
        if isinstance(choice, dict) and "name" in choice and choice["name"] not in names:
            del fields["tool_choice"]

    def address(self, base: str, asked: AskedCall) -> str:
        """Below the base, with or without its version."""
        return f"{base.strip().rstrip('/').removesuffix('/v1')}/v1/{asked.path}"

    def encoded(self, asked: AskedCall, *, asks_usage: bool) -> bytes:
        """The body; what it used is said unasked."""
        return encoded(asked.fields or {})

    def credentials(self, headers: Mapping[str, str], _query: Mapping[str, str]) -> list[str]:
        """What a caller shows as its key."""
        return [bearer_of(headers), headers.get("x-api-key", "")]

    def headers(self, key: str, sent: Mapping[str, str], rules: CallRules) -> dict[str, str]:
        """The key, the version, and the beta features that are no exit."""
        found = {"x-api-key": key} if key else {}
        version = sent.get("anthropic-version", "")
        found["anthropic-version"] = version if _VERSION.fullmatch(version) else VERSION
        betas = [name.strip() for name in sent.get("anthropic-beta", "").split(",")]
        kept = [name for name in betas if _BETA.fullmatch(name) and not _is_off(name, rules)]
        return found | ({"anthropic-beta": ",".join(kept)} if kept else {})

    def usage(self, asked: AskedCall) -> UsageReader:
        """Reads `message_start` and the last `message_delta`, or the whole answer."""
        return UsageReader(_take, text=_TEXT, marks=(b'"usage"',), input_tokens=asked.input_tokens)

    def error(self, status: int, code: str, words: str) -> bytes:
        """An error, as Anthropic spells it."""
        kind = _TYPES.get(status, "api_error")
        said = {"type": kind, "message": words if code != "model_not_found" else f"{words} (model_not_found)"}
        return msgspec.json.encode({"type": "error", "error": said})

    def listing(self, models: Sequence[str], path: str) -> bytes | None:
        """The models, or one of them."""
        rows = [
            {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
            for name in models
        ]
        _, found, wanted = path.partition("models/")
        if found:
            row = next((row for row in rows if row["id"] == wanted), None)
            return None if row is None else msgspec.json.encode(row)
        first, last = (models[0], models[-1]) if models else (None, None)
        return msgspec.json.encode({"data": rows, "has_more": False, "first_id": first, "last_id": last})


def _kind_of(tool: Any) -> str:
    """What a tool of the provider's is called in `provider_tools`; empty for one that the agent runs."""
    named = tool.get("type") if isinstance(tool, dict) else "other"
    if named is None or named == "custom":
        return ""
    if not isinstance(named, str):
        return "other"
    if named.startswith(_CLIENT_TOOLS):
        return ""
    return next((name for start, name in _KINDS if named.startswith(start)), "other")


def _is_off(beta: str, rules: CallRules) -> bool:
    return any(beta.startswith(start) and name not in rules.tools for start, name in _OFF_BETAS)


MESSAGES: Final = Messages()
