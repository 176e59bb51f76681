"""ACP `session/update` → events. Pure: no I/O, no clock but the one that it is given.

Guarantees: order is kept; neighbouring text of one message becomes one delta; a tool call, a thought or other
content ends the message, later text gets a new id; an update of an unknown kind or shape is passed on as it
is, never dropped; tool call ids that an agent uses again in a later turn are told apart; an optional value
that is odd counts as absent (worker/foreign.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.agents import claims, long_updates
from gateway.agents.text_chunks import MessageText, TextChunk
from gateway.events import facts as ev
from worker import foreign
from worker.foreign import Amount, Count, Name, OnOdd

ID_CHARACTERS: Final = 1_024
"""A tool call with a longer id is passed on as it is, and not remembered."""
TITLE_CHARACTERS: Final = 300
"""An agent's title of a session is cut to so many."""
CALLS: Final = 64
"""So many tool calls are remembered here, the last ones; the conversation knows the others."""
OUTSIDE_TURN: Final = "outside"
"""The turn id of what an agent says before its first turn."""


class _Content(Struct):
    type: str = ""
    text: str | None = None


class _Update(Struct, tag_field="sessionUpdate", rename="camel"):
    """An update of a kind that is known here."""


class _UserChunk(_Update, tag="user_message_chunk"):
    pass


class _MessageChunk(_Update, tag="agent_message_chunk", rename="camel"):
    content: _Content
    message_id: Name | None = None


class _ThoughtChunk(_Update, tag="agent_thought_chunk", rename="camel"):
    content: _Content
    message_id: Name | None = None


class _ToolCallFields(_Update, rename="camel"):
    tool_call_id: Name
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    content: Raw | UnsetType = UNSET
    locations: Raw | UnsetType = UNSET
    raw_input: Raw | UnsetType = UNSET
    raw_output: Raw | UnsetType = UNSET
    tool_name: str | None = msgspec.field(default=None, name="name")
    meta: Raw | UnsetType = msgspec.field(default=UNSET, name="_meta")


class _ToolCall(_ToolCallFields, tag="tool_call", rename="camel"):
    pass


class _ToolCallUpdate(_ToolCallFields, tag="tool_call_update", rename="camel"):
    pass


class AskedToolCall(Struct, rename="camel"):
    """The `toolCall` of a permission request, which some agents say all of the call in, and nowhere else."""

    tool_call_id: Name | None = None
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    content: Raw | UnsetType = UNSET
    locations: Raw | UnsetType = UNSET
    raw_input: Raw | UnsetType = UNSET
    raw_output: Raw | UnsetType = UNSET
    tool_name: str | None = msgspec.field(default=None, name="name")
    meta: Raw | UnsetType = msgspec.field(default=UNSET, name="_meta")

    @property
    def has_body(self) -> bool:
        """Whether it says what the call would do."""
        raw = (self.content, self.locations, self.raw_input, self.raw_output)
        return any(_not_null(part) is not UNSET for part in raw)

    @property
    def says_what(self) -> bool:
        """Whether it says more of the call than its name."""
        return bool(self.kind or self.status) or self.has_body


class _Plan(_Update, tag="plan"):
    entries: Raw


class _Commands(_Update, tag="available_commands_update", rename="camel"):
    available_commands: Raw


class _Mode(_Update, tag="current_mode_update", rename="camel"):
    current_mode_id: Name


class _Options(_Update, tag="config_option_update", rename="camel"):
    config_options: Raw


class _Info(_Update, tag="session_info_update"):
    title: str | None = None


class _Usage(_Update, tag="usage_update"):
    used: Count | None = None
    size: Count | None = None
    cost: Raw | UnsetType = UNSET


_Known = (
    _UserChunk
    | _MessageChunk
    | _ThoughtChunk
    | _ToolCall
    | _ToolCallUpdate
    | _Plan
    | _Commands
    | _Mode
    | _Options
    | _Info
    | _Usage
)


