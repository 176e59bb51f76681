"""A new version takes the place of the one that runs, on one data directory: `serve --take-over`."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
import time

import aiohttp

from tests.gateways import RunningGateway, Scenario, running_gateway
from tests.patience import crowding, soon
from tests.shared import eventually
from tests.streams import open_stream, state_when

SAYINGS = 40
PAUSE_MS = 100
"""On a machine with nothing else to do: a turn is longer than a gateway takes to start."""
RUNNING = 6


def agents() -> dict[str, Scenario]:
    """One whose turn is longer than a gateway takes to start, and a quick one."""
    pause = {"sleep": round(PAUSE_MS * crowding())}
    sayings = [piece for number in range(SAYINGS) for piece in ({"say": f"{number} "}, pause)]
    return {
        "slow": {"turns": [sayings], "repeat": True},
        "long": {"turns": [[{"say": "first "}, {"sleep": round(6_000 * crowding())}, {"say": "last"}]]},
        "quick": {"turns": [[{"say": "said"}]], "repeat": True},
    }


CONFIG = "[applications]\nenabled = []\n"
WHOLE = "".join(f"{number} " for number in range(SAYINGS))
WAIT_SECONDS = 3.0
"""How long anybody may wait while the place is taken, on a machine with nothing else to do."""


class Follower:
    """Follows a session as a browser does: it connects again where it was."""

    def __init__(self, gateway: RunningGateway, session: str) -> None:
        self._gateway = gateway
        self._session = session
        self.seen: list[tuple[int, str]] = []
        self.connections = 0

    async def run(self, *, through: str) -> None:
        """Until an event of this type, over as many connections as it takes."""
        while not any(kind == through for _, kind in self.seen):
            after = str(self.seen[-1][0]) if self.seen else "0"
            self.connections += 1
            with contextlib.suppress(aiohttp.ClientPayloadError):  # a connection may be cut
                await self._follow(after, through)

    async def _follow(self, after: str, through: str) -> None:
        async with self._gateway.caller() as http, open_stream(http, self._session, after=after) as stream:
            while (frame := await stream.next()) is not None:
                if frame.id is not None:
                    self.seen.append((int(frame.id), frame.event))
                if frame.event == through:
                    return


async def test_turns_that_run_go_on_and_everything_else_moves(tmp_path: pathlib.Path) -> None:
    those = agents()
    async with running_gateway(tmp_path, config=CONFIG, agents=those) as old:
        await old.post("/api/sessions", {"session_id": "idle", "agent": "quick"}, status=201)
        await old.chat("idle", "hello")
        names = [f"busy-{number}" for number in range(RUNNING)]
        for name in names:
            await old.post("/api/sessions", {"session_id": name, "agent": "slow"}, status=201)
            await old.send(name, "go")
        followers = [Follower(old, name) for name in names]
        following = [asyncio.create_task(each.run(through="turn_ended")) for each in followers]
        waits: list[float] = []
        asking = asyncio.create_task(_ask(old, waits))
        async with running_gateway(tmp_path, "--take-over", config=CONFIG, agents=those) as new:
            assert new.url == old.url
            state = await new.chat("idle", "again")
            assert [message["content"] for message in state["messages"]] == ["hello", "said", "again", "said"]
            states = [await new.state(name) for name in names]
            assert all(state["is_processing"] for state in states), "they run where they are"
            await new.post("/api/sessions", {"session_id": "young", "agent": "quick"}, status=201)
            await new.chat("young", "hello")
            await soon(asyncio.gather(*following), 60)
            assert await soon(old.process.wait(), 20) == 0
            asking.cancel()
            for name, follower in zip(names, followers, strict=True):
                state = await new.state(name)
                assert state["messages"][-1]["content"] == WHOLE
                assert [seq for seq, _ in follower.seen] == sorted({seq for seq, _ in follower.seen})
            assert max(waits) <= WAIT_SECONDS * crowding(), max(waits)
            await new.chat(names[0], "go on")  # the successor's own now


async def _ask(gateway: RunningGateway, waits: list[float]) -> None:
    """Sends requests one after the other; how long each took."""
    number = 0
    async with gateway.caller() as http:
        while True:
            began, number = time.monotonic(), number + 1
            async with http.post(
                "/api/chat", json={"message": "hi", "session_id": f"new-{number % 5}"}
            ) as one:
                assert one.status == 200, await one.text()
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.05)


async def test_a_stream_of_a_session_that_moves_is_no_error(tmp_path: pathlib.Path) -> None:
    those = agents()
    async with running_gateway(tmp_path, config=CONFIG, agents=those) as old:
        await old.post("/api/sessions", {"session_id": "idle", "agent": "quick"}, status=201)
        await old.chat("idle", "hello")
        follower = Follower(old, "idle")
        following = asyncio.create_task(follower.run(through="session_deleted"))

        async def is_connected(times: int) -> bool:
            return follower.connections >= times and bool(follower.seen)

        await eventually(lambda: is_connected(1))
        async with running_gateway(tmp_path, "--take-over", config=CONFIG, agents=those) as new:
            assert await soon(old.process.wait(), 20) == 0
            await eventually(lambda: is_connected(2))
            following.cancel()
            assert " ERROR " not in new.log()


async def test_what_a_predecessor_leaves_that_is_killed_is_ended_in_words(tmp_path: pathlib.Path) -> None:
    those = agents()
    async with running_gateway(tmp_path, config=CONFIG, agents=those) as old:
        await old.post("/api/sessions", {"session_id": "busy", "agent": "long"}, status=201)
        await old.send("busy", "go")
        async with running_gateway(tmp_path, "--take-over", config=CONFIG, agents=those) as new:
            assert (await new.state("busy"))["is_processing"]
            await old.stop(signal.SIGKILL)
            state = await state_when(new.http, "busy", lambda state: not state["is_processing"])
            assert "restarted before the answer was complete" in state["messages"][-1]["content"]


async def test_nobody_to_take_over_from_is_an_ordinary_start(tmp_path: pathlib.Path) -> None:
    those = agents()
    async with running_gateway(tmp_path, "--take-over", config=CONFIG, agents=those) as gateway:
        await gateway.post("/api/sessions", {"session_id": "s", "agent": "quick"}, status=201)
        await gateway.chat("s", "hello")


async def test_a_successor_that_dies_gives_everything_back(tmp_path: pathlib.Path) -> None:
    those = agents()
    async with running_gateway(tmp_path, config=CONFIG, agents=those) as old:
        await old.post("/api/sessions", {"session_id": "busy", "agent": "long"}, status=201)
        await old.send("busy", "go")
        async with running_gateway(tmp_path, "--take-over", config=CONFIG, agents=those) as new:
            await new.post("/api/sessions", {"session_id": "young", "agent": "quick"}, status=201)
            await new.chat("young", "hello")
            await new.stop(signal.SIGKILL)

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                return bool(await old.state("young"))
            return False

        await eventually(answers)  # a moment passes until the predecessor has heard of it
        state = await old.state("young")
        assert [message["content"] for message in state["messages"]] == ["hello", "said"]
        await old.chat("young", "again")
        state = await state_when(old.http, "busy", lambda state: not state["is_processing"], seconds=60)
        assert state["messages"][-1]["content"] == "first last"
