"""What people and operators do with a session; each returns when what it said is committed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from gateway.auth.quotas import Account
from gateway.errors import ConversationFull, GatewayError, PermissionNotPending, QueueFull, SessionBusy
from gateway.events import facts as ev
from gateway.events.lifecycle import SessionState, WorkerEnd
from gateway.sessions.turns import Turn
from gateway.sessions.turns_of import SessionTurns

TITLE_CHARACTERS = 60
KILLED_WORDS = "An operator ended this conversation's agent. Send a message to start it again."


class SessionVerbs(SessionTurns):
    """See the module."""

    # -- people ---------------------------------------------------------------------------------------------

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
        `context` the agent hears with the message, and nobody else. If its messages are joined
        (`FoldPart.is_joined`), none is refused because others wait: what waits becomes one prompt, and
        messages past the queue's bound are told to the agent with the prompt after them.

        `account` pays for it. Raises ConversationFull, QueueFull, WorkerLimit, QuotaExceeded, SessionEnded,
        StoreFull, StoreFailed.
        """
        self._use()
        if self.is_full:
            raise ConversationFull(self.full_words(), session_id=self.session_id)
        turn = Turn(text, account=account or self.account, message_id=message_id, context=context)
        if self.fold.person is not None:
            return await self._leave_for_later(turn, also)
        is_next = self._turn is None and (len(self._queue) == 0 or self._queue.is_held)
        if not is_next and len(self._queue) >= self._services.config.limits.queued_messages:
            if self.fold.is_joined:
                return await self._leave_for_later(turn, also)
            raise QueueFull(session_id=self.session_id, retry_after_seconds=5)
        if is_next:
            self._admit(turn)
        try:
            soft = self._services.quotas.take_message(turn.account, session_bytes=self._size_bytes)
        except GatewayError:
            if is_next:
                self._dismiss(turn)
            raise
        lead = turn
        if is_next and self.fold.is_joined:  # nobody but this message sends what is held
            lead = self._with_held(turn)
        if is_next:
            self._set_turn(lead)
            follow: list[ev.EventData] = [lead.started()]
        else:
            self._queue.put(turn)
            follow = []
        if not is_next or lead is not turn:
            follow.append(self._queue.event())
        message = ev.MessageAdded(turn.message_id, "user", text, turn.turn_id)
        first: list[ev.EventData] = [] if self.fold.title else [ev.SessionInfo(_title(text))]
        notices = [
            ev.Notice(f"n{turn.turn_id}.{number}", "warning", "quota", words, quota)
            for number, (words, quota) in enumerate(soft)
        ]
        try:
            await self._say(*first, message, *follow, *notices, *also)
        except GatewayError:
            if lead is not turn:
                self._queue.put_back_all(lead)
                self._queue.hold()
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

    def _with_held(self, turn: Turn) -> Turn:
        """The turn of all the messages that are held, and of this one behind them."""
        self._queue.put(turn)
        self._queue.release()
        return self._queue.next_with_all() or turn

    async def _leave_for_later(self, turn: Turn, also: Sequence[ev.EventData]) -> Turn:
        self._services.quotas.take_message(turn.account, session_bytes=self._size_bytes)
        message = ev.MessageAdded(turn.message_id, "user", turn.text)
        first: list[ev.EventData] = [] if self.fold.title else [ev.SessionInfo(_title(turn.text))]
        await self._tell_agent(retold("user", turn.text), *first, message, *also)
        turn.finish()
        return turn

    async def brief(self, text: str, *events: ev.EventData) -> None:
        """Keeps facts of which the agent hears, in these words, with its next prompt."""
        self._use()
        await self._tell_agent(text, *events)

    async def hand_over(self, *events: ev.EventData) -> None:
        """A person answers from here on, which these facts say (`FoldPart.person`): the agent stops, and what
        waits for it is the person's.
        """
        self._use()
        await self._say(*events)
        await self.interrupt()
        self._said += [retold("user", turn.text) for turn in self._queue.drop()]
        if self.fold.waiting:
            await self._say(self._queue.event())

    async def answer_as_person(self, message_id: str, text: str, *also: ev.EventData) -> None:
        """A person's answer, which the agent hears of with its next prompt."""
        self._use()
        await self._tell_agent(retold("agent", text), ev.MessageAdded(message_id, "agent", text), *also)

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

    def touch(self) -> None:
        """Somebody uses the session without a word to the agent. Raises SessionEnded."""
        self._use()

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

    # -- operators ------------------------------------------------------------------------------------------

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
        self._end_worker(WorkerEnd.KILLED, KILLED_WORDS)
        await host.stopped.wait()
        with contextlib.suppress(GatewayError):
            await self.log.commit(self.log.last_seq)
        return True


def retold(sender: ev.Sender, text: str) -> str:
    """What was said while a person had taken over, as the agent is told of it."""
    who = "The visitor wrote" if sender == "user" else "A member of the staff answered the visitor"
    return f"{who}: {text}"


def _title(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"
