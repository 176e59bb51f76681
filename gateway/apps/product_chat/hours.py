"""When the people of a shop are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from gateway.apps.product_chat.settings import ProductsConfig

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
AWAY_WORDS: Final = "Nobody is here right now. Your message is kept, and answered when we are back."
_SPAN: Final = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


class OpeningHours:
    """The hours of now: a reload changes them."""

    def __init__(self, config: Callable[[], ProductsConfig], *, wall_ms: Callable[[], int]) -> None:
        self._config = config
        self._wall_ms = wall_ms

    @property
    def is_open(self) -> bool:
        """True if people of the shop are there."""
        config = self._config()
        return is_open(config.hours, config.time_zone, at_ms=self._wall_ms())

    @property
    def away(self) -> str:
        """What a visitor reads while nobody is there."""
        return self._config().away or AWAY_WORDS


def is_open(hours: Mapping[str, str], time_zone: str, *, at_ms: int) -> bool:
    """True if somebody is there at this time; without any hours somebody always is."""
    if not hours:
        return True
    now = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(time_zone))
    minute = 60 * now.hour + now.minute
    return any(first <= minute < last for first, last in _spans(hours.get(DAYS[now.weekday()], "")))


def hours_mistakes(hours: Mapping[str, str], time_zone: str) -> Iterator[str]:
    """What is wrong with hours, in words."""
    try:
        ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):
        yield (
            f"products.time_zone: {time_zone!r} is not known here; write one such as Asia/Jerusalem (the "
            "system needs its time zones: tzdata)"
        )
    for day, text in hours.items():
        if day not in DAYS:
            yield f"products.hours.{day}: days are {', '.join(DAYS)}"
        try:
            spans = list(_spans(text))
        except ValueError:
            spans = [(1, 0)]
        if any(not 0 <= first < last <= DAY_MINUTES for first, last in spans):
            yield f"products.hours.{day}: write 09:00-17:00, or 09:00-13:00, 14:00-24:00; empty: closed"


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """The spans of a day in minutes. Raises ValueError."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _SPAN.fullmatch(part)
        if found is None or int(found[2]) > 59 or int(found[4]) > 59:
            raise ValueError(part)
        yield 60 * int(found[1]) + int(found[2]), 60 * int(found[3]) + int(found[4])
