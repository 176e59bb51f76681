"""The hosts that `registries` stands for: what this machine's own tools are set to."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import subprocess
import sys

import pytest

from gateway.config.file import load
from gateway.egress.registries import RegistryHosts
from tests.patience import soon
from tests.shared import eventually

PIP_OWN = "https://index.example/\nhttps://files.example"


def entries(answers: dict[str, str]) -> tuple[str, ...]:
    hosts = RegistryHosts(lambda command: next((a for n, a in answers.items() if n in " ".join(command)), ""))
    hosts.read_now()
    return hosts.entries()


def test_tools_without_settings_have_the_registries_that_they_come_with() -> None:
    assert entries({"_internal": PIP_OWN, "config get registry": "https://npm.example/\n"})[:2] == (
        *("index.example:443", "files.example:443"),
    )


def test_mirrors_take_their_place() -> None:
    settings = (
        "global.index-url='http://mirror.example:3141/simple'\n"
        "global.extra-index-url='https://a.example/s\\nhttps://b.example/s'\n"
        ":env:.find-links='/opt/wheels'\nglobal.timeout='3'"
    )
    assert entries({"_internal": PIP_OWN, "pip config list": settings}) == (
        *("mirror.example:3141", "a.example:443", "b.example:443"),
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_gits_mirrors_count() -> None:
    found = entries(
        {
            "git config": "url.https://git.example/.insteadof https://elsewhere.example/\n"
            "url.ssh://git@git.example/.pushinsteadof x"
        }
    )
    assert found == ("git.example:443", "git.example:22")


def test_what_names_no_host_is_left_out() -> None:
    assert entries({"_internal": "file:///opt/index\nhttps://10.0.0.7/simple\nhttps://[bad\nnonsense"}) == ()


def test_nothing_is_asked_unless_a_list_names_them(tmp_path: pathlib.Path) -> None:
    path, hosts = tmp_path / "gateway.toml", RegistryHosts(lambda _command: "")
    for text, is_needed in (
        ("", False),
        ('[agents.a]\ncommand = "x"', True),
        ('[egress]\nhosts = []\n[agents.a]\ncommand = "x"', False),
        ('[egress]\nhosts = []\n[agents.a]\ncommand = "x"\nhosts = ["registries"]', True),
        ('[egress]\nhosts = []\n[agents.a]\ncommand = "x"\n[tenants.t]\nhosts = ["registries"]', True),
    ):
        path.write_text(text)
        assert hosts.is_needed(load(path, environ={})) == is_needed
        assert not hosts.is_needed(load(path, environ={}), agents=[])


def test_the_real_pip_is_understood(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no pip beside this Python")
    path = tmp_path / "pip.conf"
    path.write_text("[global]\nindex-url = https://me:secret@pip.example:8443/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    hosts = RegistryHosts()
    hosts.read_now()
    assert "pip.example:8443" in hosts.entries()


async def test_what_is_being_read_ends_when_it_is_stopped(tmp_path: pathlib.Path) -> None:
    begun, hosts = tmp_path / "begun", RegistryHosts()
    tools = hosts._tools

    async def has_begun() -> bool:
        return begun.exists()

    asked = asyncio.create_task(
        asyncio.to_thread(tools.ask, ("sh", "-c", f"touch {begun}; sleep 60; echo x"))
    )
    await eventually(has_begun)
    hosts.stop()
    assert await soon(asked, 10) == ""
    assert await asyncio.to_thread(tools.ask, ("echo", "no more")) == ""
