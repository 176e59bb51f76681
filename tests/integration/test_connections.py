"""Connections: how many, from whom, readers that stand still, peers that vanish, and no file left to open."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import pathlib
import resource
import socket
import time
from collections.abc import AsyncIterator

import psutil
import pytest

from gateway.server.server import listen
from tests.gateways import RunningGateway, running_gateway
from tests.patience import within
from tests.raw import Raw, raw, request
from tests.shared import crowding, eventually, fresh_id
from tests.streams import open_stream

TCP_REPAIR = 19
"""From linux/tcp.h; closing a socket in this state tells the peer nothing."""
CPU_LIMIT = 0.6
FLOOD = 300
STREAM = "GET /api/chat/stream?session_id={}&view=events&after=0 HTTP/1.1"


async def assert_refused(connection: Raw) -> None:
    """Told at once, before it asks."""
    answer = await connection.last_answer()
    assert (answer.status, answer.error["code"]) == (503, "too_many_connections")
    assert int(answer.headers["retry-after"]) > 0


async def opened(stack: contextlib.AsyncExitStack, gateway: RunningGateway, count: int, source: str) -> None:
    """Connections that have been answered once, so they are known to be admitted."""
    for _ in range(count):
        connection = await stack.enter_async_context(raw(gateway, source=source))
        await connection.send(request())
        assert (await connection.answer()).status == 200


async def is_served(gateway: RunningGateway, source: str) -> bool:
    async with raw(gateway, source=source) as connection:
        await connection.send(request())
        return (await connection.answer()).status == 200


async def test_an_address_that_holds_too_many_hurts_only_itself(tmp_path: pathlib.Path) -> None:
    config = "[server]\nmax_connections_per_address = 10\nidle_connection_seconds = 60"
    async with running_gateway(tmp_path, config=config) as gateway, contextlib.AsyncExitStack() as stack:
        greedy, other = "127.0.0.2", "127.0.0.3"
        async with contextlib.AsyncExitStack() as held:
            await opened(held, gateway, 10, greedy)
            for _ in range(100):
                async with raw(gateway, source=greedy) as refused:
                    await assert_refused(refused)
            began = time.monotonic()
            await opened(stack, gateway, 10, other)
            assert time.monotonic() - began < 2 * crowding()
        await eventually(lambda: is_served(gateway, greedy))


async def test_all_together_are_limited_and_one_address_has_three_quarters_at_most(
    tmp_path: pathlib.Path,
) -> None:
    config = "[server]\nmax_connections = 20\nidle_connection_seconds = 60"
    async with running_gateway(tmp_path, config=config) as gateway, contextlib.AsyncExitStack() as stack:
        await gateway.http.close()
        await opened(stack, gateway, 15, "127.0.0.2")
        async with raw(gateway, source="127.0.0.2") as refused:
            await assert_refused(refused)
        await opened(stack, gateway, 5, "127.0.0.3")
        async with raw(gateway, source="127.0.0.4") as refused:
            await assert_refused(refused)


# -- readers -----------------------------------------------------------------------------------------------


def untaken(gateway: RunningGateway) -> list[int]:
    """Bytes in the kernel's send queue of each connection of the gateway."""
    port = f":{int(gateway.url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(port)]


