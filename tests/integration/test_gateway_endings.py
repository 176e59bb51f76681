"""How a gateway ends: drained by SIGTERM, hurried by a second one, killed; and what the next one finds."""

from __future__ import annotations

import pathlib
import signal
import time

import psutil
import pytest

from tests.gateways import RunningGateway, running_gateway
from tests.patience import counting, soon
from tests.shared import crowding, eventually
from tests.streams import open_stream, state_when

FORTY = " ".join(map(str, range(1, 41)))


async def is_draining(gateway: RunningGateway) -> bool:
    async with gateway.http.get("/health", headers={"Accept": "application/json"}) as response:
        return bool((await response.json())["status"] == "draining")


async def exit_code(gateway: RunningGateway, *, seconds: float = 15) -> int:
    return await soon(gateway.process.wait(), seconds)


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run; a zombie is dead, and somebody else's to bury."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def all_dead(processes: list[psutil.Process]) -> bool:
    return not living(processes)


async def test_sigterm_lets_the_running_turn_finish_and_refuses_new_work(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.chat("idle", "/echo hi")
        async with (
            open_stream(gateway.http, "busy") as events,
            open_stream(gateway.http, "busy", view="state") as states,
            open_stream(gateway.http, "nobody") as nobody,
        ):
            await gateway.send("busy", counting(40, 1.6))
            await events.until_event("text_delta")
            workers = gateway.workers()
            gateway.process.send_signal(signal.SIGTERM)
            await eventually(lambda: is_draining(gateway))
            for path, body in (
                ("/api/chat", {"message": "/echo new", "session_id": "new"}),
                ("/api/chat", {"message": "/echo more", "session_id": "busy"}),
                ("/api/chat", {"message": "/echo none"}),
                ("/api/sessions", {"session_id": "made"}),
            ):
                async with gateway.http.post(path, json=body) as response:
                    assert response.status == 503
                    assert int(response.headers["Retry-After"]) > 0
                    assert (await response.json())["error"]["code"] == "draining"
            assert (await gateway.state("busy"))["is_processing"] is True
            frames = await events.to_end()
            shown = await states.to_end()
            await nobody.to_end()
        assert events.text == FORTY
        assert "turn_ended" in [frame.event for frame in frames]
        assert (frames[-1].data["state"], frames[-1].data["reason"]) == ("closed", "drained")
        assert shown[-1].data["messages"][-1]["content"] == FORTY
        assert await exit_code(gateway) == 0
        assert not living(workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_ends_at_once_with_its_streams_open(
    tmp_path: pathlib.Path, number: int
) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.chat("idle", "/echo hi")
        async with open_stream(gateway.http, "idle") as events, open_stream(gateway.http, "nobody") as other:
            began = time.monotonic()
            gateway.process.send_signal(number)
            await events.to_end()
            await other.to_end()
        assert await exit_code(gateway) == 0
        assert time.monotonic() - began < 5 * crowding()


async def test_a_turn_that_outlasts_the_grace_is_cut_with_words_and_found_again(
    tmp_path: pathlib.Path,
) -> None:
    config = "[server]\ndrain_seconds = 0.3\n[sessions]\nstop_grace_seconds = 0.2\n"
    agents = {"stubborn": "ignores_cancel"}
    async with running_gateway(tmp_path, config=config, agents=agents) as gateway:
        async with open_stream(gateway.http, "a") as events:
            await gateway.send("a", "go", agent="stubborn")
            await events.until_event("text_delta")
            gateway.process.send_signal(signal.SIGTERM)
            cut = await events.until_event("turn_interrupted")
            assert cut.data["message"] == "The session ended before the answer was complete."
            await events.to_end()
        assert await exit_code(gateway) == 0
    async with running_gateway(tmp_path, config=config, agents=agents) as gateway:
        state = await gateway.state("a")
        assert [message["content"] for message in state["messages"]] == [
            "go",
            "you cannot stop me",
            "The session ended before the answer was complete.",
        ]
        assert (state["is_processing"], gateway.workers()) == (False, [])


async def test_a_second_signal_ends_the_grace(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.send("a", "/count 1000 20")
        await state_when(gateway.http, "a", lambda state: bool(state["messages"][-1]["content"]))
        workers, began = gateway.workers(), time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_draining(gateway))
        gateway.process.send_signal(signal.SIGTERM)
        assert await exit_code(gateway) == 0
        assert time.monotonic() - began < 6 * crowding()
        assert not living(workers)


async def test_after_a_kill_no_worker_lives_and_the_next_gateway_goes_on(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.chat("a", "/echo before")
        async with open_stream(gateway.http, "a") as events:
            await gateway.send("a", "/count 1000 20")
            # Until the first of it are on disk.
            await events.until(lambda f: f.event == "text_delta" and " 30" in f.data["text"])
        workers, seq = gateway.workers(), max(int(f.id) for f in events.frames if f.id)
        gateway.process.kill()
        await exit_code(gateway)
        await eventually(lambda: all_dead(workers), seconds=1)
    began = time.monotonic()
    async with running_gateway(tmp_path) as gateway:
        assert time.monotonic() - began < 5 * crowding()
        state = await gateway.state("a")
        assert [message["content"] for message in state["messages"]][:3] == [
            "/echo before",
            "before",
            "/count 1000 20",
        ]
        state = await gateway.chat("a", "/echo after")
        assert "restarted" in state["messages"][4]["content"]
        assert state["messages"][-1]["content"] == "after"
        assert state["seq"] > seq
        async with open_stream(gateway.http, "a", after=seq) as events:
            await events.until(
                lambda f: (
                    (f.event == "text_delta" and f.data["text"] == "after")
                    or (f.event == "resync" and f.data["state"]["messages"] == state["messages"])
                )
            )
