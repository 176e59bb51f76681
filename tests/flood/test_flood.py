"""The short form of the campaign, for every run; the long one is `make campaign NAME=doors`."""

from __future__ import annotations

from tests.flood.campaign import Flood


async def test_beside_a_flood_every_request_of_a_neighbour_is_answered_and_nothing_is_lost_or_left() -> None:
    """How much longer it waits is for the long form: this machine may be busy with something else."""
    flood = Flood(rounds=1, connections=240, names=20, megabytes=64, seconds=0.2, is_far=False)
    await flood.run()
    assert not flood.faults, "\n".join((flood.table(), *flood.faults))
    assert flood.counts["served"] > 100, flood.table()
