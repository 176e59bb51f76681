"""Snapshots of sessions that other gateways find, as one gateway has them."""

from __future__ import annotations

import pathlib

from gateway.files.blobs import FolderBlobs
from gateway.files.contents import Bridge, Contents
from gateway.files.travelling import Notes, TravellingBlobs
from gateway.stores.files import FileStore


def travelling_blobs(
    files: FileStore, contents: Contents, *, ask: Bridge, directory: pathlib.Path
) -> TravellingBlobs:
    """Open; `directory` is the gateway's own data directory."""
    trees = FolderBlobs(directory / "snapshots")
    trees.open()
    blobs = TravellingBlobs(files, contents, ask=ask, trees=trees, notes=Notes(directory))
    blobs.open()
    blobs.check()
    return blobs
