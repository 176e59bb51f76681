"""Reading the configuration: one TOML file, then the environment, then the command line.

Every key of a table is also read from the environment, `sessions.idle_timeout_seconds` as
`AGENT_GATEWAY_SESSIONS_IDLE_TIMEOUT_SECONDS`, which wins; tables of agents and tenants stand in the file
only. All mistakes are reported together, each by its name; an unknown name is a mistake.
"""

from __future__ import annotations

import os
import pathlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from gateway.config import applications
from gateway.config.credentials import credential_mistakes
from gateway.config.host_rules import mistakes as rule_mistakes
from gateway.config.known_agents import KNOWN_AGENTS, started_by
from gateway.config.models import DEFAULT_PROVIDER, provider_mistakes, with_default_provider
from gateway.config.tables import (
    BUILT_IN,
    AgentConfig,
    Config,
    PermissionsConfig,
    Table,
)
from gateway.config.workspaces import workspace_mistakes
from worker.spec import Limits

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PREFIX: Final = "AGENT_GATEWAY_"
_MASK: Final = "…"
_SECRET_KEYS: Final = ("key", "secret", "env", "home_files")
"""Keys whose values are never shown."""
_PASSWORD: Final = re.compile(r"(://[^:/?#@]*:).*@")
_PARAMETER: Final = re.compile(r"([?&][^=&]*password=)[^&]*", re.IGNORECASE)
SECRET_BYTES: Final = 32


class ConfigError(Exception):
    """The configuration has mistakes; `mistakes` names each."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("; ".join(mistakes))


def load(
    path: pathlib.Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    fallbacks: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration from a file, then the environment, then `overrides` (dotted names: the command line);
    `fallbacks` are for what none of them names: a setting, or an agent.

    Raises ConfigError with every mistake.
    """
    mistakes: list[str] = []
    tree = _read(path, mistakes) if path is not None else {}
    _overlay_environment(tree, os.environ if environ is None else environ, mistakes)
    for name, value in (overrides or {}).items():
        _put(tree, name.split("."), value)
    for name, value in (fallbacks or {}).items():
        _put_if_absent(tree, name.split("."), value)
    _read_keys(tree, mistakes)
    if _has_default_provider(tree) and isinstance(model := tree.get("model"), dict) and model.get("url"):
        mistakes.append("providers.default: is [model] in other words; write only one of the two")
    config = _convert(tree, mistakes)
    if config is not None:
        config = with_default_provider(_with_presets(config, mistakes))
        mistakes += _without_home(config) or _contradictions(config)
    if mistakes or config is None:
        raise ConfigError(mistakes)
    host = config.server.host.removeprefix("[").removesuffix("]")  # as a URL writes an IPv6 address
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, host=host))


def shown(config: Config) -> str:
    """The whole configuration, defaults included, as `name = value` lines with secrets masked."""
    return "\n".join(f"{name} = {_shown(name, value)}" for name, value in flat("", config))


def flat(prefix: str, table: Any) -> Iterator[tuple[str, Any]]:
    """Every setting of a table and of those inside it, by its dotted name; those that are None left out."""
    items = table.items() if isinstance(table, dict) else _items(table)
    for name, value in items:
        path = f"{prefix}{name}"
        if isinstance(value, Table) or (isinstance(value, dict) and value):
            yield from flat(path + ".", value)
        elif value is not None:
            yield path, value


def _items(table: Table) -> Iterator[tuple[str, Any]]:
    """The settings of a table; of the whole configuration with the tables of applications."""
    names = [name for name in table.__struct_fields__ if name != _OWN or not isinstance(table, Config)]
    yield from ((name, getattr(table, name)) for name in names)
    if isinstance(table, Config):
        yield from ((name, table.of(kind)) for name, kind in applications.tables().items())


_OWN: Final = "tables"
"""The field of Config that holds what applications declare."""


