"""The short form of the campaign with several gateways; the long one is `python -m tests.torture.cluster`."""

from __future__ import annotations

import pathlib

import pytest

from tests.shared import crowding
from tests.torture.cluster import ClusterCampaign

KILLS = 2
PAUSES = 3


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_gateways_killed_and_stopped_on_one_store_lose_nothing(tmp_path: pathlib.Path) -> None:
    seconds = 60 * crowding()
    campaign = ClusterCampaign(tmp_path, kills=KILLS, pauses=PAUSES, sessions=3, seconds=seconds, seed=11)
    await campaign.run()
    history, figures = campaign.history, campaign.figures
    assert history.is_clean, f"{campaign.table()}\n{history.words()}"
    assert (figures.kills, figures.pauses) == (KILLS, PAUSES), campaign.table()
    assert figures.exit_codes == [0, 0, 0]
    assert history.seen["messages acknowledged"] > 10, campaign.table()
