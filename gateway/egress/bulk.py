"""Large transfers of joined connections, passed on by a thread beside the event loop.

While much passes on a connection, both its sockets are here, and its bytes go from one to the other within
the kernel (splice(2)). When less passes, the sockets go back to the loop.

Guarantees: the loop spends nothing on bytes that pass here but their count; a worker has so many bytes a
second, fewer while other workers use their doors, and its transfers take turns; a writer waits for its
reader, and of each direction no more than one piece is held; an end of input is passed on; the thread lives
while there are transfers, and only wakes if a socket is ready or a worker may go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.egress.pace import BYTE_SECONDS, SHARE, LoopShare
from gateway.telemetry.processor import give_way
from worker.spec import MIB

log = logging.getLogger(__name__)

BYTES_A_SECOND: Final = SHARE / BYTE_SECONDS
"""Of one worker: what the loop passes on in a worker's share of its time."""
CROWDED_BYTES_A_SECOND: Final = 80e6
"""The same, while other workers use their doors."""
TRANSFERS: Final = 32
"""Of one worker at a time: what they hold for readers that stand still is at most 16 MiB."""
PIECE_BYTES: Final = 256 * 1024
BURST_BYTES: Final = 512 * 1024
WAIT_SECONDS: Final = 0.002
"""A worker that has used up its bytes waits at least so long: the thread wakes less often."""
QUIET_SECONDS: Final = 1.0
"""A connection without a byte goes back to the loop after so long."""
HALF_CLOSED_SECONDS: Final = 60.0
"""When one end has said its last, the other may go on so long without a byte."""
REPORTED_BYTES: Final = 2 * MIB
"""What has passed is reported in pieces of that size, and at the end."""
NICE: Final = 3
"""nice(2). Workers are at 5 unless configured: they share what a flood leaves."""
_NO_PIPE: Final = (-1, -1)
_SPLICE: Final = 0x01 | 0x02
"""SPLICE_F_MOVE and SPLICE_F_NONBLOCK (splice(2))."""


