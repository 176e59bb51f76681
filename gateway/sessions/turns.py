"""Turns: one user message each, up to the agent's completion: the one that runs, and those that wait.

Guarantees: a turn that began ends with an event, whatever ends it, and gives back what it took; a message
that the store refuses leaves no turn; what waits when a turn breaks is held until the user sends or drops it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.agents.completion import ModelError, ModelResult
from gateway.agents.connection import AgentGone, WireError
from gateway.agents.peer import AgentPeer
from gateway.agents.prompt import file_blocks, prompt_blocks, prompt_text
from gateway.errors import BudgetReached, Forbidden, GatewayError, MessageNotWaiting
from gateway.events import facts as ev
from gateway.events.fold import ChatState
from gateway.events.lifecycle import CloseReason, SessionState, WorkerEnd
from gateway.files.arrival import FilesPlace
from gateway.files.attached import Seen
from gateway.models.budgets import MICRO, Near
from gateway.principal import Account, is_visitor
from gateway.sessions.files import SessionFiles
from gateway.sessions.host import WorkerHost, output_failed
from gateway.sessions.log import EventLog
from gateway.sessions.queue import Queue, Turn
from gateway.sessions.record import Record
from gateway.sessions.seat import Seat
from gateway.sessions.services import Services
from gateway.stores.ledger import LedgerCall
from gateway.telemetry import logs
from gateway.telemetry.metrics import OTHER, STOP_REASONS
from gateway.telemetry.tracing import CONTENT_CHARACTERS
from worker.foreign import clamped

MEGABYTE: Final = 1024 * 1024
BUDGET_SECONDS: Final = 2.0
"""How long an agent has to end a turn by itself after a model call was refused for a budget."""


class Turns:
    """See the module."""

    def __init__(
        self,
        record: Record,
        seat: Seat,
        log: EventLog,
        fold: ChatState,
        services: Services,
        files: SessionFiles,
        *,
        place: Callable[[], FilesPlace],
    ) -> None:
        """`place`: where the session's files lie."""
        self._record = record
        self._seat = seat
        self._log = log
        self._fold = fold
        self._services = services
        self._place = place
        self._files = files
        seat.has_turn = lambda: self.current is not None
        seat.on_moved = self._show_position
        self.queue = Queue()
        self.current: Turn | None = None
        self.unheard: list[str] = []
        """What the agent hears with its next prompt."""
        self.ended_seq = 0
        """Up to here every turn has ended and waits to be compacted; 0: nothing waits."""
        self.lost_questions: set[str] = set()
        """Those of a turn that an earlier gateway ended in, which may be answered until the next turn
        begins.
        """
        self.ids: logs.Ids = {}
        self._began_at = (0, 0)
        """The bytes of the log and the characters of the fold when the current turn began."""
        self._context_tokens = 0
        self._has_calls = False
        """Whether its agent calls models through the gateway: then what it says of tokens is not counted."""
        self.spending = ev.Spending(0)
        """What its model calls have cost so far."""
        self._shown_position: tuple[int | None, bool] = None, False
        """Where in the line for workers the current turn is, and whether for want of memory, as people read.
        """
        self._told_budget: tuple[str, str] | None = None
        """Of which budget, in which turn, it was said last that it is used up."""

    @property
    def is_due(self) -> bool:
        """Whether a turn is committed and waits for the agent."""
        return self.current is not None and self.current.turn_id == self._fold.turn_id

    @property
    def is_cut(self) -> bool:
        """Whether the user interrupted the current turn."""
        return self.current is not None and self.current.is_cut

    @property
    def is_busy(self) -> bool:
        """Whether a turn runs, or waits to run."""
        return self.current is not None or (len(self.queue) > 0 and not self.queue.is_held)

    def has_message(self, message_id: str) -> bool:
        """Whether a user's message of this id is in the conversation, or on its way into it."""
        turn = self.current
        is_next = turn is not None and turn.message_id == message_id
        return is_next or self._fold.has_message(message_id) or self.queue.has(message_id)

    # -- beginning --------------------------------------------------------------------------------------

    async def take(
        self, turn: Turn, *, before: Sequence[ev.EventData] = (), also: Sequence[ev.EventData] = ()
    ) -> None:
        """Takes a user's message: its turn begins, or waits behind others; returns when that is committed.

        Raises WorkerLimit, QuotaExceeded, BudgetReached, StoreFull, StoreFailed, SessionEnded.
        """
        lead = turn
        if not self.is_busy:
            await self._ready(turn.account)
        self.go_on()  # what waits for a budget was said before
        if self.is_busy:
            soft = self.count(turn)
            self.queue.put(turn)
            follow: list[ev.EventData] = [self.queue.event()]
        else:
            with self._seat.admission(turn.account) as taken:
                soft = self.count(turn)
                if self._fold.is_joined:  # no other message sends what is held
                    lead = self._with_held(turn)
                self._begin(lead, taken)
            follow = self._starting(lead) + ([] if lead is turn else [self.queue.event()])
        seq = self._log.append(*before, turn.said(), *follow, *soft, *also, durable=True, rejectable=True)
        if lead is self.current:
            lead.open_seq = seq
            self._seat.wake()
        try:
            await self._log.commit(seq)
        except GatewayError:
            self._restore_lost(follow)
            if lead is not turn:
                self.queue.put_back_all(lead)
                self.queue.hold()
            if self.queue.drop(turn.message_id):
                self._log.append(self.queue.event())
            raise

    def count(self, turn: Turn) -> list[ev.EventData]:
        """Counts a message against the quotas; notices of what is nearly used up. Raises QuotaExceeded,
        BudgetReached.
        """
        soft = self._services.quotas.take_message(turn.account, session_bytes=self._record.size_bytes)
        return [
            ev.Notice(f"n{turn.turn_id}.{number}", "warning", "quota", words, quota)
            for number, (words, quota) in enumerate(soft)
        ]

    async def _ready(self, account: Account) -> None:
        """Returns when other gateways leave room for a turn, or when it would have to wait here anyway. From
        here on nothing is awaited before it begins. Raises QuotaExceeded, StoreFull, StoreFailed,
        SessionEnded.
        """
        try:
            await self._services.quotas.ready(account, has_worker=self._seat.has_place)
        except GatewayError:
            if not self.is_busy:
                raise
        if self._seat.is_closing:  # meanwhile
            raise self._record.ended()

    async def ready_for_next(self) -> None:
        """Before `next` and `go_on`, if the quotas of what has just ended were given back: returns when other
        gateways leave room for the next turn, or do not.
        """
        if (account := self.queue.account) is not None and self.current is None:
            with contextlib.suppress(GatewayError):  # who begins it hears of it
                await self._services.quotas.ready(account, has_worker=self._seat.has_place)

    def _with_held(self, turn: Turn) -> Turn:
        """The turn of all the messages that are held, and of this one behind them."""
        self.queue.put(turn)
        self.queue.release()
        return self.queue.next_with_all() or turn

    def _begin(self, turn: Turn, taken: ExitStack) -> None:
        """Makes it the current turn, which keeps what was taken for it."""
        turn.taken = taken.pop_all()
        self.current = turn
        self._began_at = (self._log.appended_bytes, self._fold.characters)
        turn.began = self._services.monotonic()
        turn.span = self._services.tracer.start(
            f"invoke_agent {self._record.kept.agent}",
            parent=turn.cause,
            attributes=self.traced("invoke_agent"),
        )

    def next(self) -> None:
        """Begins the next waiting turn, if it may."""
        if self.current is not None or self._seat.is_closing:
            return
        try:
            self._begin_next()
        except BudgetReached as error:
            self.budget_reached(error)
            self._log.append(*self._hold(for_budget=True), durable=True)
        except GatewayError as error:
            self.queue.hold()
            notice = self._notice("error", error.code, error.message)
            self._log.append(self.queue.event(), notice, durable=True)

    def _begin_next(self) -> None:
        """Raises GatewayError, and then it waits on."""
        turn = self.queue.next_with_all() if self._fold.is_joined else self.queue.next()
        if turn is None:
            return
        try:
            self._services.ledger.budgets.check(turn.account)
            with self._seat.admission(turn.account) as taken:
                self._begin(turn, taken)
        except GatewayError:
            self.queue.put_back_all(turn)
            raise
        self._log.append(*self._starting(turn), self.queue.event(), durable=True)
        self._seat.wake()

    def go_on(self) -> GatewayError | None:
        """Begins the next turn of those that wait for a budget, if it may; why it may not."""
        if not self.queue.waits_for_budget or self.current is not None or self._seat.is_closing:
            return None
        self.queue.release()
        try:
            self._begin_next()
        except GatewayError as error:
            self.queue.hold("budget")
            return error
        return None

    def _hold(self, *, for_budget: bool) -> list[ev.EventData]:
        """What waits goes on when a budget allows it, or when its person says so; the events of that."""
        if not self.queue.hold("budget" if for_budget else "person"):
            return []
        if for_budget:
            self._services.waits.add(self._record.kept)
        words = _held_words(len(self.queue), for_budget=for_budget)
        kind = "budget" if for_budget else "person"
        notice = self._notice("info", "queue_held", words, messages=len(self.queue), kind=kind)
        return [self.queue.event(), notice]

    def _starting(self, turn: Turn) -> list[ev.EventData]:
        """A turn's beginning, which ends the questions that were left open."""
        left = [ev.QuestionAnswered(question_id, "cancel") for question_id in sorted(self.lost_questions)]
        self.lost_questions.clear()
        return [*left, turn.started(), *self._waits(turn)]

    def _waits(self, turn: Turn) -> list[ev.EventData]:
        """That it waits for a worker, if it does."""
        position, for_memory = self._seat.start_position, self._seat.waits_for_memory
        self._shown_position = position, for_memory
        if position is None:
            return []
        ids = tuple(one.message_id for one in (turn, *turn.carried))
        return [_start_position(turn, position, ids, for_memory=for_memory)]

    def _show_position(self, position: int) -> None:
        shown = position, self._seat.waits_for_memory
        if self.current is not None and shown != self._shown_position:
            self._shown_position = shown
            self._log.show(_start_position(self.current, position, for_memory=shown[1]))

    def wait_again(self) -> None:
        """The turn leaves the place of its session to those who wait, and waits behind them."""
        self._seat.step_back()
        if self.current is not None and (waits := self._waits(self.current)):
            self._log.append(*waits, durable=True)

    def _restore_lost(self, events: Sequence[ev.EventData]) -> None:
        """The store did not take these."""
        self.lost_questions |= {one.question_id for one in events if isinstance(one, ev.QuestionAnswered)}

    def restore(self, lost: Sequence[ev.WaitingMessage] = (), *, is_cut: bool = False) -> None:
        """Messages that waited when the last life ended are held: the user sends or drops them, unless they
        wait for a budget. `lost` are those of a turn that waited for a worker, and has ended. `is_cut`: a
        turn has ended with that life.
        """
        for known in (*lost, *self._fold.waiting):
            turn = Turn(
                known.text,
                account=self._record.account,
                message_id=known.message_id,
                turn_id=known.turn_id,
                author=known.author,
                attachments=known.attachments or (),
            )
            self.queue.put(turn)
        held = self._hold(for_budget=self._fold.held_for == "budget" and not lost)
        if held and (lost or not self._fold.is_held):
            self._log.append(*held, durable=True)
        elif held and is_cut:
            self._log.append(self.queue.event(), durable=True)  # see `_end`

    def refused(self) -> None:
        """The store took nothing: the turn that was to begin does not."""
        turn = self.current
        if turn is not None and turn.open_seq and self._fold.turn_id != turn.turn_id:
            self.current = None
            turn.finish()

    async def begun(self) -> None:
        """Waits until the beginning of the current turn is committed, or refused; one that cannot be refused
        is not waited for.
        """
        turn = self.current
        if turn is not None and turn.open_seq and not self.is_due:
            with contextlib.suppress(GatewayError):
                await self._log.commit(turn.open_seq)

    async def tell(self, text: str, *events: ev.EventData) -> None:
        """Says something that the agent hears with its next prompt, unless the store refuses it."""
        self.unheard.append(text)
        try:
            await self._log.say(*events)
        except GatewayError:
            with contextlib.suppress(ValueError):
                self.unheard.remove(text)
            raise

    async def change_queued(self, message_id: str, *, text: str | None, before: str | None) -> None:
        """See `Session.change_queued`. If the store refuses, everything is as before."""
        turn, next_one = self.queue.find(message_id), self.queue.find(before or "")
        if turn is None or (before and next_one is None):
            raise MessageNotWaiting
        if text is not None and turn.author is not UNSET:
            raise Forbidden("Somebody else has written this message: only its place can be changed.")
        if text is not None and self._fold.refuses_commands:  # what it may say was judged when it came
            raise Forbidden("What was written here stays as it is: only its place can be changed.")
        old_text, order, events = turn.text, self.queue.order(), list[ev.EventData]()
        if text is not None and text != turn.text:
            turn.text = text
            events = [turn.said()]
        if before is not None and turn is not next_one:
            self.queue.move(turn, before=next_one)
        try:
            await self._log.say(*events, self.queue.event())
        except GatewayError:
            turn.text = old_text
            self.queue.restore_order(order)
            raise

    async def withdraw(self, is_theirs: Callable[[ev.Contributor], bool]) -> int:
        """Drops the waiting messages of authors whose link was revoked; how many. Raises StoreFull,
        StoreFailed: then they do not wait any more, but it is not said.
        """
        dropped = self.queue.drop_by(is_theirs)
        if dropped:
            gone = [ev.MessageWithdrawn(turn.message_id, "link_revoked") for turn in dropped]
            names = [turn.author.name for turn in dropped if turn.author is not UNSET]
            who = ", ".join(dict.fromkeys(names))
            words = _withdrawn_words(len(names), who)
            notice = self._notice("info", "message_withdrawn", words, messages=len(names), names=who)
            await self._log.say(*gone, self.queue.event(), notice)
        return len(dropped)

    # -- running ----------------------------------------------------------------------------------------

    async def run(self, host: WorkerHost, peer: AgentPeer) -> None:
        """Runs the current turn up to the agent's completion. Raises WorkerFailed if the worker did not live
        to see it.
        """
        await self._files.before_turn()
        turn, seat = self.current, self._seat
        if turn is None or self.end_if_cut():
            return
        attached = await self._attached(turn, peer)
        if self.current is not turn:  # it was interrupted meanwhile
            return
        seat.transition(SessionState.RUNNING)
        self.ids["turn"] = turn.turn_id
        blocks = self._blocks(turn, peer, attached)
        heard = len(self.unheard)
        turn.is_prompted = True
        ended: ev.TurnEnded | None = None
        host.begin_turn()
        try:
            async with seat.within(host.turn_seconds):
                ended = await peer.prompt(turn.turn_id, blocks)
        except TimeoutError:
            seat.check_time(host.turn_seconds)
        except AgentGone:
            raise await host.why_gone() from None
        except WireError as error:
            raise output_failed(error) from error
        finally:
            host.end_turn()
            peer.end_turn(keeps_questions=self._is_drained)
        del self.unheard[:heard]
        if ended is not None:
            self._record.keep_soon()  # in the commit of the turn's end
            self._end(turn, _by_budget(turn, ended))
            seat.transition(SessionState.IDLE)
            seat.press()
            if not seat.is_parking:  # else what waits here begins behind those who wait for a worker
                self.next()

    async def _attached(self, turn: Turn, peer: AgentPeer) -> list[Seen]:
        """What the agent is shown of the turn's files; says which of them cannot be read."""
        if not (attachments := turn.all_attachments):
            return []
        seen = await self._services.uploads.seen(self._place(), attachments, peer.shown)
        missing = [f"{one.attachment.path}: {one.problem}" for one in seen if one.problem]
        if missing:
            which = "; ".join(missing)
            words = f"The agent is told that it cannot be shown every attached file. {which}."
            values: dict[str, str | int] = {"files": len(missing), "which": which}
            notice_id = f"{turn.turn_id}.files"
            self._log.append(ev.Notice(notice_id, "warning", "attachment_missing", words, values=values))
        return seen

    def _blocks(self, turn: Turn, peer: AgentPeer, attached: Sequence[Seen]) -> list[dict[str, object]]:
        texts = turn.without_commands() if self._refuses_commands else turn.texts
        introductions, text = prompt_text(texts, names_authors=self._fold.several_write)
        return prompt_blocks(
            text,
            [*self.unheard, *introductions],
            peer.transcript_before(turn.message_id),
            is_built_in=self._record.agent.is_built_in,
            context=turn.context,
            files=file_blocks(attached, cwd=peer.cwd),
        )

    @property
    def _refuses_commands(self) -> bool:
        """Whether none of its messages is a command of the agent's: an application says so, or the session
        is an anonymous visitor's.
        """
        is_visitors = is_visitor(self._record.kept.owner) and not self._services.config.visitors.commands
        return is_visitors or self._fold.refuses_commands

    # -- ending -----------------------------------------------------------------------------------------

    def _end(self, turn: Turn, ended: ev.TurnEnded | ev.TurnInterrupted) -> None:
        """Appends the turn's end, with its words for everybody who sees messages only."""
        events: list[ev.EventData] = [ended]
        words = _words_of(ended)
        if turn.is_cut:
            events.append(ev.MessageAdded(f"{turn.turn_id}.cut", "system", "Interrupted by user"))
        elif words:
            events.append(ev.MessageAdded(f"{turn.turn_id}.error", "system", words))
        if turn.is_cut or words is not None:
            events += self._hold(for_budget=bool(turn.budget) and not turn.is_cut)
        elif self.queue.waits_for_budget:  # the turn of somebody else, whom the budget does not hold
            events.append(self.queue.event())  # the store knows from the last of these what waits
        self.current = None
        self.ended_seq = self._log.append(*events, durable=True)
        self._files.ended(turn.turn_id, self.ended_seq - len(events) + 1)
        outcome = _outcome(ended)
        seconds = self._services.monotonic() - turn.began
        self._services.metrics.turn_ended(outcome, seconds, tenant=self._record.tenant)
        turn.span.end(
            error="" if isinstance(ended, ev.TurnEnded) and outcome != "error" else outcome,
            attributes={"agent_gateway.turn.outcome": outcome, **self._traced_texts(turn)},
        )
        self.ids.pop("turn", None)
        turn.finish()
        self._seat.wake()

    def end_if_cut(self) -> bool:
        """Ends a turn that the user interrupted before the agent heard of it; whether it was one."""
        turn = self.current
        if turn is None or not turn.is_cut:
            return False
        self._end(turn, ev.TurnEnded(turn.turn_id, "cancelled"))
        return True

    def cut(self, end: WorkerEnd, message: str | None) -> None:
        """Ends the turn that its worker did not."""
        turn = self.current
        if turn is None or (end is WorkerEnd.PARKED and message is None):
            return
        if self._is_drained and self._seat.is_in_line:  # the next gateway holds its messages
            self.current = None
            turn.finish()
            return
        if self._seat.peer is not None:
            self._seat.peer.end_turn(keeps_questions=self._is_drained)
        words = message or _closed_words(self._seat.close_reason)
        self._end(turn, ev.TurnInterrupted(turn.turn_id, str(end), words))

    @property
    def _is_drained(self) -> bool:
        """Whether the session ends with the gateway, and goes on in the next one."""
        return self._seat.close_reason is CloseReason.DRAINED

    def crash_loop(self, words: str) -> None:
        """Ends the turn that gets no worker, because too many died lately."""
        if self.current is not None:
            self._end(self.current, ev.TurnInterrupted(self.current.turn_id, "crash_loop", words))

    async def interrupt(self) -> None:
        """Stops the turn that runs, if one does, and holds what waits; returns when the turn has ended."""
        turn, seat = self.current, self._seat
        if turn is not None:
            turn.is_cut = True
            if seat.peer is not None and turn.is_prompted:
                self._cancel()
            else:
                await self.begun()
                if self.current is turn and self.is_due and not turn.is_prompted:
                    self.end_if_cut()
            await asyncio.wait([turn.done])
        await self._log.commit(self._log.last_seq)

    @property
    def payer(self) -> Account:
        """Who pays for what the agent does now."""
        return self.current.account if self.current is not None else self._record.account

    # -- what its models cost ---------------------------------------------------------------------------

    def settled(self, call: LedgerCall, seconds: float) -> None:
        """A model call of its agent is counted: says what all of them cost."""
        self._has_calls = True
        budgets, key = self._services.ledger.budgets, self._record.key
        self.spending = ev.Spending(
            spent=round(self.spending.spent + (call.cost or 0) / MICRO, 6),
            limit=budgets.limits_of(("session", key)).cost_per_day or None,
            is_estimated=self.spending.is_estimated or call.is_estimated or call.cost is None,
            budget=budgets.of_session(key) or UNSET,
            budget_by=self.spending.budget_by,
        )
        self._log.append(
            ev.Usage(
                input_tokens=call.input + call.cache_read + call.cache_write,
                output_tokens=call.output + call.reasoning,
                provider=call.provider, model=call.model, spending=self.spending,
            )
        )  # fmt: skip
        if not self._record.agent.is_built_in:
            self._trace_call(call, seconds)

    def know_spending(self, spending: ev.Spending) -> None:
        """What its calls have cost so far, as its log says, and what they may cost."""
        self.spending = spending
        own = None if spending.budget_by is UNSET else spending.budget or 0.0
        self._services.ledger.budgets.know_session(self._record.key, spent=spending.spent, own=own)

    async def set_budget(self, cost: float, *, by: ev.BudgetBy) -> ev.Spending:
        """What its calls may cost in all, in dollars (0: no limit). Raises StoreFull, StoreFailed."""
        before = self.spending
        self.know_spending(msgspec.structs.replace(before, budget=cost or UNSET, budget_by=by))
        try:
            await self._log.say(ev.Usage(spending=self.spending))
        except GatewayError:  # calls may have been counted meanwhile
            kept = {"budget": before.budget, "budget_by": before.budget_by}
            self.know_spending(msgspec.structs.replace(self.spending, **kept))
            raise
        self._services.waits.ask(self._record.key)
        return self.spending

    def budget_near(self, near: Near) -> None:
        """Most of a budget is used: says so."""
        notice_id = f"n{self._log.last_seq + 1}"
        self._log.append(ev.BudgetNear(notice_id, near.words, near.limit, near.used, near.allowed))

    def budget_reached(self, error: BudgetReached) -> None:
        """A call was refused: says so once in a turn, and ends the turn if the agent does not."""
        turn = self.current
        told = (error.limit, turn.turn_id if turn is not None else "")
        if told != self._told_budget:
            self._told_budget = told
            spent = ev.BudgetSpent(error.message, error.limit, error.used, error.allowed)
            self._log.append(spent, durable=True)
        if turn is not None and turn.is_prompted and not turn.budget:
            turn.budget = error.message
            asyncio.get_running_loop().call_later(BUDGET_SECONDS, self._stop_for_budget, turn)

    def _stop_for_budget(self, turn: Turn) -> None:
        """The agent had time to end the turn by itself."""
        if self.current is turn and self._seat.state in (SessionState.RUNNING, SessionState.WAITING):
            self._cancel()

    def _cancel(self) -> None:
        """Asks the agent to stop, and gives it time to."""
        if self._seat.state is not SessionState.INTERRUPTING:
            self._seat.transition(SessionState.INTERRUPTING)
        if self._seat.peer is not None:
            self._seat.peer.cancel()
        if self._seat.host is not None:
            self._seat.host.cut_calls()
        self._seat.deadline.move(self._services.config.sessions.interrupt_timeout_seconds)

    def _notice(self, level: str, code: str, text: str, **values: str | int) -> ev.Notice:
        notice_id = f"n{self._log.last_seq + 1}"
        return ev.Notice(notice_id, level, code, text, values=values or UNSET)  # type: ignore[arg-type]

    # -- what the agent says ----------------------------------------------------------------------------

    def heard(self, events: list[ev.EventData], *, used: ev.OnUsed = ev.ignored) -> None:
        """Appends the agent's updates, and counts what they say of tokens; `used` as `Event.said` has it."""
        for event in events:
            if isinstance(event, ev.Usage):
                self._meter(event)
        self._log.append(*events, used=used)
        turn = self.current
        if turn is not None and self._services.config.telemetry.capture_content:
            turn.answer += [item.text for item in events if isinstance(item, ev.TextDelta)]
        if turn is not None and not turn.has_spoken and any(isinstance(item, _WORDS) for item in events):
            turn.has_spoken = True
            self._services.metrics.first_token(self._record.last_used - turn.began)

    def _meter(self, usage: ev.Usage) -> None:
        """Tokens of a model call, or, of agents that tell only how full their context is, what it grew by.
        Those of an agent with a provider were counted when it called.
        """
        tokens = clamped((usage.input_tokens or 0) + (usage.output_tokens or 0))
        if not tokens and usage.used is not None:
            tokens = max(0, usage.used - self._context_tokens)
            self._context_tokens = usage.used
        if tokens > 0 and not self._has_calls and not self._record.agent.provider:
            self._services.ledger.use(self.payer, told_tokens=tokens)

    def refusal(self) -> str | None:
        """Why no more of the agent's output is kept, in words for the user."""
        limits, (bytes_before, characters_before) = self._services.config.limits, self._began_at
        if self._log.appended_bytes - bytes_before > limits.turn_bytes:
            over = limits.turn_bytes
        elif self._fold.characters - characters_before > limits.answer_characters:
            over = limits.answer_characters
        else:
            return self.full_words()
        return f"The answer is longer than the {over / MEGABYTE:.3g} MB that it may be; the agent was ended."

    def full_words(self) -> str | None:
        """For a conversation that may not grow; None if it may."""
        limits, fold = self._services.config.limits, self._fold
        if fold.characters > limits.conversation_characters:
            limit = limits.conversation_characters
        elif fold.held_bytes > limits.session_memory_bytes:
            limit = limits.session_memory_bytes
        else:
            return None
        return f"This conversation has reached the {limit / MEGABYTE:.3g} MB that it may be; start a new one."

    # -- what is traced ---------------------------------------------------------------------------------

    def model_called(self, model: str, seconds: float, outcome: ModelResult | ModelError) -> None:
        """A model call on the agent's behalf is over."""
        metrics, model = self._services.metrics, model or OTHER
        error = outcome.code if isinstance(outcome, ModelError) else ""
        metrics.model_called(model, seconds, error=error)
        attributes = {"gen_ai.request.model": model}
        used: dict[str, int] = {}
        if isinstance(outcome, ModelResult):
            used = {
                "input_tokens": outcome.input_tokens or 0,
                "output_tokens": outcome.output_tokens or 0,
            }
            metrics.tokens_used(model, **used, tenant=self._record.tenant)
        figures = {f"gen_ai.usage.{name}": count for name, count in used.items()}
        self.record_span("chat", model, seconds, attributes | figures, error)

    def _trace_call(self, call: LedgerCall, seconds: float) -> None:
        """Notes the span of a call that an agent with a command made."""
        attributes: dict[str, str | int] = {
            "gen_ai.request.model": call.model,
            "gen_ai.provider.name": call.provider,
            "gen_ai.usage.input_tokens": call.input + call.cache_read + call.cache_write,
            "gen_ai.usage.output_tokens": call.output + call.reasoning,
            "gen_ai.usage.cache_read.input_tokens": call.cache_read,
            "gen_ai.usage.cache_creation.input_tokens": call.cache_write,
        }
        if call.model_answered:
            attributes["gen_ai.response.model"] = call.model_answered
        error = "" if call.status is not None and 200 <= call.status < 400 else str(call.status)
        self.record_span("chat", call.model, seconds, attributes, error)

    def _traced_texts(self, turn: Turn) -> dict[str, str]:
        """What was said to the agent and by it, if an operator wants that in traces."""
        if not self._services.config.telemetry.capture_content:
            return {}
        return {
            "gen_ai.input.messages": _messages("user", "\n\n".join(text for text, _ in turn.texts)),
            "gen_ai.output.messages": _messages("assistant", "".join(turn.answer)),
        }

    def traced(self, operation: str) -> dict[str, str | int]:
        """What every span of this session says."""
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.agent.name": self._record.kept.agent,
            "gen_ai.conversation.id": self._record.key,
            "agent_gateway.tenant": self._record.tenant,
        }

    def record_span(
        self, operation: str, what: str, seconds: float, attributes: dict[str, str | int], error: str = ""
    ) -> None:
        """Notes a span below the turn that runs."""
        parent = self.current.span if self.current is not None else None
        self._services.tracer.record(
            f"{operation} {what}",
            seconds=seconds,
            parent=parent,
            attributes=self.traced(operation) | attributes,
            error=error,
        )


