"""The facts a session's log is made of. Pure: shapes and spellings, no I/O.

An event is `(seq, at, data)`. `data` is one of the Structs below, told apart on the wire by `type`. Every one
is an upsert by id or an append to one, so that a client can draw from any state onward without history:
absent fields of a `tool_call` mean "unchanged", lists replace. The published list with its fields stands in
docs/events.md, the golden files that the Python and the TypeScript fold both read in tests/golden/.
No fact can be part of a circle, so the garbage collector need not look at any (`gc=False`).
"""

from __future__ import annotations

import datetime
import functools
import io
import operator
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from worker.acp import in_one_line as in_one_line

Sender = Literal["user", "agent", "system"]


class PermissionOption(Struct, frozen=True, gc=False):
    """One answer that a permission request offers; `kind` is ACP's allow_once, allow_always, reject_once,
    …
    """

    option_id: str
    name: str
    kind: str


class PermissionRule(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A rule that answers permission requests: it matches a call that fits every field that is there. Absent:
    any.
    """

    action: Literal["allow", "ask", "deny"]
    kind: str = ""
    """ACP's kind of tool call."""
    tool: str = ""
    command: tuple[str, ...] = ()
    """The first words of a command; with `is_exact` all of them."""
    is_exact: bool = False
    path: tuple[str, ...] = ()
    """Globs; with `is_exact` paths as they are."""
    mcp_server: str = ""
    input: str = ""
    """The digest of one exact input."""


class NamedRule(Struct, frozen=True, gc=False):
    """A rule with its name: `r12` for one of the session, `permissions.deny.1` for one of the operator."""

    rule_id: str
    rule: PermissionRule


class Contributor(Struct, frozen=True, gc=False):
    """Somebody who is not the session's owner and came by a link. `person` is signed in, and the gateway
    knows the name; a `guest` typed it.
    """

    author_id: str
    """The same for everything that one person does by one link."""
    name: str
    kind: Literal["person", "guest"]


class Attachment(Struct, frozen=True, gc=False):
    """A file of the session's working directory that a message brings to its agent."""

    path: str
    """Relative to the working directory."""
    name: str
    size: int
    """In bytes, when the message was sent."""
    media_type: str


class WaitingMessage(Struct, frozen=True, gc=False):
    """A user's message that waits for its turn."""

    message_id: str
    turn_id: str
    text: str
    author: Contributor | UnsetType = UNSET
    """Absent: the owner's."""
    attachments: tuple[Attachment, ...] | UnsetType = UNSET
    """Absent: none."""


class Failure(Struct, frozen=True, gc=False):
    """Why a turn failed, in words for the user; `retryable` says whether sending it again may help."""

    code: str
    message: str
    retryable: bool = False


class SessionCreated(Struct, frozen=True, gc=False, tag="session_created"):
    """The first event of every session."""

    session_id: str
    agent: str


class SessionStateChanged(Struct, frozen=True, gc=False, tag="session_state"):
    """The session's state (lifecycle.py); `reason` with parked and closed, `detail` in words for
    the user.
    """

    state: str
    reason: str | None = None
    detail: str | None = None


class SessionInfo(Struct, frozen=True, gc=False, tag="session_info"):
    """The session's title."""

    title: str
    is_chosen: bool | UnsetType = UNSET
    """True: a person chose it, and no title of the agent's takes its place."""


class AgentStarted(Struct, frozen=True, gc=False, tag="agent_started"):
    """A worker is ready; `how` is new, resumed, loaded, forked or transcript, `walls` the profile that it
    runs behind, `network` what it reaches: none, broker or shared.
    """

    agent: str
    name: str | None
    version: str | None
    how: str
    milliseconds: int
    walls: str = ""
    network: str | UnsetType = UNSET


class AgentCommands(Struct, frozen=True, gc=False, tag="agent_commands"):
    """The agent's slash commands: ACP's AvailableCommand objects; the whole list each time."""

    commands: Raw


class AgentOptions(Struct, frozen=True, gc=False, tag="agent_options"):
    """The agent's modes and configuration options as ACP gives them; an absent field is unchanged."""

    modes: Raw | UnsetType = UNSET
    current_mode_id: str | UnsetType = UNSET
    config_options: Raw | UnsetType = UNSET
    models: Raw | UnsetType = UNSET


OptionValue = str | bool


class OptionChoice(Struct, frozen=True, gc=False):
    """A value that an option may have; `group` is the name of those that belong together."""

    value: str
    name: str
    description: str = ""
    group: str = ""


class SessionOption(Struct, frozen=True, gc=False):
    """Something that can be chosen of the agent: its mode, its model, or an option of its own."""

    option_id: str
    name: str
    kind: Literal["choice", "boolean"]
    value: OptionValue
    choices: tuple[OptionChoice, ...] = ()
    category: str = ""
    description: str = ""
    is_locked: bool = False


class SessionOptions(Struct, frozen=True, gc=False, tag="session_options"):
    """What can be chosen of the agent, with the values of now; the whole list each time."""

    options: tuple[SessionOption, ...]


class OptionChosen(Struct, frozen=True, gc=False, tag="option_chosen"):
    """A person chose a value; without a worker, the agent hears of it when it starts."""

    option_id: str
    value: OptionValue


class AgentUpdate(Struct, frozen=True, gc=False, tag="agent_update"):
    """An update of a kind that this gateway does not know, as the agent sent it."""

    update: Raw


class MessageAdded(Struct, frozen=True, gc=False, tag="message"):
    """A whole message: a new one, or (same `message_id`) the one that replaces what is known of it. `author`
    wrote it, if that was not the owner.
    """

    message_id: str
    sender: Sender
    content: str
    turn_id: str | None = None
    is_streaming: bool = False
    author: Contributor | UnsetType = UNSET
    attachments: tuple[Attachment, ...] | UnsetType = UNSET
    """Of a user's message; absent: none."""


class MessageWithdrawn(Struct, frozen=True, gc=False, tag="message_withdrawn"):
    """A message that waited will not be sent to the agent, and the agent never hears of it. `reason` is
    `link_revoked`: the link that its author came by was revoked; or `dropped`: the owner took it out.
    """

    message_id: str
    reason: str


class TextDelta(Struct, frozen=True, gc=False, tag="text_delta"):
    """Text that is appended to an agent's message; the first delta of an id makes the message."""

    message_id: str
    turn_id: str
    text: str


class ThoughtDelta(Struct, frozen=True, gc=False, tag="thought_delta"):
    """Text that is appended to an agent's thought; the first delta of an id makes it."""

    thought_id: str
    turn_id: str
    text: str


class ThoughtAdded(Struct, frozen=True, gc=False, tag="thought"):
    """A whole thought, which replaces what is known of it."""

    thought_id: str
    turn_id: str
    text: str
    is_streaming: bool = False


class ContentBlock(Struct, frozen=True, gc=False, tag="content_block"):
    """A part of an agent's answer that is no text (an image, audio, a link), as ACP spells it."""

    block_id: str
    turn_id: str
    content: Raw


class ToolCall(Struct, frozen=True, gc=False, tag="tool_call"):
    """A tool call: new, or (same id) changed. Absent fields are unchanged, lists replace (ACP
    `tool_call_update`).
    """

    tool_call_id: str
    turn_id: str
    title: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    content: Raw | UnsetType = UNSET
    locations: Raw | UnsetType = UNSET
    raw_input: Raw | UnsetType = UNSET
    raw_output: Raw | UnsetType = UNSET
    seconds: int | UnsetType = UNSET
    """How long it took, as far as the gateway saw; absent: it goes on, or took less than a second."""


class Plan(Struct, frozen=True, gc=False, tag="plan"):
    """The agent's plan for a turn: ACP's PlanEntry objects; the whole list each time."""

    turn_id: str
    entries: Raw


class PermissionAsked(Struct, frozen=True, gc=False, tag="permission_asked"):
    """The agent asks before it acts; answered by POST /api/sessions/{id}/permission, or by a rule. `always`
    is the rule that an answer for always would make; absent: it counts for this request only.
    """

    permission_id: str
    turn_id: str
    title: str
    options: tuple[PermissionOption, ...]
    tool_call_id: str | None = None
    always: PermissionRule | UnsetType = UNSET


class PermissionAnswered(Struct, frozen=True, gc=False, tag="permission_answered"):
    """The answer: `selected` with the option, or `cancelled` because the turn ended first. `rule` is the rule
    that answered instead of a person; `by` is who answered, if that was not the owner.
    """

    permission_id: str
    outcome: Literal["selected", "cancelled"]
    option_id: str | None = None
    rule: NamedRule | UnsetType = UNSET
    by: Contributor | UnsetType = UNSET


class RuleAdded(Struct, frozen=True, gc=False, tag="rule_added"):
    """A person answered for always: from here on this rule answers in this session, until it is removed."""

    rule_id: str
    rule: PermissionRule


class RuleRemoved(Struct, frozen=True, gc=False, tag="rule_removed"):
    """A rule of the session answers no longer."""

    rule_id: str


FieldKind = Literal["text", "number", "integer", "boolean", "choice", "choices"]
AnswerValue = str | int | float | bool | list[str]


class QuestionChoice(Struct, frozen=True, gc=False):
    """One value that a field offers."""

    value: str
    title: str
    description: str = ""


class QuestionField(Struct, frozen=True, gc=False):
    """A field of a question's form. `minimum` and `maximum` bound a number, the characters of a text, or how
    many are chosen; `pattern` is what the agent wants of a text, which the gateway does not check.
    """

    name: str
    kind: FieldKind
    title: str
    description: str = ""
    is_required: bool = False
    choices: tuple[QuestionChoice, ...] = ()
    format: str = ""
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    default: AnswerValue | None = None


class QuestionAsked(Struct, frozen=True, gc=False, tag="question_asked"):
    """The agent asks its user: a form, or an address (`url`) that the user may open. It is answered by
    POST /api/sessions/{id}/questions/{question_id}.
    """

    question_id: str
    turn_id: str
    mode: Literal["form", "url"]
    message: str
    fields: tuple[QuestionField, ...] = ()
    url: str | None = None
    host: str | None = None
    tool_call_id: str | None = None


class QuestionAnswered(Struct, frozen=True, gc=False, tag="question_answered"):
    """The answer: `accept` with the form's content, `decline`, `cancel` (by the user, or because the turn
    ended first), or `complete`: the agent saw that what the address was for is done. `by` is who answered, if
    that was not the owner.
    """

    question_id: str
    outcome: Literal["accept", "decline", "cancel", "complete"]
    content: dict[str, AnswerValue] | None = None
    by: Contributor | UnsetType = UNSET


BudgetBy = Literal["operator", "person"]


class Spending(Struct, frozen=True, gc=False):
    """What the model calls of a session have cost so far, by the gateway's own ledger."""

    spent: float
    currency: str = "USD"
    limit: float | None = None
    """What they may cost in a day, if the session has such a budget."""
    is_estimated: bool = False
    """Of some calls only an estimate is known, or no price."""
    budget: float | UnsetType = UNSET
    """What they may cost in all, if the session has such a budget."""
    budget_by: BudgetBy | UnsetType = UNSET
    """Who set it for this session alone; absent: it is that of the configuration."""


class Usage(Struct, frozen=True, gc=False, tag="usage"):
    """Tokens: `used` of `size` of the context window; `input_tokens` and `output_tokens` of the last model
    call. `cost` is what an agent with a model of its own says; `spending` is what the gateway has counted.
    """

    used: int | None = None
    size: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Raw | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    spending: Spending | UnsetType = UNSET


class BudgetNear(Struct, frozen=True, gc=False, tag="budget_near"):
    """Most of a budget for models is used, in words and in figures: dollars or tokens."""

    notice_id: str
    text: str
    limit: str
    """Whose, and which: `subject.cost_per_day`."""
    used: float
    allowed: float


class BudgetSpent(Struct, frozen=True, gc=False, tag="budget_reached"):
    """A budget for models is used up: a call was refused. The end of its turn says so to people."""

    text: str
    limit: str
    used: float
    allowed: float


class QuotaUse(Struct, frozen=True, gc=False):
    """How much of a quota is used; `limit` names it with whose it is: `subject.messages_per_day`."""

    limit: str
    used: float
    allowed: float


class Notice(Struct, frozen=True, gc=False, tag="notice"):
    """Something the user should know, in words; `code` is for programs, `level` info, warning or error.

    `quota` goes with the code `quota`; `values` are the numbers and names in the words of other codes, for
    clients that have words of their own; `kind` among them tells words of one code apart.
    """

    notice_id: str
    level: Literal["info", "warning", "error"]
    code: str
    text: str
    quota: QuotaUse | UnsetType = UNSET
    values: dict[str, str | int] | UnsetType = UNSET


class TurnStarted(Struct, frozen=True, gc=False, tag="turn_started"):
    """The agent works on `message_id`; `reply_id` is its answer's first message, empty so far."""

    turn_id: str
    message_id: str
    reply_id: str


class StartPosition(Struct, frozen=True, gc=False, tag="start_position"):
    """The turn waits until a worker may start: its place in the line, from 1 on. Of the messages that it will
    hand to the agent it gives the ids when the waiting begins; only that is kept, later places are shown.
    """

    turn_id: str
    position: int
    message_ids: tuple[str, ...] = ()
    short_of: Literal["memory"] | UnsetType = UNSET
    """If the machine has no memory for another agent now; absent: all places are taken."""


class TurnEnded(Struct, frozen=True, gc=False, tag="turn_ended"):
    """The agent completed the turn: ACP's stop reason, or `error` with the failure."""

    turn_id: str
    stop_reason: str
    error: Failure | None = None


class TurnInterrupted(Struct, frozen=True, gc=False, tag="turn_interrupted"):
    """The turn ended without the agent's word: its worker or the gateway ended first."""

    turn_id: str
    reason: str
    message: str


class QueueChanged(Struct, frozen=True, gc=False, tag="queue"):
    """The messages that wait for their turn; `is_held` after an interrupt, until the user sends or drops
    them, or for what `held_for` names: a budget, until it allows them.
    """

    waiting: tuple[WaitingMessage, ...]
    is_held: bool = False
    held_for: Literal["budget"] | UnsetType = UNSET


class WalletChanged(Struct, frozen=True, gc=False, tag="wallet"):
    """The transaction that waits for the user's wallet: compact JSON with sorted keys, or null."""

    pending: str | None


class NetworkChanged(Struct, frozen=True, gc=False, tag="network"):
    """The network that the user's wallet is on."""

    network: str


EgressAnswer = Literal["once", "session", "always", "deny", "timeout", "cancelled"]


class WorkspaceChanged(Struct, frozen=True, gc=False, tag="workspace_changed"):
    """The repository that the session starts from, as it is now: `commit` is empty until its files are there.
    `store` names the warm copy whose objects the session reads, `pushed` is the commit that it pushed to
    `pushed_branch`.
    """

    name: str
    commit: str = ""
    branch: str = ""
    store: str = ""
    pushed_branch: str = ""
    pushed: str = ""


class EgressNarrowed(Struct, frozen=True, gc=False, tag="egress_narrowed"):
    """The session's worker reaches no more than these of the hosts that its lists allow."""

    hosts: tuple[str, ...]


class EgressDenied(Struct, frozen=True, gc=False, tag="egress_denied"):
    """A connection of the worker was refused, `count` times so far in this turn: the first time is said at
    once, later ones together. Without a host: that of any further host.
    """

    host: str
    port: int
    why: str
    count: int = 1
    turn_id: str | None = None


class EgressAsked(Struct, frozen=True, gc=False, tag="egress_asked"):
    """A connection to a host that no list names waits for the person; answered by
    POST /api/sessions/{id}/egress/{ask_id}.
    """

    ask_id: str
    host: str
    port: int
    turn_id: str | None = None


class EgressAnswered(Struct, frozen=True, gc=False, tag="egress_answered"):
    """The answer: what the person chose, `timeout` if nobody did, `cancelled` if the worker ended first."""

    ask_id: str
    answer: EgressAnswer


class FilesChanged(Struct, frozen=True, gc=False, tag="files_changed"):
    """A turn changed files of the working directory, and a snapshot keeps them as they are now. `turn` is the
    number of the event that ended the turn.
    """

    turn_id: str
    turn: int
    added: int = 0
    changed: int = 0
    removed: int = 0


class FilesRestored(Struct, frozen=True, gc=False, tag="files_restored"):
    """The working directory is again what it was at `at_seq`. What it was before is kept, too: it comes back
    with the number below that of this event.
    """

    at_seq: int
    files: int
    failed: int = 0
    """Files that could not be put back."""


ForkFiles = Literal["snapshot", "now", "none"]


class SessionForked(Struct, frozen=True, gc=False, tag="session_forked"):
    """What is above was copied from the session `parent`, up to its event `at_seq`. `files` says which files
    came along: `snapshot` those of that moment, `now` those of now, `none`: it had none.
    """

    parent: str
    at_seq: int
    files: ForkFiles = "none"
    missing: int | UnsetType = UNSET
    """Files that did not come along."""
    is_mixed: bool | UnsetType = UNSET
    """True if some of the next turn's changes may be in the files."""


class WorkerEnded(Struct, frozen=True, gc=False, tag="worker_ended"):
    """A worker's end and its receipt; `survivors` must be 0."""

    reason: str
    detail: str | None = None
    processes: int = 0
    survivors: int = 0
    bytes_freed: int = 0
    milliseconds: int = 0


class SessionClosed(Struct, frozen=True, gc=False, tag="session_closed"):
    """The last event: the session was deleted; a client that reconnects gets 204."""

    reason: str


class ApplicationFact(Struct, frozen=True, gc=False):
    """The base of the facts that an application adds (`register`). Its fields hold plain values, no `Raw`."""


class Unknown(Struct, frozen=True, gc=False):
    """A fact of a type that is not registered: its application is switched off, or not installed. It is kept
    and streamed as it was stored.
    """

    type: str
    json: bytes


CoreData = (
    SessionCreated
    | SessionStateChanged
    | SessionInfo
    | AgentStarted
    | AgentCommands
    | AgentOptions
    | SessionOptions
    | OptionChosen
    | AgentUpdate
    | MessageAdded
    | MessageWithdrawn
    | TextDelta
    | ThoughtDelta
    | ThoughtAdded
    | ContentBlock
    | ToolCall
    | Plan
    | PermissionAsked
    | PermissionAnswered
    | RuleAdded
    | RuleRemoved
    | QuestionAsked
    | QuestionAnswered
    | Usage
    | BudgetNear
    | BudgetSpent
    | Notice
    | TurnStarted
    | StartPosition
    | TurnEnded
    | TurnInterrupted
    | QueueChanged
    | WalletChanged
    | NetworkChanged
    | WorkspaceChanged
    | EgressNarrowed
    | EgressDenied
    | EgressAsked
    | EgressAnswered
    | FilesChanged
    | FilesRestored
    | SessionForked
    | WorkerEnded
    | SessionClosed
)

EventData = CoreData | ApplicationFact | Unknown

_encode = msgspec.json.Encoder().encode
_registered: dict[str, type[ApplicationFact]] = {}
_core_tags: Final = frozenset(kind.__struct_config__.tag for kind in get_args(CoreData))
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(CoreData)


class _Type(Struct):
    type: str


_type_of = msgspec.json.Decoder(_Type).decode


def register(*kinds: type[ApplicationFact]) -> None:
    """Makes known the facts of an application, for this whole process; a second time changes nothing.

    One decoder reads them and those of the gateway, so that it is as fast as without them. Raises ValueError
    if another fact has the same type on the wire.
    """
    global _decoder
    for kind in kinds:
        tag = kind.__struct_config__.tag
        if not isinstance(tag, str) or tag in _core_tags or _registered.get(tag, kind) is not kind:
            raise ValueError(f"There is a fact of type {tag!r} already, or it has none: {kind.__name__}.")
        _registered[tag] = kind
    _decoder = msgspec.json.Decoder(functools.reduce(operator.or_, _registered.values(), CoreData))


def _decode(body: bytes) -> EventData:
    """The fact of a stored body. Raises msgspec.DecodeError if it is none."""
    try:
        data: EventData = _decoder.decode(body)
    except msgspec.ValidationError:
        tag = _type_of(body).type
        if tag in _registered or tag in _core_tags:
            raise
        return Unknown(tag, bytes(body))
    return data


_CARRIES_RAW: Final[frozenset[type]] = frozenset(
    (AgentCommands, AgentOptions, AgentUpdate, ContentBlock, ToolCall, Plan, Usage)
)
"""Events with JSON of the agent's own inside, a view of the line that it came in."""
LARGE_BYTES: Final = 256 * 1024
"""An event with a longer body is not kept in memory once it is committed, and leaves in slices."""
_TEXTS: Final = frozenset((TextDelta, ThoughtDelta, MessageAdded, ThoughtAdded))
TEXT_KEPT_BYTES: Final = 4 * 1024
"""A shorter text is kept beside the body that it is in."""
KEPT_FRAME_BYTES: Final = 16 * 1024
"""A longer frame is made anew for each reader."""


OnUsed = Callable[[int], None]


def ignored(_count: int) -> None:
    """Nothing can be let go of."""


def _encoded(data: EventData, used: OnUsed) -> bytes:
    """A body. Long JSON in it is copied bit by bit: what was copied may leave the memory meanwhile."""
    fields = {name: getattr(data, field) for field, name in _names(type(data))}
    long = [name for name, value in fields.items() if isinstance(value, Raw) and _size(value) > LARGE_BYTES]
    if not long:
        return _encode(data)
    fields = {
        name: value if name in long else _encode(value)
        for name, value in fields.items()
        if value is not UNSET
    }
    out = io.BytesIO()
    out.write(b'{"type":"%b"' % str(data.__struct_config__.tag).encode())
    for name, value in fields.items():
        out.write(b',"%b":' % name.encode())
        rest = memoryview(value)
        for start in range(0, rest.nbytes, LARGE_BYTES):
            out.write(rest[start : start + LARGE_BYTES])
            if name == long[-1]:  # all others are copied
                used(start)
    out.write(b"}")
    return out.getvalue()


@functools.cache
def _names(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))


