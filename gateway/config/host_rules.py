"""Entries of the lists of hosts that workers may reach: `host`, `host:port`, `*.host`. Pure.

Guarantees:
- a name has one canonical form, or none: lower case, ASCII (IDNA), one dot at its end taken off, at most 253
  characters; whatever a resolver could read as an address is an address in every spelling, and no name;
- an entry without a port is for the ports of the web, 443 and 80; of a list of denied hosts, for every port;
- `*.host` is for the names below `host`, however deep, and never for `host` itself.

A wildcard must name two labels or more, and more than a well-known public suffix: under `*.com` and
`*.co.uk` anyone registers a name. The whole list of public suffixes is not here: it changes every week, and
would be old in every release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

WEB_PORTS: Final = frozenset({443, 80})
REGISTRIES: Final = "registries"
"""The entry that means the registries of this machine's own pip, npm and git settings."""
_LAST_PORT: Final = 65_535
_NAME_CHARACTERS: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AMBIGUOUS: Final = frozenset("\u00df\u03c2\u200c\u200d")
"""IDNA of 2003 and of 2008 make different names of these."""
_SECOND_LEVELS: Final = frozenset(
    {"ac", "co", "com", "edu", "gob", "gov", "ltd", "mil", "net", "ne", "nom", "or", "org"}
)
_COUNTRY_LETTERS: Final = 2
_SHARED_SUFFIXES: Final = frozenset(
    {
        *("github.io", "gitlab.io", "pages.dev", "workers.dev", "web.app", "vercel.app", "netlify.app"),
        *("herokuapp.com", "azurewebsites.net", "cloudfront.net", "amazonaws.com", "s3.amazonaws.com"),
        *("blob.core.windows.net", "storage.googleapis.com", "appspot.com", "run.app", "fly.dev"),
        *("onrender.com", "r2.dev", "ngrok.io", "ngrok.app", "trycloudflare.com", "duckdns.org"),
    }
)
"""Of services under which anyone gets a name: well-known ones, not all."""


class HostRule(Struct, frozen=True, kw_only=True):
    """One entry, as it was read."""

    host: str
    """Canonical; of a wildcard without its `*.`."""
    ports: frozenset[int]
    """Empty: every port."""
    is_wildcard: bool = False

    @property
    def text(self) -> str:
        """As it is written."""
        name = f"*.{self.host}" if self.is_wildcard else self.host
        return name if not self.ports or self.ports == WEB_PORTS else f"{name}:{min(self.ports)}"

    def names(self, host: str) -> bool:
        """True if a canonical host is one of its names."""
        return host.endswith(f".{self.host}") if self.is_wildcard else host == self.host

    def matches(self, host: str, port: int) -> bool:
        """True if it is for this canonical host and port."""
        return (not self.ports or port in self.ports) and self.names(host)

    def covers(self, other: HostRule, port: int) -> bool:
        """True if every name of another rule is one of its own, and the port is."""
        if self.ports and port not in self.ports:
            return False
        if other.is_wildcard:
            return self.is_wildcard and (other.host == self.host or self.names(other.host))
        return self.names(other.host)


class NoRule(ValueError):
    """The text is no entry; the words say why, and what to write."""


def canonical(text: str) -> str | None:
    """A name as it comes over the network, in its one form; None: it is no name that can be looked up, or it
    is an address.
    """
    name = text.lower().removesuffix(".")
    if not text.isascii() or not 0 < len(name) <= _NAME_CHARACTERS:
        return None
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or _NUMBER.fullmatch(labels[-1]):
        return None
    return name


def is_numeric(text: str) -> bool:
    """True if some resolver reads an address here, if not this one then another: `127.1`, `0x7f000001`,
    `[::1]`, `1.2.3.4.`.
    """
    plain = text.lower()
    if plain.startswith("[") or plain.count(":") > 1:
        return True
    labels = plain.rstrip(".").split(".")
    return _NUMBER.fullmatch(labels[-1]) is not None


def host_rule(text: str, *, is_denial: bool = False) -> HostRule:
    """An entry of a list. Raises NoRule."""
    name, separator, port = text.partition(":")
    if is_numeric(name) or ":" in port or text.startswith("["):
        raise NoRule(f"{text!r} is an address; a list names hosts, and what they lead to is looked up")
    is_wildcard = name.startswith("*.")
    host = canonical(_ascii(name.removeprefix("*.") if is_wildcard else name))
    if host is None:
        raise NoRule(f'{text!r} is no host; write "host.example", "host.example:22" or "*.host.example"')
    if separator and not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
        raise NoRule(f"{text!r}: a port is 1 to {_LAST_PORT}")
    if is_wildcard and not is_denial and is_public_suffix(host):
        raise NoRule(f"{text!r}: anyone can have a name below {host}; name the hosts, or a longer suffix")
    ports = frozenset({int(port)}) if separator else frozenset[int]() if is_denial else WEB_PORTS
    return HostRule(host=host, ports=ports, is_wildcard=is_wildcard)


def is_public_suffix(host: str) -> bool:
    """True if strangers register names right below this one, as far as it is known here."""
    labels = host.split(".")
    if len(labels) == 1 or host in _SHARED_SUFFIXES:
        return True
    is_country = len(labels[-1]) == _COUNTRY_LETTERS
    return len(labels) == 2 and is_country and labels[0] in _SECOND_LEVELS


def is_broad(rule: HostRule) -> bool:
    """True for a wildcard over a whole registered domain: every host that its owner ever makes."""
    return rule.is_wildcard and rule.host.count(".") == 1


def mistakes(entries: Iterable[str], *, is_denial: bool = False) -> Iterable[str]:
    """What is wrong with the entries of a list."""
    for text in entries:
        if text == REGISTRIES:
            if is_denial:
                yield f"{text!r} names hosts to reach; deny hosts by their names"
            continue
        try:
            host_rule(text, is_denial=is_denial)
        except NoRule as error:
            yield str(error)


def _ascii(name: str) -> str:
    """A name with letters of its language, as the network spells it (IDNA); what has no such spelling stays
    as it is, and is no name.
    """
    if name.isascii() or _AMBIGUOUS.intersection(name.lower()):
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name
