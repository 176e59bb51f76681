"""A question to the shopping assistant: a turn of its session's agent, with what the shop found for it.

The answer is text of the session's own log, so it is stored even if its reader disconnects. A cached answer
is appended to the log too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from gateway.apps.shop.cart import Shop
from gateway.apps.shop.settings import ShopConfig
from gateway.apps.shop.store import ShopKey
from gateway.apps.shop.tools import described
from gateway.apps.shopping_assistant.assistant import (
    Answered,
    Assistant,
    Intent,
    Window,
    intent_of,
    stamp_of,
    window_of,
)
from gateway.apps.shopping_assistant.errors import AnswerDropped, AnswerFailed
from gateway.apps.shopping_assistant.retrieval import Quality
from gateway.config.tables import DAY_MILLISECONDS
from gateway.errors import SessionEnded, SessionFenced
from gateway.events import facts as ev
from gateway.extension import Account, Context, Events, Gap, Session, Turn, follow

_BY_SOMEBODY = ("dropped", "session_ended")
"""Causes that are no failure."""


class Asked(Struct, kw_only=True):
    """A question that was accepted: its message is committed, and its answer is on its way or known."""

    key: ShopKey
    session: Session
    question: str
    intent: Intent
    quality: Quality
    context: list[dict[str, Any]]
    window: Window
    stamp: bytes
    after: int
    """The log's seq before it."""
    turn: Turn | None = None
    known: Answered | None = None
    """The answer that was given before; None: the agent is asked."""


class Asking:
    """See the module."""

    def __init__(self, context: Context, shop: Shop, assistant: Assistant) -> None:
        self._manager = context.sessions
        self._context = context
        self._shop = shop
        self._assistant = assistant

    async def ask(self, key: ShopKey, question: str, *, key_id: str | None) -> Asked:
        """Takes a question; the session is made where there is none.

        Raises what `Session.chat` and `SessionManager.do` raise.
        """
        agent = self._agent_for(key.tenant)

        async def ask(session: Session) -> Asked:
            if not session.fold.messages and session.record.retention_days is None:
                seconds = self._settings.conversation_seconds
                await session.retain(seconds * 1000 / DAY_MILLISECONDS)
            return await self._ask(session, key, question, key_id)

        _, asked = await self._manager.do(key.owner, key.conversation, ask, agent=agent)
        return asked

    def _agent_for(self, tenant: str) -> str | None:
        """The shop's agent, or the tenant's own first where it may not choose that one."""
        named, agent = self._context.config().tenant(tenant), self._settings.agent
        allowed = named.agents if named is not None else ()
        return agent if not allowed or agent in allowed else None

    @property
    def _settings(self) -> ShopConfig:
        return self._context.settings(ShopConfig)

    async def _ask(self, session: Session, key: ShopKey, question: str, key_id: str | None) -> Asked:
        shop = self._shop
        found, earlier = await self._assistant.find(key, question)
        await shop.note(key, use="searches" if found.products else None, text=question)
        cart, preferences = await shop.peek(key), await shop.preferences(key)
        intent = intent_of(question, found.quality)
        window = window_of(
            intent=intent,
            preferences=preferences,
            cart=cart,
            found=found.products,
            earlier=earlier,
            limit=self._settings.context_tokens,
        )
        asked = Asked(
            key=key,
            session=session,
            question=question,
            intent=intent,
            quality=found.quality,
            context=[described(product, shop) for product in found.products],
            window=window,
            stamp=await self._stamp(session, key),
            after=session.log.visible_seq,
        )
        account = Account(key.owner, session.record.key, key_id)
        asked.known = self._assistant.recall(key, question, asked.stamp)
        if asked.known is not None and not session.is_busy:
            await session.repeat(question, asked.known.text, account=account)
        else:
            asked.known = None
            asked.turn = await session.chat(question, account=account, context=window.text)
        return asked

    async def _stamp(self, session: Session, key: ShopKey) -> bytes:
        shop = self._shop
        return stamp_of(
            session.record.key, await shop.peek(key), await shop.preferences(key), shop.catalogue.version
        )

    # -- the answer -------------------------------------------------------------------------------------

    async def answer(self, asked: Asked) -> AsyncIterator[str]:
        """The answer, piece by piece. Raises AnswerFailed if the agent fails or takes too long."""
        if asked.known is not None:
            yield asked.known.text
            return
        parts: list[str] = []
        try:
            async with asyncio.timeout(self._settings.answer_seconds):
                async for part in self._pieces(asked):
                    parts.append(part)
                    yield part
        except TimeoutError:
            await self._stop(asked)
            raise self._failed(asked, "answer_timeout", "The answer took too long and was stopped.") from None
        text = "".join(parts)
        if not text.strip():
            raise self._failed(asked, "empty_answer", "The agent ended without an answer.")
        await self._keep(asked, text)

    async def _stop(self, asked: Asked) -> None:
        turn = asked.turn
        if turn is None or turn.done.done():
            return
        with contextlib.suppress(SessionEnded, SessionFenced):
            if not await asked.session.drop_queued(turn.message_id):
                await asked.session.interrupt()

    async def _pieces(self, asked: Asked) -> AsyncIterator[str]:
        turn, session, speaking, seq = asked.turn, asked.session, "", asked.after
        assert turn is not None  # noqa: S101 - what is not known was asked
        async for item in follow(session, seq):
            if isinstance(item, Gap):
                words = "The answer is in the conversation, and was not followed."
                raise self._failed(asked, "log_gap", words)
            for event in item.events if isinstance(item, Events) else ():
                seq, said = event.seq, event.data
                if isinstance(said, ev.TextDelta) and said.turn_id == turn.turn_id:
                    yield ("\n\n" if speaking not in ("", said.message_id) else "") + said.text
                    speaking = said.message_id
                elif isinstance(said, ev.TurnEnded | ev.TurnInterrupted) and said.turn_id == turn.turn_id:
                    self._check(asked, said)
                    return
            if seq >= session.log.visible_seq:  # else the turn's end may be in what comes next
                self._refuse_dropped(asked, turn)
        self._refuse_dropped(asked, turn)
        raise self._failed(asked, "session_ended", "The session ended before the answer was complete.")

    def _refuse_dropped(self, asked: Asked, turn: Turn) -> None:
        if turn.done.done() and turn.turn_id != asked.session.fold.turn_id and not turn.is_prompted:
            raise self._failed(asked, "dropped", "The question was dropped before its turn came.")

    def _check(self, asked: Asked, ended: ev.EventData) -> None:
        match ended:
            case ev.TurnInterrupted(reason=reason, message=message):
                raise self._failed(asked, reason, message)
            case ev.TurnEnded(error=ev.Failure(code=code, message=message)):
                raise self._failed(asked, code, message)
            case ev.TurnEnded(stop_reason="cancelled"):
                raise self._failed(asked, "cancelled", "The answer was interrupted.")

    async def _keep(self, asked: Asked, text: str) -> None:
        """Keeps the answer unless it changed something: then an equal question is another one."""
        if await self._stamp(asked.session, asked.key) == asked.stamp:
            self._assistant.remember(
                asked.key,
                asked.question,
                intent=asked.intent,
                text=text,
                context=asked.context,
                quality=asked.quality,
                stamp=asked.stamp,
            )

    def _failed(self, asked: Asked, cause: str, message: str) -> AnswerDropped | AnswerFailed:
        kind = AnswerDropped if cause in _BY_SOMEBODY else AnswerFailed
        return kind(message, intent=asked.intent, cause=cause)
