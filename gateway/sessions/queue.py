"""A turn: one user message up to the agent's completion, and the queue of those that wait. Pure but for
the future that is done when the turn has ended.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Literal

from msgspec import UNSET, UnsetType

from gateway.events import facts as ev
from gateway.principal import Account
from gateway.telemetry import tracing

_BYTE_ORDER_MARK: Final = "\ufeff"
"""White space to agents in JavaScript, which look for their commands behind it; not to Python."""


def as_text(text: str) -> str:
    """A text that an agent takes for no command of its own."""
    is_like_one = text.replace(_BYTE_ORDER_MARK, " ").lstrip().startswith("/")
    return f"The visitor wrote: {text}" if is_like_one else text


class Turn:
    """One user message on its way. `done` is set when the turn has ended, however it ended."""

    __slots__ = (
        *(
            "account",
            "answer",
            "author",
            "began",
            "budget",
            "carried",
            "context",
            "done",
            "has_spoken",
            "is_cut",
            "is_prompted",
            "message_id",
            "open_seq",
        ),
        *("attachments", "is_command", "reply_id", "cause", "span", "taken", "text", "turn_id"),
    )

    def __init__(
        self,
        text: str,
        *,
        account: Account,
        message_id: str | None = None,
        turn_id: str | None = None,
        context: str = "",
        author: ev.Contributor | UnsetType = UNSET,
        attachments: Sequence[ev.Attachment] = (),
        is_command: bool = False,
    ) -> None:
        name = secrets.token_hex(6)
        self.turn_id = turn_id or f"t{name}"
        self.message_id = message_id or f"u{name}"
        self.reply_id = f"r{name}"
        self.text = text
        self.account = account
        self.author = author
        """UNSET: the owner."""
        self.context = context
        """Text that the agent gets with this message, and that is not shown."""
        self.attachments = tuple(attachments)
        """The files that the agent gets with this message."""
        self.is_command = is_command
        """True if its text may be a command of the agent's although others of its session may not."""
        self.carried: list[Turn] = []
        """Turns that waited behind it, and are handed to the agent with it."""
        self.open_seq = 0
        """Up to here reach the events that begin it, if the store may refuse them; 0: it may not."""
        self.is_prompted = False
        self.is_cut = False
        """Whether the user interrupted it."""
        self.budget = ""
        """Why a budget ends it, in words; empty: none does."""
        self.began = 0.0
        """When it became the one that runs, by the clock that is never set."""
        self.has_spoken = False
        self.answer: list[str] = []
        """The beginning of what the agent said, if traces carry it."""
        self.cause = tracing.current()
        """The request that it came with."""
        self.span: tracing.Span = tracing.NO_SPAN
        self.taken = ExitStack()
        """Gives back what it took to begin."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def texts(self) -> list[tuple[str, ev.Contributor | UnsetType]]:
        """The texts of the prompt, each with its author."""
        return [(turn.text, turn.author) for turn in self._said]

    def without_commands(self) -> list[tuple[str, ev.Contributor | UnsetType]]:
        """The same texts; one that an agent would take for a command of its own is said to be a text."""
        return [(turn.text if turn.is_command else as_text(turn.text), turn.author) for turn in self._said]

    @property
    def _said(self) -> list[Turn]:
        return [turn for turn in (self, *self.carried) if turn.text or turn is self]

    @property
    def all_attachments(self) -> list[ev.Attachment]:
        """Those of its message and of the messages that it carries, each file once."""
        turns = (self, *self.carried)
        return list({one.path: one for turn in turns for one in turn.attachments}.values())

    def said(self) -> ev.MessageAdded:
        """The event that shows its message."""
        attached = self.attachments or UNSET
        return ev.MessageAdded(
            self.message_id, "user", self.text, self.turn_id, author=self.author, attachments=attached
        )

    def started(self) -> ev.TurnStarted:
        """The event that starts it."""
        return ev.TurnStarted(self.turn_id, self.message_id, self.reply_id)

    def finish(self) -> None:
        """Gives back what it took, and wakes those who wait for its end."""
        self.taken.close()
        self.span.end()
        if not self.done.done():
            self.done.set_result(None)
        for turn in self.carried:
            turn.finish()


HeldFor = Literal["person", "budget"]
"""Who lets held turns go on: the person who sends or drops them, or a budget that allows them."""


class Queue:
    """The turns that wait, in order; held after an interrupt until the user sends or drops them."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()
        self._held_for: HeldFor | None = None

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def is_held(self) -> bool:
        """Whether they do not go on by themselves."""
        return self._held_for is not None

    @property
    def waits_for_budget(self) -> bool:
        """Whether they go on when a budget allows them."""
        return self._held_for == "budget"

    @property
    def account(self) -> Account | None:
        """Who pays for the next one; None if none waits."""
        return self._turns[0].account if self._turns else None

    def has(self, message_id: str) -> bool:
        """Whether the message of this id waits."""
        return any(turn.message_id == message_id for turn in self._turns)

    def put(self, turn: Turn) -> None:
        """Puts one behind the others."""
        self._turns.append(turn)

    def next(self) -> Turn | None:
        """Takes the next one, unless they are held."""
        return self._turns.popleft() if self._turns and not self.is_held else None

    def next_with_all(self) -> Turn | None:
        """Takes the next one, which carries all the others, unless they are held."""
        turn = self.next()
        if turn is not None:
            turn.carried, self._turns = list(self._turns), deque()
        return turn

    def put_back_all(self, turn: Turn) -> None:
        """What `next_with_all` took waits on."""
        self._turns.extendleft(reversed((turn, *turn.carried)))
        turn.carried = []

    def hold(self, why: HeldFor = "person") -> bool:
        """Holds them; whether there was anything to hold."""
        self._held_for = why if self._turns else None
        return self.is_held

    def release(self) -> None:
        """Lets them go on."""
        self._held_for = None

    def count_of_others(self) -> int:
        """How many of them the owner did not write."""
        return sum(turn.author is not UNSET for turn in self._turns)

    def find(self, message_id: str) -> Turn | None:
        """The turn of a waiting message; None if it does not wait (any more)."""
        return next((turn for turn in self._turns if turn.message_id == message_id), None)

    def move(self, turn: Turn, *, before: Turn | None) -> None:
        """Puts a waiting turn before another one, or behind all of them."""
        self._turns.remove(turn)
        place = len(self._turns) if before is None else self._turns.index(before)
        self._turns.insert(place, turn)

    def order(self) -> list[Turn]:
        """The turns as they wait, for `restore_order`."""
        return list(self._turns)

    def restore_order(self, before: list[Turn]) -> None:
        """Puts those that still wait into the order of before; later ones stay behind them."""
        places = {turn.turn_id: place for place, turn in enumerate(before)}
        self._turns = deque(sorted(self._turns, key=lambda turn: places.get(turn.turn_id, len(places))))

    def drop(self, message_id: str | None = None) -> list[Turn]:
        """Takes out one by its message, or all; those that were taken out."""
        return self._take_out(lambda turn: message_id in (None, turn.message_id))

    def drop_by(self, is_theirs: Callable[[ev.Contributor], bool]) -> list[Turn]:
        """Takes out those of some authors; those that were taken out."""
        return self._take_out(lambda turn: turn.author is not UNSET and is_theirs(turn.author))

    def _take_out(self, is_dropped: Callable[[Turn], bool]) -> list[Turn]:
        dropped = [turn for turn in self._turns if is_dropped(turn)]
        self._turns = deque(turn for turn in self._turns if turn not in dropped)
        self._held_for = self._held_for if self._turns else None
        for turn in dropped:
            turn.finish()
        return dropped

    def event(self) -> ev.QueueChanged:
        """The queue as an event."""
        waiting = tuple(
            ev.WaitingMessage(
                turn.message_id, turn.turn_id, turn.text, turn.author, turn.attachments or UNSET
            )
            for turn in self._turns
        )
        return ev.QueueChanged(waiting, self.is_held, "budget" if self.waits_for_budget else UNSET)
