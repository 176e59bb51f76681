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
import logging

import msgspec

from gateway.agents.connection import AgentGone, WireError
from gateway.agents.peer import AgentPeer
from gateway.agents.prompt import prompt_blocks
from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.fold import ChatState
from gateway.events.lifecycle import CloseReason, SessionState, WorkerEnd
from gateway.sessions.host import WorkerFailed, WorkerHost, output_failed
from gateway.sessions.turns import Turn
from gateway.sessions.turns_of import held_words
from gateway.sessions.verbs import SessionVerbs, retold
from gateway.telemetry import logs, tracing
from worker.spec import Receipt

log = logging.getLogger(__name__)

FAILED_WORDS = (
    "Something failed inside the gateway, and this conversation was put away before the answer was complete. "
    "Send your message again; if that fails too, the gateway's log says why."
)


_NOT_ITS_FAULT = (WorkerEnd.INTERRUPT_TIMEOUT, WorkerEnd.KILLED, WorkerEnd.FORKSERVER_LOST)
"""Ends of a worker that say nothing of the next one."""
_DID_TOO_MUCH = (WorkerEnd.LIMIT_EXCEEDED, WorkerEnd.WIRE_ERROR)


class Session(SessionVerbs):
    """One conversation; see the module."""

    # -- coming into memory ---------------------------------------------------------------------------------

    async def load(self, *, above: int = 0) -> None:
        """Takes up where the store stands. Raises StoreFull or StoreFailed."""
        self.log.begin_above(above)
        await self.log.load()
        self.fold.session_id = self.record.session_id  # of an adopted session it may be another
        self._end_lost_permissions()
        if self.fold.turn_id is not None:
            self._end_lost_turn(self.fold.turn_id)
        self._is_loaded = True
        self._services.observers.appended(self, None)
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
            words = held_words(len(self._queue))
            self.log.append(self._queue.event(), self._notice("info", "queue_held", words), durable=True)

    def _end_lost_permissions(self) -> None:
        """The agent that asked is gone with the gateway: nobody waits for these answers any more."""
        answers = [
            ev.PermissionAnswered(permission_id, "cancelled") for permission_id in self.fold.permissions
        ]
        if answers:
            self.log.append(*answers, durable=True)

    def _end_lost_turn(self, turn_id: str) -> None:
        """The gateway ended in the middle of a turn: says so, and keeps the text that had arrived."""
        words = "The gateway was restarted before the answer was complete."
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
        self._ids = logs.begin(tenant=self.tenant, session=self.record.key)
        tracing.enter(tracing.NO_SPAN)  # it outlives the request that began it
        try:
            while not self.is_ending:
                if self._has_turn():
                    await self._begin()
                else:
                    await self._until_woken()
        except Exception:
            log.exception("session %s: its life ended by a bug", self.record.key)
            self.close_reason = self.close_reason or CloseReason.FAILED
            self._failure = FAILED_WORDS
        finally:
            await self._close()

    async def _until_woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

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
            if end not in _NOT_ITS_FAULT:
                self._deaths.note()
        if self._turn is None:
            self._say_why_ended(end, message)
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
        self._services.trimmer.soon()

    def _say_why_ended(self, end: WorkerEnd, message: str | None) -> None:
        """Says in the conversation why an agent was ended that did too much while it had no turn."""
        if message and end in _DID_TOO_MUCH:
            said = ev.MessageAdded(f"e{self.log.last_seq + 1}", "system", message)
            self.log.append(said, durable=True)

    async def _with_worker(self, host: WorkerHost) -> None:
        """Brings the worker up and serves until it is asked to stop. Raises WorkerFailed."""
        try:
            async with self._deadline.within(self._config.start_timeout_seconds):
                started = await host.open()
        except TimeoutError:
            if self.is_ending:
                return
            if self._is_killed:
                raise WorkerFailed(*self._kill_end) from None
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
                raise WorkerFailed(*self._kill_end)
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
            turn.prompt,
            self._said,
            peer.transcript_before(turn.message_id),
            is_built_in=self.agent.is_built_in,
            context=turn.context,
        )
        said = len(self._said)
        turn.is_prompted = True
        ended: ev.TurnEnded | None = None
        host.begin_turn()
        try:
            async with self._deadline.within(self._config.turn_timeout_seconds):
                ended = await peer.prompt(turn.turn_id, blocks)
        except TimeoutError:
            if self._is_killed:
                raise WorkerFailed(*self._kill_end) from None
            if not self.is_ending:
                raise self._timed_out() from None
        except AgentGone:
            raise await host.why_gone() from None
        except WireError as error:
            raise output_failed(error) from error
        finally:
            host.end_turn()
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
            await self._services.store.logs.compact(self.record.key, through=through)
        except GatewayError as error:
            log.warning("session %s: not compacted for now: %s", self.record.key, error)
            return
        if self._ended_seq == through:
            self._ended_seq = 0
        await self._measure()

    async def _measure(self) -> None:
        """What it takes in the store, now that that is less."""
        try:
            self._size_bytes = await self._services.store.logs.size_bytes(self.record.key)
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
            self._give_slot()
            self.log.close()
            self._services.trimmer.soon()

    async def _say_last_words(self) -> None:
        reason = self.close_reason or CloseReason.DRAINED
        self._transition(SessionState.CLOSING)
        if self._turn is not None:
            self._cut_turn(WorkerEnd.CLOSED, self._failure)
        self._queue.drop()
        await self._stop_worker()
        self._transition(SessionState.CLOSED, reason=str(reason))
        if reason is CloseReason.DELETED:
            self.log.append(ev.SessionClosed(str(reason)))
        await self._keep()
        await self.log.release()


def _worker_ended(end: WorkerEnd, message: str | None, receipt: Receipt) -> ev.WorkerEnded:
    return ev.WorkerEnded(
        str(end), message, receipt.processes, receipt.survivors, receipt.bytes_freed, receipt.milliseconds
    )


def _unheard(fold: ChatState) -> list[str]:
    """The system messages that came after the last turn, which the agent has not heard."""
    unheard: list[str] = []
    for message in reversed(fold.messages):
        if message.turn_id is not None:
            break
        if message.sender != "system":
            unheard.append(retold(message.sender, str(message.text)))
        elif message.id.startswith("s"):
            unheard.append(str(message.text))
    if not any(message.turn_id for message in fold.messages):
        unheard += fold.briefings
    return unheard[::-1]
