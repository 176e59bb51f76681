"""Keys of one's own: for model providers and hosts, of a person or of a tenant.

Guarantee: a key is set and removed, and never shown again.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import OwnKeyList, OwnKeysErased, OwnKeySummary
from gateway.config.credentials import OwnValue, own_values
from gateway.egress.own_keys import OwnKeys, checked_value
from gateway.egress.vault import Vault
from gateway.errors import Forbidden, InvalidField, KeyNotFound
from gateway.events.facts import iso
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import read_body
from gateway.principal import Principal, is_visitor, reach, tenant_of
from gateway.sessions.services import FaceServices
from gateway.stores.secrets import SecretName

_NAME: Final[dict[str, Any]] = {"type": "string", "description": "A provider's or a credential's name."}
_TENANT: Final[dict[str, Any]] = {"type": "string", "description": "A tenant's name."}


class OwnKeyRequest(Struct):
    """The key, or the value of a credential: one line of ASCII, at most 4,096 characters."""

    key: str


class OwnKeysFace:
    """The handlers."""

    def __init__(self, vault: Vault, own_keys: OwnKeys, services: FaceServices) -> None:
        self._vault = vault
        self._own_keys = own_keys
        self._services = services

    def operations(self) -> list[Operation]:
        """Own keys as operations."""
        mine, theirs = "/api/me/keys", "/api/admin/tenants/{tenant}/keys"
        name, tenant = {"name": _NAME}, {"tenant": _TENANT}
        return [
            Operation(
                method="GET", path=mine, scope="read", handler=self.list_own_keys,
                summary="Which keys of your own are set", answer=OwnKeyList,
            ),
            Operation(
                method="DELETE", path=mine, scope="chat", handler=self.erase_own_keys,
                summary="Remove every key of your own", answer=OwnKeysErased,
            ),
            Operation(
                method="PUT", path=mine + "/{name}", scope="chat", handler=self.set_own_key,
                summary="Set a key of your own", body=OwnKeyRequest, answer=OwnKeySummary, errors=(404,),
                path_schemas=name,
            ),
            Operation(
                method="DELETE", path=mine + "/{name}", scope="chat", handler=self.remove_own_key,
                summary="Remove a key of your own", answer=OwnKeySummary, errors=(404,), path_schemas=name,
            ),
            Operation(
                method="GET", path=theirs, scope="admin", handler=self.list_tenant_keys,
                summary="Which keys of a tenant are set", answer=OwnKeyList, path_schemas=tenant,
            ),
            Operation(
                method="PUT", path=theirs + "/{name}", scope="admin", handler=self.set_tenant_key,
                summary="Set a tenant's key", body=OwnKeyRequest, answer=OwnKeySummary, errors=(404,),
                path_schemas=tenant | name,
            ),
            Operation(
                method="DELETE", path=theirs + "/{name}", scope="admin", handler=self.remove_tenant_key,
                summary="Remove a tenant's key", answer=OwnKeySummary, errors=(404,),
                path_schemas=tenant | name,
            ),
        ]  # fmt: skip

    # -- a person's -------------------------------------------------------------------------------------

    async def list_own_keys(self, request: Request) -> Response:
        return json_response(self._list(principal_of(request).owner, "person"))

    async def set_own_key(self, request: Request) -> Response:
        principal = principal_of(request)
        if is_visitor(principal.owner):
            raise Forbidden("Sign in first: a visitor's keys would be gone with the cookie.")
        return await self._set(request, principal.owner, "person")

    async def remove_own_key(self, request: Request) -> Response:
        return await self._remove(request, principal_of(request).owner, "person")

    async def erase_own_keys(self, request: Request) -> Response:
        principal = principal_of(request)
        count = await self._vault.erase(principal.owner)
        has_sessions = bool(await self._services.store.sessions.of_owner(principal.owner, limit=1))
        await self._services.repositories.forget(principal.owner, has_sessions=has_sessions)
        if count:
            self._services.audit.note(principal, "own_keys.erased", target=principal.owner)
        return json_response(OwnKeysErased(count))

    # -- a tenant's -------------------------------------------------------------------------------------

    async def list_tenant_keys(self, request: Request) -> Response:
        return json_response(self._list(self._tenant(request), "tenant"))

    async def set_tenant_key(self, request: Request) -> Response:
        return await self._set(request, self._tenant(request), "tenant")

    async def remove_tenant_key(self, request: Request) -> Response:
        return await self._remove(request, self._tenant(request), "tenant")

    def _tenant(self, request: Request) -> str:
        """The tenant of the path, which the caller administers. Raises Forbidden, InvalidField."""
        tenant = str(request.path_params["tenant"])
        if reach(principal_of(request)) not in (None, tenant):
            raise Forbidden("You see and set keys of your own tenant only.")
        if self._services.config.tenant(tenant) is None:
            raise InvalidField(f"There is no tenant {tenant[:64]!r}.")
        return tenant

    # -- both -------------------------------------------------------------------------------------------

    async def _set(self, request: Request, owner: str, level: Literal["tenant", "person"]) -> Response:
        body = await read_body(request, OwnKeyRequest, self._services.config)
        known, name = own_values(self._services.config, level=level), str(request.path_params["name"])
        if name not in known:
            names = ", ".join(known) or "none"
            raise KeyNotFound(
                f"Nothing called {name[:64]!r} takes a key of a {level} here; there are: {names}."
            )
        value = checked_value(body.key, kind=known[name].kind)
        await self._vault.set(SecretName(known[name].kind, owner, name), value)
        self._note(principal_of(request), "own_key.set", owner, name)
        return json_response(self._summary(owner, name, known.get(name)))

    async def _remove(self, request: Request, owner: str, level: Literal["tenant", "person"]) -> Response:
        """A key that is set can be removed also if nothing uses it any more."""
        name = str(request.path_params["name"])
        found = [kept.name for kept in self._vault.kept(owner) if kept.name.name == name]
        if not found:
            raise KeyNotFound
        for each in found:
            await self._vault.remove(each)
        self._note(principal_of(request), "own_key.removed", owner, name)
        known = own_values(self._services.config, level=level)
        return json_response(self._summary(owner, name, known.get(name)))

    def _note(self, principal: Principal, action: str, owner: str, name: str) -> None:
        self._services.audit.note(principal, action, target=owner, detail=name[:64])

    def _list(self, owner: str, level: Literal["tenant", "person"]) -> OwnKeyList:
        known = own_values(self._services.config, level=level)
        names = sorted({*known, *(kept.name.name for kept in self._vault.kept(owner))})
        return OwnKeyList([self._summary(owner, name, known.get(name)) for name in names])

    def _summary(self, owner: str, name: str, known: OwnValue | None) -> OwnKeySummary:
        kept = next((kept for kept in self._vault.kept(owner) if kept.name.name == name), None)
        kind = known.kind if known is not None else kept.name.kind if kept is not None else "provider"
        tenant = tenant_of(owner)
        theirs = self._vault.get(SecretName(kind, tenant, name)) is not None and owner != tenant
        return OwnKeySummary(
            name=name,
            kind=kind,
            need=known.need if known is not None else "unused",
            state=kept.state if kept is not None else "not_set",
            set_at=iso(kept.set_at) if kept is not None else None,
            has_fallback=kind == "provider" and (theirs or self._own_keys.has_file(tenant, name)),
        )
