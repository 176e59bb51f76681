"""The checker is checked first: a whole history is clean, and every planted fault is caught, as its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.history import History, LogReader, canary

Frame = tuple[str, int, dict[str, Any]]
Plant = Callable[["Tape"], None]


class Tape:
    """What one session's clients see of a good gateway: frames of its log, and the State at their end."""

    def __init__(self, history: History, session: str, turns: int = 3) -> None:
        self.history = history
        self.session = session
        self.frames: list[Frame] = []
        self.messages: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.seq = 0
        for number in range(turns):
            self.turn(f"t{number}")

    def turn(self, name: str) -> None:
        """A message, its acknowledgement, and its echo in three pieces."""
        words = f"{canary()} and more"
        text = f"/echo {words}"
        self.history.sent(self.session, text, expected=words)
        self.history.acknowledged(self.session, text)
        self.texts.append(text)
        message = {"message_id": f"u{name}", "sender": "user", "content": text, "turn_id": name}
        self.put("message", **message)
        self.put("turn_started", turn_id=name, message_id=f"u{name}", reply_id=f"r{name}")
        for piece in (words[:20], words[20:30], words[30:]):
            self.put("text_delta", message_id=f"m{name}", turn_id=name, text=piece)
        self.put("turn_ended", turn_id=name, stop_reason="end_turn", error=None)
        self.show("user", text)
        self.show("agent", words)

    def put(self, event: str, **data: Any) -> None:
        self.seq += 1
        self.frames.append((event, self.seq, data))

    def show(self, sender: str, content: str) -> None:
        at = f"2026-01-01T00:00:{len(self.messages):02}.000Z"
        self.messages.append({"sender": sender, "content": content, "timestamp": at, "is_streaming": False})

    @property
    def state(self) -> dict[str, Any]:
        return {"messages": self.messages, "is_processing": False, "seq": self.seq}

    def index(self, event: str, number: int = 0) -> int:
        """The place of the number-th frame of this type."""
        return [place for place, frame in enumerate(self.frames) if frame[0] == event][number]

    def read(self, frames: list[Frame] | None = None, *, name: str = "reader") -> LogReader:
        """A reader that takes the frames."""
        reader = self.history.reader(self.session, name)
        for event, seq, data in self.frames if frames is None else frames:
            reader.took(event, seq, data)
        return reader

    def saw(self, messages: list[dict[str, Any]], *, at: float, life: int = 1, chain: str = "polls") -> None:
        """A State was read."""
        state = {"messages": messages, "is_processing": False}
        self.history.saw_state(self.session, state, chain=chain, life=life, began=at, ended=at + 0.5)

    def close(self) -> None:
        self.history.close(self.session, self.read(name="final"), self.state)


def loses_a_message(tape: Tape) -> None:
    del tape.frames[tape.index("message", 1)]
    del tape.messages[2]


def loses_the_last_turn(tape: Tape) -> None:
    del tape.frames[tape.index("message", 2) :], tape.messages[4:]


def forgets_it_in_state_only(tape: Tape) -> None:
    del tape.messages[2:4]


def loses_the_reply(tape: Tape) -> None:
    for _ in range(3):
        del tape.frames[tape.index("text_delta", 0)]
    tape.messages[1]["content"] = ""


def runs_a_message_twice(tape: Tape) -> None:
    text = tape.texts[0]
    tape.put("message", message_id="again", sender="user", content=text, turn_id="t9")
    tape.put("turn_ended", turn_id="t9", stop_reason="end_turn", error=None)
    tape.show("user", text)


def repeats_a_frame(tape: Tape) -> None:
    place = tape.index("text_delta", 1)
    tape.frames.insert(place, tape.frames[place])


def repeats_text_under_a_new_number(tape: Tape) -> None:
    place = tape.index("turn_ended", 2)
    tape.frames.insert(place, ("text_delta", tape.seq, tape.frames[place - 1][2]))
    tape.frames[-1] = ("turn_ended", tape.seq + 1, tape.frames[-1][2])


def swaps_two_messages(tape: Tape) -> None:
    first, second = tape.index("message", 0), tape.index("message", 1)
    for one, other in ((first, second),):
        left, right = tape.frames[one], tape.frames[other]
        tape.frames[one], tape.frames[other] = (left[0], left[1], right[2]), (right[0], right[1], left[2])
    tape.messages[0], tape.messages[2] = tape.messages[2], tape.messages[0]


def goes_back_in_seq(tape: Tape) -> None:
    place = tape.index("text_delta", 2)
    tape.frames[place], tape.frames[place + 1] = tape.frames[place + 1], tape.frames[place]


def never_ends_a_turn(tape: Tape) -> None:
    del tape.frames[tape.index("turn_ended", 2)]


def interrupts_without_a_word(tape: Tape) -> None:
    place = tape.index("turn_ended", 2)
    seq = tape.frames[place][1]
    data = {"turn_id": "t2", "reason": "gateway_restarted", "message": "cut"}
    tape.frames[place] = ("turn_interrupted", seq, data)


def leaves_a_hole_in_the_text(tape: Tape) -> None:
    del tape.frames[tape.index("text_delta", 1)]


def garbles_a_cut_answer(tape: Tape) -> None:
    interrupts_without_a_word(tape)
    tape.put("message", message_id="t2.error", sender="system", content="cut", turn_id=None)
    tape.show("system", "cut")
    leaves = tape.index("text_delta", 6)
    tape.frames[leaves][2]["text"] = "something else"


def hangs(tape: Tape) -> None:
    tape.history.hung(tape.session, "no answer in 30 s")


def shrinks_between_reads(tape: Tape) -> None:
    tape.saw(tape.messages, at=1)
    tape.saw(tape.messages[:-1], at=2)


