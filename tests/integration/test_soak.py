"""Long work with an agent that nobody here wrote, in a small form: one session, parked three times."""

from __future__ import annotations

import os

import pytest

from tests import soak
from tests.real_agents import AgentUnavailable

pytestmark = [pytest.mark.real_agent, pytest.mark.timeout(600)]


async def test_rounds_of_tool_calls_and_parks_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        grown_or_left = await soak.main(sessions=1, calls=3, rounds=3)
    except AgentUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT TESTED, opencode cannot be had: {error}")
    assert not grown_or_left, capsys.readouterr().out
