"""ChatState: the fold of a session's log. Pure: the same events give the same state, here and in `reduce.ts`.

Two renderings come out of it. `State` is what the six verbs answer (every field always present; messages only
ever appended, growing at their end). `snapshot` is the whole fold, from which a client that missed events
draws on.

An agent's answer begins as an empty streaming message (`turn_started.reply_id`), so that State shows at once
that somebody is typing. The turn's first text takes that message over, whatever id it carries: State keeps
the message's place, `items` (the order a page draws in) moves it behind the tool calls that came before the
text. Once the turn is over, a message of the agent's that says nothing is in neither.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Literal, TypeGuard, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.events import facts as ev
from gateway.events.facts import iso
from gateway.events.lifecycle import SessionState
from gateway.events.packing import Overflow, PackedItem, Packs, packed

ELSEWHERE_BYTES: Final = 4 * 1024
"""JSON of an agent's own that is longer (a tool's input and output, an image) is not kept in memory."""
KEPT_TEXT_BYTES: Final = 16 * 1024
"""Of a longer text, what is not the end may leave the memory."""
PIECE_BYTES: Final = 16 * 1024
ITEM_BYTES: Final = 800
"""What an item costs beside its text and fields in CPython 3.11, about."""
HERE_ITEMS: Final = 96
"""So many of the last items are in memory as they are; of those before, what a page draws is elsewhere."""
RUN_ITEMS: Final = 64
"""So many leave together."""
PACKED_BYTES: Final = 800
"""What such an item counts: its place here, its JSON, and what that costs while somebody reads the whole."""
GATHERED_BYTES: Final = 64 * 1024
"""Parts of a snapshot are handed on in pieces of about so many bytes."""
_PACKED_KINDS: Final = frozenset(
    ("tool_call", "plan", "content", "notice", "egress_denied", "files_changed", "files_restored", "forked")
)
"""Of the others, something is asked before somebody draws them."""
AUTHORS: Final = 200
"""So many people who wrote by links are remembered by name, the last ones."""
DENIED_HOSTS: Final = 100
"""So many refused hosts are in State, the last ones."""
_BLANKS: Final = " \t\r\n"
"""What is no word; the page's fold has the same."""

_EMPTY_LIST: Final = Raw(b"[]")
_encode = msgspec.json.Encoder().encode
_decode_options = msgspec.json.Decoder(list[ev.SessionOption]).decode


class Text:
    """Text that grows at its end; appending costs the same however long it is.

    It is kept as UTF-8, which takes as many bytes as it takes to send: a str takes four for every character
    as soon as one of them is an emoji, and some sixty for each piece. With an `overflow`, of a long text only
    the end is in memory.
    """

    __slots__ = ("_bytes", "_overflow", "_parts", "is_blank", "length")

    def __init__(self, text: str = "", *, overflow: Overflow | None = None) -> None:
        self._bytes = bytearray()
        self._overflow = overflow
        self._parts: list[tuple[int, int]] = []
        """What is not in memory, in order: (start, size)."""
        self.length = 0
        """In characters."""
        self.is_blank = True
        """Whether it has no word so far."""
        if text:
            self.append(text)

    def append(self, text: str) -> int:
        """Adds to the end; how many bytes more are in memory."""
        before = len(self._bytes)
        self._bytes += text.encode("utf-8", "replace")
        self.length += len(text)
        self.is_blank = self.is_blank and not text.strip(_BLANKS)
        if len(self._bytes) > KEPT_TEXT_BYTES and self._overflow is not None:
            self._let_go(self._overflow)
        return len(self._bytes) - before

    def _let_go(self, overflow: Overflow) -> None:
        try:
            start = overflow.put(bytes(self._bytes))
        except OSError:
            return  # the disk is full: the next time
        size = len(self._bytes)
        if self._parts and sum(self._parts[-1]) == start:
            start, before = self._parts.pop()
            size += before
        self._parts.append((start, size))
        self._bytes = bytearray()

    @property
    def size_bytes(self) -> int:
        """How much is kept in memory."""
        return len(self._bytes)

    @property
    def is_long(self) -> bool:
        """Whether a part of it is not in memory."""
        return bool(self._parts)

    def pieces(self) -> Iterator[str]:
        """The text as it is now, piece by piece, however it grows meanwhile."""
        parts, rest, overflow = list(self._parts), bytes(self._bytes), self._overflow
        return _pieces(parts, rest, overflow)

    def json(self) -> Iterator[bytes]:
        """The same as one JSON string."""
        pieces = self.pieces()
        return itertools.chain([b'"'], (_encode(piece)[1:-1] for piece in pieces), [b'"'])

    def __str__(self) -> str:
        return "".join(self.pieces()) if self._parts else self._bytes.decode()


def _pieces(parts: list[tuple[int, int]], rest: bytes, overflow: Overflow | None) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start, size in parts:
        for at in range(start, start + size, PIECE_BYTES):
            assert overflow is not None  # noqa: S101 - nothing went anywhere without it
            yield decoder.decode(overflow.get(at, min(PIECE_BYTES, start + size - at)))
    yield decoder.decode(rest, final=True)


class Elsewhere(Struct, frozen=True):
    """Stands for a long value that is not kept in memory; the event of this number has it."""

    seq: int
    name: str
    """The event's field."""


