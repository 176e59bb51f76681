"""Who one is: signing in and out, and moving to another browser.

Signing in, by a pasted key or an OpenID provider, brings along the sessions that the visitor had made before.
"""

from __future__ import annotations

import hmac
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.api.branding import Branding, branding
from gateway.auth.oidc import Provider, ProviderFailed
from gateway.config.tables import LimitsConfig
from gateway.errors import Forbidden, RouteNotFound, SignInFailed, SignInStale, Unauthorized
from gateway.events.facts import iso
from gateway.http.gate import Gate, principal_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import public_base, read_body
from gateway.principal import Principal
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.stores.credentials import CredentialStore

SIGN_IN_SECONDS: Final = 600
HANDOVER_SECONDS: Final = 600
_YES: Final = ("1", "true")


class Me(Struct, frozen=True):
    """Who asks. `csrf_token` goes into X-CSRF-Token where no Origin is sent."""

    tenant: str
    subject: str
    kind: str
    scopes: list[str]
    csrf_token: str
    may_approve: bool | UnsetType = UNSET
    """Whether they may answer permission requests; absent: whoever has the scope `chat` may."""
    may_command: bool | UnsetType = UNSET
    """False: a message of theirs that begins with `/` is no command of the agent's; absent: it may be one."""


class ApplicationPage(Struct, frozen=True):
    """An application that has a part of the page of its own: `page` is the address of its module."""

    name: str
    page: str


class AuthState(Struct, frozen=True):
    """How one may be let in here, and who one is already."""

    modes: list[str]
    sign_in: list[str]
    """key: POST /api/auth/sign-in; oidc: GET /api/auth/oidc/start."""
    me: Me | None
    shared_links: int = 0
    """Links to a visitor's sessions. Signing in ends them, unless `keep_shares` is said."""
    applications: list[str | ApplicationPage] = []
    """The applications that run here."""
    page: Branding | UnsetType = UNSET
    """What the operator has set of the page's look."""
    message_bytes: int | UnsetType = UNSET
    """How long a message may be in UTF-8; absent: 32,768."""
    signs_in_again: bool | UnsetType = UNSET
    """True if this browser's sign-in ended because its provider has to confirm it: send the browser to
    GET /api/auth/oidc/start?silent=true, which asks nothing of a person who is signed in there.
    """


class SignInRequest(Struct):
    """`POST /api/auth/sign-in`; `keep_shares` lets links to the visitor's sessions lead there still."""

    key: str
    keep_shares: bool = False


class SignOutRequest(Struct):
    """`POST /api/auth/sign-out`; `everywhere` ends what other browsers hold, too."""

    everywhere: bool = False


class ClaimRequest(Struct):
    """`POST /api/auth/handover/claim`; `keep_shares` as in `SignInRequest`."""

    token: str
    keep_shares: bool = False


class Handover(Struct, frozen=True):
    """A link that makes one other browser this person, once."""

    token: str
    url: str
    expires_at: str


