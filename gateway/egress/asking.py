"""Questions to the person about hosts that no list names.

Guarantees: a connection waits no longer than `SECONDS`; connections to one host wait for one answer; a turn
asks at most `ASKS_PER_TURN` times, so that an agent cannot bury a person in questions; what ends without an
answer says so in the log.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from gateway.events.facts import EgressAnswer, EgressAnswered, EgressAsked

SECONDS: Final = 30.0
"""Clients give a connection up after about as long."""
ASKS_AT_ONCE: Final = 8
ASKS_PER_TURN: Final = 20


class _Question:
    def __init__(self, asked: EgressAsked, timer: asyncio.TimerHandle) -> None:
        self.asked = asked
        self.timer = timer
        self.answer: asyncio.Future[EgressAnswer] = asyncio.get_running_loop().create_future()


class Questions:
    """`ask`, and `answer` what was asked. `say` appends facts."""

    def __init__(
        self,
        say: Callable[[EgressAsked | EgressAnswered], None],
        *,
        turn_id: Callable[[], str | None],
        seconds: float = SECONDS,
    ) -> None:
        self._say = say
        self._turn_id = turn_id
        self._seconds = seconds
        self._open: dict[str, _Question] = {}
        self._turn: str | None = None
        self._asked = 0

    async def ask(self, host: str, port: int) -> EgressAnswer | None:
        """The answer; None if too much was asked already."""
        question = self._question(host, port)
        if question is None:
            question = self._new(host, port)
        return None if question is None else await asyncio.shield(question.answer)

    def find(self, ask_id: str) -> EgressAsked | None:
        """The question of this id, if it waits for its answer."""
        question = self._open.get(ask_id)
        return None if question is None else question.asked

    def answer(self, ask_id: str, answer: EgressAnswer) -> None:
        """Ends a question, if it is still open: says so, and lets the connections go on."""
        question = self._open.pop(ask_id, None)
        if question is None:
            return
        question.timer.cancel()
        self._say(EgressAnswered(ask_id, answer))
        question.answer.set_result(answer)

    def end(self) -> None:
        """Nobody waits any more."""
        for ask_id in list(self._open):
            self.answer(ask_id, "cancelled")

    def _question(self, host: str, port: int) -> _Question | None:
        wanted = host, port
        return next((one for one in self._open.values() if (one.asked.host, one.asked.port) == wanted), None)

    def _new(self, host: str, port: int) -> _Question | None:
        turn = self._turn_id()
        if turn != self._turn:
            self._turn, self._asked = turn, 0
        if len(self._open) >= ASKS_AT_ONCE or self._asked >= ASKS_PER_TURN:
            return None
        self._asked += 1
        asked = EgressAsked(secrets.token_hex(8), host, port, turn)
        timer = asyncio.get_running_loop().call_later(self._seconds, self.answer, asked.ask_id, "timeout")
        question = self._open[asked.ask_id] = _Question(asked, timer)
        self._say(asked)
        return question
