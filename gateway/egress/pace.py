"""How much of the event loop's time and of the gateway's memory the doors of one worker may take.

Guarantees: a worker that floods its doors (connections, names, requests, bytes) is read more slowly, and
other sessions are not: what it sends waits in the kernel, at its own side; while others use their doors, it
has half as much, and saves up less; in one turn of the loop little of it is read, however much there is and
however rarely the loop has its turn; what is kept for readers that stand still is bounded for all connections
of a worker together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.2
"""Of one second. At a high rate this is about 120 MB a second, 500 connections or 3,000 look-ups."""
BURST_SECONDS: Final = 0.1
"""How far it may run ahead of its share: what comes at once does not feel it."""
CROWDED_SHARE: Final = 0.1
"""Of one second, while other workers use their doors."""
CROWDED_BURST_SECONDS: Final = 0.02
"""The same: a longer burst alone would be what the slowest hundredth of a neighbour's requests meets."""
CROWDED_SECONDS: Final = 0.25
"""A worker counts as using its doors for so long after it did."""
SLICE_SECONDS: Final = 0.15e-3
"""Of one turn of the loop; what is ready beyond it waits for another. A new connection of a neighbour waits
for five or six turns: at half a millisecond, three thousand look-ups a second added a fifth to its p99.
"""
TIMER_SECONDS: Final = 1e-3
"""The timers of the loop are no finer than that."""
REST_SECONDS: Final = 0.1
"""A worker is left out for no longer because the loop is late."""
CONNECTION_SECONDS: Final = 400e-6
"""What a connection costs besides its bytes: to accept it, to serve it and to close it."""
NAME_SECONDS: Final = 40e-6
"""What a look-up costs."""
READ_SECONDS: Final = 30e-6
"""What a read costs besides its handling: the loop's turn and the system calls."""
BYTE_SECONDS: Final = 1.5e-9
"""What a byte costs: it is copied in and out, and the kernel hands it on."""

HANDSHAKE_SECONDS: Final = 1.5e-3
"""What TLS costs that ends in the gateway: a handshake with the program, and one with the host."""
REQUEST_SECONDS: Final = 200e-6
"""What a request costs there besides its bytes: it is read, checked and sent on, and its answer back."""
TLS_BYTE_SECONDS: Final = 3e-9
"""What a byte costs there: it is decrypted, looked through and encrypted."""

TURN_BYTES: Final = 64 * 1024
"""After a read of that size others have their turn: uvloop reads a full socket 32 times in one go."""


UNSENT_BYTES: Final = 64 * 1024
"""Of one connection: above it, the writer at its other end is held up. One read more may be in hand."""
STALLED_BYTES: Final = 16 * 1024 * 1024
"""Of all connections of a worker that are held up so: one more is cut."""


class Crowd:
    """Who uses doors just now, of all workers of a gateway."""

    def __init__(self) -> None:
        self._last = 0
        self._last_at = self._other_at = float("-inf")

    def note(self, who: int, now: float) -> bool:
        """This one does; whether another one did a moment ago."""
        if who != self._last:
            self._last, self._other_at = who, self._last_at
        self._last_at = now
        return now - self._other_at < CROWDED_SECONDS


