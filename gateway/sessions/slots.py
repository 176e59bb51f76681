"""How many workers run at once, and the line of the sessions that wait for one.

Guarantees: no more than `limit` sessions have a place, and no more than memory has room for, but always one;
a place that is given back goes to one that waits, the tenants in turn and first come first served within
each; nobody passes the line; idle workers, the longest idle first, are asked to park as long as sessions wait
or memory is short; the line is bounded, and each is told its place in it and what it waits for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, Literal, Protocol

from gateway.errors import WorkerLimit

TELL_SECONDS: Final = 0.25
"""How often those who wait are told that the line has moved."""


LOOK_SECONDS: Final = 0.5
"""How often it is looked whether memory is short."""
PARKED_SHARE: Final = 8
"""While memory is short, one in so many idle workers is asked to park at a time, at least one."""
ShortOf = Literal["places", "memory"]


class Memory(Protocol):
    """Knows how much memory is left."""

    @property
    def is_short(self) -> bool:
        """True if idle workers are to give way."""

    def has_room(self, bytes_wanted: int) -> bool:
        """True if so much can be taken."""

    def parked(self, count: int) -> None:
        """So many workers were asked to park because memory is short."""


class SlotHolder(Protocol):
    """A session that has a place, or waits for one."""

    @property
    def tenant(self) -> str:
        """Whose it is: tenants take turns."""

    @property
    def may_give_way(self) -> bool:
        """True if its worker is idle and can be stopped without loss."""

    @property
    def is_giving_way(self) -> bool:
        """True if its worker is about to be stopped."""

    @property
    def idle_seconds(self) -> float:
        """How long it has not been used."""

    @property
    def start_bytes(self) -> int:
        """The memory that its worker will take."""

    @property
    def taken_bytes(self) -> int:
        """The memory that its worker has taken so far."""

    def ask_to_park(self) -> None:
        """Asks it to stop its worker."""

    def on_place(self) -> None:
        """It waits no longer: the place is its own."""

    def on_moved(self, position: int) -> None:
        """Its place in the line, from 1 on."""


class WorkerSlots:
    """`enter` before a worker is started, `leave` when it is gone or wanted no longer."""

    def __init__(self, limit: int, most_waiting: int, memory: Memory | None = None) -> None:
        self._limit = limit
        self._most_waiting = most_waiting
        self._memory = memory
        self._holding: set[SlotHolder] = set()
        self._young: dict[SlotHolder, int] = {}
        """Of those that have not run a turn in their place, the memory that they will have taken by then."""
        self._short_of: ShortOf = "places"
        self._waiting: dict[SlotHolder, str] = {}
        """Each with its tenant when it came."""
        self._line: OrderedDict[str, deque[SlotHolder]] = OrderedDict()
        """Of each tenant, the one whose turn it is first."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return len(self._holding)

    @property
    def waiting(self) -> int:
        """How many sessions wait."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many places nobody has or waits for; none while memory is short."""
        if self._memory is not None and self._memory.is_short:
            return 0
        return max(0, self._limit - len(self._holding) - len(self._waiting))

    def is_waiting(self, holder: SlotHolder) -> bool:
        """True if it is in the line."""
        return holder in self._waiting

    def resize(self, limit: int, most_waiting: int) -> None:
        """The limits are others from now on; who waits, waits on."""
        self._limit, self._most_waiting = limit, most_waiting
        self._hand_on()
        self.press()

    def enter(self, holder: SlotHolder, *, steps_back: bool = False) -> None:
        """Takes a place, or the last one in the line. `steps_back`: it has just left a place to others, and
        is not refused. Raises WorkerLimit if as many wait as may.
        """
        if not self._waiting and self._has_place(holder):
            self._hold(holder)
            return
        self._note_shortage()
        if len(self._waiting) >= self._most_waiting and not steps_back:
            raise WorkerLimit(retry_after_seconds=1 if self._press(len(self._waiting) + 1) else 10)
        self._waiting[holder] = holder.tenant
        self._line.setdefault(holder.tenant, deque()).append(holder)
        self.press()
        self._tell_soon()

    def leave(self, holder: SlotHolder) -> None:
        """Gives its place back, or its place in the line."""
        if (tenant := self._waiting.pop(holder, None)) is not None:
            self._line[tenant].remove(holder)
            if not self._line[tenant]:
                del self._line[tenant]
            self._tell_soon()
        self._holding.discard(holder)
        self._young.pop(holder, None)
        self._hand_on()

    def settled(self, holder: SlotHolder) -> None:
        """It has run a turn: what its worker takes is measured from now on."""
        if self._young.pop(holder, None) is not None:
            self._hand_on()

    async def watch_memory(self) -> None:
        """Parks idle workers while memory is short, and gives places when there is room again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Looks once whether memory is short."""
        self._hand_on()
        self._note_shortage()
        self.press()
        if self._memory is not None and self._memory.is_short:
            count = sum(holder.is_giving_way or holder.may_give_way for holder in self._holding)
            self._press(-(-count // PARKED_SHARE), for_memory=True)

    def _has_place(self, holder: SlotHolder) -> bool:
        """The first may always start: then the line cannot stand still for ever."""
        if len(self._holding) >= self._limit:
            return False
        if self._memory is None or not self._holding:
            return True
        wanted = sum(self._young.values()) + holder.start_bytes
        if self._memory.has_room(wanted):
            return True
        taken = sum(min(expected, young.taken_bytes) for young, expected in self._young.items())
        return taken > 0 and self._memory.has_room(wanted - taken)

    def _hold(self, holder: SlotHolder) -> None:
        self._holding.add(holder)
        if self._memory is not None:
            self._young[holder] = holder.start_bytes

    def _note_shortage(self) -> None:
        """What those who wait are short of; they hear of it if it is something else than before."""
        before, self._short_of = self._short_of, "memory" if len(self._holding) < self._limit else "places"
        if self._short_of != before:
            self._tell_soon()

    def press(self) -> None:
        """Asks idle workers to park, as many as sessions wait; called whenever one has become idle."""
        if self._waiting:
            excess = max(0, len(self._holding) - self._limit)  # after a reload that lowered the limit
            self._press(len(self._waiting) + excess, for_memory=self._short_of == "memory")

    def _press(self, wanted: int, *, for_memory: bool = False) -> int:
        """How many are about to give way."""
        giving = sum(holder.is_giving_way for holder in self._holding)
        idle = [holder for holder in self._holding if holder.may_give_way]
        idle.sort(key=lambda holder: holder.idle_seconds, reverse=True)
        asked = idle[: max(0, wanted - giving)]
        for holder in asked:
            holder.ask_to_park()
        if for_memory and self._memory is not None:
            self._memory.parked(len(asked))
        return giving + len(asked)

    def _hand_on(self) -> None:
        """Gives free places to those whose turn it is."""
        while self._line:
            tenant, queue = next(iter(self._line.items()))
            if not self._has_place(queue[0]):
                return
            del self._line[tenant]
            holder = queue.popleft()
            if queue:
                self._line[tenant] = queue
            del self._waiting[holder]
            self._hold(holder)
            self._tell_soon()
            holder.on_place()

    # -- places in the line -----------------------------------------------------------------------------

    @property
    def short_of(self) -> ShortOf:
        """What those wait for who are in the line."""
        return self._short_of

    def position(self, holder: SlotHolder) -> int | None:
        """Its place in the line, from 1 on; None if it does not wait."""
        tenant = self._waiting.get(holder)
        if tenant is None:
            return None
        before, ahead = self._line[tenant].index(holder), 0
        is_later = False
        for other, queue in self._line.items():
            is_later = is_later or other == tenant
            ahead += min(len(queue), before if is_later else before + 1)
        return ahead + 1

    def _in_order(self) -> Iterator[SlotHolder]:
        queues = list(self._line.values())
        for number in range(max(map(len, queues), default=0)):
            queues = [queue for queue in queues if len(queue) > number]
            yield from (queue[number] for queue in queues)

    def _tell_soon(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        for position, holder in enumerate(list(self._in_order()), 1):
            holder.on_moved(position)
