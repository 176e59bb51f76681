"""What of Debian's tests want and the machine has not: programs, and whole systems, fetched as packages and
unpacked below `.cache/debian`, without installing anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
from typing import Final

from tests.gateways import ROOT
from tests.once import one_at_a_time
from tests.patience import crowding

PLACE: Final = ROOT / ".cache" / "debian"
FETCH_SECONDS: Final = 180
SOURCES: Final = pathlib.Path("/etc/apt")


def program(name: str, *, package: str) -> str | None:
    """A program of the machine, or unpacked from its package; None where neither can be had."""
    if (found := shutil.which(name)) is not None:
        return found
    unpacked = together(package, package)
    if unpacked is None:
        return None
    found_there = (path for place in ("usr/*bin", "*bin") for path in unpacked.glob(f"{place}/{name}"))
    return next(map(str, found_there), None)


def together(name: str, *packages: str) -> pathlib.Path | None:
    """Packages unpacked into one tree, which is kept under this name; None where they cannot be had."""
    unpacked = PLACE / name
    with one_at_a_time(PLACE / f"{name}.lock"):
        if unpacked.exists() or _fetched(packages, unpacked):
            return unpacked
    return None


def system(*packages: str) -> pathlib.Path | None:
    """A small Debian of the machine's release with these packages, to be read only; None where it cannot be
    had, and for who is not root.
    """
    made = PLACE / f"system-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    with one_at_a_time(made.with_suffix(".lock")):
        if made.exists() or _bootstrapped(packages, made):
            return made
    return None


def _bootstrapped(packages: tuple[str, ...], made: pathlib.Path) -> bool:
    maker, release, sources = together("mmdebstrap", "mmdebstrap"), _release(), _sources()
    if maker is None or not release or not sources or os.geteuid() != 0:
        return False
    incoming = made.with_suffix(".incoming")
    PLACE.chmod(0o700)  # its set-user-id programs are nobody's to run
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        _run(
            *("perl", str(maker / "usr" / "bin" / "mmdebstrap"), "--quiet", "--mode=root"),
            *("--variant=minbase", f"--include={','.join(packages)}", release, str(incoming), *sources),
            cwd=PLACE,
        )
        incoming.rename(made)
    except (subprocess.SubprocessError, OSError):
        shutil.rmtree(incoming, ignore_errors=True)
        return False
    return True


def _release() -> str:
    """Debian's name of the machine's release; empty where it is no Debian."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        return ""
    return about.get("VERSION_CODENAME", "") if about["ID"] == "debian" else ""


def _sources() -> list[str]:
    """The files that tell this machine's apt where the release is."""
    names = re.compile(rf"(^|\s){re.escape(_release())}(\s|$)", re.MULTILINE)
    files = [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]
    return [str(file) for file in files if file.is_file() and names.search(file.read_text())]


def _fetched(packages: tuple[str, ...], unpacked: pathlib.Path) -> bool:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    incoming = PLACE / f"{unpacked.name}.incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    try:
        _download(packages, incoming)
        for file in incoming.glob("*.deb"):
            _run("dpkg-deb", "-x", file.name, "files", cwd=incoming)
        (incoming / "files").rename(unpacked)
    except (subprocess.SubprocessError, OSError):
        return False
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return True


def _download(packages: tuple[str, ...], incoming: pathlib.Path) -> None:
    """By the machine's own lists of packages; where it has none, or old ones, by lists of the tests' own."""
    own = [f"-oDir::State::Lists={PLACE / 'lists'}", f"-oDir::Cache={PLACE / 'apt'}"]
    try:
        _run("apt-get", "download", "-qq", *packages, cwd=incoming)
    except subprocess.CalledProcessError:
        for made in ("lists/partial", "apt/archives/partial"):
            (PLACE / made).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(subprocess.CalledProcessError):  # a source that cannot be reached
            _run("apt-get", "update", "-qq", *own, cwd=incoming)
        _run("apt-get", "download", "-qq", *own, *packages, cwd=incoming)


def _run(*command: str, cwd: pathlib.Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=FETCH_SECONDS * crowding())
