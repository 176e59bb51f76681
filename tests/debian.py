"""Programs of Debian's that tests want and the machine has not: fetched as packages and unpacked below
`.cache/debian`, without root and without installing anything.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Final

from tests.gateways import ROOT

PLACE: Final = ROOT / ".cache" / "debian"
FETCH_SECONDS: Final = 180


def program(name: str, *, package: str) -> str | None:
    """A program of the machine, or unpacked from its package; None where neither can be had."""
    if (found := shutil.which(name)) is not None:
        return found
    unpacked = PLACE / package
    if not unpacked.exists() and not _fetched(package, unpacked):
        return None
    return next((str(path) for path in unpacked.glob(f"usr/*bin/{name}")), None)


def _fetched(package: str, unpacked: pathlib.Path) -> bool:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    incoming = PLACE / f"{package}.incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    try:
        _run("apt-get", "download", "-qq", package, cwd=incoming)
        [file] = incoming.glob("*.deb")
        _run("dpkg-deb", "-x", file.name, "files", cwd=incoming)
        (incoming / "files").rename(unpacked)
    except (subprocess.SubprocessError, OSError, ValueError):
        return False
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return True


def _run(*command: str, cwd: pathlib.Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=FETCH_SECONDS)
