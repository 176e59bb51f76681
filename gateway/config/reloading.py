"""What a running gateway takes over of a changed configuration, and what waits for a restart: each setting
says so in its table (`AtStart`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.config import applications
from gateway.config.file import flat, is_table, plain, types_of
from gateway.config.tables import Config, Table

T = TypeVar("T", bound=Table)


class Changes(NamedTuple):
    """The names of the settings that differ, and the configuration that a reload makes of two."""

    applied: list[str]
    waiting: list[str]
    """For a restart."""
    config: Config


def compared(old: Config, new: Config) -> Changes:
    """What becomes of a running gateway's configuration when its file says `new`."""
    before, after = dict(flat("", old)), dict(flat("", new))
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    applied = [name for name in changed if _is_reloaded(Config, name.split("."))]
    waiting = [name for name in changed if name not in applied]
    kept = msgspec.structs.replace(_kept(old, new), tables=_of_applications(old, new))
    return Changes(applied, waiting, kept)


def _is_reloaded(table: type[Table], path: list[str]) -> bool:
    kind = types_of(table)[path[0]]
    if _waits(kind):
        return False
    inner = plain(kind)
    return not is_table(inner) or _is_reloaded(inner, path[1:])


def _kept(old: T, new: T) -> T:
    """The new table, with the old values of what waits."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(new)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if _waits(field.type):
            values[field.name] = before
        elif isinstance(before, Table) and isinstance(after, Table):
            values[field.name] = _kept(before, after)
    return msgspec.structs.replace(new, **values)


def _of_applications(old: Config, new: Config) -> dict[str, Table]:
    """The same for the tables that applications describe."""
    tables = dict(new.tables)
    for name, kind in applications.tables().items():
        kept = _kept(old.of(kind), new.of(kind))
        if name not in old.tables and kept == kind():
            tables.pop(name, None)
        elif kept != new.of(kind):
            tables[name] = kept
    return tables


def _waits(kind: Any) -> bool:
    """True if a setting's type says that it is read at the start alone."""
    metas = getattr(kind, "__metadata__", ())
    return any((meta.extra or {}).get("is_reloaded") is False for meta in metas)
