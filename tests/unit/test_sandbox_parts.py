"""The walls' small parts: what a command is granted, what the filter says, which profile is chosen."""

from __future__ import annotations

import pathlib
import struct

import msgspec
import pytest

from gateway.agents import grants
from gateway.agents.catalogue import AgentCatalogue
from gateway.config.file import ConfigError, load
from gateway.config.limits import PRESETS
from gateway.config.tables import WorkersConfig
from gateway.workers import trees, watchdog
from gateway.workers.spawner import why_ended
from gateway.workers.walls import WalledSpawner, WallsMissing, candidates
from worker.sandbox import seccomp
from worker.spec import EndCause, Exit, Limits, Network, Profile


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


def test_toolchains_of_the_path_are_granted_and_nothing_beside_them(tmp_path: pathlib.Path) -> None:
    for name, also in (("node", ()), ("go", ("src", "pkg"))):
        installed(tmp_path / name).rename(tmp_path / name / "bin" / name)
        for folder in also:
            (tmp_path / name / folder).mkdir()
    installed(tmp_path / "other")  # no toolchain
    granted = grants.of_toolchains(":".join(str(tmp_path / name / "bin") for name in ("node", "go", "other")))
    expected = ("node/bin", "node/lib", "go/bin", "go/lib", "go/src", "go/pkg")
    assert set(granted) == {str(tmp_path / path) for path in expected}


def test_an_agent_reads_toolchains_unless_the_operator_says_no(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "node").rename(tmp_path / "node" / "bin" / "node")
    monkeypatch.setenv("PATH", f"{tmp_path}/node/bin:/usr/bin:/bin")
    file = tmp_path / "gateway.toml"
    file.write_text("[agents.a]\ncommand = 'cat'\n[agents.b]\ncommand = 'cat'\ntoolchains = false\n")
    catalogue = AgentCatalogue(load(file))
    tools = str(tmp_path / "node" / "bin")
    assert tools in catalogue.get("a").walls().readable
    assert tools not in catalogue.get("b").walls().readable


def test_limits_come_from_the_preset_the_workers_and_the_agent_in_this_order(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[workers]\nprocesses = 300\n[agents.chat]\ncommand = 'cat'\n[agents.claude]\npreset = 'claude'\n"
        "[agents.build]\ncommand = 'cat'\nlimits_preset = 'coding'\n[agents.build.limits]\nfiles = 70000\n"
    )
    catalogue = AgentCatalogue(load(file))
    limits = {name: catalogue.get(name).limits for name in ("chat", "claude", "build")}
    assert limits["chat"] == msgspec.structs.replace(Limits(), processes=300)
    assert limits["claude"] == msgspec.structs.replace(PRESETS["coding"], processes=300)
    assert limits["build"] == msgspec.structs.replace(PRESETS["coding"], processes=300, files=70_000)


def test_the_words_of_a_limit_name_it_and_who_can_raise_it() -> None:
    def words(cause: EndCause) -> str:
        found = why_ended(Exit(cause=cause), Limits(), lambda setting: f"Raise {setting}.")
        assert found is not None
        return found[1]

    assert words("files").endswith("more than the 50,000 files it may, and the agent was ended. Raise files.")
    assert words("apparent").endswith("Raise disk_bytes.")
    assert "Raise" not in words("machine_memory")


def test_many_files_are_counted_up_to_their_limit(tmp_path: pathlib.Path) -> None:
    for number in range(30):
        (tmp_path / str(number)).touch()
    assert watchdog.measure(str(tmp_path), files=30).files == 30
    assert watchdog.measure(str(tmp_path), files=0).files == 30
    with pytest.raises(trees.TooMany):
        watchdog.measure(str(tmp_path), files=29)
