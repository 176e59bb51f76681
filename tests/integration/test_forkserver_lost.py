"""The fork server's own death, or its standstill, in the middle of a turn: said plainly, and the session goes
on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

import msgspec
import psutil
import pytest

from gateway.workers import forks, orphans, walls
from gateway.workers.spawner import StartFailed
from tests.gateways import RunningGateway, is_running
from tests.patience import soon, within
from tests.shared import crowding, eventually
from tests.streams import open_stream
from tests.walls import Yard, yard


def fork_server(gateway: RunningGateway) -> psutil.Process:
    """The gateway's only child."""
    (server,) = psutil.Process(gateway.pid).children()
    return server


async def test_a_turn_is_cut_with_its_reason_and_the_next_message_is_answered(
    gateway: RunningGateway,
) -> None:
    server = fork_server(gateway)
    async with open_stream(gateway.http, "a") as stream:
        await gateway.post("/api/chat", {"message": "/count 500 20", "session_id": "a"})
        await stream.until_event("text_delta")
        workers = gateway.workers()
        server.kill()
        cut = (await stream.until_event("turn_interrupted", seconds=5)).data
        assert cut["reason"] == "forkserver_lost"
        assert cut["message"]

    async def is_back() -> bool:
        return [child.pid for child in psutil.Process(gateway.pid).children()] not in ([], [server.pid])

    await eventually(is_back)
    _, alive = psutil.wait_procs(workers, timeout=5 * crowding())
    assert not alive
    state = await gateway.chat("a", "/echo after it")
    assert state["messages"][-1]["content"] == "after it"
    texts = [message["content"] for message in state["messages"]]
    assert texts[1].startswith("1"), "what had arrived is kept"
    noted = msgspec.json.decode((gateway.data_path / orphans.FILE_NAME).read_bytes(), type=orphans.Known)
    assert noted.pid == fork_server(gateway).pid, "the next gateway would sweep the new one"


async def test_a_message_that_comes_while_it_is_lost_is_answered(gateway: RunningGateway) -> None:
    """Each waits for the next server, whether the gateway knows of the loss already or sends its order to the
    dead.
    """
    fork_server(gateway).kill()
    messages = (gateway.chat(f"lost-{number}", "/echo here") for number in range(4))
    for state in await asyncio.gather(*messages):
        assert [message["content"] for message in state["messages"]] == ["/echo here", "here"]


async def is_ready(gateway: RunningGateway) -> bool:
    async with gateway.http.get("/readyz") as response:
        assert response.status in (200, 503)
        check = (await response.json())["checks"]["forkserver"]
        assert check["is_well"] or "started again" in check["words"]
        return bool(check["is_well"])


async def test_one_that_stands_still_is_replaced_within_seconds_and_every_session_goes_on(
    gateway: RunningGateway,
) -> None:
    server = fork_server(gateway)
    await gateway.chat("idle", "/echo kept")
    await gateway.chat("deleted", "/echo x")
    family = [server, *server.children(recursive=True)]
    async with open_stream(gateway.http, "a") as stream:
        await gateway.post("/api/chat", {"message": "/count 5000 20", "session_id": "a"})
        await stream.until_event("text_delta")
        family += server.children(recursive=True)
        server.suspend()
        began = time.monotonic()
        deleting = asyncio.create_task(gateway.delete("deleted"))
        cut = (await stream.until_event("turn_interrupted", seconds=20)).data
        assert time.monotonic() - began < 12 * crowding(), (
            "five beats of a second, and some patience with a loaded machine"
        )
        assert cut["reason"] == "forkserver_lost"
        assert cut["message"]
    receipt = (await soon(deleting, 20))["receipt"]
    assert receipt["survivors"] == 0
    assert receipt["processes"] >= 1
    await eventually(lambda: is_ready(gateway))
    assert not [process for process in family if is_running(process)]
    assert "said nothing for" in gateway.log()
    for session_id, message in (("idle", "/echo again"), ("a", "/echo after it"), ("new", "/echo new")):
        state = await gateway.chat(session_id, message)
        assert state["messages"][-1]["content"] == message.removeprefix("/echo ")
    texts = [message["content"] for message in (await gateway.state("idle"))["messages"]]
    assert texts == ["/echo kept", "kept", "/echo again", "again"]


