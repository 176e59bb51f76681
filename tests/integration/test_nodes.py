"""Several gateways that share one PostgreSQL."""

from __future__ import annotations

import pathlib

from tests.nodes import running_nodes


async def test_a_node_serves_from_the_shared_store(tmp_path: pathlib.Path) -> None:
    async with running_nodes(tmp_path, 1) as nodes:
        await nodes.any.chat("a", "hi")
        async with nodes.connected() as connection:
            assert await connection.fetchval("SELECT count(*) FROM sessions") == 1


async def test_two_nodes_join(tmp_path: pathlib.Path) -> None:
    async with running_nodes(tmp_path, 2) as nodes:
        await nodes[0].chat("a", "/echo hi")
        print(await nodes.ask("GET", "/api/sessions"))
        from tests.shared import ask

        for i in (0, 1):
            print(
                i,
                await ask(
                    nodes[i].http, "POST", "/api/chat?wait=20", {"session_id": "a", "message": "/echo again"}
                ),
            )
            print(i, await ask(nodes[i].http, "GET", "/api/state?session_id=a"))
        await nodes.kill(0)
        import time

        began = time.monotonic()
        while True:
            a = await ask(
                nodes[1].http, "POST", "/api/chat?wait=20", {"session_id": "a", "message": "/echo third"}
            )
            print(time.monotonic() - began, a.status, a.body if a.status != 200 else "")
            if a.status == 200:
                break
            import asyncio

            await asyncio.sleep(0.3)
        print(nodes[1].log())
