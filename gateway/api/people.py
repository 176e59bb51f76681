"""People, for administrators: what each has and uses, and disabling them.

A disabled person is refused with every credential, and what is open or runs on their behalf ends within
seconds. Nothing is revoked or erased, so that enabling brings everything back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import PeopleList, PersonSummary
from gateway.auth.keys import KeyRing
from gateway.egress.vault import Vault
from gateway.errors import Forbidden, InvalidField
from gateway.events.facts import iso
from gateway.events.lifecycle import CloseReason
from gateway.http.gate import Gate, is_at_machine, principal_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import query_int, read_body
from gateway.principal import VISITOR_MARK, Principal, is_subject, is_visitor, reach, tenant_of
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices

MAX_ROWS: Final = 10_000
ENDED_SECONDS: Final = 5.0
"""How long the answer to `disable` waits for what ends. What takes longer goes on ending."""
_YES: Final = ("1", "true")


class PersonRequest(Struct):
    """`POST /api/admin/people/disable` and `…/enable`: who; `~…` for a visitor."""

    tenant: str
    subject: str


class PeopleFace:
    """The handlers."""

    def __init__(
        self, manager: SessionManager, services: FaceServices, *, gate: Gate, keys: KeyRing, vault: Vault
    ) -> None:
        self._manager = manager
        self._services = services
        self._gate = gate
        self._people = gate.people
        self._keys = keys
        self._vault = vault

    def operations(self) -> list[Operation]:
        """People as operations."""
        people = "/api/admin/people"
        return [
            Operation(
                method="GET", path=people, scope="admin", handler=self.list_people,
                summary="People, with what they have and have used today", answer=PeopleList,
                parameters=(
                    Parameter(
                        name="limit", schema={"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
                        description="How many.",
                    ),
                    Parameter(name="tenant", schema={"type": "string"}, description="Only of this tenant."),
                    Parameter(
                        name="visitors", schema={"type": "boolean"},
                        description="Anonymous visitors, too.",
                    ),
                ),
            ),
            Operation(
                method="POST", path=people + "/disable", scope="admin", handler=self.disable_person,
                summary="Refuse a person and end what runs for them; nothing is erased",
                body=PersonRequest, answer=PersonSummary,
            ),
            Operation(
                method="POST", path=people + "/enable", scope="admin", handler=self.enable_person,
                summary="Serve a person again", body=PersonRequest, answer=PersonSummary,
            ),
        ]  # fmt: skip

    # -- watching ---------------------------------------------------------------------------------------

    async def list_people(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=1_000, low=1, high=MAX_ROWS)
        reached = reach(principal_of(request))
        tenants = {name for name in (reached, request.query_params.get("tenant")) if name is not None}
        has_visitors = request.query_params.get("visitors", "").lower() in _YES
        last_used = await self._last_used(has_visitors=has_visitors)
        keys, own = self._good_keys(), self._vault.names()
        with_own = {owner for owner in own if "/" in owner}  # the others are tenants'
        owners = (
            self._services.quotas.subjects() | last_used.keys() | keys.keys() | self._people.disabled.keys()
        ) | with_own
        found = sorted(
            (
                owner
                for owner in owners
                if all(tenant == tenant_of(owner) for tenant in tenants)
                and (has_visitors or not is_visitor(owner) or self._people.is_disabled(owner))
            ),
            key=lambda owner: (-last_used.get(owner, 0), owner),
        )
        rows = [
            self._summary(owner, last_used.get(owner), keys.get(owner, 0), own.get(owner, []))
            for owner in found[:limit]
        ]
        return json_response(PeopleList(rows, has_more=len(found) > limit))

    async def _last_used(self, *, has_visitors: bool) -> dict[str, int]:
        """Owner → when one of their sessions or keys was last used; of visitors only if asked for."""
        used = await self._services.store.sessions.last_used(has_visitors=has_visitors)
        return self._and_now(used | await self._used_by(self._people.disabled.keys() - used.keys()))

    async def _used_by(self, owners: Iterable[str]) -> dict[str, int]:
        """The same of a few, by what is stored."""
        found = [await self._services.store.sessions.of_owner(owner, limit=1) for owner in owners]
        return {record.owner: record.last_active_at for records in found for record in records}

    def _and_now(self, used: dict[str, int]) -> dict[str, int]:
        """With what is not stored yet."""
        now = self._services.wall_ms()
        live = (
            (session.record.owner, now - round(session.idle_seconds * 1000))
            for session in self._manager.sessions()
        )
        by_key = ((f"{key.tenant}/{key.subject}", key.last_used_at) for key in self._keys.all())
        for owner, at in (*live, *by_key):
            if at is not None:
                used[owner] = max(at, used.get(owner, 0))
        return used

    def _good_keys(self) -> dict[str, int]:
        """Owner → how many of their keys are good."""
        counts: dict[str, int] = {}
        for key in self._keys.all():
            owner = f"{key.tenant}/{key.subject}"
            counts[owner] = counts.get(owner, 0) + self._keys.is_good(key)
        return counts

    def _summary(self, owner: str, used_at: int | None, keys: int, own_keys: Iterable[str]) -> PersonSummary:
        use, held = self._services.quotas.of_subject(owner)
        since = self._people.disabled.get(owner)
        tenant, _, subject = owner.partition("/")
        return PersonSummary(
            tenant=tenant,
            subject=subject,
            is_disabled=since is not None,
            disabled_at=None if since is None else iso(since),
            sessions_live=held.live,
            sessions_stored=held.stored,
            stored_bytes=held.stored_bytes,
            keys=keys,
            messages=use.messages,
            tokens=use.tokens,
            last_used_at=iso(used_at) if used_at else None,
            cost_usd=self._services.ledger.budgets.cost_today(("subject", owner)),
            own_keys=tuple(own_keys),
            limits=self._services.quotas.limits_of(("subject", owner)),
        )

    # -- disabling --------------------------------------------------------------------------------------

    async def disable_person(self, request: Request) -> Response:
        owner = await self._named(request)
        if owner == principal_of(request).owner and not is_at_machine(request):
            raise Forbidden("You cannot disable your own account. Another administrator can.")
        await self._people.disable(owner)
        self._services.audit.note(principal_of(request), "person.disabled", target=owner)
        self._gate.look_again(owner)
        ending = asyncio.ensure_future(self._manager.close_all(owner, CloseReason.PERSON_DISABLED))
        await asyncio.wait([ending], timeout=ENDED_SECONDS)
        return await self._answer(owner)

    async def enable_person(self, request: Request) -> Response:
        owner = await self._named(request)
        await self._people.enable(owner)
        self._services.audit.note(principal_of(request), "person.enabled", target=owner)
        return await self._answer(owner)

    async def _named(self, request: Request) -> str:
        """The owner that the body names. Raises InvalidField; Forbidden for one that the caller does not
        reach.
        """
        body = await read_body(request, PersonRequest, self._services.config)
        if not is_subject(body.subject.removeprefix(VISITOR_MARK)):
            raise InvalidField("A subject is up to 255 printable characters - at `$.subject`.")
        if reach(principal_of(request)) not in (None, body.tenant):
            raise Forbidden("You disable and enable people of your own tenant only.")
        if self._services.config.tenant(body.tenant) is None:
            raise InvalidField(f"There is no tenant {body.tenant[:64]!r} - at `$.tenant`.")
        return Principal(body.tenant, body.subject).owner

    async def _answer(self, owner: str) -> Response:
        used = self._and_now(await self._used_by([owner]))
        keys, own = self._good_keys().get(owner, 0), self._vault.names().get(owner, [])
        return json_response(self._summary(owner, used.get(owner), keys, own))
