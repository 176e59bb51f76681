"""The configuration: one TOML file plus `AGENT_GATEWAY_*`, as frozen Structs.

Tables: `[server] [cors] [sessions] [limits] [memory] [cluster] [model] [providers.NAME] [workers] [egress]
[telemetry] [auth] [visitors] [jwt] [oidc] [proxy] [quotas] [usage] [permissions] [approvals] [files] [page]
[webhook] [applications] [credentials.NAME] [agents.NAME] [tenants.NAME]`, and those of applications.
`file.py` reads them, `reloading.py` compares two.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import sys
from collections.abc import Iterator
from typing import ClassVar, Final, Literal, TypeVar
from urllib.parse import urlsplit

from msgspec import field

from gateway.config.addresses import is_network
from gateway.config.cluster import ClusterConfig
from gateway.config.credentials import CredentialConfig
from gateway.config.files import FilesConfig
from gateway.config.host_rules import REGISTRIES
from gateway.config.host_rules import mistakes as rule_mistakes
from gateway.config.hosts import is_proxy, private_host
from gateway.config.limits import LimitsPreset
from gateway.config.memory import MemoryConfig
from gateway.config.models import DEFAULT_PROVIDER, PriceConfig, ProviderConfig
from gateway.config.page import PageConfig
from gateway.config.permissions import RULES, RuleConfig
from gateway.config.table import AtStart as AtStart
from gateway.config.table import Table as Table
from gateway.config.webhook import WebhookConfig
from gateway.config.workspaces import WorkspaceConfig
from gateway.principal import IMPLIED
from worker.spec import Limits, Network

KIB: Final = 1024
MIB: Final = 1024 * 1024
DAY_MILLISECONDS: Final = 24 * 3600 * 1000
BUILT_IN: Final = "built-in"
"""The name of the agent that is always there and needs no key."""

DATABASE_NAME: Final = "gateway.db"
DEFAULT_TENANT: Final = "default"
"""The tenant that is always there."""

SQLITE_SCHEME: Final = "sqlite:///"
NICEST: Final = 19
"""nice(2)."""
POSTGRESQL_SCHEMES: Final = ("postgresql", "postgres")
STORE_SCHEMES: Final = {
    **{"sqlite": "sqlite:///FILE", "memory": "memory://"},
    **dict.fromkeys(POSTGRESQL_SCHEMES, "postgresql://USER@HOST/DATABASE"),
}
"""What `store` may begin with, and how it is written."""


_ANY_BELOW: Final = re.compile(r"\*\.[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?")


DRAIN_SECONDS: Final = 30.0
"""A gateway that nobody stands in for is soon back."""


class ServerConfig(Table, frozen=True, kw_only=True):
    """Where and how the gateway listens."""

    host: AtStart[str] = "127.0.0.1"
    port: AtStart[int] = 8080
    allow_remote: AtStart[bool] = False
    """Bind another address than loopback in `open` mode: every caller who can connect may use it."""
    allow_agent_connections: AtStart[bool] = False
    """Serve connections that come from agents' processes like any other. In `open` mode each agent is then
    the owner; if a proxy on this machine is trusted, an agent can claim to be any user.
    """
    public_url: str = ""
    """How people reach it through a proxy: https://chat.example. Its pages may always call, and cookies are
    then kept to https. The names of cookies depend on it: changing it signs browsers out.
    """
    trusted_proxies: AtStart[tuple[str, ...]] = ()
    """Addresses or networks of proxies in front: their X-Forwarded-For says who calls, X-Forwarded-Proto how,
    X-Forwarded-Host (and -Port) which host was asked; without X-Forwarded-For, `Forwarded` (RFC 7239) says
    all that. No limit of one address holds for them. A proxy must overwrite these headers of its callers.
    """
    ports_host: str = "auto"
    """Below which host name the servers that agents start are shown, each at an origin of its own:
    `*.preview.example` (a domain of its own, whose names all lead here). `auto`: `*.localhost` for people at
    the machine, none for others. `none`: never. Without one their pages are shown below `/ports/`, sandboxed.
    """
    hosts: tuple[str, ...] = ()
    """Host names that requests may name, besides loopback ones and `host` (DNS rebinding)."""
    drain_seconds: AtStart[float | None] = None
    """How long turns in flight may go on after SIGTERM. If it is not set: 30 seconds; at one of several
    gateways on a database, to their end, as long as another one takes work.
    """
    header_deadline_seconds: AtStart[float] = 10
    """From the first byte of a request to the end of its headers."""
    body_limit_bytes: AtStart[int] = MIB
    body_deadline_seconds: AtStart[float] = 30
    idle_connection_seconds: AtStart[float] = 30
    """A connection without a request is closed after so long."""
    stalled_reader_seconds: AtStart[float] = 60
    """A reader that takes not one byte for so long is cut; a slow one never is."""
    half_open_seconds: AtStart[float] = 60
    """A peer that has vanished without a word is found within this time."""
    socket_message_bytes: AtStart[int] = 64 * KIB
    """Of one message on a WebSocket."""
    socket_ping_seconds: AtStart[float] = 20
    """A WebSocket is asked so often whether it is still there, and has as long to answer."""
    max_connections: AtStart[int] = 20_000
    """Fewer where the process may not open so many files: some are kept for workers."""
    max_connections_per_address: AtStart[int] = 5_000
    """And never more than three quarters of all. 5,000: as many streams as one owner may have."""
    ready_disk_bytes: AtStart[int] = 64 * MIB
    """With less room than this on the data directory's disk, /readyz says no."""
    low_disk_bytes: AtStart[int] = 512 * MIB
    """With less room than this on the data directory's disk, the log says so, hour by hour."""
    log_level: AtStart[str] = "info"
    log_format: AtStart[str] = "text"
    """`text` for people, `json` for machines."""

    def contradictions(self, config: Config) -> Iterator[str]:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                yield f"{name}: must be more than 0"
        if not 0 <= self.port <= 65_535:
            yield "port: 0 to 65535"
        if self.ports_host not in ("auto", "none") and not _ANY_BELOW.fullmatch(self.ports_host):
            yield 'ports_host: write "auto", "none", or a domain of its own: "*.preview.example"'
        yield from _no_addresses("trusted_proxies", self.trusted_proxies)

    @property
    def grace_seconds(self) -> float:
        """How long turns in flight may go on if no other gateway takes work meanwhile."""
        return DRAIN_SECONDS if self.drain_seconds is None else self.drain_seconds

    @property
    def is_https(self) -> bool:
        """Whether people come by https, which a proxy ends."""
        return self.public_url.startswith("https:")

    @property
    def base_path(self) -> str:
        """What comes before our paths at the public address: empty, or `/chat`."""
        return urlsplit(self.public_url).path.rstrip("/")


