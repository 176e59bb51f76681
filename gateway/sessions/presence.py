"""Presence: who follows a session now. In memory only: a log says what happened, not who looked.

Guarantees: several streams of one person are one participant; nothing is said of a session that only its
owner follows; readers are woken at most twice a second, however people come and go; State lists no more than
`LISTED` people, and says how many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import UNSET, UnsetType

from gateway.events.fold import Participant, Present

LISTED: Final = 50
"""So many people are in State and in a frame; they came first."""
SETTLE_SECONDS: Final = 0.5
"""A page that is loaded again leaves and comes back within this, and nobody is told."""

OWNER: Final = Participant("owner", "", "owner")
"""In however many browsers."""

SessionName = tuple[str, str]
"""(owner, session id)."""


class Attendance:
    """Who follows one session."""

    def __init__(self) -> None:
        self.name: SessionName = ("", "")
        self._people: dict[str, list[Participant]] = {}
        """Of each person, one entry a stream; the last one says how they are called."""
        self._present: Present | UnsetType = UNSET
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_empty(self) -> bool:
        """True if nobody follows it any more."""
        return not self._people

    @property
    def present(self) -> Present | UnsetType:
        """What State shows; UNSET: nobody but the owner is there."""
        return self._present

    @property
    def people(self) -> list[Participant]:
        """Each person once."""
        return [entries[-1] for entries in self._people.values()]

    def add(self, who: Participant) -> bool:
        """One stream more; whether what is shown has changed."""
        self._people.setdefault(who.person_id, []).append(who)
        return self._look()

    def remove(self, who: Participant) -> bool:
        """One stream less; whether what is shown has changed."""
        entries = self._people[who.person_id]
        entries.remove(who)
        if not entries:
            del self._people[who.person_id]
        return self._look()

    def _look(self) -> bool:
        people = self.people
        is_shared = any(one.kind != "owner" for one in people)
        now = Present(tuple(people[:LISTED]), len(people)) if is_shared else UNSET
        has_changed = now != self._present
        if has_changed:
            self._present = now
        return has_changed


class Rooms:
    """The rooms of all sessions that somebody follows, by the sessions' internal keys."""

    def __init__(self) -> None:
        self._rooms: dict[str, Attendance] = {}
        self.on_changed: Callable[[SessionName], None] = lambda name: None
        """Wakes the readers of the session of this name."""

    def present(self, key: str) -> Present | UnsetType:
        """Who follows a session; UNSET: nobody but its owner."""
        room = self._rooms.get(key)
        return UNSET if room is None else room.present

    def people(self, key: str) -> list[Participant]:
        """Everybody who follows a session."""
        room = self._rooms.get(key)
        return [] if room is None else room.people

    def enter(self, key: str, name: SessionName, who: Participant) -> None:
        """A stream of somebody begins to follow a session."""
        room = self._rooms.setdefault(key, Attendance())
        room.name = name
        if room.add(who):
            self._tell(room)

    def leave(self, key: str, who: Participant) -> None:
        """It ends."""
        room = self._rooms[key]
        if room.remove(who):
            self._tell(room)
        if room.is_empty:
            del self._rooms[key]

    def _tell(self, room: Attendance) -> None:
        if room.timer is not None:
            return

        def tell() -> None:
            room.timer = None
            self.on_changed(room.name)

        room.timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, tell)


class Presence:
    """That of one stream: in the room of the session that it shows at the moment, or in none."""

    def __init__(self, rooms: Rooms, who: Participant) -> None:
        self._rooms = rooms
        self._who = who
        self._key: str | None = None
        self._has_left = False

    def take(self, key: str | None, name: SessionName) -> None:
        """The stream shows this session from now on; None: there is none."""
        if self._has_left or self._key == key:
            return
        self._give()
        if key is not None:
            self._key = key
            self._rooms.enter(key, name, self._who)

    def leave(self) -> None:
        """The stream has ended, and takes no place any more."""
        self._give()
        self._has_left = True

    def _give(self) -> None:
        if self._key is not None:
            self._rooms.leave(self._key, self._who)
            self._key = None

    @property
    def present(self) -> Present | UnsetType:
        """Who else is there."""
        return UNSET if self._key is None else self._rooms.present(self._key)