def _messages(role: str, text: str) -> str:
    """One message, as the GenAI conventions write a list of them."""
    part = {"type": "text", "content": text[:CONTENT_CHARACTERS]}
    return msgspec.json.encode([{"role": role, "parts": [part]}]).decode()


def _by_budget(turn: Turn, ended: ev.TurnEnded) -> ev.TurnEnded:
    """How a turn ended of which a model call was refused, whatever its agent made of that."""
    if not turn.budget or turn.is_cut:
        return ended
    return ev.TurnEnded(turn.turn_id, "budget_reached", ev.Failure("budget_reached", turn.budget, False))


_WORDS: Final = (ev.TextDelta, ev.ContentBlock)
"""What a user sees first of an answer."""


def _closed_words(reason: CloseReason | None) -> str:
    what = "This account was disabled" if reason is CloseReason.PERSON_DISABLED else "The session ended"
    return f"{what} before the answer was complete."


def _outcome(ended: ev.EventData) -> str:
    """How a turn ended, of a bounded list."""
    match ended:
        case ev.TurnInterrupted(reason=reason):
            return reason
        case ev.TurnEnded(stop_reason=reason) if reason in STOP_REASONS:
            return reason
    return OTHER


def _words_of(ended: ev.EventData) -> str | None:
    match ended:
        case ev.TurnEnded(error=ev.Failure(message=message)) | ev.TurnInterrupted(message=message):
            return message
    return None


def _withdrawn_words(count: int, who: str) -> str:
    """What a conversation says of messages whose authors' link was revoked."""
    if count == 1:
        return f"A waiting message from {who} was withdrawn: the link that it came by was revoked."
    return f"{count} waiting messages from {who} were withdrawn: the link was revoked."


def _held_words(count: int, *, for_budget: bool) -> str:
    what, it = ("1 waiting message is", "it") if count == 1 else (f"{count} waiting messages are", "them")
    if for_budget:
        return f"{what} held until the budget allows {it}."
    return f"{what} held; send or drop {it}."


def _start_position(
    turn: Turn, position: int, message_ids: tuple[str, ...] = (), *, for_memory: bool
) -> ev.StartPosition:
    return ev.StartPosition(turn.turn_id, position, message_ids, "memory" if for_memory else UNSET)
