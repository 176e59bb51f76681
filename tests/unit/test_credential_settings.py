"""`[credentials.NAME]`: what `config check` says of it, and which credential is for which host."""

from __future__ import annotations

import pathlib

import pytest

from gateway.config.credentials import credential_for, hosts_with_credentials, own_values
from gateway.config.egress_warnings import warnings
from gateway.config.file import ConfigError, load

GOOD = """
[credentials.forge]
hosts = ["git.example.test", "api.git.example.test:8443"]
command = "token --now"
methods = ["GET", "POST"]
paths = ["/acme/**"]
[credentials.tickets]
hosts = ["Tickets.example.test."]
per = "person"
[credentials.acme-forge]
hosts = ["git.example.test"]
per = "tenant"
[agents.coder]
command = "true"
credentials = ["forge"]
[tenants.acme]
credentials = ["tickets", "acme-forge"]
[tenants.beta]
"""


def mistakes(tmp_path: pathlib.Path, text: str) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    try:
        load(path, environ={})
    except ConfigError as error:
        return error.mistakes
    return []


def test_the_tenants_credential_goes_before_the_agents(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.toml").write_text(GOOD)
    config = load(tmp_path / "config.toml", environ={})

    def found(tenant: str, host: str, port: int = 443, agent: str = "coder") -> str:
        return credential_for(config, agent=agent, tenant=tenant, host=host, port=port)

    assert found("beta", "git.example.test") == "forge"
    assert found("acme", "git.example.test") == "acme-forge"
    assert found("acme", "api.git.example.test", 8443) == "forge"
    assert found("acme", "tickets.example.test") == "tickets"
    for tenant, host, port, agent in (
        ("beta", "tickets.example.test", 443, "coder"),
        ("acme", "api.git.example.test", 443, "coder"),
        ("beta", "sub.git.example.test", 443, "coder"),
        ("beta", "git.example.test", 443, "built-in"),
        ("nowhere", "tickets.example.test", 443, "nobody"),
    ):
        assert found(tenant, host, port, agent) == ""
    hosts = ("api.git.example.test", "git.example.test", "tickets.example.test")
    assert hosts_with_credentials(config, agent="coder", tenant="acme") == hosts
    assert hosts_with_credentials(config, agent="built-in", tenant="beta") == ()
    assert list(own_values(config, level="person")) == ["tickets"]
    assert list(own_values(config, level="tenant")) == ["acme-forge"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('command = "x"', "hosts: name the hosts"),
        ('hosts = ["*.example.test"]\ncommand = "x"', "is no host name"),
        ('hosts = ["10.0.0.7"]\ncommand = "x"', "is no host name"),
        ('hosts = ["https://a.test"]\ncommand = "x"', "is no host name"),
        ('hosts = ["a.test"]', "say where the value comes from"),
        ('hosts = ["a.test"]\ncommand = "x"\nper = "person"', "say where the value comes from"),
        ('hosts = ["a.test"]\nvalue_file = "/nowhere"', "/nowhere cannot be read"),
        ('hosts = ["a.test"]\ncommand = "x"\nca_file = "/nowhere"', "ca_file: /nowhere cannot be read"),
        ('hosts = ["a.test"]\ncommand = "\'"', "command: No closing quotation"),
        ('hosts = ["a.test"]\ncommand = "x"\nexpires_seconds = 0', "expires_seconds: must be more than 0"),
        ('hosts = ["a.test"]\ncommand = "x"\nheader = "A: b"', "is no header"),
        ('hosts = ["a.test"]\ncommand = "x"\nheader = "Transfer-Encoding"', "is no header"),
        ('hosts = ["a.test"]\ncommand = "x"\nmethods = ["get"]', "'get' cannot be allowed"),
        ('hosts = ["a.test"]\ncommand = "x"\nmethods = ["TRACE"]', "'TRACE' cannot be allowed"),
        ('hosts = ["a.test"]\ncommand = "x"\npaths = ["acme"]', "'acme' is no path"),
        ('hosts = ["a.test"]\ncommand = "x"\nper_person = true', "no such setting"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: pathlib.Path, table: str, words: str) -> None:
    found = mistakes(tmp_path, f"[credentials.c]\n{table}")
    assert any(mistake.startswith("credentials.c") and words in mistake for mistake in found), found


def test_unknown_names_overlaps_and_missing_files_are_said(tmp_path: pathlib.Path) -> None:
    text = """
    [credentials.one]
    hosts = ["a.test", "b.test"]
    command = "x"
    [credentials.two]
    hosts = ["c.test", "b.test:443"]
    command = "x"
    [agents.coder]
    command = "true"
    credentials = ["one", "two", "three"]
    [agents.cut]
    command = "true"
    network = "none"
    credentials = ["one"]
    [tenants.acme]
    credentials = ["four"]
    [tenants.acme.keys]
    nobody = "/nowhere"
    [auth]
    old_secret_files = ["/nowhere"]
    """
    assert sorted(mistakes(tmp_path, text)) == [
        "agents.coder.credentials: one and two are both for b.test:443",
        "agents.coder.credentials: there is no credential 'three'; there are: one, two",
        "agents.cut.credentials: are for hosts on the network, which this agent has none of",
        "auth.old_secret_files: /nowhere cannot be read",
        "tenants.acme.credentials: there is no credential 'four'; there are: one, two",
        "tenants.acme.keys.nobody: /nowhere cannot be read",
        "tenants.acme.keys.nobody: there is no provider 'nobody'",
    ]


def test_a_credential_without_effect_is_said(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.toml"
    network = '[agents.coder]\nnetwork = "broker"\nhosts = ["*.git.example.test"]'
    shared = GOOD.replace("[agents.coder]", '[agents.coder]\nnetwork = "shared"')
    for text, words in (
        (shared, ["agents.coder.credentials: has no effect, as the network of this agent is 'shared'"]),
        (
            GOOD.replace("[agents.coder]", network),
            [
                f"agents.coder.credentials: forge is for {place}, which is on no list of this agent; "
                "add it to its hosts"
                for place in ("git.example.test:443", "api.git.example.test:8443")
            ],
        ),
        (GOOD.replace("[agents.coder]", network.replace("*.git.example.test", "registries")), []),
    ):
        path.write_text(text)
        assert warnings(load(path, environ={}), {}) == words
