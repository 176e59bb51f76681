"""What a host leads to, and which of these addresses may be called: for workers' connections and for the
gateway's own calls on a session's behalf alike.

Guarantees:
- a name is looked up once, every address that it leads to is judged, and if one may not be called, none is;
  what is returned is what is dialled, so that an answer that changes later leads nowhere;
- metadata services, reserved addresses and the port that this gateway listens on are never called, whatever
  the configuration names; private addresses only for hosts of `egress.private_hosts`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.config.hosts import embedded, is_address, is_local_name, is_named, line_to_add, reach
from gateway.egress.lookup import Lookup


class Objection(Struct, frozen=True):
    """Why an address is not called, in words for who asked."""

    kind: Literal["never", "itself", "private"]
    words: str


class AddressRefused(Exception):
    """A host leads where nothing is called; `objection` says why."""

    def __init__(self, objection: Objection) -> None:
        self.objection = objection
        super().__init__(objection.words)


class AddressRules:
    """See the module. `own_url` is where this gateway listens, empty before it does."""

    def __init__(
        self,
        *,
        private_hosts: Callable[[], tuple[str, ...]],
        own_url: Callable[[], str] = lambda: "",
        lookup: Lookup | None = None,
    ) -> None:
        self._private_hosts = private_hosts
        self._own_url = own_url
        self._lookup = lookup or Lookup()

    def is_private_host(self, host: str, port: int) -> bool:
        """True if the configuration lets a plain host lead to private addresses."""
        return is_named(host, port, self._private_hosts())

    def objection_to_name(self, host: str, port: int) -> Objection | None:
        """For a name that can only lead to this machine or its neighbours; what others lead to is seen when
        they are looked up.
        """
        if is_local_name(host) and not self.is_private_host(host, port):
            return Objection("private", _private_words(host))
        return None

    def objection(self, host: str, port: int, address: str, *, is_worker: bool = False) -> Objection | None:
        """Whether an address may be called for a plain host. For a worker, which is no person, every address
        of this machine is private, the public ones as well.
        """
        where = reach(address)
        if where == "never":
            return Objection("never", f"{host} leads to an address that this gateway never calls.")
        is_own = (port == self._own_port or is_worker) and is_of_this_machine(address)
        if is_own and port == self._own_port:
            return Objection("itself", f"{host}:{port} is this gateway itself, which does not call itself.")
        if (where == "private" or is_own) and not self.is_private_host(host, port):
            return Objection("private", _private_words(host))
        return None

    async def resolve(self, host: str, port: int, *, is_worker: bool = False) -> list[str]:
        """The addresses of a plain host, all of which may be called. Raises AddressRefused, LookupFailed."""
        found = [host] if is_address(host) else await self._lookup.addresses(host, port)
        for address in found:
            if (objection := self.objection(host, port, address, is_worker=is_worker)) is not None:
                raise AddressRefused(objection)
        return found

    @property
    def _own_port(self) -> int | None:
        url = urlsplit(self._own_url())
        return url.port or {"http": 80, "https": 443}.get(url.scheme)


def is_of_this_machine(address: str) -> bool:
    """Whether packets to an address come back to this machine: only then a socket can be bound to it. Of IPv6
    the IPv4 addresses inside count as well.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inside = embedded(parsed) if isinstance(parsed, IPv6Address) else []
    return any(map(_can_be_bound, (parsed, *inside)))


def _can_be_bound(address: ipaddress.IPv4Address | IPv6Address) -> bool:
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _private_words(host: str) -> str:
    return (
        f"{host} is a private address, and this gateway calls only public ones for a session. The "
        f"people who run it can allow this one with a line in its configuration: {line_to_add(host)}"
    )
