"""Whose rate an agent's request counts against: bogus passes share one, so that they use up nobody else's."""

from __future__ import annotations

from typing import Any, cast

from gateway.apps.shop.store import ShopKey
from gateway.auth.passes import PREFIX, Passes
from gateway.http.guard import Guard
from gateway.models.tokens import ModelAccess, ModelTokens
from gateway.principal import Account

KEY = ShopKey("default", "default/local", "s")


def test_a_good_pass_has_a_rate_of_its_own_and_bogus_ones_share_one() -> None:
    passes = Passes()
    mine, other = passes.issue(lambda: KEY), passes.issue(lambda: KEY)
    tokens = ModelTokens()
    token = tokens.issue(ModelAccess(account=lambda: Account("o", "k"), provider="p", has_door=False))
    unused: Any = None
    guard = Guard(
        cast("Any", lambda: None),
        config=unused,
        rates=unused,
        metrics=unused,
        audit=unused,
        tracer=unused,
        passes=passes,
        tokens=tokens,
        check_place=unused,
        may_doubt=unused,
    )

    def whose(text: str, path: str = "/mcp", header: bytes = b"authorization") -> str:
        value = f"Bearer {text}" if header == b"authorization" else text
        headers = [(header, value.encode())]
        return guard._agent({"type": "http", "path": path, "query_string": b"", "headers": headers})

    assert whose(mine) != whose(other)
    bogus = {whose(PREFIX + "x"), whose(PREFIX + "y"), whose("agw_key"), whose("")}
    assert len(bogus) == 1
    assert not {whose(mine), whose(other)} & bogus
    path = "/llm/anthropic/v1/messages"
    assert whose(token, path) == whose(token, path, b"x-api-key") not in bogus
    assert whose(token) in bogus, "it is good for models alone"
    assert whose(mine, path) in bogus
    passes.revoke(other)
    assert whose(other) in bogus
    assert mine not in whose(mine), "a pass is not shown where addresses are"