def _size(value: Raw) -> int:
    return memoryview(value).nbytes


@functools.cache
def _tag_of(kind: type[Struct]) -> str | None:
    """The type that all events of a kind have; None: each has its own."""
    tag = kind.__struct_config__.tag
    return tag if isinstance(tag, str) else None


_Kind = type[Struct]


class Event(Struct, eq=False, gc=False):
    """One fact in a session's log. As the facts, it is no part of a circle.

    `seq` is a positive int that only grows within a session (with gaps) and is the SSE id; `at` is the wall
    clock in milliseconds since 1970 UTC. The body and the SSE frame are encoded once for all readers.
    """

    seq: int
    at: int
    _data: EventData | None
    _body: bytes | None = None
    _frame: bytes | None = None
    kind: _Kind = Struct
    """Of the data."""

    def __post_init__(self) -> None:
        if self._data is not None:
            self.kind = self._data.__class__

    def __repr__(self) -> str:
        """Nothing of what it says: it may be in a log."""
        return f"<event {self.seq}: {self.kind.__name__}>"

    @classmethod
    def said(cls, seq: int, at: int, data: EventData, *, used: OnUsed = ignored) -> Event:
        """An event that is new. It holds nothing of what its data was read from: JSON inside `data` becomes
        a view of the event's own body, where it was one of a whole line, or of a file. `used` hears, as the
        body grows, how many of the first bytes of that are not looked at again.
        """
        event = cls(seq, at, data)
        if event.kind in _CARRIES_RAW:
            event._body = _encode(data) if used is ignored else _encoded(data, used)
            event._data = _decode(event._body)
        return event

    @property
    def data(self) -> EventData:
        """What it says."""
        data = self._data  # once: another thread may look while it is slimmed
        return _decode(self.body) if data is None else data

    def slim(self) -> None:
        """Keeps what it says once: as the body, from which the data is read again if somebody asks. A short
        text is asked for by every slow reader.
        """
        if self.kind not in _TEXTS or len(self.body) > TEXT_KEPT_BYTES:
            self._data = None

    @classmethod
    def stored(cls, seq: int, at: int, body: bytes) -> Event:
        """An event from its stored body. Raises msgspec.DecodeError where the body is none."""
        return cls(seq, at, _decode(body), body)

    @property
    def type(self) -> str:
        tag = _tag_of(self.kind)
        if tag is not None:
            return tag
        assert isinstance(self.data, Unknown)  # noqa: S101 - every other Struct above has one
        return self.data.type

    @property
    def body(self) -> bytes:
        """`{"type": …, …}` as JSON, as it is stored."""
        if self._body is None:
            self._body = self._data.json if isinstance(self._data, Unknown) else _encode(self._data)
        return self._body

    @property
    def frame(self) -> bytes:
        """The event as one SSE frame: id, event and one JSON object that repeats seq, at and type."""
        frame = self._frame
        if frame is None:
            frame = b"".join((self._frame_head, in_one_line(self.body)[1:], b"\n\n"))
            if len(frame) <= KEPT_FRAME_BYTES:
                self._frame = frame
        return frame

    def json_slices(self, size: int) -> Iterator[bytes]:
        """`json` piece by piece, so that no second copy of a large event exists."""
        yield self._json_head
        yield from slices(memoryview(self.body)[1:], size)

    def frame_slices(self, size: int) -> Iterator[bytes]:
        """The frame of a large event piece by piece, so that no second copy of it exists."""
        yield self._frame_head
        yield from slices(memoryview(self.body)[1:], size)
        yield b"\n\n"

    @property
    def _frame_head(self) -> bytes:
        return b"id: %d\nevent: %b\ndata: %b" % (self.seq, self.type.encode(), self._json_head)

    @property
    def json(self) -> bytes:
        """The event as one flat JSON object in one line."""
        return b"".join((self._json_head, memoryview(in_one_line(self.body))[1:]))

    @property
    def _json_head(self) -> bytes:
        seconds, rest = divmod(self.at, 1000)
        return b'{"seq":%d,"at":"%b.%03dZ",' % (self.seq, _second(seconds), rest)

    @property
    def is_large(self) -> bool:
        """Whether it is read from the store, not kept."""
        return len(self.body) > LARGE_BYTES

    @property
    def size_bytes(self) -> int:
        """Its share of memory and of a page of the log, about."""
        return len(self.body) + EVENT_OVERHEAD_BYTES


