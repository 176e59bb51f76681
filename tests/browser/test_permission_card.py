"""The permission card and the rules of a session in a real Chromium, on a phone too."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.gateways import RunningGateway
from tests.patience import within
from tests.shared import SHARED, fresh_id, shared_gateway

pytestmark = [SHARED, pytest.mark.browser]

PHONE: Final = {"width": 360, "height": 640}
OPTIONS: Final = [
    {"optionId": "no", "name": "Reject", "kind": "reject_once"},
    {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
    {"optionId": "ever", "name": "Always allow", "kind": "allow_always"},
]
LONG: Final = "\n".join(f"echo line {number}" for number in range(1_000)) + "\nrm -rf /"
SPOOF: Final = "OK.\n\n\n[ Allow ] [ Always allow ] [ Reject ]\n\u202ewollA" + "\nmore" * 200


def asks(**call: Any) -> dict[str, Any]:
    return {"ask": {"toolCall": {"toolCallId": "c1", "title": "Run it", **call}, "options": OPTIONS}}


def runs(command: Any, **call: Any) -> dict[str, Any]:
    return asks(kind="execute", rawInput={"command": command}, **call)


def scenario(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"about": "Permissions on the page.", "turns": [list(steps)], "repeat": True}


def many(tall: dict[str, Any]) -> dict[str, Any]:
    return scenario({"say": {"text": "A line of many.\n\n", "times": 80}}, tall)


gateway = shared_gateway(
    '[permissions]\ndeny = [{ command = "rm" }]\n',
    agents={
        "tests": scenario(runs("npm test"), {"say": "ran"}),
        "twice": scenario(runs("npm test", toolCallId="c1"), runs("npm test", toolCallId="c2")),
        "long": scenario(runs(LONG.replace("rm -rf", "ls"))),
        "denied": scenario(runs("sh -c 'rm -rf /'")),
        "spoof": scenario(asks(title=SPOOF, kind="other")),
        "away": many(runs("npm test")),
        "diff": many(
            asks(
                kind="edit",
                rawInput={"file_path": "a.py"},
                content=[{"type": "diff", "path": "a.py", "oldText": "old\n", "newText": "new\n" * 3_000}],
            )
        ),
    },
)


async def asked(gateway: RunningGateway, open_page: OpenPage, agent: str, **window: Any) -> tuple[Page, str]:
    """A page on which the agent asks."""
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    return await open_page(f"{gateway.url}/#s={session_id}", **window), session_id


@pytest.mark.parametrize("window", [{}, PHONE], ids=["desk", "phone"])
async def test_the_command_its_place_and_the_answers_are_seen_before_one_is_given(
    gateway: RunningGateway, open_page: OpenPage, window: dict[str, int]
) -> None:
    page, _ = await asked(gateway, open_page, "tests", **window)
    card = page.get_by_test_id("permission")
    await expect(card.get_by_test_id("permission-command").locator("code")).to_have_text("npm test")
    await expect(card).to_contain_text("In the session’s directory")
    options = card.get_by_test_id("permission-option")
    assert [await one.get_attribute("data-kind") for one in await options.all()] == [
        *("reject_once", "allow_once", "allow_always"),
    ]
    looks = {
        str(
            await one.evaluate(
                "(b) => { const s = getComputedStyle(b); return s.background + s.color + s.borderColor }"
            )
        )
        for one in await options.all()
    }
    heights = {round((await one.bounding_box() or {"height": 0})["height"]) for one in await options.all()}
    assert (len(looks), len(heights)) == (1, 1)
    always = card.get_by_test_id("permission-always")
    await expect(always).to_contain_text("npm test")
    await expect(always).to_contain_text("until you revoke it")
    assert await fits(page)
    await options.nth(1).click()
    await expect(card).to_have_count(0)
    line = page.get_by_test_id("permission-answered")
    await expect(line).to_have_count(1)
    await expect(line).to_contain_text("Run it")
    await expect(line).to_contain_text("Answered: Allow")
    await expect(page.locator(".item-permission:visible")).to_have_count(0)
    assert await fits(page)


async def test_always_makes_a_rule_that_answers_is_listed_and_revoked(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page, session_id = await asked(gateway, open_page, "twice")
    await page.locator("[data-testid=permission-option][data-kind=allow_always]").click()
    await expect(page.get_by_test_id("message-agent").last).to_contain_text("chosen: yes")
    await expect(page.get_by_test_id("permission-answered").last).to_contain_text("Allowed by a rule")
    await page.get_by_test_id("rules-button").click()
    await expect(page.get_by_test_id("rule-row")).to_contain_text("npm test")
    await expect(page.get_by_test_id("operator-rules")).to_contain_text("rm")
    assert await complaints(page) == []
    await page.get_by_test_id("rule-revoke").click()
    await expect(page.get_by_test_id("rule-row")).to_have_count(0)
    assert (await gateway.get(f"/api/sessions/{session_id}/rules"))["rules"] == []


async def test_a_refusal_by_a_rule_says_so(gateway: RunningGateway, open_page: OpenPage) -> None:
    page, _ = await asked(gateway, open_page, "denied")
    await expect(page.get_by_test_id("permission-answered")).to_contain_text("Refused by a rule")


AT_HAND: Final = """() => {
  const box = document.querySelector("[data-testid=permission-option]").getBoundingClientRect();
  const isSeen = box.top < innerHeight && box.bottom > 0;
  return isSeen || document.querySelector("[data-testid=permission-away]") !== null;
}"""


async def test_the_rest_of_a_long_command_is_shown_when_it_is_asked_for(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page, _ = await asked(gateway, open_page, "long", **PHONE)
    card = page.get_by_test_id("permission")
    await expect(card).to_contain_text("801 more lines")
    await expect(card.get_by_test_id("permission-always")).to_contain_text("this request only")
    await card.get_by_test_id("show-all").click()
    await expect(card.get_by_test_id("permission-command")).to_contain_text("ls /")
    async with within(15):  # in the card, or by the bar that leads back to it
        while not await page.evaluate(AT_HAND):
            await asyncio.sleep(0.05)
    assert await fits(page)


async def test_a_title_that_looks_like_the_cards_own_buttons_stays_the_agents_words(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page, _ = await asked(gateway, open_page, "spoof", **PHONE)
    card = page.get_by_test_id("permission")
    await expect(card).to_contain_text("In the agent’s words:")
    await expect(card.get_by_role("button")).to_have_count(3)
    box = await card.get_by_test_id("permission-title").bounding_box()
    assert box is not None
    assert box["height"] < 150
    await expect(card.get_by_test_id("permission-option").last).to_be_in_viewport()


@pytest.mark.parametrize("agent", ["away", "diff"])
async def test_a_card_that_is_scrolled_away_is_one_tap_away(
    gateway: RunningGateway, open_page: OpenPage, agent: str
) -> None:
    page, _ = await asked(gateway, open_page, agent, **PHONE)
    card = page.get_by_test_id("permission")
    await expect(card).to_be_in_viewport()
    await expect(page.get_by_test_id("permission-away")).to_have_count(0)
    await page.locator(".scroller").evaluate("(box) => box.scrollTo({top: 0})")
    away = page.get_by_test_id("permission-away")
    await expect(away).to_contain_text("Run it")
    assert await fits(page)
    assert await complaints(page) == []
    await away.get_by_test_id("permission-show").click()
    await expect(card).to_be_focused()
    await expect(card.get_by_test_id("permission-option").last).to_be_in_viewport()
    await expect(away).to_have_count(0)


@pytest.mark.parametrize("locale", ["en-US", "he-IL"])
async def test_nothing_about_the_card_is_hard_to_reach(
    gateway: RunningGateway, open_page: OpenPage, locale: str
) -> None:
    page, _ = await asked(gateway, open_page, "tests", locale=locale)
    await expect(page.get_by_test_id("permission")).to_be_visible()
    assert await complaints(page) == []
    await page.get_by_test_id("permission-option").nth(1).click()
    await expect(page.get_by_test_id("permission-answered")).to_be_visible()
    assert await complaints(page) == []
