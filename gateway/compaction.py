"""Old turns made small. Pure: a stretch of a log in, its compact form out.

A run of neighbouring deltas of one message (nothing between them) becomes the message as it stands after the
run, under the run's last seq: it *replaces*, so a cursor inside the run gets the whole again and nothing
twice. Runs of changes to one tool call become one change. Everything else stays as it is, in its place, so
the fold of the compact log is the fold of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from gateway import events as ev


def compacted(events: Sequence[ev.Event]) -> list[ev.Event]:
    """The compact form of a stretch that begins before its turns and ends after them."""
    last_run = _last_runs(events)
    texts: dict[str, str] = {}
    return [_compact(run, texts, last_run) for run in _runs(events)]


def _runs(events: Iterable[ev.Event]) -> Iterable[list[ev.Event]]:
    """Neighbours that belong to one thing; everything else alone."""
    run: list[ev.Event] = []
    for event in events:
        if run and (_thing(event) is None or _thing(event) != _thing(run[0])):
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _thing(event: ev.Event) -> tuple[str, str] | None:
    match event.data:
        case ev.TextDelta(message_id=name):
            return "message", name
        case ev.ThoughtDelta(thought_id=name):
            return "thought", name
        case ev.ToolCall(tool_call_id=name):
            return "tool_call", name
    return None


def _last_runs(events: Sequence[ev.Event]) -> dict[tuple[str, str], int]:
    """The seq at which each message and thought is complete."""
    return {thing: event.seq for event in events if (thing := _thing(event)) is not None}


def _compact(run: list[ev.Event], texts: dict[str, str], last_run: dict[tuple[str, str], int]) -> ev.Event:
    first, last = run[0], run[-1]
    thing = _thing(last)
    if thing is None:
        return last
    is_streaming = last_run[thing] > last.seq
    data: ev.EventData
    match last.data:
        case ev.TextDelta(message_id=name, turn_id=turn_id):
            text = texts[name] = texts.get(name, "") + _joined(run)
            data = ev.MessageAdded(name, "agent", text, turn_id, is_streaming)
        case ev.ThoughtDelta(thought_id=name, turn_id=turn_id):
            text = texts[name] = texts.get(name, "") + _joined(run)
            data = ev.ThoughtAdded(name, turn_id, text, is_streaming)
        case _:
            if len(run) == 1:
                return last
            data = _one_change(run)
    return ev.Event(last.seq, first.at, data)


def _joined(run: list[ev.Event]) -> str:
    return "".join(event.data.text for event in run if isinstance(event.data, ev.TextDelta | ev.ThoughtDelta))


def _one_change(run: list[ev.Event]) -> ev.ToolCall:
    """Several changes of one tool call as one: what came last stands."""
    changes = [event.data for event in run if isinstance(event.data, ev.ToolCall)]
    merged = changes[0]
    for change in changes[1:]:
        given = {name: getattr(change, name) for name in change.__struct_fields__}
        merged = msgspec.structs.replace(merged, **{n: v for n, v in given.items() if v is not UNSET})
    return merged
