"""Answers: what a session's agent hears from people besides messages. Permissions, questions and options, and
the rules that answer for a person.

Guarantees: an answer is on the disk before the agent hears of it; of several answers at once the first
counts; what was not answered before a gateway ended is cancelled, or stays open if an answer can still
be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from gateway.agents.connection import AgentGone, WireError
from gateway.agents.options import check_choice
from gateway.agents.peer import AgentPeer
from gateway.agents.questions import Action, KnownAnswer, checked_content, retold_answers
from gateway.errors import (
    GatewayError,
    PermissionNotPending,
    QuestionClosed,
    QuestionNotFound,
    RuleNotFound,
    ShareNotAllowed,
)
from gateway.events import facts as ev
from gateway.events.fold import ChatState
from gateway.events.lifecycle import SessionState
from gateway.principal import Account
from gateway.sessions.log import EventLog
from gateway.sessions.record import Record
from gateway.sessions.seat import Seat
from gateway.sessions.services import Services
from gateway.sessions.turns import Turns

log = logging.getLogger(__name__)

_FIELDS: Final = tuple[ev.QuestionField, ...]


class ChatVerb(Protocol):
    """`Session.chat`."""

    async def __call__(
        self,
        text: str,
        *,
        account: Account | None = None,
        also: Sequence[ev.EventData] = (),
        author: ev.Contributor | UnsetType = UNSET,
    ) -> object:
        """Takes a message."""


class Answers:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        record: Record,
        seat: Seat,
        turns: Turns,
        log: EventLog,
        fold: ChatState,
        services: Services,
    ) -> None:
        """It holds nothing of the session itself, which is freed as soon as it has left."""
        self._record = record
        self._seat = seat
        self._turns = turns
        self._log = log
        self._fold = fold
        self._services = services
        self._choosing = asyncio.Lock()

    @property
    def rules(self) -> tuple[ev.NamedRule, ...]:
        """The permission rules that hold for it, the operator's and its own."""
        return (*self._services.operator_rules(self._record.kept), *self._fold.rules.values())

    async def wanted_options(self) -> dict[str, ev.OptionValue]:
        """What the options of its agent are to be: what its owner chose of it in any session, and here."""
        agent, record, remembered = self._record.agent, self._record.kept, dict[str, ev.OptionValue]()
        try:
            if not agent.is_built_in:  # it offers none, and its start waits for nothing
                remembered = await self._services.store.options.chosen(record.owner, record.agent)
        except GatewayError as error:
            log.warning("session %s: earlier choices are not known: %s", record.key, error)
        return agent.options.wanted(remembered, self._fold.chosen)

    async def earlier_options(self) -> list[ev.EventData]:
        """What the owner could choose of this agent lately, with the values that this session begins with: it
        stands until the agent says what there is now.
        """
        agent, record = self._record.agent, self._record.kept
        earlier = self._services.known_options.of(record.owner, record.agent)
        if not earlier:
            return []
        wanted = await self.wanted_options()
        options = tuple(
            msgspec.structs.replace(
                option,
                value=wanted.get(option.option_id, option.value),
                is_locked=agent.options.is_locked(option.option_id),
            )
            for option in earlier
        )
        return [ev.SessionOptions(options)]

    def _touch(self) -> None:
        """Somebody uses the session. Raises SessionEnded if it is closing."""
        if self._seat.is_closing:
            raise self._record.ended()
        self._record.use()

    async def answer_permission(
        self, permission_id: str, option_id: str, *, by: ev.Contributor | UnsetType = UNSET
    ) -> None:
        """Answers a permission request; for always, with a rule of this session. The first answer counts.
        Without a `by`, the owner answers; others do not answer for always, which would outlive their link.

        Raises PermissionNotPending if no request of this id waits for an answer and offers this one, and
        ShareNotAllowed.
        """
        self._touch()
        peer = self._seat.peer
        if by is not UNSET and self._is_for_always(permission_id, option_id):
            raise ShareNotAllowed("Only the owner of this session answers for always.")
        choice = peer.choose(permission_id, option_id) if peer is not None else None
        if peer is None or choice is None:
            words = await self._who_was_first("permission", permission_id, by)
            raise PermissionNotPending(words, session_id=self._record.kept.session_id)
        try:
            await self._log.say(
                ev.PermissionAnswered(permission_id, "selected", option_id, by=by),
                *self._new_rule(choice.rule),
            )
        except GatewayError:
            peer.unchoose(permission_id)
            raise
        if not peer.answer(permission_id):
            raise PermissionNotPending(session_id=self._record.kept.session_id)
        if self._seat.state is SessionState.WAITING and not peer.is_asking:
            self._seat.transition(SessionState.RUNNING)

    def _is_for_always(self, permission_id: str, option_id: str) -> bool:
        asked = self._fold.permissions.get(permission_id)
        options = asked.options if asked is not None else ()
        return any(one.option_id == option_id and one.kind.endswith("_always") for one in options)

    async def _who_was_first(
        self, kind: Literal["permission", "question"], item_id: str, by: ev.Contributor | UnsetType
    ) -> str:
        """Words for somebody whose answer came after another's; empty: nobody else answered."""
        with contextlib.suppress(GatewayError):
            await self._log.commit(self._log.last_seq)  # the other answer may be on its way
        first = self._fold.answered(kind, item_id)
        mine = None if by is UNSET else by.author_id
        if first is UNSET or (None if first is None else first.author_id) == mine:
            return ""
        who = "The owner of this session" if first is None else first.name
        return f"{who} answered this first."

    def _new_rule(self, rule: ev.PermissionRule | None) -> list[ev.EventData]:
        if rule is None or any(known.rule == rule for known in self._fold.rules.values()):
            return []
        number = self._log.last_seq + 2  # its own: the answer comes before it
        return [ev.RuleAdded(f"r{number}", rule)]

    async def remove_rule(self, rule_id: str) -> None:
        """Revokes a rule of this session. Raises RuleNotFound."""
        self._touch()
        if rule_id not in self._fold.rules:
            raise RuleNotFound(session_id=self._record.kept.session_id)
        await self._log.say(ev.RuleRemoved(rule_id))

    async def answer_question(
        self,
        question_id: str,
        action: Action,
        content: Mapping[str, Any] | None,
        *,
        account: Account | None = None,
        chat: ChatVerb,
        by: ev.Contributor | UnsetType = UNSET,
    ) -> None:
        """Answers a question of the agent; of several answers at once the first counts. One that was left by
        an earlier gateway is answered with a message (`chat`), whose turn `account` pays for.

        Raises QuestionNotFound, QuestionClosed, InvalidField, and for such a message what `chat` raises: then
        the question is still open.
        """
        self._touch()
        asked, peer = self._fold.questions.get(question_id), self._seat.peer
        if asked is None and not self._fold.has_question(question_id):
            raise QuestionNotFound(session_id=self._record.kept.session_id)
        if asked is None or not (
            question_id in self._turns.lost_questions or (peer is not None and question_id in peer.questions)
        ):
            words = await self._who_was_first("question", question_id, by)
            raise QuestionClosed(words, session_id=self._record.kept.session_id)
        checked = checked_content(asked, action, content)
        answered = ev.QuestionAnswered(question_id, action, checked, by=by)
        if question_id in self._turns.lost_questions:
            await self._answer_lost(asked, answered, account, chat)
        elif peer is not None:
            await self._answer_peer(peer, answered)

    async def _answer_peer(self, peer: AgentPeer, answered: ev.QuestionAnswered) -> None:
        """The question is taken before the answer is committed, so that another answer comes too late."""
        waiting = peer.questions.take(answered.question_id)
        if waiting is None:
            raise QuestionClosed(session_id=self._record.kept.session_id)
        try:
            await self._log.say(answered)
        except GatewayError:
            peer.questions.put_back(answered.question_id, waiting)
            raise
        except asyncio.CancelledError:  # the person has left; the answer is on its way to the disk
            peer.questions.answer(waiting, answered.outcome, answered.content)
            raise
        peer.questions.answer(waiting, answered.outcome, answered.content)
        if self._seat.state is SessionState.WAITING and not peer.is_asking:
            self._seat.transition(SessionState.RUNNING)

    async def _answer_lost(
        self,
        asked: ev.QuestionAsked,
        answered: ev.QuestionAnswered,
        account: Account | None,
        chat: ChatVerb,
    ) -> None:
        """With the last of the questions that were left, the agent hears of all that were accepted."""
        lost = self._turns.lost_questions
        lost.discard(asked.question_id)
        answers = self._accepted_before(asked.turn_id)
        if answered.content is not None:
            answers.append((asked.message, asked.fields, answered.content))
        try:
            if lost or not answers:
                await self._log.say(answered)
            else:
                text = retold_answers(answers)
                await chat(text, account=account, also=[answered], author=answered.by)
        except GatewayError:
            lost.add(asked.question_id)
            raise

    def _accepted_before(self, turn_id: str) -> list[KnownAnswer]:
        """The answers of a turn that was lost, as far as they are in memory."""
        found: list[KnownAnswer] = []
        for item in self._fold.blocks("question"):
            if item.fields["turn_id"] != turn_id:
                continue
            fields, content = item.fields["fields"], item.fields["content"]
            if isinstance(content, msgspec.Raw):
                known = msgspec.json.decode(fields, type=_FIELDS) if isinstance(fields, msgspec.Raw) else ()
                found.append((item.fields["message"], known, msgspec.json.decode(content)))
        return found

    async def choose_option(self, option_id: str, value: ev.OptionValue) -> None:
        """Changes an option of the agent; without a worker, the agent hears of it when it starts. The owner's
        next sessions with this agent begin with it.

        Raises InvalidField, OptionLocked, OptionRefused.
        """
        self._touch()
        async with self._choosing:
            check_choice(self._fold.listed_options, self._record.agent.options, option_id, value)
            await self._tell_option(option_id, value)
            await self._log.say(ev.OptionChosen(option_id, value))
            await self._tell_option(option_id, value)  # to an agent that came up meanwhile
        record = self._record.kept
        try:
            await self._services.store.options.choose(record.owner, record.agent, option_id, value)
        except GatewayError as error:
            log.warning("session %s: a choice is not remembered: %s", record.key, error)

    async def _tell_option(self, option_id: str, value: ev.OptionValue) -> None:
        """Raises OptionRefused."""
        peer = self._seat.peer
        if peer is None or not peer.has_options or peer.option(option_id) == value:
            return
        try:
            await peer.set_option(option_id, value)
        except (AgentGone, WireError):
            return  # the next one hears of it when it starts

    def load(self) -> None:
        """After the log was read: ends or keeps what an earlier gateway left open."""
        self._end_lost()
        self._keep_lost()

    def _end_lost(self) -> None:
        """The agent that asked is gone with the gateway: nobody waits for these answers any more."""
        answers: list[ev.EventData] = [
            ev.PermissionAnswered(permission_id, "cancelled") for permission_id in self._fold.permissions
        ]
        answers += [ev.EgressAnswered(ask_id, "cancelled") for ask_id in self._fold.egress.asked]
        if answers:
            self._log.append(*answers, durable=True)

    def _keep_lost(self) -> None:
        """A form can still be answered: the agent hears of it as a message. An address cannot: nobody waits
        for what happens there.
        """
        lost = self._fold.questions.values()
        self._turns.lost_questions = {asked.question_id for asked in lost if asked.mode == "form"}
        ended = [ev.QuestionAnswered(asked.question_id, "cancel") for asked in lost if asked.mode == "url"]
        if ended:
            self._log.append(*ended, durable=True)
