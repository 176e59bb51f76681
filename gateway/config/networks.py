"""Which network an agent's workers get, and why. Pure.

Guarantees: a network that the configuration names is the one that holds; without one, a command is behind the
gateway (`broker`) if the walls of this machine hold that, unless it calls its model with a key of its own,
which it could not reach any more: it then shares the machine's network, and a line says how to change that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from gateway.config.known_agents import KNOWN_AGENTS, KnownAgent, started_by
from gateway.config.tables import AgentConfig, Config
from worker.spec import Network

SECRET: Final = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PAT)(_|$)|APIKEY")
"""Variables that look as if their value were a secret."""
_MODEL_PLACE: Final = re.compile(
    r"_(URL|API_BASE|ENDPOINT|PROXY)$|^(OPENAI|OLLAMA)_HOST$|^AWS_PROFILE$", re.I
)
"""Variables that say where an agent's model is, or how it gets there."""
_ARGUMENT: Final = re.compile(r"://|^--?(api-?)?(key|token)\b|[A-Z]_(KEY|TOKEN)=", re.I)
"""Words of a command that say the same, or hold a key."""


class AgentNetwork(Struct, frozen=True, kw_only=True):
    """The network of an agent's workers."""

    mode: Network
    why: Literal["named", "built_in", "usual", "own_key", "walls"]
    """`named`: the configuration says so. `built_in`: it needs none. `usual`: nothing is against the broker.
    `own_key`: the agent calls its model by itself. `walls`: they do not hold the broker here.
    """
    setting: str = ""
    """Which setting gives it a key of its own: `pass_env.OPENAI_API_KEY`."""
    is_unsaid: bool = False
    """Whether nothing in the configuration says how this agent reaches its model."""

    def advice(self, name: str) -> str:
        """What an operator should know of the network that an agent of this name got without being asked, and
        how to change it; empty if there is nothing to say.
        """
        if self.why == "usual" and self.is_unsaid:
            return (
                f"agent {name} is behind the gateway (network broker): it reaches only listed hosts. "
                f"If it calls a model or a server by itself, name that in agents.{name}.hosts, or set "
                f'agents.{name}.network = "shared"'
            )
        if self.why == "own_key":
            return (
                f"agent {name} shares this machine's network, because agents.{name}.{self.setting} lets it "
                f"call its model by itself. To move it behind the gateway, set agents.{name}.provider, which "
                "keeps the key out of it (docs/models.md), and take that setting away; "
                f'agents.{name}.network = "shared" keeps it as it is'
            )
        if self.why == "walls":
            return (
                f"agent {name} shares this machine's network, because the network `broker` is not held here. "
                "To move it behind the gateway, make strict walls possible (docs/isolation.md); "
                f'agents.{name}.network = "shared" keeps it as it is'
            )
        return ""


def network_of(
    config: Config, agent: AgentConfig, *, environ: Mapping[str, str], holds_broker: bool
) -> AgentNetwork:
    """The network of an agent. `environ` is the gateway's, `holds_broker` what its walls were found to do."""
    if (named := config.named_network(agent)) is not None:
        return AgentNetwork(mode=named, why="named")
    if not agent.argv:
        return AgentNetwork(mode="none", why="built_in")
    if setting := own_model(agent, environ):
        return AgentNetwork(mode="shared", why="own_key", setting=setting)
    if not holds_broker:
        return AgentNetwork(mode="shared", why="walls")
    return AgentNetwork(mode="broker", why="usual", is_unsaid=not (agent.provider or agent.hosts))


def own_model(agent: AgentConfig, environ: Mapping[str, str]) -> str:
    """The setting that lets an agent call its model without the gateway; empty if none does, or if it has a
    provider of the gateway's.
    """
    if agent.provider:
        return ""
    known = KNOWN_AGENTS.get(agent.preset) or started_by(agent.argv)
    return next(_own(agent, known, environ), "")


def _own(agent: AgentConfig, known: KnownAgent | None, environ: Mapping[str, str]) -> Iterator[str]:
    credentials = known.credentials if known is not None else ()
    given = {
        "pass_env": [name for name in agent.pass_env if environ.get(name)],
        "env": [name for name, value in agent.env.items() if value],
    }
    for setting, names in given.items():
        for name in names:
            if name in credentials or SECRET.search(name) or _MODEL_PLACE.search(name):
                yield f"{setting}.{name}"
    yield from (f"env_files.{name}" for name in agent.env_files)
    if any(_ARGUMENT.search(word) for word in agent.argv[1:]):
        yield "command"
    logins = {path.removeprefix("~/") for path in known.files} if known is not None else set()
    yield from (f'home_files."{path}"' for path in agent.home_files if path in logins)