def shrinks_over_a_restart(tape: Tape) -> None:
    tape.saw(tape.messages, at=1)
    tape.saw([*tape.messages[:-1], tape.messages[-1] | {"content": "can"}], at=2, life=2)


def changes_a_text(tape: Tape) -> None:
    tape.saw(tape.messages, at=1)
    tape.saw([tape.messages[0] | {"content": "other"}, *tape.messages[1:]], at=2)


def shrinks_on_a_connection(tape: Tape) -> None:
    tape.saw(tape.messages, at=1, chain="stream 1")
    tape.saw(tape.messages[:2], at=2, chain="stream 1")


def uses_a_number_twice(tape: Tape) -> None:
    tape.read()
    place = tape.index("text_delta", 8)
    event, seq, data = tape.frames[place]
    other = [*tape.frames[:place], (event, seq, data | {"text": "other"})]
    tape.read(other, name="after the crash")


def forgets_at_a_resync(tape: Tape) -> None:
    reader = tape.read()
    reader.took("resync", tape.seq, {"chat": {"items": []}})


def crosses_in_a_stream(tape: Tape) -> None:
    other = tape.history.seen["messages sent"]
    stranger = Tape(tape.history, f"stranger {other}")
    tape.history.saw_bytes(tape.session, b"data: " + stranger.texts[0].encode())


def crosses_over_two_chunks(tape: Tape) -> None:
    stranger = Tape(tape.history, "stranger")
    data = b"data: " + stranger.texts[0].encode()
    rest = tape.history.saw_bytes(tape.session, data[:25])
    tape.history.saw_bytes(tape.session, data[25:], before=rest)


def shows_a_message_of_nobody(tape: Tape) -> None:
    tape.put("message", message_id="ux", sender="user", content="who said this?", turn_id="tx")
    tape.show("user", "who said this?")


def keeps_what_it_refused(tape: Tape) -> None:
    tape.history.refused(tape.session, tape.texts[-1])


def leaves_an_orphan(tape: Tape) -> None:
    tape.history.process("orphan", "worker 17")


def leaves_a_zombie(tape: Tape) -> None:
    tape.history.process("zombie", "worker 18")


FAULTS: list[tuple[Plant, str]] = [
    (loses_a_message, "lost"),
    (loses_the_last_turn, "lost"),
    (forgets_it_in_state_only, "lost"),
    (loses_the_reply, "unanswered"),
    (runs_a_message_twice, "dup"),
    (repeats_a_frame, "reorder"),
    (repeats_text_under_a_new_number, "garbled"),
    (swaps_two_messages, "reorder"),
    (goes_back_in_seq, "reorder"),
    (never_ends_a_turn, "unanswered"),
    (interrupts_without_a_word, "unanswered"),
    (leaves_a_hole_in_the_text, "garbled"),
    (garbles_a_cut_answer, "garbled"),
    (hangs, "stuck"),
    (shrinks_between_reads, "regress"),
    (shrinks_over_a_restart, "regress"),
    (changes_a_text, "regress"),
    (shrinks_on_a_connection, "regress"),
    (uses_a_number_twice, "seq_reused"),
    (forgets_at_a_resync, "lost"),
    (crosses_in_a_stream, "cross"),
    (crosses_over_two_chunks, "cross"),
    (shows_a_message_of_nobody, "cross"),
    (keeps_what_it_refused, "half_written"),
    (leaves_an_orphan, "orphan"),
    (leaves_a_zombie, "zombie"),
]


@pytest.mark.parametrize(("plant", "kind"), FAULTS, ids=[plant.__name__ for plant, _ in FAULTS])
def test_a_planted_fault_is_caught(plant: Plant, kind: str) -> None:
    history = History()
    tape = Tape(history, "mine")
    plant(tape)
    tape.close()
    assert history.counts[kind] >= 1, history.words()


def test_a_good_history_is_clean() -> None:
    history = History()
    tapes = [Tape(history, f"s{number}") for number in range(3)]
    for tape in tapes:
        tape.saw(tape.messages[:2], at=1)
        tape.saw(tape.messages, at=2)
        for _, _, data in tape.frames:
            history.saw_bytes(tape.session, repr(data).encode())
        tape.close()
    assert history.is_clean, history.words()


def test_text_that_was_not_on_the_disk_may_go_with_its_gateway() -> None:
    history = History()
    tape = Tape(history, "mine")
    growing = [tape.messages[0], tape.messages[1] | {"is_streaming": True}]
    cut = [tape.messages[0], tape.messages[1] | {"content": tape.messages[1]["content"][:5]}]
    tape.saw(growing, at=1, life=1)
    tape.saw(cut, at=2, life=2)
    assert history.is_clean, history.words()


def test_reads_at_the_same_time_are_not_compared() -> None:
    history = History()
    tape = Tape(history, "mine")
    tape.saw(tape.messages, at=1)
    tape.saw(tape.messages[:2], at=1.2)
    assert history.is_clean, history.words()


def test_merged_and_compact_frames_are_the_same_content() -> None:
    history = History()
    tape = Tape(history, "mine", turns=1)
    tape.read()
    first, last = tape.index("text_delta", 0), tape.index("text_delta", 2)
    whole = tape.texts[0].removeprefix("/echo ")
    data = {"message_id": "mt0", "turn_id": "t0", "text": whole}
    seq = tape.frames[last][1]
    tape.read([*tape.frames[:first], ("text_delta", seq, data), *tape.frames[last + 1 :]], name="slow")
    data = {"message_id": "mt0", "turn_id": "t0", "sender": "agent", "content": whole}
    tape.read([*tape.frames[:first], ("message", seq, data), *tape.frames[last + 1 :]], name="late")
    tape.close()
    assert history.is_clean, history.words()
