"""What an operator is told about lists of hosts: warnings of a configuration, and one host looked at."""

from __future__ import annotations

import contextlib
import pathlib
import socket

import pytest

from gateway.agents.catalogue import AgentCatalogue
from gateway.cli.doctor import _networks
from gateway.cli.main import main
from gateway.config.egress_warnings import warnings
from gateway.config.file import load
from gateway.config.tables import Config
from gateway.egress.approvals import Approval, Approvals

TEXT = """
[egress]
hosts = ["packages.example", "localhost:9"]
denied = ["bad.example"]
private_hosts = ["localhost"]
[tenants.acme]
hosts = ["api.acme.example:8443"]
[agents.coder]
command = "true"
network = "broker"
hosts = ["docs.example"]
"""


def configured(directory: pathlib.Path, text: str) -> Config:
    (directory / "config.toml").write_text(text)
    return load(directory / "config.toml", environ={})


def warned(directory: pathlib.Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    return warnings(configured(directory, text), environ or {})


PORTS = [f"a.example:{port}" for port in range(1, 10)]
BROKER = '[agents.a]\ncommand = "a"\nnetwork = "broker"\n'


def test_a_configuration_without_doubts_is_not_warned_of(tmp_path: pathlib.Path) -> None:
    assert warned(tmp_path, TEXT) == []
    assert warned(tmp_path, "") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[egress]\nhosts = ["*.example.com"]', "egress.hosts: '*.example.com' is every host"),
        ('[tenants.t]\nhosts = ["*.example.com:22"]', "tenants.t.hosts"),
        (f'{BROKER}hosts = ["*.example.com"]', "agents.a.hosts"),
        (
            '[agents.a]\ncommand = "a"\nnetwork = "shared"\nhosts = ["a.example"]',
            "agents.a.hosts: has no effect",
        ),
        (
            '[agents.a]\ncommand = "a"\nenv = { A_KEY = "x" }\nhosts = ["a.example"]',
            "agents.a.hosts: has no effect, as the network of this agent is 'shared'",
        ),
        (
            f"{BROKER}hosts = {PORTS[:5]}\n[tenants.t]\nhosts = {PORTS[4:]}",
            "agents.a.hosts: its lists name 9 ports",
        ),
        (f'[workers]\nsandbox = "basic"\n{BROKER}', "agents.a.network: 'broker' needs strict walls"),
        (
            f'{BROKER}pass_env = ["SOME_API_KEY", "LANG", "UNSET_TOKEN"]',
            "agents.a.pass_env: SOME_API_KEY looks",
        ),
    ],
)
def test_what_is_perhaps_not_meant_is_said(tmp_path: pathlib.Path, text: str, words: str) -> None:
    found = warned(tmp_path, text, {"SOME_API_KEY": "x", "LANG": "C"})
    assert len(found) == 1
    assert found[0].startswith(words)


def test_a_secret_in_a_file_and_a_socket_that_may_be_written_are_said(tmp_path: pathlib.Path) -> None:
    secret, shared = tmp_path / "secret", tmp_path / "shared"
    secret.write_text("x")
    shared.mkdir()
    text = f'{BROKER}env_files = {{ A_TOKEN = "{secret}" }}\nwritable = ["{shared}"]\n'
    assert [line.partition(":")[0] for line in warned(tmp_path, text)] == ["agents.a.env_files"]
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        with contextlib.chdir(shared):
            listening.bind("it.sock")
        found = warned(tmp_path, text)
    assert [line.partition(":")[0] for line in found] == ["agents.a.env_files", "agents.a.writable"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("packages.example",), 1, 'allowed: packages.example:443 by egress.hosts: "packages.example"'),
        (("localhost:9",), 0, "it leads to"),
        (("DOCS.example.:80",), 1, 'by agents.coder.hosts: "docs.example"'),
        (("bad.example:22",), 1, 'denied: bad.example:22 by egress.denied: "bad.example"'),
        (("api.acme.example:8443",), 1, "refused: api.acme.example:8443 is on no list"),
        (
            ("--tenant", "acme", "api.acme.example:8443"),
            1,
            "allowed: api.acme.example:8443 by tenants.acme.hosts",
        ),
        (("kept.example:22",), 1, "approved by an operator"),
        (("evil.example",), 1, 'to allow it: hosts = ["evil.example"] in [agents.coder] or [egress]'),
        (("10.0.0.1",), 1, "an address, and lists name hosts"),
        (("a..b",), 1, "no host"),
        (("packages.example:0",), 1, "no host"),
        (("--tenant", "nobody", "packages.example"), 2, "there is no tenant 'nobody'"),
        (("--agent", "nobody", "packages.example"), 2, "there is no agent 'nobody'"),
        (("--agent", "built-in", "packages.example"), 1, "note: the network of built-in is 'none'"),
    ],
)
def test_a_host_is_looked_at(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    def resolve(host: str, *_: object, **__: object) -> list[object]:
        if host != "localhost":
            raise OSError
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    configured(tmp_path, TEXT)
    Approvals(tmp_path).add(Approval(tenant="default", agent="coder", host="kept.example:22", by="o", at=""))
    common = ("--config", str(tmp_path / "config.toml"), "--data-dir", str(tmp_path))
    if "--agent" not in arguments:
        arguments = ("--agent", "coder", *arguments)
    assert main(["egress", "check", *common, *arguments]) == code
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_the_check_of_a_configuration_counts_its_warnings(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(tmp_path, TEXT + '[tenants.t]\nhosts = ["*.example.com"]\n')
    assert main(["config", "check", "--config", str(tmp_path / "config.toml")]) == 0
    said = capsys.readouterr()
    assert "no mistakes; warnings: 1" in said.out
    assert "warning: tenants.t.hosts" in said.err


def test_the_doctor_says_what_holds_each_network(tmp_path: pathlib.Path) -> None:
    text = TEXT + '[agents.open]\ncommand = "true"\nenv = { A_KEY = "x" }\n'
    agents = AgentCatalogue(configured(tmp_path, text), holds_broker=True)
    advice = next(iter(agents.advice()))
    held = {words: is_well for is_well, words in _networks(agents, "")}
    assert held == {
        "network none, from which no host is reached: built-in": True,
        "network broker: coder reach the hosts of their lists, through the gateway": True,
        "network shared: open reach whatever this machine reaches; no list holds": True,
        f"note: {advice}": True,
    }
    lacking = _networks(agents, "strict walls hold it, not basic")
    assert (False, "network broker: coder will not start: strict walls hold it, not basic") in lacking


def test_hosts_that_operators_allowed_are_listed_and_taken_back(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(tmp_path, TEXT)
    common = ("--config", str(tmp_path / "config.toml"), "--data-dir", str(tmp_path))
    for agent in ("coder", "other"):
        approvals = Approvals(tmp_path)
        approvals.read()
        approvals.add(Approval(tenant="acme", agent=agent, host="kept.example:22", by="acme/op", at="now"))
    assert main(["egress", "ls", *common]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in listed[1:]] == [
        ["kept.example:22", agent, "acme", "now", "acme/op"] for agent in ("coder", "other")
    ]
    rm = ["egress", "rm", *common, "--agent", "coder", "--tenant", "acme"]
    assert main([*rm, "other.example"]) == 1
    assert main([*rm, "10.0.0.1"]) == 1
    assert main([*rm, "Kept.Example:22"]) == 0
    assert main([*rm, "kept.example:22"]) == 1
    approvals = Approvals(tmp_path)
    approvals.read()
    assert [one.agent for one in approvals.all()] == ["other"]
