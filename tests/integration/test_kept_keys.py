"""`serve --agent claude` asks for the key once, on a terminal, and keeps it outside the agent."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import sys

import pytest

from gateway.cli.kept_keys import DIRECTORY
from gateway.cli.options import configured
from gateway.config.known_agents import KNOWN_AGENTS
from tests.gateways import ROOT
from tests.patience import within

KEY = "sk-ant-canary-0123456789"
BOUND_SECONDS = 30


def options(data: pathlib.Path, *agents: str, variables: tuple[str, ...] = ()) -> argparse.Namespace:
    return argparse.Namespace(config=None, data_dir=str(data), agent=list(agents), agent_env=list(variables))


@pytest.fixture(autouse=True)
def _without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in KNOWN_AGENTS.values():
        for name in known.variables:
            monkeypatch.delenv(name, raising=False)


async def served_at_a_terminal(data: pathlib.Path, *, typed: bytes) -> tuple[str, bool]:
    """What a terminal shows of `serve --agent claude` until it listens; whether it asked."""
    near, far = os.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--port", "0", "--data-dir", str(data)),
        *("--agent", "claude"),
        cwd=ROOT,
        env=environ,
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    )
    os.close(far)
    shown, asked = "", False
    try:
        async with within(BOUND_SECONDS):
            with contextlib.suppress(OSError):
                while "http://127.0.0.1:" not in shown:
                    shown += (await asyncio.to_thread(os.read, near, 65536)).decode()
                    if "API key for Claude" in shown and not asked:
                        asked = True
                        os.write(near, typed + b"\n")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        reading = asyncio.create_task(asyncio.to_thread(_drained, near))
        await process.wait()
        await reading
        os.close(near)
    return shown, asked


def _drained(near: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(near, 65536):
            pass


async def test_the_key_is_asked_for_once_and_kept_for_its_owner_alone(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    shown, asked = await served_at_a_terminal(data, typed=KEY.encode())
    file = data / DIRECTORY / "anthropic"
    assert asked, shown
    assert str(file) in shown
    assert KEY not in shown
    assert file.read_text().strip() == KEY
    assert file.stat().st_mode & 0o777 == 0o600
    config = configured(options(data, "claude"))
    assert config.agents["claude"].provider == "anthropic"
    assert config.agents["claude"].pass_env == ()
    assert (config.providers["anthropic"].key, config.default_agent) == (KEY, "claude")
    shown, asked = await served_at_a_terminal(data, typed=b"")
    assert not asked, shown


def test_without_a_kept_key_and_with_a_variable_it_is_as_before(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(options(tmp_path, "claude"))
    assert (config.agents["claude"].provider, config.providers) == ("", {})
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "anthropic").write_text(KEY)
    assert configured(options(tmp_path, "claude")).agents["claude"].provider == "anthropic"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "mine")
    assert configured(options(tmp_path, "claude")).agents["claude"].provider == ""
    passed = configured(options(tmp_path, "claude", variables=("ANTHROPIC_API_KEY",)))
    assert "ANTHROPIC_API_KEY" in passed.agents["claude"].pass_env
    assert configured(options(tmp_path, "opencode")).agents["opencode"].provider == ""
