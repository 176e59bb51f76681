"""A filter of what may occur in a text: a few bits for each run of up to three characters. Pure.

It says "certainly not" or "perhaps", never wrongly "not". It has no text in it, and cannot be read back into
one. Runs of characters need no notion of a word, so that parts of Hebrew, Chinese and identifiers are found.

Guarantees: what texts are gathered in does not depend on how long they are, however they come in pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from gateway.stores.search import folded

BITS_PER_GRAM: Final = 4
"""One run in four or five that does not occur passes; a word of seven characters has five runs."""
BYTES_LEAST: Final = 4
PROBES_MOST: Final = 10
"""Runs of a search that are looked up: the others would hardly keep anything more back."""

GRAMS_MOST: Final = 100_000
"""Runs in one filter: some 10 MB while they are gathered. Where there are more, it says "perhaps" of all."""
PIECE_CHARACTERS: Final = 16 * 1024
"""So much of a text is parted into words at a time."""
WORDS_KEPT: Final = 10_000
"""So many words are known again, the runs of which need not be looked at a second time."""
WORD_CHARACTERS: Final = 32
"""Of words up to this length."""

MASKS: Final = tuple(bytes(byte for byte in range(256) if byte >> bit & 1) for bit in range(8))
"""For each bit, the bytes in which it is set."""


def grams_of(words: Iterable[str]) -> set[str]:
    """The runs in them, single characters among them."""
    return {word[at : at + length] for word in words for length in (1, 2, 3) for at in range(len(word))}


class Runs:
    """The runs of the words in texts, none of which is folded; no run goes beyond a word."""

    def __init__(self) -> None:
        self._grams: set[str] = set()
        self._words: set[str] = set()
        """Whose runs are among them."""
        self._rests: dict[str, str] = {}
        """The end of each text, if a word may go on there: its last characters."""
        self._is_full = False

    def begin(self, name: str) -> None:
        """What comes of a text of this name is its beginning."""
        self._rests.pop(name, None)

    def add(self, name: str, text: str) -> None:
        """The next piece of a text."""
        for start in range(0, len(text), PIECE_CHARACTERS):
            if self._is_full:
                return
            self._add(name, folded(text[start : start + PIECE_CHARACTERS]))

    def _add(self, name: str, piece: str) -> None:
        words = (self._rests.pop(name, "") + piece).split()
        if words and not piece[-1].isspace():
            rest = words.pop()
            if len(rest) > WORD_CHARACTERS:
                words.append(rest)
                rest = rest[-2:]  # what goes on has these in its first runs
            self._rests[name] = rest
        self._take(set(words))

    def _take(self, words: set[str]) -> None:
        self._grams |= grams_of(words - self._words)
        self._words.update(word for word in words if len(word) <= WORD_CHARACTERS)
        if len(self._words) > WORDS_KEPT:
            self._words.clear()
        if len(self._grams) > GRAMS_MOST or len(self._rests) > WORDS_KEPT:
            self._is_full = True
            for held in (self._grams, self._words, self._rests):
                held.clear()

    def end(self) -> None:
        """No word of these texts goes on."""
        self._take(set(self._rests.values()))
        self._rests.clear()

    def filter(self) -> bytes:
        """The filter of all."""
        return b"\xff" * BYTES_LEAST if self._is_full else filter_of(self._grams)


def filter_of(grams: Iterable[str]) -> bytes:
    """The filter of these runs; the same for the same ones in every program."""
    numbers = [_number(gram) for gram in grams]
    bits = bytearray(max(BYTES_LEAST, -(-len(numbers) * BITS_PER_GRAM // 8)))
    size = len(bits) * 8
    for number in numbers:
        place = number % size
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def probes(words: Iterable[str]) -> list[tuple[int, bytes]]:
    """What a filter must have for all of these folded words: (number of a run, `MASKS` of its bit)."""
    grams = [gram for word in words for gram in _longest(word)]
    step = -(-len(grams) // PROBES_MOST) or 1
    numbers = [_number(gram) for gram in dict.fromkeys(grams[::step])]
    return [(number, MASKS[number & 7]) for number in numbers]


def _longest(word: str) -> list[str]:
    if len(word) < 3:
        return [word]
    return [word[at : at + 3] for at in range(len(word) - 2)]


def _number(gram: str) -> int:
    return zlib.crc32(gram.encode(errors="surrogatepass"))
