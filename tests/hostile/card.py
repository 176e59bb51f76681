"""How many attacks a run of the tests has tried, and how many of them were held: the card that `conftest.py`
prints at the end, and docs/isolation.md quotes.
"""

from __future__ import annotations

from typing import Final

CARD: Final[dict[str, tuple[int, int]]] = {}
"""What was attacked → attacks tried, held."""


def note(what: str, *, tried: int, held: int) -> None:
    """Adds a row's figures."""
    before = CARD.get(what, (0, 0))
    CARD[what] = (before[0] + tried, before[1] + held)


def lines() -> list[str]:
    """The card."""
    if not CARD:
        return []
    total = tuple(map(sum, zip(*CARD.values(), strict=True)))
    rows = [*sorted(CARD.items()), ("together", total)]
    return [
        f"{'attacks by agents':58} {'tried':>7} {'held':>7}",
        *(f"{n:58} {t:7} {h:7}" for n, (t, h) in rows),
    ]
