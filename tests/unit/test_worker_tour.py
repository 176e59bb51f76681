"""The tour of the built-in agent: everything is shown, nothing is written without permission."""

from __future__ import annotations

import pathlib
from typing import Any

import msgspec
import pytest

from worker.agent import tour
from worker.agent.loop import Call, Io, Wait
from worker.agent.offline import OfflineModel
from worker.agent.turn import BuiltInSession, BuiltInTurn


class Stage:
    """An `Io` without a loop: no wait takes time, the permission is answered by `option`."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.updates: list[dict[str, Any]] = []
        self.seconds = 0.0

    def sleep(self, seconds: float) -> Wait:
        self.seconds += seconds
        wait = Wait()
        wait.resolve()
        return wait

    def begin(self, method: str, params: object) -> Call:
        raise AssertionError(method)

    async def call(self, method: str, params: Any, kind: Any) -> Any:
        assert method == "session/request_permission"
        self.updates.append({"sessionUpdate": "permission", **params["toolCall"]})
        outcome = {"outcome": "selected", "optionId": self.option}
        return msgspec.convert({"outcome": outcome}, kind)

    def notify(self, method: str, params: Any) -> None:
        self.updates.append(params["update"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [update for update in self.updates if update["sessionUpdate"] == kind]


def played(directory: pathlib.Path, option: str, said: str = "Show me what you can do") -> Stage:
    stage = Stage(option)
    io: Io = stage
    turn = BuiltInTurn(io, BuiltInSession("s", str(directory)), OfflineModel(io))
    words = tour.asked_in(said)
    assert words is not None
    with pytest.raises(StopIteration):
        tour.play(turn, words).send(None)
    return stage


def test_the_tour_shows_a_plan_a_thought_a_tool_a_permission_a_diff_and_a_file(
    tmp_path: pathlib.Path,
) -> None:
    stage = played(tmp_path, "allow_once")
    plans = [[entry["status"] for entry in plan["entries"]] for plan in stage.of("plan")]
    assert plans[0] == ["in_progress", "pending", "pending", "pending"]
    assert plans[-1] == ["completed"] * 4
    assert stage.of("agent_thought_chunk")
    assert [call["kind"] for call in stage.of("tool_call")] == ["search", "edit"]
    (asked,) = stage.of("permission")
    assert asked["content"][0]["type"] == "diff"
    assert asked["content"][0]["newText"] == (tmp_path / tour.FILE).read_text()
    assert 8 < stage.seconds < 16, "about fifteen seconds with a person's answer in them"


def test_a_tour_that_is_refused_writes_nothing_and_goes_on_in_words(tmp_path: pathlib.Path) -> None:
    stage = played(tmp_path, "reject_once", "  מה אפשר לעשות כאן? ")
    assert list(tmp_path.iterdir()) == []
    said = "".join(chunk["content"]["text"] for chunk in stage.of("agent_message_chunk"))
    assert "סירבתם" in said
    assert "/help" in said


@pytest.mark.parametrize("said", ["", "What can you do in Python?", "show me what you can do with this file"])
def test_other_words_ask_for_no_tour(said: str) -> None:
    assert tour.asked_in(said) is None
