"""Programs that tests of deploy/ run: the tests' own, the machine's, Debian's, or taken out of PyPI's."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from typing import Final

import pytest

from tests.debian import program
from tests.deploy.helm import helm
from tests.gateways import ROOT

DEPLOY: Final = ROOT / "deploy"
_PACKAGES: Final = {"caddy": "caddy", "nginx": "nginx", "promtool": "prometheus"}


def tool(name: str) -> str:
    """The path of a program; a test that needs one that cannot be had is skipped, and says so."""
    own = pathlib.Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None and name in _PACKAGES:
        found = program(name, package=_PACKAGES[name])
    if found is None and name == "helm":
        found = helm()
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is missing and cannot be fetched")
    return found


def run(*command: str | pathlib.Path, cwd: pathlib.Path | None = None, seconds: float = 60) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}"
    return done.stdout