class Message:
    """A message of the conversation; `index` is its place in State, which never changes."""

    __slots__ = (
        *("_json", "at", "attachments", "author", "id", "index", "is_placeholder", "is_streaming"),
        *("is_withdrawn", "sender", "text", "turn_id"),
    )

    def __init__(
        self, message: ev.MessageAdded, text: Text, *, at: int, index: int, is_placeholder: bool = False
    ) -> None:
        self.id = message.message_id
        self.sender = message.sender
        self.author = message.author
        self.is_withdrawn = False
        self.turn_id = message.turn_id
        self.attachments = message.attachments or ()
        self.text = text
        self.at = at
        self.index = index
        self.is_streaming = message.is_streaming
        self.is_placeholder = is_placeholder
        self._json: bytes | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether it is the agent's and has no word and no file."""
        return self.sender == "agent" and self.text.is_blank and not self.attachments

    def changed(self) -> None:
        """Forgets the encoded form."""
        self._json = None

    def json_parts(self) -> Iterator[bytes]:
        """The message as State spells it, part by part, as it is now."""
        head = b'{"sender":%b,"content":' % _encode(self.sender)
        facts = {"timestamp": iso(self.at), "is_streaming": self.is_streaming}
        rest = _encode(facts | self._authorship() | self._attached())
        return itertools.chain([head], self.text.json(), [b"," + rest[1:]])

    def json(self, *, keep: bool) -> bytes:
        """The message as State spells it; `keep` keeps that for the next time."""
        if self._json is not None:
            return self._json
        if self.text.is_long:
            return b"".join(self.json_parts())
        encoded = _encode(
            {
                "sender": self.sender,
                "content": str(self.text),
                "timestamp": iso(self.at),
                "is_streaming": self.is_streaming,
                **self._attached(),
            }
            | self._authorship()
        )
        if keep:
            self._json = encoded
        return encoded

    def _authorship(self) -> dict[str, Any]:
        """What is said only of messages of people who are not the owner."""
        author = {} if self.author is UNSET else {"author": self.author}
        return author | ({"is_withdrawn": True} if self.is_withdrawn else {})

    def item(self) -> dict[str, Any]:
        """The message as the snapshot spells it."""
        return (
            {
                "kind": "message",
                "id": self.id,
                "turn_id": self.turn_id,
                "sender": self.sender,
                "text": self.text if self.text.is_long else str(self.text),
                "at": iso(self.at),
                "is_streaming": self.is_streaming,
                "is_placeholder": self.is_placeholder,
                "index": self.index,
            }
            | self._authorship()
            | self._attached()
        )

    def _attached(self) -> dict[str, Any]:
        """Its attachments, if it has any."""
        return {"attachments": self.attachments} if self.attachments else {}


class Thought:
    """What the agent thought, between two other things it did."""

    __slots__ = ("at", "id", "is_streaming", "text", "turn_id")

    def __init__(self, delta: ev.ThoughtDelta | ev.ThoughtAdded, text: Text, *, at: int) -> None:
        self.id = delta.thought_id
        self.turn_id = delta.turn_id
        self.text = text
        self.at = at
        self.is_streaming = True

    def item(self) -> dict[str, Any]:
        return {
            "kind": "thought",
            "id": self.id,
            "turn_id": self.turn_id,
            "text": self.text if self.text.is_long else str(self.text),
            "at": iso(self.at),
            "is_streaming": self.is_streaming,
        }

    def packed(self) -> PackedItem:
        """The same, to be kept elsewhere; a text of which a part is elsewhere already stays."""
        fields = {"turn_id": self.turn_id, "text": str(self.text), "is_streaming": False}
        return packed("thought", self.id, self.at, fields, {})


