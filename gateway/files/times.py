"""When a file was changed, as far as it can be kept and told. Pure.

An agent may set any time, and some file systems (tmpfs, Btrfs) keep times that no calendar has. Such a time
counts as the nearest one that can be told.
"""

from __future__ import annotations

from typing import Final

_FIRST_NS: Final = -(2**63)
_LAST_NS: Final = 2**64 - 1
"""What MessagePack has integers for."""
_LAST_SECOND: Final = 253_402_300_799
"""The last one of the year 9999, where calendars end."""


def kept_ns(nanoseconds: int) -> int:
    """As a manifest of files keeps it."""
    return min(max(nanoseconds, _FIRST_NS), _LAST_NS)


def told_seconds(nanoseconds: int) -> int:
    """Since 1970 UTC, as a date can be made of it."""
    return min(max(nanoseconds // 1_000_000_000, 0), _LAST_SECOND)


def told_milliseconds(nanoseconds: int) -> int:
    """The same in milliseconds."""
    return min(max(nanoseconds // 1_000_000, 0), _LAST_SECOND * 1000)
