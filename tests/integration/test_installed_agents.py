"""Agents as people install them: into a project, by a version manager, beside their interpreter; each starts
behind the walls, and one that still cannot be read says what to name.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from gateway.agents.catalogue import Agent
from tests.gateways import running_gateway
from tests.trees import own
from tests.walls import USERS, User, yard
from worker.spec import Profile

READS_ITS_MODULE = """#!/bin/sh
read -r said < "$(dirname "$(readlink -f "$1")")/module.txt" && echo "$said"
"""
"""An interpreter: it says what lies beside the script that it runs."""


def file(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def package(folder: pathlib.Path) -> pathlib.Path:
    file(folder / "module.txt", "it works\n")
    return file(folder / "cli.js", "#!/usr/bin/env interpreter\n")


def link(at: pathlib.Path, to: str) -> str:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)
    return str(at)


def in_a_project(root: pathlib.Path) -> tuple[str, str]:
    package(root / "project" / "node_modules" / "package")
    file(root / "elsewhere" / "bin" / "interpreter", READS_ITS_MODULE)
    agent = link(root / "project" / "node_modules" / ".bin" / "agent", "../package/cli.js")
    return agent, f"/usr/bin:/bin:{root}/elsewhere/bin"


def by_a_version_manager(root: pathlib.Path) -> tuple[str, str]:
    package(root / "versions" / "v22" / "lib" / "node_modules" / "package")
    file(root / "versions" / "v22" / "bin" / "interpreter", READS_ITS_MODULE)
    agent = root / "versions" / "v22" / "bin" / "agent"
    return link(agent, "../lib/node_modules/package/cli.js"), "/usr/bin:/bin"


def by_a_link_from_elsewhere(root: pathlib.Path) -> tuple[str, str]:
    agent, path = by_a_version_manager(root)
    return link(root / "links" / "agent", agent), path


def beside_its_interpreter(root: pathlib.Path) -> tuple[str, str]:
    file(root / "own" / "bin" / "module.txt", "it works\n")
    file(root / "own" / "bin" / "interpreter", READS_ITS_MODULE)
    return str(file(root / "own" / "bin" / "agent", "#!/usr/bin/env interpreter\n")), "/usr/bin:/bin"


def by_a_shim(root: pathlib.Path) -> tuple[str, str]:
    manager = root / "manager"
    file(manager / "version", "1\n")
    file(manager / "versions" / "1" / "bin" / "agent", "#!/bin/sh\necho it works\n")
    finding = f'read -r v < {manager}/version; exec {manager}/versions/$v/bin/"$1"'
    file(manager / "libexec" / "find", f"#!/bin/sh\n{finding}\n")
    return str(
        file(manager / "shims" / "agent", f"#!/bin/sh\nexec {manager}/libexec/find agent\n")
    ), "/usr/bin"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("profile", ["basic", "strict"])
async def test_an_agent_starts_however_it_was_installed(profile: Profile, user: User) -> None:
    ways: list[Callable[[pathlib.Path], tuple[str, str]]] = [
        in_a_project,
        by_a_version_manager,
        by_a_link_from_elsewhere,
        beside_its_interpreter,
        by_a_shim,
    ]
    async with yard(profile, user=user) as here:
        for way in ways:
            root = here.root / way.__name__
            command, path = way(root)
            file(root / "private.txt", "nobody's business")
            agent = Agent(name="a", title="", argv=(command,), env={"PATH": path}, is_built_in=False)
            said = await here.run(command, env=agent.environment({}), sandbox=agent.walls())
            assert said.strip() == "it works", (way.__name__, said)
            said = await here.run("/bin/cat", f"{root}/private.txt", sandbox=agent.walls())
            assert "business" not in said, way.__name__


async def test_an_agent_that_its_walls_still_keep_from_starting_names_the_path_and_the_setting(
    tmp_path: pathlib.Path,
) -> None:
    for place in own(tmp_path):
        place.chmod(place.stat().st_mode | 0o055)
    hidden = file(tmp_path / "data-of-mine" / "words.txt", "x")
    reads = file(tmp_path / "reads" / "agent", f"#!/bin/sh\ncat {hidden} || exit 4\n")
    unrun = file(tmp_path / "unrun" / "agent", "#!/usr/bin/env no-such-interpreter\n")
    config = f"""
[agents.reads]
command = "{reads}"
[agents.unrun]
command = "{unrun}"
[agents.relative]
command = "{os.path.relpath(reads)}"
"""
    async with running_gateway(tmp_path, config=config) as gateway:
        said = {}
        for agent in ("reads", "unrun", "relative"):
            state = await gateway.post(
                "/api/chat?wait=240", {"message": "go", "session_id": agent, "agent": agent}
            )
            said[agent] = state["messages"][-1]["content"]
    for agent in ("reads", "relative"):
        assert f"Its walls hide {hidden}" in said[agent]
        assert f'`[agents.{agent}] readable = ["{hidden}"]`' in said[agent]
    assert "no-such-interpreter" in said["unrun"]
    assert "b'" not in "".join(said.values())


async def test_a_path_without_any_program_does_not_keep_the_gateway_from_starting(
    tmp_path: pathlib.Path,
) -> None:
    async with running_gateway(tmp_path, environ={"PATH": str(tmp_path)}) as gateway:
        state = await gateway.chat("a", "/echo up")
    assert state["messages"][-1]["content"] == "up"