def slices(json: memoryview, size: int) -> Iterator[bytes]:
    """JSON in one line, in slices of at most `size` of its bytes, none of which ends inside a character."""
    start, end = 0, json.nbytes
    while start < end:
        stop = min(start + size, end)
        for _ in range(3):  # of UTF-8 at most so many bytes continue a character
            stop -= stop < end and json[stop] & 0xC0 == 0x80
        yield in_one_line(bytes(json[start:stop]))
        start = stop


class LargeEvent(Event, gc=True, weakref=True):
    """One that readers hold together, and that is forgotten when the last of them has it no more."""

    @classmethod
    def of(cls, event: Event) -> LargeEvent:
        """The same."""
        return cls(event.seq, event.at, event.data, event.body)


EVENT_OVERHEAD_BYTES: Final = 200
"""What an Event costs beside its body in CPython 3.11, about: object, ints, Struct, list slot."""


def at_most(events: list[Event], max_bytes: int) -> list[Event]:
    """The first events that fit, at least one."""
    size = 0
    for index, event in enumerate(events):
        size += event.size_bytes
        if size > max_bytes and index:
            return events[:index]
    return events


SECONDS_KEPT: Final = 2
"""In words: the present one, and one of a log that is read. Each is small, and holds the memory around it."""


def iso(milliseconds: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC with milliseconds: 2026-01-31T09:30:00.000Z."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(maxsize=SECONDS_KEPT)
def _second(seconds: int) -> bytes:
    return _to_the_second(seconds).encode()


@functools.lru_cache(maxsize=SECONDS_KEPT)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}"


def merged(events: list[Event]) -> list[Event]:
    """The same events with neighbouring deltas of one message or thought made one; it takes the last one's
    seq and the first one's time, which is the time of a message that begins there.
    """
    out: list[Event] = []
    run: list[Event] = []
    for event in events:
        if run and _delta_of(event) != _delta_of(run[0]):
            out.append(_joined(run))
            run = []
        if _delta_of(event) is None:
            out.append(event)
        else:
            run.append(event)
    if run:
        out.append(_joined(run))
    return out


def _delta_of(event: Event) -> str | None:
    if event.kind is not TextDelta and event.kind is not ThoughtDelta:
        return None
    match event.data:
        case TextDelta(message_id=delta_of) | ThoughtDelta(thought_id=delta_of):
            return delta_of
    return None


def _joined(run: list[Event]) -> Event:
    if len(run) == 1:
        return run[0]
    last = run[-1]
    texts = [e.data.text for e in run if isinstance(e.data, TextDelta | ThoughtDelta)]
    assert isinstance(last.data, TextDelta | ThoughtDelta)  # noqa: S101 - _delta_of let nothing else in
    return Event(last.seq, run[0].at, msgspec.structs.replace(last.data, text="".join(texts)))
