"""Credentials, and what was used, as rows of tables, whichever engine has them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.stores.credentials import ApiKey, Share
from gateway.stores.usage import DayUse, UseName

KEY: Final = ApiKey.__struct_fields__
"""Columns of a key."""
_REPLACED: Final = ", ".join(
    f"{name} = excluded.{name}" for name in KEY if name not in ("id", "revoked_at", "last_used_at")
)
# What follows an INSERT is made of literals of this module.
KEPT: Final = (
    f"ON CONFLICT (id) DO UPDATE SET {_REPLACED},"
    " revoked_at = coalesce(api_keys.revoked_at, excluded.revoked_at),"
    " last_used_at = CASE WHEN api_keys.last_used_at > excluded.last_used_at THEN api_keys.last_used_at"
    " ELSE coalesce(excluded.last_used_at, api_keys.last_used_at) END"
)
"""Whoever writes an older copy of a key brings no revoked one back."""
_AMOUNTS: Final = DayUse.__struct_fields__
USE: Final = ("scope", "name", "day", *_AMOUNTS)
"""Columns of what was used."""


def key_row(key: ApiKey) -> tuple[Any, ...]:
    """A key as it is kept."""
    kept = msgspec.structs.asdict(key) | {"scopes": " ".join(key.scopes)}
    return tuple(kept[name] for name in KEY)


def key_of(row: Sequence[Any]) -> ApiKey:
    """A key that was kept."""
    values = dict(zip(KEY, row, strict=True))
    return ApiKey(**values | {"scopes": tuple(values["scopes"].split())})


def share_of(row: Sequence[Any]) -> Share:
    """A link that was kept; the row may have more behind it."""
    values = dict(zip(Share.__struct_fields__, row, strict=False))
    return msgspec.convert(values | {"by_approver": bool(values["by_approver"])}, Share)


def use_rows(day: int, uses: dict[UseName, DayUse]) -> list[tuple[Any, ...]]:
    """What was used on a day as it is kept, always in the same order."""
    named = sorted(uses.items(), key=operator.itemgetter(0))
    return [(*name, day, *msgspec.structs.astuple(use)) for name, use in named]


def uses_of(rows: Iterable[Sequence[Any]]) -> dict[UseName, DayUse]:
    """What was kept of a day."""
    return {(row[0], row[1]): DayUse(**dict(zip(_AMOUNTS, row[3:], strict=True))) for row in rows}
