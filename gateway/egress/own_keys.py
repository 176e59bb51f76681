"""Whose key a model call uses: the person's, the tenant's or the gateway's.

Guarantee: a key is used for calls of its owner only; no other tenant's or person's call gets it.
"""

from __future__ import annotations

import logging
import pathlib
import re
from typing import Final, Literal

from msgspec import Struct

from gateway.config.credentials import OwnKeysPolicy
from gateway.config.tables import Config
from gateway.egress.vault import Vault
from gateway.errors import InvalidField, OwnKeyMissing
from gateway.principal import Account, tenant_of
from gateway.stores.secrets import SecretName

log = logging.getLogger(__name__)

VALUE_CHARACTERS: Final = 4_096
"""The longest keys are signed tokens of about 2,000."""
_KEY: Final = re.compile(r"[\x21-\x7e]+")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


class CallKey(Struct, frozen=True):
    """A key for one call, and who it belongs to."""

    value: str
    owner: Literal["gateway", "tenant", "person"]

    def __repr__(self) -> str:
        """Without the key: calls end up in logs."""
        return f"CallKey(owner={self.owner!r})"


class OwnKeys:
    """Keys for providers and values of credentials that people and tenants have set."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._of_files: dict[tuple[str, str], str] = {}
        """(tenant, provider) → key, of `[tenants.NAME.keys]`."""

    def read_files(self, config: Config) -> None:
        """Takes over `[tenants.NAME.keys]`; a file that cannot be read keeps the key that was read before."""
        found = {}
        for tenant, settings in config.tenants.items():
            for provider, path in settings.keys.items():
                key = _read(path) or self._of_files.get((tenant, provider))
                if key is None:
                    log.error("tenants.%s.keys.%s: %s holds no key", tenant, provider, path)
                else:
                    found[tenant, provider] = key
        self._of_files = found

    def for_call(
        self, provider: str, account: Account, *, own_keys: OwnKeysPolicy, gateway_key: str
    ) -> CallKey:
        """The key for a call of this account: the person's, else the tenant's, else the gateway's.

        With `no`, only the configuration's file gives a tenant a key of its own; with `required`, the
        gateway's is never used, and OwnKeyMissing is raised if there is no other.
        """
        tenant = tenant_of(account.owner)
        if own_keys != "no":
            for owner, level in ((account.owner, "person"), (tenant, "tenant")):
                value = self._vault.get(SecretName("provider", owner, provider))
                if value is not None:
                    return CallKey(value, "person" if level == "person" else "tenant")
        if (of_file := self._of_files.get((tenant, provider))) is not None:
            return CallKey(of_file, "tenant")
        if own_keys == "required":
            raise OwnKeyMissing(
                f"The provider {provider} needs a key of your own. Set it in the settings of the page, under "
                f"Keys, or with PUT /api/me/keys/{provider}."
            )
        return CallKey(gateway_key, "gateway")

    def has_file(self, tenant: str, provider: str) -> bool:
        """Whether the configuration's file has a key of this tenant."""
        return (tenant, provider) in self._of_files


def _read(path: str) -> str | None:
    try:
        key = pathlib.Path(path).expanduser().read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError, RuntimeError):
        return None
    return key if _KEY.fullmatch(key) else None


def checked_value(text: str, *, kind: Literal["provider", "credential"]) -> str:
    """A value as it is kept, without blanks around it. Raises InvalidField, which never shows it."""
    value = text.strip()
    if not value:
        raise InvalidField(
            "The key is empty; to remove one, send DELETE - at `$.key`.", field=("body", "key")
        )
    if len(value) > VALUE_CHARACTERS:
        raise InvalidField(
            f"A key has at most {VALUE_CHARACTERS} characters - at `$.key`.", field=("body", "key")
        )
    if kind == "provider" and not _KEY.fullmatch(value):
        raise InvalidField(
            "A key is letters, digits and signs of ASCII without blanks; check what was pasted - at `$.key`.",
            field=("body", "key"),
        )
    if not _VALUE.fullmatch(value):
        raise InvalidField(
            "A value is one line of ASCII characters; check what was pasted - at `$.key`.",
            field=("body", "key"),
        )
    return value
