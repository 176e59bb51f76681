"""Modes, models and configuration options of an agent are one list; an operator fixes or restricts them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.agents.options import CHOICES, AgentChoices, OptionRules, check_choice
from gateway.errors import InvalidField, OptionLocked
from gateway.events import facts as ev

MODES: Any = {
    "currentModeId": "ask",
    "availableModes": [{"id": "ask", "name": "Ask"}, {"id": "plan", "name": "Plan"}, {"id": "yolo"}],
}
MODELS: Any = {
    "currentModelId": "m1",
    "availableModels": [{"modelId": "m1", "name": "One"}, {"modelId": "m2"}],
}
EFFORT: Any = {
    "id": "effort",
    "name": "Effort",
    "category": "thought_level",
    "type": "select",
    "currentValue": "low",
    "options": [
        {"group": "g", "name": "Usual", "options": [{"value": "low", "name": "Low"}]},
        {"group": "h", "name": "Dear", "options": [{"value": "high", "name": "High", "description": "slow"}]},
    ],
}
FAST: Any = {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": False}


def said(**parts: Any) -> ev.AgentOptions:
    raw: dict[str, Any] = {name: Raw(json.dumps(part).encode()) for name, part in parts.items()}
    return ev.AgentOptions(**raw)


def choices(*rules: Any, **parts: Any) -> AgentChoices:
    odd: list[str] = []
    known = AgentChoices(OptionRules(*rules), odd.append)
    known.take(said(**parts))
    return known


def test_everything_that_can_be_chosen_is_one_list() -> None:
    known = choices(modes=MODES, models=MODELS, config_options=[EFFORT, FAST])
    assert [(o.option_id, o.kind, o.value) for o in known.listed] == [
        ("effort", "choice", "low"),
        ("fast", "boolean", False),
        ("mode", "choice", "ask"),
        ("model", "choice", "m1"),
    ]
    assert [known.source(o.option_id) for o in known.listed] == ["config", "config", "mode", "model"]
    effort, mode = known.listed[0], known.listed[2]
    assert [(c.value, c.group) for c in effort.choices] == [("low", "Usual"), ("high", "Dear")]
    assert [c.name for c in mode.choices] == ["Ask", "Plan", "yolo"]


def test_a_configuration_option_takes_the_place_of_a_mode_and_a_model() -> None:
    mode = {
        "id": "how",
        "category": "mode",
        "type": "select",
        "currentValue": "a",
        "options": [{"value": "a"}],
    }
    model = {"id": "model", "type": "select", "currentValue": "b", "options": [{"value": "b"}]}
    known = choices(modes=MODES, models=MODELS, config_options=[mode, model])
    assert [o.option_id for o in known.listed] == ["how", "model"]
    assert known.source("model") == "config"


def test_what_the_agent_changes_is_followed() -> None:
    known = choices(modes=MODES, config_options=[FAST])
    assert known.take(ev.AgentOptions(current_mode_id="plan")) is True
    assert known.take(ev.AgentOptions(current_mode_id="plan")) is False
    assert known.take(said(config_options=[FAST | {"currentValue": True}])) is True
    assert (known.value("mode"), known.value("fast"), known.value("other")) == ("plan", True, None)
    assert known.has_become("mode", "ask") is True


@pytest.mark.parametrize(
    "odd",
    [
        *(
            {"modes": 7},
            {"modes": {"currentModeId": {"a": 1}}},
            {"config_options": "x"},
            {"config_options": [1]},
        ),
        {"config_options": [{"id": "a", "type": "select", "currentValue": 5, "options": []}]},
        {"config_options": [{"id": "x" * 300, "type": "boolean", "currentValue": True}]},
        {"config_options": [{"id": "a", "type": "boolean", "currentValue": "yes"}]},
        {"config_options": [{"id": "a", "type": "of_its_own", "currentValue": "x"}]},
        {"models": []},
    ],
)
def test_what_is_odd_is_left_out(odd: Any) -> None:
    known = choices(**odd)
    assert known.listed == () or known.listed[0].option_id == "mode"


def test_the_list_has_bounds() -> None:
    many = [{"value": f"v{n}"} for n in range(5 * CHOICES)]
    config = {"id": "a", "type": "select", "currentValue": "v0", "options": many}
    known = choices(config_options=[config | {"id": f"o{n}"} for n in range(100)])
    assert len(known.listed) == 32
    assert sum(len(option.choices) for option in known.listed) == CHOICES


def test_an_operator_presets_restricts_and_fixes() -> None:
    rules = OptionRules({"mode": "plan", "model": ("m1", "m3"), "fast": False}, frozenset({"mode"}))
    assert rules.wanted({"mode": "yolo", "model": "m2", "fast": True}) == {
        "mode": "plan",
        "model": "m1",
        "fast": True,
    }
    assert rules.wanted({"model": "m3"})["model"] == "m3"
    assert (rules.allows("mode", "ask"), rules.allows("model", "m2"), rules.allows("fast", True)) == (
        *(False, False, True),
    )
    assert sorted(rules.binding) == ["mode", "model"]
    known = choices({"mode": ("ask", "plan")}, frozenset({"*"}), modes=MODES)
    assert [choice.value for choice in known.listed[0].choices] == ["ask", "plan"]
    assert known.listed[0].is_locked


def test_what_is_withheld_cannot_be_chosen_and_binds_no_agent() -> None:
    rules = OptionRules({}, withheld={"mode": ("yolo",)})
    known = AgentChoices(rules, lambda _: None)
    known.take(said(modes=MODES))
    assert [choice.value for choice in known.listed[0].choices] == ["ask", "plan"]
    assert rules.wanted({"mode": "yolo"}) == {}
    assert rules.binding == []
    for listed in (known.listed, ()):
        with pytest.raises(InvalidField, match="'mode'"):
            check_choice(listed, rules, "mode", "yolo")
    check_choice((), rules, "mode", "plan")


@pytest.mark.parametrize(
    ("option_id", "value", "words"),
    [
        ("nothing", "x", "There are: 'effort', 'fast', 'mode'"),
        ("mode", "x", "one of 'ask', 'plan', 'yolo'"),
        ("mode", True, "one of 'ask'"),
        ("fast", "true", "true or false"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_there_is(option_id: str, value: Any, words: str) -> None:
    known = choices(modes=MODES, config_options=[EFFORT, FAST])
    with pytest.raises(InvalidField, match=words):
        check_choice(known.listed, OptionRules(), option_id, value)


def test_what_is_fixed_cannot_be_chosen_before_there_is_a_list_either() -> None:
    rules = OptionRules({"model": ("m1",)}, frozenset({"mode"}))
    with pytest.raises(OptionLocked):
        check_choice([], rules, "mode", "ask")
    with pytest.raises(InvalidField, match="other values"):
        check_choice([], rules, "model", "m2")
    with pytest.raises(InvalidField, match="at most"):
        check_choice([], rules, "any", "x" * 201)
    check_choice([], rules, "any", "x")
