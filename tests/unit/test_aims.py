"""A row says if its aims are met, and the watch sees that a loop is held up."""

from __future__ import annotations

import asyncio
import time

from tests.aims import Aim, none_of, row, watched_loop


def test_a_row_is_met_if_all_of_its_aims_are() -> None:
    good = [none_of("lost", 0), Aim(what="seconds", seen=1.5, most=2), Aim(what="times", seen=3, least=1)]
    assert row(3, good).startswith("row 3: met\n")
    for bad in (none_of("lost", 1), Aim(what="s", seen=2.1, most=2), Aim(what="s", seen=0, least=1)):
        assert row(3, [*good, bad]).startswith("row 3: NOT MET\n")
        assert row(3, [*good, bad]).splitlines()[-1].endswith("NOT MET")


async def test_a_loop_that_is_held_up_is_seen() -> None:
    async with watched_loop() as watch:
        await asyncio.sleep(0.02)
        began = time.thread_time()
        while time.thread_time() - began < 0.05:
            pass
        await asyncio.sleep(0.02)
    assert watch.longest_seconds > 0.03
