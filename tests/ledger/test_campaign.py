"""The short form of the campaign, for every run; the long one is `make campaign NAME=ledger`."""

from __future__ import annotations

import pathlib

import pytest

from tests.ledger.campaign import Campaign

KILLS = 5


@pytest.mark.torture
async def test_after_kills_the_ledger_is_what_the_provider_counted(tmp_path: pathlib.Path) -> None:
    campaign = Campaign(tmp_path, turns=150, kills=KILLS, sessions=4, seconds=45, seed=3)
    await campaign.run()
    assert not campaign.faults, "\n".join((campaign.table(), *campaign.faults))
    assert campaign.kills >= 3, campaign.table()
    assert len([row for row in campaign.rows if not row.is_estimated]) > 50, campaign.table()
