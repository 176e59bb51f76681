"""What every part of a session stands on: its log and fold, what is known of it, how it says something.

`SessionCore` → `session_turns` → `session_verbs` → `session`: one state machine in four files, each of which
calls only what stands below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.agents.catalogue import Agent
from gateway.agents.peer import AgentPeer
from gateway.agents.spool import FileOverflow
from gateway.auth.quotas import Account
from gateway.config.tables import SessionsConfig
from gateway.errors import BrokenInvariant, GatewayError, SessionEnded
from gateway.events import facts as ev
from gateway.events.fold import Outside
from gateway.events.lifecycle import BUSY, LIVE, CloseReason, SessionState, WorkerEnd, is_allowed
from gateway.principal import tenant_of
from gateway.sessions.host import Deadline, Deaths, WorkerHost
from gateway.sessions.log import EventLog
from gateway.sessions.services import Services
from gateway.sessions.turns import Queue, Turn
from gateway.stores.contract import SessionRecord
from gateway.telemetry import logs
from gateway.workers.usage import Running
from worker.spec import Receipt

log = logging.getLogger(__name__)


MEGABYTE: Final = 1024 * 1024
KEPT_STATE_BYTES: Final = 256 * 1024
KEPT_STATE_SECONDS: Final = 2.0
"""A State longer than that is kept so long for the next who ask."""


class McpServer(msgspec.Struct, frozen=True):
    """An MCP server that somebody added to a session."""

    name: str
    url: str


class SessionCore:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, record: SessionRecord, services: Services) -> None:
        limits = services.config.limits
        self.record = record
        self._services = services
        self.fold = services.fold(record.session_id, overflow=FileOverflow(services.config.data_path))
        self.log = EventLog(
            record.key,
            store=services.store.logs,
            wall_ms=services.wall_ms,
            on_visible=self._on_visible,
            on_refused=self._on_refused,
            on_spoiled=self._on_spoiled,
            max_events=limits.events_per_session,
            max_bytes=limits.event_bytes_per_session,
            tally=services.metrics.events,
        )
        self.state = SessionState.PARKED
        self.close_reason: CloseReason | None = None
        self.receipt: Receipt | None = None
        self._failure: str | None = None
        """What its user reads if its own task failed."""
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it has left the map, and, where it was deleted, when it is erased."""
        self.last_used = services.monotonic()
        self._queue = Queue()
        self._turn: Turn | None = None
        self._host: WorkerHost | None = None
        self._deadline = Deadline()
        self._is_parking = False
        self._is_killed = False
        self._kill_end = (WorkerEnd.KILLED, "")
        """Why its worker is to end now, if it is, and what its people are told."""
        self.mcp_servers: dict[str, McpServer] = {}
        """MCP servers that its people added, by name; forgotten when it leaves the memory."""
        self._ids: logs.Ids = {}
        self._is_loaded = False
        self._wake = asyncio.Event()
        self._deaths = Deaths(services)
        self._said: list[str] = []
        self._slot: Account | None = None
        """Who pays for its worker; None: it has none."""
        self._size_bytes = 0
        self._counted_bytes = record.stored_bytes
        """How much of its size its owner's quota knows of."""
        self._context_tokens = 0
        self._ended_seq = 0
        """Up to here every turn has ended and waits to be compacted; 0: nothing waits."""
        self._state_json: tuple[int, Outside, bytes] | None = None
        self._turn_from = (0, 0)
        """The bytes of its log and the characters of its fold when the current turn began."""

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        return self.record.session_id

    @property
    def agent(self) -> Agent:
        return self._services.agents.of(self.record.agent)

    @property
    def _config(self) -> SessionsConfig:
        return self._services.config.sessions

    @property
    def account(self) -> Account:
        """Who pays for what it does by itself."""
        return Account(self.record.owner, self.record.key)

    @property
    def is_busy(self) -> bool:
        """Whether it must not be parked or reaped: a turn runs or waits to run, or a life ends."""
        return (
            self.state in BUSY or self._turn is not None or (len(self._queue) > 0 and not self._queue.is_held)
        )

    @property
    def is_live(self) -> bool:
        """Whether it has a worker."""
        return self.state in LIVE

    @property
    def is_ending(self) -> bool:
        return self.close_reason is not None

    @property
    def idle_seconds(self) -> float:
        """Seconds since a verb or a worker's report; streams and reads do not count."""
        return self._services.monotonic() - self.last_used

    @property
    def tenant(self) -> str:
        """Whose it is, of those who are told apart in figures."""
        return tenant_of(self.record.owner)

    @property
    def waiting_count(self) -> int:
        """How many messages wait for a turn."""
        return len(self._queue)

    @property
    def running(self) -> Running | None:
        """Its worker, for those who measure; None without one."""
        return self._host.running if self._host is not None else None

    def memory_bytes(self) -> int:
        """Resident memory of its worker's processes; 0 without one."""
        return self._host.memory_bytes() if self._host is not None else 0

    @property
    def outside(self) -> Outside:
        """What its State shows that its log does not say."""
        return self._services.outside(self.record.agent)

    def state_json(self) -> bytes | Iterator[bytes]:
        """State as JSON, encoded once however many ask; of a long conversation part by part."""
        outside = self.outside
        if self.fold.is_long:
            return self.fold.state_parts(outside)
        known = self._state_json
        if known is None or known[0] != self.fold.seq or known[1] != outside:
            known = self._state_json = (self.fold.seq, outside, self.fold.state_json(outside))
            if len(known[2]) > KEPT_STATE_BYTES:
                asyncio.get_running_loop().call_later(KEPT_STATE_SECONDS, self._forget_state, known)
        return known[2]

    def _forget_state(self, known: tuple[int, Outside, bytes]) -> None:
        if self._state_json is known:
            self._state_json = None

    def has_message(self, message_id: str) -> bool:
        """Whether a user's message of this id is in the conversation, or on its way into it."""
        turn = self._turn
        is_next = turn is not None and turn.message_id == message_id
        return is_next or self.fold.has_message(message_id) or self._queue.has(message_id)

    # -- its record -----------------------------------------------------------------------------------------

    def move(self, owner: str, session_id: str) -> None:
        """It belongs to somebody else from now on, under this id."""
        self.record = msgspec.structs.replace(self.record, owner=owner, session_id=session_id)
        self.fold.session_id = session_id
        self._state_json = None

    def fresh_record(self) -> SessionRecord:
        """The record as it is now, which the store hears of at the end of a turn."""
        used_at = self._services.wall_ms() - round(self.idle_seconds * 1000)
        record = self._services.dated(self.record, used_at=used_at)
        return msgspec.structs.replace(
            record,
            title=self.fold.title,
            message_count=len(self.fold.messages),
            stored_bytes=self._size_bytes,
        )

    # -- asking ---------------------------------------------------------------------------------------------

    def may_reap(self, *, after_seconds: float) -> bool:
        """Whether it has been without use for so long, and nothing runs or waits to run."""
        is_at_rest = not self.is_busy and not self.is_ending and self.log.is_settled
        return is_at_rest and self.idle_seconds >= after_seconds

    def may_park(self) -> bool:
        """Whether its worker can be stopped without loss: nothing runs, and its conversation can be given
        back.
        """
        peer = self._peer
        return (
            self.state is SessionState.IDLE and self._turn is None and peer is not None and peer.can_come_back
        )

    @property
    def is_full(self) -> bool:
        """Whether its conversation may not grow."""
        limits, fold = self._services.config.limits, self.fold
        return (
            fold.held_bytes > limits.session_memory_bytes or fold.characters > limits.conversation_characters
        )

    def full_words(self) -> str:
        """For a conversation that may not grow."""
        limits, characters = self._services.config.limits, self.fold.characters
        is_text = characters > limits.conversation_characters
        limit = limits.conversation_characters if is_text else limits.session_memory_bytes
        return f"This conversation has reached the {limit / MEGABYTE:.3g} MB that it may be; start a new one."

    def ask_to_park(self) -> None:
        """Asks it to let its worker go; it does so unless a turn came first."""
        self._is_parking = True
        self._wake.set()

    def ask_to_close(self, reason: CloseReason) -> None:
        """Asks it to end. The first reason stands."""
        if self.close_reason is None:
            self.close_reason = reason
            self._deadline.move(0)
            self._wake.set()

    # -- saying ---------------------------------------------------------------------------------------------

    @property
    def _peer(self) -> AgentPeer | None:
        return self._host.peer if self._host is not None else None

    def _use(self) -> None:
        """A verb begins: the idle clock starts anew. Raises SessionEnded where it is too late."""
        if self.is_ending:
            raise SessionEnded(session_id=self.session_id)
        self.last_used = self._services.monotonic()

    async def _say(self, *events: ev.EventData) -> None:
        """Appends what a verb says and waits until it is committed; nothing of it stands where it is
        refused.
        """
        seq = self.log.append(*events, durable=True, rejectable=True)
        await self.log.commit(seq)

    async def _tell_agent(self, text: str, *events: ev.EventData) -> None:
        """Says something that the agent hears with its next prompt, unless the store refuses it."""
        self._said.append(text)
        try:
            await self._say(*events)
        except GatewayError:
            with contextlib.suppress(ValueError):
                self._said.remove(text)
            raise

    async def _keep(self) -> None:
        """Brings the record up to date; where the store cannot write, the next time does it."""
        self.record = self.fresh_record()
        self._services.quotas.add_bytes(self.record.owner, self._size_bytes - self._counted_bytes)
        self._counted_bytes = self._size_bytes
        try:
            await self._services.store.sessions.update(self.record)
        except GatewayError as error:
            log.warning("session %s: its record is not kept for now: %s", self.record.key, error)

    def _notice(self, level: str, code: str, text: str) -> ev.Notice:
        return ev.Notice(f"n{self.log.last_seq + 1}", level, code, text)  # type: ignore[arg-type]

    def _on_visible(self, event: ev.Event) -> None:
        self.fold.apply(event)
        self._size_bytes += len(event.body)
        if isinstance(event.data, ev.TurnStarted):
            self._wake.set()
        if self._is_loaded:
            self._services.observers.appended(self, event)

    def _on_refused(self, seqs: set[int], error: GatewayError) -> None:
        """The store took nothing: the turn that was to start does not."""
        turn = self._turn
        if turn is not None and not turn.is_prompted and self.fold.turn_id != turn.turn_id:
            self._turn = None
            self._dismiss(turn)
            turn.finish()

    def _on_spoiled(self, error: GatewayError) -> None:
        """Something that its agent said cannot be stored: the log goes on without it, the worker does not."""
        self._end_worker(WorkerEnd.STORE_FAILED, f"The agent said something that cannot be kept. {error}")

    def _end_worker(self, end: WorkerEnd, words: str) -> None:
        """Ends its worker now, and with it the turn that runs."""
        if self._host is not None and not self._is_killed:
            self._is_killed = True
            self._kill_end = (end, words)
            self._deadline.move(0)
            self._wake.set()

    # -- a place for its worker -----------------------------------------------------------------------------

    def _admit(self, turn: Turn) -> None:
        """The turn may begin: it has, or gets, a worker. Raises WorkerLimit, QuotaExceeded."""
        self._services.quotas.begin_turn(turn.account)
        try:
            self._take_slot(turn.account)
        except GatewayError:
            self._services.quotas.end_turn(turn.account)
            raise

    def _dismiss(self, turn: Turn) -> None:
        """The turn that was admitted does not begin."""
        self._services.quotas.end_turn(turn.account)
        if not self.is_live:
            self._give_slot()

    def _take_slot(self, account: Account) -> None:
        if self._slot is None:
            self._services.quotas.take_live(account)
            try:
                self._services.slots.take(self)
            except GatewayError:
                self._services.quotas.give_live(account)
                raise
            self._slot = account

    def _give_slot(self) -> None:
        if self._slot is not None:
            self._services.quotas.give_live(self._slot)
            self._slot = None
            self._services.slots.give()

    def _transition(self, to: SessionState, *, reason: str | None = None) -> None:
        """The one writer of the state: checks the table, appends the event."""
        if not is_allowed(self.state, to):
            raise BrokenInvariant(f"A session cannot go from {self.state} to {to}.")
        self.state = to
        self.log.append(ev.SessionStateChanged(to, reason=reason))