_POSITIVE: Final = (
    *("header_deadline_seconds", "body_limit_bytes", "body_deadline_seconds", "idle_connection_seconds"),
    *("stalled_reader_seconds", "half_open_seconds", "max_connections", "max_connections_per_address"),
)


def _no_addresses(name: str, texts: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{name}: {text!r} is no address" for text in texts if not is_network(text))


class CorsConfig(Table, frozen=True, kw_only=True):
    """Which pages of other origins may call. Loopback origins of any port always may while the gateway is
    on loopback.
    """

    origins: tuple[str, ...] = ()


class SessionsConfig(Table, frozen=True, kw_only=True):
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

    def contradictions(self, config: Config) -> Iterator[str]:
        if self.sweep_interval_seconds == 0:
            yield "sweep_interval_seconds: must be more than 0"


class LimitsConfig(Table, frozen=True, kw_only=True):
    """The bounds. Past one, the answer says which."""

    max_sessions: int = 100_000
    max_live_workers: int = 1_000
    waiting_turns: int = 1_000
    """Turns that wait for a worker while as many run as may, the tenants in turn; past it, 503 (0: at once).
    As many as workers: if every answer takes 30 seconds, the last in the line waits about that long.
    """
    message_bytes: int = 32 * KIB
    queued_messages: int = 20
    """Messages that wait while the agent answers. In a conversation whose waiting messages become one prompt,
    more are stored too, and told to the agent with the prompt after that.
    """
    events_per_session: AtStart[int] = 20_000
    """Events kept in memory per session; older ones are read from the store."""
    event_bytes_per_session: AtStart[int] = 2 * MIB
    """The same in bytes. A store in memory keeps twice as much, and nothing older."""
    line_bytes: int = 16 * MIB
    """Of one message of an agent's, a picture inside it included."""
    turn_bytes: int = 64 * MIB
    """What one turn may add to its session's log; past it the agent is ended."""
    answer_characters: int = 8 * MIB
    """Text and thoughts of one turn."""
    conversation_characters: int = 64 * MIB
    """The same of a whole conversation: past it the agent is ended, and a new message is refused."""
    session_memory_bytes: AtStart[int] = 16 * MIB
    """What is kept in memory of a whole conversation, which is most of it: all but long texts, the input and
    output of tools, and pictures. Past it the same.
    """
    streams_per_owner: AtStart[int] = 5_000
    waiting_streams_per_owner: AtStart[int] = 1_000
    """Open streams on ids that do not exist (yet)."""
    session_requests_per_second: AtStart[float] = 20
    session_burst: AtStart[int] = 100
    address_requests_per_second: AtStart[float] = 300
    address_burst: AtStart[int] = 3_000
    wrong_credentials_per_minute: AtStart[int] = 30
    """From one address; past it, 429."""
    json_depth: int = 64


class Budget(Table, frozen=True, kw_only=True):
    """What models may cost, and how many tokens; 0: no limit. Days and months are those of UTC."""

    cost_per_day: float = 0
    """Dollars, by the prices of the models (docs/costs.md)."""
    cost_per_month: float = 0
    tokens_per_day: int = 0
    """Input and output, as providers count them; of an agent with a model of its own, as it says."""
    tokens_per_month: int = 0


class ModelConfig(Table, frozen=True, kw_only=True):
    """The OpenAI-compatible endpoint behind the built-in agent; the key never leaves the gateway."""

    url: str = ""
    """The base, with its version: https://host/v1. Empty: the offline model."""
    name: str = ""
    names: tuple[str, ...] = ()
    """Further models that a session may choose."""
    context_tokens: int = 0
    """How much the model reads at once; 0: not known, and the built-in agent goes by 100,000."""
    images: bool = True
    """Whether the models take images. If not, the built-in agent is told the name of an attached image."""
    key: str = ""
    key_file: str = ""
    """A file that holds the key, instead of `key`."""
    connect_timeout_seconds: float = 10
    silence_timeout_seconds: float = 60
    """Without a byte from the endpoint for so long, the call fails."""
    retries: int = 2
    """Tries again after a passing failure, before the first token only."""
    prices: dict[str, PriceConfig] = field(default_factory=dict)
    """By model; these come before the prices that the gateway knows."""

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

    @property
    def as_provider(self) -> ProviderConfig:
        """The same as a table of `[providers]`."""
        return ProviderConfig(
            dialect="chat",
            url=self.url,
            key=self.key,
            key_file=self.key_file,
            models=self.models,
            connect_timeout_seconds=self.connect_timeout_seconds,
            silence_timeout_seconds=self.silence_timeout_seconds,
            retries=self.retries,
            prices=self.prices,
        )


class PermissionsConfig(Table, frozen=True, kw_only=True):
    """Which permission requests of agents are answered without a person. Deny wins over ask, ask over allow;
    what no rule matches, a person answers.
    """

    allow: tuple[RuleConfig, ...] = ()
    ask: tuple[RuleConfig, ...] = ()
    """A person is asked although another rule allows it."""
    deny: tuple[RuleConfig, ...] = ()

    def contradictions(self, config: Config) -> Iterator[str]:
        for action in ("allow", "ask", "deny"):
            rules: tuple[RuleConfig, ...] = getattr(self, action)
            if len(rules) > RULES:
                yield f"{action}: at most {RULES} rules"
            for number, rule in enumerate(rules, 1):
                yield from (f"{action}.{number}: {mistake}" for mistake in rule.mistakes())


class ApprovalsConfig(Table, frozen=True, kw_only=True):
    """Who may answer agents' permission requests."""

    require_scope: bool = False
    """Answering needs the scope `approve`, which `chat` includes otherwise."""


class AgentConfig(Table, frozen=True, kw_only=True):
    """An ACP agent that sessions may choose."""

    command: str | tuple[str, ...] = ()
    preset: str = ""
    """An agent that the gateway knows (gateway/config/known_agents.py), by its name: `claude`, `codex`, … Its
    command, title, variables and limits hold if they are not named here.
    """
    title: str = ""
    auth_method: str = ""
    """The method of ACP's `authenticate` that the agent is asked for before its first session, if it needs
    that: one of those that it offers.
    """
    env: dict[str, str] = field(default_factory=dict)
    """Variables set for the agent."""
    pass_env: tuple[str, ...] = ()
    """Variables of the gateway's own environment that the agent gets; every other is withheld."""
    env_files: dict[str, str] = field(default_factory=dict)
    """Variables whose values stand in files: secrets that this agent names, and no other gets."""
    toolchains: bool = True
    """Whether it may read the programs of usual toolchains (node, python3, go, git, …) that the gateway's
    PATH finds outside the system's directories, without `readable`.
    """
    readable: tuple[str, ...] = ()
    """Paths that the agent may read, besides the system's, its program's and its session's."""
    writable: tuple[str, ...] = ()
    """Paths that the agent may write, besides its session's; every session of this agent shares them."""
    network: Literal["", "shared", "none", "broker"] = ""
    """`none`: no network at all. `broker`: every connection is made by the gateway, to the hosts of the lists
    (`egress.hosts`, `hosts` here and of the tenant); strict walls only. Empty: what `workers.network` says;
    if that is empty too, `none` for the built-in agent, and for a command `broker`, but `shared` if the walls
    do not hold that or the agent has a key of its own for its model.
    """
    hosts: tuple[str, ...] = ()
    """Hosts that its workers may reach besides those of `egress.hosts`, if their network is `broker`."""
    credentials: tuple[str, ...] = ()
    """Credentials that the gateway adds to requests of its workers, by name: `[credentials.NAME]`."""
    limits_preset: Literal["", "chat", "coding"] = ""
    """Limits by the kind of work. Empty: those of a known agent (`coding`), else `workers.limits_preset`."""
    limits: dict[str, int] = field(default_factory=dict)
    """Limits of this agent's workers that differ from those of `workers`, by the same names."""
    tools: tuple[str, ...] = ()
    """Toolsets of applications that its sessions get, by name."""
    provider: str = ""
    """Whose models it calls, `[providers.NAME]`: it gets an address of the gateway's (`{base}`) and a token
    (`{token}`) for one worker instead of a key.
    """
    home_files: dict[str, str] = field(default_factory=dict)
    """Files written into a session's HOME before its agent starts: path → content. With a provider, `{base}`,
    `{token}` and `{model}` in them, and in `env`, are filled in.
    """
    permissions: PermissionsConfig = PermissionsConfig()
    """Rules for this agent's permission requests, beside those of everybody."""
    options: dict[str, str | bool | tuple[str, ...]] = field(default_factory=dict)
    """Of the agent's own options (its `mode`, its `model`, …), by id: the value that a session begins with,
    or a list of those that it may have, the first of which it begins with.
    """
    locked_options: tuple[str, ...] = ()
    """The ids of options that people may not change; `*`: none may be. One that has a value in `options`
    keeps it: an agent that does not take it is not started.
    """
    withheld_options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of options that people cannot choose, by option. A preset withholds modes in which the agent or
    a model approves everything; one that `options` names can be chosen, and an empty list withholds nothing.
    """
    budget: Budget | None = None
    """Of all its sessions together, in place of `quotas.agent`."""
    spares: int = 0
    """So many of its workers are started before anybody needs them; each serves one new session. For an agent
    without a provider: a token is made for one session.
    """

    warm_seconds: float = 0
    """An idle worker is frozen for so long before it is parked, if the machine has control groups: it keeps
    its memory, takes no CPU time, and goes on at once. For large agents, which take seconds to come back (0:
    it is parked at once).
    """

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a program would be given it."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command


_LIMITS: Final = Limits()


class TelemetryConfig(Table, frozen=True, kw_only=True):
    """Traces, for which the extra `otel` must be installed."""

    otlp_endpoint: AtStart[str] = ""
    """A collector's base for OTLP over HTTP: http://host:4318. Empty: OTEL_EXPORTER_OTLP_ENDPOINT's."""
    capture_content: bool = False
    """Whether spans carry what people and agents wrote: messages, answers, the arguments and results of tool
    calls, questions. Whoever reads the traces then reads the conversations.
    """


class WorkersConfig(Table, frozen=True, kw_only=True):
    """How workers run: behind which walls, and how much each may use (0: no limit)."""

    sandbox: Literal["auto", "none", "basic", "strict"] = "auto"
    """`auto`: the strictest walls that can be built here, found out at start. docs/isolation says what each
    holds.
    """
    require: Literal["", "basic", "strict"] = ""
    """The gateway does not start where it cannot build at least these walls. Empty: it takes what there is
    and says so.
    """
    network: Literal["", "shared", "none", "broker"] = ""
    """Of every agent that does not say its own. Empty: `none` for the built-in agents, whose model calls and
    MCP servers go through the gateway, and for agents that are commands `broker`, or else `shared`
    (`agents.NAME.network`).
    """
    cgroups: Literal["auto", "off"] = "auto"
    """`auto`: a control group for each worker where the machine lets the gateway make them. `off`: none."""
    memory_bytes: int = _LIMITS.memory_bytes
    processes: int = _LIMITS.processes
    open_files: int = _LIMITS.open_files
    cpu_seconds: int = _LIMITS.cpu_seconds
    turn_cpu_seconds: int = _LIMITS.turn_cpu_seconds
    """CPU time of all of a worker's processes in one turn; past it the turn is ended, and the worker."""
    spares: int = 1
    """The same of the built-in agent as `agents.NAME.spares`. Each takes about 3 MB, and a uid; there is none
    while memory is short.
    """
    nice: int = 5
    """0 to 19: the workers' nice value, which lowers their priority when CPU time is short (nice(2))."""
    file_bytes: int = _LIMITS.file_bytes
    disk_bytes: int = _LIMITS.disk_bytes
    """Files of a session on the disk; their sizes, with all holes, may add up to eight times as much."""
    files: int = _LIMITS.files
    """Files and directories of a session."""
    temporary_bytes: int = _LIMITS.temporary_bytes
    turn_seconds: int = _LIMITS.turn_seconds
    """How long one answer may take; 0: what `sessions.turn_timeout_seconds` says."""
    limits_preset: LimitsPreset = "chat"
    """The limits of workers whose limits are not named here: `chat`, or `coding` for agents that install and
    build (docs/isolation.md has the numbers).
    """
    first_uid: int = 200_000
    """If the gateway runs as root, each session's worker gets a uid of its own, starting with this one."""
    uid_count: int = 100_000

    @property
    def may_hold_broker(self) -> bool:
        """Whether walls that hold the network `broker` are tried here."""
        return self.sandbox in ("auto", "strict")

    def contradictions(self, config: Config) -> Iterator[str]:
        if self.require and self.sandbox not in ("auto", "strict", self.require):
            yield f"sandbox: {self.sandbox!r} is less than workers.require = {self.require!r}"
        if self.nice > NICEST:
            yield f"nice: 0 to {NICEST}"


class EgressConfig(Table, frozen=True, kw_only=True):
    """What is reached on a session's behalf: by its worker, if its network is `broker`, and by the gateway,
    which calls the MCP servers that people add.
    """

    hosts: tuple[str, ...] = (REGISTRIES,)
    """Hosts that every worker behind the broker may reach: `host` (ports 443 and 80), `host:22`, `*.host` for
    the names below it, and `registries` for those of this machine's own pip, npm and git settings.
    """
    denied: tuple[str, ...] = ()
    """Hosts that no worker reaches, whatever another list says; without a port, on none."""
    unlisted: Literal["deny", "ask"] = "deny"
    """What becomes of a connection to a host that no list names. `ask`: it waits at most 30 seconds for the
    person, who allows it once or for the session; an operator, for good.
    """
    proxy: str = ""
    """A company's proxy for all connections of workers, but those to `private_hosts`: http://HOST:PORT. The
    proxy then looks names up, so that private addresses are refused by name only.
    """
    connections: int = 256
    """Connections of one session at a time."""
    bytes_per_day: int = 0
    """Bytes that one session may send and receive in a day of UTC (0: no limit)."""

    private_hosts: tuple[str, ...] = ()
    """Hosts that may lead to private addresses: `localhost`, `tools.corp.example:8931`, `10.0.0.7`. Every
    other must be public. Everyone who may use this gateway may then call these through it.
    """

    def contradictions(self, config: Config) -> Iterator[str]:
        for text in self.private_hosts:
            if private_host(text) is None:
                yield f'private_hosts: {text!r} is no host; write "localhost", "localhost:8931" or "10.0.0.7"'
        yield from (f"hosts: {words}" for words in rule_mistakes(self.hosts))
        yield from (f"denied: {words}" for words in rule_mistakes(self.denied, is_denial=True))
        if self.proxy and not is_proxy(self.proxy):
            yield "proxy: write http://HOST:PORT"
        if not self.connections:
            yield "connections: must be more than 0"


Mode = Literal["open", "anonymous", "keys", "jwt", "oidc", "proxy"]


class AuthConfig(Table, frozen=True, kw_only=True):
    """Who is let in."""

    modes: tuple[Mode, ...] = ("open",)
    """`open`: everybody is the person at the machine (loopback only). `anonymous`: every browser is a visitor
    of its own, by a signed cookie. `keys`, `jwt`: a Bearer. `oidc`: people sign in. `proxy`: a proxy in
    front has signed them in. Combined as wanted, `open` only alone.
    """
    secret_file: str = ""
    """What cookies are signed with, 32 bytes or more; empty: a file that the first start makes in the data
    directory. The keys and credentials of tenants and people are encrypted with a key made from it.
    """
    old_secret_files: tuple[str, ...] = ()
    """Secrets that were in use before `secret_file`: keys and credentials that one of them encrypted can be
    read, and are encrypted anew at the next start. Then the old secret can go.
    """

    def contradictions(self, config: Config) -> Iterator[str]:
        for path in self.old_secret_files:
            if not os.access(os.path.expanduser(path), os.R_OK):
                yield f"old_secret_files: {path} cannot be read"
        if not self.modes:
            yield "modes: name at least one of open, anonymous, keys, jwt, oidc, proxy"
        if "open" in self.modes and len(self.modes) > 1:
            yield "modes: open lets everybody in, so it stands alone"


class VisitorsConfig(Table, frozen=True, kw_only=True):
    """Anonymous visitors (`anonymous` mode)."""

    tenant: str = DEFAULT_TENANT
    days: float = 30
    """A visitor that comes back within so many days is still the same one; the cookie is renewed."""
    origins: tuple[str, ...] = ()
    """Pages of other sites, whose visitors get a token instead of the cookie that browsers drop there."""
    commands: bool = False
    """True if a message of theirs that begins with `/` may be a command of the agent's; else it is a text."""

    def contradictions(self, config: Config) -> Iterator[str]:
        yield from _no_tenant(self.tenant, config)


WithoutGroup = Literal["refuse", "default"]


class GroupConfig(Table, frozen=True, kw_only=True):
    """What the members of a group get: of a token's, of a sign-in's, or of those that a proxy names. What
    several groups give is added up.
    """

    names_are_free: ClassVar[bool] = True
    tenant: str = ""
    """Of several groups the first in the file's order that names one counts. Empty: as without groups."""
    scopes: tuple[str, ...] = ()
    """Empty: this group adds none. If no group of a person adds any, `scopes` of the table hold."""
    agents: tuple[str, ...] = ()
    """The agents that its members may choose for their sessions. Empty: this group adds none. If no group of
    a person adds any, they may choose every agent of their tenant.
    """


def _of_groups(groups: dict[str, GroupConfig], config: Config) -> Iterator[str]:
    for name, group in groups.items():
        wrong = [*_no_scopes(group.scopes), *(_no_tenant(group.tenant, config) if group.tenant else ())]
        yield from (f"groups.{name}.{words}" for words in wrong)


class JwtConfig(Table, frozen=True, kw_only=True):
    """Tokens that somebody else signs (`jwt` mode)."""

    issuer: str = ""
    audience: str = ""
    jwks_file: str = ""
    jwks_url: str = ""
    jwks_seconds: float = 300
    """How long the keys of `jwks_url` are kept; an unknown key id asks anew, at most twice a minute."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    tenant: str = DEFAULT_TENANT
    tenant_claim: str = ""
    """The claim that names the tenant; empty: `tenant` for all."""
    subject_claim: str = "sub"
    scopes_claim: str = ""
    """The claim that names scopes, as a list or words; empty: `scopes` for all."""
    scopes: tuple[str, ...] = ("chat",)
    groups_claim: str = "groups"
    """The claim that names groups, as a list, or one as a text; read if there are `groups`."""
    groups: dict[str, GroupConfig] = field(default_factory=dict)
    """What the members of each group get. A token's groups hold as long as the token."""
    without_group: WithoutGroup = "refuse"
    """Who is in none of `groups`: is refused, or gets what is set in this table."""
    leeway_seconds: float = 30

    def contradictions(self, config: Config) -> Iterator[str]:
        if "jwt" in config.auth.modes:
            for key in ("issuer", "audience"):
                if not getattr(self, key):
                    yield f"{key}: is needed for mode jwt"
            if bool(self.jwks_file) == bool(self.jwks_url):
                yield "jwks_file: name either a file or jwt.jwks_url"
            for name in self.algorithms:
                if name not in _ALGORITHMS:
                    yield f"algorithms: {name} is not a signature that is checked with a public key"
        yield from _no_scopes(self.scopes)
        yield from _no_tenant(self.tenant, config)
        yield from _of_groups(self.groups, config)


_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
)


