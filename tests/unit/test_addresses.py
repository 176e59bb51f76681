"""Who calls through a proxy, and who only says so."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from gateway.config.addresses import (
    Route,
    caller,
    host_and_port,
    is_listed,
    is_loopback,
    is_within,
    origin_of,
    plain_address,
    route,
)

PROXIES = ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("::1", ["2001:db8::5"], "2001:db8::5"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.0/24"], "10.0.0.1"),
        ("10.0.0.1", ["", " , "], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7:4711, 10.0.0.2:80"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, _hidden"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
    ],
)
def test_only_what_trusted_proxies_appended_counts(peer: str, forwarded: list[str], expected: str) -> None:
    assert caller(peer, forwarded, PROXIES) == expected


def test_nonsense_is_within_nothing() -> None:
    assert not is_within("", PROXIES)
    assert not is_within("unix", PROXIES)
    assert is_within("10.1.2.3", PROXIES)


def test_an_ipv4_address_in_ipv6_form_counts_as_ipv4() -> None:
    assert is_within("::ffff:10.1.2.3", PROXIES)
    assert is_within("10.1.2.3", ("::ffff:10.0.0.0/104",))
    assert not is_within("::ffff:11.1.2.3", PROXIES)
    assert plain_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert plain_address("2001:db8::1") == "2001:db8::1"
    assert plain_address("unix") == "unix"
    assert is_loopback("::ffff:127.0.0.1")


FORWARDED = [
    ({"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "https"}, Route("198.51.100.1", "https")),
    ({"X-Forwarded-Proto": "https,http"}, Route("10.0.0.1", "https")),
    ({"X-Forwarded-Proto": "HTTPS"}, Route("10.0.0.1", "https")),
    ({"X-Forwarded-Proto": "wss"}, Route("10.0.0.1", "https")),
    ({"X-Forwarded-Proto": "http, https"}, Route("10.0.0.1", "http")),
    ({"X-Forwarded-Proto": "gopher"}, Route("10.0.0.1")),
    ({"X-Forwarded-Host": "chat.example"}, Route("10.0.0.1", "", "chat.example")),
    ({"X-Forwarded-Host": "evil.example, chat.example"}, Route("10.0.0.1", "", "chat.example")),
    ({"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "8443"}, Route("10.0.0.1", "", "a.example:8443")),
    ({"X-Forwarded-Host": "a.example:1", "X-Forwarded-Port": "2"}, Route("10.0.0.1", "", "a.example:1")),
    ({"Host": "a.example", "X-Forwarded-Port": "8443"}, Route("10.0.0.1", "", "a.example:8443")),
    (
        {"Forwarded": 'for="[2001:db8::1]:4711";proto=https;host="chat.example:8443"'},
        Route("2001:db8::1", "https", "chat.example:8443"),
    ),
    ({"Forwarded": "For=192.0.2.43, FOR=198.51.100.17;Proto=http"}, Route("198.51.100.17", "http")),
    (
        {"Forwarded": "for=6.6.6.6;host=evil, for=192.0.2.43;proto=https;host=a.example, for=10.0.0.2"},
        Route("192.0.2.43", "https", "a.example"),
    ),
    ({"Forwarded": 'for="_gazonk"'}, Route("10.0.0.1")),
    ({"Forwarded": 'for="unclosed'}, Route("10.0.0.1")),
    ({"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "192.0.2.43"}, Route("192.0.2.43")),
    ({}, Route("10.0.0.1")),
]


@pytest.mark.parametrize(("headers", "expected"), FORWARDED)
def test_every_forwarded_form_is_read(headers: dict[str, str], expected: Route) -> None:
    assert route("10.0.0.1", Headers(headers), PROXIES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", ("https", "a.example", 443)),
        ("https://a.example:443", ("https", "a.example", 443)),
        ("http://A.example", ("http", "a.example", 80)),
        ("http://[::1]:3000", ("http", "::1", 3000)),
    ],
)
def test_an_origin_is_scheme_host_and_port(text: str, expected: tuple[str, str, int]) -> None:
    found = origin_of(text)
    assert found is not None
    assert (found.scheme, found.host, found.port) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("null", "", "file://", "https://", "a.example", "https://a.example/", "https://u@a.example"),
        *("http://localhost http://evil.example", "http://localhost, http://evil.example", "http://["),
        *(
            "https://a.example:port",
            "https://a.example:",
            "https://a.example?x",
            "https://a\\b",
            "http://a#b",
        ),
        *("http://localhost\thttp://evil.example", "https://a.example\n"),
    ],
)
def test_two_origins_and_what_is_none_are_none(text: str) -> None:
    assert origin_of(text) is None


@pytest.mark.parametrize(
    ("origin", "host", "is_at"),
    [
        ("https://a.example", "a.example", True),
        ("https://a.example", "a.example:443", True),
        ("https://a.example:443", "A.EXAMPLE", True),
        ("http://a.example", "a.example:80", True),
        ("https://a.example", "a.example:80", False),
        ("https://a.example:8443", "a.example", False),
        ("https://a.example", "b.example", False),
        ("http://[::1]:80", "[::1]", True),
        ("https://a.example", "", False),
    ],
)
def test_a_host_is_compared_by_default_ports(origin: str, host: str, is_at: bool) -> None:
    known = origin_of(origin)
    assert known is not None
    assert known.is_at(host) is is_at


def test_listed_addresses_are_compared_as_origins() -> None:
    listed = ("https://a.example:443/", "https://b.example/gateway", "null", "")
    assert is_listed("https://a.example", listed)
    assert is_listed("https://b.example", listed)
    assert is_listed("null", listed)
    for origin in ("", "http://a.example", "https://a.example:444", "https://c.example"):
        assert not is_listed(origin, listed)


def test_what_is_no_host_has_no_name() -> None:
    for host in ("", "a b", "a:b", "a:1:2", "[::1", "::1", "a/b", "u@a"):
        assert host_and_port(host) == ("", None)
