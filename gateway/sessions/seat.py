"""Seat: a session's place for a worker: its state, what it took for the worker, and what is wished of it.

Guarantees: one writer of the state, by the table of `events.lifecycle`; what a turn takes to begin is given
back together, however it ends; a place is taken while a worker is in it; the greater wish prevails.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Final

from gateway.agents.peer import AgentPeer
from gateway.config.tables import SessionsConfig
from gateway.errors import BrokenInvariant
from gateway.events import facts as ev
from gateway.events.lifecycle import LIVE, CloseReason, SessionState, WorkerEnd, is_allowed
from gateway.principal import Account
from gateway.sessions.host import HostOwner, WorkerFailed, WorkerHost
from gateway.sessions.log import EventLog
from gateway.sessions.record import Record
from gateway.sessions.services import Services
from gateway.workers.spawner import Worker
from worker.spec import Receipt

_NOT_ITS_FAULT: Final = (
    *(WorkerEnd.INTERRUPT_TIMEOUT, WorkerEnd.KILLED, WorkerEnd.FORKSERVER_LOST, WorkerEnd.LEASE_LOST),
)
"""Ends of a worker that say nothing of the next one."""
COPY_SECONDS: Final = 300.0
"""How long a session's files may take to be copied, once its workspace is ready."""
_AT_ONCE: Final = (CloseReason.DELETED, CloseReason.PERSON_DISABLED, CloseReason.FENCED)
"""Ends of a session whose worker is given no time to leave by itself."""


class Wish(enum.IntEnum):
    """What is asked of a worker; the greater wish prevails."""

    STAY = 0
    PARK = 1
    """To end when nothing runs; its session stays."""
    KILL = 2
    """To end now, and the turn with it; its session stays."""
    CLOSE = 3
    """To end with its session, for the seat's `close_reason`."""


class Deadline:
    """The end of whatever is being waited for, which others may move."""

    def __init__(self) -> None:
        self._timeout: asyncio.Timeout | None = None

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raises TimeoutError when the time is up."""
        try:
            async with asyncio.timeout(seconds) as self._timeout:
                yield
        finally:
            self._timeout = None

    def move(self, seconds: float) -> None:
        """So many seconds from now, if anything is being waited for."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)


