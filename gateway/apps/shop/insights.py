"""What can be told of conversations: of one, to its owner; of a tenant's, to operators, without telling of
anybody.

A tenant's figures are over conversations that agreed, name none, and hold no cell under five: a figure that
fewer than five conversations stand behind is withheld, and so is one whose rest would be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from gateway.apps.shop.store import USES, Cart, ConversationTally, ShopSession

SMALLEST_CELL: Final = 5
TOP: Final = 5
_LETTERS: Final = re.compile(r"[^\W\d_]+(?:['’״\"][^\W\d_]+)*")
_MIN_LETTERS: Final = 4
_STOP_WORDS: Final = frozenset(
    "about also because been could does from have here just like looking more most need only please really "
    "show some tell than that their them then there these they this those want what when where which will "
    "with would your "
    "אבל אולי אותה אותו אותי אותם אחרי אלה אנחנו אפשר בבקשה בגלל האם היום היתה הייתי הזאת יותר כאשר "
    "להיות לפני מאוד מתי עכשיו צריך צריכה רוצה שלום שלהם שלכם שלנו תודה".split()
)


class WordCount(Struct, frozen=True):
    """A word and how often it was used."""

    word: str
    count: int


class SessionInsights(Struct, frozen=True, kw_only=True):
    """Of one conversation, for its owner."""

    duration: str
    duration_seconds: int
    counts: dict[str, int]
    top_topics: list[WordCount]
    cart_lines: int
    cart_items: int
    cart_total: float


class TenantInsights(Struct, frozen=True, kw_only=True):
    """Of a tenant's conversations that agreed. None: withheld, because too few stand behind it."""

    sessions: int | None
    mean_duration_seconds: int | None = None
    mean_cart_items: float | None = None
    mean_cart_total: float | None = None
    sessions_with: dict[str, int | None] = {}
    top_topics: list[WordCount] = []
    """The count is of conversations, not of uses."""


def words_of(text: str) -> list[str]:
    """The words that say what a text is about: lower case, over three letters, no stop words."""
    words = (match[0].casefold() for match in _LETTERS.finditer(text))
    return [word for word in words if len(word) >= _MIN_LETTERS and word not in _STOP_WORDS]


def top(counts: Mapping[str, int], *, limit: int = TOP) -> list[WordCount]:
    """The most frequent, ties in the order of the alphabet."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [WordCount(word, count) for word, count in ordered[:limit]]


def duration(seconds: int) -> str:
    """`1h 15m`, `15m`."""
    hours, minutes = divmod(max(0, seconds) // 60, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m"


def of_session(session: ShopSession, cart: Cart) -> SessionInsights:
    """The figures that the owner of a conversation may see."""
    seconds = (session.last_used_at - session.created_at) // 1000
    return SessionInsights(
        duration=duration(seconds),
        duration_seconds=seconds,
        counts=session.counts,
        top_topics=top(session.words),
        cart_lines=len(cart.lines),
        cart_items=cart.quantity,
        cart_total=cart.total / 100,
    )


def of_tenant(tallies: Sequence[ConversationTally]) -> TenantInsights:
    """The figures that an operator may see."""
    count = len(tallies)
    if count < SMALLEST_CELL:
        return TenantInsights(sessions=None)
    words: Counter[str] = Counter()
    for tally in tallies:
        words.update(tally.words.keys())
    return TenantInsights(
        sessions=count,
        mean_duration_seconds=round(sum(tally.seconds for tally in tallies) / count),
        mean_cart_items=round(sum(tally.quantity for tally in tallies) / count, 2),
        mean_cart_total=round(sum(tally.total for tally in tallies) / count / 100, 2),
        sessions_with={
            use: _cell(sum(1 for tally in tallies if tally.counts.get(use)), count) for use in USES
        },
        top_topics=top({word: cell for word, n in words.items() if (cell := _cell(n, count))}),
    )


def _cell(part: int, whole: int) -> int | None:
    """A count, if it is of at least five and leaves none or at least five; else None."""
    is_small = 0 < part < SMALLEST_CELL or 0 < whole - part < SMALLEST_CELL
    return None if is_small else part
