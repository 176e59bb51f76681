"""What can be chosen of an agent: its modes, models and configuration options as one list. Pure.

ACP has three ways to say it: `modes`, `models` (not in its schema any more, but spoken) and `configOptions`,
which may hold the other two. Here each is an option with an id, a value and the values that it may have.

Guarantees: a configuration option takes the place of a mode or model of the same meaning; what an operator
fixed or left out cannot be chosen; the list has bounds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from gateway.errors import InvalidField, OptionLocked
from gateway.events import facts as ev
from worker import foreign
from worker.foreign import Name, OnOdd

OPTIONS: Final = 32
CHOICES: Final = 1_000
"""Of all options of an agent together."""
ID_CHARACTERS: Final = 200
"""Of an option or a value: one with a longer id is left out."""
NAME_CHARACTERS: Final = 120
DESCRIPTION_CHARACTERS: Final = 300
MODE: Final = "mode"
MODEL: Final = "model"
EVERY: Final = "*"
"""Among the locked options: all of them."""

Preset = str | bool | tuple[str, ...]
"""What an operator says of an option: its first value, or those that it may have, the first one first."""
Source = Literal["config", "mode", "model"]


class _Value(Struct, rename="camel"):
    value: Name
    name: str = ""
    description: str | None = None


class _Group(Struct):
    options: list[_Value]
    name: str = ""


class _Config(Struct, rename="camel"):
    id: Name
    current_value: Any
    name: str = ""
    description: str | None = None
    category: str | None = None
    type: str = "select"
    options: list[Raw] = []


class _Mode(Struct):
    id: Name
    name: str = ""
    description: str | None = None


class _Modes(Struct, rename="camel"):
    current_mode_id: Name
    available_modes: list[_Mode] = []


class _Model(Struct, rename="camel"):
    model_id: Name
    name: str = ""
    description: str | None = None


class _Models(Struct, rename="camel"):
    current_model_id: Name
    available_models: list[_Model] = []


class OptionRules(Struct, frozen=True):
    """What an operator says of the options of an agent: see `agents.X.options` and `locked_options`."""

    presets: Mapping[str, Preset] = {}
    locked: frozenset[str] = frozenset()
    withheld: Mapping[str, tuple[str, ...]] = {}
    """Values that nobody may choose, though the agent may have them by itself."""

    def is_locked(self, option_id: str) -> bool:
        """Whether its people may not change it."""
        return option_id in self.locked or EVERY in self.locked

    def first(self, option_id: str) -> str | bool | None:
        """The value that a session begins with; None: the agent's own."""
        preset = self.presets.get(option_id)
        return preset[0] if isinstance(preset, tuple) else preset

    def allows(self, option_id: str, value: str | bool) -> bool:
        """Whether the option may have this value."""
        preset = self.presets.get(option_id)
        if value in self.withheld.get(option_id, ()):
            return False
        if isinstance(preset, tuple):
            return value in preset
        return preset is None or option_id not in self._fixed or value == preset

    @property
    def _fixed(self) -> frozenset[str]:
        return frozenset(name for name in self.presets if self.is_locked(name))

    @property
    def binding(self) -> list[str]:
        """The options that must not have any other value than these rules say."""
        return [
            name for name, preset in self.presets.items() if isinstance(preset, tuple) or name in self._fixed
        ]

    def wanted(self, *chosen: Mapping[str, ev.OptionValue]) -> dict[str, ev.OptionValue]:
        """What a session's options are to be: `chosen` by people, later ones over earlier ones, as far as
        these rules allow, over what the operator presets.
        """
        wanted: dict[str, ev.OptionValue] = {}
        for name in self.presets:
            if (value := self.first(name)) is not None:
                wanted[name] = value
        for choices in chosen:
            wanted |= {
                name: value
                for name, value in choices.items()
                if not self.is_locked(name) and self.allows(name, value)
            }
        return wanted


