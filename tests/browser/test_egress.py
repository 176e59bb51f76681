"""Hosts in the page: what an agent was refused, a question about another, and what operators see of it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from gateway.egress.admission import NotAdmitted
from gateway.sessions.session import Session
from tests.browser.conftest import OpenPage
from tests.inside import GatewayInside
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway(
    """
[egress]
denied = ["bad.example"]
unlisted = "ask"
[agents.coder]
command = "true"
network = "broker"
"""
)
pytestmark = [SHARED, pytest.mark.browser]


async def made(gateway: GatewayInside) -> Session:
    session_id = fresh_id("page")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "coder"}, status=201)
    session = gateway.inner.manager.get("default/local", session_id)
    assert session is not None
    return session


async def test_a_question_about_a_host_is_answered_in_place(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session = await made(gateway)
    page = await open_page(f"{gateway.url}/#s={session.session_id}")
    waiting = asyncio.create_task(session.admission.admit("new.example", 22))
    card = page.get_by_test_id("egress-asked")
    await expect(card).to_contain_text("new.example:22")
    await expect(card).to_be_focused()
    await expect(
        card.get_by_test_id("egress-always")
    ).to_be_visible()  # the person at the machine operates it
    await card.get_by_test_id("egress-deny").click()
    assert isinstance(await waiting, NotAdmitted)
    await expect(page.get_by_test_id("egress-answered")).to_contain_text("new.example:22")
    await expect(page.get_by_test_id("egress-denied")).to_contain_text(
        "new.example:22 was refused (denied here)"
    )
    await page.reload()
    await expect(page.get_by_test_id("egress-answered")).to_contain_text("Refuse")


async def test_a_refused_host_is_named_to_the_person_and_to_operators(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session = await made(gateway)
    page = await open_page(f"{gateway.url}/#s={session.session_id}", locale="he-IL")
    for _ in range(5):
        await session.admission.admit("bad.example", 443)
    session.admission.end()
    notice = page.get_by_test_id("egress-denied")
    await expect(notice).to_contain_text("bad.example")
    await expect(notice).to_contain_text("×5")
    operations = await open_page(f"{gateway.url}/#/operations")
    await expect(operations.get_by_test_id("refused-hosts")).to_contain_text("bad.example:443")
