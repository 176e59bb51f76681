"""Where the snapshots of this gateway's sessions are kept, by its configuration."""

from __future__ import annotations

import importlib
import pathlib
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from gateway.config.cluster import MIB
from gateway.config.file import ConfigError
from gateway.config.files import FilesConfig
from gateway.config.tables import Config
from gateway.files.blobs import Blobs, FolderBlobs
from gateway.files.contents import Bridge, Contents, FolderContents, StoreContents
from gateway.files.travelling import Notes, TravellingBlobs
from gateway.stores.files import FileStore

INSTALL_S3: Final = "pip install 'agent-gateway[s3]'"


def blobs_of(config: Config, *, store: FileStore | None, folder: FolderBlobs) -> Blobs:
    """`folder` is that in the data directory. Raises ConfigError."""
    if config.cluster.files_place == "folder" or store is None:
        return folder
    ask = Bridge()
    contents = contents_of(config, store=store, ask=ask)
    return TravellingBlobs(store, contents, ask=ask, trees=folder, notes=Notes(config.data_path))


def contents_of(config: Config, *, store: FileStore, ask: Bridge) -> Contents:
    """Where contents are kept that all gateways reach. Raises ConfigError."""
    if config.cluster.files_place == "store":
        return StoreContents(store, ask)
    return outside(config.cluster.files)


def outside(url: str) -> Contents:
    """In a folder, or in a bucket, whose library is imported only now. Raises ConfigError if that is
    missing.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderContents(pathlib.Path(unquote(parts.path)))
    try:
        found: Contents = importlib.import_module("gateway.files.contents_s3").S3Contents(url)
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise ConfigError([f"cluster.files: for a bucket: {INSTALL_S3}"]) from None
    return found


def within_place(files: FilesConfig, config: Config) -> FilesConfig:
    """The bounds of snapshots; those of a place that gateways share may be narrower."""
    if config.cluster.files_place == "folder":
        return files
    most = min(files.snapshot_mb, config.cluster.files_max_bytes // MIB)
    return msgspec.structs.replace(files, snapshot_mb=most)
