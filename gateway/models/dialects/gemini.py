"""Gemini's generateContent: the model is named in the address. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.models.dialects.contract import AskedCall, CallRules, ModelCallRefused, Operation
from gateway.models.dialects.parts import (
    BYTES_A_TOKEN,
    TIERS,
    Stripped,
    bearer_of,
    chosen_model,
    count_of,
    counted_bytes,
    encoded,
    members,
    raw,
    refuse_fetched,
    value_of,
    versioned,
)
from gateway.models.dialects.usage import Figures, UsageReader, less, read, words_of
from gateway.models.meter import Dialect
from worker.foreign import Count, Name

_BELOW: Final = ("v1beta", "v1", "v1alpha")
_CALL: Final = re.compile(
    r"models/([\w.@-]{1,128}):(generateContent|streamGenerateContent|countTokens)", re.ASCII
)
_GUARDED: Final = (
    *("model", "contents", "tools", "cachedContent", "cached_content", "generationConfig"),
    *("generation_config", "generateContentRequest", "generate_content_request", *TIERS),
)
_CLIENT_TOOLS: Final = frozenset({"functiondeclarations", "computeruse"})
_KINDS: Final = {
    "googlesearch": "web_search",
    "googlesearchretrieval": "web_search",
    "enterprisewebsearch": "web_search",
    "urlcontext": "web_fetch",
    "codeexecution": "code_execution",
    "filesearch": "file_search",
    "retrieval": "file_search",
    "mcpservers": "mcp",
}
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
}


class _Usage(Struct, rename="camel"):
    prompt_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None


class _Candidate(Struct, rename="camel"):
    finish_reason: Name | None = None


class _Answer(Struct, rename="camel"):
    usage_metadata: _Usage | None = None
    model_version: Name | None = None
    candidates: list[_Candidate] | None = None


def _take(text: bytes, figures: Figures) -> None:
    whole = text.strip().startswith(b"[")
    for answer in read(text, list[_Answer]) if whole else [read(text, _Answer)]:
        figures.model = answer.model_version or figures.model
        if (usage := answer.usage_metadata) is None:
            continue
        cached = usage.cached_content_token_count
        figures.input = less(usage.prompt_token_count, cached) + (usage.tool_use_prompt_token_count or 0)
        figures.cache_read = cached or 0
        figures.output = usage.candidates_token_count or 0
        figures.reasoning = usage.thoughts_token_count or 0
        figures.has_input = usage.prompt_token_count is not None
        figures.has_output = usage.candidates_token_count is not None
        figures.is_final = any(candidate.finish_reason for candidate in answer.candidates or ())


_TEXT: Final = words_of("text")


class Gemini:
    """`Tongue` of generateContent."""

    name: Dialect = "gemini"
    budget_status = 402

    def takes(self, method: str, path: str) -> bool:
        """Content, counting tokens, and the list of models."""
        below = versioned(path, _BELOW)
        if below is None:
            return False
        if method == "POST":
            return _CALL.fullmatch(below) is not None
        return method == "GET" and (below == "models" or (below.startswith("models/") and ":" not in below))

    def read(self, path: str, query: Mapping[str, str], body: bytes, rules: CallRules) -> AskedCall:
        """Reads a call that it takes. Raises ModelCallRefused."""
        below = versioned(path, _BELOW) or ""
        version = path.split("/", 2)[1]
        match = _CALL.fullmatch(below)
        if match is None:
            return AskedCall(operation="models", path=f"{version}/{below}")
        fields = members(body, _GUARDED)
        refuse_fetched(fields, ("contents", "systemInstruction", "system_instruction"), rules)
        stripped = Stripped(rules)
        stripped.refuse(fields, "cachedContent", "store")
        stripped.refuse(fields, "cached_content", "store")
        if isinstance(given := value_of(fields, "tools"), list):
            kept = _kept_tools(given, stripped)
            stripped.tools(given, kept)
            fields["tools"] = raw(kept) if kept != given else fields["tools"]
        model = chosen_model(match[1], rules)
        if "model" in fields:
            fields["model"] = raw(f"models/{model}")
        for name in ("generateContentRequest", "generate_content_request"):
            if name in fields:
                raise ModelCallRefused(400, "invalid_request", f"Send contents instead of {name}.")
        stripped.dearer(fields)
        operation: Operation = "count" if match[2] == "countTokens" else "generate"
        suffix = "?alt=sse" if query.get("alt") == "sse" else ""
        return AskedCall(
            operation=operation,
            path=f"{version}/models/{model}:{match[2]}{suffix}",
            model=model,
            fields=fields,
            is_stream=match[2] == "streamGenerateContent",
            max_output_tokens=_most(fields),
            input_tokens=counted_bytes(body) // BYTES_A_TOKEN,
            dropped=tuple(stripped.names),
        )

    def address(self, base: str, asked: AskedCall) -> str:
        """Below the base, with or without its version."""
        bare = base.strip().rstrip("/")
        for version in _BELOW:
            bare = bare.removesuffix(f"/{version}")
        return f"{bare}/{asked.path}"

    def encoded(self, asked: AskedCall, *, asks_usage: bool) -> bytes:
        """The body; what it used is said unasked."""
        return encoded(asked.fields or {})

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, str]) -> list[str]:
        """What a caller shows as its key."""
        return [headers.get("x-goog-api-key", ""), query.get("key", ""), bearer_of(headers)]

    def headers(self, key: str, _sent: Mapping[str, str], _rules: CallRules) -> dict[str, str]:
        """The key alone."""
        return {"x-goog-api-key": key} if key else {}

    def usage(self, asked: AskedCall) -> UsageReader:
        """Reads the last `usageMetadata`."""
        return UsageReader(_take, text=_TEXT, marks=(b'"usageMetadata"',), input_tokens=asked.input_tokens)

    def error(self, status: int, code: str, words: str) -> bytes:
        """An error, as Google spells it."""
        name = _STATUSES.get(status, "UNAVAILABLE")
        detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code}
        return msgspec.json.encode(
            {"error": {"code": status, "message": words, "status": name, "details": [detail]}}
        )

    def listing(self, models: Sequence[str], path: str) -> bytes | None:
        """The models, or one of them."""
        rows = [
            {
                "name": f"models/{name}",
                "displayName": name,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
            }
            for name in models
        ]
        _, found, wanted = path.partition("models/")
        if found:
            row = next((row for row in rows if row["name"] == f"models/{wanted}"), None)
            return None if row is None else msgspec.json.encode(row)
        return msgspec.json.encode({"models": rows})


def _kept_tools(given: list[Any], stripped: Stripped) -> list[Any]:
    """The tools that may be offered: one entry can hold several kinds."""
    kept = []
    for tool in given:
        if not isinstance(tool, dict):
            continue
        inner = {name: value for name, value in tool.items() if not _is_off(name, stripped)}
        if inner:
            kept.append(inner)
    return kept


def _is_off(member: str, stripped: Stripped) -> bool:
    plain = member.replace("_", "").lower()
    return plain not in _CLIENT_TOOLS and stripped.takes_out(_KINDS.get(plain, "other"))


def _most(fields: Mapping[str, msgspec.Raw]) -> int:
    for name in ("generationConfig", "generation_config"):
        found = value_of(fields, name)
        if isinstance(found, dict):
            inner = {key: raw(value) for key, value in found.items()}
            answers = max(1, count_of(inner, "candidateCount", "candidate_count"))
            return answers * count_of(inner, "maxOutputTokens", "max_output_tokens")
    return 0


GEMINI: Final = Gemini()
