"""The table `[cluster]`: how a gateway holds its place at a store that others can reach, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import Config

_Seconds = Annotated[float, Meta(gt=0, le=3600)]
MIB: Final = 1024 * 1024
FilesPlace = Literal["folder", "store", "s3", "file"]
_ALONE: Final = "single"
_FILES: Final = ("", "store", "none")


class ClusterConfig(Table, frozen=True, kw_only=True):
    """Used with `store = "postgresql://…"` alone. With `url`, several gateways share the store."""

    name: Annotated[str, Meta(max_length=100)] = ""
    """What this gateway is called among those that share the store, the same at each start; "": the name of
    the machine.
    """
    url: str = ""
    """Where the other gateways reach this one, `http://10.0.0.5:8081`; "": it is the only one."""
    listen: str = ""
    """Address and port at which it listens for them, `0.0.0.0:8081`; "": those of `url`."""

    lease_seconds: _Seconds = 3.0
    """A gateway that had no answer from its store for so long does nothing until it has: its workers rest."""
    beat_seconds: _Seconds = 0.5
    """How often it says that it is there; a lease is more than four beats."""
    kill_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    """Workers that have rested for so long are ended."""

    leave_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    """A gateway that is drained passes requests on to the others for at least so long: until every balancer
    that asks /readyz has noticed.
    """

    files: str = ""
    """Where the snapshots of sessions' files are kept, so that a session finds its files at whichever gateway
    it goes on: `store`, `s3://BUCKET/PREFIX`, `file:///FOLDER` (which all gateways have), or `none`: in this
    gateway's data directory; "": `store` with `url`, else `none`.
    """
    files_max_bytes: Annotated[int, Meta(ge=MIB)] = 64 * MIB
    """What the snapshots of one session may take there, compressed; `files.snapshot_mb`, if that is less."""

    @property
    def files_place(self) -> FilesPlace:
        """What `files` names: `folder` is the data directory of each gateway."""
        if self.files in ("store", "none"):
            return "store" if self.files == "store" else "folder"
        if not self.files:
            return "store" if self.url else "folder"
        return "s3" if self.files.startswith("s3://") else "file"

    def contradictions(self, config: Config) -> Iterator[str]:
        reached = urlsplit(self.url)
        is_whole = reached.scheme in ("http", "https") and reached.hostname
        if self.url and (not is_whole or reached.path.strip("/") or reached.query or reached.username):
            yield "url: write http://HOST:PORT, where the other gateways reach this one"
        if self.name == _ALONE:
            yield f"name: {_ALONE} is what a gateway without cluster.url is called; choose another"
        parts = urlsplit(self.files)
        if parts.scheme not in ("", "s3", "file") or (not parts.scheme and self.files not in _FILES):
            yield "files: write store, s3://BUCKET/PREFIX, file:///FOLDER or none"
        elif parts.scheme == "s3" and not parts.netloc:
            yield "files: name a bucket: s3://BUCKET/PREFIX"
        elif parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
            yield "files: name a folder that all gateways have: file:///FOLDER"
        elif self.files not in ("", "none") and not config.is_on_postgresql:
            yield 'files: needs store = "postgresql://…", which says what is newest; leave it out'
        if self.lease_seconds <= 4 * self.beat_seconds:
            yield "lease_seconds: more than four times cluster.beat_seconds"
