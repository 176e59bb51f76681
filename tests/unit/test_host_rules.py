"""Entries of the lists of hosts, and what the lists say together."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.file import ConfigError, load
from gateway.config.host_rules import (
    WEB_PORTS,
    HostRule,
    NoRule,
    canonical,
    host_rule,
    is_broad,
    is_numeric,
)
from gateway.config.tables import Config
from gateway.egress.rules import host_lists, narrowed

LABELS = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=5).map(".".join)
PORTS = st.integers(1, 65_535)


def configured(tmp_path: pathlib.Path, text: str) -> Config:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return load(path, environ={})


@given(NAMES)
def test_case_and_one_dot_at_the_end_make_no_difference(name: str) -> None:
    assert canonical(name) == canonical(name.upper()) == canonical(f"{name}.") == name
    assert canonical(f"{name}..") is None
    assert canonical(f".{name}") is None


@given(st.text(max_size=300))
def test_what_is_canonical_stays_so_and_is_plain_ascii(text: str) -> None:
    name = canonical(text)
    if name is not None:
        assert canonical(name) == name
        assert name.isascii()
        assert name == name.lower()
        assert len(name) <= 253
        assert not is_numeric(name)


@given(NAMES, LABELS, PORTS)
def test_a_wildcard_is_for_the_names_below_and_for_no_other(name: str, label: str, port: int) -> None:
    rule = HostRule(host=name, ports=frozenset({port}), is_wildcard=True)
    assert rule.matches(f"{label}.{name}", port)
    assert rule.matches(f"{label}.{label}.{name}", port)
    assert not rule.matches(name, port)
    assert not rule.matches(f"{label}{name}", port)
    assert not rule.matches(f".{name}"[1:], port)
    assert not rule.matches(f"{name}._{label}", port)


@given(NAMES, PORTS, PORTS)
def test_ports_are_part_of_an_entry(name: str, port: int, other: int) -> None:
    rule = host_rule(f"{name}:{port}")
    assert rule.matches(name, port)
    assert rule.matches(name, other) == (port == other)
    assert host_rule(name).matches(name, other) == (other in WEB_PORTS)
    assert host_rule(name, is_denial=True).matches(name, other)


@given(NAMES, st.none() | PORTS)
def test_an_entry_reads_the_same_after_it_was_written(name: str, port: int | None) -> None:
    rule = host_rule(name if port is None else f"{name}:{port}")
    assert host_rule(rule.text) == rule


@pytest.mark.parametrize(
    "spelling",
    [
        *(
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "1.2.3.4.",
            "127.0.0.1..",
        ),
        *("[::1]", "::1", "[::ffff:127.0.0.1]", "::ffff:127.0.0.1", "fe80::1%eth0", "0x", "1.2.3", "host.1"),
    ],
)
def test_an_address_in_any_spelling_is_no_name(spelling: str) -> None:
    assert is_numeric(spelling)
    assert canonical(spelling) is None
    with pytest.raises(NoRule):
        host_rule(spelling)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "a..b",
            ".wild.test",
            "a.test..",
            "-a.test",
            "a-.test",
            "user@a.test",
            "a.test%00",
            "a.test\0",
        ),
        *(
            "a test",
            "a.test\r\nHost: b",
            "http://a.test",
            "a.test/x",
            "*.a.test",
            "a.te\u0455t",
            "b\u00fccher.test",
        ),
        *(f"{'a' * 64}.test", ".".join(["a" * 60] * 5), "a\u3002test", "\uff41.test"),
    ],
)
def test_what_is_no_name_has_no_canonical_form(text: str) -> None:
    assert canonical(text) is None


def test_a_name_that_looks_like_another_is_another() -> None:
    listed = host_rule("paypal.example")
    homograph = "p\u0430ypal.example".encode("idna").decode()
    assert canonical(homograph) == homograph
    assert not listed.matches(homograph, 443)


def test_a_listed_name_may_have_letters_of_its_language() -> None:
    assert host_rule("B\u00fccher.example").host == "xn--bcher-kva.example"
    with pytest.raises(NoRule):
        host_rule("stra\u00dfe.example")


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "*",
            "*.",
            "*.com",
            "*.co.uk",
            "*.com.au",
            "*.github.io",
            "*.*.example.com",
            "a.*.example.com",
            "*example.com",
        ),
        *("host.example:", "host.example:0", "host.example:65536", "host.example:443/x", "host.example:x"),
        *("host.example:443:443", "10.0.0.0/8", "https://host.example", "host.example/path", "*.10.0.0.1"),
    ],
)
def test_entries_that_cannot_be_are_refused_in_words(entry: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(NoRule):
        host_rule(entry)
    for place in ("[egress]\nhosts", '[agents.a]\ncommand="x"\nhosts', "[tenants.t]\nhosts"):
        with pytest.raises(ConfigError) as refused:
            configured(tmp_path, f'{place} = ["{entry}"]')
        assert repr(entry) in str(refused.value) or entry in str(refused.value)


def test_broad_wildcards_are_known() -> None:
    assert is_broad(host_rule("*.example.com"))
    assert not is_broad(host_rule("*.eu.example.com"))
    assert not is_broad(host_rule("example.com"))


LISTS = """
[egress]
hosts = ["packages.example", "git.example:22", "*.cdn.example"]
denied = ["bad.cdn.example"]
[agents.coder]
command = "coder"
hosts = ["docs.example", "tenant-denied.example"]
[tenants.acme]
hosts = ["api.acme.example:8443"]
denied_hosts = ["tenant-denied.example:443"]
"""


def test_the_lists_of_operator_agent_and_tenant_add_up_and_a_denial_wins(tmp_path: pathlib.Path) -> None:
    lists = host_lists(configured(tmp_path, LISTS), agent="coder", tenant="acme")
    decided = {
        (host, port): lists.decide(host, port).outcome
        for host, port in [
            *[("packages.example", 443), ("packages.example", 80), ("packages.example", 22)],
            *[("git.example", 22), ("git.example", 443), ("a.cdn.example", 443), ("cdn.example", 443)],
            *[("bad.cdn.example", 443), ("bad.cdn.example", 22), ("docs.example", 443)],
            *[("tenant-denied.example", 443), ("tenant-denied.example", 80), ("api.acme.example", 8443)],
        ]
    }
    assert [key for key, outcome in decided.items() if outcome == "allowed"] == [
        *[("packages.example", 443), ("packages.example", 80), ("git.example", 22), ("a.cdn.example", 443)],
        *[("docs.example", 443), ("tenant-denied.example", 80), ("api.acme.example", 8443)],
    ]
    assert [key for key, outcome in decided.items() if outcome == "denied"] == [
        *[("bad.cdn.example", 443), ("bad.cdn.example", 22), ("tenant-denied.example", 443)],
    ]
    by = lists.decide("docs.example", 443).by
    assert by is not None
    assert by.line == 'agents.coder.hosts: "docs.example"'


def test_lists_of_another_agent_and_tenant_do_not_count(tmp_path: pathlib.Path) -> None:
    lists = host_lists(configured(tmp_path, LISTS), agent="other", tenant="default")
    assert lists.decide("docs.example", 443).outcome == "unlisted"
    assert lists.decide("api.acme.example", 8443).outcome == "unlisted"


def test_a_session_narrows_and_never_widens(tmp_path: pathlib.Path) -> None:
    lists = host_lists(configured(tmp_path, LISTS), agent="coder", tenant="acme")
    assert narrowed(lists, ["Packages.example", "x.cdn.example:443", "*.eu.cdn.example"]) == (
        *("packages.example", "x.cdn.example:443", "*.eu.cdn.example"),
    )
    assert narrowed(lists, []) == ()
    for entry in ("other.example", "packages.example:22", "git.example", "*.example", "cdn.example"):
        with pytest.raises((LookupError, NoRule)):
            narrowed(lists, [entry])


def test_registries_stand_for_what_this_machine_uses(tmp_path: pathlib.Path) -> None:
    config = configured(tmp_path, '[egress]\nhosts = ["registries"]')
    lists = host_lists(config, agent="a", tenant="t", registries=lambda: ("index.example:443",))
    assert lists.decide("index.example", 443).by is not None
    assert lists.texts == ("index.example:443",)
    with pytest.raises(ConfigError):
        configured(tmp_path, '[egress]\ndenied = ["registries"]')


def test_a_proxy_is_a_url_and_its_password_is_not_shown(tmp_path: pathlib.Path) -> None:
    for wrong in (
        "proxy.example:3128",
        "http://proxy.example",
        "socks5://proxy.example:1080",
        "http://a:b:c",
    ):
        with pytest.raises(ConfigError, match="proxy"):
            configured(tmp_path, f'[egress]\nproxy = "{wrong}"')
    configured(tmp_path, '[egress]\nproxy = "http://me:secret@proxy.example:3128"')
