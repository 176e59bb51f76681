"""The short form of the restarts that nobody notices; the long one is `tests.torture.cluster --rolling`."""

from __future__ import annotations

import pathlib

import pytest

from tests.torture.rolling import Rolling


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_a_rolling_restart_is_noticed_by_nobody(tmp_path: pathlib.Path) -> None:
    rolling = Rolling(tmp_path, rounds=1, talkers=2, turn_seconds=3)
    await rolling.run()
    noticed = rolling.noticed
    assert not noticed.faults, "\n".join((noticed.table(), *noticed.faults))
    assert noticed.exit_codes == [0, 0, 0]
    assert noticed.turns > 2
    assert noticed.echoes > 10
