"""The reference of searching, which looks at every text and keeps nothing beside the logs, and of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.texts import Texts
from gateway.stores.labels import LabelChange, Labels
from gateway.stores.search import PER_SESSION, TITLES_MOST, Match, Matches, SearchPlace, match_of, title_match
from gateway.stores.sessions import SessionRecord


class MemorySearch:
    """`SearchStore`."""

    def __init__(
        self,
        records: Callable[[str], Sequence[SessionRecord]],
        events: Callable[[str], Sequence[Event]],
    ) -> None:
        """`records` gives an owner's, last used first; `events` those of a session, by its key."""
        self._records = records
        self._events = events

    async def find(
        self, owner: str, words: tuple[str, ...], *, place: SearchPlace | None, limit: int, seconds: float
    ) -> Matches:
        records = self._records(owner)
        matches: list[Match] = []
        if place is None:
            found = [title_match(words, r.session_id, r.title, r.last_active_at) for r in records]
            matches = [match for match in found if match is not None][:TITLES_MOST]
        else:
            ids = [record.session_id for record in records]
            start = ids.index(place.session_id) + 1 if place.session_id in ids else 0
            records = [r for r in records[start:] if start or r.last_active_at <= place.at]
        for record in records:
            matches += self._in_session(record, words)
            if len(matches) >= limit:
                return Matches(
                    matches=matches, following=SearchPlace(record.last_active_at, record.session_id, 0)
                )
        return Matches(matches=matches)

    def _in_session(self, record: SessionRecord, words: tuple[str, ...]) -> list[Match]:
        texts = Texts(self._events(record.key))
        said = [one for one in texts.messages.values() if one.message_id not in texts.withdrawn]
        found = (match_of(words, record.session_id, record.title, one) for one in said)
        matches = [match for match in found if match is not None]
        return sorted(matches, key=lambda match: -(match.seq or 0))[:PER_SESSION]

    async def index(self) -> bool:
        """There is none."""
        return False


class MemoryLabels:
    """`LabelStore`."""

    def __init__(self, records: Callable[[str], Sequence[SessionRecord]]) -> None:
        self._records = records
        self._labels: dict[str, Labels] = {}
        """By the keys of the sessions."""

    def appended(self, key: str, event: Event) -> None:
        """An event was appended to the log of this session."""
        if event.kind is ev.TurnEnded or event.kind is ev.TurnInterrupted:
            before = self._labels.get(key, Labels())
            self._labels[key] = msgspec.structs.replace(before, said_seq=event.seq)

    def drop(self, key: str) -> None:
        """Forgets a session that was deleted."""
        self._labels.pop(key, None)

    async def of_owner(self, owner: str) -> dict[str, Labels]:
        found = {record.session_id: self._labels.get(record.key) for record in self._records(owner)}
        return {name: labels for name, labels in found.items() if labels is not None}

    async def find(self, owner: str, session_id: str) -> Labels | None:
        return (await self.of_owner(owner)).get(session_id)

    async def change(self, owner: str, session_id: str, change: LabelChange) -> Labels | None:
        key = next((r.key for r in self._records(owner) if r.session_id == session_id), None)
        if key is None:
            return None
        before = self._labels.get(key, Labels())
        after = change.applied(before)
        if after != before:
            self._labels[key] = after
        return after
