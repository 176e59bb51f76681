"""Several gateways that share one PostgreSQL."""

from __future__ import annotations

import pathlib

from tests.nodes import running_nodes


async def test_a_node_serves_from_the_shared_store(tmp_path: pathlib.Path) -> None:
    async with running_nodes(tmp_path, 1) as nodes:
        await nodes.any.chat("a", "hi")
        async with nodes.connected() as connection:
            assert await connection.fetchval("SELECT count(*) FROM sessions") == 1
