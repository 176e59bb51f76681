"""Making, disabling and enabling tenants while the gateway runs, for administrators of the whole gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import TenantSummary
from gateway.auth.kept_tenants import KeptTenants
from gateway.config.tables import DEFAULT_TENANT
from gateway.errors import Forbidden, InvalidField, TenantNotFound
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, Spoken, json_response
from gateway.http.reading import read_body
from gateway.sessions.services import FaceServices

NAME_PATTERN: Final = "[a-z0-9][a-z0-9_-]{0,63}"
TITLE_CHARACTERS: Final = 200
_NAME: Final = re.compile(NAME_PATTERN)
TENANT_NAME_SCHEMA: Final = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}


class TenantRequest(Struct):
    """`POST /api/admin/tenants`: the name, as in keys and in the configuration, and a title for people."""

    name: Spoken
    title: Annotated[str, Meta(extra_json_schema={"maxLength": TITLE_CHARACTERS})] = ""


class TenantsFace:
    """The handlers. `apply` has the gateway go on with the tenants as they are; `summary` is one of them."""

    def __init__(
        self,
        services: FaceServices,
        tenants: KeptTenants,
        *,
        apply: Callable[[], None],
        summary: Callable[[str], TenantSummary],
    ) -> None:
        self._services = services
        self._tenants = tenants
        self._apply = apply
        self._summary = summary
        self._lock = asyncio.Lock()

    def operations(self) -> list[Operation]:
        """Tenants as operations."""
        path = "/api/admin/tenants"
        named = {"name": TENANT_NAME_SCHEMA}
        return [
            Operation(
                method="POST", path=path, scope="admin", handler=self.make_tenant, summary="Make a tenant",
                body=TenantRequest, answer=TenantSummary, status=201, is_gateway_wide=True,
            ),
            Operation(
                method="POST", path=path + "/{name}/disable", scope="admin", handler=self.disable_tenant,
                summary="Refuse everybody of a tenant and end what runs for them; nothing is erased",
                answer=TenantSummary, errors=(404,), is_gateway_wide=True, path_schemas=named,
            ),
            Operation(
                method="POST", path=path + "/{name}/enable", scope="admin", handler=self.enable_tenant,
                summary="Serve a tenant again", answer=TenantSummary, errors=(404,), is_gateway_wide=True,
                path_schemas=named,
            ),
        ]  # fmt: skip

    async def make_tenant(self, request: Request) -> Response:
        body = await read_body(request, TenantRequest, self._services.config)
        if not _NAME.fullmatch(body.name):
            raise InvalidField("A tenant's name is up to 64 of a-z, 0-9, _ and - - at `$.name`.")
        title = body.title.strip()
        if len(title) > TITLE_CHARACTERS or not (title.isprintable() or not title):
            raise InvalidField(f"A title is up to {TITLE_CHARACTERS} printable characters - at `$.title`.")
        async with self._lock:
            if self._services.config.tenant(body.name) is not None:
                raise InvalidField(f"There is a tenant {body.name!r} already - at `$.name`.")
            await self._tenants.make(body.name, title)
            self._apply()
        self._services.audit.note(principal_of(request), "tenant.made", target=body.name)
        return json_response(self._summary(body.name), status=201)

    async def disable_tenant(self, request: Request) -> Response:
        return await self._switch(request, is_disabled=True)

    async def enable_tenant(self, request: Request) -> Response:
        return await self._switch(request, is_disabled=False)

    async def _switch(self, request: Request, *, is_disabled: bool) -> Response:
        name: str = request.path_params["name"]
        if self._services.config.tenant(name) is None:
            raise TenantNotFound
        if name == DEFAULT_TENANT:
            raise Forbidden("The tenant default is the gateway's own: it cannot be disabled here.")
        if not is_disabled and self._tenants.is_disabled_in_configuration(name):
            raise Forbidden(f"The configuration disables this tenant: [tenants.{name}] is_disabled.")
        async with self._lock:
            await self._tenants.switch(name, is_disabled=is_disabled)
            self._apply()
        action = "tenant.disabled" if is_disabled else "tenant.enabled"
        self._services.audit.note(principal_of(request), action, target=name)
        return json_response(self._summary(name))
