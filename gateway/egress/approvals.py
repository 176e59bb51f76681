"""Hosts that operators allowed for good while the gateway ran: `allowed-hosts.json` in the data directory.

Guarantees: what was approved is on the disk before anyone hears of it; each entry holds for one agent of one
tenant; the file is plain, its owner's alone, and read again at each reload, so that an entry is taken back by
deleting it there (`agent-gateway egress rm`). A backup does not hold it: what is to last belongs into the
configuration.
"""

from __future__ import annotations

import logging
import os
import pathlib
from typing import Final

import msgspec
from msgspec import Struct

from gateway.config.host_rules import NoRule, host_rule
from gateway.errors import StoreFailed

log = logging.getLogger(__name__)

FILE_NAME: Final = "allowed-hosts.json"
ENTRIES: Final = 1_000


class Approval(Struct, frozen=True, kw_only=True):
    """One entry, and who made it."""

    tenant: str
    agent: str
    host: str
    """As in a list of hosts: `host:port`."""
    by: str
    """The owner's name of the operator."""
    at: str


_decode: Final = msgspec.json.Decoder(list[Approval]).decode


class Approvals:
    """See the module. Without a directory they are kept in memory."""

    def __init__(self, directory: pathlib.Path | None) -> None:
        self._path = directory / FILE_NAME if directory is not None else None
        self._all: list[Approval] = []

    def read(self) -> None:
        """Reads the file anew. What cannot be read approves nothing, and the log says so."""
        if self._path is None:
            return
        try:
            found = _decode(self._path.read_bytes())
        except FileNotFoundError:
            found = []
        except (OSError, msgspec.DecodeError) as error:
            log.error("%s cannot be read, and what it allows is not: %s", self._path, error)
            found = []
        self._all = [approval for approval in found if _is_rule(approval.host)]

    def entries(self, *, agent: str, tenant: str) -> tuple[str, ...]:
        """The hosts of one agent and tenant."""
        return tuple(one.host for one in self._all if (one.agent, one.tenant) == (agent, tenant))

    def all(self) -> list[Approval]:
        """Every entry."""
        return list(self._all)

    def remove(self, host: str, *, agent: str, tenant: str) -> bool:
        """Takes an entry back; False if there is none. Raises StoreFailed."""
        kept = [one for one in self._all if (one.host, one.agent, one.tenant) != (host, agent, tenant)]
        if len(kept) == len(self._all):
            return False
        self._keep(kept)
        return True

    def add(self, approval: Approval) -> None:
        """Keeps an entry. Raises StoreFailed."""
        if approval.host in self.entries(agent=approval.agent, tenant=approval.tenant):
            return
        if len(self._all) >= ENTRIES:
            raise StoreFailed(f"{FILE_NAME} holds {ENTRIES} hosts already; name hosts in the configuration.")
        self._keep([*self._all, approval])

    def _keep(self, entries: list[Approval]) -> None:
        if self._path is not None:
            _write(self._path, msgspec.json.format(msgspec.json.encode(entries)))
        self._all = entries


def _is_rule(text: str) -> bool:
    try:
        host_rule(text)
    except NoRule as error:
        log.error("%s: %s", FILE_NAME, error)
        return False
    return True


def _write(path: pathlib.Path, data: bytes) -> None:
    """Replaces a file as a whole. Raises StoreFailed."""
    new = path.with_name(f"{path.name}.new")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(new, path)
    except OSError as error:
        raise StoreFailed(f"{path} cannot be written: {error.strerror}.") from error
