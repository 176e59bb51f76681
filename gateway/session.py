"""Session: one conversation. A log, its fold, and one worker while a turn needs it.

`run()` is the session's whole life: it takes a worker in, serves, and lets it go. Everybody else only asks: a
verb queues a turn, the reaper and the operator ask for parking or closing, and only `run()`'s `finally`
closes.

Guarantees: what a verb acknowledged is committed first; a turn that began ends with an event, whatever ends
it; a worker's end is not the session's; permission requests are answered by a person or cancelled, never
approved here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import msgspec

from gateway import events as ev
from gateway import logs, tracing
from gateway.agent import AgentGone, WireError
from gateway.agents import Agent
from gateway.chat import ChatState, Outside
from gateway.completion import ModelError, ModelResult
from gateway.config import SessionsConfig
from gateway.conversation import prompt_blocks
from gateway.errors import (
    BrokenInvariant,
    GatewayError,
    PermissionNotPending,
    QueueFull,
    SessionBusy,
    SessionEnded,
)
from gateway.eventlog import EventLog
from gateway.host import Deadline, Deaths, WorkerFailed, WorkerHost
from gateway.lifecycle import BUSY, LIVE, CloseReason, SessionState, WorkerEnd, is_allowed
from gateway.metrics import OTHER, STOP_REASONS
from gateway.peer import AgentPeer
from gateway.posting import Posting
from gateway.quotas import Account
from gateway.services import Services
from gateway.stores.base import SessionRecord
from gateway.tenants import tenant_of
from gateway.turns import Queue, Turn
from gateway.usage import Running
from worker.spec import Receipt

log = logging.getLogger(__name__)

TITLE_CHARACTERS = 60
KILLED_WORDS = "An operator ended this conversation's agent. Send a message to start it again."


class McpServer(msgspec.Struct, frozen=True):
    """An MCP server that somebody added to a session."""

    name: str
    url: str
    may_be_private: bool
    """Whether its address may lead to this machine or its neighbours."""


class Session:
    """One conversation; see the module. All methods belong to the loop's thread."""

    def __init__(self, record: SessionRecord, services: Services) -> None:
        limits = services.config.limits
        self.record = record
        self._services = services
        self.fold = ChatState(record.session_id)
        self.log = EventLog(
            record.key,
            store=services.store,
            wall_ms=services.wall_ms,
            on_visible=self._on_visible,
            on_refused=self._on_refused,
            max_events=limits.events_per_session,
            max_bytes=limits.event_bytes_per_session,
            tally=services.metrics.events,
        )
        self.state = SessionState.PARKED
        self.close_reason: CloseReason | None = None
        self.receipt: Receipt | None = None
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it has left the map, and, where it was deleted, when it is erased."""
        self.last_used = services.monotonic()
        self._queue = Queue()
        self._turn: Turn | None = None
        self._host: WorkerHost | None = None
        self._deadline = Deadline()
        self._is_parking = False
        self._is_killed = False
        self._callers: list[asyncio.Future[AgentPeer]] = []
        """Who waits for a worker beside any turn."""
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

    # -- what it is -------------------------------------------------------------------------------------

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

    def state_json(self) -> bytes:
        """State as JSON, encoded once however many ask."""
        outside = self.outside
        known = self._state_json
        if known is None or known[0] != self.fold.seq or known[1] != outside:
            known = self._state_json = (self.fold.seq, outside, self.fold.state_json(outside))
        return known[2]

    # -- verbs ------------------------------------------------------------------------------------------

    def has_message(self, message_id: str) -> bool:
        """Whether a user's message of this id is in the conversation, or on its way into it."""
        turn = self._turn
        is_next = turn is not None and turn.message_id == message_id
        return is_next or self.fold.has_message(message_id) or self._queue.has(message_id)

    async def chat(
        self,
        text: str,
        *,
        account: Account | None = None,
        message_id: str | None = None,
        also: Sequence[ev.EventData] = (),
        context: str = "",
    ) -> Turn:
        """Takes a user's message; returns when it is committed, with what else is to be `also` said of it.
        The answer comes on the log, unless a person has taken over: then the agent hears of it later. Of
        `context` the agent hears with the message, and nobody else.

        `account` pays for it. Raises QueueFull, WorkerLimit, QuotaExceeded, SessionEnded, StoreFull,
        StoreFailed.
        """
        self._use()
        turn = Turn(text, account=account or self.account, message_id=message_id, context=context)
        if self.fold.posting is not None and self.fold.posting.person is not None:
            return await self._leave_to_person(turn, also)
        is_next = self._turn is None and (len(self._queue) == 0 or self._queue.is_held)
        if not is_next and len(self._queue) >= self._services.config.limits.queued_messages:
            raise QueueFull(session_id=self.session_id, retry_after_seconds=5)
        if is_next:
            self._admit(turn)
        try:
            soft = self._services.quotas.take_message(turn.account, session_bytes=self._size_bytes)
        except GatewayError:
            if is_next:
                self._dismiss(turn)
            raise
        if is_next:
            self._set_turn(turn)
            follow: ev.EventData = turn.started()
        else:
            self._queue.put(turn)
            follow = self._queue.event()
        message = ev.MessageAdded(turn.message_id, "user", text, turn.turn_id)
        first: list[ev.EventData] = [] if self.fold.title else [ev.SessionInfo(_title(text))]
        notices = [
            ev.Notice(f"n{turn.turn_id}.{number}", "warning", "quota", words, quota)
            for number, (words, quota) in enumerate(soft)
        ]
        try:
            await self._say(*first, message, follow, *notices, *also)
        except GatewayError:
            if self._queue.drop(turn.message_id):
                self.log.append(self._queue.event())
            raise
        return turn

    async def repeat(self, text: str, answer: str, *, account: Account) -> None:
        """Takes a user's message whose answer is known already: both are said, and no agent is asked.

        Raises QuotaExceeded, SessionEnded, StoreFull, StoreFailed.
        """
        self._use()
        turn = Turn(text, account=account)
        self._services.quotas.take_message(account, session_bytes=self._size_bytes)
        turn.finish()
        await self._say(
            ev.MessageAdded(turn.message_id, "user", text, turn.turn_id),
            ev.MessageAdded(turn.reply_id, "agent", answer, turn.turn_id),
        )

    async def system(self, text: str) -> str:
        """Takes a system message, which the agent gets with its next prompt; the message's id."""
        self._use()
        message_id = f"s{self.log.last_seq + 1}"
        events: list[ev.EventData] = [ev.MessageAdded(message_id, "system", text)]
        if self.fold.wallet is not None and "transaction" in text.lower():
            events.append(ev.WalletChanged(None))
        await self._tell_agent(text, *events)
        return message_id

    async def _leave_to_person(self, turn: Turn, also: Sequence[ev.EventData]) -> Turn:
        self._services.quotas.take_message(turn.account, session_bytes=self._size_bytes)
        message = ev.MessageAdded(turn.message_id, "user", turn.text)
        first: list[ev.EventData] = [] if self.fold.title else [ev.SessionInfo(_title(turn.text))]
        await self._tell_agent(_retold("user", turn.text), *first, message, *also)
        turn.finish()
        return turn

    async def open_chat(self, opened: ev.ChatOpened) -> None:
        """It is a product chat from here on."""
        self._use()
        await self._tell_agent(Posting(opened).about, opened)

    async def take_over(self, status: ev.ChatStatus) -> None:
        """A person answers from here on: the agent stops, and what waits for it is the person's."""
        self._use()
        await self._say(status)
        await self.interrupt()
        self._said += [_retold("user", turn.text) for turn in self._queue.drop()]
        if self.fold.waiting:
            await self._say(self._queue.event())

    async def answer_as_person(self, message_id: str, text: str, *also: ev.EventData) -> None:
        """A person's answer, which the agent hears of with its next prompt."""
        self._use()
        await self._tell_agent(_retold("agent", text), ev.MessageAdded(message_id, "agent", text), *also)

    async def note(self, *events: ev.EventData) -> None:
        """Keeps facts that no turn follows from."""
        self._use()
        await self._say(*events)

    async def set_network(self, network: str) -> None:
        """Notes the network that the user's wallet is on; the agent hears of it with its next prompt."""
        self._use()
        await self._tell_agent(f"The user's wallet is on the network {network}.", ev.NetworkChanged(network))

    async def rename(self, title: str) -> None:
        """Gives the session a title."""
        self._use()
        await self._say(ev.SessionInfo(title))

    async def retain(self, days: float) -> None:
        """Keeps the session so many days after its last use (0: for ever), whatever the configuration
        says.
        """
        self._use()
        self.record = msgspec.structs.replace(self.record, retention_days=days)
        await self._keep()

    async def ask_agent(self, method: str, params: object, *, seconds: float) -> msgspec.Raw:
        """A question to the agent beside its turns; a worker is brought for it where there is none.

        Raises AgentError, AgentGone, WireError, TimeoutError, WorkerLimit, QuotaExceeded, SessionEnded.
        """
        self._use()
        peer = self._peer if self.state in LIVE - {SessionState.STARTING} else None
        if peer is None:
            self._take_slot(self.account)
            caller: asyncio.Future[AgentPeer] = asyncio.get_running_loop().create_future()
            self._callers.append(caller)
            self._wake.set()
            peer = await caller
        async with asyncio.timeout(seconds):
            return await peer.connection.call(method, params)

    async def interrupt(self) -> None:
        """Stops the turn that runs, if one does, and holds what waits; returns when the turn has ended."""
        self._use()
        turn = self._turn
        if turn is None:
            await self.log.commit(self.log.last_seq)
            return
        turn.is_cut = True
        if self._peer is not None and turn.is_prompted:
            if self.state is not SessionState.INTERRUPTING:
                self._transition(SessionState.INTERRUPTING)
            self._peer.cancel()
            self._deadline.move(self._config.interrupt_timeout_seconds)
        elif self.fold.turn_id == turn.turn_id:
            self._end_cut_turn()
            if self.state is SessionState.PARKED:
                self._give_slot()
        await asyncio.wait([turn.done])
        await self.log.commit(self.log.last_seq)

    async def answer_permission(self, permission_id: str, option_id: str) -> None:
        """Answers a permission request. Raises PermissionNotPending where there is none with this id and
        option.
        """
        self._use()
        if self._peer is None or not self._peer.may_answer(permission_id, option_id):
            raise PermissionNotPending(session_id=self.session_id)
        peer = self._peer
        await self._say(ev.PermissionAnswered(permission_id, "selected", option_id))
        peer.answer(permission_id, option_id)
        if self.state is SessionState.WAITING and not peer.is_asking:
            self._transition(SessionState.RUNNING)

    async def release_queue(self) -> None:
        """Sends the messages that an interrupt held."""
        self._use()
        self._queue.release()
        try:
            await self._say(self._queue.event())
        except GatewayError:
            self._queue.hold()
            raise
        self._next_turn()

    async def drop_queued(self, message_id: str | None = None) -> int:
        """Drops waiting messages, all or the one named; how many."""
        self._use()
        dropped = self._queue.drop(message_id)
        if dropped:
            await self._say(self._queue.event())
        return len(dropped)

    async def restart(self) -> None:
        """Forgets the deaths of the past, so that the next verb brings a worker although they were many."""
        self._use()
        self._deaths.forgive()
        self._is_parking = self.state is SessionState.IDLE
        self._wake.set()
        if self.state is SessionState.PARKED:
            await self._say(ev.SessionStateChanged(SessionState.PARKED))

    def move(self, owner: str, session_id: str) -> None:
        """It belongs to somebody else from now on, under this id."""
        self.record = msgspec.structs.replace(self.record, owner=owner, session_id=session_id)
        self.fold.session_id = session_id
        self._state_json = None

    # -- asking -----------------------------------------------------------------------------------------

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

    def ask_to_park(self) -> None:
        """Asks it to let its worker go; it does so unless a turn came first."""
        self._is_parking = True
        self._wake.set()

    async def park(self) -> bool:
        """Stops its worker and returns when it is gone; whether there was one. Raises SessionBusy while
        there is something to do.
        """
        host = self._host
        if self.is_busy:
            raise SessionBusy
        if host is None:
            return False
        self.ask_to_park()
        await host.stopped.wait()
        return True

    async def kill(self) -> bool:
        """Ends its worker now, and with it the turn that runs; returns when it is gone; whether there was
        one. The session stays.
        """
        host = self._host
        if host is None:
            return False
        self._is_killed = True
        self._deadline.move(0)
        self._wake.set()
        await host.stopped.wait()
        with contextlib.suppress(GatewayError):
            await self.log.commit(self.log.last_seq)
        return True

    def ask_to_close(self, reason: CloseReason) -> None:
        """Asks it to end. The first reason stands."""
        if self.close_reason is None:
            self.close_reason = reason
            self._deadline.move(0)
            self._wake.set()

    # -- coming into memory -----------------------------------------------------------------------------

    async def load(self, *, above: int = 0) -> None:
        """Takes up where the store stands. Raises StoreFull or StoreFailed."""
        self.log.begin_above(above)
        await self.log.load()
        self.fold.session_id = self.record.session_id  # of an adopted session it may be another
        if self.fold.turn_id is not None:
            self._end_lost_turn(self.fold.turn_id)
        self._is_loaded = True
        self._services.watch(self, None)
        self._said = _unheard(self.fold)
        self._restore_queue()
        if self.fold.state is not SessionState.PARKED:
            self.log.append(ev.SessionStateChanged(SessionState.PARKED))

    def _restore_queue(self) -> None:
        """Messages that waited when the last life ended are held: the user sends or drops them."""
        for waiting in self.fold.waiting:
            self._queue.put(
                Turn(
                    waiting.text,
                    account=self.account,
                    message_id=waiting.message_id,
                    turn_id=waiting.turn_id,
                )
            )
        if self._queue.hold() and not self.fold.is_held:
            words = _held_words(len(self._queue))
            self.log.append(self._queue.event(), self._notice("info", "queue_held", words), durable=True)

    def _end_lost_turn(self, turn_id: str) -> None:
        """The gateway ended in the middle of a turn: says so, and keeps the text that had arrived."""
        words = "The gateway was restarted before the answer was complete."
        self.log.append(
            ev.TurnInterrupted(turn_id, "gateway_restarted", words),
            ev.MessageAdded(f"{turn_id}.error", "system", words),
            durable=True,
        )

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

    # -- its life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The session's whole life, from the map's point of view. Never raises."""
        self._ids = logs.begin(tenant=self.tenant, session=self.record.key)
        tracing.enter(tracing.NO_SPAN)  # it outlives the request that began it
        try:
            while not self.is_ending:
                if self._has_turn() or self._callers:
                    await self._begin()
                    self._turn_callers_away()
                else:
                    await self._until_woken()
        except Exception:
            log.exception("session %s: its life ended by a bug", self.record.key)
            self.close_reason = self.close_reason or CloseReason.STORE_FAILED
        finally:
            await self._close()

    async def _until_woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _turn_callers_away(self) -> None:
        """Whoever still waits for a worker does not get one."""
        callers, self._callers = self._callers, []
        for caller in callers:
            if not caller.done():
                caller.set_exception(AgentGone("The agent did not start."))

    def _has_turn(self) -> bool:
        """Whether a turn is committed and waits for the agent."""
        return self._turn is not None and self._turn.turn_id == self.fold.turn_id

    async def _begin(self) -> None:
        """Brings a worker for the turn, unless the turn is over already or another death is to be
        expected.
        """
        if self._end_cut_turn():
            self._give_slot()
        elif self._deaths.are_a_loop:
            self._refuse_to_start()
        else:
            await self._live()

    async def _live(self) -> None:
        """One worker's life, from spawn to receipt."""
        end, message = WorkerEnd.PARKED, None
        self._is_parking = self._is_killed = False
        self._transition(SessionState.STARTING)
        host = self._host = WorkerHost(self, self._services)
        try:
            await self._with_worker(host)
            end = WorkerEnd.CLOSED if self.is_ending else WorkerEnd.PARKED
        except WorkerFailed as failure:
            end, message = failure.reason, failure.message
            if end not in (WorkerEnd.INTERRUPT_TIMEOUT, WorkerEnd.KILLED):  # ended by us, at somebody's word
                self._deaths.note()
        self._cut_turn(end, message)
        receipt = await self._stop_worker()
        if self._turn is None:
            self._give_slot()
        self.log.append(_worker_ended(end, message, receipt))
        self._services.metrics.worker_ended(
            str(end),
            processes=receipt.processes,
            survivors=receipt.survivors,
            bytes_freed=receipt.bytes_freed,
            seconds=receipt.milliseconds / 1000,
        )
        if not self.is_ending:
            self._transition(SessionState.PARKED, reason=str(end))
            self._next_turn()
        if self._turn is None:
            await self._compact()

    async def _with_worker(self, host: WorkerHost) -> None:
        """Brings the worker up and serves until it is asked to stop. Raises WorkerFailed."""
        try:
            async with self._deadline.within(self._config.start_timeout_seconds):
                started = await host.open()
        except TimeoutError:
            if self.is_ending:
                return
            if self._is_killed:
                raise _killed() from None
            seconds = self._config.start_timeout_seconds
            raise host.start_failed(f"The agent did not start within {seconds:g} seconds.") from None
        peer = host.peer
        if peer is None:
            return
        if peer.agent_session_id != self.record.agent_session_id:
            self.record = msgspec.structs.replace(self.record, agent_session_id=peer.agent_session_id)
            await self._keep()
        self.log.append(started)
        self._services.metrics.worker_started(
            agent=self.record.agent,
            is_new=started.how == "new",
            seconds=started.milliseconds / 1000,
            tenant=self.tenant,
        )
        self._record(
            f"start_agent {self.record.agent}",
            started.milliseconds / 1000,
            self._traced("start_agent") | {"agent_gateway.start.how": started.how},
        )
        self._transition(SessionState.IDLE)
        await self._serve(host, peer)

    async def _serve(self, host: WorkerHost, peer: AgentPeer) -> None:
        """Runs turns until it is asked to park or close, or the agent is gone (WorkerFailed)."""
        while not self.is_ending:
            if self._is_killed:
                raise _killed()
            callers, self._callers = self._callers, []
            for caller in callers:
                if not caller.done():
                    caller.set_result(peer)
            if self._has_turn():
                await self._run_turn(host, peer)
                continue
            if self._is_parking and self._turn is None:
                return
            waking = asyncio.ensure_future(self._until_woken())
            await asyncio.wait([waking, peer.connection.closed], return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            if peer.connection.end is not None:
                raise await host.why_gone()

    async def _run_turn(self, host: WorkerHost, peer: AgentPeer) -> None:
        """One turn, up to the agent's completion. Raises WorkerFailed where the worker did not live to see
        it.
        """
        turn = self._turn
        if turn is None or self._end_cut_turn():
            return
        self._transition(SessionState.RUNNING)
        self._ids["turn"] = turn.turn_id
        blocks = prompt_blocks(
            turn.text,
            self._said,
            peer.transcript_before(turn),
            is_built_in=self.agent.is_built_in,
            context=turn.context,
        )
        said = len(self._said)
        turn.is_prompted = True
        ended: ev.TurnEnded | None = None
        try:
            async with self._deadline.within(self._config.turn_timeout_seconds):
                ended = await peer.prompt(turn, blocks)
        except TimeoutError:
            if self._is_killed:
                raise _killed() from None
            if not self.is_ending:
                raise self._timed_out() from None
        except AgentGone:
            raise await host.why_gone() from None
        except WireError as error:
            raise WorkerFailed(WorkerEnd.WIRE_ERROR, str(error)) from error
        finally:
            peer.end_turn()
        del self._said[:said]
        if ended is not None:
            self._end_turn(turn, ended)
            self._transition(SessionState.IDLE)
            self._next_turn()
            await self._keep()

    async def _compact(self) -> None:
        """Makes the turns that have ended small in the store, now that nothing is going on."""
        through = self._ended_seq
        if self.close_reason is CloseReason.DELETED or not 0 < through <= self.log.visible_seq:
            return
        try:
            await self._services.store.compact(self.record.key, through=through)
        except GatewayError as error:
            log.warning("session %s: not compacted for now: %s", self.record.key, error)
            return
        if self._ended_seq == through:
            self._ended_seq = 0
        await self._measure()

    async def _measure(self) -> None:
        """What it takes in the store, now that that is less."""
        try:
            self._size_bytes = await self._services.store.size_bytes(self.record.key)
        except GatewayError:
            return  # the next time
        await self._keep()

    def _timed_out(self) -> WorkerFailed:
        if self.state is SessionState.INTERRUPTING:
            return WorkerFailed(
                WorkerEnd.INTERRUPT_TIMEOUT, "The agent did not stop when asked and was ended."
            )
        seconds = self._config.turn_timeout_seconds
        return WorkerFailed(WorkerEnd.TURN_TIMEOUT, f"The agent did not finish within {seconds:g} seconds.")

    async def _stop_worker(self) -> Receipt:
        host, self._host = self._host, None
        if host is None:
            return Receipt()
        is_quick = self._is_killed or self.close_reason is CloseReason.DELETED
        grace = 0.0 if is_quick else self._config.stop_grace_seconds
        self.receipt, used = await host.stop(grace_seconds=grace)
        self._services.quotas.meter(
            self._slot or self.account,
            cpu_ms=round(used.cpu_seconds * 1000),
            memory_mb_seconds=round(used.memory_mb_seconds),
        )
        return self.receipt

    async def _close(self) -> None:
        """The only place where a session ends."""
        reason = self.close_reason or CloseReason.DRAINED
        try:
            self._transition(SessionState.CLOSING)
            if self._turn is not None:
                self._cut_turn(WorkerEnd.CLOSED, None)
            self._queue.drop()
            await self._stop_worker()
            self._turn_callers_away()
            self._transition(SessionState.CLOSED, reason=str(reason))
            if reason is CloseReason.DELETED:
                self.log.append(ev.SessionClosed(str(reason)))
            await self._keep()
            await self.log.release()
        except GatewayError as error:
            log.error("session %s: closed without its last words: %s", self.record.key, error)
        finally:
            self._give_slot()
            self.log.close()

    # -- turns ------------------------------------------------------------------------------------------

    def _next_turn(self) -> None:
        """Starts the next waiting turn, if it may."""
        if self._turn is not None or self.is_ending:
            return
        turn = self._queue.next()
        if turn is None:
            return
        try:
            self._admit(turn)
        except GatewayError as error:
            self._queue.put_back(turn)
            self._queue.hold()
            self.log.append(
                self._queue.event(), self._notice("error", error.code, error.message), durable=True
            )
            return
        self._set_turn(turn)
        self.log.append(turn.started(), self._queue.event(), durable=True)

    def _set_turn(self, turn: Turn) -> None:
        self._turn = turn
        turn.began = self._services.monotonic()
        turn.span = self._services.tracer.start(
            f"invoke_agent {self.record.agent}", parent=turn.cause, attributes=self._traced("invoke_agent")
        )

    def _end_turn(self, turn: Turn, *ended: ev.EventData) -> None:
        """Appends the turn's end, with its words for everybody who sees messages only."""
        events = [*ended]
        if turn.is_cut:
            events.append(ev.MessageAdded(f"{turn.turn_id}.cut", "system", "Interrupted by user"))
        elif words := _words_of(ended[0]):
            events.append(ev.MessageAdded(f"{turn.turn_id}.error", "system", words))
        is_broken = turn.is_cut or _words_of(ended[0]) is not None
        if is_broken and self._queue.hold():
            events += [self._queue.event(), self._notice("info", "queue_held", _held_words(len(self._queue)))]
        self._turn = None
        self._services.quotas.end_turn(turn.account)
        self._ended_seq = self.log.append(*events, durable=True)
        seconds = self._services.monotonic() - turn.began
        outcome = _outcome(ended[0])
        self._services.metrics.turn_ended(outcome, seconds, tenant=self.tenant)
        turn.span.end(
            error="" if isinstance(ended[0], ev.TurnEnded) and outcome != "error" else outcome,
            attributes={"agent_gateway.turn.outcome": outcome},
        )
        self._ids.pop("turn", None)
        turn.finish()
        self._wake.set()

    def _end_cut_turn(self) -> bool:
        """Ends a turn that the user interrupted before the agent heard of it; whether it was one."""
        turn = self._turn
        if turn is None or not turn.is_cut:
            return False
        self._end_turn(turn, ev.TurnEnded(turn.turn_id, "cancelled"))
        return True

    def _cut_turn(self, end: WorkerEnd, message: str | None) -> None:
        """Ends the turn that its worker did not."""
        turn = self._turn
        if turn is None or (end is WorkerEnd.PARKED and message is None):
            return
        if self._peer is not None:
            self._peer.end_turn()
        words = message or "The session ended before the answer was complete."
        self._end_turn(turn, ev.TurnInterrupted(turn.turn_id, str(end), words))

    def _refuse_to_start(self) -> None:
        turn, words = self._turn, self._deaths.words
        if turn is not None:
            self._end_turn(turn, ev.TurnInterrupted(turn.turn_id, "crash_loop", words))
        self._give_slot()
        self.log.append(ev.SessionStateChanged(SessionState.PARKED, reason="crash_loop", detail=words))

    # -- what the peer reports --------------------------------------------------------------------------

    def on_events(self, events: list[ev.EventData]) -> None:
        """The agent's updates as events."""
        now = self.last_used = self._services.monotonic()
        for event in events:
            if isinstance(event, ev.Usage):
                self._meter(event)
        self.log.append(*events)
        turn = self._turn
        if turn is not None and not turn.has_spoken and any(isinstance(item, _WORDS) for item in events):
            turn.has_spoken = True
            self._services.metrics.first_token(now - turn.began)

    def _meter(self, usage: ev.Usage) -> None:
        """Tokens of a model call, or, of agents that tell only how full their context is, what it grew by."""
        turn = self._turn
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if not tokens and usage.used is not None:
            tokens = max(0, usage.used - self._context_tokens)
            self._context_tokens = usage.used
        account = turn.account if turn is not None else self.account
        self._services.quotas.meter(account, tokens=tokens)

    def on_asked(self, asked: ev.PermissionAsked) -> None:
        """The agent asks for permission."""
        self.last_used = self._services.monotonic()
        self.log.append(asked, durable=True)
        if self.state is SessionState.RUNNING:
            self._transition(SessionState.WAITING)

    def on_model_called(self, model: str, seconds: float, outcome: ModelResult | ModelError) -> None:
        """A model call on the agent's behalf is over."""
        metrics, model = self._services.metrics, model or OTHER
        error = outcome.code if isinstance(outcome, ModelError) else ""
        metrics.model_called(model, seconds, error=error)
        attributes = self._traced("chat") | {"gen_ai.request.model": model}
        if isinstance(outcome, ModelResult):
            attributes |= {
                "gen_ai.usage.input_tokens": outcome.input_tokens or 0,
                "gen_ai.usage.output_tokens": outcome.output_tokens or 0,
            }
        self._record(f"chat {model}", seconds, attributes, error)
        if isinstance(outcome, ModelResult):
            metrics.tokens_used(
                model,
                input_tokens=outcome.input_tokens or 0,
                output_tokens=outcome.output_tokens or 0,
                tenant=self.tenant,
            )

    def _traced(self, operation: str) -> dict[str, str | int]:
        """What every span of this session says."""
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.agent.name": self.record.agent,
            "gen_ai.conversation.id": self.record.key,
            "agent_gateway.tenant": self.tenant,
        }

    def _record(self, name: str, seconds: float, attributes: dict[str, str | int], error: str = "") -> None:
        """A span below the turn that runs."""
        parent = self._turn.span if self._turn is not None else None
        self._services.tracer.record(name, seconds=seconds, parent=parent, attributes=attributes, error=error)

    def on_wallet(self, pending: str | None) -> None:
        """The agent prepared a transaction for the user's wallet."""
        self.log.append(ev.WalletChanged(pending), durable=True)

    def note_cart(self, changed: ev.CartChanged) -> None:
        """Its cart was changed, by whomever; no verb of its own, so the idle clock goes on."""
        self.log.append(changed)

    # -- inner ------------------------------------------------------------------------------------------

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
            await self._services.store.update_session(self.record)
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
            self._services.watch(self, event)

    def _on_refused(self, seqs: set[int], error: GatewayError) -> None:
        """The store took nothing: the turn that was to start does not."""
        turn = self._turn
        if turn is not None and not turn.is_prompted and self.fold.turn_id != turn.turn_id:
            self._turn = None
            self._dismiss(turn)
            turn.finish()

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


