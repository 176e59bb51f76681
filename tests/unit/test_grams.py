"""The runs of texts: the same however they come, in bounded memory, and never wrongly absent."""

from __future__ import annotations

import random
import tracemalloc
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores import grams
from gateway.stores.grams import BYTES_LEAST, Runs, filter_of, grams_of
from gateway.stores.search import folded

MOST_BYTES: Final = 4 * 1024 * 1024
"""Of memory for a text of 2 MB; parted into words at once, it took 30 MB."""
ALL: Final = b"\xff" * BYTES_LEAST
texts = st.text(st.sampled_from("aAbß \n\u2028İx🙂"), max_size=60)


@given(st.lists(st.tuples(st.sampled_from("mn"), texts), max_size=8), st.integers(1, 40))
def test_the_runs_are_the_same_however_a_text_comes(pieces: list[tuple[str, str]], size: int) -> None:
    whole = [folded("".join(text for name, text in pieces if name == one)) for one in "mn"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grams, "PIECE_CHARACTERS", size)
        patch.setattr(grams, "WORD_CHARACTERS", size % 7)
        runs = Runs()
        for name, text in pieces:
            runs.add(name, text)
        runs.end()
    words = {word for text in whole for word in text.split()}
    assert runs.filter() == filter_of(grams_of(words))


def test_a_text_that_begins_anew_does_not_go_on() -> None:
    runs = Runs()
    runs.add("m", "begun")
    runs.begin("m")
    runs.add("m", "anew")
    runs.end()
    assert runs.filter() == filter_of(grams_of({"anew"}))


def test_a_long_text_is_parted_in_little_memory() -> None:
    text = "word " * 400_000
    tracemalloc.start()
    try:
        runs = Runs()
        runs.add("m", text)
        runs.end()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES
    assert runs.filter() == filter_of(grams_of({"word"}))


def test_more_runs_than_are_kept_may_all_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "GRAMS_MOST", 1_000)
    runs, letters = Runs(), random.Random(7)
    for _ in range(20):
        runs.add("m", "".join(chr(letters.randrange(0x4E00, 0x9FFF)) for _ in range(500)))
    runs.end()
    assert runs.filter() == ALL


def test_more_texts_than_are_kept_may_all_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "WORDS_KEPT", 100)
    runs = Runs()
    for number in range(200):
        runs.add(str(number), "a")
    runs.end()
    assert runs.filter() == ALL