def _shown(name: str, value: Any) -> str:
    parts = name.split(".")
    secrets = {secret for one in applications.installed().values() for secret in one.secrets}
    secrets |= {"env", "home_files"}
    is_secret = parts[-1] in _SECRET_KEYS or bool(secrets.intersection(parts[:-1]))
    is_secret = is_secret or (name == "egress.proxy" and "@" in value)
    if name == "store" or (parts[-1] == "url" and isinstance(value, str)):
        value = without_password(value)
    return f'"{_MASK}"' if is_secret and value else msgspec.json.encode(value).decode()


def without_password(url: str) -> str:
    """A URL of a server as it may be shown: a password may be before the `@`, or among the parameters."""
    shown = _PASSWORD.sub(rf"\1{_MASK}@", url)
    return _PARAMETER.sub(rf"\1{_MASK}", shown)


# -- reading ----------------------------------------------------------------------------------------------


def _read(path: pathlib.Path, mistakes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        mistakes.append(f"{path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        mistakes.append(f"{path}: {error}")
    return {}


def _overlay_environment(tree: dict[str, Any], environ: Mapping[str, str], mistakes: list[str]) -> None:
    for name, text in environ.items():
        words = name[len(_PREFIX) :].lower()
        if not name.startswith(_PREFIX) or words == "config":
            continue
        found = _setting(Config, words)
        if found is None:
            mistakes.append(f"{name}: no such setting")
        else:
            path, kind = found
            _put(tree, path, _in_type(kind, text))
    model = tree.setdefault("model", {}) if isinstance(tree.get("model", {}), dict) else {}
    for key, names in _MODEL_VARIABLES.items():
        for name in names:
            if name == _OF_OPENAI and _has_default_provider(tree):
                continue
            if environ.get(name) and not model.get(key):
                model[key] = environ[name]
    if not model.get("url") and model.get("key") and not environ.get("AGENT_MODEL_KEY"):
        model["url"] = "https://api.openai.com/v1"
        model.setdefault("name", "gpt-4o-mini")


_OF_OPENAI: Final = "OPENAI_API_KEY"
_MODEL_VARIABLES: Final = {
    "url": ("AGENT_MODEL_URL",),
    "name": ("AGENT_MODEL",),
    "key": ("AGENT_MODEL_KEY", _OF_OPENAI),
}


def _has_default_provider(tree: dict[str, Any]) -> bool:
    """Whether the model of the built-in agent is written as `[providers.default]`."""
    providers = tree.get("providers")
    return isinstance(providers, dict) and DEFAULT_PROVIDER in providers


def _setting(table: type[Table], words: str) -> tuple[list[str], Any] | None:
    """The path and the type of the setting that a variable's name means; None if there is none."""
    for name, kind in _types(table).items():
        if words == name and not is_table(kind) and get_origin(kind) is not dict:
            return [name], kind
        if is_table(kind) and words.startswith(name + "_"):
            found = _setting(kind, words[len(name) + 1 :])
            if found is not None:
                return [name, *found[0]], found[1]
    return None


def types_of(table: type[Table]) -> dict[str, Any]:
    """The settings of a table and their types, with what is said of them beside (`Annotated`); of the whole
    configuration with the tables of applications.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(table)}
    if table is Config:
        del types[_OWN]
        types |= applications.tables()
    return types


def plain(kind: Any) -> Any:
    """A type without what is said of it beside."""
    return kind.__origin__ if get_origin(kind) is Annotated else kind


def _types(table: type[Table]) -> dict[str, Any]:
    return {name: plain(kind) for name, kind in types_of(table).items()}


def is_table(kind: Any) -> bool:
    """True if a setting of this type is a table of its own."""
    return isinstance(kind, type) and issubclass(kind, Table)


def _in_type(kind: Any, text: str) -> Any:
    """A variable's text in the type of its key; text that does not fit is left for the conversion to name."""
    if kind is str:
        return text
    if tuple in (get_origin(kind), *map(get_origin, get_args(kind))):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        return text


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _put_if_absent(tree: dict[str, Any], path: list[str], value: Any) -> None:
    table, name = tree.get(path[0], {}), path[1] if len(path) > 1 else None
    is_there = path[0] in tree if name is None else isinstance(table, dict) and name in table
    if not is_there and isinstance(table, dict):
        _put(tree, path, value)


def _read_keys(tree: dict[str, Any], mistakes: list[str]) -> None:
    """The keys of `[model]` and of every provider, the webhook's secret, the store, and what applications
    say, from their files.
    """
    _read_key("", tree, mistakes, key="store")
    _read_key("model", tree.get("model"), mistakes)
    providers = tree.get("providers")
    for name, table in providers.items() if isinstance(providers, dict) else ():
        _read_key(f"providers.{name}", table, mistakes)
    _read_key("webhook", tree.get("webhook"), mistakes, key="secret")
    for setting in (setting for one in applications.installed().values() for setting in one.from_files):
        name, _, key = setting.rpartition(".")
        _read_key(name, tree.get(name), mistakes, key=key)


def _read_key(name: str, table: Any, mistakes: list[str], *, key: str = "key") -> None:
    path = table.get(f"{key}_file") if isinstance(table, dict) else None
    if isinstance(table, dict) and isinstance(path, str) and path:
        setting = f"{name}.{key}_file" if name else f"{key}_file"
        try:
            table[key] = pathlib.Path(path).expanduser().read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{setting}: {path}: {getattr(error, 'strerror', None) or 'not text'}")
        except RuntimeError:
            mistakes.append(f"{setting}: {_homeless(path)}")


# -- converting -------------------------------------------------------------------------------------------


def _convert(tree: dict[str, Any], mistakes: list[str]) -> Config | None:
    """Converts table by table and key by key, so that ten mistakes are ten lines."""
    found = len(mistakes)
    parts = _parts(Config, "", tree, mistakes)
    if len(mistakes) > found:
        return None
    own = {name: parts.pop(name) for name in applications.tables() if name in parts}
    return Config(**parts, tables=own)


def _parts(table: type[Table], prefix: str, value: dict[str, Any], mistakes: list[str]) -> dict[str, Any]:
    types = types_of(table)
    parts = {}
    for key, item in value.items():
        if key in types:
            parts[key] = _convert_item(types[key], prefix + key, item, mistakes)
        else:
            is_top_table = not prefix and isinstance(item, dict)
            unknown = "table, and no application that can be loaded has it" if is_top_table else "setting"
            mistakes.append(f"{prefix}{key}: no such {unknown}")
    return parts


def _convert_item(kind: Any, name: str, value: Any, mistakes: list[str]) -> Any:
    """A value of a key: a table, several by name, or plain."""
    bare = plain(kind)
    inner = next((part for part in (bare, *get_args(bare)) if is_table(part)), None)
    if inner is not None and get_origin(bare) is dict:
        return _convert_named(inner, name, value, mistakes)
    if inner is not None:
        return _convert_table(inner, name, value, mistakes)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        mistakes.append(f"{name}: {error}")
        return None


def _convert_table(kind: type[Table], name: str, value: Any, mistakes: list[str]) -> Any:
    if not isinstance(value, dict):
        mistakes.append(f"{name}: expected a table")
        return None
    found = len(mistakes)
    parts = _parts(kind, name + ".", value, mistakes)
    return None if len(mistakes) > found else kind(**parts)


def _convert_named(kind: type[Table], name: str, value: Any, mistakes: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        mistakes.append(f"{name}: write one table for each, [{name}.NAME]")
        return {}
    tables = {}
    for key, table in value.items():
        if _NAME.fullmatch(key) or (kind.names_are_free and key.isprintable()):
            tables[key] = _convert_table(kind, f"{name}.{key}", table, mistakes)
        else:
            mistakes.append(f"{name}.{key}: a name is lower-case letters, digits, _ . -")
    return tables


# -- agents that are known --------------------------------------------------------------------------------


def _with_presets(config: Config, mistakes: list[str]) -> Config:
    """Agents with `preset` filled in from what is known of them."""
    agents = {
        name: _at_provider(_with_preset(name, agent, mistakes)) for name, agent in config.agents.items()
    }
    return msgspec.structs.replace(config, agents=agents)


def _with_preset(name: str, agent: AgentConfig, mistakes: list[str]) -> AgentConfig:
    try:
        _ = agent.argv
    except ValueError as error:  # shlex's
        mistakes.append(f"agents.{name}.command: {error}")
        return msgspec.structs.replace(agent, command=(name,))
    if not agent.preset:
        return agent
    known = KNOWN_AGENTS.get(agent.preset)
    if known is None:
        names = ", ".join(KNOWN_AGENTS)
        mistakes.append(
            f"agents.{name}.preset: {agent.preset!r} is not known; name a command, or one of {names}"
        )
        return msgspec.structs.replace(agent, command=agent.command or agent.preset)
    passed = () if agent.provider else known.variables
    return msgspec.structs.replace(
        agent,
        command=agent.command or known.command,
        title=agent.title or known.title,
        pass_env=tuple(dict.fromkeys((*agent.pass_env, *passed))),
        env=known.env | agent.env,
        limits_preset=agent.limits_preset or known.limits_preset,
        limits=known.limits | agent.limits,
        options=known.choices | agent.options,
        withheld_options={
            option: tuple(value for value in values if value not in _named(agent.options.get(option)))
            for option, values in (known.withheld | agent.withheld_options).items()
        },
    )


def _named(preset: str | bool | tuple[str, ...] | None) -> tuple[object, ...]:
    """The values that an operator names of an option."""
    return preset if isinstance(preset, tuple) else (preset,)


def _at_provider(agent: AgentConfig) -> AgentConfig:
    """An agent with a provider, with the variables and files by which an agent that is known finds it."""
    known = KNOWN_AGENTS.get(agent.preset) or started_by(agent.argv)
    if not agent.provider or known is None:
        return agent
    return msgspec.structs.replace(
        agent,
        env=known.provider_env | agent.env,
        home_files=known.provider_files | agent.home_files,
    )


# -- what cannot be ---------------------------------------------------------------------------------------


def _without_home(config: Config) -> list[str]:
    """Paths in a home directory of somebody who has none: no HOME, no entry in passwd."""
    known = {*_PATHS, *(path for one in applications.installed().values() for path in one.paths)}
    paths = {name: value for name, value in flat("", config) if name in known and value.startswith("~")}
    mistakes = [f"{name}: {_homeless(path)}" for name, path in paths.items() if _is_homeless(path)]
    if not config.data_dir and _is_homeless(os.environ.get("XDG_DATA_HOME") or "~"):
        mistakes.append(
            "data_dir: this user has no home directory (no HOME, no entry in passwd) to keep it in; say "
            "where with --data-dir"
        )
    return mistakes


_PATHS: Final = (
    *("data_dir", "auth.secret_file", "jwt.jwks_file", "oidc.client_secret_file"),
    "webhook.secret_file",
)


def _is_homeless(path: str) -> bool:
    return os.path.expanduser(path).startswith("~")


def _homeless(path: str) -> str:
    return f"{path}: there is no home directory that ~ could mean; write the whole path"


def _contradictions(config: Config) -> list[str]:
    """Values that are of the right type and still cannot be."""
    mistakes = [
        f"agents.{name}.command: say which command starts it"
        for name, agent in config.agents.items()
        if not agent.argv and name not in (BUILT_IN, *applications.own_agents(config))
    ]
    if config.default_agent not in applications.agent_names(config):
        mistakes.append(f"default_agent: there is no agent {config.default_agent!r}")
    mistakes += applications.mistakes(config) + _tools(config)
    mistakes += _of_agents(config) + _tenants(config) + _groups(config)
    mistakes += _negatives(config) + _of_tables(config)
    mistakes += credential_mistakes(config) + provider_mistakes(config)
    mistakes += workspace_mistakes(config, tuple(applications.agent_names(config)))
    return mistakes


def _of_tables(config: Config) -> list[str]:
    """What each table says of itself."""
    mistakes = list(config.contradictions(config))
    for name in config.__struct_fields__:
        if isinstance(table := getattr(config, name), Table):
            mistakes += [f"{name}.{mistake}" for mistake in table.contradictions(config)]
    return mistakes


_MAY_BE_NEGATIVE: Final = ("server.",)
"""Whose own checks say more."""


def _negatives(config: Config) -> list[str]:
    return [
        f"{name}: must not be negative"
        for name, value in flat("", config)
        if isinstance(value, int | float) and value < 0 and not name.startswith(_MAY_BE_NEGATIVE)
    ]


def _of_agents(config: Config) -> list[str]:
    """Limits that do not exist, paths that are not absolute, files that cannot be read."""
    mistakes = []
    for name, agent in config.agents.items():
        mistakes += [
            f"agents.{name}.{kind}: {path!r} is not an absolute path"
            for kind in ("readable", "writable")
            for path in getattr(agent, kind)
            if not os.path.isabs(path)
        ]
        mistakes += _no_such_limit(f"agents.{name}", agent.limits)
        mistakes += _of_permissions(f"agents.{name}", agent.permissions, config)
        mistakes += [f"agents.{name}.hosts: {words}" for words in rule_mistakes(agent.hosts)]
        mistakes += [
            f"agents.{name}.env_files.{variable}: {path} cannot be read"
            for variable, path in agent.env_files.items()
            if not os.access(path, os.R_OK)
        ]
    return mistakes


def _tools(config: Config) -> list[str]:
    """Toolsets that there are not, and those that an agent could not reach."""
    mistakes, known = [], applications.tool_names(config)
    for name, agent in config.agents.items():
        mistakes += [
            f"agents.{name}.tools: there are no tools {tool!r}; there are: {', '.join(known) or 'none'}"
            for tool in agent.tools
            if tool not in known
        ]
        if agent.tools and agent.argv and not config.has_network(agent):
            mistakes.append(
                f"agents.{name}.tools: are reached over the network, which this agent has none of"
            )
    return mistakes


def _no_such_limit(prefix: str, limits: dict[str, int]) -> list[str]:
    return [f"{prefix}.limits.{key}: no such limit" for key in limits if key not in Limits.__struct_fields__]


def _of_permissions(prefix: str, permissions: PermissionsConfig, config: Config) -> list[str]:
    return [f"{prefix}.permissions.{mistake}" for mistake in permissions.contradictions(config)]


def _tenants(config: Config) -> list[str]:
    mistakes = []
    for name, tenant in config.tenants.items():
        known = applications.agent_names(config)
        mistakes += [
            f"tenants.{name}.agents: there is no agent {agent!r}"
            for agent in tenant.agents
            if agent not in known
        ]
        mistakes += _no_such_limit(f"tenants.{name}", tenant.limits)
        mistakes += _of_permissions(f"tenants.{name}", tenant.permissions, config)
        mistakes += [f"tenants.{name}.hosts: {words}" for words in rule_mistakes(tenant.hosts)]
        denied = rule_mistakes(tenant.denied_hosts, is_denial=True)
        mistakes += [f"tenants.{name}.denied_hosts: {words}" for words in denied]
    return mistakes


def _groups(config: Config) -> list[str]:
    """Agents of groups that there are not."""
    known = applications.agent_names(config)
    return [
        f"{kind}.groups.{name}.agents: there is no agent {agent!r}"
        for kind, table in (("jwt", config.jwt), ("oidc", config.oidc), ("proxy", config.proxy))
        for name, group in table.groups.items()
        for agent in group.agents
        if agent not in known
    ]
