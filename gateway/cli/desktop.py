"""The tools of applications for one desktop client, over stdin and stdout (`agent-gateway mcp --stdio`).

It opens the store itself, whether or not a gateway runs: SQLite and PostgreSQL support several processes,
each operation is one transaction, and a user who may open the file, or knows the password, is the person at
the machine. So it needs no credentials, opens no port, and has the gateway's conversations. One process is
one conversation; with `--session NAME` the next process continues it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gateway.agents.toolsets import Toolset, by_name
from gateway.api.mcp.conversation import CallOrigin, MalformedConversation, checked_id, mint
from gateway.api.mcp.server import serve_stdio
from gateway.config.applications import enabled, resolved
from gateway.config.tables import Config
from gateway.errors import GatewayError, StoreFailed
from gateway.events.facts import ApplicationFact
from gateway.extension import Context
from gateway.maintenance.lock import is_held
from gateway.principal import LOCAL, ConversationKey
from gateway.stores.opening import OpenTables, migrations_of, tables_beside
from gateway.stores.sqlite.schema import is_current
from gateway.telemetry import terminal
from gateway.telemetry.clocks import wall_ms


def run(config: Config, *, session: str | None) -> int:
    """Serves until stdin ends; the exit code."""
    try:
        conversation = mint() if session is None else checked_id("--session", session)
        asyncio.run(_serve(config, conversation))
    except MalformedConversation:
        terminal.complain("agent-gateway: --session: 1 to 256 visible characters")
        return 2
    except (GatewayError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1
    return 0


async def _serve(config: Config, conversation: str) -> None:
    config.data_path.mkdir(parents=True, exist_ok=True)
    _check_version(config)

    def said(_request: object) -> CallOrigin:
        return CallOrigin(principal=LOCAL, transport=conversation)

    store, toolsets = open_alone(config)
    await store.open()
    try:
        await serve_stdio(toolsets, said)
    finally:
        await store.close()


class _Nowhere:
    """The sessions of a program that has none in memory."""

    def note_aside(self, key: ConversationKey, fact: ApplicationFact) -> None:
        """There is no log to append it to."""


def open_alone(config: Config) -> tuple[OpenTables, list[Toolset]]:
    """The store, which is not opened yet, and the toolsets over it: for a program without sessions."""
    store = tables_beside(config)
    nothing: Any = None
    nowhere: Any = _Nowhere()
    context = Context(
        config=lambda: config, sessions=nowhere, tables=store.tables, gate=nothing, metrics=nothing,
        audit=nothing, monotonic=time.monotonic, wall_ms=wall_ms, health=nothing, readiness=nothing,
        notify=nothing, watching=nothing, others={},
    )  # fmt: skip
    with_tools = [one for one in enabled(config) if one.tools and not one.needs]
    faces = [resolved(one.open)(context) for one in with_tools]
    return store, list(by_name(toolset for one in faces for toolset in one.toolsets).values())


def _check_version(config: Config) -> None:
    """Never migrates a file under a gateway that runs."""
    path = config.database_path
    if not is_held(config.data_path) or config.is_in_memory or config.is_on_postgresql or not path.exists():
        return
    if not is_current(path, migrations_of(config)):
        raise StoreFailed(
            "The gateway that runs is of another version than this program: restart it, then try again."
        )
