"""Session: one conversation. A log, its fold, and one worker while a turn needs it.

Its parts: `Record` (whose it is, when it was used), `Seat` (the place for its worker, what is wished of it),
`Turns` (the one that runs, those that wait) and `Answers` (what its agent hears besides messages). `run()` is
the session's whole life: it takes a worker in, serves, and lets it go. Everybody else only asks: a verb
queues a turn, the reaper and the operator ask for parking or closing, and only `run()`'s `finally` closes.

Guarantees: what a verb acknowledged is committed first; a turn that began ends with an event, whatever ends
it; a worker's end is not the session's; permission requests are answered by a person, by a rule that the
answer names, or cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from gateway.agents.catalogue import Agent
from gateway.agents.completion import ModelError, ModelResult
from gateway.agents.peer import AgentPeer
from gateway.agents.prompt import retold, unheard, with_files
from gateway.answers import MinimalAnswer
from gateway.config.credentials import credential_for
from gateway.config.host_rules import HostRule
from gateway.egress.session_admission import Choice, SessionAdmission
from gateway.errors import (
    BudgetReached,
    ConversationFull,
    EgressNotAsked,
    GatewayError,
    QueueFull,
    SessionBusy,
)
from gateway.events import facts as ev
from gateway.events.fold import for_guests
from gateway.events.lifecycle import BUSY, CloseReason, SessionState, WorkerEnd
from gateway.events.window import MessageWindow
from gateway.files.arrival import FilesPlace
from gateway.files.snapshots import Undone
from gateway.models.budgets import Near
from gateway.principal import Account, Principal
from gateway.sessions.answers import Answers
from gateway.sessions.egress import WorkerEgress
from gateway.sessions.files import SessionFiles
from gateway.sessions.host import WorkerHost
from gateway.sessions.log import Create, EventLog
from gateway.sessions.queue import Turn
from gateway.sessions.reader import Encoded, minimal
from gateway.sessions.record import Record
from gateway.sessions.seat import Seat
from gateway.sessions.services import Services
from gateway.sessions.spans import Spans
from gateway.sessions.turns import Turns
from gateway.sessions.workspace import SessionWorkspace
from gateway.stores.contract import SessionRecord
from gateway.stores.ledger import LedgerCall
from gateway.telemetry import logs, tracing
from gateway.workers.spawner import Worker
from gateway.workers.usage import Running
from worker.spec import Receipt

log = logging.getLogger(__name__)

TITLE_CHARACTERS: Final = 60
KILLED_WORDS: Final = "An operator ended this conversation's agent. Send a message to start it again."
FAILED_WORDS: Final = (
    "Something failed inside the gateway, and this conversation was put away before the answer was complete. "
    "Send your message again; if that fails too, the gateway's log says why."
)


_ANSWERS: Final = (ev.PermissionAnswered, ev.QuestionAnswered)
_DID_TOO_MUCH: Final = (WorkerEnd.LIMIT_EXCEEDED, WorkerEnd.WIRE_ERROR)


class McpServer(msgspec.Struct, frozen=True):
    """An MCP server that somebody added to a session."""

    name: str
    url: str


class AlreadySaid(Exception):
    """A message of this id is in the conversation."""


def _place_of(record: Record, workspace: SessionWorkspace, services: Services) -> FilesPlace:
    kept, workspaces = record.kept, services.workers.workspaces
    tenant = services.config.tenant(record.tenant)
    limits = workspace.limits(record.agent.limits).within(tenant.limits if tenant is not None else {})
    return FilesPlace(
        key=kept.key,
        work=workspaces.work(kept.key),
        home=workspaces.home(kept.key),
        uid=workspaces.worker_uid(kept.key, kept.uid),
        disk_bytes=limits.disk_bytes,
        files=limits.files,
    )


class Session:
    """One conversation; see the module. All methods belong to the loop's thread."""

    def __init__(self, record: SessionRecord, services: Services) -> None:
        limits = services.config.limits
        self._services = services
        self.fold = services.fold(record.session_id)
        self.log = EventLog(
            record.key,
            store=services.store.logs,
            wall_ms=services.wall_ms,
            on_visible=self._on_visible,
            on_refused=self._on_refused,
            on_spoiled=self._on_spoiled,
            on_fenced=self._on_fenced,
            max_events=limits.events_per_session,
            max_bytes=limits.event_bytes_per_session,
            tails=services.tails,
            tally=services.metrics.events,
            may_work=services.may_work,
        )
        services.spending.sessions[record.key] = self
        self._record = Record(record, self.fold, services)
        self._seat = Seat(self._record, self.log, services)
        self.files = SessionFiles(self._record, self.log, services.snapshots)
        """When its files are kept."""
        self.workspace = SessionWorkspace(self._record, self.fold, self.log, services.workers.repositories)
        """The repository that it starts from."""
        self._find_place = functools.partial(_place_of, self._record, self.workspace, services)
        self._turns = Turns(
            *(self._record, self._seat, self.log, self.fold, services, self.files), place=self._find_place
        )
        seat = self._seat
        self._spans = Spans(
            services.tracer,
            traced=self._turns.traced,
            tool_name=lambda call_id: seat.peer.tool_name(call_id) if seat.peer is not None else "",
            captures_content=lambda: services.config.telemetry.capture_content,
        )
        self.answers = Answers(self._record, self._seat, self._turns, self.log, self.fold, services)
        """What its agent hears from people besides messages."""
        self.receipt: Receipt | None = None
        """That of its last worker."""
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it has left the map and, if it was deleted, is erased."""
        self.mcp_servers: dict[str, McpServer] = {}
        """MCP servers that its people added, by name; forgotten when it leaves the memory."""
        self._admission: SessionAdmission | None = None
        self._failure: str | None = None
        """What its user reads if its own task failed."""
        self._is_loaded = False
        self._is_leaving = False
        self.was_read = False
        """Whether somebody read it when it was asked to leave."""
        self._encoded = Encoded(self.fold)

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def record(self) -> SessionRecord:
        return self._record.kept

    @property
    def session_id(self) -> str:
        return self.record.session_id

    @property
    def agent(self) -> Agent:
        return self._record.agent

    @property
    def state(self) -> SessionState:
        return self._seat.state

    @property
    def close_reason(self) -> CloseReason | None:
        return self._seat.close_reason

    @property
    def is_busy(self) -> bool:
        """Whether it must not be parked or reaped: a turn runs or waits to run, or a life ends."""
        return self.state in BUSY or self._turns.is_busy

    @property
    def is_live(self) -> bool:
        """Whether it has a worker."""
        return self._seat.is_live

    @property
    def is_ending(self) -> bool:
        return self._seat.is_closing

    @property
    def idle_seconds(self) -> float:
        """Seconds since a verb or a worker's report; streams and reads do not count."""
        return self._record.idle_seconds

    @property
    def tenant(self) -> str:
        """Whose it is, of those who are told apart in figures."""
        return self._record.tenant

    @property
    def place(self) -> FilesPlace:
        """Where its files lie, and what they may take."""
        return self._find_place()

    @property
    def waiting_count(self) -> int:
        """How many messages wait for a turn."""
        return len(self._turns.queue)

    @property
    def waits_for_budget(self) -> bool:
        """Whether messages wait until a budget allows them."""
        return self._turns.queue.waits_for_budget

    async def go_on(self) -> GatewayError | None:
        """Begins with the messages that wait for a budget, if it allows them by now; why it does not."""
        await self._turns.ready_for_next()
        return self._turns.go_on()

    @property
    def running(self) -> Running | None:
        """Its worker, for those who measure; None without one."""
        return self._seat.host.running if self._seat.host is not None else None

    @property
    def worker_network(self) -> str:
        """What its worker reaches: none, broker or shared; empty without a worker."""
        return self._seat.host.network if self._seat.host is not None else ""

    @property
    def process(self) -> Worker | None:
        """The process of its agent; None without one."""
        return self._seat.process

    def state_json(
        self, *, is_guest: bool = False, window: MessageWindow | None = None
    ) -> bytes | Iterator[bytes]:
        """State as JSON, encoded once however many ask; of a long conversation part by part."""
        outside = self._services.outside(self.record.agent, owner=self.record.owner, key=self.record.key)
        return self._encoded.json(for_guests(outside) if is_guest else outside, window)

    def minimal(self) -> MinimalAnswer:
        """What a verb answers to who does not want the State."""
        return minimal(self.fold, self._services.outside(self.record.agent))

    @property
    def admission(self) -> SessionAdmission:
        """The rules for the connections of its worker."""
        if self._admission is None:
            subject = WorkerEgress(lambda: self.record, self.fold, self.log)
            self._admission = SessionAdmission(
                subject, self._services.egress, credential_of=self._credential_of
            )
        return self._admission

    def _credential_of(self, host: str, port: int) -> str:
        """The credential that is added to its worker's requests for a host. A worker that started before
        there was one does not trust the gateway for it, and goes on without.
        """
        if self._seat.host is None or host not in self._seat.host.trusted_hosts:
            return ""
        return credential_for(
            self._services.config, agent=self.record.agent, tenant=self.tenant, host=host, port=port
        )

    def has_message(self, message_id: str) -> bool:
        """Whether a user's message of this id is in the conversation, or on its way into it."""
        return self._turns.has_message(message_id)

    def move(self, owner: str, session_id: str) -> None:
        """It belongs to somebody else from now on, under this id."""
        self._record.move(owner, session_id)
        self._encoded.forget()

    def fresh_record(self) -> SessionRecord:
        """The record as it is now, which the store hears of at the end of a turn."""
        return self._record.fresh()

    # -- asking ---------------------------------------------------------------------------------------------

    def may_reap(self, *, after_seconds: float) -> bool:
        """Whether it has been without use for so long, and nothing runs or waits to run."""
        is_at_rest = not self.is_busy and not self.is_ending and self.log.is_settled
        return is_at_rest and self.idle_seconds >= after_seconds

    def may_park(self) -> bool:
        """Whether its worker can be stopped without loss."""
        return self._seat.may_park

    @property
    def is_frozen(self) -> bool:
        """Whether its worker stands still, with its memory."""
        return self._seat.is_frozen

    def freeze(self) -> bool:
        """Freezes its worker if it is idle; whether it is frozen then."""
        return self._seat.freeze()

    def ask_to_park(self) -> None:
        """Asks it to let its worker go; it does so unless a turn came first."""
        self._seat.ask_to_park()

    def ask_to_close(self, reason: CloseReason) -> None:
        """Asks it to end; the first reason counts."""
        self._seat.ask_to_close(reason)

    def leave(self, *, quiet_seconds: float = 0.0) -> None:
        """Asks it to end as soon as nothing runs or waits to run, no file arrives, and nobody has used it for
        so long; another gateway goes on with it. Asked again, it looks again.
        """
        self._is_leaving = True
        is_receiving = self._services.uploads.are_under_way(self.record.key)
        is_idle = not self.is_busy and not self.is_ending and not is_receiving
        if is_idle and self.idle_seconds >= quiet_seconds:
            self.was_read = self.log.is_waited_for
            self._seat.ask_to_close(CloseReason.IDLE)

    def fence(self) -> None:
        """Another gateway may have it: it ends, and the store hears nothing more of it."""
        self.log.fence()

    # -- coming into memory ---------------------------------------------------------------------------------

    async def load(self, *, above: int = 0) -> None:
        """Restores it from the store. Raises StoreFull or StoreFailed."""
        self.log.begin_above(above)
        await self.log.load()
        self._restored()
        if self.fold.agent is None:
            await self._created()

    async def begin(self, create: Create, *, above: int = 0) -> None:
        """Begins a new one, which `create` stores, with the first that is said in it."""
        self.log.found(create, above=above)
        self.files.are_new()
        self._restored()
        await self._created()

    async def founded(self) -> None:
        """Waits until it is stored. Raises what the store refused that with; it has ended then."""
        await self.log.founded()

    async def _created(self) -> None:
        known = await self.answers.earlier_options()
        self.log.append(ev.SessionCreated(self.session_id, self.record.agent), *known)

    def _restored(self) -> None:
        self.fold.session_id = self.session_id  # of an adopted session it may be another
        self.fold.parent = self.record.parent  # none if that is not there any more
        self.answers.load()
        held = self.fold.start_messages
        is_cut = self.fold.turn_id is not None
        if self.fold.turn_id is not None:
            self._end_lost_turn(self.fold.turn_id, has_waited=bool(held))
        self._is_loaded = True
        self._services.observers.appended(self, None)
        self._turns.unheard = unheard(self.fold)
        self._turns.know_spending(self.fold.usage.get("spending") or ev.Spending(0))
        self._turns.restore(held, is_cut=is_cut)
        if self.fold.state is not SessionState.PARKED:
            self.log.append(ev.SessionStateChanged(SessionState.PARKED))

    def lose_parent(self, session_id: str) -> None:
        """A session of the same owner is erased; it may be the one that this was made of."""
        if self.fold.parent == session_id:
            self.fold.parent = None
            self._encoded.forget()

    def _end_lost_turn(self, turn_id: str, *, has_waited: bool) -> None:
        """The gateway ended in the middle of a turn: says so, and keeps the text that had arrived; or before
        there was a worker for it, then its messages are held.
        """
        what = "an agent was free for this message" if has_waited else "the answer was complete"
        words = f"The gateway was restarted before {what}."
        if not has_waited:
            self.files.cut()
        if self._services.snapshots.travelling is not None and not has_waited:
            words += " If the conversation goes on at another gateway, files that it changed are gone."
        self.log.append(
            ev.TurnInterrupted(turn_id, "gateway_restarted", words),
            ev.MessageAdded(f"{turn_id}.error", "system", words),
            durable=True,
        )

    # -- its life -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The session's whole life, from the map's point of view. Never raises: what fails ends this session,
        and its user reads that it did.
        """
        self._turns.ids = logs.begin(tenant=self.tenant, session=self.record.key)
        tracing.enter(tracing.NO_SPAN)  # it outlives the request that began it
        try:
            while not self.is_ending:
                if self._turns.current is not None and not self._seat.is_in_line:
                    await self._begin()
                    continue
                await self._seat.until_woken()
                if self._turns.current is None:  # a spare was for the first turn, which is over or refused
                    await self._services.workers.spares.forget(self.record.key)
        except Exception:
            log.exception("session %s: its life ended by a bug", self.record.key)
            self._seat.ask_to_close(CloseReason.FAILED)
            self._failure = FAILED_WORDS
        finally:
            await self._close()

    async def _begin(self) -> None:
        """Brings a worker for the turn, unless the turn is over already or another death is to be
        expected. The worker starts while the turn's beginning is committed.
        """
        if self._turns.is_cut or self._seat.deaths.are_a_loop:
            await self._turns.begun()
        if self._turns.current is None or self._turns.end_if_cut():
            return
        if self._seat.deaths.are_a_loop:
            words = self._seat.deaths.words
            self._turns.crash_loop(words)
            self.log.append(ev.SessionStateChanged(SessionState.PARKED, reason="crash_loop", detail=words))
        else:
            await self._live()

    async def _live(self) -> None:
        """One worker's life, from spawn to receipt."""
        seat, turns, services = self._seat, self._turns, self._services
        if self.workspace.is_due:  # its files come first: they are not the first turn's work
            self.files.placed()
        elif self.files.are_here:  # else they are as they were kept, once they are
            self.files.begin()
        end, message = await seat.occupy(self, self._serve)
        await turns.begun()
        if turns.current is None:
            self._say_why_ended(end, message)
        turns.cut(end, message)
        receipt = await self._stop_worker()
        if turns.current is None:
            seat.leave()
        else:
            turns.wait_again()  # it came meanwhile: what its worker will take must be there, too
        self.log.append(
            ev.WorkerEnded(
                *(str(end), message, receipt.processes, receipt.survivors),
                *(receipt.bytes_freed, receipt.milliseconds),
            )
        )
        services.metrics.worker_ended(
            str(end),
            processes=receipt.processes,
            survivors=receipt.survivors,
            bytes_freed=receipt.bytes_freed,
            seconds=receipt.milliseconds / 1000,
        )
        if not self.is_ending:
            seat.transition(SessionState.PARKED, reason=str(end))
            await turns.ready_for_next()
            turns.next()
        if turns.current is None:
            await self._compact()
        services.trimmer.soon()

    def _say_why_ended(self, end: WorkerEnd, message: str | None) -> None:
        """Says in the conversation why an agent was ended that did too much while it had no turn."""
        if message and end in _DID_TOO_MUCH:
            said = ev.MessageAdded(f"e{self.log.last_seq + 1}", "system", message)
            self.log.append(said, durable=True)

    async def _serve(self, host: WorkerHost, peer: AgentPeer, started: ev.AgentStarted) -> None:
        """Runs turns until it is asked to park or close, or the agent is gone (WorkerFailed)."""
        seat, turns = self._seat, self._turns
        self._note_start(peer, started)
        seat.transition(SessionState.IDLE)
        while not seat.is_closing:
            seat.check_kill()
            if turns.is_due:
                await turns.run(host, peer)
                seat.settle()
                if self._is_leaving:
                    self.leave()  # before anybody hears that the turn has ended, and speaks to it again
                continue
            seat.press()
            if seat.is_parking and turns.current is None:
                return
            waking = asyncio.ensure_future(seat.until_woken())
            await asyncio.wait([waking, peer.connection.closed], return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            if peer.connection.end is not None:
                raise await host.why_gone()

    def _note_start(self, peer: AgentPeer, started: ev.AgentStarted) -> None:
        if peer.agent_session_id != self.record.agent_session_id:
            self._record.keep_soon(agent_session_id=peer.agent_session_id)
        self.log.append(started)
        agent, seconds = self.record.agent, started.milliseconds / 1000
        self._services.metrics.worker_started(
            agent=agent, is_new=started.how == "new", seconds=seconds, tenant=self.tenant
        )
        self._turns.record_span("start_agent", agent, seconds, {"agent_gateway.start.how": started.how})

    async def _compact(self) -> None:
        """Makes the turns that have ended small in the store, now that nothing is going on."""
        through = self._turns.ended_seq
        is_gone = self.close_reason is CloseReason.DELETED or self.log.is_fenced
        if is_gone or not 0 < through <= self.log.visible_seq:
            return
        try:
            await self._services.store.logs.compact(self.record.key, through=through)
        except GatewayError as error:
            log.warning("session %s: not compacted for now: %s", self.record.key, error)
            return
        if self._turns.ended_seq == through:
            self._turns.ended_seq = 0
        await self._record.measure()

    async def _stop_worker(self) -> Receipt:
        receipt = await self._seat.stop()
        if self._admission is not None:
            self._admission.end()
        if receipt is not None:
            self.receipt = receipt
            self.files.worker_ended()
        return receipt or Receipt()

    async def _close(self) -> None:
        """The only place where a session ends. Whatever fails in it, no worker is left."""
        try:
            await self._say_last_words()
        except GatewayError as error:
            log.error("session %s: closed without its last words: %s", self.record.key, error)
        except Exception:
            log.exception("session %s: closed without its last words", self.record.key)
        finally:
            try:
                await self._stop_worker()
            except Exception:
                log.exception("session %s: its worker could not be ended", self.record.key)
            await self.files.finish()
            self._seat.leave()
            self._seat.part()
            self.log.close()
            self._spans.close(str(self.close_reason or CloseReason.DRAINED))
            self._services.ledger.budgets.forget_live(self.record.key)
            self._admission = None  # they hold each other, and what a session kept must not wait
            self._services.trimmer.soon()

    async def _say_last_words(self) -> None:
        reason = self.close_reason or CloseReason.DRAINED
        if reason is CloseReason.DELETED or self.log.is_fenced:
            self.files.stop()
        with contextlib.suppress(GatewayError):
            await self.log.founded()
        await self._turns.begun()
        self._seat.transition(SessionState.CLOSING)
        self._turns.cut(WorkerEnd.CLOSED, self._failure)
        self._turns.queue.drop()
        await self._stop_worker()
        await self.files.finish()
        self._seat.transition(SessionState.CLOSED, reason=str(reason))
        if self.log.is_fenced:
            return  # another gateway says what is to be said
        if reason is CloseReason.DELETED:
            self.log.append(ev.SessionClosed(str(reason)))
        await self._record.keep()
        await self.log.release()

    # -- verbs of people; each returns when what it said is committed ---------------------------------------

    def wake(self) -> None:
        """Makes its life look again what there is to do."""
        self._seat.wake()

    def touch(self) -> None:
        """Somebody uses it: the idle clock starts anew. Raises SessionEnded if it is closing."""
        if self.is_ending:
            raise self._record.ended()
        self._record.use()

    async def chat(
        self,
        text: str,
        *,
        account: Account | None = None,
        message_id: str | None = None,
        also: Sequence[ev.EventData] = (),
        context: str = "",
        author: ev.Contributor | UnsetType = UNSET,
        attachments: Sequence[str] = (),
        is_command: bool = False,
    ) -> Turn:
        """Takes a user's message; returns when it is committed, with what else is to be `also` said of it.
        `attachments` are paths of files in its working directory, which the agent gets with the message.
        The answer comes on the log, unless a person has taken over: then the agent hears of it later. Of
        `context` goes to the agent with the message and is not shown. If its messages are joined
        (`FoldPart.is_joined`), none is refused because others wait: what waits becomes one prompt, and
        messages past the queue's bound are told to the agent with the prompt after them. `is_command`: the
        text may be a command of the agent's, although the session takes none (`FoldPart.refuses_commands`).

        `account` pays for it. Without an `author` it is the owner's; the messages of others take at most half
        of the queue, so that the owner is never kept out. Raises AttachmentRefused, BadFileName,
        ConversationFull, QueueFull, WorkerLimit, QuotaExceeded, BudgetReached, SessionEnded, StoreFull,
        StoreFailed.
        """
        self.touch()
        if (words := self._turns.full_words()) is not None:
            raise ConversationFull(words, session_id=self.session_id)
        files: Sequence[ev.Attachment] = ()
        if attachments:
            await self.files.bring()
            files = await self._services.uploads.attachments(self.place, attachments)
            self.touch()
            if message_id is not None and self.has_message(message_id):
                raise AlreadySaid  # it came with another request while the disk was waited for
        turn = Turn(
            text,
            account=self._record.paid_by(account),
            message_id=message_id,
            context=context,
            author=author,
            attachments=files,
            is_command=is_command,
        )
        words = text or ", ".join(file.name for file in files)
        title: list[ev.EventData] = [] if self.fold.title else [ev.SessionInfo(_title(words))]
        most = self._services.config.limits.queued_messages
        waiting = self.waiting_count
        if author is not UNSET:  # as if the owner had filled the other half
            waiting = max(waiting, self._turns.queue.count_of_others() + most - max(1, most // 2))
        is_too_many = self._turns.is_busy and waiting >= most
        if self.fold.person is not None or (self.fold.is_joined and is_too_many):
            self._turns.count(turn)
            message = msgspec.structs.replace(turn.said(), turn_id=None)
            await self._turns.tell(retold("user", with_files(text, files), author), *title, message, *also)
            turn.finish()
        elif is_too_many:
            raise QueueFull(session_id=self.session_id, retry_after_seconds=5)
        else:
            await self._turns.take(turn, before=title, also=also)
        return turn

    async def repeat(self, text: str, answer: str, *, account: Account) -> None:
        """Takes a user's message whose answer is known already: both are said, and no agent is asked.

        Raises QuotaExceeded, SessionEnded, StoreFull, StoreFailed.
        """
        self.touch()
        turn = Turn(text, account=self._record.paid_by(account))
        self._turns.count(turn)
        turn.finish()
        await self.log.say(
            ev.MessageAdded(turn.message_id, "user", text, turn.turn_id),
            ev.MessageAdded(turn.reply_id, "agent", answer, turn.turn_id),
        )

    async def system(self, text: str) -> str:
        """Takes a system message, which the agent gets with its next prompt; the message's id."""
        self.touch()
        message_id = f"s{self.log.last_seq + 1}"
        events: list[ev.EventData] = [ev.MessageAdded(message_id, "system", text)]
        if self.fold.wallet is not None and "transaction" in text.lower():
            events.append(ev.WalletChanged(None))
        await self._turns.tell(text, *events)
        return message_id

    async def brief(self, text: str, *events: ev.EventData) -> None:
        """Keeps facts of which the agent hears, in these words, with its next prompt."""
        self.touch()
        await self._turns.tell(text, *events)

    async def hand_over(self, *events: ev.EventData) -> None:
        """A person answers from here on, which these facts say (`FoldPart.person`): the agent stops, and what
        waits for it is the person's.
        """
        self.touch()
        await self.log.say(*events)
        await self.interrupt()
        self._turns.unheard += [
            retold("user", with_files(turn.text, turn.attachments), turn.author)
            for turn in self._turns.queue.drop()
        ]
        if self.fold.waiting:
            await self.log.say(self._turns.queue.event())

    async def answer_as_person(self, message_id: str, text: str, *also: ev.EventData) -> None:
        """A person's answer, which the agent hears of with its next prompt."""
        self.touch()
        await self._turns.tell(retold("agent", text), ev.MessageAdded(message_id, "agent", text), *also)

    async def note(self, *events: ev.EventData) -> None:
        """Keeps facts that no turn follows from."""
        self.touch()
        await self.log.say(*events)

    async def set_network(self, network: str) -> None:
        """Notes the network that the user's wallet is on; the agent hears of it with its next prompt."""
        self.touch()
        words = f"The user's wallet is on the network {network}."
        await self._turns.tell(words, ev.NetworkChanged(network))

    async def rename(self, title: str) -> None:
        """Gives the session a title, which its agent does not change any more."""
        await self.note(ev.SessionInfo(title, is_chosen=True))

    async def count_upload(self, size: int, *, counted: int, most: int | None) -> None:
        """So many bytes more, or less, were uploaded to its files, which took `most` before that."""
        await self._record.add_upload(size, counted=counted, most=most)

    async def retain(self, days: float) -> None:
        """Keeps the session so many days after its last use (0: for ever), whatever the configuration
        says.
        """
        self.touch()
        await self._record.keep(retention_days=days)

    async def interrupt(self) -> None:
        """Stops the turn that runs, if one does, and holds what waits; returns when the turn has ended."""
        self.touch()
        await self._turns.interrupt()

    async def answer_egress(self, ask_id: str, choice: Choice, *, principal: Principal) -> HostRule:
        """Answers a question about a host; which host and port. Raises EgressNotAsked, StoreFull,
        StoreFailed.
        """
        self.touch()
        if self._admission is None:
            raise EgressNotAsked(session_id=self.session_id)
        rule = self._admission.answer(ask_id, choice, principal=principal)
        await self.log.commit(self.log.last_seq)
        return rule

    async def narrow_egress(self, hosts: tuple[str, ...]) -> None:
        """Lets its workers reach no more than these hosts, of those that its lists allow."""
        if self.fold.egress.narrowed != hosts:
            await self.note(ev.EgressNarrowed(hosts))

    @property
    def spending(self) -> ev.Spending:
        """What its model calls have cost so far, and what they may cost in all."""
        return self._turns.spending

    async def set_budget(self, cost: float, *, by: ev.BudgetBy) -> ev.Spending:
        """What its model calls may cost in all, in dollars (0: no limit). Raises StoreFull, StoreFailed."""
        self.touch()
        return await self._turns.set_budget(cost, by=by)

    async def start_from(self, workspace: str) -> None:
        """Has its first worker find the files of a workspace."""
        if self.fold.workspace is None:
            await self.note(ev.WorkspaceChanged(workspace))

    async def note_pushed(self, branch: str, commit: str) -> None:
        """Remembers which commit it pushed to a branch."""
        if self.fold.workspace is not None:
            changed = msgspec.structs.replace(self.fold.workspace, pushed_branch=branch, pushed=commit)
            await self.note(changed)

    async def release_queue(self) -> None:
        """Sends the messages that an interrupt held."""
        self.touch()
        queue = self._turns.queue
        queue.release()
        try:
            await self.log.say(queue.event())
        except GatewayError:
            queue.hold()
            raise
        await self._turns.ready_for_next()
        self._turns.next()

    async def drop_queued(self, message_id: str | None = None) -> int:
        """Drops waiting messages, all or the one named; how many."""
        self.touch()
        dropped = self._turns.queue.drop(message_id)
        if dropped:
            gone = [ev.MessageWithdrawn(turn.message_id, "dropped") for turn in dropped]
            await self.log.say(*gone, self._turns.queue.event())
        return len(dropped)

    async def change_queued(
        self, message_id: str, *, text: str | None = None, before: str | None = None
    ) -> None:
        """Changes what a waiting message says (the owner's own only), or its place: before the message of
        another id, or with "" behind all. Raises MessageNotWaiting, Forbidden.
        """
        self.touch()
        await self._turns.change_queued(message_id, text=text, before=before)

    async def withdraw(self, is_theirs: Callable[[ev.Contributor], bool]) -> int:
        """Withdraws the waiting messages of authors whose link was revoked, and says so; how many."""
        return await self._turns.withdraw(is_theirs)

    async def restart(self) -> None:
        """Forgets the deaths of the past, so that the next verb brings a worker although they were many."""
        self.touch()
        self._seat.start_over()
        if self.state is SessionState.PARKED:
            await self.log.say(ev.SessionStateChanged(SessionState.PARKED))

    async def undo_files(self, at_seq: int) -> Undone:
        """Makes the working directory what it was at a number of the log; the agent hears of it with its next
        prompt. Raises SessionBusy while a turn runs or waits to, NoSnapshot, FilesNotRestored.
        """
        self.touch()
        async with self.files.putting_back:  # a turn that comes meanwhile waits for it
            if self.is_busy:
                raise SessionBusy("A turn is running: its files can be put back when it has ended.")
            await self.files.bring()
            record = self.record
            undone = await self._services.snapshots.undo(
                record.key, record.uid, at_seq=at_seq, seq=self.log.last_seq
            )
            self.files.touched()
            words = _undone_words(undone)
            message = ev.MessageAdded(f"s{self.log.last_seq + 1}", "system", words)
            restored = ev.FilesRestored(at_seq, undone.files, len(undone.failed))
            seq = self.log.last_seq + 2  # behind the words
            await self._turns.tell(words, message, restored)
        return msgspec.structs.replace(undone, seq=seq)

    # -- verbs of operators ---------------------------------------------------------------------------------

    async def park(self) -> bool:
        """Stops its worker and returns when it is gone; whether there was one. Raises SessionBusy while
        there is something to do.
        """
        host = self._seat.host
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
        host = self._seat.host
        if host is None:
            return False
        self._seat.ask_to_end(WorkerEnd.KILLED, KILLED_WORDS)
        await host.stopped.wait()
        with contextlib.suppress(GatewayError):
            await self.log.commit(self.log.last_seq)
        return True

    # -- what its agent says (`agents.peer.Owner`) ----------------------------------------------------------

    def on_events(self, events: list[ev.EventData], *, used: ev.OnUsed = ev.ignored) -> None:
        """The agent's updates as events; `used` as `Event.said` has it."""
        self._record.use()
        if self.fold.is_title_chosen:
            events = [event for event in events if not isinstance(event, ev.SessionInfo)]
        self._turns.heard(events, used=used)

    def on_asked(self, asked: ev.PermissionAsked) -> None:
        """The agent asks for permission."""
        self._on_waits(asked)

    def on_question(self, asked: ev.QuestionAsked) -> None:
        """The agent asks its user something."""
        self._on_waits(asked)

    def _on_waits(self, asked: ev.EventData) -> None:
        self._record.use()
        self.log.append(asked, durable=True)
        if self.state is SessionState.RUNNING:
            self._seat.transition(SessionState.WAITING)

    def on_ruled(self, asked: ev.PermissionAsked, answered: ev.PermissionAnswered) -> None:
        """The agent asks for permission, and a rule answers."""
        self._record.use()
        self.log.append(asked, answered, durable=True)

    @property
    def rules(self) -> tuple[ev.NamedRule, ...]:
        """The permission rules that hold for it, the operator's and its own."""
        return self.answers.rules

    async def wanted_options(self) -> dict[str, ev.OptionValue]:
        """What the options of its agent are to be."""
        return await self.answers.wanted_options()

    def on_wallet(self, pending: str | None) -> None:
        """The agent prepared a transaction for the user's wallet."""
        self.log.append(ev.WalletChanged(pending), durable=True)

    @property
    def account(self) -> Account:
        """Who pays for what its agent does now."""
        return self._turns.payer

    def on_model_called(self, model: str, seconds: float, outcome: ModelResult | ModelError) -> None:
        """A model call on the agent's behalf is over."""
        self._turns.model_called(model, seconds, outcome)

    # -- what the ledger says -------------------------------------------------------------------------------

    def on_settled(self, call: LedgerCall, seconds: float) -> None:
        """A model call of its agent is counted."""
        if self.state is not SessionState.CLOSED:
            self._turns.settled(call, seconds)

    def on_budget_near(self, near: Near) -> None:
        """Most of a budget is used."""
        if self.state is not SessionState.CLOSED:
            self._turns.budget_near(near)

    def on_budget_reached(self, error: BudgetReached) -> None:
        """A model call of its agent was refused."""
        if self.state is not SessionState.CLOSED:
            self._turns.budget_reached(error)

    def refusal(self) -> str | None:
        """Why no more of the agent's output is kept, in words for the user."""
        return self._turns.refusal()

    def is_ahead(self, most_bytes: int) -> bool:
        """Whether so much of what was appended, or too much of all sessions', is not on disk yet."""
        return self.log.is_ahead(most_bytes)

    async def written(self) -> None:
        """Waits until what was appended is on disk."""
        await self.log.written()

    def when_written(self, done: Callable[[], None]) -> None:
        """Calls back once what was appended is on disk, though the session may end meanwhile."""
        self.log.when_written(done)

    # -- what its log says ----------------------------------------------------------------------------------

    def note_aside(self, fact: ev.ApplicationFact) -> None:
        """Appends a fact that nobody waits for; no use of the session, so the idle clock goes on."""
        self.log.append(fact)

    def _on_visible(self, event: ev.Event) -> None:
        if self._is_loaded:
            self._count_answer(event)
            self._spans.appended(event, self._turns.current)
        self.fold.apply(event)
        self._record.size_bytes += len(event.body)
        if event.kind is ev.TurnStarted:
            self._seat.wake()
        if event.kind is ev.SessionOptions and self._is_loaded and isinstance(event.data, ev.SessionOptions):
            self._services.known_options.note(self.record.owner, self.record.agent, event.data.options)
        if self._is_loaded:
            self._services.observers.appended(self, event)

    def _count_answer(self, event: ev.Event) -> None:
        """Counts answers to what agents ask, before the fold forgets what was asked."""
        match event.data if event.kind in _ANSWERS else None:
            case ev.PermissionAnswered(permission_id=permission_id, option_id=chosen, rule=rule):
                asked = self.fold.permissions.get(permission_id)
                options = asked.options if asked is not None else ()
                kind = next((option.kind for option in options if option.option_id == chosen), None)
                self._services.metrics.permission_answered(kind, is_by_rule=isinstance(rule, ev.NamedRule))
            case ev.QuestionAnswered(outcome=outcome):
                self._services.metrics.questions.labels(outcome).inc()

    def _on_refused(self, _seqs: set[int], error: GatewayError) -> None:
        self._turns.refused()
        if not self.log.is_founded:
            log.warning("session %s: it is not stored, and ends: %s", self.record.key, error)
            if self._services.store.directory is not None:
                self.log.fence()  # another gateway may make one of its name, and use its numbers
            self._seat.ask_to_close(CloseReason.STORE_FAILED)

    def _on_fenced(self) -> None:
        """Another gateway has it: here it ends, without a word."""
        log.warning("session %s: another gateway has it", self.record.key)
        self._seat.ask_to_close(CloseReason.FENCED)

    def _on_spoiled(self, error: GatewayError) -> None:
        """Something that its agent said cannot be stored: the log goes on without it, the worker does not."""
        words = f"The agent said something that cannot be kept. {error}"
        self._seat.ask_to_end(WorkerEnd.STORE_FAILED, words)


def _undone_words(undone: Undone) -> str:
    files = "1 file" if undone.files == 1 else f"{undone.files} files"
    failed = f" {len(undone.failed)} could not be put back." if undone.failed else ""
    return f"The user has put the working directory back to an earlier state: {files} changed.{failed}"


def _title(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"
