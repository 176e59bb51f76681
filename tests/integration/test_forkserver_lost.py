"""The fork server's own death, in the middle of a turn: said plainly, and the session goes on."""

from __future__ import annotations

import msgspec
import psutil

from gateway import orphans
from tests.gateways import RunningGateway
from tests.shared import eventually
from tests.streams import open_stream


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
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    state = await gateway.chat("a", "/echo after it")
    assert state["messages"][-1]["content"] == "after it"
    texts = [message["content"] for message in state["messages"]]
    assert texts[1].startswith("1"), "what had arrived is kept"
    noted = msgspec.json.decode((gateway.data_path / orphans.FILE_NAME).read_bytes(), type=orphans.Known)
    assert noted.pid == fork_server(gateway).pid, "the next gateway would sweep the new one"
