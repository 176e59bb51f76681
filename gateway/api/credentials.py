"""Keys and tenants, for administrators: of the whole gateway, or of their own tenant.

The tenant `default` is the gateway's own: its administrators reach every tenant, others only theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import KeyList, KeySummary, MintedKey, Reloaded, TenantList, TenantSummary
from gateway.auth.keys import NAME_WORDS, KeyRing, is_name
from gateway.config.file import ConfigError
from gateway.config.tables import DAY_MILLISECONDS, DEFAULT_TENANT
from gateway.errors import Forbidden, InvalidField, KeyNotFound
from gateway.events.facts import iso
from gateway.http.gate import Gate, principal_of
from gateway.http.operation import Operation, Spoken, json_response
from gateway.http.reading import read_body
from gateway.principal import IMPLIED, Principal, is_subject, reach, with_implied
from gateway.sessions.services import FaceServices
from gateway.stores.credentials import ApiKey, CredentialStore

_HARMLESS: Final = frozenset({"chat", "approve", "read"})
"""Scopes that an administrator gives without having them."""
MAX_DAYS: Final = 3650
MAX_OVERLAP_HOURS: Final = 24 * 30


_DAYS: Final = {"exclusiveMinimum": 0, "maximum": MAX_DAYS}
_OVERLAP: Final = {"minimum": 0, "maximum": MAX_OVERLAP_HOURS}


class MintRequest(Struct):
    """`POST /api/admin/keys`. `subject`: on whose behalf, absent: the key's name; `days` absent: no end."""

    name: Spoken
    tenant: str = DEFAULT_TENANT
    subject: str | None = None
    scopes: Annotated[tuple[str, ...], Meta(extra_json_schema={"minItems": 1})] = ("chat",)
    days: Annotated[float, Meta(extra_json_schema=_DAYS)] | None = None


class RotateRequest(Struct):
    """`POST /api/admin/keys/{id}/rotate`: how long the old key goes on."""

    overlap_hours: Annotated[float, Meta(extra_json_schema=_OVERLAP)] = 24


class RevokeRequest(Struct):
    """`POST /api/admin/revoke`: what browsers hold of this person (or `~visitor`) is refused from now on."""

    tenant: str
    subject: str


class Revoked(Struct, frozen=True):
    """Whose cookies and tokens are refused now."""

    tenant: str
    subject: str


