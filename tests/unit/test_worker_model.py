"""The worker's own reading of a model endpoint: whose fragment of a tool call is whose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from worker.agent.model import Delta, _read_stream


def call(name: str = "", arguments: str = "", **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value}
    return {"function": function, **fields}


async def joined(calls: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Name and arguments of each call, as the agent joins them, of fragments that come one by one."""
    found: dict[int, list[str]] = {}

    def take(delta: Delta) -> None:
        for fragment in delta.tool_calls or ():
            known = found.setdefault(fragment.index, ["", ""])
            known[0] = known[0] or fragment.name or ""
            known[1] += fragment.arguments or ""

    async def stream() -> AsyncIterator[bytes]:
        for one in calls:
            yield f"data: {json.dumps({'choices': [{'delta': {'tool_calls': [one]}}]})}\n\n".encode()
        yield b"data: [DONE]\n\n"

    await _read_stream(stream(), take)
    return [(name, arguments) for name, arguments in found.values()]


TWO = [("a", '{"x": 1}'), ("b", '{"y": 2}')]
SAME = [("a", '{"x": 1}'), ("a", '{"x": 2}')]


@pytest.mark.parametrize("index", [{}, {"index": 0}, {"index": None}])
@pytest.mark.parametrize("wanted", [TWO, SAME])
@pytest.mark.parametrize("has_ids", [True, False])
def test_parallel_calls_with_the_same_or_no_index_stay_apart(
    index: dict[str, Any], wanted: list[tuple[str, str]], has_ids: bool
) -> None:
    fragments = []
    for number, (name, arguments) in enumerate(wanted):
        own = {**index, "id": f"c{number}"} if has_ids else index
        fragments += [call(name, arguments[:4], **own), call("", arguments[4:], **index)]
    assert asyncio.run(joined(fragments)) == wanted


def test_a_name_or_an_id_that_is_repeated_begins_no_other_call() -> None:
    repeated = [call("a", '{"x"', index=0, id="c"), call("a", ": 1}", index=0, id="c")]
    assert asyncio.run(joined(repeated)) == [TWO[0]]
    without_id = [call("a", '{"x"', index=0), call("a", ": 1}", index=0)]
    assert asyncio.run(joined(without_id)) == [TWO[0]]
    interleaved = [
        call("a", '{"x"', index=0, id="1"),
        call("b", '{"y"', index=1, id="2"),
        call("", ": 1}", index=0),
        call("", ": 2}", index=1),
    ]
    assert asyncio.run(joined(interleaved)) == TWO
