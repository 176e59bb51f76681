"""`[notes]` in the gateway's configuration."""

from __future__ import annotations

from gateway.extension import Table


class NotesConfig(Table, frozen=True, kw_only=True):
    """How many notes there may be."""

    most: int = 100
    """Notes of one conversation."""