class AgentChoices:
    """What one running agent said of its options so far."""

    def __init__(self, rules: OptionRules, on_odd: OnOdd) -> None:
        self._rules = rules
        self._on_odd = on_odd
        self._modes: _Modes | None = None
        self._models: _Models | None = None
        self._configs: list[_Config] = []
        self.listed: tuple[ev.SessionOption, ...] = ()
        self._sources: dict[str, Source] = {}

    def take(self, said: ev.AgentOptions) -> bool:
        """Takes in what the agent says; whether that changed the list."""
        if isinstance(said.modes, Raw):
            self._modes = self._read(said.modes, _Modes) or self._modes
        if isinstance(said.models, Raw):
            self._models = self._read(said.models, _Models) or self._models
        if isinstance(said.config_options, Raw):
            self._configs = (self._read(said.config_options, list[_Config]) or [])[:OPTIONS]
        if isinstance(said.current_mode_id, str):
            self._set_mode(said.current_mode_id)
        return self._list()

    def has_become(self, option_id: str, value: ev.OptionValue) -> bool:
        """The agent was told to, and agreed, without a list of its own; whether that changed the list."""
        match self._sources.get(option_id):
            case "mode" if isinstance(value, str):
                self._set_mode(value)
            case "model" if self._models is not None and isinstance(value, str):
                self._models.current_model_id = value
        return self._list()

    def source(self, option_id: str) -> Source | None:
        """Which of ACP's requests sets it; None: there is no such option."""
        return self._sources.get(option_id)

    def value(self, option_id: str) -> ev.OptionValue | None:
        """Its value now."""
        return next((option.value for option in self.listed if option.option_id == option_id), None)

    def _read(self, raw: Raw, kind: Any) -> Any:
        try:
            return foreign.decode(raw, kind, self._on_odd)
        except msgspec.DecodeError:
            self._on_odd("options")
            return None

    def _set_mode(self, value: str) -> None:
        if self._modes is not None:
            self._modes.current_mode_id = value
        for config in self._configs:
            if config.category == MODE and any(one.value == value for _, one in self._values(config)):
                config.current_value = value

    def _list(self) -> bool:
        room = [CHOICES]
        options: dict[str, tuple[Source, ev.SessionOption]] = {}
        for config in self._configs:
            if config.id not in options and (option := self._of_config(config, room)) is not None:
                options[config.id] = ("config", option)
        meant = options.keys() | {option.category for _, option in options.values()}
        if self._modes is not None and MODE not in meant:
            values = [(mode.id, mode.name, mode.description) for mode in self._modes.available_modes]
            option = self._option(MODE, "Mode", self._modes.current_mode_id, _offered(values), MODE, room)
            if option is not None:
                options[MODE] = ("mode", option)
        if self._models is not None and MODEL not in meant:
            values = [
                (model.model_id, model.name, model.description) for model in self._models.available_models
            ]
            option = self._option(
                MODEL, "Model", self._models.current_model_id, _offered(values), MODEL, room
            )
            if option is not None:
                options[MODEL] = ("model", option)
        listed = tuple(option for _, option in options.values())
        has_changed = listed != self.listed
        self.listed = listed
        self._sources = {name: source for name, (source, _) in options.items()}
        return has_changed

    def _of_config(self, config: _Config, room: list[int]) -> ev.SessionOption | None:
        name = _name(config.name, config.id)
        category = (config.category or "")[:NAME_CHARACTERS]
        if config.type == "boolean" or isinstance(config.current_value, bool):
            if not isinstance(config.current_value, bool) or len(config.id) > ID_CHARACTERS:
                self._on_odd("configOptions.currentValue")
                return None
            return ev.SessionOption(
                *(config.id, name, "boolean", config.current_value, (), category, _about(config.description)),
                is_locked=self._rules.is_locked(config.id),
            )
        if config.type != "select" or not isinstance(config.current_value, str):
            self._on_odd("configOptions.type")
            return None
        values = [
            ev.OptionChoice(one.value, _name(one.name, one.value), _about(one.description), group)
            for group, one in self._values(config)
        ]
        about = _about(config.description)
        return self._option(config.id, name, config.current_value, values, category, room, about)

    def _values(self, config: _Config) -> Iterator[tuple[str, _Value]]:
        """With the name of the group that each is in."""
        for raw in config.options:
            value = _value_or_group(raw)
            if isinstance(value, _Group):
                yield from ((value.name[:NAME_CHARACTERS], one) for one in value.options)
            elif value is not None:
                yield "", value

    def _option(
        self,
        option_id: str,
        name: str,
        value: str,
        choices: Iterable[ev.OptionChoice],
        category: str,
        room: list[int],
        description: str = "",
    ) -> ev.SessionOption | None:
        if max(len(option_id), len(value)) > ID_CHARACTERS:
            self._on_odd("configOptions.id")
            return None
        shown: dict[str, ev.OptionChoice] = {}
        for choice in choices:
            is_known = choice.value in shown or len(choice.value) > ID_CHARACTERS
            if not is_known and room[0] and self._rules.allows(option_id, choice.value):
                shown[choice.value] = choice
                room[0] -= 1
        return ev.SessionOption(
            *(option_id, name, "choice", value, tuple(shown.values()), category, description),
            is_locked=self._rules.is_locked(option_id),
        )


def _value_or_group(raw: Raw) -> _Value | _Group | None:
    with contextlib.suppress(msgspec.DecodeError):
        return foreign.decode(raw, _Value)
    with contextlib.suppress(msgspec.DecodeError):
        return foreign.decode(raw, _Group)
    return None


def _offered(values: Iterable[tuple[str, str, str | None]]) -> list[ev.OptionChoice]:
    return [ev.OptionChoice(value, _name(name, value), _about(about)) for value, name, about in values]


def _name(name: str, otherwise: str) -> str:
    return (name or otherwise)[:NAME_CHARACTERS]


def _about(description: str | None) -> str:
    return (description or "")[:DESCRIPTION_CHARACTERS]


# -- choosing ---------------------------------------------------------------------------------------------


def check_choice(
    options: Iterable[ev.SessionOption], rules: OptionRules, option_id: str, value: ev.OptionValue
) -> None:
    """Raises InvalidField, naming what there is, or OptionLocked. Until an agent has said what it has,
    anything may be chosen that the operator allows.
    """
    known = {option.option_id: option for option in options}
    option = known.get(option_id)
    if known and option is None:
        raise InvalidField(
            f"There is no option {option_id[:60]!r}. There are: {listed_names(known)}.",
            field=("body", "option_id"),
        )
    if rules.is_locked(option_id):
        raise OptionLocked
    if option is not None and option.kind == "boolean":
        if not isinstance(value, bool):
            raise _refused(option_id, "is true or false")
        return
    if option is not None:
        values = [choice.value for choice in option.choices]
        if value not in values:
            raise _refused(option_id, f"is one of {listed_names(values)}")
    if not rules.allows(option_id, value):
        raise _refused(option_id, "has other values on this gateway")
    if isinstance(value, str) and not 0 < len(value) <= ID_CHARACTERS:
        raise _refused(option_id, f"has at most {ID_CHARACTERS} characters")


def listed_names(names: Iterable[str], *, at_most: int = 30) -> str:
    """Names for a message, cut if they are many."""
    every = list(names)
    shown = ", ".join(repr(name[:60]) for name in every[:at_most])
    return f"{shown}, …" if len(every) > at_most else shown or "none"


def _refused(option_id: str, words: str) -> InvalidField:
    return InvalidField(f"{option_id!r} {words} - at `$.value`.", field=("body", "value"))
