"""What is told of conversations, and what is withheld."""

from __future__ import annotations

import pytest

from gateway.apps.shop.insights import duration, of_session, of_tenant, top, words_of
from gateway.apps.shop.store import Cart, CartLine, ConversationTally, ShopSession


def tally(*, adds: int = 0, words: tuple[str, ...] = (), total: int = 0) -> ConversationTally:
    return ConversationTally(
        seconds=60, counts={"adds": adds}, words=dict.fromkeys(words, 9), quantity=2, total=total
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Show me the RICE, please: rice!", ["rice", "rice"]),
        ("tea and figs", ["figs"]),
        ("user@mail.com 0501234567", ["user", "mail"]),
        ("אני רוצה טחינה גולמית", ["טחינה", "גולמית"]),
        ("", []),
    ],
)
def test_words_are_those_that_say_what_a_text_is_about(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_most_frequent_words_come_first() -> None:
    counts = {"rice": 2, "figs": 3, "beans": 2, "dates": 1, "honey": 1, "sumac": 1}
    assert [(found.word, found.count) for found in top(counts)] == [
        ("figs", 3), ("beans", 2), ("rice", 2), ("dates", 1), ("honey", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "words"), [(4500, "1h 15m"), (0, "0m"), (59, "0m"), (900, "15m")])
def test_durations_are_read_by_people(seconds: int, words: str) -> None:
    assert duration(seconds) == words


def test_a_conversation_is_described_to_its_owner() -> None:
    session = ShopSession(
        created_at=1_000, last_used_at=4_501_000, expires_at=0, counts={"adds": 2}, words={"rice": 1}
    )
    cart = Cart(
        (CartLine(line="a", name="a", price=1650, quantity=2), CartLine(line="b", name="b", price=990))
    )
    found = of_session(session, cart)
    assert (found.duration, found.duration_seconds) == ("1h 15m", 4_500)
    assert (found.cart_lines, found.cart_items, found.cart_total) == (2, 3, 42.9)


def test_fewer_than_five_conversations_are_nobodys_business() -> None:
    found = of_tenant([tally(total=990)] * 4)
    assert found.sessions is None
    assert (found.mean_cart_total, found.sessions_with, found.top_topics) == (None, {}, [])


def test_no_figure_stands_for_fewer_than_five_or_leaves_fewer_than_five() -> None:
    tallies = [
        tally(adds=int(number < 4), words=("rare",) if number < 4 else ("common",)) for number in range(12)
    ]
    found = of_tenant(tallies)
    assert found.sessions == 12
    assert found.sessions_with["adds"] is None
    assert [word.word for word in found.top_topics] == []
    tallies = [tally(adds=int(number < 6), words=("half",) if number < 6 else ()) for number in range(12)]
    found = of_tenant(tallies)
    assert found.sessions_with["adds"] == 6
    assert [(word.word, word.count) for word in found.top_topics] == [("half", 6)]
    assert of_tenant([tally(adds=int(number < 8)) for number in range(12)]).sessions_with["adds"] is None
    assert of_tenant([tally(adds=1)] * 12).sessions_with["adds"] == 12
