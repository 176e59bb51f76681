"""Large transfers through a door, which a thread passes on beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from gateway.egress import bulk, tunnel
from gateway.egress.bulk import BURST_BYTES, BYTES_A_SECOND, CROWDED_BYTES_A_SECOND, Bulk, Lane
from gateway.egress.pace import Crowd, LoopShare, Stalled
from gateway.egress.tunnel import Splice
from tests.doors import Rules
from tests.patience import soon, within
from worker.spec import MIB

LARGE = os.urandom(MIB) * 6
LITTLE = 64 * 1024


@pytest.fixture(autouse=True)
def _soon_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "BULK_BYTES", LITTLE)
    monkeypatch.setattr(tunnel, "BULK_SECONDS", 60.0)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    files = set(os.listdir("/proc/self/fd"))
    yield
    assert not [one for one in threading.enumerate() if one.name == "door bulk"]
    assert len(os.listdir("/proc/self/fd")) <= len(files)


class Joined:
    """A client and a host whose connection is passed on."""

    def __init__(self, lane: Lane, rules: Rules) -> None:
        self.lane, self.rules = lane, rules
        self.client, ours = _pair()
        theirs, self.host = _pair()
        self.splice = Splice(rules, share=LoopShare(), stalled=Stalled(), lane=lane)
        self.ours, self._theirs = ours, theirs
        self.running = asyncio.create_task(self.splice.run(ours, theirs))

    async def send(self, data: bytes) -> None:
        """From the host to the client."""
        await asyncio.get_running_loop().sock_sendall(self.host, data)

    async def receive(self, size: int) -> bytes:
        """As much of it."""
        return await _read(self.client, size)

    async def become_large(self) -> None:
        """Passes on a little, until the thread has it."""
        await asyncio.gather(self.send(LARGE[: 2 * LITTLE]), self.receive(2 * LITTLE))
        await _until(lambda: self.lane.transfers > 0)

    def close(self) -> None:
        """All of its sockets."""
        for one in (self.client, self.host, self.ours, self._theirs):
            one.close()


@contextlib.asynccontextmanager
async def joined(*, lane: Lane | None = None, rules: Rules | None = None) -> AsyncIterator[Joined]:
    """Until the block is left."""
    one = Joined(lane or Lane(Bulk(), LoopShare()), rules or Rules())
    try:
        yield one
    finally:
        one.running.cancel()
        await asyncio.wait([one.running])
        one.close()
        await _until(lambda: not any(thread.name == "door bulk" for thread in threading.enumerate()))


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


async def _read(end: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    while len(data) < size and (more := await loop.sock_recv(end, size - len(data))):
        data += more
    return bytes(data)


def _nice_of_its_thread() -> int:
    thread = next(one for one in threading.enumerate() if one.name == "door bulk")
    assert thread.native_id is not None
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


async def _until(holds: Callable[[], bool]) -> None:
    async with within(10):
        while not holds():
            await asyncio.sleep(0.002)


async def test_much_passes_whole_both_ways_and_what_comes_after_a_pause_passes_through_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "QUIET_SECONDS", 0.05)
    async with joined() as here:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            await here.become_large()
            assert _nice_of_its_thread() == min(19, os.getpriority(os.PRIO_PROCESS, 0) + bulk.NICE)
            up = asyncio.create_task(loop.sock_sendall(here.client, LARGE[::-1]))
            _, down, heard = await soon(
                asyncio.gather(here.send(LARGE), here.receive(len(LARGE)), _read(here.host, len(LARGE))), 20
            )
            await up
            assert down == LARGE
            assert heard == LARGE[::-1]
            await _until(lambda: here.lane.transfers == 0)
            await loop.sock_sendall(here.client, b"and more")
            assert await soon(_read(here.host, 8), 5) == b"and more"
            assert here.lane.transfers == 0
    assert here.rules.received == 2 * (len(LARGE) + 2 * LITTLE)
    assert here.rules.sent == 2 * (len(LARGE) + len(b"and more"))


async def test_the_end_of_input_is_passed_on_and_the_other_way_goes_on_until_its_own() -> None:
    async with joined() as here:
        await here.become_large()
        here.client.shutdown(socket.SHUT_WR)
        assert await soon(_read(here.host, 1), 5) == b""
        sending = asyncio.create_task(here.send(LARGE))
        assert await soon(here.receive(len(LARGE)), 20) == LARGE
        await sending
        here.host.shutdown(socket.SHUT_WR)
        assert await soon(here.receive(1), 5) == b""
        await soon(here.running, 5)


async def test_a_writer_waits_for_its_reader_and_other_transfers_of_the_worker_do_not() -> None:
    lane = Lane(Bulk(), LoopShare())
    async with joined(lane=lane) as stalled, joined(lane=lane) as other:
        await stalled.become_large()
        await other.become_large()
        sending = asyncio.create_task(stalled.send(LARGE * 8))
        waiting = asyncio.create_task(other.send(LARGE))
        assert await soon(other.receive(len(LARGE)), 20) == LARGE
        await waiting
        assert not sending.done(), "nobody reads it, so most of it is still with its writer"
        assert await soon(stalled.receive(8 * len(LARGE)), 20) == LARGE * 8
        await sending


async def test_when_it_is_cancelled_or_one_end_is_lost_so_is_the_other() -> None:
    for is_lost in (False, True):
        async with joined() as here:
            await here.become_large()
            if is_lost:
                here.host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
                here.host.close()
                await soon(here.running, 5)
            else:
                here.running.cancel()
                await asyncio.wait([here.running])
            with contextlib.suppress(ConnectionError):
                assert await soon(here.receive(1), 5) == b""
            assert here.lane.transfers == 0


async def test_what_was_read_and_is_not_sent_yet_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads while it would become a large transfer."""
    monkeypatch.setattr(tunnel, "REPORTED_BYTES", 1)
    async with joined() as here:
        here.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        here.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sending = asyncio.create_task(here.send(LARGE))
        await _until(lambda: here.rules.received >= LITTLE)
        assert await soon(here.receive(len(LARGE)), 20) == LARGE
        await sending


