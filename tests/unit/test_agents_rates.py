"""Whose rate an agent's request counts against: bogus passes share one, so that they use up nobody else's."""

from __future__ import annotations

from typing import Any, cast

from gateway.apps.shop.store import ShopKey
from gateway.auth.passes import PREFIX, Passes
from gateway.http.guard import Guard

KEY = ShopKey("default", "default/local", "s")


def test_a_good_pass_has_a_rate_of_its_own_and_bogus_ones_share_one() -> None:
    passes = Passes()
    mine, other = passes.issue(lambda: KEY), passes.issue(lambda: KEY)
    unused: Any = None
    guard = Guard(
        cast("Any", lambda: None),
        config=unused,
        rates=unused,
        metrics=unused,
        audit=unused,
        tracer=unused,
        passes=passes,
    )

    def whose(text: str) -> str:
        return guard._agent({"type": "http", "headers": [(b"authorization", f"Bearer {text}".encode())]})

    assert whose(mine) != whose(other)
    bogus = {whose(PREFIX + "x"), whose(PREFIX + "y"), whose("agw_key"), whose("")}
    assert len(bogus) == 1
    assert not {whose(mine), whose(other)} & bogus
    passes.revoke(other)
    assert whose(other) in bogus
    assert mine not in whose(mine), "a pass is not shown where addresses are"
