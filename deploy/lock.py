"""Writes the lock files: what is installed, to the version and the file, wherever the gateway runs.

`make lock` runs it. It keeps the versions that are locked and adds those that are missing; with
ARGS=--upgrade it takes newer ones. The files hold for Python 3.11 to 3.13 on x86-64, arm64 and every other
machine that has wheels. They name no registry: that is a setting of the machine that installs.

    requirements.txt                          what the gateway runs with
    requirements-dev.txt                      the same, and what tests, checks and builds need
    deploy/requirements-build.txt             what builds the wheel
    deploy/container/requirements-node.txt    Node, for an image that is built without one
    deploy/container/requirements-postgres.txt    the extra `postgres`, which the image has
    deploy/container/requirements-redis.txt    the extra `redis`, which the image has
    deploy/container/requirements-s3.txt      the extra `s3`, which the image has
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).parent.parent
OLDEST_PYTHON: Final = "3.11"
EDITABLE: Final = "editables>=0.5"
"""What hatchling asks for besides, where an install is to follow the checkout."""

LOCKS: Final = {
    "dev": "requirements-dev.txt",
    "run": "requirements.txt",
    "build": "deploy/requirements-build.txt",
    "node": "deploy/container/requirements-node.txt",
    "postgres": "deploy/container/requirements-postgres.txt",
    "redis": "deploy/container/requirements-redis.txt",
    "s3": "deploy/container/requirements-s3.txt",
}
HEADER: Final = "# Made by `make lock` from pyproject.toml; every file that may be installed, by its hash.\n"
KEPT_OUT: Final = ("UV_", "PIP_", "VIRTUAL_ENV")
"""Variables with which a machine points at a registry of its own."""


def wanted(root: pathlib.Path = ROOT) -> dict[str, list[str]]:
    """What each lock has to hold: its requirements as pyproject.toml and the build hook say them."""
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())
    hook = (root / "frontend" / "hatch_build.py").read_text()
    node = re.search(r'^NODE_FROM_PYPI: Final = "(.+)"$', hook, flags=re.M)
    if node is None:
        raise SystemExit("frontend/hatch_build.py names no NODE_FROM_PYPI.")
    run = project["project"]["dependencies"]
    build = [*project["build-system"]["requires"], EDITABLE]
    optional = project["project"]["optional-dependencies"]
    extras = [one for extra in optional.values() for one in extra]
    dev = [*run, *extras, *build, *project["dependency-groups"]["dev"]]
    return {"dev": dev, "run": run, "build": build, "node": [node[1]]} | {
        extra: optional[extra] for extra in ("postgres", "redis", "s3")
    }


def lock(kind: str, requirements: list[str], options: list[str]) -> None:
    """Writes one file. The development lock comes first, and the others hold the same versions."""
    target = ROOT / LOCKS[kind]
    constraint = [] if kind == "dev" else ["--constraint", str(ROOT / LOCKS["dev"])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "requirements.in"
        source.write_text("\n".join(requirements) + "\n")
        command = [
            *(sys.executable, "-m", "uv", "--no-config", "--quiet", "pip", "compile", str(source)),
            *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"),
            *("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
            *("--output-file", str(target), *constraint, *options),
        ]
        subprocess.run(command, check=True, env=environment, cwd=folder)
    text = target.read_text()
    target.write_text(HEADER + re.sub(r"^# Made by .*\n", "", text, flags=re.M))


def main(options: list[str]) -> None:
    """Writes all of them."""
    for kind, requirements in wanted().items():
        lock(kind, requirements, options)


if __name__ == "__main__":
    main(sys.argv[1:])
