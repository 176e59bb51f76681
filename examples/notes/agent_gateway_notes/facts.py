"""The fact that a note was added, and what a fold keeps of it. The page folds the same in `page.js`."""

from __future__ import annotations

from typing import Any

from gateway.events.facts import ApplicationFact, EventData
from gateway.events.fold import FoldPart


class NoteAdded(ApplicationFact, frozen=True, tag="note_added"):
    """Somebody took a note. Its text is asked for: the log has the number alone."""

    note_id: int


class NotesPart(FoldPart):
    """How many notes a session has."""

    __slots__ = ("count",)
    name = "notes"

    def __init__(self) -> None:
        self.count = 0

    def apply(self, data: EventData, at: int) -> None:
        if isinstance(data, NoteAdded):
            self.count += 1

    def snapshot(self) -> Any:
        return self.count
