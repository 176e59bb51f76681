"""Labels as rows of a table, whichever engine has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.stores.labels import Labels

COLUMNS: Final = "is_pinned, is_archived, tags, seen_seq, said_seq"
_tags_of: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def label_row(labels: Labels) -> tuple[Any, ...]:
    """Labels as they are kept."""
    tags = msgspec.json.encode(labels.tags).decode()
    return labels.is_pinned, labels.is_archived, tags, labels.seen_seq, labels.said_seq


def labels_of(row: Sequence[Any]) -> Labels:
    """Labels that were kept; the row may have more behind them."""
    return Labels(
        is_pinned=bool(row[0]),
        is_archived=bool(row[1]),
        tags=_tags_of(row[2]),
        seen_seq=row[3],
        said_seq=row[4],
    )
