"""The small Debian that a machine for systemd and the base of the container image are made of."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import Final

import pytest

from tests.debian import system

PACKAGES: Final = ("python-is-python3", "python3-venv", "sudo", "systemd-sysv")
_NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup")


def base() -> pathlib.Path:
    """Its directory, to be read only. Skips where there is none, or where nothing could be mounted on it."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a machine and a container of the tests' own need root")
    trial = subprocess.run(
        [*_NAMESPACES, "mount", "-t", "tmpfs", "trial", "/mnt"], capture_output=True, text=True, check=False
    )
    if trial.returncode != 0:
        pytest.skip(f"NOT TESTED: this machine gives no namespaces: {trial.stderr.strip()}")
    if (made := system(*PACKAGES)) is None:
        pytest.skip("NOT TESTED: no small Debian could be made: not a Debian, or its packages cannot be had")
    return made
