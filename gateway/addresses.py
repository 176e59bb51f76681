"""Network addresses: whether one belongs to a list, and who really calls when a proxy stands in front."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import Final

KNOWN: Final = 4_096
"""Answers that are remembered, so that a request costs a look-up."""


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
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network, strict=False) for network in networks)


def caller(peer: str, forwarded_for: Sequence[str], trusted: tuple[str, ...]) -> str:
    """The address that a request comes from: the last one that no trusted proxy has.

    Each proxy appends whom it heard (RFC 7239, 5.2), so only what trusted ones appended counts; what a caller
    wrote itself stands further left.
    """
    if not is_within(peer, trusted):
        return peer
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",") if hop.strip()]
    address = peer
    for hop in reversed(hops):
        if not is_network(hop) or "/" in hop:
            break
        address = hop
        if not is_within(hop, trusted):
            break
    return address
