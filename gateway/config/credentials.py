"""Credentials for hosts (`[credentials.NAME]`), and the names under which people and tenants may set values
of their own.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from gateway.config.hosts import is_address, private_host
from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import Config

HTTPS_PORT: Final = 443
OwnKeysPolicy = Literal["no", "allowed", "required"]
"""Whether tenants and people bring keys of their own for a provider."""
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]*")
NEVER_METHODS: Final = ("CONNECT", "TRACE")
"""TRACE answers with the headers of the request, the credential among them."""
_FRAMING: Final = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"),
        *("keep-alive", "proxy-connection"),
    }
)


class CredentialConfig(Table, frozen=True, kw_only=True):
    """A header that the gateway adds to requests for some hosts; the value never enters a worker."""

    hosts: tuple[str, ...] = ()
    """`github.com`, `git.corp.example:8443`; without a port, 443. No wildcards."""
    header: str = "Authorization"
    scheme: Literal["Bearer", "Basic", "raw"] = "Bearer"
    """`Basic`: the value is `user:password`. `raw`: the value is the whole header."""
    value_file: str = ""
    """A file with the value; read for each request, so that a new one holds at once."""
    command: str | tuple[str, ...] = ()
    """A command of the gateway's machine that prints the value, instead of `value_file`."""
    expires_seconds: float = 300
    """How long what `command` printed is used."""
    per: Literal["", "tenant", "person"] = ""
    """Each tenant, or each person, sets a value of its own, instead of `value_file`."""
    methods: tuple[str, ...] = ()
    """Those that may be used; empty: all."""
    paths: tuple[str, ...] = ()
    """Those that may be asked for, `/acme/**`; `*` is part of one name, `**` any number of names. Empty: all.
    """
    ca_file: str = ""
    """Certificates of authorities that these hosts are trusted by, besides the system's."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a program would be given it."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """(host, port), as they are compared."""
        found = filter(None, map(_place, self.hosts))
        return tuple(found)

    def mistakes(self) -> Iterator[str]:
        """What cannot be, as `setting: words`."""
        yield from self._of_hosts()
        if not _TOKEN.fullmatch(self.header) or self.header.lower() in _FRAMING:
            yield f"header: {self.header!r} is no header that a credential can be in"
        yield from self._of_source()
        for method in self.methods:
            if not _METHOD.fullmatch(method) or method in NEVER_METHODS:
                yield f"methods: {method!r} cannot be allowed"
        for path in self.paths:
            if not path.startswith("/") or "?" in path or "#" in path:
                yield f'paths: {path!r} is no path; write "/acme/**"'
        if self.ca_file and not os.access(self.ca_file, os.R_OK):
            yield f"ca_file: {self.ca_file} cannot be read"

    def _of_hosts(self) -> Iterator[str]:
        if not self.hosts:
            yield "hosts: name the hosts that it is for"
        for text in self.hosts:
            if _place(text) is None:
                yield f'hosts: {text!r} is no host name; write "git.example" or "git.example:8443"'

    def _of_source(self) -> Iterator[str]:
        if bool(self.value_file) + bool(self.command) + bool(self.per) != 1:
            yield "value_file: say where the value comes from: value_file, command, or per"
        if self.value_file and not os.access(self.value_file, os.R_OK):
            yield f"value_file: {self.value_file} cannot be read"
        try:
            _ = self.argv
        except ValueError as error:  # shlex's
            yield f"command: {error}"
        if self.expires_seconds <= 0:
            yield "expires_seconds: must be more than 0"


def _place(text: str) -> tuple[str, int] | None:
    found = private_host(text)
    if found is None or is_address(found.host) or "." not in found.host:
        return None
    return found.host, found.port or HTTPS_PORT


def credential_mistakes(config: Config) -> list[str]:
    """What cannot be in `[credentials.NAME]`, and in what agents and tenants say of them."""
    mistakes = []
    for name, credential in config.credentials.items():
        mistakes += [f"credentials.{name}.{words}" for words in credential.mistakes()]
        if name in _policies(config):
            mistakes.append(f"credentials.{name}: a provider has this name; choose another")
    for agent_name, agent in config.agents.items():
        mistakes += _of_list(config, f"agents.{agent_name}", agent.credentials)
        if agent.credentials and not config.has_network(agent):
            mistakes.append(
                f"agents.{agent_name}.credentials: are for hosts on the network, which this agent has none of"
            )
    for tenant_name, tenant in config.tenants.items():
        mistakes += _of_list(config, f"tenants.{tenant_name}", tenant.credentials)
        mistakes += _of_key_files(config, f"tenants.{tenant_name}", tenant.keys)
    return mistakes


def _of_list(config: Config, prefix: str, names: Iterable[str]) -> Iterator[str]:
    """Credentials that there are not, and two for one host."""
    taken: dict[tuple[str, int], str] = {}
    for name in names:
        credential = config.credentials.get(name)
        if credential is None:
            known = ", ".join(config.credentials) or "none"
            yield f"{prefix}.credentials: there is no credential {name!r}; there are: {known}"
            continue
        for place in credential.places:
            other = taken.setdefault(place, name)
            if other != name:
                yield f"{prefix}.credentials: {other} and {name} are both for {place[0]}:{place[1]}"


def _of_key_files(config: Config, prefix: str, files: dict[str, str]) -> Iterator[str]:
    for provider, path in files.items():
        if provider not in config.every_provider:
            yield f"{prefix}.keys.{provider}: there is no provider {provider!r}"
        if not os.access(os.path.expanduser(path), os.R_OK):
            yield f"{prefix}.keys.{provider}: {path} cannot be read"


def credential_for(config: Config, *, agent: str, tenant: str, host: str, port: int) -> str:
    """The credential whose header is added to requests of an agent's worker, for a canonical host; empty if
    there is none. The tenant's goes before the agent's.
    """
    for name in credentials_of(config, agent=agent, tenant=tenant):
        if (host, port) in config.credentials[name].places:
            return name
    return ""


def credentials_of(config: Config, *, agent: str, tenant: str) -> list[str]:
    """Every credential of an agent's worker, the tenant's first."""
    theirs, agents = config.tenant(tenant), config.agents.get(agent)
    names = (*(theirs.credentials if theirs else ()), *(agents.credentials if agents else ()))
    return [name for name in dict.fromkeys(names) if name in config.credentials]


def hosts_with_credentials(config: Config, *, agent: str, tenant: str) -> tuple[str, ...]:
    """The hosts whose TLS ends in the gateway for an agent's worker, sorted."""
    names = credentials_of(config, agent=agent, tenant=tenant)
    return tuple(sorted({host for name in names for host, _ in config.credentials[name].places}))


# -- values of one's own ----------------------------------------------------------------------------------


class OwnValue(Struct, frozen=True):
    """A value that tenants or people may set."""

    kind: Literal["provider", "credential"]
    need: Literal["allowed", "required"]


def own_values(config: Config, *, level: Literal["tenant", "person"]) -> dict[str, OwnValue]:
    """What a tenant, or a person, may set: keys for providers and values of credentials, by name."""
    found = {
        name: OwnValue("provider", policy) for name, policy in _policies(config).items() if policy != "no"
    }
    named = [name for name, credential in config.credentials.items() if credential.per == level]
    return found | {name: OwnValue("credential", "required") for name in named}


def _policies(config: Config) -> dict[str, OwnKeysPolicy]:
    """What each provider says of own keys."""
    return {name: provider.own_keys for name, provider in config.providers.items()}