def _no_scopes(scopes: tuple[str, ...]) -> Iterator[str]:
    yield from (f"scopes: {scope!r} is no scope" for scope in scopes if scope not in IMPLIED)


def _no_tenant(name: str, config: Config) -> Iterator[str]:
    if config.tenant(name) is None:
        yield f"tenant: there is no tenant {name!r}"


class OidcConfig(Table, frozen=True, kw_only=True):
    """Signing in with an OpenID provider: code flow with PKCE (`oidc` mode)."""

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    redirect_url: str = ""
    """Where the provider sends people back: https://HOST/api/auth/oidc/callback."""
    tenant: str = DEFAULT_TENANT
    tenant_claim: str = ""
    subject_claim: str = "sub"
    scopes: tuple[str, ...] = ("chat",)
    groups_claim: str = "groups"
    """The claim that names groups, as a list, or one as a text; read if there are `groups`."""
    groups: dict[str, GroupConfig] = field(default_factory=dict)
    """What the members of each group get. With groups, a sign-in is confirmed every 15 minutes."""
    without_group: WithoutGroup = "refuse"
    """Who is in none of `groups`: is refused, or gets what is set in this table."""
    request_scopes: tuple[str, ...] = ("openid", "profile")
    """What the provider is asked for. Some give groups for `groups`, a refresh token for `offline_access`."""
    hours: float = 12
    """How long a sign-in lasts without use."""

    def contradictions(self, config: Config) -> Iterator[str]:
        if "oidc" in config.auth.modes:
            for key in ("issuer", "client_id", "redirect_url"):
                if not getattr(self, key):
                    yield f"{key}: is needed for mode oidc"
        if "openid" not in self.request_scopes:
            yield "request_scopes: openid is needed"
        yield from _no_scopes(self.scopes)
        yield from _no_tenant(self.tenant, config)
        yield from _of_groups(self.groups, config)


