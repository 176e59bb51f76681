"""What cookies are called: a gateway's own name each, with the prefix that its address allows."""

from __future__ import annotations

import re

import pytest

from gateway.http.cookies import header, name_of, of_other_ports


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("127.0.0.1:8080", "http", "agw_user_8080"),
        ("127.0.0.1:8081", "http", "agw_user_8081"),
        ("[::1]:9000", "ws", "agw_user_9000"),
        ("chat.example", "http", "agw_user_80"),
        ("chat.example", "https", "agw_user_443"),
        ("chat.example", "wss", "agw_user_443"),
        ("", "http", "agw_user_80"),
    ],
)
def test_without_a_public_address_the_port_is_in_the_name(host: str, scheme: str, expected: str) -> None:
    assert name_of("agw_user", public_url="", host=host, scheme=scheme) == expected


@pytest.mark.parametrize(
    ("public_url", "prefix"),
    [
        ("https://chat.example", "__Host-"),
        ("https://chat.example/", "__Host-"),
        ("https://chat.example:8443", "__Host-"),
        ("https://chat.example/gateway", "__Secure-"),
        ("http://chat.example", ""),
    ],
)
def test_a_public_address_gives_a_prefix_and_a_hash(public_url: str, prefix: str) -> None:
    name = name_of("agw_user", public_url=public_url, host="127.0.0.1:1", scheme="http")
    assert re.fullmatch(prefix + "agw_user_[0-9a-f]{8}", name)


def test_no_two_public_addresses_share_a_name_and_a_slash_makes_none() -> None:
    urls = ("https://a.example", "https://a.example/x", "https://a.example/y", "https://b.example")
    names = [name_of("agw_user", public_url=url, host="", scheme="http") for url in urls]
    assert len(set(names)) == 4
    assert name_of("agw_user", public_url="https://a.example/", host="", scheme="https") == names[0]


def test_a_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    assert header("a", "b", is_secure=True, seconds=5.4) == (
        "a=b; Path=/; Max-Age=5; HttpOnly; SameSite=Lax; Secure"
    )
    assert header("a", "b", is_secure=False) == "a=b; Path=/; HttpOnly; SameSite=Lax"


def test_only_names_with_a_port_have_others() -> None:
    given = ["agw_user_1", "agw_user_2", "agw_user", "agw_user_x", "agw_visitor_2", "__Host-agw_user_3"]
    assert of_other_ports("agw_user", "agw_user_1", given) == ["agw_user_2"]
    assert of_other_ports("agw_user", "__Host-agw_user_0a1b2c3d", given) == []
    assert of_other_ports("agw_user", "agw_user_0a1b2c3d", given) == []
