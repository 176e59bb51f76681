"""Who calls through a proxy, and who only says so."""

from __future__ import annotations

import pytest

from gateway.addresses import caller, is_within

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
    ],
)
def test_only_what_trusted_proxies_appended_counts(peer: str, forwarded: list[str], expected: str) -> None:
    assert caller(peer, forwarded, PROXIES) == expected


def test_nonsense_is_within_nothing() -> None:
    assert not is_within("", PROXIES)
    assert not is_within("unix", PROXIES)
    assert is_within("10.1.2.3", PROXIES)
