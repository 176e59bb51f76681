"""Whose limit holds where two have one, and what CPU time counts as a turn's."""

from __future__ import annotations

import msgspec
import pytest

from gateway.workers.watchdog import Spent
from worker.spec import Limits, counted_cpu_seconds


@pytest.mark.parametrize(
    ("own", "other", "held"),
    [(100, 50, 50), (50, 100, 50), (0, 50, 50), (50, 0, 50), (0, 0, 0), (50, None, 50), (0, None, 0)],
)
@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_of_two_limits_the_stricter_holds_and_0_is_none(
    name: str, own: int, other: int | None, held: int
) -> None:
    limits = Limits(**{name: own})
    merged = limits.within({} if other is None else {name: other})
    assert getattr(merged, name) == held
    assert msgspec.structs.replace(merged, **{name: own}) == limits, "nothing else changed"


def test_a_turn_is_charged_what_was_used_in_it() -> None:
    spent = Spent(1, 100.0)
    assert spent.note(1, 100.0) == 0
    assert spent.note(1, 103.5) == 3.5
    assert spent.note(2, 110.0) == 0, "what came before the next turn's first look is nobody's"
    assert spent.note(2, 111.0) == 1
    assert spent.note(2, 101.0) == 1, "a process of the tree ended and took its figure along"
    assert spent.note(2, 103.0) == 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12500000000\n", 12.5), ("usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n", 2.5), ("", 0.0),
     ("user_usec 1\n", 0.0), ("usage_usec\n", 0.0)],
)  # fmt: skip
def test_cpu_time_is_read_from_either_version_of_control_groups(text: str, seconds: float) -> None:
    assert counted_cpu_seconds(text) == seconds