class ProxyConfig(Table, frozen=True, kw_only=True):
    """A proxy in front that has signed people in and says so in a header (`proxy` mode)."""

    peers: tuple[str, ...] = ()
    """Addresses or networks that the header is believed from."""
    user_header: str = "X-Forwarded-User"
    tenant_header: str = ""
    tenant: str = DEFAULT_TENANT
    scopes: tuple[str, ...] = ("chat",)
    groups_header: str = ""
    """The header that names groups, with commas between them; is needed if there are `groups`."""
    groups: dict[str, GroupConfig] = field(default_factory=dict)
    """What the members of each group get."""
    without_group: WithoutGroup = "refuse"
    """Who is in none of `groups`: is refused, or gets what is set in this table."""

    def contradictions(self, config: Config) -> Iterator[str]:
        if "proxy" in config.auth.modes and not self.peers:
            yield "peers: name the addresses that the header is believed from"
        if self.groups and not self.groups_header:
            yield "groups_header: name the header that says which groups a person is in"
        yield from _no_addresses("peers", self.peers)
        yield from _no_scopes(self.scopes)
        yield from _no_tenant(self.tenant, config)
        yield from _of_groups(self.groups, config)


class Quota(Budget, frozen=True, kw_only=True):
    """How much may be used; 0: no limit. Days are those of UTC."""

    sessions_live: int = 0
    """Sessions with a worker at the same time."""
    sessions_stored: int = 0
    turns_per_minute: int = 0
    concurrent_turns: int = 0
    messages_per_day: int = 0
    cpu_seconds_per_day: int = 0
    """Of workers; counted when a worker ends."""
    memory_gb_seconds_per_day: int = 0
    """Of workers: gigabytes times seconds; counted when a worker ends."""
    stored_bytes: int = 0