_WORDS = (ev.TextDelta, ev.ContentBlock)
"""What a user sees first of an answer."""


def _killed() -> WorkerFailed:
    return WorkerFailed(WorkerEnd.KILLED, KILLED_WORDS)


def _outcome(ended: ev.EventData) -> str:
    """How a turn ended, of a bounded list."""
    match ended:
        case ev.TurnInterrupted(reason=reason):
            return reason
        case ev.TurnEnded(stop_reason=reason) if reason in STOP_REASONS:
            return reason
    return OTHER


def _worker_ended(end: WorkerEnd, message: str | None, receipt: Receipt) -> ev.WorkerEnded:
    return ev.WorkerEnded(
        str(end), message, receipt.processes, receipt.survivors, receipt.bytes_freed, receipt.milliseconds
    )


def _words_of(ended: ev.EventData) -> str | None:
    match ended:
        case ev.TurnEnded(error=ev.Failure(message=message)) | ev.TurnInterrupted(message=message):
            return message
    return None


def _held_words(count: int) -> str:
    if count == 1:
        return "1 waiting message is held; send or drop it."
    return f"{count} waiting messages are held; send or drop them."


def _unheard(fold: ChatState) -> list[str]:
    """The system messages that came after the last turn, which the agent has not heard."""
    unheard: list[str] = []
    for message in reversed(fold.messages):
        if message.turn_id is not None:
            break
        if message.sender != "system":
            unheard.append(_retold(message.sender, str(message.text)))
        elif message.id.startswith("s"):
            unheard.append(str(message.text))
    if fold.posting is not None and not any(message.turn_id for message in fold.messages):
        unheard.append(fold.posting.about)
    return unheard[::-1]


def _retold(sender: ev.Sender, text: str) -> str:
    """What was said while a person had taken over, as the agent is told of it."""
    who = "The visitor wrote" if sender == "user" else "A member of the staff answered the visitor"
    return f"{who}: {text}"


def _title(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"
