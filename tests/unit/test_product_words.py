"""What visitors type: cleaned, bounded, judged, and never refused for an apostrophe."""

from __future__ import annotations

import pytest

from gateway.apps.product_chat import words
from gateway.apps.product_chat.errors import InvalidInput


@pytest.mark.parametrize(
    "text",
    [
        "it's O'Neil's",
        "'; DROP TABLE product_chat_messages; --",
        "<script>alert(1)</script>",
        "50% & more",
        "שלום",
    ],
)
def test_what_is_typed_is_stored_as_typed(text: str) -> None:
    assert words.message_text(text) == text
    assert words.spam_score(text, repeats=0) < words.SPAM


def test_forms_are_normalised_and_control_characters_dropped() -> None:
    assert words.message_text("ﬁne\x00\x1b[31m\r\nnext\tend\u0085") == "fine[31m\nnext\tend"


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x07"])
def test_nothing_is_no_message(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be empty"):
        words.message_text(text)


def test_a_message_has_two_thousand_characters_at_most() -> None:
    assert len(words.message_text("é" * 2000)) == 2000
    for text in ("x" * 2001, "ﷺ" * 1999):
        with pytest.raises(InvalidInput, match="cannot exceed 2000"):
            words.message_text(text)


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("http://a http://b http://c", 0), ("free money, click here", 0), ("buy", 2),
        ("A" * 40 + " http://x http://y", 0),
    ],
)  # fmt: skip
def test_spam_is_marked(text: str, repeats: int) -> None:
    assert words.SPAM <= words.spam_score(text, repeats=repeats) <= 100


@pytest.mark.parametrize("text", ["Can I talk to a human?", "this is URGENT", "אני רוצה נציג"])
def test_a_call_for_a_person_is_heard(text: str) -> None:
    assert words.asks_for_person(text)


def test_ids() -> None:
    assert words.product_id("12") == 12
    for text in ("0", "-1", "1.5", "", "x", "9" * 10, "١"):
        with pytest.raises(InvalidInput, match="Invalid product ID"):
            words.product_id(text)
