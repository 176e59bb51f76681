"""Spares: a new session takes a worker that has started before it; nobody else ever gets that worker."""

from __future__ import annotations

import os
import pathlib
import secrets
import signal

import psutil

from gateway.workers.pressure import MemoryRoom
from tests.gateways import add_to_agent
from tests.inside import GatewayInside, gateway_inside
from tests.shared import eventually

CONFIG = """
[workers]
spares = 1
[limits]
max_live_workers = 3
[tenants.small]
[tenants.small.limits]
processes = 5
"""


def spares(gateway: GatewayInside) -> list[int]:
    """The pids of free ones."""
    return [spare.worker.pid for spare in gateway.inner.sessions.spares._free.values()]


async def until(gateway: GatewayInside, count: int) -> int:
    """The pid of the last of so many free ones; 0 if there are to be none."""

    async def are_there() -> bool:
        return len(spares(gateway)) == count

    await eventually(are_there)
    return spares(gateway)[-1] if count else 0


def pid_of(gateway: GatewayInside, name: str) -> int:
    process = gateway.session(name).process
    assert process is not None
    return process.pid


def outcome(gateway: GatewayInside, name: str) -> float:
    return gateway.inner.services.metrics.spares.labels(name)._value.get()  # type: ignore[no-any-return]


async def test_a_new_session_takes_a_spare_and_another_takes_its_place(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        spaces = gateway.inner.services.workers.workspaces
        first = await until(gateway, 1)
        assert (await gateway.chat("a", "/echo one"))["messages"][-1]["content"] == "one"
        assert pid_of(gateway, "a") == first
        second = await until(gateway, 1)
        assert second != first
        assert (await gateway.chat("b", "/echo two"))["messages"][-1]["content"] == "two"
        assert pid_of(gateway, "b") == second
        one, two = (gateway.session(name) for name in ("a", "b"))
        assert one.record.key != two.record.key
        assert one.record.uid is None or one.record.uid != two.record.uid

        # what is not exactly a spare's is started as ever
        await until(gateway, 1)
        small = await gateway.inner.manager.get_or_create("small/one", "c")
        await (await small.chat("/echo three")).done
        assert outcome(gateway, "adopted") == 2
        assert await until(gateway, 0) == 0, "there is no place left for one"

        # a session that is woken has its own worker started
        await gateway.delete("b")
        spare = await until(gateway, 1)
        assert await one.park()
        assert (await gateway.chat("a", "/echo again"))["messages"][-1]["content"] == "again"
        assert pid_of(gateway, "a") != spare

        # one that dies is replaced, after a while, and leaves nothing
        await small.park()
        [dead] = gateway.inner.sessions.spares._free.values()
        os.kill(dead.worker.pid, signal.SIGKILL)
        gateway.inner.sessions.spares._wanted.set()

        async def has_gone() -> bool:
            has_uid = dead.uid in spaces._taken
            return not (spaces.path(dead.key).exists() or has_uid) and outcome(gateway, "died") == 1

        await eventually(has_gone)
        gateway.inner.sessions.spares._retry_at.clear()
        await until(gateway, 1)
        left = {path.name for path in (tmp_path / "data" / "sessions").iterdir()}
        [spare_now] = gateway.inner.sessions.spares._free.values()
        assert left == {one.record.key, small.record.key, spare_now.key}
        last = psutil.Process(spare_now.worker.pid)
    assert not last.is_running()
    assert not spaces.path(spare_now.key).exists()
    assert spaces.expected() == []


async def test_a_command_may_have_spares_until_its_configuration_changes(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents={"echoes": "echoes"}) as gateway:
        add_to_agent(tmp_path, "echoes", "spares = 1")
        gateway.inner.reload()
        old = psutil.Process(await until(gateway, 1))

        async def is_another() -> bool:
            return bool(spares(gateway)) and spares(gateway)[-1] != old.pid

        for changed in ("limits = { processes = 77 }", 'home_files = { ".rc" = "new" }'):
            add_to_agent(tmp_path, "echoes", changed)
            gateway.inner.reload()
            gateway.inner.sessions.spares._wanted.set()
            await eventually(is_another)
            assert not old.is_running()
            old = psutil.Process(spares(gateway)[-1])
        spare = spares(gateway)[-1]
        body = {"message": "hi", "session_id": "a", "agent": "echoes"}
        state = await gateway.post("/api/chat?wait=240", body)
        assert state["messages"][-1]["sender"] == "agent"
        assert pid_of(gateway, "a") == spare


async def test_a_session_that_starts_no_worker_keeps_no_spare(tmp_path: pathlib.Path) -> None:
    config = f"{CONFIG}[quotas.subject]\nturns_per_minute = 1\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        kept = gateway.inner.sessions.spares
        for number in range(4):
            spare = await until(gateway, 1)
            body = {"message": "for later", "session_id": f"s{number}"}
            await gateway.post("/api/system", body)
        assert spares(gateway) == [spare]

        # nor does one whose first message is refused
        await gateway.chat("a", "/echo one")
        await until(gateway, 1)
        await gateway.post("/api/chat", {"message": "/echo two", "session_id": "b"}, status=429)

        async def is_ended() -> bool:
            return not kept._promised and len(gateway.workers()) == 1 + len(spares(gateway))

        await eventually(is_ended)


SEARCH = "env; cat $HOME/* ./* 2>/dev/null; find /session $HOME . /tmp 2>/dev/null; true"
SEARCHER = {"turns": [[{"run": "$PROMPT"}, {"say": "."}]], "repeat": True}
GREETS = {
    "initialize": {"steps": [{"stderr": "greeted"}]},
    "new": {"steps": [{"stderr": "opened"}]},
    "turns": [[{"say": "hello"}]],
}


async def test_a_spare_knows_nothing_of_any_other_session(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents={"searcher": SEARCHER}) as gateway:
        add_to_agent(tmp_path, "searcher", "spares = 1")
        gateway.inner.reload()
        born = await until(gateway, 1)
        await gateway.post("/api/sessions", {"session_id": "a", "agent": "searcher"}, status=201)
        hidden = secrets.token_hex(8)
        await gateway.chat("a", f"echo {hidden} > $HOME/own.{hidden}; echo {hidden} > here.{hidden}")
        assert pid_of(gateway, "a") != born, "a session that was not spoken to when it was made has its own"
        body = {"message": SEARCH, "session_id": "b", "agent": "searcher"}
        state = await gateway.post("/api/chat?wait=240", body)
        assert pid_of(gateway, "b") == born
        found = state["messages"][-1]["content"]
        a, b = (gateway.session(name) for name in ("a", "b"))
        assert "HOME=" in found
        foreign = (hidden, a.record.key)
        assert [line for line in found.splitlines() if any(word in line for word in foreign)] == []
        assert b.record.uid is None or a.record.uid != b.record.uid


async def test_a_spare_is_greeted_before_there_is_a_session(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents={"greets": GREETS}) as gateway:
        add_to_agent(tmp_path, "greets", "spares = 1")
        gateway.inner.reload()
        await until(gateway, 1)
        [spare] = gateway.inner.sessions.spares._free.values()
        assert spare.worker.stderr_tail() == "greeted"
        body = {"message": "hi", "session_id": "a", "agent": "greets"}
        await gateway.post("/api/chat?wait=240", body)
        assert spare.worker.stderr_tail() == "greeted\nopened", "once, and by who adopted it"


async def test_while_memory_is_short_there_is_no_spare(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        memory = gateway.inner.services.memory
        await until(gateway, 1)
        memory._read = lambda: MemoryRoom(1_000, 10)
        await until(gateway, 0)
        memory._read = lambda: MemoryRoom(1_000, 900)
        await until(gateway, 1)