class IdentityFace:
    """The handlers."""

    def __init__(
        self,
        manager: SessionManager,
        services: FaceServices,
        *,
        gate: Gate,
        credentials: CredentialStore,
        provider: Provider | None,
        signed_in: Callable[[dict[str, Any]], Principal],
    ) -> None:
        """`signed_in` says who a provider's claims speak of."""
        self._manager = manager
        self._services = services
        self._gate = gate
        self._credentials = credentials
        self.provider = provider
        self._signed_in = signed_in
        self.applications: list[str | ApplicationPage] = []

    def operations(self) -> list[Operation]:
        """Identity as operations."""
        text = {"type": "string"}
        after = Parameter(name="next", schema=text, description="Where to go afterwards, a path here.")
        keep = Parameter(
            name="keep_shares", schema={"type": "boolean"}, description="Links to what the visitor made stay."
        )
        silent = Parameter(
            name="silent",
            schema={"type": "boolean"},
            description="Ask nothing of the person: who is signed in at the provider comes back signed in.",
        )
        back = tuple(
            Parameter(name=name, schema=text, description="What the provider sends.")
            for name in ("code", "state", "error")
        )
        return [
            Operation(
                method="GET", path="/api/auth", scope="", handler=self.auth_state,
                summary="How to be let in", answer=AuthState, errors=(401,),
            ),
            Operation(
                method="GET", path="/api/me", scope="read", handler=self.me, summary="Who you are", answer=Me,
            ),
            Operation(
                method="POST", path="/api/auth/sign-in", scope="", handler=self.sign_in,
                summary="Sign in with an API key", body=SignInRequest, answer=Me, errors=(401,),
            ),
            Operation(
                method="POST", path="/api/auth/sign-out", scope="read", handler=self.sign_out,
                summary="Sign out", body=SignOutRequest, status=204,
            ),
            Operation(
                method="GET", path="/api/auth/oidc/start", scope="", handler=self.oidc_start,
                summary="Sign in with the provider", status=302, media_type="text/plain",
                parameters=(after, keep, silent), errors=(401, 404),
            ),
            Operation(
                method="GET", path="/api/auth/oidc/callback", scope="", handler=self.oidc_callback,
                summary="Where the provider sends people back", status=302, media_type="text/plain",
                parameters=back, errors=(401, 404),
            ),
            Operation(
                method="POST", path="/api/auth/handover", scope="chat", handler=self.hand_over,
                summary="Move to another browser", answer=Handover,
            ),
            Operation(
                method="POST", path="/api/auth/handover/claim", scope="", handler=self.claim,
                summary="Be who made the link", body=ClaimRequest, answer=Me, errors=(401,),
            ),
        ]  # fmt: skip

    # -- who --------------------------------------------------------------------------------------------

    async def auth_state(self, request: Request) -> Response:
        modes = self._services.config.auth.modes
        try:
            principal = await self._gate.identify(request)
        except (Unauthorized, SignInStale):
            principal = None
        sign_in = [way for way, mode in (("key", "keys"), ("oidc", "oidc")) if mode in modes]
        me = None if principal is None else self._me(principal)
        is_visitor = principal is not None and principal.kind == "visitor"
        links = await self._credentials.count_shares(principal.owner) if principal and is_visitor else 0
        again = principal is None and self._gate.may_sign_in_silently(request)
        config, message_bytes = self._services.config, self._services.config.limits.message_bytes
        state = AuthState(
            list(modes),
            sign_in,
            me,
            links,
            self.applications,
            page=branding(config.page),
            message_bytes=UNSET if message_bytes == LimitsConfig().message_bytes else message_bytes,
            signs_in_again=True if again else UNSET,
        )
        return json_response(state)

    async def me(self, request: Request) -> Response:
        return json_response(self._me(principal_of(request)))

    def _me(self, principal: Principal) -> Me:
        csrf = self._gate.tickets.csrf(principal.owner)
        is_apart = self._services.config.approvals.require_scope
        may_approve = self._gate.may(principal, "approve") if is_apart else UNSET
        is_visitor, visitors = principal.kind == "visitor", self._services.config.visitors
        may_command = False if is_visitor and not visitors.commands else UNSET
        scopes = sorted(principal.scopes)
        return Me(
            *(principal.tenant, principal.subject, principal.kind, scopes, csrf),
            may_approve=may_approve,
            may_command=may_command,
        )

    # -- signing in -------------------------------------------------------------------------------------

    async def sign_in(self, request: Request) -> Response:
        body = await read_body(request, SignInRequest, self._services.config)
        if "keys" not in self._services.config.auth.modes:
            raise SignInFailed("API keys are not accepted here.")
        known = await self._gate.by_pasted_key(request, body.key.strip())
        principal = Principal(known.tenant, known.subject, "user", known.scopes, known.key_id)
        await self._become(request, principal, keeps_shares=body.keep_shares)
        return json_response(self._me(principal))

    async def sign_out(self, request: Request) -> Response:
        body = await read_body(request, SignOutRequest, self._services.config)
        principal = principal_of(request)
        self._services.audit.note(principal, "signed_out", detail="everywhere" if body.everywhere else None)
        if body.everywhere:
            await self._gate.revoke(principal.owner, self._credentials)
        self._gate.clear_cookies(request)
        return Response(status_code=204)

    async def oidc_start(self, request: Request) -> Response:
        provider, query = self._known_provider(), request.query_params
        after, is_silent = _path(query.get("next", "/")), query.get("silent", "").lower() in _YES
        if is_silent:  # once: a browser that comes back without a sign-in is asked for one
            self._gate.drop_stale(request)
        try:
            attempt = await provider.begin(is_silent=is_silent)
        except ProviderFailed as error:
            if is_silent:
                return RedirectResponse(after, status_code=302)
            raise SignInFailed(str(error)) from None
        told = {
            "state": attempt.state,
            "nonce": attempt.nonce,
            "verifier": attempt.verifier,
            "next": after,
            "keep_shares": query.get("keep_shares", ""),
            "silent": "true" if is_silent else "",
        }
        self._gate.set_cookie(request, "state", seconds=SIGN_IN_SECONDS, extra=told)
        return RedirectResponse(attempt.url, status_code=302)

    async def oidc_callback(self, request: Request) -> Response:
        provider, query = self._known_provider(), request.query_params
        ticket = self._gate.cookie(request, "state")
        given = query.get("state", "").encode()
        if ticket is None or not hmac.compare_digest(ticket.extra["state"].encode(), given):
            raise SignInFailed("This sign-in was not begun in this browser, or too long ago. Begin again.")
        self._gate.drop_cookie(request, "state")
        if not await self._credentials.use_once(ticket.nonce, expires_at=ticket.expires_at):
            raise SignInFailed("This sign-in has been used already. Begin again.")
        if not query.get("code"):
            if ticket.extra.get("silent"):  # there is something to ask: the page offers to sign in
                return RedirectResponse(ticket.extra["next"], status_code=302)
            raise SignInFailed("The provider did not confirm the sign-in. Begin again.")
        try:
            confirmed = await provider.finish(
                query["code"], verifier=ticket.extra["verifier"], nonce=ticket.extra["nonce"]
            )
        except ProviderFailed as error:
            raise SignInFailed(str(error)) from None
        principal = self._signed_in(confirmed.claims)
        self._gate.check_served(principal)
        keeps_shares = ticket.extra.get("keep_shares", "").lower() in _YES
        sign_in = self._gate.begin_sign_in(principal, confirmed)
        await self._become(request, principal, keeps_shares=keeps_shares, sign_in=sign_in)
        return RedirectResponse(ticket.extra["next"], status_code=302)

    def _known_provider(self) -> Provider:
        if self.provider is None:
            raise RouteNotFound("Signing in with a provider is not configured here.")
        return self.provider

    async def _become(
        self,
        request: Request,
        principal: Principal,
        *,
        keeps_shares: bool,
        sign_in: dict[str, str] | None = None,
    ) -> None:
        """Signs the browser in, and gives the person what the visitor had."""
        self._services.audit.note(principal, "signed_in")
        await self._take_along(request, principal, keeps_shares=keeps_shares)
        self._gate.clear_cookies(request)
        self._gate.set_user(request, principal, sign_in=sign_in)

    async def _take_along(self, request: Request, principal: Principal, *, keeps_shares: bool) -> None:
        visitor = self._gate.visitor_of(request)
        if visitor is None or self._gate.people.is_disabled(visitor.owner):
            return  # a disabled visitor does not go on as somebody else
        if visitor.owner != principal.owner:
            await self._manager.adopt(visitor.owner, principal.owner, keeps_shares=keeps_shares)

    # -- another browser --------------------------------------------------------------------------------

    async def hand_over(self, request: Request) -> Response:
        principal = principal_of(request)
        if principal.kind not in ("visitor", "user"):
            raise Forbidden("Only who is known by a browser can move to another one.")
        sign_in = self._gate.sign_in_for_another(request, principal)
        token = self._gate.tickets.issue(
            "handover", seconds=HANDOVER_SECONDS, principal=principal, extra=sign_in
        )
        base = public_base(request, self._services.config)
        expires_at = iso(self._services.wall_ms() + HANDOVER_SECONDS * 1000)
        return json_response(Handover(token, f"{base}/#handover={token}", expires_at))

    async def claim(self, request: Request) -> Response:
        body = await read_body(request, ClaimRequest, self._services.config)
        ticket = self._gate.tickets.read("handover", body.token)
        if ticket is None or ticket.principal is None:
            raise SignInFailed("This link is not valid any more; make a new one.")
        if not await self._credentials.use_once(ticket.nonce, expires_at=ticket.expires_at):
            raise SignInFailed("This link was used already; make a new one.")
        principal = ticket.principal
        self._gate.check_served(principal)
        self._services.audit.note(principal, "handover.claimed")
        await self._take_along(request, principal, keeps_shares=body.keep_shares)
        self._gate.clear_cookies(request)
        if principal.kind == "visitor":
            self._gate.set_visitor(request, principal)
        else:
            self._gate.set_user(request, principal, sign_in=self._gate.sign_in_of(ticket))
        return json_response(self._me(principal))


def _path(text: str) -> str:
    """A path of this gateway, whatever was asked for: a sign-in never leads to another site."""
    parts = urllib.parse.urlsplit(text)
    is_ours = not parts.scheme and not parts.netloc and text.startswith("/") and text[1:2] not in ("/", "\\")
    return text if is_ours and text.isprintable() else "/"
