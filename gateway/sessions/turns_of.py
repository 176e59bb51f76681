"""A session's turns: how one begins, ends or is cut, and what the agent says while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.agents.completion import ModelError, ModelResult
from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.lifecycle import SessionState, WorkerEnd
from gateway.sessions.core import MEGABYTE, SessionCore
from gateway.sessions.turns import Turn
from gateway.telemetry.metrics import OTHER, STOP_REASONS
from worker.foreign import clamped

log = logging.getLogger(__name__)


class SessionTurns(SessionCore):
    """See the module."""

    # -- beginning and ending -------------------------------------------------------------------------------

    def _next_turn(self) -> None:
        """Starts the next waiting turn, if it may."""
        if self._turn is not None or self.is_ending:
            return
        is_chat = self.fold.posting is not None  # a visitor's lines are one prompt, however many there are
        turn = self._queue.next_with_all() if is_chat else self._queue.next()
        if turn is None:
            return
        try:
            self._admit(turn)
        except GatewayError as error:
            self._queue.put_back_all(turn)
            self._queue.hold()
            self.log.append(
                self._queue.event(), self._notice("error", error.code, error.message), durable=True
            )
            return
        self._set_turn(turn)
        self.log.append(turn.started(), self._queue.event(), durable=True)

    def _set_turn(self, turn: Turn) -> None:
        self._turn = turn
        self._turn_from = (self.log.appended_bytes, self.fold.characters)
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
            events += [self._queue.event(), self._notice("info", "queue_held", held_words(len(self._queue)))]
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

    # -- what the peer reports ------------------------------------------------------------------------------

    def on_events(self, events: list[ev.EventData], *, used: ev.OnUsed = ev.ignored) -> None:
        """The agent's updates as events; `used` as `Event.said` has it."""
        now = self.last_used = self._services.monotonic()
        for event in events:
            if isinstance(event, ev.Usage):
                self._meter(event)
        self.log.append(*events, used=used)
        turn = self._turn
        if turn is not None and not turn.has_spoken and any(isinstance(item, _WORDS) for item in events):
            turn.has_spoken = True
            self._services.metrics.first_token(now - turn.began)

    def refusal(self) -> str | None:
        """Why no more of the agent's output is kept, in words for the user."""
        limits, (bytes_before, characters_before) = self._services.config.limits, self._turn_from
        if self.log.appended_bytes - bytes_before > limits.turn_bytes:
            over = limits.turn_bytes
        elif self.fold.characters - characters_before > limits.answer_characters:
            over = limits.answer_characters
        else:
            return self.full_words() if self.is_full else None
        return f"The answer is longer than the {over / MEGABYTE:.3g} MB that it may be; the agent was ended."

    @property
    def backlog_bytes(self) -> int:
        """What is not on disk yet of what was appended."""
        return self.log.open_bytes

    async def written(self) -> None:
        """Waits until what was appended is on disk."""
        await self.log.written()

    def when_written(self, done: Callable[[], None]) -> None:
        """Calls back once what was appended is on disk, though the session may end meanwhile."""
        self.log.when_written(done)

    def _meter(self, usage: ev.Usage) -> None:
        """Tokens of a model call, or, of agents that tell only how full their context is, what it grew by."""
        turn = self._turn
        tokens = clamped((usage.input_tokens or 0) + (usage.output_tokens or 0))
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


_WORDS = (ev.TextDelta, ev.ContentBlock)
"""What a user sees first of an answer."""


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


def held_words(count: int) -> str:
    if count == 1:
        return "1 waiting message is held; send or drop it."
    return f"{count} waiting messages are held; send or drop them."