async def test_past_what_its_session_may_transfer_it_is_cut() -> None:
    rules = Rules()
    rules.allowance = 4 * MIB
    async with joined(rules=rules) as here:
        await here.become_large()
        sending = asyncio.create_task(here.send(LARGE * 8))
        with contextlib.suppress(ConnectionError):
            await soon(here.receive(8 * len(LARGE)), 20)
        await soon(here.running, 5)
        assert here.splice.is_spent
        with contextlib.suppress(ConnectionError):
            await sending
        over = rules.received - rules.allowance
        assert over < bulk.REPORTED_BYTES + BURST_BYTES + 4 * MIB, "what was under way at that moment"


async def test_when_the_kernel_cannot_it_goes_on_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(22, "as a kernel that splices no sockets")

    monkeypatch.setattr(os, "splice", refuse)
    async with joined() as here:
        sending = asyncio.create_task(here.send(LARGE))
        assert await soon(here.receive(len(LARGE)), 20) == LARGE
        await sending
        assert not here.lane.bulk.can_splice
        assert not here.lane.has_room


async def test_a_worker_has_so_many_bytes_a_second_and_fewer_beside_others() -> None:
    now, crowd = 0.0, Crowd()
    lane = Lane(Bulk(), LoopShare(lambda: now, crowd=crowd), lambda: now)
    lane.spend(BURST_BYTES + int(BYTES_A_SECOND))
    assert not lane.refill()
    assert lane.wait_seconds == pytest.approx(1.0)
    now += 0.5
    assert not lane.refill()
    assert lane.wait_seconds == pytest.approx(0.5)
    LoopShare(lambda: now, crowd=crowd).is_crowded(now)
    lane.spend(int(CROWDED_BYTES_A_SECOND))
    assert lane.wait_seconds == pytest.approx(1.0 + BYTES_A_SECOND / 2 / CROWDED_BYTES_A_SECOND)
