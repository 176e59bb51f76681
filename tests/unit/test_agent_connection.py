"""What an agent says, where the gateway itself makes a mistake with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec import Raw

from gateway.agent import AgentConnection, WireError, _Reader
from worker import acp


class Clumsy:
    """A handler with a bug."""

    def on_updates(self, updates: Sequence[Raw]) -> None:
        raise KeyError("a bug")

    def on_request(self, message: acp.Envelope) -> bool:
        return False

    def on_notification(self, message: acp.Envelope) -> None:
        """Nothing."""


class Nobody:
    pid = stdin = stdout = -1


async def test_a_bug_with_what_an_agent_says_ends_its_connection_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = AgentConnection(cast("Any", Nobody()), Clumsy(), line_bytes=1_000)
    _Reader(connection).data_received(acp.notification("session/update", {"update": {}}))
    assert isinstance(connection.end, WireError)
    assert str(connection.end) == "What the agent said could not be handled."
    assert "a bug" in caplog.text


async def test_odd_values_are_counted_and_only_the_first_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    odd: list[str] = []
    connection = AgentConnection(cast("Any", Nobody()), Clumsy(), line_bytes=1_000, on_odd=odd.append)
    caplog.set_level("INFO")
    for _ in range(100):
        connection.feed(b'{"id":99,"error":{"code":"x","message":"no"}}\n')
    assert odd == ["error.code"] * 100
    assert caplog.text.count("error.code") == 20
