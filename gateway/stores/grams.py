"""A filter of what may occur in a text: a few bits for each run of up to three characters. Pure.

It says "certainly not" or "perhaps", never wrongly "not". It has no text in it, and cannot be read back into
one. Runs of characters need no notion of a word, so that parts of Hebrew, Chinese and identifiers are found.
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

MASKS: Final = tuple(bytes(byte for byte in range(256) if byte >> bit & 1) for bit in range(8))
"""For each bit, the bytes in which it is set."""


def words_in(text: str) -> set[str]:
    """The words of a text that is not folded: no run goes beyond one."""
    return set(folded(text).split())


def grams_of(words: Iterable[str]) -> set[str]:
    """The runs in them, single characters among them."""
    return {word[at : at + length] for word in words for length in (1, 2, 3) for at in range(len(word))}


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
