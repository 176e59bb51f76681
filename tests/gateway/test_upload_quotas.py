"""Uploads count in what a session, a person and an organisation store, in the audit log and in metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.inside import GatewayInside, gateway_inside
from tests.shared import Answer, ask

CONFIG: Final = "[quotas.subject]\nstored_bytes = 1_000_000\n[quotas.session]\nstored_bytes = 900_000\n"
PIECE: Final = 240_000


async def put(gateway: GatewayInside, session_id: str, path: str, data: Any) -> Answer:
    url = f"/api/sessions/{session_id}/files/content?path={path}"
    async with gateway.http.put(url, data=data) as response:
        return Answer(response.status, await response.json(), response.headers)


def held(gateway: GatewayInside) -> int:
    return gateway.inner.services.quotas.of_subject("default/local")[1].stored_bytes


async def stored(gateway: GatewayInside, session_id: str) -> int:
    record = await gateway.inner.services.store.sessions.find("default/local", session_id)
    assert record is not None
    return record.uploaded_bytes


def work(gateway: GatewayInside, session_id: str) -> pathlib.Path:
    session = gateway.inner.manager.get("default/local", session_id)
    assert session is not None
    return pathlib.Path(session.place.work)


async def test_uploads_count_while_they_arrive_and_for_as_long_as_they_are_there(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        for name in ("a", "b"):
            await gateway.post("/api/sessions", {"session_id": name}, status=201)
        uploads = (put(gateway, "ab"[n % 2], f"{n}.bin", b"x" * PIECE) for n in range(10))
        answers = await asyncio.gather(*uploads)
        assert sorted(answer.status for answer in answers) == [200] * 4 + [429] * 6
        refused = next(answer for answer in answers if answer.status == 429).body["error"]
        assert (refused["code"], refused["limit"]) == ("quota_exceeded", "subject.stored_bytes")
        assert 4 * PIECE < held(gateway) < 4 * PIECE + 10_000, held(gateway)

        async def unsaid() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b"x" * 100_000

        before = held(gateway)
        assert (await put(gateway, "a", "unsaid", unsaid())).status == 429
        assert held(gateway) == before
        assert not [path for path in work(gateway, "a").iterdir() if path.name not in kept(answers)]

        child = await ask(gateway.http, "POST", "/api/sessions/a/fork", {})
        assert (child.status, child.body["error"]["limit"]) == (429, "subject.stored_bytes")
        assert held(gateway) == before
        first = kept(answers)[0]
        owner = "ab"[int(first.split(".")[0]) % 2]
        assert (await put(gateway, owner, first, b"small")).status == 200
        assert held(gateway) == before - PIECE + 5
        assert (await put(gateway, owner, "more", b"x" * PIECE)).status == 200
        (work(gateway, owner) / "more").unlink()
        there = sum(path.stat().st_blocks * 512 for path in work(gateway, owner).rglob("*"))
        assert (await put(gateway, owner, "tiny", b"1")).status == 200
        assert await stored(gateway, owner) <= there + 20_000
        left = {name: await stored(gateway, name) for name in ("a", "b")}
        marks = {hashlib.sha256(name.encode()).hexdigest()[:16] for name in (*kept(answers), "more", "tiny")}
        lines = [json.loads(line) for line in (gateway.data_path / "audit.jsonl").read_text().splitlines()]
        said = [line for line in lines if line["action"] == "file.uploaded"]
        assert {line["detail"].split()[0] for line in said} == marks
        assert {line["detail"].split(" ", 1)[1] for line in said} == {f"{PIECE} bytes", "5 bytes", "1 bytes"}
        metrics = gateway.inner.services.metrics
        assert metrics.file_uploads._value.get() == len(said) == 7
        assert metrics.file_received_bytes._value.get() >= 5 * PIECE + 6
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        assert sum(left.values()) < held(gateway) < sum(left.values()) + 10_000  # counted from the store
        for name in ("a", "b"):
            await gateway.delete(name)
        assert held(gateway) == 0


async def test_a_fork_with_uploads_counts_them_again_and_a_session_has_a_quota(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        await gateway.post("/api/sessions", {"session_id": "a"}, status=201)
        assert (await put(gateway, "a", "x", b"x" * PIECE)).status == 200
        child = await gateway.post("/api/sessions/a/fork", {"session_id": "child"}, status=201)
        assert child["session"]["session_id"] == "child"
        assert (await stored(gateway, "a"), await stored(gateway, "child")) == (PIECE, PIECE)
        assert 2 * PIECE < held(gateway) < 2 * PIECE + 10_000
        await gateway.delete("child")
        assert held(gateway) < PIECE + 10_000
        refused = await put(gateway, "a", "y", b"x" * (900_000 - PIECE))
        assert (refused.status, refused.body["error"]["limit"]) == (429, "session.stored_bytes")


def kept(answers: list[Answer]) -> list[str]:
    """The paths that were stored."""
    return [answer.body["path"] for answer in answers if answer.status == 200]
