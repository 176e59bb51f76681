"""The tools of applications for one desktop client, over stdin and stdout (`agent-gateway mcp --stdio`).

It opens the store itself, whether or not a gateway runs: SQLite supports several processes, each operation is
one transaction, and a user who may open the file is the person at the machine. So it needs no credentials,
opens no port, and has the gateway's conversations. One process is one conversation; with `--session NAME` the
next process continues it.
"""

from __future__ import annotations

import asyncio

from gateway.api.mcp.conversation import CallOrigin, MalformedConversation, checked_id, mint
from gateway.api.mcp.server import serve_stdio
from gateway.app import migrations_of, open_alone
from gateway.config.tables import Config
from gateway.errors import GatewayError, StoreFailed
from gateway.maintenance.lock import is_held
from gateway.principal import LOCAL
from gateway.stores.sqlite.schema import is_current
from gateway.telemetry import terminal


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


def _check_version(config: Config) -> None:
    """Never migrates a file under a gateway that runs."""
    path = config.database_path
    if not is_held(config.data_path) or config.is_in_memory or not path.exists():
        return
    if not is_current(path, migrations_of(config)):
        raise StoreFailed(
            "The gateway that runs is of another version than this program: restart it, then try again."
        )
