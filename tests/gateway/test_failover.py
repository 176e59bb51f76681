"""The small form of `tests.failover`: one server dies, and nothing that was acknowledged is lost."""

from __future__ import annotations

import pathlib

from tests.failover import fail_over, missing
from tests.postgres import needed


async def test_a_gateway_goes_on_with_the_second_server_and_nothing_is_lost(tmp_path: pathlib.Path) -> None:
    needed()
    outcome = await fail_over(tmp_path)
    assert outcome.lost == []
    assert outcome.acknowledged > 6


def test_the_check_finds_what_is_lost() -> None:
    assert missing(["a-0", "a-1"], ["a-0"]) == ["a-1"]