class LoopShare:
    """The time that one worker's doors have left, and those of its connections that wait for some."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, *, crowd: Crowd | None = None
    ) -> None:
        self._monotonic = monotonic
        self._crowd = crowd or Crowd()
        self._rate = SHARE
        self._left = BURST_SECONDS
        self._at = monotonic()
        self._slice = SLICE_SECONDS
        self._is_new_turn = True
        self._waiting: deque[Callable[[], None]] = deque()
        self._next: asyncio.Handle | None = None
        self._due = 0.0

    def spend(self, seconds: float) -> bool:
        """Uses up so much; whether to read on only in one's turn."""
        self._count(seconds)
        if self._is_new_turn:
            self._is_new_turn = False
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._slice -= seconds
        return self._left < 0 or self._slice < 0 or bool(self._waiting)

    def take_turn(self, act: Callable[[], None]) -> None:
        """Calls back when it is the turn of this one, of those that wait."""
        self._waiting.append(act)
        if self._next is None:
            self._plan(0.0)

    async def wait(self, seconds: float) -> None:
        """Uses up so much, and returns when there is time left."""
        if self.spend(seconds):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.take_turn(lambda: None if turn.done() else turn.set_result(None))
            await turn

    def is_crowded(self, now: float) -> bool:
        """Notes that the worker uses its doors; whether another one does, too."""
        return self._crowd.note(id(self), now)

    def close(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _count(self, seconds: float) -> None:
        now = self._monotonic()
        self._left += (now - self._at) * self._rate
        self._at = now
        is_crowded = self.is_crowded(now)
        self._rate = CROWDED_SHARE if is_crowded else SHARE
        self._left = min(CROWDED_BURST_SECONDS if is_crowded else BURST_SECONDS, self._left) - seconds

    def _begin_turn(self) -> None:
        """Others had theirs."""
        self._slice, self._is_new_turn = SLICE_SECONDS, True

    def _plan(self, seconds: float) -> None:
        loop, self._due = asyncio.get_running_loop(), self._monotonic() + seconds
        if seconds:
            self._next = loop.call_later(max(seconds, TIMER_SECONDS), self._let_one)
        else:
            self._next = loop.call_soon(self._let_one)

    def _let_one(self) -> None:
        """The first of those that wait goes on, if there is time left. If the loop is late, it or the machine
        has too much to do: then others have most of its turns.
        """
        late = max(0.0, self._monotonic() - self._due - 2 * TIMER_SECONDS)
        self._count(0)
        if self._left >= 0:
            self._waiting.popleft()()
        self._next = None
        if self._waiting:
            rest = min(REST_SECONDS, late * (1 / SHARE - 1))
            self._plan(max(0.0, -self._left / self._rate, rest))


class Tap:
    """Whether a transport is read. It is held for a reason, and read when no reason is left."""

    def __init__(self, share: LoopShare) -> None:
        self._share = share
        self._transport: asyncio.Transport | None = None
        self._reasons: set[str] = set()

    def attach(self, transport: asyncio.Transport) -> None:
        """This is the transport."""
        self._transport = transport
        if self._reasons:
            transport.pause_reading()

    def hold(self, why: str) -> None:
        """Reads nothing."""
        self._reasons.add(why)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def release(self, why: str) -> None:
        """Reads on, if it is not held for another reason."""
        self._reasons.discard(why)
        if not self._reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def passed(self, size: int) -> None:
        """So many bytes were read and handled: the next when it is its turn."""
        must_wait = self._share.spend(READ_SECONDS + size * BYTE_SECONDS) or size >= TURN_BYTES
        if must_wait and "turn" not in self._reasons:
            self.hold("turn")
            self._share.take_turn(self._release_turn)

    def _release_turn(self) -> None:
        self.release("turn")


class Stalled:
    """What is kept for those of a worker's connections whose readers are slow."""

    def __init__(self) -> None:
        self._bytes = 0

    def take(self, size: int) -> bool:
        """Keeps so much more; False if it is too much."""
        if self._bytes + size > STALLED_BYTES:
            return False
        self._bytes += size
        return True

    def give(self, size: int) -> None:
        """So much was sent, or is lost."""
        self._bytes -= size


class Drain:
    """What one transport has not sent yet, once that is too much."""

    def __init__(self, stalled: Stalled) -> None:
        self._stalled = stalled
        self._kept = 0

    def is_slow(self, transport: asyncio.Transport) -> None:
        """Its reader is: what is unsent counts from here on; past what a worker may have, it is cut."""
        size = transport.get_write_buffer_size()
        if self._stalled.take(size):
            self._kept += size
        else:
            transport.abort()

    def is_done(self) -> None:
        """Its reader has caught up, or is gone."""
        self._stalled.give(self._kept)
        self._kept = 0
