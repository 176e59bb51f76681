"""Every member of a model endpoint's answer, mistaken in every way: an answer or words, nothing raised."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

from gateway.agents.completion import ModelAnswer, ModelError, error_words, plain_json
from tests.fuzz import mutations
from worker.agent.loop import RequestFailed
from worker.agent.model import Delta, Finish, _read_stream
from worker.foreign import LARGEST

SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
CASES: Final = int(os.environ.get("FUZZ_CASES", "100"))
_CALL: Final = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
_PART: Final = {"role": "assistant", "content": "word", "reasoning_content": "hm", "tool_calls": [_CALL]}
_USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CHUNK: Final[dict[str, Any]] = {
    "id": "x",
    "choices": [{"index": 0, "delta": _PART, "finish_reason": None}],
    "usage": _USAGE,
}
LAST: Final[dict[str, Any]] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
WHOLE: Final[dict[str, Any]] = {"choices": [{"message": _PART, "finish_reason": "stop"}], "usage": _USAGE}
REFUSAL: Final[dict[str, Any]] = {"error": {"message": "no", "type": "t", "code": 429}}
DONE: Final = b"data: [DONE]\n\n"


def event(text: bytes) -> bytes:
    return b"data: " + text.replace(b"\n", b" ") + b"\n\n"


@pytest.mark.parametrize("message", [CHUNK, LAST, REFUSAL], ids=["chunk", "last", "refusal"])
def test_a_stream_ends_in_an_answer_or_in_words(message: dict[str, Any]) -> None:
    for mutation in mutations.some(message, count=CASES, seed=SEED):
        read(mutation.name, event(mutation.text) + event(json.dumps(LAST).encode()) + DONE)


def test_a_plain_answer_is_one_or_words() -> None:
    for mutation in mutations.some(WHOLE, count=CASES, seed=SEED):
        read(mutation.name, mutation.text)


def read(name: str, body: bytes) -> None:
    answer = ModelAnswer()
    try:
        msgspec.json.encode([*answer.feed(body), *answer.end()])
        result = answer.result()
        error_words(answer.error)
    except Exception as error:
        raise AssertionError(f"FUZZ_SEED={SEED} {name}: {type(error).__name__}: {error}") from error
    if not isinstance(result, ModelError):
        for count in (result.input_tokens, result.output_tokens):
            assert count is None or 0 <= count <= LARGEST, name


def test_a_refusal_is_read_whatever_it_is() -> None:
    for mutation in mutations.some(REFUSAL, count=CASES, seed=SEED):
        _, words = error_words(plain_json(mutation.text) or "")
        assert isinstance(words, str), mutation.name


@pytest.mark.parametrize("message", [CHUNK, LAST, REFUSAL], ids=["chunk", "last", "refusal"])
async def test_the_agents_own_client_reads_by_the_same_rule(message: dict[str, Any]) -> None:
    deltas: list[Delta] = []
    for mutation in mutations.some(message, count=CASES, seed=SEED):
        body = event(mutation.text) + event(json.dumps(LAST).encode()) + DONE
        with contextlib.suppress(RequestFailed):
            assert isinstance(await _read_stream(pieces(body), deltas.append), Finish), mutation.name
    msgspec.json.encode(deltas)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]
