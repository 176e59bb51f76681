"""The agents that sessions may choose, by name: the built-in one and those of the configuration."""

from __future__ import annotations

import logging
import os
import pathlib
from typing import Final

import msgspec
from msgspec import Struct

from gateway.agents import grants
from gateway.agents.options import OptionRules
from gateway.config.applications import own_agents
from gateway.config.known_agents import KNOWN_AGENTS, KnownAgent, started_by
from gateway.config.limits import chosen
from gateway.config.networks import AgentNetwork, network_of
from gateway.config.tables import BUILT_IN, AgentConfig, Config, builtin_argv
from gateway.errors import UnknownAgent
from worker.spec import Limits, Network, Sandbox

log = logging.getLogger(__name__)


_TITLE: Final = "Built-in agent"


class Agent(Struct, frozen=True, kw_only=True):
    """One agent and how it is run."""

    name: str
    title: str
    argv: tuple[str, ...]
    env: dict[str, str]
    is_built_in: bool
    sandbox: Sandbox = Sandbox()
    limits: Limits = Limits()
    tools: tuple[str, ...] = ()
    """Tools of the gateway's own that its sessions get."""
    auth_method: str = ""
    """The method of ACP's `authenticate` to ask it for; empty: it is not asked."""
    provider: str = ""
    """Whose models it calls through the gateway; empty: it has keys of its own, or none."""
    home_files: dict[str, str] = {}
    """Files written into HOME before it starts."""
    credentials: tuple[str, ...] = ()
    """Credentials for hosts that its connections get, by name."""
    options: OptionRules = OptionRules()
    """What the operator says of the options that it offers to people."""
    reads_toolchains: bool = True
    """Whether it may read the toolchains on its PATH."""
    known: KnownAgent | None = None
    """What is known of it beyond this configuration."""
    network: AgentNetwork = AgentNetwork(mode="none", why="built_in")
    """The network of its workers, and why."""
    spares: int = 0
    """How many of its workers are kept started for new sessions."""
    warm_seconds: float = 0
    """How long an idle worker is frozen before it is parked."""

    @property
    def search_path(self) -> str:
        """Where its programs are looked for."""
        return self.env.get("PATH") or os.environ.get("PATH") or os.defpath

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """Its variables over those of every worker; a command's own directory is on its PATH."""
        merged = base | self.env
        if self.is_built_in:
            return merged
        return merged | {"PATH": grants.with_own_directories(self.argv, merged.get("PATH", os.defpath))}

    def walls(self) -> Sandbox:
        """Its sandbox, with what its command needs to be read: looked up anew, as programs come and go."""
        if self.is_built_in:
            return self.sandbox
        needed = grants.of_command(self.argv, self.search_path)
        if self.reads_toolchains:
            found = grants.of_toolchains(self.search_path)
            needed += tuple(path for path in found if path not in needed)
        return msgspec.structs.replace(self.sandbox, readable=(*needed, *self.sandbox.readable))


