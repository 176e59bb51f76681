"""What the two dialects of OpenAI share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from gateway.models.dialects.contract import CallRules
from gateway.models.dialects.parts import Stripped, bearer_of, raw, value_of
from gateway.models.dialects.usage import Figures, less
from worker.foreign import Count

BELOW: Final = ("v1",)
CLIENT_TOOLS: Final = frozenset(
    {
        *("function", "custom", "local_shell", "apply_patch"),
        *("computer", "computer_use_preview", "tool_search", "namespace"),
    }
)
"""Tools that the agent runs itself."""
_KINDS: Final = (
    ("web_search", "web_search"),
    ("file_search", "file_search"),
    ("code_interpreter", "code_execution"),
    ("shell", "code_execution"),
    ("container", "code_execution"),
    ("mcp", "mcp"),
    ("image_generation", "image_generation"),
)
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def kind_of(tool: Any) -> str:
    """What a tool of the provider's is called in `provider_tools`; empty for one that the agent runs."""
    named = tool.get("type", "function") if isinstance(tool, dict) else None
    if not isinstance(named, str):
        return "other"
    if named in CLIENT_TOOLS:
        return ""
    return next((name for start, name in _KINDS if named.startswith(start)), "other")


def kept_tools(given: list[Any], stripped: Stripped) -> list[Any]:
    """The tools that may be offered; those inside a namespace count one by one."""
    kept = []
    for tool in given:
        if (kind := kind_of(tool)) and stripped.takes_out(kind):
            continue
        if isinstance(tool, dict) and isinstance(tool.get("tools"), list):
            tool = {**tool, "tools": kept_tools(tool["tools"], stripped)}
        kept.append(tool)
    return kept


def strip_tools(fields: dict[str, Raw], stripped: Stripped) -> None:
    """Takes out of a call the tools that may not be offered. Raises ModelCallRefused."""
    if isinstance(given := value_of(fields, "tools"), list):
        kept = kept_tools(given, stripped)
        stripped.tools(given, kept)
        fields["tools"] = raw(kept) if kept != given else fields["tools"]


class Details(Struct):
    """What of the tokens of one side is of a kind of its own."""

    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None


_NONE: Final = Details()


def take_usage(
    figures: Figures,
    sent: Count | None,
    sent_details: Details | None,
    answered: Count | None,
    answered_details: Details | None,
) -> None:
    """The tokens of both sides, which both dialects say alike under other names."""
    cached = (sent_details or _NONE).cached_tokens
    thought = (answered_details or _NONE).reasoning_tokens
    figures.is_final = True
    if sent is not None:
        figures.input, figures.cache_read = less(sent, cached), cached or 0
        figures.has_input = True
    if answered is not None:
        figures.output, figures.reasoning = less(answered, thought), thought or 0
        figures.has_output = True


def error(status: int, code: str, words: str) -> bytes:
    """An error, as OpenAI spells it."""
    kind = _TYPES.get(status, "api_error")
    return msgspec.json.encode({"error": {"message": words, "type": kind, "param": None, "code": code}})


def credentials(headers: Mapping[str, str], _query: Mapping[str, str]) -> list[str]:
    """What a caller shows as its key."""
    return [bearer_of(headers)]


def headers(key: str, _sent: Mapping[str, str], _rules: CallRules) -> dict[str, str]:
    """The key alone."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def listing(models: Sequence[str], path: str) -> bytes | None:
    """The models, or one of them."""
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "agent-gateway"} for name in models]
    _, found, wanted = path.partition("models/")
    if found:
        row = next((row for row in rows if row["id"] == wanted), None)
        return None if row is None else msgspec.json.encode(row)
    return msgspec.json.encode({"object": "list", "data": rows})