class _Run(Struct):
    """Neighbouring text of one message or thought."""

    kind: type[ev.TextDelta] | type[ev.ThoughtDelta]
    name: str
    texts: list[str]

    def joined(self, turn_id: str) -> ev.EventData:
        """All of it as one delta."""
        return self.kind(self.name, turn_id, "".join(self.texts))


class _Cost(Struct):
    """Only read to see that it is one: it is passed on as it came."""

    amount: Amount
    currency: str | None = None


class _RawContent(Struct):
    content: Raw


class Translator:
    """Keeps what spans updates: which message is open, which tool calls are known."""

    def __init__(
        self,
        on_odd: OnOdd = foreign.ignored,
        *,
        turn_of_call: Callable[[str], str | None] = lambda _call_id: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`turn_of_call`: which turn a call of the conversation belongs to. `now`: seconds of a clock."""
        self._on_odd = on_odd
        self._turn_of_call = turn_of_call
        self._now = now
        self._turn_id = OUTSIDE_TURN
        self._count = 0
        self._open_id: str | None = None
        self._open_kind = ""
        self._open_agent_id: str | None = None
        self._tool_calls: dict[str, tuple[str, str]] = {}
        """Of each call, by the agent's id: its turn, and the log's id."""
        self._has_forgotten = False
        self._tool_names: dict[str, str] = {}
        self._under_way: dict[str, float] = {}
        """Calls of this turn that have not ended, by the agent's ids, and when each began."""
        self._has_more_under_way = False
        """Whether there were too many of them to be remembered."""
        self._claims = claims.Claims()

    def begin_turn(self, turn_id: str) -> None:
        """What comes now belongs to this turn."""
        self._turn_id = turn_id
        self._count = 0
        self._end_message()
        self._claims.forget()
        self._tool_names.clear()
        self._under_way.clear()
        self._has_more_under_way = False

    def tool_name(self, call_id: str) -> str:
        """What the agent calls the tool of a call of this turn, by the log's id; empty if it does not say."""
        return self._tool_names.get(call_id, "")

    def sole_call(self, call: AskedToolCall) -> str | None:
        """The agent's id of the one call of this turn that is under way, if a request says nothing of its own
        call: some agents announce what they would do, and ask under another id. None: it cannot be told.
        """
        if call.has_body or call.tool_call_id in self._under_way or len(self._under_way) != 1:
            return None
        if self._has_more_under_way:
            return None
        return next(iter(self._under_way))

    def claim(
        self, call: AskedToolCall, *, cwd: str, agent: str, has_link: Callable[[str], bool]
    ) -> claims.Claim:
        """What the agent says that a call would do which it asks about: in the request, and before."""
        said = self._claims.asked(call.tool_call_id or "", self._turn_id, _members(call))
        return claims.read(said, cwd=cwd, agent=agent, has_link=has_link)

    def tool_call_id(self, agent_id: str) -> str:
        """The log's id for an agent's tool call id."""
        known = self._known(agent_id)
        return known[1] if known is not None else agent_id

    def _known(self, agent_id: str) -> tuple[str, str] | None:
        known = self._tool_calls.get(agent_id)
        if known is None and self._has_forgotten and (turn_id := self._turn_of_call(agent_id)) is not None:
            known = turn_id, agent_id
        return known

    def _remember(self, agent_id: str, call: tuple[str, str]) -> None:
        self._tool_calls[agent_id] = call
        if len(self._tool_calls) > CALLS:
            oldest = next(iter(self._tool_calls))
            del self._tool_calls[oldest]
            self._has_forgotten = True
            self._has_more_under_way = self._has_more_under_way or oldest in self._under_way
            self._under_way.pop(oldest, None)

    def asked(self, call: AskedToolCall, *, stand_in: str) -> ev.ToolCall | None:
        """What a permission request says of the call that it is about; None if that is no more than a name.
        `stand_in` is the id of a call that has none.
        """
        agent_id = call.tool_call_id or stand_in
        is_new = (self._known(agent_id) or ("", ""))[0] != self._turn_id
        if not call.says_what and (is_new or not call.title):
            return None
        fields = {name: getattr(call, name) for name in call.__struct_fields__}
        fields |= {"tool_call_id": agent_id, "kind": call.kind or None, "status": call.status or None}
        fields["title"] = call.title or ("" if is_new else None)
        shown = self._tool_call(_ToolCall(**fields))
        if is_new and not call.has_body:
            self._under_way.pop(agent_id, None)  # no more than the question itself
        return shown

    def events(self, updates: Sequence[Raw]) -> list[ev.EventData]:
        """The events of neighbouring updates."""
        out: list[ev.EventData | _Run] = []
        for update in updates:
            try:
                known: _Known = foreign.decode(update, cast("Any", _Known), self._on_odd)
            except msgspec.DecodeError:
                out.append(ev.AgentUpdate(update))
                continue
            if isinstance(known, _ToolCallFields) and len(known.tool_call_id) > ID_CHARACTERS:
                out.append(ev.AgentUpdate(update))
                continue
            self._translate(known, update, out)
        return self._joined(out)

    def _joined(self, out: list[ev.EventData | _Run]) -> list[ev.EventData]:
        return [each.joined(self._turn_id) if isinstance(each, _Run) else each for each in out]

    def texts(self, chunks: Sequence[TextChunk]) -> list[ev.EventData]:
        """The events of neighbouring updates, all of which are texts."""
        out: list[ev.EventData | _Run] = []
        for chunk in chunks:
            kind = "m" if type(chunk) is MessageText else "h"
            self._say(kind, chunk.message_id, chunk.content.text, out)
        return self._joined(out)

    def long(self, update: Raw) -> Iterator[tuple[list[ev.EventData], int]]:
        """The events of an update from a long line, bit by bit; with each, how many of its bytes are done."""
        try:
            members = long_updates.members(update)
            known: _Known = foreign.decode(members.short(), cast("Any", _Known), self._on_odd)
            if isinstance(known, _MessageChunk | _ThoughtChunk):
                yield from self._long_chunk(known, members)
            elif isinstance(known, _ToolCall | _ToolCallUpdate):
                parts = {name: getattr(members, name) for name in long_updates.RAW_MEMBERS}
                yield [self._tool_call(msgspec.structs.replace(known, **parts))], 0
            else:
                yield [ev.AgentUpdate(update)], 0
        except (msgspec.DecodeError, RecursionError):
            yield [ev.AgentUpdate(update)], 0

    def _long_chunk(
        self, chunk: _MessageChunk | _ThoughtChunk, members: long_updates.Members
    ) -> Iterator[tuple[list[ev.EventData], int]]:
        body = members.content
        if not isinstance(body, Raw):
            return
        content = long_updates.content(body)
        if not content.is_text or not isinstance(content.text, Raw):
            self._end_message()
            yield [ev.ContentBlock(self._new_id("b"), self._turn_id, body)], 0
            return
        is_message = isinstance(chunk, _MessageChunk)
        name = self._open_message("m" if is_message else "h", chunk.message_id)
        for text, done in long_updates.pieces(content.text):
            delta = ev.TextDelta if is_message else ev.ThoughtDelta
            yield [delta(name, self._turn_id, text)], done

    def _translate(self, update: _Known, raw: Raw, out: list[ev.EventData | _Run]) -> None:
        match update:
            case _MessageChunk() | _ThoughtChunk():
                self._chunk(update, raw, out)
            case _ToolCall() | _ToolCallUpdate():
                out.append(self._tool_call(update))
            case _Plan(entries=entries):
                out.append(ev.Plan(self._turn_id, entries))
            case _Commands(available_commands=commands):
                out.append(ev.AgentCommands(commands))
            case _Mode(current_mode_id=mode):
                out.append(ev.AgentOptions(current_mode_id=mode))
            case _Options(config_options=options):
                out.append(ev.AgentOptions(config_options=options))
            case _Info(title=str(title)):
                out.append(ev.SessionInfo(title[:TITLE_CHARACTERS]))
            case _Usage(used=used, size=size, cost=cost):
                out.append(ev.Usage(used=used, size=size, cost=self._cost(cost)))

    def _chunk(self, update: _MessageChunk | _ThoughtChunk, raw: Raw, out: list[ev.EventData | _Run]) -> None:
        if update.content.type != "text":
            self._end_message()
            content = msgspec.json.decode(raw, type=_RawContent).content
            out.append(ev.ContentBlock(self._new_id("b"), self._turn_id, content))
            return
        kind = "m" if isinstance(update, _MessageChunk) else "h"
        self._say(kind, update.message_id, update.content.text or "", out)

    def _say(self, kind: str, agent_id: str | None, text: str, out: list[ev.EventData | _Run]) -> None:
        """Adds a piece of text to the run that it belongs to."""
        if not text:
            return
        name = self._open_message(kind, agent_id)
        last = out[-1] if out else None
        if isinstance(last, _Run) and last.name == name:
            last.texts.append(text)
        else:
            out.append(_Run(ev.TextDelta if kind == "m" else ev.ThoughtDelta, name, [text]))

    def _cost(self, cost: Raw | UnsetType) -> Raw | UnsetType:
        """As it came, if it is a cost at all."""
        if isinstance(cost, UnsetType) or bytes(cost) == b"null":
            return UNSET
        try:
            foreign.decode(cost, _Cost)
        except msgspec.DecodeError:
            self._on_odd("cost")
            return UNSET
        return cost

    def _open_message(self, kind: str, agent_id: str | None) -> str:
        if self._open_id is None or self._open_kind != kind or self._open_agent_id != agent_id:
            self._open_id = self._new_id(kind)
            self._open_kind = kind
            self._open_agent_id = agent_id
        return self._open_id

    def _tool_call(self, update: _ToolCall | _ToolCallUpdate) -> ev.ToolCall:
        members = _members(update)
        self._claims.take(update.tool_call_id, self._turn_id, members)
        known = self._known(update.tool_call_id)
        is_new = known is None or (isinstance(update, _ToolCall) and known[0] != self._turn_id)
        if is_new:
            self._end_message()
            name = update.tool_call_id if known is None else f"{update.tool_call_id}#{self._turn_id}"
            known = self._turn_id, name
            self._remember(update.tool_call_id, known)
        assert known is not None  # noqa: S101 - set above where it was
        if tool := members.tool:
            self._tool_names[known[1]] = tool
            if len(self._tool_names) > CALLS:
                del self._tool_names[next(iter(self._tool_names))]
        seconds = self._note_way(update, known[0])
        return ev.ToolCall(
            known[1],
            known[0],
            title=_or_unset(update.title, default=update.tool_call_id if is_new else UNSET),
            kind=_or_unset(update.kind),
            status=_or_unset(update.status, default="pending" if is_new else UNSET),
            content=_not_null(update.content),
            locations=_not_null(update.locations),
            raw_input=_not_null(update.raw_input),
            raw_output=_not_null(update.raw_output),
            seconds=seconds or UNSET,
        )

    def _note_way(self, update: _ToolCall | _ToolCallUpdate, turn_id: str) -> int:
        """Notes that a call goes on or has ended; returns how many whole seconds one that ended took."""
        call_id = update.tool_call_id
        if update.status in ("completed", "failed"):
            now = self._now()
            return int(now - self._under_way.pop(call_id, now))
        if call_id in self._tool_calls and turn_id == self._turn_id:
            self._under_way.setdefault(call_id, self._now())
        return 0

    def _end_message(self) -> None:
        self._open_id = None

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{self._turn_id}.{kind}{self._count}"


def _members(call: _ToolCallFields | AskedToolCall) -> claims.CallMembers:
    """What a permission rule reads of it."""
    return claims.CallMembers(
        kind=call.kind or None,
        tool=claims.tool_of_meta(call.meta) or call.tool_name,
        content=_not_null(call.content),
        locations=_not_null(call.locations),
        raw_input=_not_null(call.raw_input),
    )


def _or_unset(value: str | None, *, default: str | UnsetType = UNSET) -> str | UnsetType:
    return default if value is None else value


def _not_null(value: Any) -> Any:
    return UNSET if isinstance(value, Raw) and bytes(memoryview(value)[:5]) == b"null" else value
