"""`doctor --sizing` measures real workers and adds up what it says."""

from __future__ import annotations

import pathlib
import re
import sys

from tests.gateways import SCENARIOS
from tests.integration.test_command_line import typed


async def test_it_measures_every_agent_hot_and_parked_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'[agents.scripted]\ncommand = "{sys.executable} -I -m worker.scripted {SCENARIOS}/echoes.json"\n'
        '[agents.gone]\ncommand = "no-such-agent"\n'
    )
    data = tmp_path / "data"
    code, out, err = await typed(
        *("doctor", "--sizing", "--gigabytes", "2"),
        *("--data-dir", str(data), "--config", str(tmp_path / "config.toml")),
    )
    assert code == 0, err
    assert "gone                     no-such-agent is not installed" in out
    base = float(re.findall(r"itself uses (\d+) MB", out)[0]) * 1e6
    each, held = re.findall(r"built-in +([\d.]+) +([\d,]+)", out)[0]
    expected = (2e9 * 0.8 - base) / (float(each) * 1e6)
    assert abs(int(held.replace(",", "")) - expected) < expected * 0.05
    assert re.search(r"scripted +[\d.]+ +[\d,]+", out)
    parked = re.findall(r"parked, any agent +([\d.]+) +([\d,]+)", out)[0]
    assert float(parked[0]) < float(each)
    assert not data.exists(), "it measures beside the data, not in it"
