"""Which addresses the gateway may call on somebody's behalf, in every spelling."""

from __future__ import annotations

import pathlib

import pytest

from gateway.config.file import ConfigError, load
from gateway.config.hosts import (
    PrivateHost,
    is_local_name,
    is_named,
    line_to_add,
    plain_host,
    private_host,
    reach,
)

PUBLIC = (
    *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1"),
    *("198.17.255.255", "198.20.0.1", "223.255.255.255", "11.0.0.1", "2606:4700::1111", "2a00:1450::1"),
    *("2001:200::1", "2620:4f:8000::1", "::ffff:8.8.8.8", "64:ff9b::808:808"),
)
PRIVATE = (
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.1.1", "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.0.1"),
    *("198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "100::1", "4000::1"),
    *("2001:db8::1", "3fff::1", "2001:1::1", "2001:10::1", "2001:20::1"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::7f00:1", "::ffff:0:7f00:1"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "64:ff9b:1::a00:1"),
    *("2002:7f00:1::", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7", "2a00::5efe:10.0.0.1"),
)
NEVER = (
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "0.0.0.0", "0.1.2.3", "255.255.255.255"),  # noqa: S104
    *("240.0.0.1", "224.0.0.1", "239.255.255.250", "::", "ff02::1", "ff0e::1"),
    *("::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe"),
    *("2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001:0:808:808::5601:5601", "2a00::5efe:169.254.169.254"),
    *("nonsense", "", "1.2.3", "::g"),
)


@pytest.mark.parametrize(
    ("address", "where"),
    [
        *((address, "public") for address in PUBLIC),
        *((address, "private") for address in PRIVATE),
        *((address, "never") for address in NEVER),
    ],
)
def test_every_family_of_addresses_leads_where_it_leads(address: str, where: str) -> None:
    assert reach(address) == where


@pytest.mark.parametrize(
    "spelling",
    ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "017700000001", "127.0.0.1."],
)
def test_an_ipv4_address_has_one_plain_spelling(spelling: str) -> None:
    assert plain_host(spelling) == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "plain"),
    [("LOCALHOST", "localhost"), ("Example.COM.", "example.com"), ("[::1]", "::1"), ("0:0::1", "::1"),
     ("dead.beef", "dead.beef"), ("cafe", "cafe"), ("1.2.3.4.5", "1.2.3.4.5")],
)  # fmt: skip
def test_a_host_is_compared_in_its_plain_form(host: str, plain: str) -> None:
    assert plain_host(host) == plain


@pytest.mark.parametrize(
    ("text", "entry"),
    [("localhost", PrivateHost("localhost")), ("localhost:8931", PrivateHost("localhost", 8931)),
     ("10.0.0.7", PrivateHost("10.0.0.7")), ("10.0.0.7:80", PrivateHost("10.0.0.7", 80)),
     ("::1", PrivateHost("::1")), ("[::1]:80", PrivateHost("::1", 80)), ("[::1]", PrivateHost("::1")),
     ("Git.Corp.example.", PrivateHost("git.corp.example")), ("0x7f.1", PrivateHost("127.0.0.1"))],
)  # fmt: skip
def test_a_private_host_is_a_host_and_perhaps_a_port(text: str, entry: PrivateHost) -> None:
    assert private_host(text) == entry


NO_HOSTS = (
    "",
    "http://localhost",
    "localhost/mcp",
    "a b",
    "u@h",
    "localhost:0x1",
    "localhost:99999",
    "*.corp",
    "bücher",
    "a:b:c",
    "-",
)


@pytest.mark.parametrize("text", NO_HOSTS)
def test_what_is_no_host_is_a_mistake_of_the_configuration(text: str, tmp_path: pathlib.Path) -> None:
    assert private_host(text) is None
    file = tmp_path / "config.toml"
    file.write_text(f"[egress]\nprivate_hosts = [{text!r}]\n")
    with pytest.raises(ConfigError, match=r"egress\.private_hosts: .* is no host; write"):
        load(file, environ={})


def test_a_named_host_is_that_host_at_that_port_and_no_other() -> None:
    entries = ("localhost:8931", "tools.corp.example")
    assert is_named("localhost", 8931, entries)
    assert not is_named("localhost", 8080, entries)
    assert not is_named("127.0.0.1", 8931, entries)
    assert is_named("tools.corp.example", 1, entries)
    assert not is_named("evil.tools.corp.example", 1, entries)
    assert not is_named("tools.corp.example.evil", 1, entries)


def test_the_line_to_add_is_one_that_works(tmp_path: pathlib.Path) -> None:
    table, _, setting = line_to_add("localhost").partition(" ")
    (tmp_path / "config.toml").write_text(f"{table}\n{setting}\n")
    assert load(tmp_path / "config.toml", environ={}).egress.private_hosts == ("localhost",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("localhost", True), ("a.localhost", True), ("printer.local", True), ("metadata.google.internal", True),
     ("router.home.arpa", True), ("local.example", False), ("notlocalhost", False), ("internal.com", False)],
)  # fmt: skip
def test_names_that_lead_to_neighbours_only(name: str, expected: bool) -> None:
    assert is_local_name(name) is expected
