"""A new session is stored together with its first message, while its worker starts."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.errors import QueueFull, StoreFull
from gateway.stores.contract import Founding, SessionRecord
from gateway.stores.postgresql.sessions import PostgresqlSessions
from gateway.stores.sqlite.sessions import SqliteSessions
from tests.gateways import RunningGateway
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import open_stream

pytestmark = SHARED
gateway = shared_gateway("")


class Disk:
    """Lets new sessions be stored when it is told to, or refuses them."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answered = asyncio.Event()
        self.is_full = False
        self.foundings: list[Founding] = []

    def instead_of(self, create: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """What creates a session, in time."""

        async def created(sessions: object, record: SessionRecord, founding: Founding | None = None) -> None:
            assert founding is not None
            self.foundings.append(founding)
            self.asked.set()
            await self.answered.wait()
            if self.is_full:
                raise StoreFull(retry_after_seconds=5)
            await create(sessions, record, founding)

        return created


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    slow = Disk()
    for kind in (SqliteSessions, PostgresqlSessions):
        monkeypatch.setattr(kind, "create", slow.instead_of(kind.create))
    yield slow
    slow.answered.set()


async def say(gateway: RunningGateway, session_id: str, message: str = "/echo hi") -> tuple[int, Any]:
    body = {"message": message, "session_id": session_id}
    async with gateway.http.post("/api/chat?wait=240", json=body) as response:
        return response.status, await response.json()


def has_worker(gateway: GatewayInside, session_id: str) -> bool:
    session = gateway.inner.manager.get("default/local", session_id)
    return session is not None and session.process is not None


async def test_a_first_message_is_one_commit(gateway: GatewayInside, disk: Disk) -> None:
    disk.answered.set()
    name = fresh_id("one")
    status, state = await say(gateway, name)
    assert (status, state["messages"][-1]["content"]) == (200, "hi")
    [founding] = disk.foundings
    kinds = [event.type for event in founding.events]
    assert kinds[0] == "session_created"
    assert {"message", "turn_started"} <= set(kinds)
    assert founding.reserved_seq > founding.events[-1].seq


async def test_the_worker_starts_meanwhile_and_hears_nothing_before(
    gateway: GatewayInside, disk: Disk
) -> None:
    name = fresh_id("meanwhile")
    asked = asyncio.create_task(say(gateway, name))
    await disk.asked.wait()

    async def is_up() -> bool:
        session = gateway.inner.manager.get("default/local", name)
        return session is not None and str(session.state) == "idle"

    await eventually(is_up)
    assert not asked.done()
    assert (await gateway.state(name))["messages"] == [], "nothing is seen before it is stored"
    disk.answered.set()
    status, state = await asked
    assert (status, state["messages"][-1]["content"]) == (200, "hi")


async def test_what_cannot_be_stored_leaves_nothing(gateway: GatewayInside, disk: Disk) -> None:
    name, uids = fresh_id("full"), set(gateway.inner.services.workers.workspaces._taken)
    asked = asyncio.create_task(say(gateway, name))
    await disk.asked.wait()
    await eventually(lambda: _true(has_worker(gateway, name)))
    session = gateway.inner.manager.get("default/local", name)
    assert session is not None
    key, files = session.record.key, gateway.inner.services.workers.workspaces.path(session.record.key)
    assert files.is_dir()
    disk.is_full = True
    disk.answered.set()
    status, answer = await asked
    assert (status, answer["error"]["code"]) == (507, "store_full")
    await asyncio.wait([session.left], timeout=10)
    assert gateway.inner.manager.get("default/local", name) is None
    assert not files.exists()
    assert gateway.inner.services.workers.workspaces.expected() == []
    assert gateway.inner.services.workers.workspaces._taken == uids
    assert [worker for worker in gateway.inner.spawner.workers if worker.request.session_key == key] == []
    disk.is_full = False
    assert (await say(gateway, name))[0] == 200, "the next message begins it anew"


async def test_what_is_shown_of_a_session_that_is_not_stored_is_no_number_of_the_next(
    gateway: GatewayInside, disk: Disk
) -> None:
    name = fresh_id()
    disk.is_full = True
    async with open_stream(gateway.http, name) as stream:
        asked = asyncio.create_task(say(gateway, name))
        await stream.until_event("session_created")
        session = gateway.inner.manager.get("default/local", name)
        assert session is not None
        disk.answered.set()
        assert (await asked)[0] == 507
        await stream.until(lambda frame: frame.data.get("state") == "closed")
        seen = max(int(frame.id) for frame in stream.frames if frame.id)
    await asyncio.wait([session.left])
    disk.is_full = False
    assert (await say(gateway, name, "/echo kept"))[0] == 200
    async with open_stream(gateway.http, name, headers={"Last-Event-ID": str(seen)}) as stream:
        whole = await stream.until_event("resync")
    assert int(whole.id or 0) > seen
    assert "/echo kept" in str(whole.data)


async def test_a_turn_that_is_stopped_before_it_is_stored_ends_at_once(
    gateway: GatewayInside, disk: Disk
) -> None:
    name = fresh_id("stopped")
    asked = asyncio.create_task(say(gateway, name, "/count 100 50"))
    await disk.asked.wait()
    stopped = asyncio.create_task(gateway.post("/api/interrupt", {"session_id": name}))
    await asyncio.sleep(0)
    disk.answered.set()
    state = await stopped
    await asked
    assert state["is_processing"] is False
    assert state["messages"][-1]["content"] == "Interrupted by user"


async def test_a_session_is_stored_though_its_first_message_is_refused(gateway: GatewayInside) -> None:
    name = fresh_id("refused")

    async def refuses(_session: object) -> None:
        raise QueueFull(session_id=name)

    with pytest.raises(QueueFull):
        await gateway.inner.manager.do("default/local", name, refuses, founds=True)
    await eventually(lambda: _stored(gateway, name))
    await gateway.delete(name)


async def test_what_a_dead_gateway_began_and_did_not_store_is_erased(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as first:
        await first.chat("kept", "/echo kept")
        session = first.inner.manager.get("default/local", "kept")
        assert session is not None
        kept = session.record.key
        spaces = first.inner.services.workers.workspaces
    for key in (kept, "f" * 24):
        spaces.expect(key)
    lost = spaces.path("f" * 24)
    (lost / "home").mkdir(parents=True)
    async with gateway_inside(tmp_path) as second:
        assert not lost.exists()
        assert spaces.path(kept).is_dir()
        assert spaces.expected() == []
        assert (await second.chat("kept", "/echo still"))["messages"][-1]["content"] == "still"


async def _true(value: bool) -> bool:
    return value


async def _stored(gateway: GatewayInside, name: str) -> bool:
    return await gateway.inner.services.store.sessions.find("default/local", name) is not None
