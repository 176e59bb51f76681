"""Where the value of a credential comes from: a file, a command, or what a tenant or person has set.

Guarantee: neither a value nor what its command printed is in a log or an error.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import pathlib
import re
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.config.credentials import CredentialConfig
from gateway.egress.vault import Vault
from gateway.principal import Account, tenant_of
from gateway.stores.secrets import SecretName

log = logging.getLogger(__name__)

COMMAND_SECONDS: Final = 30.0
VALUE_BYTES: Final = 8 * 1024
MASKED_CHARACTERS: Final = 12
"""A shorter value is not looked for in answers: it may be a word of the text."""
_IN_A_HEADER: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


class ValueMissing(Exception):
    """There is no value for this call; the text says what to do, to the person."""


class HeaderValue(Struct, frozen=True):
    """What goes into the header, and what to look for in answers."""

    text: bytes
    masked: tuple[bytes, ...]

    def __repr__(self) -> str:
        """Without the value."""
        return "HeaderValue(…)"


class _Printed(Struct, frozen=True):
    """What a command printed, for as long as it is good."""

    argv: tuple[str, ...]
    value: str
    ends_at: float

    def __repr__(self) -> str:
        return f"_Printed(ends_at={self.ends_at})"


class CredentialValues:
    """Looks values up; see the module."""

    def __init__(self, vault: Vault, *, monotonic: Callable[[], float]) -> None:
        self._vault = vault
        self._monotonic = monotonic
        self._printed: dict[str, _Printed] = {}
        self._running: dict[str, asyncio.Lock] = {}

    async def header(self, name: str, credential: CredentialConfig, account: Account) -> HeaderValue:
        """The header for a call of this account. Raises ValueMissing."""
        value = await self._value(name, credential, account)
        if not _IN_A_HEADER.fullmatch(value):
            log.error("credentials.%s: its value is empty or no line of ASCII characters", name)
            raise ValueMissing(f"The gateway has no good value for the credential {name}; its log says why.")
        return _header(credential, value)

    def refused(self, name: str) -> None:
        """A host did not accept the value: a command is asked again for the next call."""
        self._printed.pop(name, None)

    async def _value(self, name: str, credential: CredentialConfig, account: Account) -> str:
        if credential.per:
            return self._set_by(credential.per, name, account)
        try:
            if credential.value_file:
                return _read(credential.value_file)
            return await self._printed_by(name, credential)
        except (OSError, UnicodeDecodeError, TimeoutError) as error:
            words = getattr(error, "strerror", None) or type(error).__name__
            log.error("credentials.%s: its value cannot be read: %s", name, words)
            raise ValueMissing(
                f"The gateway cannot read the credential {name} now; its log says why."
            ) from None

    def _set_by(self, level: str, name: str, account: Account) -> str:
        owner = account.owner if level == "person" else tenant_of(account.owner)
        value = self._vault.get(SecretName("credential", owner, name))
        if value is not None:
            return value
        if level == "person":
            raise ValueMissing(
                f"This host needs a value of your own for the credential {name}: set it in the page's "
                f"settings, under Keys, or with PUT /api/me/keys/{name}."
            )
        raise ValueMissing(
            f"Your tenant has no value for the credential {name}: its administrator sets it with "
            f"PUT /api/admin/tenants/{tenant_of(account.owner)}/keys/{name}."
        )

    async def _printed_by(self, name: str, credential: CredentialConfig) -> str:
        """What the command of a credential printed last, or prints now: once for all who wait."""
        async with self._running.setdefault(name, asyncio.Lock()):
            known = self._printed.get(name)
            if known is None or known.argv != credential.argv or known.ends_at <= self._monotonic():
                value = await _run(name, credential.argv)
                known = _Printed(credential.argv, value, self._monotonic() + credential.expires_seconds)
                self._printed[name] = known
            return known.value


def _read(path: str) -> str:
    """Raises OSError, UnicodeDecodeError."""
    with pathlib.Path(path).open(encoding="utf-8-sig") as file:
        return file.read(VALUE_BYTES).strip()


async def _run(name: str, argv: tuple[str, ...]) -> str:
    """The first line that a command prints. Raises OSError, TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it may quote the value
        start_new_session=True,
    )
    try:
        if process.stdout is None:
            raise OSError(0, "no output")
        async with asyncio.timeout(COMMAND_SECONDS):
            printed = await process.stdout.read(VALUE_BYTES)
            while await process.stdout.read(VALUE_BYTES):
                pass
            code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
    if code:
        log.error("credentials.%s: its command ended with exit code %d", name, code)
        raise OSError(0, f"exit code {code}")
    return printed.decode().strip()


def _header(credential: CredentialConfig, value: str) -> HeaderValue:
    if credential.scheme == "raw":
        return HeaderValue(value.encode(), _masked(value))
    if credential.scheme == "Bearer":
        return HeaderValue(b"Bearer " + value.encode(), _masked(value))
    encoded = base64.b64encode(value.encode()).decode()
    return HeaderValue(b"Basic " + encoded.encode(), _masked(value, encoded, value.partition(":")[2]))


def _masked(*values: str) -> tuple[bytes, ...]:
    return tuple(value.encode() for value in values if len(value) >= MASKED_CHARACTERS)
