"""The short form of the campaign, for every CI run; the long one is `python -m tests.torture`."""

from __future__ import annotations

import pathlib

import pytest

from tests.shared import crowding
from tests.torture.campaign import Campaign

KILLS = 4
HEALTHY_SECONDS = 2.0


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_a_gateway_killed_again_and_again_loses_nothing(tmp_path: pathlib.Path) -> None:
    campaign = Campaign(tmp_path, kills=KILLS, sessions=5, seconds=120 * crowding(), seed=7)
    await campaign.run()
    history, figures = campaign.history, campaign.figures
    assert history.is_clean, f"{campaign.table()}\n{history.words()}"
    assert figures.kills == KILLS, campaign.table()
    assert figures.exit_code == 0
    assert sorted(figures.healthy)[len(figures.healthy) // 2] <= HEALTHY_SECONDS * crowding()
    assert history.seen["messages acknowledged"] > 40, campaign.table()
    assert history.seen["replies whole"] > 40, campaign.table()
