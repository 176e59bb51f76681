"""The configuration: one TOML file plus `AGENT_GATEWAY_*`, as frozen Structs.

Tables: `[server] [cors] [sessions] [limits] [model] [agents.NAME]`. Every key of the first five is also read
from the environment, `sessions.idle_timeout_seconds` as `AGENT_GATEWAY_SESSIONS_IDLE_TIMEOUT_SECONDS`; the
environment wins. All mistakes are reported together, each by its name; an unknown name is a mistake.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

from worker.spec import Limits

KIB: Final = 1024
MIB: Final = 1024 * 1024
DAY_MILLISECONDS: Final = 24 * 3600 * 1000
BUILT_IN: Final = "built-in"
"""The name of the agent that is always there and needs no key."""

DATABASE_NAME: Final = "gateway.db"
_AGENT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PREFIX: Final = "AGENT_GATEWAY_"


class ConfigError(Exception):
    """The configuration has mistakes; `mistakes` names each."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("; ".join(mistakes))


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML file."""


class ServerConfig(_Table, frozen=True, kw_only=True):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    allow_remote: bool = False
    """Bind another address than loopback although there are no credentials yet: everybody who reaches it
    may use it.
    """
    hosts: tuple[str, ...] = ()
    """Host names that requests may name, besides loopback ones and `host` (DNS rebinding)."""
    drain_seconds: float = 30
    """How long turns in flight may go on after SIGTERM."""
    header_deadline_seconds: float = 10
    """From the first byte of a request to the end of its headers."""
    body_limit_bytes: int = MIB
    body_deadline_seconds: float = 30
    idle_connection_seconds: float = 30
    """A connection without a request is closed after so long."""
    stalled_reader_seconds: float = 60
    """A reader that takes not one byte for so long is cut; a slow one never is."""
    half_open_seconds: float = 60
    """A peer that has vanished without a word is found within this time."""
    max_connections: int = 20_000
    """Fewer where the process may not open so many files: some are kept for workers."""
    max_connections_per_address: int = 5_000
    """And never more than three quarters of all. 5,000: as many streams as one owner may have."""
    log_level: str = "info"
    log_format: str = "text"
    """`text` for people, `json` for machines."""


class CorsConfig(_Table, frozen=True, kw_only=True):
    """Which pages of other origins may call. Loopback origins of any port always may while the gateway is
    on loopback.
    """

    origins: tuple[str, ...] = ()


class SessionsConfig(_Table, frozen=True, kw_only=True):
    """The life of a session."""

    idle_timeout_seconds: float = 1800
    """Without use for so long, a session is reaped: it leaves the memory and stays in the store."""
    sweep_interval_seconds: float = 300
    park_after_seconds: float = 120
    """Without use for so long, an idle worker is stopped and its memory given back (0: never)."""
    turn_timeout_seconds: float = 1800
    interrupt_timeout_seconds: float = 2.5
    """An agent that has not stopped so long after an interrupt is killed."""
    start_timeout_seconds: float = 60
    """From spawn to the answer of session/new."""
    stop_grace_seconds: float = 1
    """How long each rung of the stop ladder waits."""
    crash_limit: int = 3
    crash_window_seconds: float = 60
    crash_cooldown_seconds: float = 60
    retention_days: float = 30
    """Reaped sessions are purged after so many days (0: kept)."""
    tombstone_days: float = 30


class LimitsConfig(_Table, frozen=True, kw_only=True):
    """The bounds. Past one, the answer says which."""

    max_sessions: int = 100_000
    max_live_workers: int = 1_000
    message_bytes: int = 32 * KIB
    queued_messages: int = 5
    events_per_session: int = 20_000
    """Events kept in memory per session; older ones are read from the store."""
    event_bytes_per_session: int = 8 * MIB
    line_bytes: int = 16 * MIB
    streams_per_owner: int = 5_000
    waiting_streams_per_owner: int = 1_000
    """Open streams on ids that do not exist (yet)."""
    session_requests_per_second: float = 20
    session_burst: int = 100
    address_requests_per_second: float = 300
    address_burst: int = 3_000
    json_depth: int = 64


class ModelConfig(_Table, frozen=True, kw_only=True):
    """The OpenAI-compatible endpoint behind the built-in agent; the key never leaves the gateway."""

    url: str = ""
    """The base, with its version: https://host/v1. Empty: the offline model."""
    name: str = ""
    names: tuple[str, ...] = ()
    """Further models that a session may choose."""
    key: str = ""
    connect_timeout_seconds: float = 10
    silence_timeout_seconds: float = 60
    """Without a byte from the endpoint for so long, the call fails."""
    retries: int = 2
    """Tries again after a passing failure, before the first token only."""

    def __repr__(self) -> str:
        """Without the key: configurations end up in logs."""
        return f"ModelConfig(url={self.url!r}, names={self.models!r}, has_key={bool(self.key)})"

    @property
    def is_configured(self) -> bool:
        """Whether there is a model to call."""
        return bool(self.url and self.name)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that may be asked for, the default first."""
        return tuple(dict.fromkeys((self.name, *self.names)))


class AgentConfig(_Table, frozen=True, kw_only=True):
    """An ACP agent that sessions may choose."""

    command: str | tuple[str, ...] = ()
    title: str = ""
    env: dict[str, str] = field(default_factory=dict)
    """Variables set for the agent."""
    pass_env: tuple[str, ...] = ()
    """Variables of the gateway's own environment that the agent gets; every other is withheld."""
    readable: tuple[str, ...] = ()
    """Paths that the agent may read, besides the system's, its program's and its session's."""
    writable: tuple[str, ...] = ()
    """Paths that the agent may write, besides its session's; every session of this agent shares them."""
    network: Literal["", "shared", "none"] = ""
    """`none`: no network at all; empty: what `workers.network` says."""
    limits: dict[str, int] = field(default_factory=dict)
    """Limits of this agent's workers that differ from those of `workers`, by the same names."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a program would be given it."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command


_LIMITS: Final = Limits()


class WorkersConfig(_Table, frozen=True, kw_only=True):
    """How workers run: behind which walls, and how much each may use (0: no limit)."""

    sandbox: Literal["auto", "none", "basic", "strict"] = "auto"
    """`auto`: the strictest walls that can be built here, found out at start. docs/isolation says what each
    holds.
    """
    require: Literal["", "basic", "strict"] = ""
    """The gateway does not start where it cannot build at least these walls. Empty: it takes what there is
    and says so.
    """
    network: Literal["shared", "none"] = "shared"
    memory_bytes: int = _LIMITS.memory_bytes
    processes: int = _LIMITS.processes
    open_files: int = _LIMITS.open_files
    cpu_seconds: int = _LIMITS.cpu_seconds
    file_bytes: int = _LIMITS.file_bytes
    disk_bytes: int = _LIMITS.disk_bytes
    temporary_bytes: int = _LIMITS.temporary_bytes
    first_uid: int = 200_000
    """Where the gateway runs as root, each session's worker gets a uid of its own from here on."""
    uid_count: int = 100_000