class AgentCatalogue:
    """Name → agent."""

    def __init__(
        self, config: Config, *, before: AgentCatalogue | None = None, holds_broker: bool = False
    ) -> None:
        """`before`: the catalogue that this one replaces, whose agents its sessions keep. `holds_broker`:
        whether the network `broker` is held here, which is the usual one of commands then.
        """

        def network(agent: AgentConfig) -> AgentNetwork:
            return network_of(config, agent, environ=os.environ, holds_broker=holds_broker)

        self._default = config.default_agent
        self._retired: dict[str, Agent] = before.known if before is not None else {}
        self._agents = {
            BUILT_IN: Agent(
                name=BUILT_IN,
                title=_TITLE,
                argv=builtin_argv(),
                env={},
                is_built_in=True,
                sandbox=Sandbox(network=network(AgentConfig()).mode),
                limits=_limits(config, AgentConfig()),
                network=network(AgentConfig()),
                spares=config.workers.spares,
            )
        }
        own = own_agents(config)
        titles = {BUILT_IN: _TITLE} | {name: agent.title for name, agent in own.items()}
        self._unlisted = own.keys() - config.agents.keys()
        brought = {name: agent.config for name, agent in own.items()}
        for name, agent in (brought | config.agents).items():
            passed = {key: os.environ[key] for key in agent.pass_env if key in os.environ}
            env = passed | _secrets(name, agent.env_files) | agent.env
            self._agents[name] = Agent(
                name=name,
                title=agent.title or titles.get(name, name),
                argv=_placed(agent.argv) or builtin_argv(),
                env=env,
                is_built_in=not agent.argv,
                sandbox=Sandbox(
                    network=network(agent).mode,
                    readable=agent.readable,
                    writable=agent.writable,
                ),
                limits=_limits(config, agent),
                tools=agent.tools,
                auth_method=_auth_method(agent, env),
                provider=agent.provider,
                home_files=agent.home_files,
                credentials=agent.credentials,
                options=OptionRules(agent.options, frozenset(agent.locked_options), agent.withheld_options),
                reads_toolchains=agent.toolchains,
                known=KNOWN_AGENTS.get(agent.preset) or started_by(agent.argv),
                network=network(agent),
                spares=0 if agent.provider else agent.spares,
                warm_seconds=agent.warm_seconds,
            )

    @property
    def default(self) -> str:
        """The agent of a session that names none."""
        return self._default

    def get(self, name: str | None) -> Agent:
        """The agent of this name, the default one for None. Raises UnknownAgent, naming those there are."""
        agent = self._agents.get(name or self._default)
        if agent is None:
            known = ", ".join(self._agents)
            raise UnknownAgent(f"There is no agent {name!r}. There are: {known}.")
        return agent

    @property
    def known(self) -> dict[str, Agent]:
        """Those that may be chosen, and those that could be before a reload."""
        return self._retired | self._agents

    def find(self, name: str) -> Agent | None:
        """The agent of this name, which may be offered no longer; None if there is none."""
        return self._agents.get(name) or self._retired.get(name)

    def on_network(self, mode: Network) -> list[str]:
        """The names of those whose workers have this network."""
        return [name for name, agent in self.known.items() if agent.sandbox.network == mode]

    def advice(self) -> list[str]:
        """A line for each agent whose network nobody named, if its operator may expect another one."""
        found = [agent.network.advice(name) for name, agent in self._agents.items()]
        return [line for line in found if line]

    def log_networks(self) -> None:
        """Says so in the log."""
        for line in self.advice():
            log.warning("%s", line)

    def of(self, name: str) -> Agent:
        """The agent of a session that exists, which may be offered no longer. Raises UnknownAgent."""
        return self.find(name) or self.get(name)

    def is_built_in(self, name: str) -> bool:
        """Whether this is the name of an agent that runs the built-in one."""
        agent = self.find(name)
        return agent is not None and agent.is_built_in

    def all(self) -> list[Agent]:
        """Every agent that people may choose from a list."""
        return [agent for name, agent in self._agents.items() if name not in self._unlisted]


def _placed(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command with the absolute path of its program, if that was relative or below HOME: a worker has
    another directory and another HOME.
    """
    if not argv or "/" not in argv[0]:
        return argv
    return (os.path.abspath(os.path.expanduser(argv[0])), *argv[1:])


def _auth_method(agent: AgentConfig, env: dict[str, str]) -> str:
    """The one that is named; else that of a known agent, if its key is there to be taken."""
    known = KNOWN_AGENTS.get(agent.preset)
    if agent.auth_method or known is None:
        return agent.auth_method
    return known.auth_method if any(env.get(name) for name in known.credentials) else ""


def _secrets(name: str, files: dict[str, str]) -> dict[str, str]:
    """Variables from files; one that cannot be read any more is left out, loudly."""
    found = {}
    for variable, path in files.items():
        try:
            found[variable] = pathlib.Path(path).read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            log.error("agents.%s.env_files.%s cannot be read: %s", name, variable, error)
    return found


def _limits(config: Config, agent: AgentConfig) -> Limits:
    """The limits of a preset, over them those of `workers`, and over them an agent's own."""
    workers = msgspec.structs.asdict(config.workers)
    common = chosen(agent.limits_preset or config.workers.limits_preset, workers)
    return msgspec.structs.replace(common, **agent.limits)
