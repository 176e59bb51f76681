"""Network addresses and origins: what is within a list, what a Host or Origin names, and who really calls
when a proxy is in front.

One parser reads every forwarded form: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, and RFC 7239
`Forwarded`, with ports, brackets and quotes. IPv4 addresses in IPv6 form (`::ffff:a.b.c.d`) count as IPv4.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

KNOWN: Final = 4_096
"""Answers that are remembered, so that a request costs a look-up."""
FORWARDED: Final = "forwarded"
FORWARDED_FOR: Final = "x-forwarded-for"
FORWARDED_PROTO: Final = "x-forwarded-proto"
FORWARDED_HOST: Final = "x-forwarded-host"
FORWARDED_PORT: Final = "x-forwarded-port"
SENT_BY_PROXIES: Final = (FORWARDED_FOR, FORWARDED, FORWARDED_PROTO, FORWARDED_HOST, FORWARDED_PORT)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s\[\]:/?#@,\\]+))(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://([^\s/?#@,\\]+)", re.IGNORECASE)
_NODE: Final = re.compile(r"\[([^\]]+)\](?::[0-9A-Za-z._-]+)?|([^:]+):[0-9A-Za-z._-]+")
"""An address with a port (RFC 7239, 6): IPv6 in brackets, IPv4 not; a port may be obfuscated."""
_PAIR: Final = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*(;|,|$)')


class Headers(Protocol):
    """Headers of a request, whose names may repeat."""

    def getlist(self, key: str) -> list[str]:
        """Every value of this name."""


# -- addresses --------------------------------------------------------------------------------------------


def is_network(text: str) -> bool:
    """Whether this is an address or a network."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=KNOWN)
def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is one of these, or in one of them."""
    found = _address(address)
    return found is not None and any(found in _network(network) for network in networks)


@functools.lru_cache(maxsize=KNOWN)
def plain_address(text: str) -> str:
    """The address of a peer: an IPv4 one that came in IPv6 form as IPv4, anything else as it is."""
    found = _address(text)
    return str(found) if isinstance(found, ipaddress.IPv4Address) else text


def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@functools.lru_cache(maxsize=KNOWN)
def _network(text: str) -> _Network:
    found = ipaddress.ip_network(text, strict=False)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        first = ipaddress.IPv4Address(int(found.network_address) & 0xFFFF_FFFF)
        return ipaddress.IPv4Network((first, found.prefixlen - 96))
    return found


# -- hosts and origins ------------------------------------------------------------------------------------


def host_and_port(host: str) -> tuple[str, int | None]:
    """Name, without brackets and in lower case, and port of a Host header; ("", None) if it is none."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return "", None
    return (found[1] or found[2]).lower(), int(found[3]) if found[3] else None


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    return host_and_port(host)[0]


@functools.lru_cache(maxsize=KNOWN)
def is_loopback(name: str) -> bool:
    """Whether a name or address means this machine and no other."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    found = _address(name)
    return found is not None and found.is_loopback


PORTS_PATH: Final = "/ports/"
"""Below it servers of agents are shown that have no host of their own; the next part is a secret."""
_PORT_LABEL: Final = re.compile(r"p-[0-9a-f]{32}")


@functools.lru_cache(maxsize=KNOWN)
def port_label(host: str) -> str | None:
    """The first label of a Host header, if it is that of a place where a server of an agent is shown: an
    origin of its own, foreign to the gateway's.
    """
    first, dot, _ = host_name(host).partition(".")
    return first if dot and _PORT_LABEL.fullmatch(first) else None


def is_agents_server(path: str, host: str) -> bool:
    """Whether a request is for a server of an agent, at a host of its own or below `PORTS_PATH`."""
    return path.startswith(PORTS_PATH) or port_label(host) is not None


class Origin(Struct, frozen=True):
    """Scheme, host and port (RFC 6454): what an Origin header names, its port always said."""

    scheme: str
    host: str
    port: int

    def is_at(self, host: str) -> bool:
        """Whether a Host header names the same place. One without a port means the scheme's own."""
        name, port = host_and_port(host)
        return (self.host, self.port) == (name, port or _PORTS[self.scheme])


@functools.lru_cache(maxsize=KNOWN)
def origin_of(text: str) -> Origin | None:
    """The one origin that a header names; None for `null`, for two origins, and for what is no origin."""
    found = _ORIGIN.fullmatch(text)
    name, port = host_and_port(found[2]) if found else ("", None)
    if found is None or not name:
        return None
    scheme = found[1].lower()
    return Origin(scheme, name, port or _PORTS[scheme])


