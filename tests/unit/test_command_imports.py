"""What a command, or a program that uses the package, loads: no more than it needs."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Final

import pytest

import gateway
from gateway.cli.main import COMMANDS
from tests.patience import crowding

SERVER: Final = {"starlette", "uvicorn", "mcp", "psutil", "jwt", "prometheus_client", "sqlite3"}
CLIENT: Final = {"aiohttp", "asyncio"}


def loaded(*arguments: str, code: int = 0) -> set[str]:
    """The top names of everything that an interpreter imports with these arguments."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        timeout=60 * crowding(),
    )
    assert ran.returncode == code, ran.stderr[-2000:]
    lines = (line for line in ran.stderr.split("\n") if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_what_needs_no_command_loads_none(arguments: list[str]) -> None:
    assert not loaded("-m", "gateway", *arguments) & (SERVER | CLIENT | {"msgspec"})


def test_the_package_is_light_until_a_name_is_asked_for() -> None:
    assert not loaded("-c", "import gateway; gateway.VERSION") & (SERVER | CLIENT | {"msgspec"})
    assert not loaded("-c", "from gateway import Config; Config()") & (SERVER | CLIENT)
    assert not loaded("-c", "from gateway import GatewayClient") & SERVER


@pytest.mark.parametrize("command", ["keys", "sessions", "tenants", "drain"])
def test_what_asks_a_running_gateway_loads_no_server(command: str) -> None:
    assert not loaded("-m", "gateway", command, "--help") & SERVER


def test_making_a_key_loads_no_server(tmp_path: pathlib.Path) -> None:
    """Nothing runs there, and nothing is stored: it ends before it would need a gateway of its own."""
    arguments = ("keys", "create", "x", "--data-dir", str(tmp_path))
    assert not loaded("-m", "gateway", *arguments, code=1) & SERVER


def test_the_server_loads_only_what_every_gateway_needs() -> None:
    found = loaded("-c", "import gateway.cli.serve")
    assert {"starlette", "uvicorn", "sqlite3"} <= found
    assert not found & {"aiohttp", "cryptography", "jwt", "yarl", "mcp", "argon2", "opentelemetry"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_it_is_used(command: str) -> None:
    ran = subprocess.run([sys.executable, "-m", "gateway", command, "--help"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"usage: agent-gateway {command} ")


def test_the_public_names_are_there() -> None:
    assert set(gateway.__all__) <= set(dir(gateway))
    for name in gateway.__all__:
        assert getattr(gateway, name) is not None
    assert gateway.__version__ == gateway.VERSION
    with pytest.raises(AttributeError, match="no_such_name"):
        gateway.no_such_name  # noqa: B018
