"""A large idle agent is frozen before it is parked: it takes no CPU time, goes on at once, dies as ever."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal

import psutil
import pytest

from gateway.sessions.session import Session
from gateway.workers import orphans
from gateway.workers.freezing import Freezer
from gateway.workers.memory import cpu_seconds
from gateway.workers.spawner import Worker
from tests.gateways import RunningGateway, add_to_agent, is_running
from tests.inside import GatewayInside, gateway_inside
from tests.scrapes import scrape
from tests.shared import eventually
from tests.walls import yard

PARK_SECONDS = 60
WARM_SECONDS = 600
CONFIG = f"[sessions]\npark_after_seconds = {PARK_SECONDS}\nstop_grace_seconds = 0.3\n"
SPINS = "while :; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; sleep 0.05; done"
BURNS = {
    "about": "Goes on using CPU time after its turn.",
    "load": {},
    "turns": [[{"spawn": ["/bin/sh", "-c", SPINS]}, {"say": "$PROMPT"}]],
    "repeat": True,
}


def session_of(gateway: GatewayInside, name: str) -> tuple[Session, Worker]:
    session = gateway.session(name)
    assert session.process is not None
    return session, session.process


async def answers(gateway: RunningGateway, name: str, text: str) -> None:
    body = {"message": text, "session_id": name, "agent": "burns"}
    state = await gateway.post("/api/chat?wait=240", body)
    assert state["messages"][-1]["content"] == text


async def frozen(gateway: GatewayInside, name: str) -> tuple[Session, Worker]:
    """The session after so long that its worker is frozen."""
    session, worker = session_of(gateway, name)
    if not worker.freezer._file:
        pytest.skip("NOT TESTED: no control group can be frozen here")
    gateway.clock.advance(PARK_SECONDS + 1)
    assert await gateway.inner.reaper.park() == 0
    assert session.is_frozen

    async def stands_still() -> bool:
        return pathlib.Path(worker.freezer._file).read_text().strip() in ("FROZEN", "1")

    await eventually(stands_still)
    return session, worker


def family(worker: Worker) -> list[psutil.Process]:
    first = psutil.Process(worker.pid)
    return [first, *first.children(recursive=True)]


async def all_gone(processes: list[psutil.Process]) -> None:
    async def are_gone() -> bool:
        return not any(map(is_running, processes))

    await eventually(are_gone)


async def test_an_idle_worker_is_frozen_thawed_and_in_the_end_parked(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG, agents={"burns": BURNS}) as gateway:
        add_to_agent(tmp_path, "burns", f"warm_seconds = {WARM_SECONDS}")
        gateway.inner.reload()
        await asyncio.gather(*(answers(gateway, name, "one") for name in "ab"))
        session, worker = await frozen(gateway, "a")
        before = cpu_seconds(worker.cpu_file, worker.pid)
        found = await scrape(gateway)
        assert found.value("workers_frozen", agent="burns") == 2
        assert found.value("freezes_total") == 2
        assert cpu_seconds(worker.cpu_file, worker.pid) - before < 0.01

        # the next turn thaws it: the same process, nothing was started
        await answers(gateway, "a", "two")
        assert (session.process, session.is_frozen) == (worker, False)

        # deleted while it is frozen
        _, doomed = session_of(gateway, "b")
        assert doomed.freezer.is_frozen
        processes = family(doomed)
        receipt = (await gateway.delete("b"))["receipt"]
        assert (receipt["survivors"], receipt["processes"] >= 2) == (0, True)
        await all_gone(processes)

        # short memory, or age, ends what is frozen
        await frozen(gateway, "a")
        assert session._seat.may_give_way
        gateway.clock.advance(WARM_SECONDS)
        processes = family(worker)
        assert await gateway.inner.reaper.park() == 1
        await all_gone(processes)

        # the fork server is lost while a worker is frozen, which the gateway thaws so that it can die
        await answers(gateway, "a", "three")
        _, worker = await frozen(gateway, "a")
        processes = family(worker)
        os.kill(gateway.inner.spawner.server_pid, signal.SIGKILL)
        await all_gone(processes)

        async def is_parked() -> bool:
            return session.state == "parked"

        await eventually(is_parked)

        # where nothing can be frozen it is parked as ever
        await answers(gateway, "a", "four")
        session_of(gateway, "a")[1].freezer = Freezer()
        gateway.clock.advance(PARK_SECONDS + 1)
        assert await gateway.inner.reaper.park() == 1


@pytest.mark.parametrize("is_server_killed", [False, True])
async def test_what_a_killed_gateway_left_frozen_is_ended(
    tmp_path: pathlib.Path, is_server_killed: bool
) -> None:
    """By its fork server, at once; if that was killed, too, by the next gateway."""
    async with yard("strict") as here:
        inmate = await here.spawn("/bin/sleep", "600", is_freezable=True)
        worker, server = inmate.worker, psutil.Process(here.spawner.server_pid)
        if not worker.freezer.freeze():
            await inmate.__aexit__()
            pytest.skip("NOT TESTED: no control group can be frozen here")
        processes = family(worker)
        worker.freezer = Freezer()  # the gateway is not there to thaw it
        counting = here.spawner.counting
        orphans.note(tmp_path, server.pid, counting.directories + counting.freezers)
        if is_server_killed:
            server.kill()
            await worker.exited
            assert any(map(is_running, processes))
            await asyncio.to_thread(orphans.sweep, tmp_path)
        else:
            assert here.spawner._link is not None
            here.spawner._link._let_go()
        await all_gone(processes)
        os.close(worker.stdin)
        os.close(worker.stdout)


def test_a_worker_swaps_only_while_it_is_frozen(tmp_path: pathlib.Path) -> None:
    """Also if it was thawed before the thread came to it."""
    for name, text in {"memory.swap.max": "0\n", "memory.current": "1000\n", "memory.reclaim": ""}.items():
        (tmp_path / name).write_text(text)
    freezer = Freezer(str(tmp_path / "cgroup.freeze"), str(tmp_path / "memory.events"))

    def swap() -> str:
        return (tmp_path / "memory.swap.max").read_text().strip()

    assert freezer.freeze()
    freezer.thaw()
    freezer.reclaim()
    assert swap() == "0"
    assert freezer.freeze()
    freezer.reclaim()
    freezer.reclaim()  # that of the first time, late
    assert (swap(), (tmp_path / "memory.reclaim").read_text()) == ("max", "1000\n")
    freezer.thaw()
    assert swap() == "0"
