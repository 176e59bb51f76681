"""What this gateway may hold of quotas that it shares with others: granted by the store, taken without it.

Whoever needs more than is granted waits until the store was asked (`ready`); from there to the taking nothing
is awaited, so the taking itself stays one plain `def`. What is not needed any more is given back at once.

Guarantees: what is held is never more than what is granted, and what all are granted never more than is
allowed; of those who are ready at once, each finds what it waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.errors import GatewayError
from gateway.stores.held import HeldName, HeldStore, HoldingWanted

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 0.05
"""Who is refused asks once more: another gateway may be about to give back what has just ended there."""
AT_ONCE: Final = 200
"""Names that are asked for in one transaction: each is a lock of the server's."""


class NotGranted(Exception):
    """All of it is held."""

    def __init__(self, name: HeldName) -> None:
        super().__init__(name)
        self.name = name


class _Waiter:
    """Somebody who needs one of each of these."""

    def __init__(self, names: Sequence[HeldName]) -> None:
        self.names = names
        self.lacking: HeldName | None = None
        self.is_promised = False
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Grants:
    """See the module."""

    def __init__(
        self, store: HeldStore, *, allowed: Callable[[HeldName], int], held: Callable[[HeldName], int]
    ) -> None:
        """`allowed`: how much all gateways may hold; 0: as much as they like. `held`: how much this one
        does.
        """
        self._store = store
        self._allowed = allowed
        self._held = held
        self._granted: Counter[HeldName] = Counter()
        self.others: Counter[HeldName] = Counter()
        """What other gateways hold, as far as was heard."""
        self._promised: Counter[HeldName] = Counter()
        """To those who were told that they may go on, and have not yet."""
        self._waiting: list[_Waiter] = []
        self._changed: set[HeldName] = set()
        self._untrue: set[HeldName] = set()
        """Of which the store knows something else than what was granted: it has lost it."""
        self._asking: asyncio.Task[None] | None = None

    def may(self, name: HeldName) -> bool:
        """Whether one more may be taken now."""
        return not self._allowed(name) or self._left(name) > 0

    async def ready(self, names: Iterable[HeldName]) -> None:
        """Returns when one more of each may be taken, for whoever takes it before awaiting anything. Raises
        NotGranted, StoreFull, StoreFailed.
        """
        limited = [name for name in names if self._allowed(name)]
        if all(self._left(name) > 0 for name in limited):
            return
        try:
            await self._wait(limited)
        except NotGranted:
            await asyncio.sleep(AGAIN_SECONDS)
            await self._wait(limited)

    def changed(self, names: Iterable[HeldName]) -> None:
        """Less is held than before, or, of what has no limit, more: the store hears of it."""
        self._changed.update(names)
        self._ask_soon()

    def look(self, names: Iterable[HeldName]) -> None:
        """Some of these may be held by now without having been asked for, because they had no limit."""
        known = {*names, *self._granted}
        if changed := {name for name in known if self._granted[name] != self._held(name)}:
            self.changed(changed)

    async def hear(self) -> None:
        """What the others hold, and whether the store still knows what this one does. Raises StoreFull,
        StoreFailed.
        """
        found = await self._store.standing()
        self.others = Counter({name: granted.others for name, granted in found.items()})
        known = {name: granted.amount for name, granted in found.items()}
        names = {*known, *self._granted}
        self._untrue |= {name for name in names if known.get(name, 0) != self._granted[name]}
        if self._untrue:
            self.changed(self._untrue)

    # -- inner ------------------------------------------------------------------------------------------

    def _left(self, name: HeldName) -> int:
        return self._granted[name] - self._held(name) - self._promised[name]

    async def _wait(self, names: Sequence[HeldName]) -> None:
        waiter = _Waiter(names)
        self._waiting.append(waiter)
        self._ask_soon()
        try:
            await waiter.heard
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
            if waiter.is_promised:
                self._promised -= Counter(names)
            self.changed(names)  # what is granted and not taken is given back
        if waiter.lacking is not None:
            raise NotGranted(waiter.lacking)

    def _ask_soon(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask_all(), name="quotas")

    async def _ask_all(self) -> None:
        """Until the store has heard of everything."""
        while self._waiting or self._changed:
            waiting, names = self._waiting[:AT_ONCE], set(itertools.islice(self._changed, AT_ONCE))
            self._changed -= names
            wanted = self._wanted(names, waiting)
            for name, (amount, _) in wanted.items():
                if amount < self._granted[name]:  # what is given back is not taken meanwhile
                    self._granted[name] = amount
            try:
                granted = await self._store.ask(wanted) if wanted else {}
            except GatewayError as error:
                log.warning("what this gateway holds of quotas is not said for now: %s", error)
                self._refuse(list(self._waiting), error)
                self._changed |= names  # with what is said next
                return
            except BaseException as error:
                self._refuse(list(self._waiting), error)
                raise
            for name, (amount, others) in granted.items():
                self._granted[name], self.others[name] = amount, others
                self._untrue.discard(name)
                if not amount:
                    del self._granted[name]
            self._tell(waiting)

    def _wanted(
        self, changed: Iterable[HeldName], waiting: Iterable[_Waiter]
    ) -> dict[HeldName, HoldingWanted]:
        needed = Counter(name for waiter in waiting for name in waiter.names)
        wanted = {}
        for name in {*changed, *needed}:
            amount = self._held(name) + self._promised[name] + needed[name]
            if needed[name] or amount != self._granted[name] or name in self._untrue:
                wanted[name] = HoldingWanted(amount, self._allowed(name))
        return wanted

    def _tell(self, waiting: Iterable[_Waiter]) -> None:
        """In the order in which they came."""
        for waiter in waiting:
            if waiter.heard.done():
                continue
            waiter.lacking = next((name for name in waiter.names if not self.may(name)), None)
            if waiter.lacking is None:
                waiter.is_promised = True
                self._promised.update(waiter.names)
            self._waiting.remove(waiter)
            waiter.heard.set_result(None)

    def _refuse(self, waiting: Iterable[_Waiter], error: BaseException) -> None:
        for waiter in waiting:
            if not waiter.heard.done():
                self._waiting.remove(waiter)
                waiter.heard.set_exception(error)
