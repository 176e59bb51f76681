"""The table `[files]`: what people do with the files of a session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import Config

MIB: Final = 1024 * 1024
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
    """Files and folders in a zip, with names of 160 characters on average: its plan is kept in memory while
    it is sent, about 10 MB."""
    link_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    """How long the address of a preview or a download is good: long enough to begin it."""
    watches_per_owner: Annotated[int, Meta(ge=1)] = 8
    """Open watches on the files of sessions: each looks at up to 10,000 files every other second."""
    # Files in.
    file_bytes: int = 100 * MIB
    """The size of one uploaded file."""
    request_bytes: int = 200 * MIB
    """The size of one request that uploads several files."""
    files_per_request: int = 20
    """How many files one request may upload."""
    attachments_per_message: int = 20
    types: tuple[str, ...] = ()
    """Media types that may be uploaded, such as `image/*` or `application/pdf`; empty: all of them."""
    upload_silence_seconds: float = 30
    """An upload of which nothing arrives for so long is cut. It may take any time in total."""
    partial_hours: float = 24
    """How long the beginning of an upload that was cut is kept, so that it can go on."""
    image_bytes: int = 3584 * 1024
    """An attached image that is larger is named to the agent, not shown: models refuse images above 5 MB in
    Base64."""
    text_bytes: int = 128 * 1024
    """An attached text that is longer is named to the agent, not shown."""
    prompt_bytes: int = 5 * MIB
    """What one prompt shows of attached files altogether; further ones are named."""

    # Snapshots.
    snapshots: bool = True
    """Keep the files of a session as they were after each turn that changed them: forks and undo need it."""
    snapshot_mb: Megabytes = 256
    """What the snapshots of one session may take on the disk, compressed: the oldest go first."""
    snapshot_file_mb: Megabytes = 32
    """A larger file is left out of snapshots."""
    snapshot_files: Annotated[int, Meta(ge=1, le=1_000_000)] = 50_000
    """Of a session with more files and folders no snapshot is made: reading their names takes too long. Their
    names may have 160 bytes on average if there are so many, and more if there are fewer."""
    snapshots_kept: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Of each session; the oldest go first."""
    snapshot_leaves_out: tuple[str, ...] = ()
    """Further patterns, as in a .gitignore, for what can be made again and is left out of snapshots."""

    def contradictions(self, config: Config) -> Iterator[str]:
        """Limits that no upload could keep."""
        for name in ("file_bytes", "request_bytes", "files_per_request", "upload_silence_seconds"):
            if getattr(self, name) <= 0:
                yield f"{name}: must be more than 0"
        if self.prompt_bytes > 6 * MIB:
            yield "prompt_bytes: at most 6 MiB fit into one prompt"
        for pattern in self.types:
            if pattern.count("/") != 1:
                yield f"types: {pattern!r} is not a media type such as image/png or image/*"