def is_listed(origin: str, listed: Iterable[str]) -> bool:
    """Whether an Origin header names one of these addresses, whatever path they have; ports by default."""
    known = origin_of(origin)
    return any(text and (origin == text or (known is not None and known == _base(text))) for text in listed)


@functools.lru_cache(maxsize=KNOWN)
def _base(url: str) -> Origin | None:
    parts = urlsplit(url)
    return origin_of(f"{parts.scheme}://{parts.netloc}") if parts.netloc else None


# -- proxies ----------------------------------------------------------------------------------------------


class Route(Struct, frozen=True):
    """How a request came through proxies: who calls, and scheme and Host that the caller used, if known."""

    caller: str
    scheme: str = ""
    host: str = ""


def route(peer: str, headers: Headers, trusted: tuple[str, ...]) -> Route:
    """The way of a request whose peer is a trusted proxy, as far as trusted proxies tell it.

    `X-Forwarded-For` goes before `Forwarded`: a proxy that writes the one may pass on what callers say in the
    other.
    """
    hops = _items(headers.getlist(FORWARDED_FOR))
    elements = _elements(headers.getlist(FORWARDED)) if not hops else []
    if elements:
        address, count = _walk(peer, [element.get("for", "") for element in elements], trusted)
        first = elements[-count] if count else {}
        return Route(address, _scheme(first.get("proto", "")), first.get("host", ""))
    protocols = _items(headers.getlist(FORWARDED_PROTO))
    scheme = _scheme(protocols[0]) if protocols else ""
    return Route(_walk(peer, hops, trusted)[0], scheme, _forwarded_host(headers))


def _forwarded_host(headers: Headers) -> str:
    """The Host that the nearest proxy was asked for; with the port that it names beside it."""
    hosts, ports = _items(headers.getlist(FORWARDED_HOST)), _items(headers.getlist(FORWARDED_PORT))
    if not ports or not ports[-1].isdecimal():
        return hosts[-1] if hosts else ""
    host = hosts[-1] if hosts else "".join(headers.getlist("host"))
    return host if host_and_port(host)[1] is not None else f"{host}:{ports[-1]}"


def caller(peer: str, forwarded_for: Sequence[str], trusted: tuple[str, ...]) -> str:
    """The address that a request comes from: the last one that no trusted proxy has.

    Each proxy appends its caller's address (RFC 7239, 5.2), so only what trusted proxies appended counts;
    what a caller wrote itself is further left.
    """
    if not is_within(peer, trusted):
        return plain_address(peer)
    return _walk(peer, _items(forwarded_for), trusted)[0]


def _walk(peer: str, hops: Sequence[str], trusted: tuple[str, ...]) -> tuple[str, int]:
    """The caller, and how many hops from the right trusted proxies have written."""
    address, count = plain_address(peer), 0
    for hop in reversed(hops):
        count += 1
        found = node_address(hop)
        if found is None:
            break
        address = found
        if not is_within(found, trusted):
            break
    return address, count


@functools.lru_cache(maxsize=KNOWN)
def node_address(text: str) -> str | None:
    """The address in one hop, which may have a port, brackets or quotes; None if it names none."""
    text = text.strip().strip('"')
    found = _NODE.fullmatch(text)
    known = _address((found[1] or found[2]) if found else text)
    return None if known is None else str(known)


def _items(lines: Sequence[str]) -> list[str]:
    return [item.strip() for line in lines for item in line.split(",") if item.strip()]


def _scheme(text: str) -> str:
    """http or https; empty if it is another or none."""
    text = text.strip().strip('"').lower()
    text = {"ws": "http", "wss": "https"}.get(text, text)
    return text if text in _PORTS else ""


def _elements(lines: Sequence[str]) -> list[dict[str, str]]:
    """The elements of `Forwarded`, each its pairs by lower-case names; none at all if a line is malformed."""
    elements: list[dict[str, str]] = []
    for line in lines:
        element: dict[str, str] = {}
        position = 0
        while position < len(line):
            found = _PAIR.match(line, position)
            if found is None:
                return []
            element[found[1].lower()] = _unquoted(found[2])
            position = found.end()
            if found[3] != ";":
                elements.append(element)
                element = {}
        if element:
            elements.append(element)
    return elements


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
