"""How people have filed their sessions: pinned, archived, tags, and up to where each was seen."""

from __future__ import annotations

from typing import Protocol

from msgspec import UNSET, Struct, UnsetType


class Labels(Struct, frozen=True, kw_only=True):
    """What a session is filed under."""

    is_pinned: bool = False
    is_archived: bool = False
    tags: tuple[str, ...] = ()
    seen_seq: int = 0
    """Its owner has seen it up to this event."""
    said_seq: int = 0
    """The event at which its last turn ended; 0: none has since sessions have labels."""

    @property
    def is_unread(self) -> bool:
        """A turn has ended that was not seen."""
        return self.said_seq > self.seen_seq


class LabelChange(Struct, frozen=True, kw_only=True):
    """What shall be otherwise; UNSET: as it is."""

    is_pinned: bool | UnsetType = UNSET
    is_archived: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    seen_seq: int | UnsetType = UNSET
    """A lower number than before is not an error, and changes nothing."""

    def applied(self, labels: Labels) -> Labels:
        """Labels with this change."""
        seen = labels.seen_seq if self.seen_seq is UNSET else max(self.seen_seq, labels.seen_seq)
        return Labels(
            is_pinned=labels.is_pinned if self.is_pinned is UNSET else self.is_pinned,
            is_archived=labels.is_archived if self.is_archived is UNSET else self.is_archived,
            tags=labels.tags if self.tags is UNSET else self.tags,
            seen_seq=seen,
            said_seq=labels.said_seq,
        )


class LabelStore(Protocol):
    """Labels are of the session: they go with it when it is deleted, and stay with it when it changes hands.

    Every method may raise StoreFull or StoreFailed.
    """

    async def of_owner(self, owner: str) -> dict[str, Labels]:
        """The labels of an owner's sessions by their ids; sessions without any are left out."""

    async def find(self, owner: str, session_id: str) -> Labels | None:
        """The labels of one session; None if it has none, or there is no such session."""

    async def change(self, owner: str, session_id: str, change: LabelChange) -> Labels | None:
        """Keeps a change: the labels as they are then. None if there is no such session."""
