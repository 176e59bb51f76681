"""What knows callers and what they may use, built from the configuration, opened and closed as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from gateway.auth.claims import principal_from
from gateway.auth.kept_tenants import KeptTenants
from gateway.auth.keys import KeyRing
from gateway.auth.oidc import Http, Provider, verifier_of
from gateway.auth.people import People
from gateway.auth.permits import Permits
from gateway.auth.quotas import Quotas
from gateway.auth.sign_ins import SignIns
from gateway.auth.tickets import Tickets, digest_of, keep_secret, read_old_secrets, read_secret
from gateway.auth.tokens import TokenVerifier
from gateway.config.tables import Config
from gateway.egress.own_keys import OwnKeys
from gateway.egress.vault import Vault
from gateway.errors import GatewayError, StoreFailed
from gateway.models.budgets import Budgets
from gateway.principal import Principal
from gateway.stores.contract import Store
from gateway.telemetry.clocks import Clock
from gateway.telemetry.metrics import Metrics

USE_SECONDS: Final = 5.0
"""How often what was used is written down."""

_DIFFERS: Final = (
    "auth.secret_file: the other gateways on this database have another secret. Give all of them a copy of "
    "the same file; to change the secret, stop all of them first."
)


class Authentication:
    """Keys, tickets, tokens, the provider for signing in, quotas."""

    def __init__(
        self,
        config: Callable[[], Config],
        store: Store,
        *,
        budgets: Budgets,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`config` gives the configuration as it is now."""
        self._config = config
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._http = Http()
        self.credentials = store.credentials
        self.keys = KeyRing(store.credentials, wall_ms=clock.wall_ms)
        self.people = People(store.people, wall_ms=clock.wall_ms)
        self.kept_tenants = KeptTenants(store.tenants)
        self.permits = Permits()
        self._provider: Provider | None = None
        self.sign_ins = SignIns(
            provider=lambda: self._provider,
            principal_of=self.signed_in,
            permits=self.permits,
            lasts_seconds=lambda: self._config().oidc.hours * 3600,
            wall_ms=clock.wall_ms,
        )
        self.tickets = Tickets(wall_ms=clock.wall_ms)
        self.vault = Vault(store.secrets, wall_ms=clock.wall_ms)
        self.own_keys = OwnKeys(self.vault)
        self.quotas = Quotas(
            config,
            store.usage,
            budgets=budgets,
            monotonic=clock.monotonic,
            wall_ms=clock.wall_ms,
            on_exceeded=lambda limit: metrics.rejections.labels(limit).inc(),
            shared=store.held,
        )

    async def open(self) -> None:
        """Reads the secret that cookies are signed with, keys, who is disabled, revocations, the encrypted
        values of people and tenants, and what was used. The store is open. Raises StoreFailed.
        """
        await self.kept_tenants.open()
        config = self._config()
        await self.open_secret()
        self.own_keys.read_files(config)
        self.tickets.revoked = await self.credentials.revocations()
        await self.keys.open()
        await self.people.open()
        await self.quotas.open(await self._store.sessions.totals())

    async def open_secret(self) -> None:
        """Signs and encrypts from now on with the secret of the configuration's file, with that of the data
        directory, or, if several gateways share a store, with the one that all of them have. Raises
        StoreFailed.
        """
        config = self._config()
        old = read_old_secrets(config.auth.old_secret_files)
        secret = read_secret(config.auth.secret_file, config.data_path)
        before: list[bytes] = []
        if config.cluster.url and not config.auth.secret_file:
            own = secret
            secret, *before = await self._store.signing.secrets(own)
            if own != secret:
                old.append(own)
                keep_secret(secret, config.data_path)
        if config.cluster.url and not await self._store.signing.agrees(digest_of(secret)):
            raise StoreFailed(_DIFFERS)
        self.tickets.open(secret, old=before)
        await self.vault.open(secret, old=[*before, *old])

    async def close(self) -> None:
        """Ends the connections to issuers and providers."""
        await self._http.close()

    def tokens(self, config: Config) -> TokenVerifier | None:
        """The verifier of JWTs; None if tokens are not accepted."""
        if "jwt" not in config.auth.modes:
            return None
        return verifier_of(
            config.jwt,
            self._http,
            monotonic=self._clock.monotonic,
            wall_ms=self._clock.wall_ms,
            on_odd=self._metrics.odd("issuer"),
        )

    def provider(self, config: Config) -> Provider | None:
        """The provider that people sign in with from now on; None if there is none."""
        self._provider = None
        if "oidc" in config.auth.modes:
            self._provider = Provider(
                config.oidc,
                self._http,
                monotonic=self._clock.monotonic,
                wall_ms=self._clock.wall_ms,
                on_odd=self._metrics.odd("issuer"),
            )
        return self._provider

    def signed_in(self, claims: dict[str, Any]) -> Principal:
        """Who the provider's claims speak of. Raises Unauthorized, NoGroup."""
        config = self._config().oidc
        return principal_from(
            claims,
            kind="user",
            tenant=config.tenant,
            tenant_claim=config.tenant_claim,
            subject_claim=config.subject_claim,
            scopes=config.scopes,
            groups=config.groups,
            groups_claim=config.groups_claim,
            without_group=config.without_group,
        )

    async def keep_for_ever(self) -> None:
        """Writes down now and then what was used."""
        while True:
            await asyncio.sleep(USE_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        """Writes down what was used since the last time."""
        await self.quotas.keep()
        with contextlib.suppress(GatewayError):  # the next time
            await self.keys.note_use()
