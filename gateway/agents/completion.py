"""A model's answer as OpenAI-compatible endpoints spell it: bytes in, deltas out. Pure; nothing here raises.

Guarantees: what one network read brought becomes as few deltas as its order allows; a piece longer than the
limit, an answer that cannot be read and one that breaks off are each a `ModelError` with words for the user;
invalid UTF-8 and lone surrogates become U+FFFD; an optional value that is odd counts as absent
(worker/foreign.py), usage figures among them.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from worker import foreign
from worker.foreign import Count, Integer, Name, OnOdd

LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""One event of the stream, or a whole answer where the endpoint does not stream."""


class ModelError(Exception):
    """A model call failed: `code` for programs, `message` for the user, `retryable` if a new try may help."""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, retry_after_seconds: float | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class ModelRequest(Struct, frozen=True):
    """What a worker asks: OpenAI chat messages and tools, raw or decoded; `model` None is the default one."""

    messages: Raw | list[Any]
    model: str | None = None
    tools: Raw | list[Any] | None = None


class ModelResult(Struct, frozen=True):
    """How a call ended and what it cost; None if the endpoint does not say."""

    finish_reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class ModelDelta(Struct, frozen=True):
    """What one network read brought, as `_model/delta`; a thought comes before the text beside it.

    `toolCalls` is `[{index, id?, name?, arguments?}]`: id and name come once, arguments in fragments to join.
    """

    text: str | UnsetType = UNSET
    thought: str | UnsetType = UNSET
    toolCalls: list[dict[str, Any]] | UnsetType = UNSET


class _Function(Struct):
    name: Name | None = None
    arguments: Name | None = None


class _ToolCall(Struct):
    index: Integer | None = None
    id: Name | None = None
    function: _Function | None = None


class _Part(Struct):
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct):
    index: Integer | None = None
    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class ModelAnswer:
    """An answer as it comes in, whatever its spelling: bytes in, deltas out. Pure, and nothing raises."""

    def __init__(self, on_odd: OnOdd = foreign.ignored) -> None:
        self._on_odd = on_odd
        self.is_over = False
        self.finish_reason: str | None = None
        self.error: Any = None
        """The endpoint's own error, in the middle of the stream."""
        self._failure: ModelError | None = None
        self._usage = _Usage()
        self._is_plain: bool | None = None
        self._is_foreign = False
        self._line: list[bytes] = []
        self._held_bytes = 0
        self._batch = _Batch()

    def feed(self, chunk: bytes) -> list[ModelDelta]:
        """The deltas that these bytes complete: one, unless a thought follows a text."""
        if self._is_plain is None and (start := chunk.lstrip()):
            self._is_plain = start[:1] in (b"{", b"[")  # an endpoint that does not know `stream`
            self._is_foreign = start[:1] == b"<"
        *finished, rest = [chunk] if self._is_plain else chunk.split(b"\n")
        for part in finished:
            if not self.is_over:
                self._hold(part)
                self._take_line()
        self._hold(rest)
        return self._batch.take()

    def end(self) -> list[ModelDelta]:
        """The deltas of what the endpoint left without a line end."""
        if self._is_plain:
            chunk = self._decode(b"".join(self._line))
            if chunk is None or not (chunk.choices or chunk.error):
                self._fail("an answer that cannot be read")
            else:
                self._take(chunk)
                self.finish_reason = self.finish_reason or "stop"
        else:
            value = b"".join(self._line).partition(b":")[2].strip()
            if value == b"[DONE]" or _decode(value) is not None:  # else it was cut inside the line
                self._take_line()
            if self._is_foreign and self.finish_reason is None:
                self._fail("a web page; its address may be wrong")
        self.is_over = True
        return self._batch.take()

    def result(self, *, instead_of: ModelError | None = None) -> ModelResult | ModelError:
        """The result, if the model had finished; else what went wrong."""
        if self._failure is not None:
            return self._failure
        if self.finish_reason is None:
            text = "The model's answer broke off."
            return instead_of or ModelError("model_cut", text, retryable=True)
        return ModelResult(
            "tool_calls" if self._batch.has_calls and self.finish_reason == "stop" else self.finish_reason,
            self._usage.prompt_tokens,
            self._usage.completion_tokens,
        )

    def _decode(self, data: bytes) -> _Chunk | None:
        return _decode(data, self._on_odd)

    def _fail(self, what: str) -> None:
        self.is_over = True
        self._failure = ModelError("model_bad_answer", f"The model endpoint sent {what}.")

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        if self._held_bytes > LINE_LIMIT_BYTES:
            self._line.clear()
            self._fail(f"more than {LINE_LIMIT_BYTES >> 20} MiB in one piece")
        elif part:
            self._line.append(part)

    def _take_line(self) -> None:
        line = b"".join(self._line).removesuffix(b"\r")
        self._line.clear()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._take_data(value)
        self._held_bytes = 0

    def _take_data(self, value: bytes) -> None:
        if value.strip() == b"[DONE]":
            self.is_over = True
            self.finish_reason = self.finish_reason or "stop"
        elif (chunk := self._decode(value)) is not None:
            self._take(chunk)
        else:
            self._fail("an event that cannot be read")

    def _take(self, chunk: _Chunk) -> None:
        if chunk.error:
            self.error, self.is_over = chunk.error, True
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices or ():
            if not choice.index:
                self._batch.add(choice.delta or choice.message or _Part())
                self.finish_reason = choice.finish_reason or self.finish_reason


