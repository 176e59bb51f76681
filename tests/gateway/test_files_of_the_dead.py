"""What a gateway leaves of its sessions' files when it dies, or when nobody can remove it: contents that no
snapshot names are removed, and nothing else.
"""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import pytest

from gateway.files import snapshots
from tests.gateway.test_files_travel import ID, SHELL, Places, made
from tests.nodes import running_nodes
from tests.postgres import connected
from tests.shared import ask, eventually

KILL_WAITING = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def contents(shared: pathlib.Path) -> set[str]:
    return {path.name for path in shared.glob("*/blobs/*")}


def name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_what_was_put_there_before_a_gateway_was_killed_is_removed_by_the_next(
    tmp_path: pathlib.Path,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    environ = {"AGENT_GATEWAY_CLUSTER_FILES": shared.as_uri()}
    async with running_nodes(tmp_path, 2, agents={"shell": SHELL}, environ=environ) as nodes:
        body = {"session_id": ID, "agent": "shell"}
        assert (await ask(nodes[0].http, "POST", "/api/sessions", body)).status == 201
        await nodes[0].chat(ID, "printf one > a")

        async def is_kept() -> bool:
            async with nodes.connected() as connection:
                return bool(await connection.fetchval("SELECT count(*) FROM file_manifests"))

        await eventually(is_kept)
        async with nodes.connected() as connection, connection.transaction():
            await connection.execute("LOCK TABLE file_manifests IN EXCLUSIVE MODE")
            await nodes[0].chat(ID, "printf two > b")

            async def is_put() -> bool:
                return name(b"two") in contents(shared)

            await eventually(is_put)
            sent = {"session_id": ID, "message": "printf three > c; sleep 60"}
            assert (await ask(nodes[0].http, "POST", "/api/chat", sent)).status == 200
            await eventually(lambda: has_written(nodes.directory(0)))
            await nodes.kill(0)
            async with connected(nodes.database) as other:
                await other.fetch(KILL_WAITING)

        async def has_ended() -> bool:
            state = await nodes[1].state(ID)
            return "The gateway was restarted" in state["messages"][-1]["content"]

        await eventually(has_ended)
        state = await nodes[1].chat(ID, "echo *")
        assert state["messages"][-1]["content"].split() == ["a"]
        async with nodes[1].http.get(f"/api/sessions/{ID}/export?format=jsonl") as answer:
            assert "What the turn that was cut had changed in them is lost" in await answer.text()
        assert name(b"two") in contents(shared)
        await nodes.stop(1)
        assert contents(shared) == {name(b"one")}


async def has_written(directory: pathlib.Path) -> bool:
    return bool(list(directory.glob("data/sessions/*/work/c")))


async def test_what_was_kept_of_a_session_that_is_deleted_while_its_place_is_away_is_swept(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path, "file://{shared}")
    shared, away = tmp_path / "shared", tmp_path / "away"
    async with places.at("a") as gateway:
        await made(gateway)
        await gateway.chat(ID, "printf gone > a")
        await gateway.post("/api/sessions", {"session_id": "stays", "agent": "shell"}, status=201)
        await gateway.chat("stays", "printf stays > a")
        both = {name(b"gone"), name(b"stays")}

        async def are_kept() -> bool:
            return contents(shared) == both

        await eventually(are_kept)
        shared.rename(away)
        shared.touch()  # neither read nor removed
        assert (await ask(gateway.http, "DELETE", f"/api/sessions/{ID}")).status in (200, 204)
        shared.unlink()
        away.rename(shared)
        sweep: Any = gateway.inner.services.snapshots.sweep
        assert (await sweep(), await sweep(), contents(shared)) == (0, 0, both), "it may be in the making"
        monkeypatch.setattr(snapshots, "ABANDONED_SECONDS", 0)
        assert await sweep() == 1
        assert contents(shared) == {name(b"stays")}
        assert await sweep() == 0
