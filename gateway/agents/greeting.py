"""Greeting: the part of ACP before an agent hears of any session, `initialize` and `authenticate`.

A session greets its agent when it starts it; a spare is greeted before there is a session. Nothing that is
said here depends on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.agents import help as agent_help
from gateway.agents.broker import Broker
from gateway.agents.catalogue import Agent
from gateway.agents.connection import AcpConnection, AgentError, Initialized, WireError
from gateway.agents.toolsets import Toolset
from gateway.config.tables import ModelConfig
from worker.acp import AUTH_REQUIRED


class Greeted(Struct, frozen=True):
    """An agent that has answered, and has no session."""

    connection: AcpConnection
    initialized: Initialized


def offer(agent: Agent, broker: Broker, model: ModelConfig, *, has_tools: bool) -> dict[str, Any]:
    """What this gateway offers its own agent beside ACP."""
    meta: dict[str, Any] = {}
    if not agent.is_built_in:
        return meta
    if broker.is_configured:
        meta["model"] = {"models": list(broker.models)}
        if model.images:
            meta["model"]["images"] = True
        if model.context_tokens:
            meta["model"]["contextTokens"] = model.context_tokens
    if has_tools:
        meta["tools"] = {"list": True, "call": True}
    return meta


def has_tools(agent: Agent, toolsets: Mapping[str, Toolset]) -> bool:
    """Whether its sessions get tools of the gateway's own."""
    return any(toolsets[name].describe() for name in agent.tools if name in toolsets)


async def greet(connection: AcpConnection, agent: Agent, meta: Mapping[str, Any]) -> Initialized:
    """Greets an agent, and authenticates by the method that its configuration names.

    Raises AgentError, AgentGone, WireError.
    """
    initialized = await connection.initialize(meta)
    if not agent.auth_method:
        return initialized
    methods = initialized.auth_methods or ()
    if methods and agent.auth_method not in [method.id for method in methods]:
        raise WireError(agent_help.no_such_method(agent, methods))
    try:
        await connection.authenticate(agent.auth_method)
    except AgentError as error:
        words = f"The agent could not authenticate by {agent.auth_method!r}: {error}"
        raise AgentError(msgspec.structs.replace(error.error, code=AUTH_REQUIRED, message=words)) from None
    return initialized