class SessionQuota(Quota, frozen=True, kw_only=True):
    """How much a session may use."""

    cost: float = 0
    """Dollars, of all its model calls together, whatever the day."""
    cost_most: float = 0
    """Up to here its own person may raise `cost` for one session (0: only operators raise it). If `cost` is
    no limit, a person may set one.
    """


class QuotasConfig(Table, frozen=True, kw_only=True):
    """What each may use who has no quota of his own."""

    tenant: Quota = Quota()
    key: Quota = Quota()
    subject: Quota = Quota()
    session: SessionQuota = SessionQuota()
    """Of a session: turns_per_minute, messages_per_day, stored_bytes, and a budget."""
    agent: Budget = Budget()
    """Of each agent, in all sessions together."""
    gateway: Budget = Budget()
    """Of everybody together."""
    unpriced: Literal["refuse", "allow"] = "refuse"
    """What becomes of calls under a budget in money if their model has no price."""
    soft_percent: int = 80
    """From this percentage on, the session shows how much is used."""

    def contradictions(self, config: Config) -> Iterator[str]:
        for scope, limits in _UNCOUNTED.items():
            for limit in limits:
                if getattr(getattr(self, scope), limit):
                    yield f"{scope}.{limit}: is not counted for a {scope}"


_UNCOUNTED: Final = {
    "key": ("sessions_stored", "stored_bytes"),
    "session": ("sessions_live", "sessions_stored", "concurrent_turns"),
}
"""A stored session belongs to a person, whichever key made it; a session has one answer at a time."""


