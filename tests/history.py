"""The history checker: clients report what they sent, what was acknowledged and every byte they saw; it
counts what broke. An oracle of its own: it reads the wire and uses nothing of the gateway.

What it counts (`KINDS`): `lost` acknowledged or durably seen, then gone · `dup` one message, two turns ·
`reorder` a client's own order, or `seq` going back on a connection · `cross` another session's canary in any
byte · `unanswered` an acknowledged message with neither a full reply nor visible words · `garbled` a text
that is not what was said · `regress` a history that shrinks on one connection or between two reads · `stuck`
what never ended · `seq_reused` one number, two contents · `half_written` refused, and there all the same ·
`orphan`, `zombie` processes.

Text that had not reached the disk may go with a killed gateway (at most 50 ms of it), so between two lives of
a gateway only what was finished must stay; within one life nothing may shrink. An answer in which nothing was
said yet counts as none: it goes at the end of its turn if that stays so.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, field

KINDS: Final = (
    "lost", "dup", "reorder", "cross", "unanswered", "garbled", "regress", "stuck", "seq_reused",
    "half_written", "orphan", "zombie",
)  # fmt: skip
EXAMPLES_KEPT: Final = 10
_CANARY: Final = re.compile(rb"canary-[0-9a-f]{32}")
_CANARY_BYTES: Final = 39
_DELTAS: Final = {"text_delta": "message_id", "thought_delta": "thought_id"}
_WHOLES: Final = {"message": ("message_id", "content"), "thought": ("thought_id", "text")}
_TURN_ENDS: Final = ("turn_ended", "turn_interrupted")


def canary() -> str:
    """128 random bits by which a turn is known wherever it turns up."""
    return f"canary-{secrets.token_hex(16)}"


class Violation(Struct, frozen=True):
    """One thing that broke, in words."""

    kind: str
    session: str
    words: str


class Sent(Struct):
    """A message on its way; `expected` is its whole reply, `after` what its client knew accepted."""

    text: str
    expected: str
    after: tuple[str, ...]
    is_acknowledged: bool = False
    is_refused: bool = False


class _Past(Struct):
    """The messages that a chain of reads saw last."""

    messages: list[dict[str, Any]]
    life: int
    ended_at: float


class _Session(Struct):
    sent: dict[str, Sent] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    chains: dict[str, _Past] = field(default_factory=dict)
    contents: dict[int, object] = field(default_factory=dict)


class History:
    """See the module. Times are seconds of a monotonic clock; a life is the number of a gateway's process."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """n: how many messages, reads, frames and bytes the zeros rest on."""
        self.examples: dict[str, list[Violation]] = defaultdict(list)
        self._sessions: dict[str, _Session] = defaultdict(_Session)
        self._owners: dict[bytes, str] = {}

    def violated(self, kind: str, session: str, words: str) -> None:
        """Something broke."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES_KEPT:
            self.examples[kind].append(Violation(kind, session, words))

    # -- what clients did -------------------------------------------------------------------------------

    def sent(self, session: str, text: str, *, expected: str) -> None:
        """A message is about to be sent; its text is unique in its session."""
        known = self._sessions[session]
        known.sent[text] = Sent(text, expected, tuple(known.accepted))
        for name in _CANARY.findall(text.encode()):
            self._owners[name] = session
        self.seen["messages sent"] += 1

    def acknowledged(self, session: str, text: str) -> None:
        """The gateway said 200 to it."""
        known = self._sessions[session]
        if not known.sent[text].is_acknowledged:
            known.sent[text].is_acknowledged = True
            known.accepted.append(text)
            self.seen["messages acknowledged"] += 1

    def refused(self, session: str, text: str) -> None:
        """The gateway said no to it, and its client does not try again."""
        self._sessions[session].sent[text].is_refused = True
        self.seen["messages refused"] += 1

    def hung(self, session: str, words: str) -> None:
        """Something did not end inside its bound."""
        self.violated("stuck", session, words)

    # -- what clients saw -------------------------------------------------------------------------------

    def saw_bytes(self, session: str, data: bytes, *, before: bytes = b"") -> bytes:
        """Every byte of an answer or a stream; returns its end, to be given as `before` of what follows."""
        self.seen["bytes"] += len(data)
        window = before + data
        for name in _CANARY.findall(window):
            owner = self._owners.get(name)
            if owner != session:
                self.violated("cross", session, f"{name.decode()} belongs to {owner}")
        return window[-(_CANARY_BYTES - 1) :]

    def saw_state(
        self, session: str, state: Mapping[str, Any], *, chain: str, life: int, began: float, ended: float
    ) -> None:
        """A State. Reads of one chain are compared in order; one that began before the last ended is not."""
        self.seen["states"] += 1
        messages: list[dict[str, Any]] = state["messages"]
        known = self._sessions[session]
        for text, count in Counter(m["content"] for m in messages if m["sender"] == "user").items():
            if count > 1:
                self.violated("dup", session, f"{count} times in State: {text:.80}")
        past = known.chains.get(chain)
        if past is not None and began >= past.ended_at:
            self._check_grown(session, past, messages, life)
        if past is None or began >= past.ended_at:
            known.chains[chain] = _Past(messages, life, ended)

    def _check_grown(self, session: str, past: _Past, messages: list[dict[str, Any]], life: int) -> None:
        there = {(m["sender"], m["timestamp"]) for m in messages}

        def may_go(old: dict[str, Any]) -> bool:
            """An answer without a word, and one of which no word had reached the disk of a killed gateway."""
            if old["sender"] != "agent":
                return False
            return not old["content"].strip() or (life != past.life and old["is_streaming"])

        kept = [old for old in past.messages if (old["sender"], old["timestamp"]) in there or not may_go(old)]
        if len(messages) < len(kept):
            words = f"{len(kept)} messages became {len(messages)}"
            self.violated("regress", session, words)
            return
        for index, old in enumerate(kept):
            new = messages[index]
            may_shrink = life != past.life and old["is_streaming"]
            is_grown = new["content"].startswith(old["content"])
            is_cut = may_shrink and old["content"].startswith(new["content"])
            is_same = (old["sender"], old["timestamp"]) == (new["sender"], new["timestamp"])
            if not (is_same and (is_grown or is_cut)):
                words = f"message {index} was {old['content'][:60]!r}, is {new['content'][:60]!r}"
                self.violated("regress", session, words)

    def reader(self, session: str, name: str) -> LogReader:
        """A client of `view=events` that resumes by cursor, over as many connections as it takes."""
        return LogReader(self, session, name)

    def number_used(self, session: str, seq: int, content: object) -> None:
        """What a reader knows at a number of the log: the same for every reader, for ever."""
        contents = self._sessions[session].contents
        if contents.setdefault(seq, content) != content:
            self.violated("seq_reused", session, f"{seq}: {contents[seq]!r:.120} and {content!r:.120}")

    # -- processes --------------------------------------------------------------------------------------

    def process(self, kind: str, words: str) -> None:
        """An `orphan` or a `zombie` was found."""
        self.violated(kind, "", words)

    # -- the end ----------------------------------------------------------------------------------------

    def close(self, session: str, reader: LogReader, state: Mapping[str, Any]) -> None:
        """Everything has come to rest: the whole log, read from its beginning, and State: the last word."""
        final = _Final(self, session, reader, state)
        sent = self._sessions[session].sent
        for message in sent.values():
            final.check(message)
        final.check_strangers(sent)
        if state["is_processing"]:
            self.violated("stuck", session, "still processing at the end")

    def sessions(self) -> list[str]:
        """Every session that was spoken to."""
        return list(self._sessions)

    @property
    def is_clean(self) -> bool:
        return not any(self.counts.values())

    def words(self) -> str:
        """What broke, for the message of a failed assertion."""
        lines = [f"{v.kind} {v.session}: {v.words}" for kept in self.examples.values() for v in kept]
        return "\n".join(lines) or "nothing broke"


class LogReader:
    """What one reader of a log knows: it folds the texts by itself."""

    def __init__(self, history: History, session: str, name: str) -> None:
        self._history = history
        self._session = session
        self._name = name
        self.cursor = 0
        self.texts: dict[str, str] = {}
        """Every message and thought as it stands."""
        self.users: dict[str, tuple[int, str, str]] = {}
        """Message id → (place, text, turn)."""
        self.turns: dict[str, str] = {}
        """Turn → how it ended; `` while it has not."""
        self.replies: dict[str, list[str]] = defaultdict(list)
        """Turn → the agent's messages in it."""
        self.failures: dict[str, str] = {}
        """Turn → the words that its user sees about it."""
        self.waiting: tuple[str, ...] = ()
        """Messages in the queue."""

    def took(self, event: str, seq: int, data: Mapping[str, Any]) -> None:
        """One frame, in the order of the connection."""
        self._history.seen["frames"] += 1
        if event == "resync":
            self._resync(seq, data)
            return
        if seq <= self.cursor:
            self._history.violated("reorder", self._session, f"{self._name}: {seq} after {self.cursor}")
        self.cursor = seq
        self._fold(event, data)
        self._history.number_used(self._session, seq, self._content(event, data))

    def _fold(self, event: str, data: Mapping[str, Any]) -> None:
        if event in _DELTAS:
            name = data[_DELTAS[event]]
            self.texts[name] = self.texts.get(name, "") + data["text"]
            self._replied(event, name, data)
        elif event in _WHOLES:
            id_key, text_key = _WHOLES[event]
            self.texts[data[id_key]] = data[text_key]
            if data.get("sender") == "user":
                self._user(data["message_id"], data["content"], data["turn_id"])
            elif data.get("sender") == "system" and data["message_id"].endswith((".error", ".cut")):
                self.failures[data["message_id"].rpartition(".")[0]] = data["content"]
            else:
                self._replied(event, data[id_key], data)
        elif event == "turn_started":
            self.turns.setdefault(data["turn_id"], "")
        elif event in _TURN_ENDS:
            self.turns[data["turn_id"]] = _how(event, data)
        elif event == "queue":
            self.waiting = tuple(waiting["message_id"] for waiting in data["waiting"])

    def _user(self, message_id: str, text: str, turn_id: str) -> None:
        if message_id in self.users:
            self._history.violated("dup", self._session, f"{self._name}: {message_id} came twice: {text:.80}")
            return
        if any(known == text for _, known, _ in self.users.values()):
            self._history.violated("dup", self._session, f"{self._name}: two messages: {text:.80}")
        self.users[message_id] = (len(self.users), text, turn_id)

    def _replied(self, event: str, message_id: str, data: Mapping[str, Any]) -> None:
        turn_id = data.get("turn_id")
        if event in ("text_delta", "message") and turn_id and message_id not in self.replies[turn_id]:
            self.replies[turn_id].append(message_id)

    def _content(self, event: str, data: Mapping[str, Any]) -> object:
        """What stands at this number, however it is spelled: a delta, a merged delta or the compact form."""
        if event in _DELTAS:
            return data[_DELTAS[event]], self.texts[data[_DELTAS[event]]]
        if event in _WHOLES:
            name = data[_WHOLES[event][0]]
            return name, self.texts[name]
        if event == "tool_call":
            return data["tool_call_id"]
        return event, repr({key: value for key, value in data.items() if key not in ("seq", "at", "type")})

    def _resync(self, seq: int, data: Mapping[str, Any]) -> None:
        """Starts again from the fold, which must hold what was durable before."""
        self._history.seen["resyncs"] += 1
        before, ended = self.users, {turn for turn, how in self.turns.items() if how}
        said = {turn: self.reply(turn) for turn in ended}
        self.cursor, self.texts, self.users, self.replies = seq, {}, {}, defaultdict(list)
        items = [item for item in data["chat"]["items"] if item["kind"] == "message"]
        for item in sorted(items, key=lambda item: int(item["index"])):
            self.texts[item["id"]] = item["text"]
            if item["sender"] == "user":
                self._user(item["id"], item["text"], item["turn_id"])
            elif item["sender"] == "agent" and item["turn_id"] and not item["is_placeholder"]:
                self.replies[item["turn_id"]].append(item["id"])
        for message_id, (_, text, _) in before.items():
            if message_id not in self.users:
                self._history.violated("lost", self._session, f"{self._name}: gone at a resync: {text:.80}")
        for turn, text in said.items():
            if self.reply(turn) != text:
                self._history.violated("regress", self._session, f"{self._name}: {turn} differs at a resync")

    def reply(self, turn_id: str) -> str:
        """The agent's whole text in a turn."""
        return "".join(self.texts[name] for name in self.replies.get(turn_id, ()))


