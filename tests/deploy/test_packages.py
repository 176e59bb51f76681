"""What people install: an sdist, and the wheel made of it, into an empty environment, where it serves; and
the checkout itself, by pipx and uvx.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from gateway.version import VERSION
from tests.deploy.tools import run
from tests.gateways import ROOT
from tests.real_agents import AgentUnavailable, fill
from tests.shared import crowding

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BUILD_SECONDS = 200
INSTALLED_BYTES = 80_000_000
INSTALL_SECONDS = 60
"""It takes ten, on two cores that do nothing else."""
PIP = ("-m", "pip", "--disable-pip-version-check")
KEPT_OUT = ("AGENT_", "PIPX_", "PYTHON", "UV_", "VIRTUAL_ENV", "XDG_")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An sdist of the checkout, and the wheel that is made of it. What builds them is this environment's, and
    the checkout's packages of Node: they are installed anew for the container's image, and by pipx and uvx.
    """
    directory = tmp_path_factory.mktemp("built")
    hatch = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", directory)
    run(*hatch, cwd=ROOT, seconds=BUILD_SECONDS)
    (sdist,) = directory.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        tar.extractall(directory, filter="data")
    (unpacked,) = directory.glob("*/")
    (unpacked / "frontend" / "node_modules").symlink_to(ROOT / "frontend" / "node_modules")
    wheel = ("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", directory, unpacked)
    run(sys.executable, *PIP, *wheel, seconds=BUILD_SECONDS)
    return directory


def test_the_wheel_has_the_page_the_schema_and_nothing_of_the_tests(built: pathlib.Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith(f"agent_gateway-{VERSION}-")
    assert any(name.endswith("index.html") for name in names)
    assert "gateway/stores/sqlite/migrations/0001_initial.sql" in names
    assert "gateway/apps/shop/migrations/0003_shop.sql" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "frontend/node_modules"))]


def test_the_sdist_builds_without_git_and_carries_no_leftovers(built: pathlib.Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = tar.getnames()
    assert not [name for name in names if re.search(r"node_modules|\.venv|\.cache|/\.git/|__pycache__", name)]


def test_a_wheel_in_an_empty_environment_serves_its_page(built: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (wheel,) = built.glob("*.whl")
    program = _empty(tmp_path / "empty")
    fill(program.parent, str(wheel))
    _serves(program, tmp_path)


def test_the_wheel_and_the_lock_are_enough_and_small(built: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As `make dist` says to install it; nothing of Node is on the path."""
    (wheel,) = built.glob("*.whl")
    program = _empty(tmp_path / "locked")
    before, began = _bytes_below(tmp_path / "locked"), time.monotonic()
    install = (*_pip_of(program), "install", "-q", "--no-compile", "--no-deps")
    lock = ("--require-hashes", "-r", ROOT / "requirements.txt")
    run(*install, *lock, seconds=BUILD_SECONDS)
    run(*install, wheel, seconds=BUILD_SECONDS)
    installed, size = time.monotonic() - began, _bytes_below(tmp_path / "locked") - before
    run(*_pip_of(program), "check")
    began = time.monotonic()
    _serves(program, tmp_path, path="/usr/bin:/bin")
    print(  # noqa: T201
        f"\ninstalled in {installed:.1f} s, {size / 1e6:.0f} MB; served, asked and ended in"
        f" {time.monotonic() - began:.1f} s"
    )
    assert size < INSTALLED_BYTES
    assert installed < INSTALL_SECONDS * crowding()


def _empty(directory: pathlib.Path) -> pathlib.Path:
    """The programs of a new environment, which this one's pip fills: making another takes seconds."""
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    return directory / "bin"


def _pip_of(program: pathlib.Path) -> tuple[str | pathlib.Path, ...]:
    return (sys.executable, *PIP, "--python", program / "python")


def _bytes_below(folder: pathlib.Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def _serves(program: pathlib.Path, tmp_path: pathlib.Path, *, path: str | None = None) -> None:
    assert run(program / "agent-gateway", "--version").strip() == f"agent-gateway {VERSION}"
    gateway = subprocess.Popen(
        [program / "agent-gateway", "serve", "--port", "0", "--data-dir", tmp_path / "data"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **({"PATH": path} if path else {})},
    )
    try:
        assert gateway.stdout is not None
        url = gateway.stdout.readline().split()[-1]
        assert "<script" in run("curl", "-s", url)
        body = '{"session_id": "a", "message": "/echo installed"}'
        answer = run(
            "curl", "-s", f"{url}/api/chat?wait=240", "-H", "Content-Type: application/json", "-d", body
        )
        assert '"content":"installed"' in answer
    finally:
        gateway.terminate()
        assert gateway.wait(60 * crowding()) == 0
        if gateway.stdout is not None:
            gateway.stdout.close()


# -- the checkout -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installers(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where pipx, uv and uvx are, from PyPI."""
    program = _empty(tmp_path_factory.mktemp("installers"))
    try:
        fill(program.parent, "pipx", "uv")
    except AgentUnavailable as error:
        pytest.skip(f"NOT TESTED: pipx and uv cannot be had: {error}")
    return program


@pytest.fixture
def nobody(tmp_path: pathlib.Path) -> tuple[str, ...]:
    """Runs a command as a person who has nothing yet, with a new HOME; what pip installs is not compiled, as
    it runs once.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}
    (tmp_path / "home").mkdir()
    named = {
        "HOME": "home",
        **{f"PIPX_{name}": f"pipx/{name.lower()}" for name in ("HOME", "BIN_DIR", "MAN_DIR", "SHARED_LIBS")},
        **{f"UV_{name}": f"uv/{name.lower()}" for name in ("CACHE_DIR", "TOOL_DIR", "PYTHON_INSTALL_DIR")},
    }
    clean |= {name: str(tmp_path / place) for name, place in named.items()} | {"PIP_NO_COMPILE": "1"}
    return ("env", "-i", *(f"{name}={value}" for name, value in clean.items()))


def test_pipx_installs_the_checkout(
    installers: pathlib.Path, nobody: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    run(*nobody, installers / "pipx", "install", ".", cwd=ROOT, seconds=BUILD_SECONDS)
    program = tmp_path / "pipx" / "bin_dir" / "agent-gateway"
    assert run(*nobody, program, "--version").strip() == f"agent-gateway {VERSION}"
    assert list((tmp_path / "pipx" / "home").rglob("gateway/page/index.html")), "it has its page"


def test_uvx_runs_the_checkout(installers: pathlib.Path, nobody: tuple[str, ...]) -> None:
    words = ("--from", ".", "agent-gateway", "--version")
    said = run(*nobody, installers / "uvx", *words, cwd=ROOT, seconds=BUILD_SECONDS)
    assert said.splitlines()[-1] == f"agent-gateway {VERSION}"