class Lane:
    """The large transfers of one worker, and the bytes that they may pass on now. `refill` and `spend` are
    for the thread.
    """

    def __init__(self, bulk: Bulk, share: LoopShare, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.bulk = bulk
        self._share = share
        self._monotonic = monotonic
        self._left = float(BURST_BYTES)
        self._at = monotonic()
        self._rate = BYTES_A_SECOND
        self.transfers = 0
        """How many there are; for the loop."""
        self.waiting: deque[_Way] = deque()

    def refill(self) -> bool:
        """Whether some are left."""
        now = self._monotonic()
        self._left = min(BURST_BYTES, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left > 0

    def spend(self, size: int) -> None:
        """So many bytes pass."""
        self._left -= size
        is_crowded = self._share.is_crowded(self._monotonic())
        self._rate = CROWDED_BYTES_A_SECOND if is_crowded else BYTES_A_SECOND

    @property
    def has_room(self) -> bool:
        """Whether there may be one more."""
        return self.bulk.can_splice and self.transfers < TRANSFERS

    @property
    def wait_seconds(self) -> float:
        """Until some are left."""
        return max(WAIT_SECONDS, -self._left / self._rate)


class _Way:
    """One direction of a transfer: source, pipe, sink."""

    def __init__(self, transfer: Transfer, source: socket.socket, sink: socket.socket) -> None:
        self.transfer = transfer
        self.source, self.sink = source, sink
        self.held = self.passed = 0
        """Bytes in its pipe, and those that are through."""
        self.has_ended = self.is_waiting = False
        self._pipe = _NO_PIPE

    def fill(self) -> int:
        """Takes a piece of what has come; 0 at its end. Raises OSError."""
        if self._pipe is _NO_PIPE:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # past what a user may have in pipes, pieces are smaller
                fcntl.fcntl(self._pipe[1], fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        self.held = os.splice(self.source.fileno(), self._pipe[1], PIECE_BYTES, flags=_SPLICE)
        return self.held

    def drain(self) -> None:
        """Gives on as much as its reader takes. Raises OSError."""
        # No more than is held: the kernel would keep back the last segment, as if more were to come at once.
        size = os.splice(self._pipe[0], self.sink.fileno(), self.held, flags=_SPLICE)
        self.held -= size
        self.passed += size

    def end(self) -> None:
        """Passes on the end of input."""
        self.has_ended = True
        with contextlib.suppress(OSError):
            self.sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Loses what is held."""
        pipe, self._pipe = self._pipe, _NO_PIPE
        if pipe is not _NO_PIPE:
            os.close(pipe[0])
            os.close(pipe[1])


class Transfer:
    """Two sockets between which much passes. They belong to the thread until `ended` is done, with whether
    they go on in the loop; false: they are at their end.
    """

    def __init__(
        self, client: socket.socket, upstream: socket.socket, *, lane: Lane, on_passed: Callable[[], None]
    ) -> None:
        """`on_passed` is called in the loop when there is something to count."""
        self.lane = lane
        self.ways = (_Way(self, client, upstream), _Way(self, upstream, client))
        self.moved_at = time.monotonic()
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.is_aborted = self.is_settled = False
        self._loop = asyncio.get_running_loop()
        self._on_passed = on_passed
        self._reported = 0
        self._counted = [0, 0]

    def count(self) -> tuple[int, int]:
        """How many bytes were sent and received since this was asked, in the loop."""
        passed = [way.passed for way in self.ways]
        sent, received = (now - before for now, before in zip(passed, self._counted, strict=True))
        self._counted = passed
        return sent, received

    # -- in the thread ----------------------------------------------------------------------------------

    def note(self) -> None:
        """Something has passed."""
        self.moved_at = time.monotonic()
        passed = self.ways[0].passed + self.ways[1].passed
        if passed - self._reported >= REPORTED_BYTES:
            self._reported = passed
            self._call(self._on_passed)

    def settle(self, *, goes_on: bool) -> None:
        """The thread has let it go."""
        self.is_settled = True
        for way in self.ways:
            way.close()
        self._call(lambda: None if self.ended.done() else self.ended.set_result(goes_on))

    def _call(self, act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(act)

    def interest(self, one: socket.socket) -> int:
        """What is to be waited for on one of its sockets."""
        mask = 0
        for way in self.ways:
            if way.sink is one and way.held:
                mask |= select.EPOLLOUT
            elif way.source is one and not (way.held or way.has_ended or way.is_waiting):
                mask |= select.EPOLLIN
        return mask


class Bulk:
    """The transfers of all workers of a gateway, and their thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: deque[Transfer] = deque()
        """New ones, and aborted ones."""
        self._thread: _Thread | None = None
        self.can_splice = hasattr(os, "splice")

    async def run(self, transfer: Transfer) -> bool:
        """Until it goes on in the loop (true), or is at its end. If cancelled, it is at its end."""
        transfer.lane.transfers += 1
        try:
            self._order(transfer)
            return await asyncio.shield(transfer.ended)
        finally:
            self.abort(transfer)
            while not transfer.ended.done():  # its sockets are in use until then
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([transfer.ended])
            transfer.lane.transfers -= 1

    def abort(self, transfer: Transfer) -> None:
        """Ends it."""
        if not transfer.ended.done():
            transfer.is_aborted = True
            self._order(transfer)

    def _order(self, transfer: Transfer) -> None:
        with self._lock:
            self._orders.append(transfer)
            if self._thread is None:
                self._thread = _Thread(self)
                self._thread.start()
            else:
                self._thread.wake()

    # -- for the thread ---------------------------------------------------------------------------------

    def next_order(self) -> Transfer | None:
        """What was ordered, one after the other."""
        return self._orders.popleft() if self._orders else None

    def lost(self) -> None:
        """The thread ends by a fault; what was ordered meanwhile ends with it."""
        with self._lock:
            self._thread = None
            orders = list(self._orders)
            self._orders.clear()
        for transfer in orders:
            transfer.settle(goes_on=False)

    def may_end(self) -> bool:
        """Whether nothing was ordered; then the next order starts another thread."""
        with self._lock:
            if not self._orders:
                self._thread = None
            return not self._orders

    def cannot_splice(self) -> None:
        """This kernel does not."""
        self.can_splice = False


class _Thread:
    """What one thread does, from the first transfer to the last."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._masks: dict[int, int] = {}
        self._at: dict[int, tuple[Transfer, socket.socket]] = {}
        self._transfers: dict[Transfer, None] = {}
        self._short: dict[Lane, None] = {}
        """Those that have ways that wait."""
        self._looked_at = time.monotonic()

    def start(self) -> None:
        """Begins."""
        threading.Thread(target=self._run, name="door bulk", daemon=True).start()

    def wake(self) -> None:
        """There is an order; called with the lock of `Bulk`, so that the thread has not ended."""
        os.eventfd_write(self._waker, 1)

    def _run(self) -> None:
        give_way(NICE)
        try:
            self._go_round()
        except Exception:
            log.exception("the thread for large transfers failed")
            self._bulk.lost()
            for transfer in self._transfers:
                transfer.settle(goes_on=False)
        finally:
            self._epoll.close()
            os.close(self._waker)

    def _go_round(self) -> None:
        while True:
            self._obey()
            if not self._transfers and self._bulk.may_end():
                return
            self._let_go_on()
            for fd, _ in self._epoll.poll(self._patience()):
                if fd == self._waker:
                    os.eventfd_read(fd)
                elif fd in self._at:  # else it was let go a moment ago
                    self._serve(*self._at[fd])
            self._look_for_quiet()

    def _obey(self) -> None:
        while (transfer := self._bulk.next_order()) is not None:
            if transfer.is_settled:
                continue
            if transfer.is_aborted:
                self._let_go(transfer, goes_on=False)
            else:
                self._transfers[transfer] = None
                for way in transfer.ways:
                    self._step(way)

    def _patience(self) -> float:
        seconds = QUIET_SECONDS / 2
        return min((lane.wait_seconds for lane in self._short), default=seconds)

    def _let_go_on(self) -> None:
        """Those whose worker has bytes left again, one after the other."""
        for lane in list(self._short):
            while lane.waiting and lane.refill():
                way = lane.waiting.popleft()
                way.is_waiting = False
                if way.transfer in self._transfers:
                    self._step(way)
            if not lane.waiting:
                del self._short[lane]

    def _serve(self, transfer: Transfer, one: socket.socket) -> None:
        for way in transfer.ways:
            is_it = way.sink is one if way.held else way.source is one and not way.is_waiting
            if is_it and transfer in self._transfers:
                self._step(way)

    def _step(self, way: _Way) -> None:
        transfer = way.transfer
        try:
            self._move(way)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                self._bulk.cannot_splice()
                self._let_go(transfer, goes_on=not any(each.held or each.has_ended for each in transfer.ways))
            else:
                self._let_go(transfer, goes_on=False)
            return
        if all(each.has_ended for each in transfer.ways):
            self._let_go(transfer, goes_on=False)
        else:
            self._watch(transfer)

    def _move(self, way: _Way) -> None:
        """One piece. Raises OSError."""
        lane = way.transfer.lane
        if not way.held and not way.has_ended:
            if not lane.refill():
                way.is_waiting = True
                lane.waiting.append(way)
                self._short[lane] = None
                return
            if not way.fill():
                way.end()
            lane.spend(way.held)
        if way.held:
            way.drain()
            way.transfer.note()

    def _watch(self, transfer: Transfer) -> None:
        for one in (transfer.ways[0].source, transfer.ways[0].sink):
            self._set(transfer, one, transfer.interest(one))

    def _set(self, transfer: Transfer, one: socket.socket, mask: int) -> None:
        """A socket for which nothing is waited is not watched: its loss would wake the thread for ever."""
        fd = one.fileno()
        known = self._masks.get(fd, 0)
        if mask == known:
            return
        if not mask:
            self._epoll.unregister(fd)
            del self._masks[fd], self._at[fd]
            return
        if known:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._masks[fd], self._at[fd] = mask, (transfer, one)

    def _let_go(self, transfer: Transfer, *, goes_on: bool) -> None:
        for one in (transfer.ways[0].source, transfer.ways[0].sink):
            self._set(transfer, one, 0)
        self._transfers.pop(transfer, None)
        transfer.settle(goes_on=goes_on)

    def _look_for_quiet(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < QUIET_SECONDS / 2:
            return
        self._looked_at = now
        for transfer in list(self._transfers):
            quiet = now - transfer.moved_at
            if any(way.has_ended for way in transfer.ways):
                if quiet > HALF_CLOSED_SECONDS:
                    self._let_go(transfer, goes_on=False)
            elif quiet > QUIET_SECONDS and not any(way.held or way.is_waiting for way in transfer.ways):
                self._let_go(transfer, goes_on=True)
