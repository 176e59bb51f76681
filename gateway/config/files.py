"""The table `[files]`: what people do with the files of a session."""

from __future__ import annotations

from gateway.config.table import Table


class FilesConfig(Table, frozen=True, kw_only=True):
    """Files in, files out, snapshots."""