class TenantConfig(Table, frozen=True, kw_only=True):
    """An organisation that shares this gateway."""

    title: str = ""
    is_disabled: bool = False
    agents: tuple[str, ...] = ()
    """The agents that its sessions may choose, the first by default; empty: all."""
    retention_days: float | None = None
    operators_see_content: bool = False
    """Whether operators of the gateway may read its sessions."""
    quota: Quota | None = None
    """Of all of it together."""
    subject_quota: Quota | None = None
    """Of each of its people."""
    limits: dict[str, int] = field(default_factory=dict)
    """Limits of its workers, by the names of `workers`; the stricter of these and the agent's hold."""
    credentials: tuple[str, ...] = ()
    """Credentials for its workers besides those of their agent, by name; for the same host, these hold."""
    keys: dict[str, str] = field(default_factory=dict)
    """Its keys for model providers: the provider's name, and a file that holds the key. A key that its
    administrators set over the interface holds instead.
    """
    hosts: tuple[str, ...] = ()
    """Hosts that its workers behind the broker may reach besides `egress.hosts` and those of their agent."""
    denied_hosts: tuple[str, ...] = ()
    """Hosts that none of its workers reaches, whatever another list says."""
    permissions: PermissionsConfig = PermissionsConfig()
    """Rules for its sessions' permission requests, beside those of everybody."""


