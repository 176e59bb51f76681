"""What an agent says, where the gateway itself makes a mistake with it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec import Raw

from gateway.agents.connection import AgentConnection, WireError, _Reader
from gateway.agents.spool import Intake
from tests.handlers import Unbounded
from worker import acp
from worker.foreign import OnOdd, ignored


class Clumsy(Unbounded):
    """A handler with a bug."""

    def on_updates(self, updates: Sequence[Raw]) -> None:
        raise KeyError("a bug")

    def on_request(self, message: acp.Envelope) -> bool:
        return False

    def on_notification(self, message: acp.Envelope) -> None:
        """Nothing."""


class Nobody:
    pid = stdin = stdout = -1


def connected(*, on_odd: OnOdd = ignored) -> AgentConnection:
    return AgentConnection(
        cast("Any", Nobody()),
        Clumsy(),
        line_bytes=1_000,
        spool_dir=tempfile.gettempdir(),
        intake=Intake(),
        on_odd=on_odd,
    )


async def test_a_bug_with_what_an_agent_says_ends_its_connection_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = connected()
    _Reader(connection).data_received(acp.notification("session/update", {"update": {}}))
    assert isinstance(connection.end, WireError)
    assert str(connection.end) == "What the agent said could not be handled."
    assert "a bug" in caplog.text


async def test_odd_values_are_counted_and_only_the_first_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    odd: list[str] = []
    connection = connected(on_odd=odd.append)
    caplog.set_level("INFO")
    for _ in range(100):
        connection.feed(b'{"id":99,"error":{"code":"x","message":"no"}}\n')
    assert odd == ["error.code"] * 100
    assert caplog.text.count("error.code") == 20
