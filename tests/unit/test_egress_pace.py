"""The share of the loop's time that the doors of one worker have."""

from __future__ import annotations

import pytest

from gateway.egress.pace import BURST_SECONDS, SHARE, LoopShare


def test_a_burst_is_free_and_what_is_beyond_it_waits_for_its_share() -> None:
    now = 0.0
    share = LoopShare(lambda: now)
    assert share.spend(BURST_SECONDS) == 0
    assert share.spend(0.01) == pytest.approx(0.01 / SHARE)
    now = 0.01 / SHARE
    assert share.spend(0) == pytest.approx(0)
    now += 3_600
    assert share.spend(BURST_SECONDS) == 0, "an idle hour saves up no more than a burst"
    assert share.spend(0.1) > 0
