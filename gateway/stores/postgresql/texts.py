"""Texts of people in PostgreSQL, which takes no U+0000: it is written as two characters that Unicode never
gives a meaning, and read back. Every connection does so by itself (connections.py), but for arrays of texts.
"""

from __future__ import annotations

from typing import Final

_MARK: Final = "\ufdd0"
_NUL: Final = "\ufdd0\ufdd1"
_ITSELF: Final = "\ufdd0\ufdd2"


def kept(text: str) -> str:
    """A text as it is stored."""
    if "\0" not in text and _MARK not in text:
        return text
    return text.replace(_MARK, _ITSELF).replace("\0", _NUL)


def given(text: str) -> str:
    """A text as it was before."""
    return text.replace(_NUL, "\0").replace(_ITSELF, _MARK) if _MARK in text else text