class Block:
    """An item whose fields are replaced by name: a tool call, a plan, a permission, a notice, a content
    block.
    """

    __slots__ = ("at", "fields", "id", "kind")

    def __init__(self, kind: str, block_id: str, at: int, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.id = block_id
        self.at = at
        self.fields = fields

    def plain(self, name: str) -> Any:
        """A short field; None if it has none of this name. Of an item that was packed, all are JSON."""
        value = self.fields.get(name)
        return msgspec.json.decode(value) if isinstance(value, Raw) else value

    def item(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id, **self.fields, "at": iso(self.at)}

    def packed(self) -> PackedItem:
        """The same, to be kept elsewhere."""
        absent = {n: v.seq for n, v in self.fields.items() if isinstance(v, Elsewhere)}
        here = {name: value for name, value in self.fields.items() if name not in absent}
        return packed(self.kind, self.id, self.at, here, absent)


Item = Message | Thought | Block


class DeniedHost(Struct, frozen=True):
    """Connections to one host that were refused, for one reason."""

    host: str
    """Empty: further hosts, each of which is not told."""
    port: int
    why: str
    count: int
    at: str
    """The last time that it was said."""


class AskedHost(Struct, frozen=True):
    """A connection that waits for the person."""

    ask_id: str
    host: str
    port: int
    at: str


class EgressState(Struct, frozen=True):
    """What the session's worker may reach, and what was refused. `mode` is the worker's network: `shared`,
    `none` or `broker`; `hosts` are the entries that hold, if it is `broker`.
    """

    mode: str
    hosts: tuple[str, ...]
    denied: list[DeniedHost]
    asked: list[AskedHost]


class Ended(Struct, frozen=True):
    """When and why a session ended."""

    at: str
    reason: str


class Readiness(Struct, frozen=True):
    """Whether a client may let its user type: `ready`, `loading` or `error`, and why in words."""

    phase: Literal["ready", "loading", "error"]
    detail: str | None = None


class PendingPermission(Struct, frozen=True):
    """The oldest permission request that waits for the user."""

    permission_id: str
    title: str
    options: tuple[ev.PermissionOption, ...]
    turn_id: str
    tool_call_id: str | None
    always: ev.PermissionRule | UnsetType = UNSET


class PendingQuestion(Struct, frozen=True):
    """A question that waits for the user's answer."""

    question_id: str
    turn_id: str
    mode: Literal["form", "url"]
    message: str
    fields: tuple[ev.QuestionField, ...]
    url: str | None
    host: str | None
    tool_call_id: str | None


class WorkspaceState(Struct, frozen=True):
    """The repository that a session started from; `commit` is empty until its files are there."""

    name: str
    commit: str
    branch: str
    pushed_branch: str


class StateMessage(Struct, frozen=True):
    """A message as the six verbs show it; `timestamp` never changes."""

    sender: ev.Sender
    content: str
    timestamp: str
    is_streaming: bool
    author: ev.Contributor | UnsetType = UNSET
    """Who wrote it, if that was not the owner."""
    is_withdrawn: bool | UnsetType = UNSET
    """True if the agent never hears of it."""
    attachments: tuple[ev.Attachment, ...] | UnsetType = UNSET


class Participant(Struct, frozen=True):
    """Somebody who follows a session now, in one tab or in several. `link` is what the link that they came by
    allows; empty: it is the owner. Without a name: the owner, or somebody who gave none.
    """

    person_id: str
    name: str
    kind: Literal["owner", "person", "guest"]
    link: str = ""


class Present(Struct, frozen=True):
    """Who follows a session now: the first of them, and how many they are."""

    people: tuple[Participant, ...]
    count: int


class State(Struct, frozen=True):
    """What the six verbs answer. Always present but for `cost`, `rules`, `present`, `parent`, `workspace` and
    `earlier`.
    """

    session_id: str
    seq: int
    messages: list[StateMessage]
    is_processing: bool
    is_loading: bool
    is_connecting_mcp: bool
    missing_api_key: bool
    readiness: Readiness
    pending_wallet_tx: str | None
    pending_permission: PendingPermission | None
    questions: list[PendingQuestion]
    options: dict[str, ev.OptionValue]
    queued: int
    start_position: int | None
    ended: Ended | None
    egress: EgressState | None
    """None for readers who are not the owner, and before there is a session."""
    cost: ev.Spending | UnsetType = UNSET
    """What its model calls have cost; absent: it has made none that the gateway counts."""
    rules: list[ev.NamedRule] | UnsetType = UNSET
    """The session's own permission rules."""
    present: Present | UnsetType = UNSET
    """Who follows it now; absent: nobody but the owner."""
    parent: str | UnsetType = UNSET
    """The session that this one was forked from."""
    workspace: WorkspaceState | UnsetType = UNSET
    """Absent: it did not start from a repository."""
    earlier: int | UnsetType = UNSET
    """If only some of the messages were asked for: how many come before them."""
    start_short_of: str | UnsetType = UNSET
    """`memory`: the turn waits because the machine has none for its agent; absent: all places are taken."""


class Outside(Struct, frozen=True):
    """What State shows that no event says, because it is about this moment and not about the conversation."""

    missing_api_key: bool = False
    network: str = ""
    """That of the session's workers; empty: it is not told."""
    hosts: tuple[str, ...] = ()
    """Entries of the lists that allow hosts."""
    present: Present | UnsetType = UNSET
    is_for_guests: bool = False
    """Whether its reader came by a link: rules, costs, repository and other sessions are the owner's."""


OWNERS_EVENTS: Final = (
    *(ev.RuleAdded, ev.RuleRemoved, ev.NetworkChanged, ev.WorkspaceChanged, ev.SessionForked),
    *(ev.EgressNarrowed, ev.EgressDenied, ev.EgressAsked, ev.EgressAnswered),
)
"""What only the owner of a session is told."""
_OWNERS_ITEMS: Final = ("egress_denied", "egress_asked", "forked")
_OWNERS_FIELDS: Final = ("rules", "parent", "workspace")


class EgressFold:
    """What a log says of the worker's connections."""

    __slots__ = ("answers", "asked", "denied", "narrowed")

    def __init__(self) -> None:
        self.narrowed: tuple[str, ...] | None = None
        """The entries that the session keeps to; None: it has not narrowed its lists."""
        self.denied: dict[tuple[str, int, str], DeniedHost] = {}
        """The last to be refused is the last."""
        self.asked: dict[str, AskedHost] = {}
        """What waits for the person, by the id of the question."""
        self.answers: dict[tuple[str, int], bool] = {}
        """Hosts that the person allowed for the session, or refused."""

    def apply(
        self, data: ev.EgressDenied | ev.EgressAsked | ev.EgressAnswered | ev.EgressNarrowed, at: int
    ) -> None:
        """Takes one fact in."""
        match data:
            case ev.EgressNarrowed(hosts=hosts):
                self.narrowed = hosts
            case ev.EgressDenied():
                self._deny(data, at)
            case ev.EgressAsked(ask_id=ask_id, host=host, port=port):
                self.asked[ask_id] = AskedHost(ask_id, host, port, iso(at))
            case ev.EgressAnswered(ask_id=ask_id, answer=answer):
                asked = self.asked.pop(ask_id, None)
                if asked is not None and answer in ("session", "deny"):
                    self.answers[asked.host, asked.port] = answer == "session"

    def _deny(self, data: ev.EgressDenied, at: int) -> None:
        key = data.host, data.port, data.why
        self.denied.pop(key, None)
        self.denied[key] = DeniedHost(*key, data.count, iso(at))
        if len(self.denied) > DENIED_HOSTS:
            del self.denied[next(iter(self.denied))]

    def state(self, outside: Outside) -> EgressState:
        """What State shows of it."""
        lists = outside.hosts if self.narrowed is None else self.narrowed
        hosts = lists if outside.network == "broker" else ()
        return EgressState(outside.network, hosts, list(self.denied.values()), list(self.asked.values()))

    def snapshot(self) -> dict[str, Any]:
        """Its field of the snapshot, if there is anything to tell."""
        if self.narrowed is None and not (self.denied or self.asked or self.answers):
            return {}
        answers = [[host, port, is_allowed] for (host, port), is_allowed in self.answers.items()]
        return {
            "egress": {
                "narrowed": self.narrowed,
                "denied": list(self.denied.values()),
                "asked": list(self.asked.values()),
                "answers": answers,
            }
        }


def for_guests(outside: Outside) -> Outside:
    """The same without what only the owner sees."""
    return msgspec.structs.replace(outside, network="", hosts=(), is_for_guests=True)


class FoldPart:
    """What one application folds of a log. A subclass has `__slots__`: each session in memory has one."""

    __slots__ = ()
    name: ClassVar[str] = ""
    """Its field in the snapshot. The page's fold of the same application puts the same value there."""

    def apply(self, data: ev.EventData, at: int) -> None:
        """Takes in one fact of any application; those of the gateway itself do not come here."""

    def snapshot(self) -> Any:
        """The value of its field; UNSET: it has none."""
        return UNSET

    @property
    def person(self) -> str | None:
        """The person who has taken over from the agent: until they hand back, the agent is not asked."""
        return None

    @property
    def is_joined(self) -> bool:
        """True if the messages that wait become one prompt, and none is refused because others wait."""
        return False

    @property
    def refuses_commands(self) -> bool:
        """True if what people write here is never a command of the agent's (`/…`), but for what the
        application lets through.
        """
        return False

    @property
    def briefing(self) -> str:
        """What the agent is told before anything else; empty: nothing."""
        return ""


P = TypeVar("P", bound=FoldPart)


class ChatState:
    """The fold. `apply` every event in order; `StateJson` and `snapshot` render where it stands."""

    def __init__(
        self, session_id: str, *, overflow: Overflow | None = None, parts: tuple[FoldPart, ...] = ()
    ) -> None:
        self.session_id = session_id
        self._overflow = overflow
        self.parts = parts
        """What applications fold."""
        self.seq = 0
        self.agent: str | None = None
        self.title: str | None = None
        self.is_title_chosen = False
        """A person gave the session its title: the agent gives it none."""
        self.state = SessionState.PARKED
        self.state_reason: str | None = None
        self.detail: str | None = None
        self.failure: ev.Failure | None = None
        self.turn_id: str | None = None
        self.start_position: int | None = None
        """The turn's place in the line for workers; None: it does not wait for one."""
        self._short_of: str | UnsetType = UNSET
        """What it waits for there, if that is not a place."""
        self._start_messages: tuple[str, ...] = ()
        self.waiting: tuple[ev.WaitingMessage, ...] = ()
        self.is_held = False
        self.held_for: str | UnsetType = UNSET
        self.wallet: str | None = None
        self.network: str | None = None
        self.workspace: ev.WorkspaceChanged | None = None
        """The repository that it starts from; None: from nothing."""
        self.egress = EgressFold()
        self.ended: Ended | None = None
        self.parent: str | None = None
        """The session that this one was forked from."""
        self.is_new_fork = False
        """It was forked, and no agent has started in it since."""
        self.commands: Raw = _EMPTY_LIST
        self.options: dict[str, Any] = {}
        self.session_options: Raw = _EMPTY_LIST
        """What can be chosen, as the last `session_options` said and `option_chosen` changed it."""
        self.option_values: dict[str, ev.OptionValue] = {}
        self.chosen: dict[str, ev.OptionValue] = {}
        """What people chose, as it is now: an agent's own change of it counts."""
        self.usage: dict[str, Any] = {}
        self.messages: list[Message] = []
        self.characters = 0
        """Of text that was said, thoughts included."""
        self._packs = Packs(overflow) if overflow is not None else None
        self._pack_at = HERE_ITEMS
        self.items: list[Item] = []
        """The last ones, in the order that a page draws them in."""
        self.permissions: dict[str, ev.PermissionAsked] = {}
        self.rules: dict[str, ev.NamedRule] = {}
        """The session's own permission rules, by their ids."""
        self.questions: dict[str, ev.QuestionAsked] = {}
        """Those that wait for an answer."""
        self.authors: dict[str, ev.Contributor] = {}
        """People who wrote and are not the owner, by their ids."""
        self._owner_writes = False
        self._by_id: dict[tuple[str, str], Item] = {}
        self._placeholder: Message | None = None
        self._settled = 0
        """So many messages, from the first, are of turns that are over."""
        self._open: Message | Thought | None = None
        self._changed = 0
        """The number of the first message that may have changed since somebody asked."""
        self.held_bytes = 0
        """What of the conversation is kept in memory, about."""

    # -- reading ----------------------------------------------------------------------------------------

    @property
    def is_processing(self) -> bool:
        """Whether the agent works on a message."""
        return self.turn_id is not None

    def has_message(self, message_id: str) -> bool:
        """Whether a message of this id is in the conversation."""
        return ("message", message_id) in self._by_id

    def part(self, kind: type[P]) -> P:
        """What an application folds of this log. Raises LookupError if the application is switched off."""
        for part in self.parts:
            if isinstance(part, kind):
                return part
        raise LookupError(kind.name)

    @property
    def person(self) -> str | None:
        """The person who answers instead of the agent; None: the agent answers."""
        return next((part.person for part in self.parts if part.person is not None), None)

    @property
    def is_joined(self) -> bool:
        """True if the messages that wait become one prompt, and none is refused because others wait."""
        return any(part.is_joined for part in self.parts)

    @property
    def refuses_commands(self) -> bool:
        """True if what people write is never a command of the agent's."""
        return any(part.refuses_commands for part in self.parts)

    @property
    def briefings(self) -> list[str]:
        """What the agent is told before anything else."""
        return [part.briefing for part in self.parts if part.briefing]

    @property
    def readiness(self) -> Readiness:
        if self.state is SessionState.STARTING:
            return Readiness("loading", "The agent is starting.")
        if self.state_reason == "crash_loop":
            return Readiness("error", self.detail)
        return Readiness("ready", self.detail)

    @property
    def start_messages(self) -> list[ev.WaitingMessage]:
        """The messages of the turn that waits for a worker."""
        if self.turn_id is None or self.start_position is None:
            return []
        found = (self._by_id.get(("message", message_id)) for message_id in self._start_messages)
        return [
            ev.WaitingMessage(
                *(one.id, self.turn_id if number == 0 else one.turn_id or self.turn_id, str(one.text)),
                author=one.author,
                attachments=one.attachments or UNSET,
            )
            for number, one in enumerate(message for message in found if isinstance(message, Message))
        ]

    @property
    def pending_permission(self) -> PendingPermission | None:
        for asked in self.permissions.values():
            return PendingPermission(
                *(asked.permission_id, asked.title, asked.options, asked.turn_id, asked.tool_call_id),
                always=asked.always,
            )
        return None

    @property
    def pending_questions(self) -> list[PendingQuestion]:
        return [
            PendingQuestion(*(getattr(asked, name) for name in PendingQuestion.__struct_fields__))
            for asked in self.questions.values()
        ]

    @property
    def several_write(self) -> bool:
        """True if more than one person has written."""
        return len(self.authors) + self._owner_writes > 1

    def answered(
        self, kind: Literal["permission", "question"], item_id: str
    ) -> ev.Contributor | UnsetType | None:
        """Who answered this: None is the owner; UNSET: nobody did, or a rule."""
        item = self._by_id.get((kind, item_id))  # such items are never packed
        if not isinstance(item, Block) or item.fields.get("outcome") in (None, "cancelled", "complete"):
            return UNSET
        by: ev.Contributor | UnsetType = item.fields.get("by", UNSET)
        if by is not UNSET:
            return by
        is_nobodys = "rule" in item.fields or item.fields["outcome"] == "cancel"  # as at the turn's end
        return UNSET if is_nobodys else None

    def blocks(self, kind: Literal["permission", "question"]) -> Iterator[Block]:
        """Every item of a kind that is never packed, in order."""
        return (item for item in self._by_id.values() if isinstance(item, Block) and item.kind == kind)

    def title_of_call(self, tool_call_id: str) -> str | None:
        """None if there is no such tool call."""
        return self._of_call(tool_call_id, "title")

    def turn_of_call(self, tool_call_id: str) -> str | None:
        """The turn that a tool call belongs to; None if there is no such call."""
        return self._of_call(tool_call_id, "turn_id")

    def _of_call(self, tool_call_id: str, name: str) -> str | None:
        """A short field of it. Who only asks brings nothing back into memory: an agent that counts its calls
        from 0 in each turn asks about all of those before.
        """
        item: Item | PackedItem | None = self._by_id.get(("tool_call", tool_call_id))
        if item is None and self._packs is not None:
            item = self._packs.find("tool_call", tool_call_id)
        if isinstance(item, PackedItem):
            value = item.fields.get(name)
            return str((value and msgspec.json.decode(value)) or "")
        return str(item.plain(name) or "") if isinstance(item, Block) else None

    def has_question(self, question_id: str) -> bool:
        """Whether a question of this id was ever asked."""
        return ("question", question_id) in self._by_id

    @property
    def growing(self) -> list[Message]:
        """The messages of the turn that runs which are not finished."""
        return [one for one in (self._placeholder, self._open) if isinstance(one, Message)]

    @property
    def waiting_items(self) -> list[Item]:
        """Items that wait for the person."""
        kinds: dict[str, Iterable[str]] = {
            "permission": self.permissions, "question": self.questions, "egress_asked": self.egress.asked
        }  # fmt: skip
        names = [(kind, item_id) for kind, ids in kinds.items() for item_id in ids]
        return [self._by_id[name] for name in names if name in self._by_id]

    def last_items(self) -> Iterator[Item]:
        """Every item, the last one first. Raises OSError."""
        yield from reversed(self.items)
        for one in reversed(self._packs) if self._packs is not None else ():
            item = self._by_id.get((one.kind, one.id))
            if item is not None or one.fields:
                yield item or self._unpacked(one)

    def place_of(self, message: Message) -> int:
        """How many messages come before it: never more than its index says."""
        place = min(message.index, len(self.messages) - 1)
        while self.messages[place] is not message:
            place -= 1
        return place

    def take_changed(self) -> int:
        """The number of the first message that may have changed since this was asked the last time."""
        first, self._changed = self._changed, len(self.messages)
        return first

    def state_ends(self, outside: Outside, *, earlier: int | None = None) -> tuple[bytes, bytes]:
        """What State says before and after its messages, of which `earlier` are left out."""
        spending = self.usage.get("spending")
        owners: dict[str, Any] = {} if spending is None else {"cost": spending}
        owners |= self._own_rules() | self._origin() | self._of_workspace()
        rest = _encode(
            {
                "is_processing": self.is_processing,
                "is_loading": self.state is SessionState.STARTING,
                "is_connecting_mcp": False,
                "missing_api_key": outside.missing_api_key,
                "readiness": self.readiness,
                "pending_wallet_tx": self.wallet,
                "pending_permission": self.pending_permission,
                "questions": self.pending_questions,
                "options": self.option_values,
                "queued": len(self.waiting),
                "start_position": self.start_position,
                "ended": self.ended,
                "egress": self.egress.state(outside) if outside.network else None,
            }
            | ({} if outside.is_for_guests else owners)
            | ({} if outside.present is UNSET else {"present": outside.present})
            | ({} if earlier is None else {"earlier": earlier})
            | self._start_short_of()
        )
        head = b'{"session_id":%b,"seq":%d,"messages":[' % (_encode(self.session_id), self.seq)
        return head, b"]," + rest[1:]

    def snapshot(self) -> dict[str, Any]:
        """The whole fold as JSON values, what a `resync` frame carries under `chat`; what is not in memory
        is an `Elsewhere`.
        """
        items = list(self._item_dicts())
        for item in items:
            if isinstance(text := item.get("text"), Text):
                item["text"] = str(text)
        return self.snapshot_head() | {"items": items}

    def snapshot_head(self) -> dict[str, Any]:
        """The snapshot without its items."""
        return {
            "session_id": self.session_id,
            "seq": self.seq,
            "agent": self.agent,
            "title": self.title,
            "state": str(self.state),
            "state_reason": self.state_reason,
            "detail": self.detail,
            "failure": self.failure,
            "turn_id": self.turn_id,
            **({} if self.start_position is None else {"start_position": self.start_position}),
            **self._start_short_of(),
            "waiting": self.waiting,
            "is_held": self.is_held,
            **({} if self.held_for is UNSET else {"held_for": self.held_for}),
            "wallet": self.wallet,
            "network": self.network,
            **self.egress.snapshot(),
            **self._of_parts(),
            "ended": self.ended,
            "commands": self.commands,
            "options": self.options,
            "session_options": self.session_options,
            "option_values": self.option_values,
            "usage": self.usage,
            **self._own_rules(),
            **self._origin(),
            **self._of_workspace(),
        }

    def _origin(self) -> dict[str, str]:
        return {"parent": self.parent} if self.parent is not None else {}

    def _of_workspace(self) -> dict[str, WorkspaceState]:
        of = self.workspace
        if of is None:
            return {}
        return {"workspace": WorkspaceState(of.name, of.commit, of.branch, of.pushed_branch)}

    def _own_rules(self) -> dict[str, list[ev.NamedRule]]:
        return {"rules": list(self.rules.values())} if self.rules else {}

    def _of_parts(self) -> dict[str, Any]:
        values = ((part.name, part.snapshot()) for part in self.parts)
        return {name: value for name, value in values if value is not UNSET}

    def snapshot_parts(
        self, *, is_guest: bool = False, items: Iterable[Item] | None = None, more: Mapping[str, int] = {}
    ) -> Iterator[SnapshotPart]:
        """The snapshot as JSON, part by part. `is_guest`: without what only the owner is told. `items`: these
        instead of all; `more`: further fields.
        """
        head = self.snapshot_head() | dict(more)
        if is_guest:
            head = {name: value for name, value in head.items() if name not in _OWNERS_FIELDS}
            head["usage"] = {name: value for name, value in self.usage.items() if name != "spending"}
        yield _encode(head)[:-1] + b',"items":'
        shown = self._item_dicts() if items is None else (item.item() for item in items)
        yield from gathered(items_parts(shown, is_guest=is_guest))
        yield b"}"

    def _item_dicts(self) -> Iterator[dict[str, Any]]:
        """Every item as the snapshot spells it."""
        for one in self._packs or ():
            item = self._by_id.get((one.kind, one.id))
            if item is not None:
                yield item.item()
            elif one.fields:
                absent = {name: Elsewhere(seq, name) for name, seq in one.elsewhere.items()}
                yield {"kind": one.kind, "id": one.id, **one.fields, **absent, "at": iso(one.at)}
        for item in self.items:
            yield item.item()

    def end(self, at: int, reason: str, *, seq: int) -> None:
        """An empty fold of a session that was: all that its tombstone says."""
        self.seq = seq
        self.ended = Ended(iso(at), reason)

    # -- folding ----------------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> None:
        """Takes one event in; events come in order of seq."""
        self.seq = event.seq
        self._apply(event.data, event.at)

    def _apply(self, data: ev.EventData, at: int) -> None:
        match data:
            case ev.TextDelta():
                self._text(data, at)
            case ev.ThoughtDelta():
                self._thought(data, at)
            case ev.ThoughtAdded():
                self._whole_thought(data, at)
            case ev.ToolCall():
                self._tool_call(data, at)
            case ev.MessageAdded():
                self._message(data, at)
            case ev.MessageWithdrawn(message_id=message_id):
                self._withdraw(message_id)
            case ev.TurnStarted() | ev.TurnEnded() | ev.TurnInterrupted():
                self._turn(data, at)
            case ev.StartPosition(turn_id=turn_id, position=position, message_ids=message_ids):
                if turn_id == self.turn_id:
                    self.start_position, self._short_of = position, data.short_of
                    self._start_messages = message_ids or self._start_messages
            case ev.PermissionAsked() | ev.PermissionAnswered():
                self._permission(data, at)
            case ev.QuestionAsked() | ev.QuestionAnswered():
                self._question(data, at)
            case ev.Plan(turn_id=turn_id, entries=entries):
                self._block("plan", turn_id, at, {"turn_id": turn_id, "entries": entries})
            case ev.ContentBlock(block_id=block_id, turn_id=turn_id, content=content):
                self._close_open()
                self._block("content", block_id, at, {"turn_id": turn_id, "content": content})
            case ev.Notice():
                fields = _given(data)
                self._block("notice", fields.pop("notice_id"), at, fields)
            case ev.EgressDenied() | ev.EgressAsked() | ev.EgressAnswered() | ev.EgressNarrowed():
                self._egress(data, at)
            case ev.BudgetNear():
                self._budget(data, at)
            case ev.FilesChanged() | ev.FilesRestored() | ev.SessionForked():
                self._files(data, at)
            case _:
                self._facts(data, at)

    def _files(self, data: ev.FilesChanged | ev.FilesRestored | ev.SessionForked, at: int) -> None:
        match data:
            case ev.FilesChanged():
                self._block("files_changed", data.turn_id, at, _given(data))
            case ev.FilesRestored():
                self._block("files_restored", f"f{self.seq}", at, {**_given(data), "seq": self.seq})
            case ev.SessionForked():
                self.parent, self.is_new_fork = data.parent, True
                self._block("forked", f"f{self.seq}", at, _given(data))

    def _budget(self, data: ev.BudgetNear, at: int) -> None:
        """Shown as a notice."""
        fields = {
            "level": "warning",
            "code": "budget_near",
            "text": data.text,
            "quota": ev.QuotaUse(data.limit, data.used, data.allowed),
        }
        self._block("notice", data.notice_id, at, fields)

    def _facts(self, data: ev.EventData, at: int) -> None:
        match data:
            case ev.SessionStateChanged(state=state, reason=reason, detail=detail):
                self.state = SessionState(state)
                self.state_reason = reason
                self.detail = detail
                if self.state is SessionState.STARTING:
                    self.start_position = None
            case ev.SessionCreated(session_id=session_id, agent=agent):
                self.session_id = session_id
                self.agent = agent
                self.ended = None
            case ev.SessionInfo(title=title, is_chosen=is_chosen):
                self.title = title
                self.is_title_chosen = self.is_title_chosen or is_chosen is True
            case ev.AgentStarted():
                self.failure = None
                self.is_new_fork = False
            case ev.AgentCommands(commands=commands):
                self.commands = commands.copy()
            case ev.AgentOptions():
                self.options |= _apart(_given(data))
            case ev.SessionOptions(options=options):
                self.session_options = Raw(_encode(options))
                self.option_values = {option.option_id: option.value for option in options}
                self.chosen |= {
                    name: self.option_values[name] for name in self.chosen.keys() & self.option_values
                }
            case ev.OptionChosen(option_id=option_id, value=value):
                self._choose(option_id, value)
            case ev.Usage():
                given = {name: value for name, value in _given(data).items() if value is not None}
                self.usage |= _apart(given)
            case ev.QueueChanged(waiting=waiting, is_held=is_held, held_for=held_for):
                self.waiting = waiting
                self.is_held, self.held_for = is_held, held_for
            case ev.RuleAdded(rule_id=rule_id, rule=rule):
                self.rules[rule_id] = ev.NamedRule(rule_id, rule)
            case ev.RuleRemoved(rule_id=rule_id):
                self.rules.pop(rule_id, None)
            case ev.WalletChanged(pending=pending):
                self.wallet = pending
            case ev.NetworkChanged(network=network):
                self.network = network
            case ev.WorkspaceChanged():
                self.workspace = data
            case ev.ApplicationFact():
                for part in self.parts:
                    part.apply(data, at)
            case ev.SessionClosed(reason=reason):
                self.ended = Ended(iso(at), reason)
                self.state = SessionState.CLOSED

    def _choose(self, option_id: str, value: ev.OptionValue) -> None:
        self.chosen[option_id] = value
        self.option_values = self.option_values | {option_id: value}
        options = [
            msgspec.structs.replace(option, value=value) if option.option_id == option_id else option
            for option in self.listed_options
        ]
        self.session_options = Raw(_encode(options))

    @property
    def listed_options(self) -> list[ev.SessionOption]:
        """What can be chosen."""
        return _decode_options(self.session_options)

    def _message(self, data: ev.MessageAdded, at: int) -> None:
        message = self._by_id.get(("message", data.message_id))
        if message is None and data.sender == "agent":
            message = self._take_placeholder(data.turn_id)
        if message is None:
            self._add_message(data, at)
            return
        assert isinstance(message, Message)  # noqa: S101 - the key says so
        if message.is_placeholder:
            self._settle(message, data.message_id)
        self.held_bytes -= message.text.size_bytes
        message.text = self._new_text(data.content)
        self.held_bytes += message.text.size_bytes
        message.is_streaming = data.is_streaming
        message.attachments = data.attachments or ()
        self._change(message)
        if self._open is message and not data.is_streaming:
            self._open = None

    def _withdraw(self, message_id: str) -> None:
        message = self._by_id.get(("message", message_id))
        if isinstance(message, Message):
            message.is_withdrawn = True
            self._change(message)

    def _note_writer(self, data: ev.MessageAdded) -> None:
        if data.sender != "user":
            return
        if data.author is UNSET:
            self._owner_writes = True
            return
        self.authors.pop(data.author.author_id, None)
        self.authors[data.author.author_id] = data.author
        if len(self.authors) > AUTHORS:
            del self.authors[next(iter(self.authors))]

    def _add_message(self, data: ev.MessageAdded, at: int, *, is_placeholder: bool = False) -> Message:
        self._note_writer(data)
        text = self._new_text(data.content)
        index = self.messages[-1].index + 1 if self.messages else 0
        message = Message(data, text, at=at, index=index, is_placeholder=is_placeholder)
        self.messages.append(message)
        self._add(message, "message")
        self.held_bytes += message.text.size_bytes
        return message

    def _text(self, data: ev.TextDelta, at: int) -> None:
        message = self._by_id.get(("message", data.message_id))
        if message is None:
            message = self._take_placeholder(data.turn_id) or self._add_message(
                ev.MessageAdded(data.message_id, "agent", "", data.turn_id, is_streaming=True), at
            )
        assert isinstance(message, Message)  # noqa: S101 - the key says so
        if message.is_placeholder:
            self._settle(message, data.message_id)
        if self._open is not message:
            self._close_open()
            self._open = message
        self.held_bytes += message.text.append(data.text)
        self.characters += len(data.text)
        self._change(message)

    def _change(self, message: Message) -> None:
        message.changed()
        self._changed = min(self._changed, self.place_of(message))

    def _new_text(self, text: str = "") -> Text:
        self.characters += len(text)
        return Text(text, overflow=self._overflow)

    def _take_placeholder(self, turn_id: str | None) -> Message | None:
        placeholder = self._placeholder
        return placeholder if placeholder is not None and placeholder.turn_id == turn_id else None

    def _settle(self, message: Message, message_id: str) -> None:
        """Gives the empty answer its id and its place behind what the turn did before it said something."""
        del self._by_id["message", message.id]
        message.id = message_id
        message.is_placeholder = False
        self._by_id["message", message_id] = message
        self.items.remove(message)
        self.items.append(message)
        self._placeholder = None

    def _thought(self, data: ev.ThoughtDelta, at: int) -> None:
        thought = self._find("thought", data.thought_id)
        if thought is None:
            thought = Thought(data, self._new_text(), at=at)
            self._add(thought, "thought")
        assert isinstance(thought, Thought)  # noqa: S101 - the key says so
        if self._open is not thought:
            self._close_open()
            self._open = thought
        self.held_bytes += thought.text.append(data.text)
        self.characters += len(data.text)

    def _whole_thought(self, data: ev.ThoughtAdded, at: int) -> None:
        thought = self._find("thought", data.thought_id)
        if thought is None:
            self._close_open()
            thought = Thought(data, self._new_text(), at=at)
            self._add(thought, "thought")
        assert isinstance(thought, Thought)  # noqa: S101 - the key says so
        self.held_bytes -= thought.text.size_bytes
        thought.text = self._new_text(data.text)
        self.held_bytes += thought.text.size_bytes
        thought.is_streaming = data.is_streaming
        if self._open is thought and not data.is_streaming:
            self._open = None

    def _tool_call(self, data: ev.ToolCall, at: int) -> None:
        fields = _given(data)
        tool_call_id = fields.pop("tool_call_id")
        if "kind" in fields:
            fields["tool_kind"] = fields.pop("kind")
        if self._find("tool_call", tool_call_id) is None:
            self._close_open()
        self._block("tool_call", tool_call_id, at, fields)

    def _start_short_of(self) -> dict[str, Any]:
        """It is in State and the snapshot while there is something to say."""
        is_said = self.start_position is not None and self._short_of is not UNSET
        return {"start_short_of": self._short_of} if is_said else {}

    def _turn(self, data: ev.TurnStarted | ev.TurnEnded | ev.TurnInterrupted, at: int) -> None:
        self.start_position = None
        if isinstance(data, ev.TurnStarted):
            self._drop_blank()
            self.turn_id = data.turn_id
            self.failure = None
            empty = ev.MessageAdded(data.reply_id, "agent", "", data.turn_id, is_streaming=True)
            self._placeholder = self._add_message(empty, at, is_placeholder=True)
            return
        self._close_open()
        self._drop_blank()
        if data.turn_id == self.turn_id:
            self.turn_id = None
        if isinstance(data, ev.TurnInterrupted):
            self.failure = ev.Failure(data.reason, data.message, retryable=True)
        elif data.error is not None:
            self.failure = data.error

    def _permission(self, data: ev.PermissionAsked | ev.PermissionAnswered, at: int) -> None:
        if isinstance(data, ev.PermissionAsked):
            self.permissions[data.permission_id] = data
            fields = _given(data)
            self._block(
                "permission", fields.pop("permission_id"), at, {**fields, "outcome": None, "option_id": None}
            )
            return
        self.permissions.pop(data.permission_id, None)
        answer = {
            "outcome": data.outcome, "option_id": data.option_id, "rule": data.rule, "by": data.by
        }  # fmt: skip
        given = {name: value for name, value in answer.items() if value is not UNSET}
        self._block("permission", data.permission_id, at, given)

    def _question(self, data: ev.QuestionAsked | ev.QuestionAnswered, at: int) -> None:
        """What may be long of it is kept as JSON, which is counted and may leave the memory."""
        if isinstance(data, ev.QuestionAsked):
            self.questions[data.question_id] = data
            fields = _given(data) | {"fields": Raw(_encode(data.fields)), "outcome": None, "content": None}
            self._block("question", fields.pop("question_id"), at, fields)
            return
        self.questions.pop(data.question_id, None)
        content = None if data.content is None else Raw(_encode(data.content))
        by = {} if data.by is UNSET else {"by": data.by}
        self._block("question", data.question_id, at, {"outcome": data.outcome, "content": content} | by)

    def _egress(
        self, data: ev.EgressDenied | ev.EgressAsked | ev.EgressAnswered | ev.EgressNarrowed, at: int
    ) -> None:
        self.egress.apply(data, at)
        match data:
            case ev.EgressDenied():
                item_id = f"{data.turn_id or ''} {data.host}:{data.port} {data.why}"
                self._block("egress_denied", item_id, at, _given(data))
            case ev.EgressAsked():
                fields = _given(data)
                self._block("egress_asked", fields.pop("ask_id"), at, {**fields, "answer": None})
            case ev.EgressAnswered(ask_id=ask_id, answer=answer):
                self._block("egress_asked", ask_id, at, {"answer": answer})

    def _block(self, kind: str, block_id: str, at: int, fields: dict[str, Any]) -> None:
        fields = {name: self._kept(name, value) for name, value in fields.items()}
        self.held_bytes += sum(map(_size, fields.values()))
        known = self._find(kind, block_id)
        if isinstance(known, Block):
            self.held_bytes -= sum(_size(known.fields[name]) for name in fields if name in known.fields)
            known.fields |= fields
            return
        self._add(Block(kind, block_id, at, fields), kind)

    def _kept(self, name: str, value: Any) -> Any:
        """A field as it is kept: JSON apart from the event that brought it, or where to find it."""
        if not isinstance(value, Raw):
            return value
        return Elsewhere(self.seq, name) if _size(value) > ELSEWHERE_BYTES else value.copy()

    def _add(self, item: Item, kind: str) -> None:
        self.held_bytes += ITEM_BYTES
        self.items.append(item)
        self._by_id[kind, item.id] = item
        if len(self.items) > self._pack_at and self._packs is not None:
            self._pack(self._packs)

    def _pack(self, packs: Packs) -> None:
        """Lets the first items go. The empty answer stays: it moves behind what came before its text."""
        run = [item for item in self.items[:RUN_ITEMS] if item is not self._placeholder]
        leaving = [item for item in run if self._may_leave(item)]
        leaves = {id(item): item.packed() for item in leaving}
        try:
            packs.add([leaves.get(id(item)) or _place_of(item) for item in run])
        except OSError:  # the disk is full: later
            self._pack_at = len(self.items) + RUN_ITEMS
            return
        self.items[:RUN_ITEMS] = [item for item in self.items[:RUN_ITEMS] if item is self._placeholder]
        self._pack_at = HERE_ITEMS
        for item in leaving:
            kind = item.kind if isinstance(item, Block) else "thought"
            del self._by_id[kind, item.id]
            self.held_bytes -= ITEM_BYTES + _held(item) - PACKED_BYTES

    def _may_leave(self, item: Message | Thought | Block) -> TypeGuard[Thought | Block]:
        if isinstance(item, Block):
            return item.kind in _PACKED_KINDS
        return isinstance(item, Thought) and item is not self._open and not item.text.is_long

    def _find(self, kind: str, item_id: str) -> Message | Thought | Block | None:
        """The item of this id. One that was packed is in memory from here on, and keeps its place."""
        item = self._by_id.get((kind, item_id))
        if item is not None or self._packs is None:
            return item
        found = self._packs.find(kind, item_id)
        if found is None:
            return None
        item = self._by_id[kind, item_id] = self._unpacked(found)
        self.held_bytes += ITEM_BYTES + _held(item)
        return item

    def _unpacked(self, found: PackedItem) -> Thought | Block:
        if found.kind == "thought":
            turn_id, text = (msgspec.json.decode(found.fields[name]) for name in ("turn_id", "text"))
            thought = Thought(
                ev.ThoughtDelta(found.id, turn_id, ""), Text(text, overflow=self._overflow), at=found.at
            )
            thought.is_streaming = False
            return thought
        fields: dict[str, Any] = {name: value.copy() for name, value in found.fields.items()}
        fields |= {name: Elsewhere(seq, name) for name, seq in found.elsewhere.items()}
        return Block(found.kind, found.id, found.at, fields)

    def _drop_blank(self) -> None:
        """Takes the agent's messages out in which nothing was said. Not before a turn begins or is over: each
        of them may still grow.
        """
        self._placeholder = None
        for place in range(len(self.messages) - 1, self._settled - 1, -1):
            message = self.messages[place]
            if message.says_nothing:
                del self.messages[place], self._by_id["message", message.id]
                self._changed = min(self._changed, place)
                with contextlib.suppress(ValueError):  # it may have been packed
                    self.items.remove(message)
                self.held_bytes -= ITEM_BYTES + message.text.size_bytes
                self._open = None if self._open is message else self._open
        self._settled = len(self.messages)

    def _close_open(self) -> None:
        """A tool call, a thought after text, or the turn's end: what was growing is finished."""
        if self._open is None:
            return
        self._open.is_streaming = False
        if isinstance(self._open, Message):
            self._change(self._open)
        self._open = None


SnapshotPart = bytes | Elsewhere | Iterator[bytes]
"""JSON; a value that must be fetched; JSON that is long."""


def items_parts(items: Iterable[dict[str, Any]], *, is_guest: bool) -> Iterator[SnapshotPart]:
    """Items, as the snapshot spells them, as a JSON array, part by part."""
    separator = b"["
    for fields in items:
        if is_guest and fields.get("kind") in _OWNERS_ITEMS:
            continue
        absent = {name: value for name, value in fields.items() if isinstance(value, Elsewhere | Text)}
        yield separator + _encode({name: value for name, value in fields.items() if name not in absent})[:-1]
        separator = b","
        for name, value in absent.items():
            yield b',"%b":' % name.encode()
            yield value.json() if isinstance(value, Text) else value
        yield b"}"
    yield b"[]" if separator == b"[" else b"]"


def gathered(parts: Iterator[SnapshotPart]) -> Iterator[SnapshotPart]:
    """The same with short neighbours made one."""
    run = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            run += part
            if len(run) < GATHERED_BYTES:
                continue
        if run:
            yield bytes(run)
            run.clear()
        if not isinstance(part, bytes):
            yield part
    if run:
        yield bytes(run)


def _place_of(item: Item) -> PackedItem:
    """Where an item is drawn that stays in memory."""
    kinds = {Message: "message", Thought: "thought"}
    return PackedItem(item.kind if isinstance(item, Block) else kinds[type(item)], item.id)


def _held(item: Thought | Block) -> int:
    """What it holds beside itself."""
    return item.text.size_bytes if isinstance(item, Thought) else sum(map(_size, item.fields.values()))


def _apart(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields that keep nothing of the event that brought them."""
    return {name: value.copy() if isinstance(value, Raw) else value for name, value in fields.items()}


def _size(value: Any) -> int:
    """The bytes of a field that may be long."""
    if isinstance(value, Raw):
        return memoryview(value).nbytes
    return len(value) if isinstance(value, str) else 0


def _given(data: Struct) -> dict[str, Any]:
    """The fields of an event that are set."""
    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET}
