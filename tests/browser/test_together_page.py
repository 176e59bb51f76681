"""Several people in one session, each in a browser of their own: who writes, who answers, who is there."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.gateways import RunningGateway
from tests.shared import SHARED, ask, fresh_id, shared_gateway

pytestmark = [SHARED, pytest.mark.browser]

PHONE: Final = {"width": 360, "height": 640}
OPTIONS: Final = [
    {"optionId": "no", "name": "Reject", "kind": "reject_once"},
    {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
    {"optionId": "ever", "name": "Always allow", "kind": "allow_always"},
]
ASKS: Final[dict[str, Any]] = {
    "ask": {"title": "Delete everything?", "options": OPTIONS, "then": {"yes": [{"say": "deleted"}]}}
}
gateway = shared_gateway(
    agents={
        "asking": {"turns": [[ASKS]], "repeat": True},
        "hangs": {"turns": [[{"hang": True}]], "repeat": True},
    }
)


async def link_of(gateway: RunningGateway, session_id: str, kind: str) -> dict[str, Any]:
    made = await gateway.post(f"/api/sessions/{session_id}/shares", {"kind": kind}, status=201)
    assert isinstance(made, dict)
    return made


async def join(page: Page, name: str) -> None:
    await page.get_by_test_id("guest-name").fill(name)
    await page.get_by_test_id("guest-join").click()


async def say(page: Page, text: str) -> None:
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("composer").press("Enter")


async def test_two_browsers_drive_approve_and_see_each_other(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    session_id = fresh_id("both")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "asking"}, status=201)
    link = await link_of(gateway, session_id, "approve")
    owner = await open_page(f"{gateway.url}/#s={session_id}")
    guest = await open_page(link["url"], **PHONE)
    # The name is asked once, and is nobody else's.
    await expect(guest.get_by_test_id("composer")).to_have_count(0)
    await join(guest, "Owner")
    await expect(guest.get_by_test_id("guest-name-error")).not_to_be_empty()
    assert await complaints(guest) == []
    await join(guest, "Ann")
    await expect(guest.get_by_test_id("composer")).to_be_visible()
    for page, names in ((owner, ["Owner (You)", "Ann (guest)"]), (guest, ["Owner", "Ann (guest) (You)"])):
        await expect(page.get_by_test_id("person")).to_have_text(names)
    # A message bears its author for the others.
    await say(guest, "please")
    await expect(owner.get_by_test_id("author")).to_have_text("Ann (guest)")
    await expect(guest.get_by_test_id("message-user")).to_have_text("please")
    await expect(guest.get_by_test_id("author")).to_have_count(0)
    # Both see the card; for always only the owner answers. Everybody reads whose answer counted.
    await expect(owner.get_by_test_id("permission-option")).to_have_count(3)
    await expect(guest.get_by_test_id("permission-option")).to_have_text(["Reject1", "Allow2"])
    assert await fits(guest)
    assert await complaints(guest) == []
    await guest.get_by_test_id("permission-option").nth(1).click()
    await expect(guest.get_by_test_id("permission-answered")).to_contain_text("Answered: Allow")
    await expect(guest.get_by_test_id("answered-by")).to_have_count(0)
    await expect(owner.get_by_test_id("answered-by")).to_contain_text("by Ann (guest)")
    await expect(owner.get_by_test_id("message-agent")).to_have_text("deleted")
    # The name is kept over a reload.
    await guest.reload()
    await expect(guest.get_by_test_id("composer")).to_be_visible()
    await expect(guest.get_by_test_id("person")).to_have_text(["Owner", "Ann (guest) (You)"])
    assert await complaints(owner) == []
    # Revoked while it is open: gone at once, and the owner sees nobody else any more.
    await ask(gateway.http, "DELETE", f"/api/sessions/{session_id}/shares/{link['share_id']}")
    await expect(guest.get_by_test_id("shared-gone")).to_be_visible()
    await expect(guest.get_by_test_id("composer")).to_have_count(0)
    await expect(owner.get_by_test_id("people")).to_have_count(0)


async def test_who_is_too_late_reads_who_was_first(gateway: RunningGateway, open_page: OpenPage) -> None:
    session_id = fresh_id("late")
    await gateway.send(session_id, "go", agent="asking")
    link = await link_of(gateway, session_id, "approve")
    guest = await open_page(link["url"], locale="he-IL")
    await join(guest, "דנה")
    await expect(guest.get_by_test_id("permission-option")).to_have_count(2)
    # The guest's browser hears of the owner's answer only after it has answered itself.
    await guest.route("**/permission?*", lambda route: gateway_answers_first(gateway, session_id, route))
    await guest.get_by_test_id("permission-option").nth(1).click()
    await expect(guest.get_by_test_id("answered-by")).to_contain_text("בעל השיחה")
    await expect(guest.get_by_test_id("answered-by")).to_contain_text("הקדימה")
    await expect(guest.get_by_test_id("error-line")).to_have_count(0)
    assert await fits(guest)
    assert await complaints(guest) == []


async def gateway_answers_first(gateway: RunningGateway, session_id: str, route: Any) -> None:
    state = await gateway.state(session_id)
    body = {"permission_id": state["pending_permission"]["permission_id"], "option_id": "no"}
    await gateway.post(f"/api/sessions/{session_id}/permission", body)
    await route.continue_()


async def test_a_link_to_write_is_made_listed_and_revoked_and_what_waits_is_withdrawn(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    session_id = fresh_id("dialog")
    await gateway.send(session_id, "mine", agent="hangs")
    owner = await open_page(f"{gateway.url}/#s={session_id}")
    await owner.get_by_test_id("session-menu").first.click()
    await owner.get_by_test_id("share").first.click()
    await owner.get_by_test_id("share-kind-drive").check()
    await owner.get_by_test_id("share-make").click()
    url = await owner.get_by_test_id("link").input_value()
    await expect(owner.get_by_test_id("share-row-kind")).to_have_text("Write")
    assert await complaints(owner) == []
    await owner.keyboard.press("Escape")
    guest = await open_page(url, **PHONE)
    await expect(guest.get_by_test_id("shared-kind")).to_have_text("Shared, you may write")
    await join(guest, "Ann")
    await say(guest, "hers")
    await expect(owner.get_by_test_id("queue")).to_contain_text("Ann (guest): hers")
    await expect(guest.get_by_test_id("queue-drop-one")).to_have_count(0)
    assert await fits(guest)
    await owner.get_by_test_id("session-menu").first.click()
    await owner.get_by_test_id("share").first.click()
    await expect(owner.get_by_test_id("share-uses")).to_have_text("Opened: 1")
    await owner.get_by_test_id("share-revoke").click()
    await expect(owner.get_by_test_id("share-row")).to_have_count(0)
    await owner.keyboard.press("Escape")
    await expect(guest.get_by_test_id("shared-gone")).to_be_visible()
    await expect(owner.get_by_test_id("withdrawn")).to_be_visible()
    await expect(owner.get_by_test_id("queue")).to_have_count(0)


async def test_a_link_to_read_has_no_composer_and_asks_no_name(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    session_id = fresh_id("reads")
    await gateway.send(session_id, "go", agent="asking")
    guest = await open_page((await link_of(gateway, session_id, "view"))["url"])
    await expect(guest.get_by_test_id("permission-answered")).to_be_visible()
    await expect(guest.get_by_test_id("person")).to_have_text(["Someone"])
    for absent in ("composer", "name-form", "permission-option"):
        await expect(guest.get_by_test_id(absent)).to_have_count(0)