_UNNAMED: Final = TenantConfig()
"""The tenant of who names none."""


class UsageConfig(Table, frozen=True, kw_only=True):
    """How long it is known what was used (docs/costs.md)."""

    call_days: int = 40
    """Each model call, and which session used how much."""
    sum_days: int = 400
    """Sums by day of people, agents, providers and models."""

    def contradictions(self, config: Config) -> Iterator[str]:
        if self.call_days < 32:  # a month's budgets are restored from it
            yield "call_days: 32 or more"
        if self.sum_days < self.call_days:
            yield "sum_days: not less than call_days"


class ApplicationsConfig(Table, frozen=True, kw_only=True):
    """Which applications run."""

    enabled: tuple[str, ...] | None = None
    """Their names; absent: those that come along. One that is switched off has no route, page, tool or agent.
    What it has stored stays, and is erased with its sessions and when its time is over.
    """


S = TypeVar("S", bound=Table)


class Config(Table, frozen=True, kw_only=True):
    """Everything."""

    server: ServerConfig = ServerConfig()
    cors: CorsConfig = CorsConfig()
    sessions: SessionsConfig = SessionsConfig()
    limits: LimitsConfig = LimitsConfig()
    model: ModelConfig = ModelConfig()
    workers: AtStart[WorkersConfig] = WorkersConfig()
    memory: MemoryConfig = MemoryConfig()
    cluster: AtStart[ClusterConfig] = ClusterConfig()
    egress: EgressConfig = EgressConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    auth: AtStart[AuthConfig] = AuthConfig()
    visitors: VisitorsConfig = VisitorsConfig()
    jwt: JwtConfig = JwtConfig()
    oidc: OidcConfig = OidcConfig()
    proxy: ProxyConfig = ProxyConfig()
    quotas: QuotasConfig = QuotasConfig()
    permissions: PermissionsConfig = PermissionsConfig()
    approvals: ApprovalsConfig = ApprovalsConfig()
    usage: UsageConfig = UsageConfig()
    files: FilesConfig = FilesConfig()
    page: PageConfig = PageConfig()
    webhook: WebhookConfig = WebhookConfig()
    applications: AtStart[ApplicationsConfig] = ApplicationsConfig()
    providers: dict[str, ProviderConfig] = field(default_factory=dict)
    credentials: dict[str, CredentialConfig] = field(default_factory=dict)
    workspaces: dict[str, WorkspaceConfig] = field(default_factory=dict)
    tenants: dict[str, TenantConfig] = field(default_factory=dict)
    agents: dict[str, AgentConfig] = field(default_factory=dict)
    default_agent: str = BUILT_IN
    data_dir: AtStart[str] = ""
    """Where sessions keep their files; empty: the user's data home."""
    store: AtStart[str] = ""
    """`sqlite:///FILE`, `postgresql://USER:PASSWORD@HOST/DATABASE` or `memory://`; empty: gateway.db in the
    data directory.
    """
    store_file: AtStart[str] = ""
    """A file that holds the URL, instead of `store`: its password is then in no configuration."""
    tables: dict[str, Table] = field(default_factory=dict)
    """The tables of applications, by their names in the file; one that is missing is all defaults."""

    def contradictions(self, config: Config) -> Iterator[str]:
        is_file = self.store.startswith(SQLITE_SCHEME) and bool(
            self.store.removeprefix(SQLITE_SCHEME).strip("/")
        )
        if self.store and not (self.is_in_memory or self.is_on_postgresql or is_file):
            scheme, separator, _ = self.store.partition(":")
            yield unknown_store(scheme if separator and scheme not in STORE_SCHEMES else "")

    @property
    def is_in_memory(self) -> bool:
        """True if everything that is stored is gone with its gateway."""
        return self.store in ("memory:", "memory://")

    @property
    def is_on_postgresql(self) -> bool:
        """True if what is stored is in a database of PostgreSQL's."""
        scheme, separator, rest = self.store.partition("://")
        return scheme in POSTGRESQL_SCHEMES and bool(separator and rest)

    @property
    def database_path(self) -> pathlib.Path:
        """The file of the SQLite store; where it would be, if another is used."""
        is_named = self.store.startswith(SQLITE_SCHEME)
        named = self.store.removeprefix(SQLITE_SCHEME) if is_named else ""
        return pathlib.Path("/" + named.lstrip("/")) if named else self.data_path / DATABASE_NAME

    def of(self, kind: type[S]) -> S:
        """The table of an application."""
        return next((table for table in self.tables.values() if isinstance(table, kind)), None) or kind()

    def named_network(self, agent: AgentConfig) -> Network | None:
        """The network that an agent's workers get by its own setting, else by that of all workers; None if
        neither names one (`gateway.config.networks`).
        """
        return agent.network or self.workers.network or None

    def has_network(self, agent: AgentConfig) -> bool:
        """Whether an agent's workers get any network; by itself, a command does."""
        named = self.named_network(agent)
        return bool(agent.argv) if named is None else named != "none"

    @property
    def every_provider(self) -> dict[str, ProviderConfig]:
        """The providers by name; `[model]` is the default one."""
        default = {DEFAULT_PROVIDER: self.model.as_provider} if self.model.is_configured else {}
        return default | self.providers

    @property
    def needs_broker(self) -> bool:
        """Whether an agent may get the network `broker`: by itself a command does, also after a reload."""
        return not self.workers.network or "broker" in (
            self.workers.network,
            *(agent.network for agent in self.agents.values()),
        )

    def tenant(self, name: str) -> TenantConfig | None:
        """The tenant of this name; None if there is none."""
        return self.tenants.get(name) or (_UNNAMED if name == DEFAULT_TENANT else None)

    @property
    def data_path(self) -> pathlib.Path:
        """The data directory."""
        if self.data_dir:
            return pathlib.Path(self.data_dir).expanduser().absolute()
        home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return pathlib.Path(home).expanduser() / "agent-gateway"


def unknown_store(scheme: str) -> str:
    """What to say of a store of no known kind; no more of its URL, which may hold a password."""
    known = " or ".join(dict.fromkeys(STORE_SCHEMES.values()))
    return f"store: no kind of store is called {scheme!r}: {known}" if scheme else f"store: {known}"


def builtin_argv() -> tuple[str, ...]:
    """The command of the built-in agent, run by this interpreter, isolated from the caller's PYTHON*
    variables.
    """
    return (sys.executable, "-I", "-m", "worker")