class CredentialsFace:
    """The handlers."""

    def __init__(
        self,
        keys: KeyRing,
        gate: Gate,
        credentials: CredentialStore,
        services: FaceServices,
        *,
        reload: Callable[[], Reloaded],
    ) -> None:
        self._keys = keys
        self._gate = gate
        self._credentials = credentials
        self._services = services
        self._reload = reload

    def operations(self) -> list[Operation]:
        """Keys and tenants as operations."""
        keys = "/api/admin/keys"
        return [
            Operation(
                method="GET", path=keys, scope="admin", handler=self.list_keys, summary="API keys",
                answer=KeyList,
            ),
            Operation(
                method="POST", path=keys, scope="admin", handler=self.mint_key, summary="Make an API key",
                body=MintRequest, answer=MintedKey, status=201,
            ),
            Operation(
                method="POST", path=keys + "/{key_id}/rotate", scope="admin", handler=self.rotate_key,
                summary="A new key for an old one", body=RotateRequest, answer=MintedKey, status=201,
                errors=(404,),
            ),
            Operation(
                method="DELETE", path=keys + "/{key_id}", scope="admin", handler=self.revoke_key,
                summary="Revoke an API key", answer=KeySummary, errors=(404,),
            ),
            Operation(
                method="POST", path="/api/admin/revoke", scope="admin", handler=self.revoke_browsers,
                summary="Refuse what browsers hold of somebody", body=RevokeRequest, answer=Revoked,
            ),
            Operation(
                method="GET", path="/api/admin/tenants", scope="operate", handler=self.list_tenants,
                summary="Tenants and what they use", answer=TenantList,
            ),
            Operation(
                method="POST", path="/api/admin/reload", scope="admin", handler=self.reload_config,
                summary="Read the configuration again", answer=Reloaded, is_gateway_wide=True,
            ),
        ]  # fmt: skip

    # -- keys -------------------------------------------------------------------------------------------

    async def list_keys(self, request: Request) -> Response:
        principal = principal_of(request)
        known = [key for key in self._keys.all() if _reaches(principal, key.tenant)]
        return json_response(KeyList([self._summary(key) for key in known]))

    async def mint_key(self, request: Request) -> Response:
        body = await read_body(request, MintRequest, self._services.config)
        principal = principal_of(request)
        subject = body.subject or body.name
        self._check(body, subject, principal)
        ends = self._services.wall_ms() + round(body.days * DAY_MILLISECONDS) if body.days else None
        key, text = await self._keys.mint(
            body.tenant, subject, name=body.name, scopes=body.scopes, expires_at=ends
        )
        self._services.audit.note(principal, "key.made", target=key.id, detail=f"{key.tenant}/{subject}")
        return json_response(MintedKey(text, self._summary(key)), status=201)

    def _check(self, body: MintRequest, subject: str, principal: Principal) -> None:
        """Raises InvalidField for what cannot be, Forbidden for what the caller has not itself."""
        if not is_name(body.name):
            raise InvalidField(f"A name is {NAME_WORDS} - at `$.name`.")
        if not is_subject(subject):
            raise InvalidField(
                "A subject is up to 255 printable characters, without ~ first - at `$.subject`."
            )
        unknown = [scope for scope in body.scopes if scope not in IMPLIED]
        if unknown or not body.scopes:
            raise InvalidField(f"scopes are of {', '.join(IMPLIED)} - at `$.scopes`.")
        if body.days is not None and not 0 < body.days <= MAX_DAYS:
            raise InvalidField(f"days is more than 0, at most {MAX_DAYS} - at `$.days`.")
        if not _reaches(principal, body.tenant):
            raise Forbidden("You make keys of your own tenant only.")
        if self._services.config.tenant(body.tenant) is None:
            known = ", ".join({DEFAULT_TENANT: None, **self._services.config.tenants})
            raise InvalidField(
                f"There is no tenant {body.tenant[:64]!r}; there are: {known} - at `$.tenant`."
            )
        if not with_implied(frozenset(body.scopes)) - _HARMLESS <= principal.scopes:
            raise Forbidden("Keys for operators and administrators are made by those who are.")

    async def rotate_key(self, request: Request) -> Response:
        body = await read_body(request, RotateRequest, self._services.config)
        if not 0 <= body.overlap_hours <= MAX_OVERLAP_HOURS:
            raise InvalidField(f"overlap_hours is 0 to {MAX_OVERLAP_HOURS} - at `$.overlap_hours`.")
        old = self._own_key(request)
        key, text = await self._keys.rotate(old.id, overlap_ms=round(body.overlap_hours * 3_600_000))
        self._services.audit.note(principal_of(request), "key.rotated", target=old.id, detail=key.id)
        return json_response(MintedKey(text, self._summary(key)), status=201)

    async def revoke_key(self, request: Request) -> Response:
        key = await self._keys.revoke(self._own_key(request).id)
        self._gate.look_again(f"{key.tenant}/{key.subject}")
        self._services.audit.note(principal_of(request), "key.revoked", target=key.id)
        return json_response(self._summary(key))

    def _own_key(self, request: Request) -> ApiKey:
        key = self._keys.find(request.path_params["key_id"])
        if key is None or not _reaches(principal_of(request), key.tenant):
            raise KeyNotFound
        return key

    def _summary(self, key: ApiKey) -> KeySummary:
        is_good = self._keys.is_good(key)
        return KeySummary(
            id=key.id,
            tenant=key.tenant,
            subject=key.subject,
            name=key.name,
            scopes=key.scopes,
            state="good" if is_good else "revoked" if key.revoked_at is not None else "expired",
            created_at=iso(key.created_at),
            expires_at=iso(key.expires_at) if key.expires_at else None,
            last_used_at=iso(key.last_used_at) if key.last_used_at else None,
        )

    async def revoke_browsers(self, request: Request) -> Response:
        body = await read_body(request, RevokeRequest, self._services.config)
        if not _reaches(principal_of(request), body.tenant):
            raise Forbidden("You revoke what belongs to your own tenant only.")
        await self._gate.revoke(Principal(body.tenant, body.subject).owner, self._credentials)
        audit, target = self._services.audit, f"{body.tenant}/{body.subject}"
        audit.note(principal_of(request), "browsers.revoked", target=target)
        return json_response(Revoked(body.tenant, body.subject))

    # -- tenants ----------------------------------------------------------------------------------------

    async def list_tenants(self, request: Request) -> Response:
        config, used = self._services.config, self._services.quotas.tenants()
        names = [
            name
            for name in sorted({DEFAULT_TENANT, *config.tenants, *used})
            if _reaches(principal_of(request), name)
        ]
        return json_response(TenantList([self.tenant(name) for name in names]))

    def tenant(self, name: str) -> TenantSummary:
        """What a tenant has and has used today."""
        tenant = self._services.config.tenant(name)
        use, held = self._services.quotas.of_tenant(name)
        return TenantSummary(
            name=name,
            title=tenant.title if tenant is not None else "",
            is_disabled=tenant is None or tenant.is_disabled,
            sessions_live=held.live,
            sessions_stored=held.stored,
            concurrent_turns=held.running,
            messages=use.messages,
            tokens=use.tokens,
            cpu_seconds=use.cpu_ms / 1000,
            memory_gb_seconds=use.memory_mb_seconds / 1000,
            stored_bytes=held.stored_bytes,
            limits=self._services.quotas.limits_of(("tenant", name)),
        )

    async def reload_config(self, request: Request) -> Response:
        principal, audit = principal_of(request), self._services.audit
        try:
            done = self._reload()
        except ConfigError as error:
            audit.note(principal, "config.reloaded", outcome="refused")
            raise InvalidField("; ".join(error.mistakes)) from None
        audit.note(principal, "config.reloaded")
        return json_response(done)


def _reaches(principal: Principal, tenant: str) -> bool:
    return reach(principal) in (None, tenant)
