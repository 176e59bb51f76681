"""Which addresses the gateway may call on behalf of its users. Pure.

An address is public, private or forbidden. Private ones are called only for hosts that the configuration
names (`[egress] private_hosts`). Forbidden ones are never called, even if the configuration names them: the
metadata services of clouds, addresses that mean "this machine" or "everybody", and reserved ones.

The tables are written out here and not taken from `ipaddress.is_global`, whose answers differ between
versions of Python (IANA, IPv4 and IPv6 Special-Purpose Address Registries). IPv6 that carries an IPv4 address
inside is judged by that one too, since a translator on the way may send the packet there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

Reach = Literal["public", "private", "never"]
_ORDER: Final[tuple[Reach, ...]] = ("public", "private", "never")
LOCAL_NAMES: Final = ("localhost", "local", "internal", "home.arpa")
"""Names that lead to no public address, and names below them (RFC 6761, 6762, 8375)."""

_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("169.254.169.254", "169.254.169.253", "169.254.169.123", "169.254.170.2", "169.254.170.23"),
            *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
            *("fd00:ec2::254", "fd00:ec2::253", "fd00:ec2::123", "fd00:ec2::23", "fd20:ce::254"),
        ),
    )
)
"""Of AWS, Azure, Google, Alibaba and Oracle: what answers here hands out a machine's credentials."""
_NEVER_V4: Final = tuple(map(IPv4Network, ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")))
_PRIVATE_V4: Final = tuple(
    map(
        IPv4Network,
        (
            *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24"),
        ),
    )
)
_NEVER_V6: Final = tuple(map(IPv6Network, ("::/128", "ff00::/8")))
_GLOBAL_V6: Final = IPv6Network("2000::/3")
"""All that is given out; what lies outside belongs to this machine, to this site, or is not in use."""
_PRIVATE_V6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
"""Tunnels (Teredo, 6to4), documentation, and what the IETF keeps for itself."""
_TRANSLATED: Final = tuple(map(IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
"""IPv4-mapped and NAT64: these are their IPv4 addresses."""
_LOW_WORD: Final = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
"""The upper half of an interface id whose lower half is an IPv4 address (RFC 5214)."""


class PrivateHost(Struct, frozen=True):
    """One entry of `[egress] private_hosts`."""

    host: str
    port: int | None = None
    """None: any."""


def reach(address: str) -> Reach:
    """Where an address leads; what is no address leads nowhere."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "never"
    if isinstance(parsed, IPv4Address):
        return _reach_v4(parsed)
    inside = [_reach_v4(found) for found in embedded(parsed)]
    if any(parsed in network for network in _TRANSLATED):
        return max(inside, key=_ORDER.index)
    return max((_reach_v6(parsed), *inside), key=_ORDER.index)


def embedded(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries."""
    number = int(address)
    found = []
    if any(address in network for network in _LOW_WORD) and number > 1:
        found.append(number)
    if address in _SIX_TO_FOUR:
        found.append(number >> 80)
    if address in _TEREDO:
        found += [number >> 64, ~number]
    if number >> 32 & 0xFFFF_FFFF in _ISATAP:
        found.append(number)
    return [IPv4Address(word & 0xFFFF_FFFF) for word in found]


def _reach_v4(address: IPv4Address) -> Reach:
    if address in _METADATA or any(address in network for network in _NEVER_V4):
        return "never"
    return "private" if any(address in network for network in _PRIVATE_V4) else "public"


def _reach_v6(address: IPv6Address) -> Reach:
    if address in _METADATA or any(address in network for network in _NEVER_V6):
        return "never"
    is_given_out = address in _GLOBAL_V6 and not any(address in network for network in _PRIVATE_V6)
    return "public" if is_given_out else "private"


def plain_host(host: str) -> str:
    """A host as it is compared: lower case, no dot at its end, and an address in its usual spelling.

    An IPv4 address has many: 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to every resolver.
    """
    name = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _MAYBE_NUMBER.fullmatch(name):
        try:
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError:
            pass
    return name


_MAYBE_NUMBER: Final = re.compile(r"[0-9a-fx.]+")
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


_ENTRY: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?", re.ASCII)
_LAST_PORT: Final = 65_535
_NAME_CHARACTERS: Final = 253


def is_address(host: str) -> bool:
    """Whether a plain host is an address and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_host(host: str) -> bool:
    """Whether a plain host is an address, or a name that can be looked up."""
    return is_address(host) or (len(host) <= _NAME_CHARACTERS and _NAME.fullmatch(host) is not None)


def is_local_name(host: str) -> bool:
    """Whether a plain host can only lead to this machine or its neighbours."""
    return host in LOCAL_NAMES or host.endswith(tuple(f".{name}" for name in LOCAL_NAMES))


def private_host(text: str) -> PrivateHost | None:
    """An entry of the configuration: `host`, `host:port`, `[address]:port`; None if it is none of these."""
    found = _ENTRY.fullmatch(text)
    host, port = (found["v6"] or found["host"], int(found["port"] or 0)) if found else (text, 0)
    plain = plain_host(host)
    if not is_host(plain) or port > _LAST_PORT:
        return None
    return PrivateHost(plain, port or None)


def is_named(host: str, port: int, entries: tuple[str, ...]) -> bool:
    """Whether the configuration names a plain host as one that may lead to private addresses."""
    named = map(private_host, entries)
    return any(entry is not None and entry.host == host and entry.port in (None, port) for entry in named)


def is_proxy(url: str) -> bool:
    """True if this is the URL of a proxy: scheme, host and port, perhaps with a name and a password."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname and parts.port) and parts.path in ("", "/")
    except ValueError:
        return False


def line_to_add(host: str) -> str:
    """The configuration that lets private addresses be called for a host."""
    return f'[egress] private_hosts = ["{host}"]'