class Deaths:
    """When workers of a session died; too many lately are a crash loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._times: deque[float] = deque()

    def note(self) -> None:
        """Counts one death."""
        self._times.append(self._services.monotonic())

    def forgive(self) -> None:
        """Forgets them: an operator or the user wants another try."""
        self._times.clear()

    @property
    def are_a_loop(self) -> bool:
        """Whether another start is refused for now."""
        now, config = self._services.monotonic(), self._services.config.sessions
        kept_seconds = max(config.crash_window_seconds, config.crash_cooldown_seconds)
        while self._times and now - self._times[0] > kept_seconds:
            self._times.popleft()
        return len(self._times) >= config.crash_limit

    @property
    def words(self) -> str:
        """For the user."""
        seconds = self._services.config.sessions.crash_cooldown_seconds
        return f"The agent died {len(self._times)} times in a short while. Try again in {seconds:g} seconds."


def _no_turn() -> bool:
    return False


def _unheard(_position: int) -> None:
    """There is no one to tell."""


class Seat:
    """See the module."""

    def __init__(self, record: Record, log: EventLog, services: Services) -> None:
        self._record = record
        self._log = log
        self._services = services
        self.state = SessionState.PARKED
        self.wish = Wish.STAY
        self.close_reason: CloseReason | None = None
        self.host: WorkerHost | None = None
        self.deaths = Deaths(services)
        self.deadline = Deadline()
        self._killed: tuple[WorkerEnd, str] | None = None
        """Why the worker is to end now, and what its people read, if that was asked."""
        self._place = ExitStack()
        """Gives back what was taken for a worker."""
        self._payer: Account | None = None
        """Who pays for the place; None: none is taken."""
        self.has_turn: Callable[[], bool] = _no_turn
        """Whether a turn has begun."""
        self.on_moved: Callable[[int], None] = _unheard
        """Hears its place in the line for workers, whenever that has changed."""
        self._woken = asyncio.Event()

    @property
    def _config(self) -> SessionsConfig:
        return self._services.config.sessions

    @property
    def peer(self) -> AgentPeer | None:
        """The agent that runs; None without a worker."""
        return self.host.peer if self.host is not None else None

    @property
    def process(self) -> Worker | None:
        """The process of its agent; None without a worker."""
        return self.host.process if self.host is not None else None

    @property
    def is_live(self) -> bool:
        """Whether there is a worker."""
        return self.state in LIVE

    @property
    def is_closing(self) -> bool:
        """Whether the session is to end."""
        return self.wish is Wish.CLOSE

    @property
    def is_parking(self) -> bool:
        """Whether the worker is to end when nothing runs."""
        return self.wish is Wish.PARK

    @property
    def _is_idle(self) -> bool:
        return self.state is SessionState.IDLE and not self.has_turn()

    @property
    def may_park(self) -> bool:
        """Whether its worker is idle and can be stopped without loss: its conversation can be given back."""
        return self._is_idle and self.peer is not None and self.peer.can_come_back

    @property
    def is_frozen(self) -> bool:
        """Whether its worker stands still, with its memory."""
        return self.process is not None and self.process.freezer.is_frozen

    def freeze(self) -> bool:
        """Freezes its worker if it is idle; whether it is frozen then. What is next said to it thaws it."""
        worker = self.process
        may_freeze = self._is_idle and self.wish is Wish.STAY
        if worker is None or not may_freeze or not worker.freezer.freeze():
            return False
        asyncio.get_running_loop().run_in_executor(None, worker.freezer.reclaim)
        return True

    # -- as others see it who wait for a worker (`slots.SlotHolder`) --------------------------------------

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._record.tenant

    @property
    def idle_seconds(self) -> float:
        """Seconds since it was used."""
        return self._record.idle_seconds

    @property
    def may_give_way(self) -> bool:
        """True if its worker is idle and can be stopped without loss."""
        return self.may_park and self.wish is Wish.STAY

    @property
    def is_giving_way(self) -> bool:
        """True if its worker is about to be stopped."""
        return self._is_idle and self.wish is not Wish.STAY

    @property
    def start_bytes(self) -> int:
        """The memory that its worker will take."""
        agent = self._record.agent
        return self._services.memory.expected_bytes(agent.name, is_built_in=agent.is_built_in)

    @property
    def taken_bytes(self) -> int:
        """The memory that its worker has taken so far."""
        return self.process.charged_bytes() if self.process is not None else 0

    def settle(self) -> None:
        """Its worker has run a turn: what it takes is measured from now on, not guessed."""
        self._services.slots.settled(self)

    def on_place(self) -> None:
        """It has a place in which a worker may start."""
        self.wake()

    # ------------------------------------------------------------------------------------------------------

    def transition(self, to: SessionState, *, reason: str | None = None) -> None:
        """The one writer of the state: checks the table, appends the event."""
        if not is_allowed(self.state, to):
            raise BrokenInvariant(f"A session cannot go from {self.state} to {to}.")
        self.state = to
        self._log.append(ev.SessionStateChanged(to, reason=reason))

    # -- wishes -----------------------------------------------------------------------------------------

    def ask_to_park(self) -> None:
        """Asks for the worker's end, unless a turn came first."""
        self._ask(Wish.PARK)

    def ask_to_end(self, end: WorkerEnd, words: str) -> None:
        """Asks for the worker's end now, and that of the turn that runs; the first words count."""
        if self.host is not None and self._killed is None:
            self._killed = end, words
            self._ask(Wish.KILL)

    def ask_to_close(self, reason: CloseReason) -> None:
        """Asks for the session's end; the first reason counts."""
        if self.close_reason is None:
            self.close_reason = reason
            self._ask(Wish.CLOSE)

    def start_over(self) -> None:
        """Forgets the deaths of the past; an idle worker makes room for the next."""
        self.deaths.forgive()
        if self.wish is Wish.PARK:
            self.wish = Wish.STAY
        if self.state is SessionState.IDLE:
            self._ask(Wish.PARK)
        self.wake()

    def _ask(self, wish: Wish) -> None:
        self.wish = max(self.wish, wish)
        if wish >= Wish.KILL:
            self.deadline.move(0)
        self.wake()

    def wake(self) -> None:
        """Makes the session's life look again what there is to do."""
        self._woken.set()

    async def until_woken(self) -> None:
        """Waits for that."""
        await self._woken.wait()
        self._woken.clear()

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """A wait for the worker. Raises TimeoutError when the time is up, and at once if the worker was asked
        to end before the wait began.
        """
        if self.wish >= Wish.KILL:
            raise TimeoutError
        async with self.deadline.within(seconds):
            yield

    # -- the place for a worker -------------------------------------------------------------------------

    @contextlib.contextmanager
    def admission(self, account: Account) -> Iterator[ExitStack]:
        """Takes what a turn needs to begin: one of the account's answers, and a place for a worker, or for
        now one in the line, if the session has none. All is given back when the block ends, unless the block
        keeps it (`pop_all`).

        Raises PersonDisabled, WorkerLimit, QuotaExceeded.
        """
        self._services.people.check(self._record.kept.owner)
        with ExitStack() as taken:
            self._services.quotas.begin_turn(account)
            taken.callback(self._services.quotas.end_turn, account)
            self._take_place(account)
            taken.callback(self._leave_if_empty)
            yield taken

    def _take_place(self, account: Account) -> None:
        if self._payer is not None:
            return
        with ExitStack() as taken:
            self._services.quotas.take_live(account)
            taken.callback(self._services.quotas.give_live, account)
            self._services.slots.enter(self)
            taken.callback(self._services.slots.leave, self)
            self._place, self._payer = taken.pop_all(), account

    @property
    def has_place(self) -> bool:
        """Whether it has a place for a worker, or one in the line."""
        return self._payer is not None

    @property
    def start_position(self) -> int | None:
        """Its place in the line for workers; None if it does not wait for one."""
        return self._services.slots.position(self)

    @property
    def waits_for_memory(self) -> bool:
        """Whether it waits for a place because memory is short, not because all places are taken."""
        return self.is_in_line and self._services.slots.short_of == "memory"

    @property
    def is_in_line(self) -> bool:
        """Whether it waits for a place."""
        return self._services.slots.is_waiting(self)

    def press(self) -> None:
        """It is idle: if others wait for a place, somebody gives way, perhaps itself (`is_parking`)."""
        self._services.slots.press()

    def step_back(self) -> None:
        """Leaves its place to whoever waits, and waits behind them."""
        self._services.slots.leave(self)
        self._services.slots.enter(self, steps_back=True)

    def _leave_if_empty(self) -> None:
        """A place without a worker goes with the turn that took it; one with a worker, with the worker."""
        if not self.is_live and self.host is None:
            self.leave()

    def part(self) -> None:
        """Its session has ended: it and what it asked and told hold each other no longer."""
        self.has_turn, self.on_moved = _no_turn, _unheard

    def leave(self) -> None:
        """Gives the place back; nothing to do if there is none."""
        self._payer = None
        self._place.close()

    # -- a worker's life --------------------------------------------------------------------------------

    async def occupy(
        self, owner: HostOwner, serve: Callable[[WorkerHost, AgentPeer, ev.AgentStarted], Awaitable[None]]
    ) -> tuple[WorkerEnd, str | None]:
        """Brings a worker up and serves until the worker ends or is asked to; why it ended, and the words for
        the user if that was a failure. `stop` comes after it.
        """
        if not self.is_closing:
            self.wish = Wish.STAY
        self._killed = None
        self.transition(SessionState.STARTING)
        self.host = WorkerHost(owner, self._services.workers)
        try:
            is_elsewhere = not owner.files.are_here
            if is_elsewhere or owner.workspace.is_due or await owner.workspace.is_incomplete():
                await self._prepare(self.host, owner.workspace.wait_seconds)
            started = None if self.is_closing else await self._open(self.host)
            if started is not None and self.host.peer is not None:
                await serve(self.host, self.host.peer, started)
        except WorkerFailed as failure:
            if failure.is_death and failure.reason not in _NOT_ITS_FAULT:
                self.deaths.note()
            return failure.reason, failure.message
        return WorkerEnd.CLOSED if self.is_closing else WorkerEnd.PARKED, None

    async def _prepare(self, host: WorkerHost, wait_seconds: float) -> None:
        """Makes the session's files ready; nothing if the session is closing before they are. Raises
        WorkerFailed.
        """
        seconds = wait_seconds + COPY_SECONDS
        try:
            async with self.within(seconds):
                await host.prepare()
        except TimeoutError:
            if not self.is_closing:
                self.check_kill()
                words = f"The files of this session were not ready within {seconds:g} seconds."
                raise WorkerFailed(WorkerEnd.START_FAILED, words, is_death=False) from None

    async def _open(self, host: WorkerHost) -> ev.AgentStarted | None:
        """Brings the worker up; None if the session is closing before it is. Raises WorkerFailed."""
        seconds = self._config.start_timeout_seconds
        try:
            async with self.within(seconds):
                return await host.open()
        except TimeoutError:
            if self.is_closing:
                return None
            self.check_kill()
            raise host.start_failed(f"The agent did not start within {seconds:g} seconds.") from None

    def check_kill(self) -> None:
        """Raises WorkerFailed if the worker is to end now."""
        if self._killed is not None:
            raise WorkerFailed(*self._killed) from None

    def check_time(self, seconds: float) -> None:
        """The time of a turn, so many seconds, is up: raises WorkerFailed, unless the session is closing."""
        self.check_kill()
        if self.is_closing:
            return
        if self.state is SessionState.INTERRUPTING:
            words = "The agent did not stop when asked and was ended."
            raise WorkerFailed(WorkerEnd.INTERRUPT_TIMEOUT, words) from None
        words = (
            f"The agent did not finish within {seconds:g} seconds. "
            "The operator can give it more time: `turn_seconds` in the agent's limits."
        )
        raise WorkerFailed(WorkerEnd.TURN_TIMEOUT, words) from None

    async def stop(self) -> Receipt | None:
        """Ends the worker and meters what it used; its receipt, None if there is none."""
        host, self.host = self.host, None
        if host is None:
            return None
        is_quick = self._killed is not None or self.close_reason in _AT_ONCE
        grace = 0.0 if is_quick else self._config.stop_grace_seconds
        receipt, used = await host.stop(grace_seconds=grace)
        self._services.memory.note_size(self._record.agent.name, receipt.bytes_freed)
        payer = self._payer or self._record.account
        amounts = {
            "cpu_ms": round(used.cpu_seconds * 1000),
            "memory_mb_seconds": round(used.memory_mb_seconds),
        }
        self._services.quotas.meter(payer, **amounts)
        self._services.ledger.use(payer, **amounts, wall_ms=round(used.seconds * 1000))
        return receipt
