"""A turn that ends without a word leaves the words of why, and no empty answer: live, stored and revived."""

from __future__ import annotations

import json
import pathlib
import signal
from typing import Any, Final

import pytest

from tests.gateways import Scenario, running_gateway
from tests.inside import gateway_inside
from tests.shared import ask, eventually
from tests.streams import open_stream, state_when

AGENTS: Final[dict[str, Scenario]] = {
    "fails": {"turns": [[{"fail": {"code": -32000, "message": "No."}}]], "repeat": True},
    "looks": {
        "turns": [[{"tool": {"title": "Look", "kind": "read"}}, {"fail": {"code": -32000, "message": "No."}}]]
    },
    "dies": {"turns": [[{"crash": 3}]], "repeat": True},
    "hangs": {"turns": [[{"hang": True}]], "repeat": True},
    "speaks": {"turns": [[{"say": "half of it"}, {"crash": 3}]]},
    "silent": {"turns": [[{"end": "end_turn"}]]},
}


def shown(state: Any) -> list[tuple[str, bool]]:
    return [(message["sender"], bool(message["content"])) for message in state["messages"]]


async def over(gateway: Any, session_id: str) -> Any:
    return await state_when(
        gateway.http, session_id, lambda s: bool(s["messages"]) and not s["is_processing"]
    )


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("fails", [("user", True), ("system", True)]),
        ("looks", [("user", True), ("system", True)]),
        ("dies", [("user", True), ("system", True)]),
        ("speaks", [("user", True), ("agent", True), ("system", True)]),
        ("silent", [("user", True), ("agent", False)]),
    ],
)
async def test_a_failed_turn_without_a_word_leaves_no_empty_answer(
    tmp_path: pathlib.Path, agent: str, expected: list[tuple[str, bool]]
) -> None:
    """While it runs there is the empty answer, as ever; one that ended well without a word stays, too."""
    async with gateway_inside(tmp_path, agents=AGENTS) as gateway:
        first = await gateway.send("s", "go", agent=agent)
        assert [(m["sender"], m["is_streaming"]) for m in first["messages"]] == [
            ("user", False),
            ("agent", True),
        ]
        live = await over(gateway, "s")
        assert shown(live) == expected
        async with open_stream(gateway.http, "s", after=0) as stream:
            ends = await stream.until(lambda f: f.event in ("turn_ended", "turn_interrupted"))
            assert ends.data["turn_id"]
        session = gateway.inner.manager.get("default/local", "s")
        assert session is not None
        gateway.clock.advance(10_000)
        await eventually(lambda: is_gone(gateway))
        stored = await gateway.state("s")
        assert stored["messages"] == live["messages"]
        assert (await ask(gateway.http, "PATCH", "/api/sessions/s", {"title": "revived"})).status == 200
        assert (await gateway.state("s"))["messages"] == live["messages"]


async def is_gone(gateway: Any) -> bool:
    """After another look of the reaper: the worker's end may not be noted yet."""
    await gateway.inner.reaper.sweep()
    return gateway.inner.manager.get("default/local", "s") is None


async def test_an_interrupted_turn_without_a_word_leaves_none_either(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents=AGENTS) as gateway:
        await gateway.send("s", "go", agent="hangs")
        await state_when(gateway.http, "s", lambda s: s["readiness"]["phase"] == "ready")
        state = await gateway.post("/api/interrupt", {"session_id": "s"})
        assert [message["content"] for message in state["messages"]] == ["go", "Interrupted by user"]


async def test_a_turn_that_a_kill_of_the_gateway_cut_leaves_none_either(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        await gateway.send("s", "go", agent="hangs")
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        state = await gateway.state("s")
        words = "The gateway was restarted before the answer was complete."
        assert [message["content"] for message in state["messages"]] == ["go", words]


def test_the_golden_log_of_it_shows_no_empty_answer() -> None:
    path = pathlib.Path(__file__).parent.parent / "golden" / "a_turn_fails_without_a_word.json"
    golden = json.loads(path.read_text())
    assert shown(golden["state"]) == [("user", True), ("system", True)]
    assert not [item for item in golden["snapshot"]["items"] if item.get("is_placeholder")]