class _Batch:
    """Joins what one network read brought into as few deltas as its order allows."""

    def __init__(self) -> None:
        self._deltas: list[ModelDelta] = []
        self._text = self._thought = ""
        self._calls: dict[int, dict[str, Any]] = {}
        self._ids: list[str] = []
        """The id that the endpoint gave each call so far."""
        self._at: dict[int | None, int] = {}
        """The endpoint's index → ours: some give every call the index 0, some give none."""

    @property
    def has_calls(self) -> bool:
        return bool(self._ids)

    def add(self, part: _Part) -> None:
        text, thought = _texts(part.content)
        thought = part.reasoning_content or part.reasoning or thought
        if thought and (self._text or self._calls):
            self._flush()
        self._thought += thought
        self._text += text
        for call in part.tool_calls or ():
            self._add_call(call)

    def take(self) -> list[ModelDelta]:
        self._flush()
        deltas, self._deltas = self._deltas, []
        return deltas

    def _add_call(self, fragment: _ToolCall) -> None:
        function = fragment.function or _Function()
        index = self._at.get(fragment.index)
        call: dict[str, Any] = {}
        if index is None or (function.name and self._is_another(fragment, self._ids[index])):
            index = self._at[fragment.index] = len(self._ids)
            self._ids.append(fragment.id or "")
            call = {"id": fragment.id or f"call_{random.getrandbits(48):012x}", "name": function.name or ""}
        call = self._calls.setdefault(index, {"index": index, **call})
        if function.arguments:
            call["arguments"] = call.get("arguments", "") + function.arguments

    def _is_another(self, fragment: _ToolCall, known_id: str) -> bool:
        return fragment.id != known_id if fragment.id else fragment.index is None

    def _flush(self) -> None:
        if self._text or self._thought or self._calls:
            calls = list(self._calls.values())
            self._deltas.append(ModelDelta(self._text or UNSET, self._thought or UNSET, calls or UNSET))
        self._text = self._thought = ""
        self._calls.clear()


def _texts(content: Any) -> tuple[str, str]:
    """Text and thought of a content, which is a string or (Mistral) a list of parts."""
    if isinstance(content, str):
        return content, ""
    text = thought = ""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "thinking":
            thought += _texts(part.get("thinking"))[0]
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            text += part["text"]
    return text, thought


def _decode(data: bytes, on_odd: OnOdd = foreign.ignored) -> _Chunk | None:
    """A chunk, also one with broken UTF-8 or half an emoji's escape (both U+FFFD); None if it is none."""
    try:
        return foreign.read(data, _Chunk, on_odd)
    except msgspec.DecodeError:
        return None


def plain_json(data: bytes) -> Any:
    """Any JSON; None if it is none."""
    try:
        return foreign.read(data, cast("Any", object))
    except msgspec.DecodeError:
        return None


def error_words(error: Any) -> tuple[int, str]:
    """Status (500 if it says none) and words of an error in any of the usual spellings."""
    if isinstance(error, list):
        error = error[0] if error else ""
    if isinstance(error, dict):
        error = error.get("error") or error
    if not isinstance(error, dict):
        return 500, _one_line(str(error or ""))
    words = error.get("message") or error.get("detail") or error
    words = words if isinstance(words, str) else json.dumps(words)
    code = error.get("code")
    slug = code if isinstance(code, str) else error.get("type")
    if isinstance(slug, str) and slug not in words:
        words += f" ({slug})"
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return 429 if _TOO_FAST.search(words) else status, _one_line(words)


def _one_line(text: str) -> str:
    text = re.sub(r"<[^>]*>", " ", text) if text.lstrip().startswith("<") else text
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


_TOO_FAST: Final = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
