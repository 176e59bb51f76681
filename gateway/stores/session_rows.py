"""Session records as rows of a table, whichever engine has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.stores.sessions import SessionRecord

CHANGED: Final = (
    *("last_active_at", "title", "agent_session_id", "uid", "message_count", "retention_days"),
    *("expires_at", "stored_bytes"),
)
"""Columns that may change."""
COLUMNS: Final = ("key", "owner", "session_id", "agent", "created_at", *CHANGED)
_PARENT: Final = (
    "(SELECT p.session_id FROM forks JOIN sessions AS p ON p.key = forks.parent_key"
    " AND p.owner = sessions.owner WHERE forks.session = sessions.id)"
)
_UPLOADED: Final = "coalesce((SELECT bytes FROM uploads WHERE uploads.session = sessions.id), 0)"
_ALL: Final = f"{', '.join(COLUMNS)}, {_PARENT}, {_UPLOADED}"
SELECT: Final = f"SELECT {_ALL} FROM sessions "  # noqa: S608 - literals
"""What `record_of` reads."""
SELECT_SHARED: Final = f"SELECT {_ALL}, has_open_turn FROM sessions "  # noqa: S608 - literals
"""The same of a store that gateways share."""
_NAMES: Final = (*COLUMNS, "parent", "uploaded_bytes", "open_turn")


def record_row(record: SessionRecord) -> tuple[Any, ...]:
    """A record as it is kept."""
    return tuple(getattr(record, name) for name in COLUMNS)


def changed_in(record: SessionRecord) -> tuple[Any, ...]:
    """What of a record may change, as it is kept."""
    return tuple(getattr(record, name) for name in CHANGED)


def record_of(row: Sequence[Any]) -> SessionRecord:
    """A record that was kept."""
    return SessionRecord(**dict(zip(_NAMES, row, strict=False)))
