"""The walls' small parts: what a command is granted, what the filter says, which profile is chosen."""

from __future__ import annotations

import pathlib
import struct

import pytest

from gateway.agents import grants
from gateway.config.file import ConfigError, load
from gateway.config.tables import WorkersConfig
from gateway.workers.walls import WalledSpawner, WallsMissing, candidates
from worker.sandbox import seccomp
from worker.spec import Network, Profile


def installed(prefix: pathlib.Path) -> pathlib.Path:
    """A program in a prefix with a library, and something beside it that is nobody's business."""
    for name in ("bin", "lib", "private"):
        (prefix / name).mkdir(parents=True)
    program = prefix / "bin" / "agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_a_command_is_granted_its_installation_and_nothing_beside_it(tmp_path: pathlib.Path) -> None:
    program = installed(tmp_path / "opt")
    granted = grants.of_command((str(program), "--flag"), "/usr/bin")
    assert granted == (str(tmp_path / "opt" / "bin"), str(tmp_path / "opt" / "lib"))


def test_a_command_is_found_on_the_search_path_and_its_links_are_followed(tmp_path: pathlib.Path) -> None:
    program = installed(tmp_path / "opt")
    (tmp_path / "local" / "bin").mkdir(parents=True)
    (tmp_path / "local" / "bin" / "agent").symlink_to(program)
    granted = grants.of_command(("agent",), str(tmp_path / "local" / "bin"))
    assert set(granted) == {str(tmp_path / path) for path in ("local/bin", "opt/bin", "opt/lib")}


def test_a_virtual_environment_brings_the_interpreter_that_it_was_made_from(tmp_path: pathlib.Path) -> None:
    program, base = installed(tmp_path / "venv"), installed(tmp_path / "base")
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {base.parent}\nversion = 3.11\n")
    granted = grants.of_command((str(program),), None)
    assert {str(tmp_path / "base" / "bin"), str(tmp_path / "venv" / "pyvenv.cfg")} <= set(granted)


def test_a_script_named_in_the_command_may_be_read_and_its_directory_not(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("")
    assert grants.of_command(("/bin/sh", str(script), str(tmp_path)), None) == (str(script),)
    assert grants.of_command((), None) == ()


def test_an_agents_own_directories_come_before_the_search_path_once(tmp_path: pathlib.Path) -> None:
    program = installed(tmp_path / "opt")
    own = f"{tmp_path}/opt/bin"
    assert grants.with_own_directories((str(program),), "/usr/bin:/bin") == f"{own}:/usr/bin:/bin"
    assert grants.with_own_directories(("agent",), f"/usr/bin:{own}") == f"/usr/bin:{own}"
    assert grants.with_own_directories(("/nowhere",), "/usr/bin") == "/usr/bin"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#!/bin/sh -e", "/bin/sh"),
        ("#!/usr/bin/env sh", "/bin/sh"),
        ("#! /usr/bin/env -S A=b sh -e", "/bin/sh"),
        ("#!/usr/bin/env nosuch", "nosuch"),
        ("#!/usr/bin/env", None),
        ("\x7fELF", None),
        ("", None),
    ],
)
def test_the_interpreter_of_a_script_is_found(tmp_path: pathlib.Path, line: str, found: str | None) -> None:
    script = tmp_path / "script"
    script.write_text(f"{line}\n")
    assert grants.interpreter(str(script), "/bin") == found


@pytest.mark.parametrize("sees_others", [False, True])
@pytest.mark.parametrize("network", ["shared", "none"])
def test_the_filter_jumps_only_forward_and_always_ends_in_an_answer(
    network: Network, sees_others: bool
) -> None:
    code = seccomp.program(network, sees_others=sees_others)
    instructions = list(struct.iter_unpack("HBBI", code))
    for place, (kind, if_true, if_false, _) in enumerate(instructions):
        if kind & 7 == 5:
            assert place + 1 + max(if_true, if_false) < len(instructions)
    assert instructions[-1][0] == 6
    assert len(instructions) < 4096


def test_a_profile_that_is_named_is_the_only_one_tried() -> None:
    assert candidates("auto") == ["strict", "basic", "none"]
    assert candidates("basic") == ["basic"]


@pytest.mark.parametrize(
    ("require", "works", "found"),
    [
        ("", {"strict", "basic", "none"}, "strict"),
        ("", {"basic", "none"}, "basic"),
        ("", {"none"}, "none"),
        ("basic", {"basic", "none"}, "basic"),
        ("basic", {"none"}, None),
        ("strict", {"basic", "none"}, None),
        ("", set(), None),
    ],
)
async def test_the_strictest_walls_that_work_are_taken_and_required_ones_insisted_upon(
    require: str, works: set[Profile], found: Profile | None, tmp_path: pathlib.Path
) -> None:
    class Trying(WalledSpawner):
        async def _try(self, profile: Profile, *, network: Network | None = None) -> str | None:
            return None if profile in works else "not here"

    spawner = Trying(WorkersConfig(require=require), directory=tmp_path)  # type: ignore[arg-type]
    if found is None:
        with pytest.raises(WallsMissing, match="not here"):
            await spawner._find_profile()
    else:
        assert await spawner._find_profile() == found
        assert all(words == "not here" for words in spawner.missing.values())


def test_mistakes_about_walls_are_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        "[workers]\nsandbox = 'none'\nrequire = 'strict'\nmemory_bytes = -1\n"
        "[agents.a]\ncommand = 'a'\nreadable = ['x']\n[agents.a.limits]\nspeed = 1\nprocesses = -2\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    said = "\n".join(caught.value.mistakes)
    for part in (
        "workers.sandbox",
        "workers.memory_bytes",
        "agents.a.readable",
        "limits.speed",
        "limits.processes",
    ):
        assert part in said
