"""The ledger as rows of two tables, whichever engine has them: calls, and sums by day that outlive them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.stores.ledger import (
    Dimension,
    LedgerCall,
    LedgerEntry,
    SumRow,
    UsageSum,
    day_of,
    names_of,
    sum_of,
)

CALL: Final = LedgerCall.__struct_fields__
"""Columns of a call."""
AMOUNTS: Final = UsageSum.__struct_fields__
SUM: Final = (
    *("day", "tenant", "owner", "session_key", "key_id", "agent", "provider", "model"),
    *AMOUNTS,
)
"""Columns of a sum."""
TOKENS: Final = "input + cache_read + cache_write + output + reasoning + told_tokens"
"""All of a sum."""
_COLUMNS: Final[dict[str, str]] = {
    **{name: name for name in ("day", "tenant", "agent", "provider", "model")},
    **{"person": "owner", "session": "session_key", "key": "key_id"},
}

# What follows an INSERT is made of literals of this module.
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in CALL if name not in ("id", "at"))
SETTLED: Final = f"ON CONFLICT (id) DO UPDATE SET {_SET} WHERE ledger_calls.status IS NULL"
_GROWN: Final = ", ".join(f"{name} = ledger_sums.{name} + excluded.{name}" for name in AMOUNTS)
ADDED: Final = f"ON CONFLICT (day, owner, session_key, key_id, agent, provider, model) DO UPDATE SET {_GROWN}"


def columns_of(by: Sequence[Dimension]) -> list[str]:
    """By which sums are told apart."""
    return [_COLUMNS[name] for name in by]


def grouped(by: Sequence[Dimension]) -> str:
    """The end of a query of sums, but for its limit."""
    columns = columns_of(by)
    return (
        (f" GROUP BY {', '.join(columns)}" if columns else " HAVING count(*) > 0")
        + f" ORDER BY {'day DESC,' if 'day' in by else ''} sum(cost) DESC, sum({TOKENS}) DESC"
        + "".join(f", {column}" for column in columns)
    )


def call_row(call: LedgerCall) -> tuple[Any, ...]:
    """A call as it is kept."""
    return tuple(getattr(call, name) for name in CALL)


def call_of(row: Sequence[Any]) -> LedgerCall:
    """A call that was kept."""
    values = dict(zip(CALL, row, strict=True))
    return LedgerCall(**values | {"is_estimated": bool(values["is_estimated"])})


def sum_row(entry: LedgerEntry) -> tuple[Any, ...]:
    """What one entry adds to the sums."""
    amount = sum_of(entry)
    return (day_of(entry.at), *names_of(entry), *(getattr(amount, name) for name in AMOUNTS))


def sum_in(by: Sequence[Dimension], row: Sequence[Any]) -> SumRow:
    """A sum that was asked for, told apart by these."""
    names: dict[str, str] = {name: str(value) for name, value in zip(by, row, strict=False)}
    return SumRow(names=names, total=UsageSum(**dict(zip(AMOUNTS, row[len(by) :], strict=True))))
