"""The short form of the hostile campaign, for every CI run; the long one is `make campaign NAME=hostile`."""

from __future__ import annotations

import pathlib

import pytest

from tests.hostile.campaign import Campaign
from tests.patience import crowding

SECONDS = 6


@pytest.mark.torture
async def test_hostile_agents_are_noticed_by_nobody_else(tmp_path: pathlib.Path) -> None:
    card = await Campaign(tmp_path, seconds=SECONDS * crowding(), seed=7).run()
    assert card.errors == [], str(card)
    assert (card.exit_code, card.left) == (0, 0), str(card)
    assert sum(card.attacks.values()) >= 5, str(card)
    assert card.messages >= 10, str(card)