class Config(_Table, frozen=True, kw_only=True):
    """Everything."""

    server: ServerConfig = ServerConfig()
    cors: CorsConfig = CorsConfig()
    sessions: SessionsConfig = SessionsConfig()
    limits: LimitsConfig = LimitsConfig()
    model: ModelConfig = ModelConfig()
    workers: WorkersConfig = WorkersConfig()
    agents: dict[str, AgentConfig] = field(default_factory=dict)
    default_agent: str = BUILT_IN
    data_dir: str = ""
    """Where sessions keep their files; empty: the user's data home."""
    store: str = ""
    """`sqlite:///FILE` or `memory://`; empty: gateway.db in the data directory."""

    @property
    def database_path(self) -> pathlib.Path:
        """The file of the SQLite store."""
        named = self.store.removeprefix(_SQLITE)
        return pathlib.Path("/" + named.lstrip("/")) if named else self.data_path / DATABASE_NAME

    @property
    def data_path(self) -> pathlib.Path:
        """The data directory."""
        if self.data_dir:
            return pathlib.Path(self.data_dir).expanduser()
        home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return pathlib.Path(home).expanduser() / "agent-gateway"


_SQLITE: Final = "sqlite:///"

_TABLES: Final[dict[str, type[_Table]]] = {
    "server": ServerConfig,
    "cors": CorsConfig,
    "sessions": SessionsConfig,
    "limits": LimitsConfig,
    "model": ModelConfig,
    "workers": WorkersConfig,
}
_TOP_KEYS: Final = {"default_agent": str, "data_dir": str, "store": str}