@contextlib.asynccontextmanager
async def unread(gateway: RunningGateway, path: str) -> AsyncIterator[socket.socket]:
    """A connection that asked and has read nothing, with a small window, as a phone would have."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (host, int(port)))
        await loop.sock_sendall(sock, request(path))
        yield sock


async def test_a_reader_that_takes_nothing_is_cut_and_one_that_takes_little_is_not(
    tmp_path: pathlib.Path,
) -> None:
    session_id, seconds = fresh_id("slow"), 1.5
    config = f"[server]\nstalled_reader_seconds = {seconds}"
    async with running_gateway(tmp_path, config=config) as gateway:
        await gateway.chat(session_id, "/big 2000000")
        path = STREAM.format(session_id)
        async with unread(gateway, path) as slow:
            taken = b""
            export = f"GET /api/sessions/{session_id}/export HTTP/1.1"
            async with unread(gateway, path) as idle, unread(gateway, export) as idle_too:
                began = time.monotonic()
                while time.monotonic() - began < 4 * seconds:
                    await asyncio.sleep(0.1)  # the pace of this reader, not a wait
                    with contextlib.suppress(BlockingIOError):
                        taken += slow.recv(2000)
                for cut in (idle, idle_too):
                    assert cut.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
            loop = asyncio.get_running_loop()
            async with within(15):
                while b"turn_ended" not in taken[-4096:]:
                    chunk = await loop.sock_recv(slow, 65_536)
                    assert chunk, "the slow reader was cut"
                    taken += chunk
        assert taken.count(b"x") >= 2_000_000


async def test_what_a_stalled_reader_has_not_taken_is_bounded(tmp_path: pathlib.Path) -> None:
    session_id, readers = fresh_id("stalled"), 40
    async with running_gateway(tmp_path) as gateway, contextlib.AsyncExitStack() as stack:
        await gateway.chat(session_id, "/big 5000000")
        assert (await gateway.state(session_id))["messages"]
        process = psutil.Process(gateway.pid)
        for _ in range(3):  # what the first readers leave behind in the allocator is not theirs alone
            async with unread(gateway, f"GET /api/chat/stream?session_id={session_id} HTTP/1.1"):
                await eventually(lambda: _is_full(gateway, 1))
        before = process.memory_info().rss
        for _ in range(readers):
            path = f"GET /api/chat/stream?session_id={session_id} HTTP/1.1"
            await stack.enter_async_context(unread(gateway, path))
        await eventually(lambda: _is_full(gateway, readers))
        each = (process.memory_info().rss - before) / readers
        assert each + max(untaken(gateway)) < 256_000
        assert await gateway.count() == 1


async def _is_full(gateway: RunningGateway, readers: int) -> bool:
    """Whether so many send queues have something in them that nobody takes."""
    return sum(size > 32_768 for size in untaken(gateway)) >= readers


# -- peers that vanish -------------------------------------------------------------------------------------


async def test_a_peer_that_vanished_without_a_word_is_found(tmp_path: pathlib.Path) -> None:
    config = "[server]\nhalf_open_seconds = 4\nidle_connection_seconds = 60"
    async with running_gateway(tmp_path, config=config) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        peer = socket.create_connection((host, int(port)))
        name = peer.getsockname()
        try:
            peer.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            peer.close()
            pytest.skip("only root can make a peer vanish")
        await eventually(lambda: _is_held(gateway, name, is_held=True))
        began = time.monotonic()
        peer.close()
        await eventually(lambda: _is_held(gateway, name, is_held=False))
        assert 0.5 < time.monotonic() - began < 4.5 * crowding()


async def _is_held(gateway: RunningGateway, peer: tuple[str, int], *, is_held: bool) -> bool:
    """Whether the gateway has a connection to this peer, or has none."""
    return is_held == any(held.raddr == peer for held in psutil.Process(gateway.pid).net_connections())


@pytest.mark.parametrize("seconds", [4, 10, 60])
def test_every_connection_inherits_probes_that_find_a_vanished_peer_in_time(seconds: int) -> None:
    with listen("127.0.0.1", 0, half_open_seconds=seconds) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            idle, interval, count, unacknowledged = (
                accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names
            )
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert 0 < idle + interval * count <= seconds
    assert unacknowledged == seconds * 1000


# -- no file left ------------------------------------------------------------------------------------------


class _Load:
    """The share of a CPU that a process takes while the block runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def __enter__(self) -> _Load:
        self._at, self._used = time.monotonic(), sum(self._process.cpu_times()[:2])
        return self

    def __exit__(self, *_: object) -> None:
        self.share = (sum(self._process.cpu_times()[:2]) - self._used) / (time.monotonic() - self._at)


async def flooded(gateway: RunningGateway, stack: contextlib.AsyncExitStack) -> None:
    """Opens many connections and keeps those that the gateway keeps."""
    for _ in range(FLOOD):
        await stack.enter_async_context(raw(gateway, source="127.0.0.9"))


async def assert_session_starts(gateway: RunningGateway, *, seconds: float) -> None:
    """A new session gets its answer in time, on a new connection."""
    began = time.monotonic()

    async def answers() -> bool:
        with contextlib.suppress(AssertionError, OSError):
            state = await gateway.chat(fresh_id("after"), "/echo again", wait=5)
            return bool(state["messages"][-1]["content"] == "again")
        return False

    await eventually(answers, seconds=seconds)
    assert time.monotonic() - began < seconds * crowding()


async def test_a_flood_of_connections_leaves_files_for_sessions(tmp_path: pathlib.Path) -> None:
    prefix = ("sh", "-c", 'ulimit -n 256; exec "$0" "$@"')
    config = "[server]\nidle_connection_seconds = 60"
    async with running_gateway(tmp_path, config=config, prefix=prefix) as gateway:
        session_id = fresh_id("open")
        await gateway.chat(session_id, "/echo before")
        async with open_stream(gateway.http, session_id) as stream, contextlib.AsyncExitStack() as stack:
            await flooded(gateway, stack)
            with _Load(gateway.pid) as load:
                await gateway.send(session_id, "/count 40 50")
                await stream.until(lambda f: f.event == "turn_ended" and "40" in stream.text)
                await assert_session_starts(gateway, seconds=5)
            assert load.share < CPU_LIMIT
            assert psutil.Process(gateway.pid).num_fds() < 256
    assert "Traceback" not in gateway.log()


async def test_without_a_file_left_the_open_connections_go_on_and_it_recovers(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        session_id = fresh_id("open")
        await gateway.chat(session_id, "/echo before")
        process = psutil.Process(gateway.pid)
        _, hard = process.rlimit(resource.RLIMIT_NOFILE)
        async with open_stream(gateway.http, session_id) as stream, contextlib.AsyncExitStack() as stack:
            highest = max(int(entry.name) for entry in pathlib.Path(f"/proc/{gateway.pid}/fd").iterdir())
            process.rlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            await gateway.send(session_id, "/count 60 50")
            with _Load(gateway.pid) as load:
                await flooded(gateway, stack)
                await stream.until(lambda f: f.event == "turn_ended" and "60" in stream.text)
            assert load.share < CPU_LIMIT
            body = {"message": "/echo nobody can start", "session_id": fresh_id("starved")}
            async with gateway.http.post("/api/chat?wait=5", json=body) as response:
                assert response.status in (200, 503), await response.text()
            process.rlimit(resource.RLIMIT_NOFILE, (hard, hard))
            await assert_session_starts(gateway, seconds=5)
    assert "Traceback" not in gateway.log()
