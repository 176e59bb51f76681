"""The table `[files]`: what people do with the files of a session."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.config.table import Table

Megabytes = Annotated[int, Meta(ge=1)]


class FilesConfig(Table, frozen=True, kw_only=True):
    """Files in, files out, snapshots."""

    snapshots: bool = True
    """Keep the files of a session as they were after each turn that changed them: forks and undo need it."""
    snapshot_mb: Megabytes = 256
    """What the snapshots of one session may take on the disk, compressed: the oldest go first."""
    snapshot_file_mb: Megabytes = 32
    """A larger file is left out of snapshots."""
    snapshot_files: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    """Of a session with more files and folders no snapshot is made: reading their names takes too long."""
    snapshots_kept: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Of each session; the oldest go first."""
    snapshot_leaves_out: tuple[str, ...] = ()
    """Further patterns, as in a .gitignore, for what can be made again and is left out of snapshots."""
