"""Whose limit holds where two have one."""

from __future__ import annotations

import msgspec
import pytest

from worker.spec import Limits


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
