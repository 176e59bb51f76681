"""The words of a question that full-text indexes are asked for: of products, of what a shop knows. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

MAX_WORDS: Final = 32
"""Of a question, that are searched for."""
TOKENIZER: Final = "porter unicode61"
"""SQLite's, for both languages."""
_WORD: Final = re.compile(r"[^\W_]{2,}")
_HEBREW_PREFIX: Final = re.compile("[והבלמשכ]([\u05d0-\u05ea]{3,})")


def search_words(question: str) -> list[str]:
    """The words to search for: as they stand, and Hebrew ones also without the particle before them."""
    words: dict[str, None] = {}
    for match in _WORD.finditer(question.casefold()):
        words[match[0]] = None
        if (bare := _HEBREW_PREFIX.fullmatch(match[0])) is not None:
            words[bare[1]] = None
    return list(words)[:MAX_WORDS]


def any_of(words: Sequence[str]) -> str:
    """In FTS5's language, where a quoted string is nothing but text."""
    return " OR ".join(f'"{word}"' for word in words)