# -- what is no standstill -------------------------------------------------------------------------------


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "BEAT_SECONDS", 0.05)


def link_of(here: Yard) -> forks.ForkServerLink:
    assert here.spawner._link is not None
    return here.spawner._link


async def test_an_order_waits_for_the_next_server_and_is_given_once_more_if_it_went_down_with_the_old() -> (
    None
):
    async with yard("basic") as here:
        link = link_of(here)
        os.kill(link.pid, signal.SIGSTOP)
        sent = asyncio.create_task(here.spawn())
        await eventually(lambda: _is(bool(link.workers)))
        os.kill(link.pid, signal.SIGKILL)
        await link.lost
        waiting = asyncio.create_task(here.spawn())
        await asyncio.sleep(0)
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        async with await sent as one, await waiting as other:
            assert {one.worker.pid, other.worker.pid} == {worker.pid for worker in here.spawner.workers}


async def test_an_order_waits_so_long_and_not_at_all_while_starts_are_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with yard("basic") as here:
        link = link_of(here)
        os.kill(link.pid, signal.SIGKILL)
        await link.lost
        with monkeypatch.context() as short:
            short.setattr(walls, "RESTART_SECONDS", 0.1)
            with pytest.raises(StartFailed, match="could not be started again yet"):
                await here.spawn()
        here.spawner._deaths.extend([time.monotonic()] * walls.RESTARTS)
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        await eventually(lambda: _is(here.spawner._next_start > 0))
        async with within(walls.RESTART_SECONDS / 2):
            with pytest.raises(StartFailed, match="could not be started again yet"):
                await here.spawn()


@pytest.mark.usefixtures("quick_beats")
async def test_one_that_stood_still_for_less_is_kept() -> None:
    async with yard("strict") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        link, pid = link_of(here), here.spawner.server_pid
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: _is(link.is_silent))
        os.kill(pid, signal.SIGCONT)
        await eventually(lambda: _is(not link.is_silent))
        async with await here.spawn():
            assert here.spawner.server_pid == pid


@pytest.mark.usefixtures("quick_beats")
async def test_a_loop_that_stood_still_itself_blames_nobody() -> None:
    async with yard("strict") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        pid = here.spawner.server_pid
        for _ in range(forks.HUNG_BEATS + 2):
            time.sleep(0.2)  # noqa: ASYNC251 - four beats, in which nobody listens
            await asyncio.sleep(0)
        async with await here.spawn():
            assert here.spawner.server_pid == pid


@pytest.mark.usefixtures("quick_beats")
async def test_one_that_wants_to_run_gets_more_time_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with yard("strict") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        link, pid = link_of(here), here.spawner.server_pid
        monkeypatch.setattr(forks, "is_at_work", lambda _pid: True)
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: _is(link._unanswered > forks.HUNG_BEATS + 5))
        assert here.spawner.server_pid == pid
        await eventually(lambda: _is(here.spawner.server_pid not in (0, pid) and here.spawner.is_ready))


@pytest.mark.usefixtures("quick_beats")
async def test_one_that_stands_still_before_it_is_ready_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with yard("strict") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        pid = here.spawner.server_pid
        with monkeypatch.context() as planted:
            stops = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
            planted.setattr(forks, "_PROGRAM", stops)
            planted.setattr("gateway.workers.walls.READY_SECONDS", 0.2)
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: _is(here.spawner.server_pid not in (0, pid)))
        await eventually(lambda: _is(here.spawner.is_ready))


async def _is(value: bool) -> bool:
    return value
