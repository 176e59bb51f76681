"""Old turns made small. Pure: a stretch of a log in, its compact form out.

A run of adjacent deltas of one message becomes the message as it is after the run, under the run's last seq.
It *replaces* the message, so a reader with a cursor inside the run gets the whole message and no text twice.
Runs of changes to one tool call become one change. All other events are kept unchanged and in order, so
the fold of the compact log is the fold of the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.events import facts as ev

TEXT_CHARACTERS: Final = 1024 * 1024
"""A text stays as it is where more than this would be written: each of its runs writes all of it so far."""

Thing = tuple[str, str]


def compacted(events: Iterable[ev.Event]) -> list[ev.Event]:
    """The compact form of a stretch that begins before its turns and ends after them."""
    events = list(events)
    survey = Survey()
    for event in events:
        survey.add(event)
    compactor = Compactor(survey)
    out = [done for event in events for done in compactor.add(event)]
    return out + compactor.cut()


class Survey:
    """A first look at a stretch: where each text is complete, how long it is, what would be saved. Of tool
    calls, of which there may be many thousand, nothing is kept.
    """

    def __init__(self) -> None:
        self.last: dict[Thing, int] = {}
        """The seq at which each text is complete."""
        self._lengths: dict[Thing, int] = {}
        self._runs: dict[Thing, list[int]] = {}
        """Of each: how many events it has, in how many runs."""
        self._before: Thing | None = None
        self._changes = 0
        """So many changes came right behind another of the same tool call."""

    def add(self, event: ev.Event) -> None:
        """The next event."""
        thing = _thing(event)
        if isinstance(event.data, ev.ToolCall):
            self._changes += thing == self._before
        elif thing is not None:
            self.last[thing] = event.seq
            self._lengths[thing] = self._lengths.get(thing, 0) + _length(event)
            counts = self._runs.setdefault(thing, [0, 0])
            counts[0] += 1
            counts[1] += thing != self._before
        self._before = thing

    def cut(self) -> None:
        """What comes now is no neighbour of what came before."""
        self._before = None

    def is_small(self, thing: Thing) -> bool:
        """Whether its runs may be made one event each."""
        return thing not in self._runs or self._lengths[thing] * self._runs[thing][1] <= TEXT_CHARACTERS

    @property
    def saved(self) -> int:
        """How many events there are too many."""
        texts = sum(count - runs for thing, (count, runs) in self._runs.items() if self.is_small(thing))
        return self._changes + texts


class Compactor:
    """The second look: events in, compact ones out, with no more in memory than what is not complete."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._texts: dict[Thing, list[str]] = {}
        """The text so far of what comes back after something else."""
        self._run: list[ev.Event] = []

    def add(self, event: ev.Event) -> list[ev.Event]:
        """What is complete with the next event."""
        thing = _thing(event)
        if thing is not None and not self._survey.is_small(thing):
            thing = None
        done = self.cut() if self._run and (thing is None or thing != _thing(self._run[0])) else []
        if thing is None:
            return [*done, event]
        self._run.append(event)
        return done

    def keeps(self, event: ev.Event) -> bool:
        """Whether it comes out as it is, in no run."""
        thing = _thing(event)
        return thing is None or not self._survey.is_small(thing)

    def cut(self) -> list[ev.Event]:
        """Ends the run: what comes next is no neighbour of it."""
        run, self._run = self._run, []
        return [self._compact(run)] if run else []

    def _compact(self, run: list[ev.Event]) -> ev.Event:
        first, last = run[0], run[-1]
        data: ev.EventData
        match last.data:
            case ev.TextDelta(message_id=name, turn_id=turn_id):
                text, is_streaming = self._text(("message", name), run)
                data = ev.MessageAdded(name, "agent", text, turn_id, is_streaming)
            case ev.ThoughtDelta(thought_id=name, turn_id=turn_id):
                text, is_streaming = self._text(("thought", name), run)
                data = ev.ThoughtAdded(name, turn_id, text, is_streaming)
            case _:
                if len(run) == 1:
                    return last
                data = _one_change(run)
        return ev.Event(last.seq, first.at, data)

    def _text(self, thing: Thing, run: list[ev.Event]) -> tuple[str, bool]:
        parts = self._texts.pop(thing, [])
        parts += [e.data.text for e in run if isinstance(e.data, ev.TextDelta | ev.ThoughtDelta)]
        is_streaming = self._survey.last[thing] > run[-1].seq
        text = "".join(parts)
        if is_streaming:
            self._texts[thing] = [text]
        return text, is_streaming


def _thing(event: ev.Event) -> Thing | None:
    match event.data:
        case ev.TextDelta(message_id=name):
            return "message", name
        case ev.ThoughtDelta(thought_id=name):
            return "thought", name
        case ev.ToolCall(tool_call_id=name):
            return "tool_call", name
    return None


def _length(event: ev.Event) -> int:
    data = event.data
    return len(data.text) if isinstance(data, ev.TextDelta | ev.ThoughtDelta) else 0


def _one_change(run: list[ev.Event]) -> ev.ToolCall:
    """Merges several changes of one tool call; the last value of each field wins."""
    changes = [event.data for event in run if isinstance(event.data, ev.ToolCall)]
    merged = changes[0]
    for change in changes[1:]:
        given = {name: getattr(change, name) for name in change.__struct_fields__}
        merged = msgspec.structs.replace(merged, **{n: v for n, v in given.items() if v is not UNSET})
    return merged
