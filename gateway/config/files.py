"""The table `[files]`: what people do with the files of a session."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.config.table import Table

Megabytes = Annotated[int, Meta(ge=1)]


class FilesConfig(Table, frozen=True, kw_only=True):
    """Files in, files out, snapshots."""

    download_bytes_per_second: Annotated[int, Meta(ge=0)] = 64 * 1024 * 1024
    """How fast the files of one person leave, all downloads together, so that one cannot use up the network;
    0: no limit."""
    downloads_per_owner: Annotated[int, Meta(ge=1)] = 8
    """At the same time; a browser has six connections to one address."""
    archive_bytes: Annotated[int, Meta(ge=1)] = 2 * 1024 * 1024 * 1024
    """Of the files in a folder that is downloaded as a zip: what a session's disk holds by default."""
    archive_entries: Annotated[int, Meta(ge=1)] = 50_000
    """Files and folders in a zip: its plan is kept in memory while it is sent, about 10 MB."""
    link_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    """How long the address of a preview or a download is good: long enough to begin it."""
    watches_per_owner: Annotated[int, Meta(ge=1)] = 8
    """Open watches on the files of sessions: each looks at up to 10,000 files every other second."""
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