def load(
    path: pathlib.Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration from a file, then the environment, then `overrides` (dotted names: the command line).

    Raises ConfigError with every mistake.
    """
    mistakes: list[str] = []
    tree = _read(path, mistakes) if path is not None else {}
    _overlay_environment(tree, os.environ if environ is None else environ, mistakes)
    for name, value in (overrides or {}).items():
        _put(tree, name.split("."), value)
    config = _convert(tree, mistakes)
    if config is not None:
        mistakes += _contradictions(config)
    if mistakes or config is None:
        raise ConfigError(mistakes)
    return config


def _read(path: pathlib.Path, mistakes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        mistakes.append(f"{path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        mistakes.append(f"{path}: {error}")
    return {}


def _overlay_environment(tree: dict[str, Any], environ: Mapping[str, str], mistakes: list[str]) -> None:
    for name, text in environ.items():
        if not name.startswith(_PREFIX):
            continue
        words = name[len(_PREFIX) :].lower()
        table, _, key = words.partition("_")
        if words in _TOP_KEYS:
            tree[words] = text
        elif table in _TABLES and key in _TABLES[table].__struct_fields__:
            _put(tree, [table, key], _plain(_TABLES[table], key, text))
        elif words not in {"config"}:
            mistakes.append(f"{name}: no such setting")
    model = tree.setdefault("model", {}) if isinstance(tree.get("model", {}), dict) else {}
    for key, names in _MODEL_VARIABLES.items():
        for name in names:
            if environ.get(name) and not model.get(key):
                model[key] = environ[name]
    if not model.get("url") and model.get("key") and not environ.get("AGENT_MODEL_KEY"):
        model["url"] = "https://api.openai.com/v1"
        model.setdefault("name", "gpt-4o-mini")


_MODEL_VARIABLES: Final = {
    "url": ("AGENT_MODEL_URL",),
    "name": ("AGENT_MODEL",),
    "key": ("AGENT_MODEL_KEY", "OPENAI_API_KEY"),
}


def _plain(table: type[_Table], key: str, text: str) -> Any:
    """A variable's text in the type of its key; text that does not fit is left for the conversion to name."""
    kind = {field.name: field.type for field in msgspec.structs.fields(table)}[key]
    if kind is str:
        return text
    if kind == tuple[str, ...]:
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        return text


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _convert(tree: dict[str, Any], mistakes: list[str]) -> Config | None:
    """Converts table by table and key by key, so that ten mistakes are ten lines."""
    parts: dict[str, Any] = {}
    for name, value in tree.items():
        if name == "agents":
            parts[name] = _convert_agents(value, mistakes)
        elif name in _TABLES:
            parts[name] = _convert_table(_TABLES[name], name, value, mistakes)
        elif name in _TOP_KEYS:
            parts[name] = _convert_key(_TOP_KEYS[name], name, value, mistakes)
        else:
            mistakes.append(f"{name}: no such setting")
    return None if mistakes else Config(**parts)


def _convert_agents(value: Any, mistakes: list[str]) -> dict[str, AgentConfig]:
    if not isinstance(value, dict):
        mistakes.append("agents: write one table for each agent, [agents.NAME]")
        return {}
    agents = {}
    for name, table in value.items():
        if not _AGENT_NAME.fullmatch(name):
            mistakes.append(f"agents.{name}: a name is lower-case letters, digits, _ . -")
        else:
            agents[name] = _convert_table(AgentConfig, f"agents.{name}", table, mistakes)
    return agents


def _convert_table(kind: type[Any], name: str, value: Any, mistakes: list[str]) -> Any:
    if not isinstance(value, dict):
        mistakes.append(f"{name}: expected a table")
        return None
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    parts = {}
    for key, item in value.items():
        if key not in types:
            mistakes.append(f"{name}.{key}: no such setting")
        else:
            parts[key] = _convert_key(types[key], f"{name}.{key}", item, mistakes)
    return kind(**parts) if None not in parts.values() else None


def _convert_key(kind: Any, name: str, value: Any, mistakes: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        mistakes.append(f"{name}: {error}")
        return None


def _contradictions(config: Config) -> list[str]:
    """Values that are of the right type and still cannot be."""
    mistakes = [
        f"agents.{name}.command: say which command starts it"
        for name, agent in config.agents.items()
        if not agent.argv and name != BUILT_IN
    ]
    if config.default_agent != BUILT_IN and config.default_agent not in config.agents:
        mistakes.append(f"default_agent: there is no agent {config.default_agent!r}")
    if config.store not in ("", "memory://") and not config.store.startswith(_SQLITE):
        mistakes.append("store: sqlite:///FILE or memory://")
    mistakes += _walls(config)
    for table in ("sessions", "limits", "workers"):
        part = getattr(config, table)
        mistakes += [
            f"{table}.{name}: must not be negative"
            for name in part.__struct_fields__
            if isinstance(getattr(part, name), int | float) and getattr(part, name) < 0
        ]
    if config.sessions.sweep_interval_seconds == 0:
        mistakes.append("sessions.sweep_interval_seconds: must be more than 0")
    mistakes += [
        f"server.{name}: must be more than 0" for name in _POSITIVE if getattr(config.server, name) <= 0
    ]
    if not 0 <= config.server.port <= 65_535:
        mistakes.append("server.port: 0 to 65535")
    return mistakes


_POSITIVE: Final = (
    *("header_deadline_seconds", "body_limit_bytes", "body_deadline_seconds", "idle_connection_seconds"),
    *("stalled_reader_seconds", "half_open_seconds", "max_connections", "max_connections_per_address"),
)


def _walls(config: Config) -> list[str]:
    """Limits that do not exist, paths that are not absolute, walls that are both required and left out."""
    workers = config.workers
    mistakes = []
    if workers.require and workers.sandbox not in ("auto", "strict", workers.require):
        mistakes.append(
            f"workers.sandbox: {workers.sandbox!r} is less than workers.require = {workers.require!r}"
        )
    for name, agent in config.agents.items():
        mistakes += [
            f"agents.{name}.{kind}: {path!r} is not an absolute path"
            for kind in ("readable", "writable")
            for path in getattr(agent, kind)
            if not os.path.isabs(path)
        ]
        known = Limits.__struct_fields__
        mistakes += [f"agents.{name}.limits.{key}: no such limit" for key in agent.limits if key not in known]
        mistakes += [
            f"agents.{name}.limits.{key}: must not be negative" for key, n in agent.limits.items() if n < 0
        ]
    return mistakes


def builtin_argv() -> tuple[str, ...]:
    """The command of the built-in agent, run by this interpreter, isolated from the caller's PYTHON*
    variables.
    """
    return (sys.executable, "-I", "-m", "worker")