class _Final:
    """The last word about a session, against what its clients know."""

    def __init__(self, history: History, session: str, reader: LogReader, state: Mapping[str, Any]) -> None:
        self._history = history
        self._session = session
        self._log = reader
        self._state = state["messages"]
        self._by_text = {text: (name, place, turn) for name, (place, text, turn) in reader.users.items()}
        self._shown = [m["content"] for m in self._state if m["sender"] == "user"]

    def check(self, message: Sent) -> None:
        found = self._by_text.get(message.text)
        if found is None or message.text not in self._shown:
            if message.is_acknowledged:
                self._says("lost", f"not in the {'log' if found is None else 'State'}: {message.text:.80}")
            return
        if message.is_refused:
            self._says("half_written", f"refused, and there: {message.text:.80}")
            return
        name, place, turn = found
        for earlier in message.after:
            if earlier in self._by_text and self._by_text[earlier][1] > place:
                self._says("reorder", f"{message.text:.60} stands before {earlier:.60}")
        self._check_reply(message, name, turn)

    def _check_reply(self, message: Sent, name: str, turn: str) -> None:
        how, reply = self._log.turns.get(turn, ""), self._log.reply(turn)
        if not how:
            if name not in self._log.waiting:
                self._says("unanswered", f"its turn never ended: {message.text:.80}")
        elif how == "ok":
            self._history.seen["replies whole"] += 1
            if reply != message.expected:
                kind = "garbled" if reply else "unanswered"
                self._says(kind, f"{reply[:80]!r} for {message.expected[:80]!r}")
        elif not message.expected.startswith(reply):
            self._says("garbled", f"a cut answer {reply[-80:]!r} for {message.expected[:80]!r}")
        elif turn not in self._log.failures:
            self._says("unanswered", f"ended by {how} without a word: {message.text:.80}")
        else:
            self._history.seen[f"replies cut ({how}), with words"] += 1
        if reply and not any(m["sender"] == "agent" and m["content"] in reply for m in self._state):
            self._says("lost", f"State does not show {reply[:80]!r}")

    def check_strangers(self, sent: Mapping[str, Sent]) -> None:
        """Nothing is there that nobody said, and nothing twice."""
        for text in self._by_text.keys() - sent.keys():
            self._says("cross", f"nobody sent {text:.80}")
        if self._shown != [text for _, text, _ in sorted(self._log.users.values())]:
            self._says("reorder", "State and the log differ in the users' messages")

    def _says(self, kind: str, words: str) -> None:
        self._history.violated(kind, self._session, words)


def _how(event: str, data: Mapping[str, Any]) -> str:
    """`ok`, or why a turn did not come to its own end."""
    if event == "turn_interrupted":
        return str(data["reason"])
    if data.get("error"):
        return str(data["error"]["code"])
    return "ok" if data["stop_reason"] == "end_turn" else str(data["stop_reason"])


def table(history: History, rows: Iterable[tuple[str, object]]) -> str:
    """The figures of a run: what was done and seen, then a line for each kind, 0 or not."""
    lines = [f"{name:<44} {value!s:>12}" for name, value in (*rows, *sorted(history.seen.items()))]
    n = max(1, history.seen["messages acknowledged"])
    lines += ["", f"{'violation':<14} {'count':>8}   bounds the rate a message at (3/n)"]
    for kind in KINDS:
        count = history.counts[kind]
        lines.append(f"{kind:<14} {count:>8}   " + (f"{3 / n:.2g}" if not count else "-"))
    return "\n".join(lines)
