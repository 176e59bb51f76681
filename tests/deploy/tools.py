"""Programs that tests of deploy/ run: from PATH, from the tests' environment, or from .cache/tools, where
`deploy/fetch-tools.sh` puts Debian's.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from typing import Final

import pytest

from tests.gateways import ROOT

DEPLOY: Final = ROOT / "deploy"
_PLACES: Final = (
    pathlib.Path(sys.executable).parent,
    *(ROOT / ".cache" / "tools" / "usr" / place for place in ("bin", "sbin")),
)


def tool(name: str) -> str:
    """The path of a program; a test that needs one that cannot be had is skipped, and says so."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _PLACES)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is missing; deploy/fetch-tools.sh brings it where there is apt-get")
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
