"""The snapshots of sessions' files in a store that several gateways share, and who used the files last.

By the key of a session: what is stored of one says nothing of another. All raise StoreFull, StoreFailed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol


class ContentPart(NamedTuple):
    """A piece of a packed content."""

    digest: bytes
    number: int
    is_last: bool
    body: bytes


class FilesStand(NamedTuple):
    """What is known of a session's files at large."""

    holder: str
    """The data directory in which they were used last; "": in none."""
    place: int
    """That of the newest manifest; -1: there is none."""


class FileStore(Protocol):
    """Manifests and holders, and contents if they are kept in the store, too.

    What changes something is refused (StoreFailed) if this gateway has lost its place at the store, or if
    another one that lives has the session.
    """

    async def stand(self, key: str) -> FilesStand:
        """Who used the files last, and which manifest is the newest."""

    async def hold(self, key: str, holder: str) -> None:
        """They are used in this data directory from now on."""

    async def places(self, key: str) -> list[int]:
        """Of the manifests, the oldest first."""

    async def manifest(self, key: str, place: int) -> bytes | None:
        """The one at this place."""

    async def put_manifest(self, key: str, place: int, body: bytes, *, holder: str) -> None:
        """Keeps one, of the files in this data directory."""

    async def keep_manifests(self, key: str, places: Collection[int]) -> None:
        """Removes all others."""

    async def share_manifests(self, source: str, target: str, places: Collection[int]) -> None:
        """Another session has these, too."""

    async def manifests_bytes(self, key: str) -> int:
        """What they take."""

    async def keys(self, prefix: str) -> list[str]:
        """Of sessions that have something here, those that begin so."""

    async def remove(self, key: str) -> None:
        """Removes all of a session."""

    async def abandoned(self, *, limit: int) -> list[str]:
        """So many of those that have something here, or may have contents elsewhere, and are not stored."""

    async def gone(self, keys: Sequence[str]) -> set[str]:
        """Those of these that no stored session has."""

    async def held_elsewhere(self, keys: Sequence[str], holder: str) -> set[str]:
        """Those of these that were used last in another data directory than this."""

    async def missing(self, key: str, digests: Collection[bytes]) -> set[bytes]:
        """Those of these contents that are not here as a whole."""

    async def put_parts(self, key: str, parts: Sequence[ContentPart]) -> None:
        """Keeps pieces of contents; those that are here already stay as they are."""

    async def small(self, key: str, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """Those of these contents that are of one piece."""

    async def parts(self, key: str, digest: bytes, *, first: int, count: int) -> list[ContentPart]:
        """So many pieces of a content, in order."""

    async def keep_contents(self, key: str, digests: Collection[bytes]) -> None:
        """Removes all others."""

    async def share_contents(self, source: str, target: str, digests: Collection[bytes]) -> None:
        """Another session has these, too."""

    async def contents_bytes(self, key: str, digests: Collection[bytes] | None = None) -> int:
        """What these take; None: all of the session."""
