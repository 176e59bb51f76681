"""What a shop gives its chats: instructions, knowledge, hours, answers; and what visitors may not do."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from gateway.apps.product_chat.hours import is_open
from gateway.apps.product_chat.knowledge import passages
from gateway.config.file import ConfigError, load
from tests.products.shop import ADMIN_CHATS, CHATS, Browser, Shop, config, running_shop
from tests.shared import SHARED

pytestmark = SHARED

KNOWN: Final = "# Delivery\n\nParcels take three weekdays.\n\n# Other\n\nBees."
AGENT: Final = {"repeat": True, "turns": [[{"say": "I got: $PROMPT with $CONTEXT"}]]}
SUNDAY_NOON: Final = 1_700_398_800_000
"""2023-11-19 13:00 UTC, which is 15:00 in Jerusalem."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "how.txt").write_text("Answer in one sentence. House rule seven.")
    (folder / "known").mkdir()
    (folder / "known" / "delivery.md").write_text(KNOWN)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(folder: pathlib.Path) -> AsyncIterator[Shop]:
    settings: dict[str, Any] = {
        "instructions_file": str(folder / "how.txt"),
        "knowledge": str(folder / "known"),
        "greeting": "Ask us about {product} for {price}",
        "suggestions": ["Is {product} in stock?"],
        "away": "We are asleep.",
        "time_zone": "Asia/Jerusalem",
        "commands": [],
    }
    also = '[products.hours]\nmon = "03:00-03:01"\n[products.answers]\nReturns = "Within 30 days."\n'
    async with running_shop(folder, agent=AGENT, also=also, **settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(shop: Shop) -> AsyncIterator[Browser]:
    async with shop.visitor() as browser:
        yield browser


async def test_the_agent_gets_instructions_and_what_fits_and_a_change_counts_at_once(
    shop: Shop, visitor: Browser, folder: pathlib.Path
) -> None:
    name = await visitor.begin(initial_message="How long does delivery take?")
    answer = (await visitor.until(name, lambda found: len(found) == 2))[1]["message_text"]
    for words in ("House rule seven", "Cedar birdhouse, 24.90 ₪", "Parcels take three weekdays"):
        assert words in answer
    assert "Bees" not in answer
    (folder / "how.txt").write_text("House rule eight.")
    (folder / "known" / "delivery.md").write_text("# Delivery\n\nParcels take four weekdays now.")
    shop.advance(2)
    await visitor.say(name, "And delivery to the north?")
    answer = (await visitor.until(name, lambda found: len(found) == 4))[3]["message_text"]
    assert "House rule eight" in answer
    assert "four weekdays" in answer


async def test_a_visitors_slash_is_a_text(visitor: Browser) -> None:
    name = await visitor.begin(initial_message="/model opus")
    messages = await visitor.until(name, lambda found: len(found) == 2)
    assert messages[0]["message_text"] == "/model opus"
    assert "The visitor wrote: /model opus" in messages[1]["message_text"]


async def test_nobody_is_there_and_the_visitor_is_told_once(shop: Shop, visitor: Browser) -> None:
    settings = (await visitor.ask("GET", "/api/products/1/chat")).json
    assert settings["greeting"] == "Ask us about Cedar birdhouse for 24.90 ₪"
    assert settings["suggestions"] == ["Is Cedar birdhouse in stock?"]
    assert (settings["is_open"], settings["away"]) == (False, "We are asleep.")
    name = await visitor.begin(2, initial_message="Hello")
    told = await visitor.ask("POST", f"{CHATS.format(2)}/{name}/person", {})
    assert (told.status, told.json["is_open"], told.json["away"]) == (200, False, "We are asleep.")
    await visitor.say(name, "A human, please", product=2)
    messages = await visitor.until(name, lambda found: len(found) >= 5, product=2)
    assert [m["message_text"] for m in messages if m["sender_type"] == "system"] == ["We are asleep."]
    async with shop.visitor() as other:
        assert (await other.ask("POST", f"{CHATS.format(2)}/{name}/person", {})).status == 404
    async with shop.staff() as ruth:
        [chat] = (await ruth.ask("GET", ADMIN_CHATS, params={"search": "a HUMAN"})).json["sessions"]
        assert (chat["session_id"], chat["priority"]) == (name, "urgent")


async def test_the_staff_sees_last_words_the_product_and_no_empty_visits(
    shop: Shop, visitor: Browser
) -> None:
    empty = await visitor.begin(3, customer_name="Never wrote")
    name = await visitor.begin(3, initial_message="100% wool?", customer_name="Noa")
    await visitor.until(name, lambda found: len(found) == 2, product=3)
    async with shop.staff() as ruth:
        everything = (await ruth.ask("GET", ADMIN_CHATS)).json["sessions"]
        assert {empty, name} <= {one["session_id"] for one in everything}
        query = {"with_messages": "true"}
        rows = (await ruth.ask("GET", ADMIN_CHATS, params=query)).json["sessions"]
        written = {one["session_id"]: one for one in rows}
        assert empty not in written
        assert written[name]["last_sender"] == "assistant"
        assert written[name]["last_message"].startswith("I got:")
        assert written[name]["waiting_since"] is None
        for search, found in (("100% w", [name]), ("100_ w", []), ("noa", [name]), ("%", [name])):
            rows = (await ruth.ask("GET", ADMIN_CHATS, params={"search": search})).json["sessions"]
            assert [one["session_id"] for one in rows] == found, search
        aside = (await ruth.ask("GET", f"{ADMIN_CHATS}/{name}")).json
        assert aside["product"]["price"] == "89.00 ₪"
        assert (aside["cart"], aside["cart_total"]) == ([], "")
        answers = (await ruth.ask("GET", "/api/admin/chat/answers")).json["answers"]
        assert answers == [{"name": "Returns", "text": "Within 30 days."}]
        await ruth.ask("POST", f"{ADMIN_CHATS}/{name}/take-over", {})
        await visitor.say(name, "Still there?", product=3)
        [row] = (await ruth.ask("GET", ADMIN_CHATS, params={"search": "noa"})).json["sessions"]
        assert row["waiting_since"] == row["last_message_at"]


async def test_the_configuration_of_a_shop_names_its_mistakes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        config(knowledge=str(tmp_path / "nowhere"), instructions_file="none.txt", time_zone="Mars/Base")
        + '[products.hours]\nmon = "9-17"\nfunday = "09:00-17:00"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    names = [mistake.partition(":")[0] for mistake in caught.value.mistakes]
    assert sorted(names) == [
        *("products.hours.funday", "products.hours.mon", "products.instructions_file", "products.knowledge"),
        "products.time_zone",
    ]


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [(SUNDAY_NOON, True), (SUNDAY_NOON + 3 * 3_600_000, False), (SUNDAY_NOON + 24 * 3_600_000, False)],
)
async def test_hours_are_those_of_the_shops_place(at_ms: int, expected: bool) -> None:
    hours = {"sun": "09:00-13:00, 14:00-18:00"}
    assert is_open(hours, "Asia/Jerusalem", at_ms=at_ms) is expected
    assert is_open({}, "UTC", at_ms=at_ms)


async def test_passages_stand_below_their_headings_and_are_short() -> None:
    text = "Intro\n\n# One\nfirst\n\nsecond\n\n## Two\n" + "x" * 3000
    found = list(passages("file", text))
    assert found[:2] == [("file", "Intro"), ("One", "first\n\nsecond")]
    assert all(len(part) <= 1200 for _, part in found)
    assert sum(len(part) for title, part in found if title == "Two") == 3000
