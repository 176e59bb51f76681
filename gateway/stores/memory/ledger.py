"""The ledger in dictionaries, gone with the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.principal import is_visitor
from gateway.stores.ledger import (
    Chosen,
    Dimension,
    LedgerCall,
    LedgerEntry,
    SumRow,
    UsageSum,
    anonymous,
    day_of,
    names_of,
    sum_of,
    without_session,
)

Place = tuple[int, tuple[str, ...]]
"""A day, and (tenant, owner, session, key, agent, provider, model)."""
_NAMES: Final = ("tenant", "person", "session", "key", "agent", "provider", "model")
_POSITIONS: Final[dict[str, int]] = {name: index for index, name in enumerate(_NAMES)}


class MemoryLedger:
    """`LedgerStore`."""

    def __init__(self) -> None:
        self._calls: dict[str, LedgerCall] = {}
        self._sums: dict[Place, UsageSum] = {}

    def note(self, _call: LedgerCall) -> bool:
        """Nothing outlives the process."""
        return False

    async def put(self, entries: Sequence[LedgerEntry]) -> None:
        for entry in entries:
            if isinstance(entry, LedgerCall) and not self._take(entry):
                continue
            self._add((day_of(entry.at), names_of(entry)), sum_of(entry))

    def _take(self, call: LedgerCall) -> bool:
        """Whether it is settled by this."""
        known = self._calls.get(call.id)
        if known is None or (known.status is None and call.status is not None):
            self._calls[call.id] = call
            return call.status is not None
        return False

    def _add(self, place: Place, amount: UsageSum) -> None:
        self._sums.setdefault(place, UsageSum()).add(amount)

    async def in_flight(self) -> Sequence[LedgerCall]:
        return sorted(
            (call for call in self._calls.values() if call.status is None), key=lambda call: call.at
        )

    async def calls(self, *, since: int = 0, session_key: str | None = None, limit: int) -> list[LedgerCall]:
        found = [
            call
            for call in self._calls.values()
            if call.at >= since and session_key in (None, call.session_key)
        ]
        return sorted(found, key=lambda call: (call.at, call.id), reverse=True)[:limit]

    async def sums(self, by: Sequence[Dimension], chosen: Chosen, *, limit: int) -> list[SumRow]:
        found: dict[tuple[str, ...], UsageSum] = {}
        for (day, names), total in self._sums.items():
            tenant, owner = names[:2]
            is_chosen = chosen.tenant in (None, tenant) and chosen.owner in (None, owner)
            if is_chosen and chosen.from_day <= day <= chosen.to_day:
                key = tuple(str(day) if name == "day" else names[_POSITIONS[name]] for name in by)
                found.setdefault(key, UsageSum()).add(total)
        rows = [SumRow(names=dict(zip(by, key, strict=True)), total=total) for key, total in found.items()]
        return sorted(rows, key=_order)[:limit]

    def forget_session(self, key: str) -> None:
        """A session is erased; what it used is kept without it."""
        self._calls = {
            name: _without(call) if call.session_key == key else call for name, call in self._calls.items()
        }
        self._move(lambda _day, names: names[2] == key, _nameless)

    async def forget_person(self, owner: str) -> bool:
        def moved(names: tuple[str, ...]) -> tuple[str, ...]:
            return (names[0], anonymous(owner), "", "", *names[4:])

        is_there = any(names[1] == owner for _, names in self._sums)
        self._calls = {name: call for name, call in self._calls.items() if call.owner != owner}
        self._move(lambda _day, names: names[1] == owner, moved)
        return is_there

    async def forget(self, *, calls_before_day: int, sums_before_day: int) -> None:
        self._calls = {
            name: call for name, call in self._calls.items() if day_of(call.at) >= calls_before_day
        }
        self._sums = {place: total for place, total in self._sums.items() if place[0] >= sums_before_day}
        self._move(lambda day, _names: day < calls_before_day, _nameless)

    def _move(
        self,
        is_meant: Callable[[int, tuple[str, ...]], bool],
        moved: Callable[[tuple[str, ...]], tuple[str, ...]],
    ) -> None:
        for place in [place for place in self._sums if is_meant(*place)]:
            total = self._sums.pop(place)
            self._add((place[0], moved(place[1])), total)


def _without(call: LedgerCall) -> LedgerCall:
    bare = without_session(call)
    assert isinstance(bare, LedgerCall)  # noqa: S101 - it keeps the type
    return bare


def _nameless(names: tuple[str, ...]) -> tuple[str, ...]:
    owner = anonymous(names[1]) if is_visitor(names[1]) else names[1]
    return (names[0], owner, "", *names[3:])


def _order(row: SumRow) -> tuple[object, ...]:
    return (-int(row.names.get("day", 0)), -row.total.cost, -row.total.tokens, tuple(row.names.values()))
