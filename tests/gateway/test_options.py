"""Modes, models and options: chosen by people, followed, remembered, restored, fixed by operators."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Final

from tests.gateways import RunningGateway, agent_tables, running_gateway
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED

MODES: Final = {
    "currentModeId": "ask",
    "availableModes": [
        {"id": "ask", "name": "Ask"},
        {"id": "plan", "name": "Plan"},
        {"id": "yolo", "name": "Yolo"},
    ],
}
MODELS: Final = {
    "currentModelId": "m1",
    "availableModels": [{"modelId": "m1", "name": "One"}, {"modelId": "m2"}],
}
CONFIGS: Final = [
    {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": False},
    {
        "id": "effort",
        "name": "Effort",
        "type": "select",
        "currentValue": "low",
        "options": [{"value": "low", "name": "Low"}, {"value": "high", "name": "High"}],
    },
]
NEW: Final = {"result": {"modes": MODES, "models": MODELS, "configOptions": CONFIGS}}
TELLS: Final = {
    "new": NEW,
    "resume": {"result": NEW["result"]},
    "turns": [[{"say": "$OPTIONS"}]],
    "repeat": True,
}
AGENTS: Final[Any] = {
    "tells": TELLS,
    "remembers": TELLS,
    "shows": TELLS,
    "switches": {
        "new": NEW,
        "turns": [
            [{"update": {"sessionUpdate": "current_mode_update", "currentModeId": "plan"}}, {"say": "ok"}]
        ],
        "repeat": True,
    },
    "loses": {
        "new": NEW,
        "turns": [
            [{"say": "ok"}],
            [{"update": {"sessionUpdate": "config_option_update", "configOptions": []}}, {"say": "ok"}],
        ],
    },
    "refuses": {"new": NEW, "turns": [[{"say": "ok"}]], "repeat": True, "keeps_options": False},
    "preset": {"new": NEW, "turns": [[{"say": "ok"}]], "repeat": True, "keeps_options": False},
    "plain": {"turns": [[{"say": "ok"}]], "repeat": True},
}
CONFIG: Final = '[agents.shows.withheld_options]\nmode = ["yolo"]\n[agents.preset.options]\nmode = "ask"\n'
gateway = shared_gateway(CONFIG, agents=AGENTS)
FIRST: Final = {"effort": "low", "fast": False, "mode": "ask", "model": "m1"}


async def begun(gateway: RunningGateway, agent: str, session_id: str | None = None) -> str:
    """A session whose agent has said what can be chosen."""
    session_id = session_id or fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    return session_id


async def choose(gateway: RunningGateway, session_id: str, option: str, value: Any, status: int = 200) -> Any:
    body = {"option_id": option, "value": value}
    return await gateway.post(f"/api/sessions/{session_id}/options", body, status=status)


async def told(gateway: RunningGateway, session_id: str) -> Any:
    """What the agent has, by its own words."""
    state = await gateway.chat(session_id, "tell")
    return json.loads(state["messages"][-1]["content"])


async def test_what_can_be_chosen_is_shown_and_set_on_the_agent(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "tells")
    assert (await gateway.state(session_id))["options"] == FIRST
    listed = (await gateway.get(f"/api/sessions/{session_id}/options"))["options"]
    assert {option["option_id"]: option["value"] for option in listed} == FIRST
    for option, value in (("mode", "plan"), ("model", "m2"), ("fast", True), ("effort", "high")):
        listed = (await choose(gateway, session_id, option, value))["options"]
        assert {one["option_id"]: one["value"] for one in listed}[option] == value
    wanted = {"effort": "high", "fast": True, "mode": "plan", "model": "m2"}
    assert await told(gateway, session_id) == wanted
    assert (await gateway.state(session_id))["options"] == wanted
    for option, before in FIRST.items():
        await choose(gateway, session_id, option, before)


async def test_a_choice_is_an_event_that_every_reader_gets(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "tells")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await choose(gateway, session_id, "effort", "high")
        chosen = await stream.until_event("option_chosen")
        assert (chosen.data["option_id"], chosen.data["value"]) == ("effort", "high")
    await choose(gateway, session_id, "effort", "low")


async def test_a_wrong_choice_names_what_there_is(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "tells")
    error = (await choose(gateway, session_id, "modus", "plan", 422))["error"]
    assert "There are: 'fast', 'effort', 'mode', 'model'" in error["message"]
    error = (await choose(gateway, session_id, "mode", "sleep", 422))["error"]
    assert "'ask', 'plan', 'yolo'" in error["message"]
    await choose(gateway, session_id, "fast", "yes", 422)
    await choose(gateway, session_id, "fast", 7, 422)
    await choose(gateway, fresh_id("nobody"), "mode", "plan", 404)
    assert (await gateway.state(session_id))["options"] == FIRST


async def test_an_agents_own_change_is_followed(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "switches")
    assert (await gateway.state(session_id))["options"]["mode"] == "plan"


async def test_an_option_that_vanishes_cannot_be_chosen_any_more(gateway: GatewayInside) -> None:
    session_id = await begun(gateway, "loses")
    await choose(gateway, session_id, "effort", "high")
    state = await gateway.chat(session_id, "lose them")
    assert state["options"] == {"mode": "ask", "model": "m1"}
    error = (await choose(gateway, session_id, "effort", "low", 422))["error"]
    assert "There are: 'mode', 'model'" in error["message"]
    await choose(gateway, session_id, "mode", "plan")


async def test_an_agent_that_refuses_is_quoted_and_nothing_changes(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "refuses")
    error = (await choose(gateway, session_id, "mode", "plan", 409))["error"]
    assert error["code"] == "option_refused"
    assert "Unknown method" in error["message"]
    assert (await gateway.state(session_id))["options"]["mode"] == "ask"


async def test_without_a_worker_a_choice_is_kept_and_applied_at_the_next_start(
    gateway: GatewayInside,
) -> None:
    session_id = await begun(gateway, "tells")
    await park(gateway, session_id)
    assert (await choose(gateway, session_id, "mode", "plan"))["options"][2]["value"] == "plan"
    assert (await gateway.state(session_id))["options"]["mode"] == "plan"
    assert (await told(gateway, session_id))["mode"] == "plan"
    await choose(gateway, session_id, "model", "m2")
    await park(gateway, session_id)
    assert await told(gateway, session_id) == FIRST | {"mode": "plan", "model": "m2"}
    await choose(gateway, session_id, "mode", "ask")
    await choose(gateway, session_id, "model", "m1")


async def park(gateway: GatewayInside, session_id: str) -> None:
    """Ends the worker; the session stays."""
    session = gateway.inner.manager.get("default/local", session_id)
    assert session is not None
    await session.park()


async def test_a_choice_is_remembered_for_the_persons_next_session_with_this_agent(
    gateway: RunningGateway,
) -> None:
    first = await begun(gateway, "remembers")
    await choose(gateway, first, "mode", "plan")
    await choose(gateway, first, "fast", True)
    second = await begun(gateway, "remembers")
    assert await told(gateway, second) == FIRST | {"mode": "plan", "fast": True}
    assert (await told(gateway, await begun(gateway, "tells")))["mode"] == "ask"


async def test_a_new_session_shows_what_its_person_could_choose_before_its_agent_has_started(
    gateway: RunningGateway,
) -> None:
    first = await begun(gateway, "shows")
    await choose(gateway, first, "mode", "plan")
    second = fresh_id("early")
    await gateway.post("/api/sessions", {"session_id": second, "agent": "shows"}, status=201)
    listed = (await gateway.get(f"/api/sessions/{second}/options"))["options"]
    assert {one["option_id"]: one["value"] for one in listed} == FIRST | {"mode": "plan"}
    assert [choice["value"] for choice in listed[2]["choices"]] == ["ask", "plan"]
    assert (await gateway.state(second))["options"] == FIRST | {"mode": "plan"}
    for withheld in ("yolo", "sleep"):
        error = (await choose(gateway, second, "mode", withheld, 422))["error"]
        assert "'ask', 'plan'" in error["message"]
    await choose(gateway, second, "model", "m2")
    assert await told(gateway, second) == FIRST | {"mode": "plan", "model": "m2"}


async def test_a_choice_before_the_agent_ever_ran_is_applied_or_said_to_be_impossible(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("early")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "plain"}, status=201)
    assert (await gateway.get(f"/api/sessions/{session_id}/options"))["options"] == []
    await choose(gateway, session_id, "mode", "plan")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await gateway.send(session_id, "go")
        notice = await stream.until_event("notice")
        assert notice.data["code"] == "option_refused"
        assert "has no option 'mode'" in notice.data["text"]
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])


async def test_a_choice_over_a_preset_that_cannot_be_restored_is_said(gateway: RunningGateway) -> None:
    session_id = fresh_id("preset")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "preset"}, status=201)
    await choose(gateway, session_id, "mode", "plan")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await gateway.send(session_id, "go")
        notice = await stream.until_event("notice")
        assert notice.data["code"] == "option_refused"
        assert "'mode' could not be restored" in notice.data["text"]
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])


RULES: Final = """
options = { mode = "plan", model = ["m2", "m3"], nothing = "x" }
locked_options = ["mode"]
"""


async def test_an_operator_fixes_and_restricts_what_can_be_chosen(tmp_path: pathlib.Path) -> None:
    switches = AGENTS["switches"] | {
        "turns": [
            [{"update": {"sessionUpdate": "current_mode_update", "currentModeId": "yolo"}}, {"say": "ok"}],
            [{"say": "$OPTIONS"}],
        ]
    }
    config = agent_tables(tmp_path, {"ruled": TELLS}) + RULES
    config += agent_tables(tmp_path, {"leaves": switches}) + RULES
    async with gateway_inside(tmp_path, config=config) as gateway:
        session_id = await begun(gateway, "ruled")
        assert await told(gateway, session_id) == FIRST | {"mode": "plan", "model": "m2"}
        listed = (await gateway.get(f"/api/sessions/{session_id}/options"))["options"]
        known = {option["option_id"]: option for option in listed}
        assert known["mode"]["is_locked"] is True
        assert [choice["value"] for choice in known["model"]["choices"]] == ["m2"]
        assert (await choose(gateway, session_id, "mode", "yolo", 403))["error"]["code"] == "option_locked"
        assert (await choose(gateway, session_id, "model", "m1", 422))["error"]["code"] == "invalid_field"
        leaves = await begun(gateway, "leaves")

        async def is_back() -> bool:
            return bool((await gateway.state(leaves))["options"]["mode"] == "plan")

        await eventually(is_back)
        assert (await told(gateway, leaves))["mode"] == "plan"


async def test_an_agent_that_does_not_take_what_is_fixed_is_not_started(tmp_path: pathlib.Path) -> None:
    config = agent_tables(tmp_path, {"refuses": AGENTS["refuses"]}) + RULES
    config += agent_tables(tmp_path, {"plain": AGENTS["plain"]}) + RULES
    async with gateway_inside(tmp_path, config=config) as gateway:
        for agent, words in (("refuses", "'mode' is 'ask'"), ("plain", "'mode' is None")):
            state = await gateway.post(
                "/api/chat?wait=240", {"message": "go", "session_id": agent, "agent": agent}
            )
            assert words in state["messages"][-1]["content"]
            assert f"agents.{agent}.options" in state["messages"][-1]["content"]


async def test_choices_survive_a_restart(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, agents={"tells": TELLS}) as gateway:
        await begun(gateway, "tells", "s")
        await choose(gateway, "s", "mode", "plan")
    async with running_gateway(tmp_path, agents={"tells": TELLS}) as gateway:
        assert (await gateway.state("s"))["options"]["mode"] == "plan"
        assert (await told(gateway, "s"))["mode"] == "plan"
        await begun(gateway, "tells", "t")
        assert (await told(gateway, "t"))["mode"] == "plan"
