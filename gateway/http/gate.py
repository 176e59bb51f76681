"""Credentials → Principal: who a caller is, and whether it may do what it asks.

An API key, a JWT, a visitor's cookie or token, a sign-in's cookie, a header of a proxy in front, or, in
`open` mode, being at the machine. Ids route, only these authorise. What a browser sends by itself (a cookie)
proves no intent: what changes something also needs an Origin that the guard accepted, or the CSRF token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from starlette.requests import HTTPConnection

from gateway.auth.claims import principal_from, scopes_in
from gateway.auth.keys import PREFIX, KeyRing
from gateway.auth.oidc import Confirmed
from gateway.auth.passes import is_pass
from gateway.auth.people import People
from gateway.auth.permits import Permit, Permits
from gateway.auth.sign_ins import CONFIRM_SECONDS, CONFIRMED_AT, SIGN_IN, SignIns
from gateway.auth.tickets import Ticket, Tickets
from gateway.auth.tokens import TokenRefused, TokenVerifier
from gateway.buckets import TokenBuckets
from gateway.config.addresses import is_listed, is_within
from gateway.config.tables import Config, ServerConfig
from gateway.errors import (
    BrokenInvariant,
    CsrfMissing,
    Forbidden,
    SignInFailed,
    SignInStale,
    TenantDisabled,
    Unauthorized,
)
from gateway.http import cookies
from gateway.http.scope import carried
from gateway.principal import (
    ALL_SCOPES,
    LOCAL,
    VISITOR_MARK,
    Principal,
    is_subject,
    tenant_of,
    with_implied,
)
from gateway.stores.credentials import CredentialStore

VISITOR_PREFIX: Final = "agv_"
ACCESS_PREFIX: Final = "aga_"
"""How the tokens of `POST /api/login` begin."""
VISITOR_HEADER: Final = "X-Visitor-Token"
"""Carries a new visitor's token where a page of another site could not keep a cookie."""
ON_BEHALF_OF: Final = "x-on-behalf-of"
"""TENANT/SUBJECT: the operator at the machine acts for somebody; only through the socket."""
RENEW_AFTER: Final = 0.25
"""A cookie is renewed when so much of its life is over."""
CookieUse = Literal["visitor", "user", "state"]
KINDS: Final[dict[CookieUse, str]] = {
    "visitor": cookies.VISITOR,
    "user": cookies.USER,
    "state": cookies.SIGN_IN,
}
NAME: Final = "name"
"""In a ticket's `extra`: the name of the cookie that it was issued as. Nothing that has it is read under an
old name, which other hosts of the domain can set.
"""
VISITOR_SCOPES: Final = frozenset({"chat", "read"})
MARK_LETTERS: Final = 16
LOOKED_FOR: Final = 60
"""Unknown keys a minute and address that are looked for in a store that several gateways share: many clients
behind one address may begin at once with keys that were just made."""
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_DAY_SECONDS: Final = 86_400


def is_at_machine(connection: HTTPConnection) -> bool:
    """Whether it came through the operator's socket, whose token was shown if it was admitted."""
    return carried(connection.scope).operator is not None


class Gate:
    """See the module. Built for one configuration; `config` is read at every request, so it may change."""

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        keys: KeyRing,
        tickets: Tickets,
        tokens: TokenVerifier | None,
        people: People,
        permits: Permits,
        sign_ins: SignIns,
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._keys = keys
        self.people = people
        self._permits = permits
        self.sign_ins = sign_ins
        self.tokens = tokens
        self._wall_ms = wall_ms
        self.tickets = tickets
        self._staff: list[Callable[[str], bool]] = []
        wrong = config().limits.wrong_credentials_per_minute
        self._failures = TokenBuckets(rate=wrong / 60, burst=wrong, monotonic=monotonic)
        self._unknown = TokenBuckets(rate=LOOKED_FOR / 60, burst=LOOKED_FOR, monotonic=monotonic)

    # -- letting in -------------------------------------------------------------------------------------

    async def admit(self, connection: HTTPConnection, scope: str) -> Principal | None:
        """The caller, who may do what needs this scope; None where nothing is needed.

        Raises Unauthorized, SignInStale (401), Forbidden, NoGroup, TenantDisabled, PersonDisabled,
        CsrfMissing (403), RateLimited (429) after many wrong credentials.
        """
        if not scope:
            return None
        principal = await self.identify(connection)
        if principal is None:
            raise Unauthorized
        if not self.may(principal, scope):
            raise Forbidden(f"Your credentials do not allow this: it needs the scope {scope}.")
        return principal

    def may(self, principal: Principal, scope: str) -> bool:
        """Whether these credentials have a scope; `chat` is enough to approve, unless that is set apart."""
        is_apart = self._config().approvals.require_scope
        return scope in principal.scopes or (
            scope == "approve" and "chat" in principal.scopes and not is_apart
        )

    async def identify(self, connection: HTTPConnection) -> Principal | None:
        """The caller; None where nothing says who it is. Raises what `admit` raises."""
        told = carried(connection.scope).told
        if told is not None and told.principal is not None:
            principal: Principal | None = told.principal
        else:
            principal = await self._found(connection)
        if principal is not None:
            self.check_tenant(principal)
            if not is_at_machine(connection):  # the operator looks after what a disabled person has
                self.people.check(principal.owner)
            carried(connection.scope).principal = principal
        return principal

    async def acquaintance(self, connection: HTTPConnection) -> Principal | None:
        """Who calls a public operation, if they have signed in or show a key; None for anybody else: visitors
        and who is at the machine are nobody in particular. Nobody becomes a visitor by it.

        Raises Unauthorized, SignInStale (401), CsrfMissing, TenantDisabled, PersonDisabled (403), RateLimited
        (429).
        """
        found = carried(connection.scope)
        if found.operator is not None or self._config().auth.modes == ("open",):
            return None
        if found.told is not None and found.told.has_met:
            principal: Principal | None = found.told.met
        elif (given := bearer(connection)) is not None:
            principal = await self._by_counted_bearer(given, connection)
        else:
            principal = self._by_proxy(connection) or await self._by_user_cookie(connection)
            if principal is not None:
                self._check_intent(connection, principal)
        if principal is not None and principal.kind == "visitor":
            principal = None
        if principal is not None:
            self.check_served(principal)
        found.met, found.has_met = principal, True
        return principal

    def permit(self, connection: HTTPConnection) -> Permit:
        """Asks, later on, whether who was admitted would still be: for what stays open."""
        principal, found = principal_of(connection), carried(connection.scope)
        is_forwarded = found.told is not None and found.told.is_forwarded
        is_good = None if is_forwarded else found.is_standing  # the gateway that admitted them ends it
        is_operators = is_at_machine(connection)

        def stands() -> bool:
            is_served = self.is_served(principal.tenant) and (
                is_operators or not self.people.is_disabled(principal.owner)
            )
            return is_served and (is_good is None or is_good())

        return self._permits.issue(principal.owner, stands)

    def standing_elsewhere(
        self, principal: Principal | None, *, issued_at: int, until_ms: float | None
    ) -> Callable[[], bool]:
        """Asks, later on, whether a credential that another gateway has looked at is still good, as far as
        this one can tell: what was revoked, which keys there are, when it ends.
        """

        def stands() -> bool:
            if until_ms is not None and self._wall_ms() >= until_ms:
                return False
            if principal is None:
                return True
            key = self._keys.find(principal.key_id) if principal.key_id is not None else None
            is_good = key is None or self._keys.is_good(key)  # one that is not known yet was just made
            return is_good and issued_at > self.tickets.revoked.get(principal.owner, -1)

        return stands

    def permit_of(self, owner: str, is_good: Callable[[], bool]) -> Permit:
        """The same of something that shows what an owner has to others, by a credential of its own."""

        def stands() -> bool:
            is_served = self.is_served(tenant_of(owner)) and not self.people.is_disabled(owner)
            return is_served and is_good()

        return self._permits.issue(owner, stands)

    def look_again(self, owner: str | None = None) -> None:
        """Ends what is open on behalf of an owner (None: of anyone) and may not be any more."""
        self._permits.look_again(owner)

    def is_served(self, tenant: str) -> bool:
        """True if the tenant is one of this gateway and not disabled."""
        known = self._config().tenant(tenant)
        return known is not None and not known.is_disabled

    def check_served(self, principal: Principal) -> None:
        """For who is about to be let in: raises TenantDisabled, PersonDisabled."""
        self.check_tenant(principal)
        self.people.check(principal.owner)

    def check_tenant(self, principal: Principal) -> None:
        """Raises TenantDisabled where its tenant is not, or no longer, one of this gateway."""
        if not self.is_served(principal.tenant):
            raise TenantDisabled

    async def revoke(self, owner: str, store: CredentialStore) -> None:
        """Refuses every cookie and token of this owner that was issued until now."""
        at = self.tickets.revocation_ms(owner)
        await store.revoke(owner, at)
        self.tickets.revoked[owner] = at
        self.sign_ins.forget(owner)
        self.look_again(owner)

    async def _found(self, connection: HTTPConnection) -> Principal | None:
        config = self._config()
        if is_pass(bearer(connection) or ""):
            raise Unauthorized("The pass of a session's agent opens /mcp and nothing else.")
        if (token := carried(connection.scope).operator) is not None:
            return self._operator(connection, token)
        if config.auth.modes == ("open",):
            return LOCAL
        if (given := bearer(connection)) is not None:
            return await self._by_counted_bearer(given, connection)
        by_proxy = self._by_proxy(connection)
        principal = by_proxy or await self._by_user_cookie(connection) or self._by_visitor(connection)
        if principal is not None:
            self._check_intent(connection, principal)
            return principal
        return self._new_visitor(connection) if "anonymous" in config.auth.modes else None

    def _check_intent(self, connection: HTTPConnection, principal: Principal) -> None:
        """What a browser sends by itself is not enough to change something."""
        headers = connection.headers
        if connection.scope.get("method", "GET") in _SAFE or "origin" in headers:
            return  # the guard has looked at the Origin
        given = headers.get("x-csrf-token", "")
        is_same = headers.get("sec-fetch-site") == "same-origin"
        if not is_same and not self.tickets.is_csrf(principal.owner, given):
            raise CsrfMissing

    # -- at the machine ---------------------------------------------------------------------------------

    def _operator(self, connection: HTTPConnection, token: str) -> Principal:
        given = bearer(connection) or ""
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise Unauthorized("The operator's token is missing; the command line reads it for you.")
        named = connection.headers.get(ON_BEHALF_OF)
        if named is None:
            return LOCAL
        tenant, separator, subject = named.partition("/")
        if not separator or not is_subject(subject.removeprefix(VISITOR_MARK)):
            raise Unauthorized("X-On-Behalf-Of is TENANT/SUBJECT.")
        return Principal(tenant, subject, "local", ALL_SCOPES)

    # -- Bearer -----------------------------------------------------------------------------------------

    async def _by_counted_bearer(self, bearer: str, connection: HTTPConnection) -> Principal:
        try:
            return await self._by_bearer(bearer, connection)
        except Unauthorized:
            self._failures.take(_address(connection))
            raise

    async def _by_bearer(self, bearer: str, connection: HTTPConnection) -> Principal:
        modes = self._config().auth.modes
        if bearer.startswith(PREFIX) and "keys" in modes:
            await self._learn(bearer, connection)
            principal = self.by_key(bearer)
            if principal is None:
                raise Unauthorized("This API key is not valid; it may have been revoked or have expired.")
            carried(connection.scope).is_standing = lambda: self._has_good_key(principal)
            return principal
        if bearer.startswith(VISITOR_PREFIX) and "anonymous" in modes:
            return self._by_visitor_token(bearer, connection)
        if bearer.startswith(ACCESS_PREFIX):
            return self._by_access_token(bearer, connection)
        if self.tokens is not None and "jwt" in modes:
            return await self._by_jwt(bearer, self.tokens, connection)
        raise Unauthorized("A Bearer of this kind is not accepted here.")

    def _by_access_token(self, bearer: str, connection: HTTPConnection) -> Principal:
        ticket = self.tickets.read("access", bearer.removeprefix(ACCESS_PREFIX))
        principal = ticket.principal if ticket is not None else None
        if ticket is None or principal is None or not self._is_staff(principal):
            raise Unauthorized("This token is not valid any more; log in again.")
        carried(connection.scope).is_standing = lambda: (
            self.tickets.is_standing(ticket) and self._is_staff(principal)
        )
        return principal

    def _is_staff(self, principal: Principal) -> bool:
        return any(is_member(principal.subject) for is_member in self._staff)

    def add_staff(self, is_member: Callable[[str], bool]) -> None:
        """Lets access tokens in while `is_member` says that a person of this name is on the staff."""
        self._staff.append(is_member)

    def access_token(self, name: str, *, hours: float) -> str:
        """A Bearer for a member of the staff, who has shown the password. Raises TenantDisabled,
        PersonDisabled.
        """
        tenant = self._config().visitors.tenant
        principal = Principal(tenant, name, "user", with_implied(frozenset({"support"})))
        self.check_served(principal)
        return ACCESS_PREFIX + self.tickets.issue("access", seconds=hours * 3600, principal=principal)

    async def _learn(self, text: str, connection: HTTPConnection) -> None:
        """A key that another gateway has made since is good here, too; how often somebody may have an unknown
        one looked for is bounded. One that was not looked for may be good: raises RateLimited, StoreFailed,
        StoreFull, StoreUnreachable.
        """
        if not self._config().cluster.url or self._keys.is_known(text):
            return
        self._unknown.take(_address(connection))
        await self._keys.learn(text)

    def by_key(self, text: str) -> Principal | None:
        """Whom an API key stands for."""
        key = self._keys.check(text)
        if key is None:
            return None
        return Principal(key.tenant, key.subject, "key", with_implied(frozenset(key.scopes)), key.id)

    async def by_pasted_key(self, connection: HTTPConnection, text: str) -> Principal:
        """Whom an API key that a person typed stands for. Raises SignInFailed, and what `_learn` raises."""
        await self._learn(text, connection)
        principal = self.by_key(text)
        if principal is None:
            self._failures.take(_address(connection))
            raise SignInFailed("This API key is not valid; it may have been revoked or have expired.")
        self.check_served(principal)
        return principal

    def stands(self, principal: Principal) -> bool:
        """True if somebody who was admitted a while ago is still served, and their key is still good."""
        is_served = self.is_served(principal.tenant) and not self.people.is_disabled(principal.owner)
        return is_served and self._has_good_key(principal)

    def _has_good_key(self, principal: Principal) -> bool:
        """Whether the API key behind a principal is still good; true where there is none."""
        return principal.key_id is None or self._keys.is_good(self._keys.find(principal.key_id))

    async def _by_jwt(self, text: str, tokens: TokenVerifier, connection: HTTPConnection) -> Principal:
        config = self._config().jwt
        try:
            claims = await tokens.claims(text)
        except TokenRefused as error:
            raise Unauthorized(f"This token is not accepted: {error}.") from None
        ends = (float(claims["exp"]) + config.leeway_seconds) * 1000
        carried(connection.scope).is_standing = lambda: self._wall_ms() < ends
        carried(connection.scope).stands_until_ms = ends
        scopes: Any = claims.get(config.scopes_claim) if config.scopes_claim else None
        return principal_from(
            claims,
            kind="token",
            tenant=config.tenant,
            tenant_claim=config.tenant_claim,
            subject_claim=config.subject_claim,
            scopes=scopes_in(scopes, config.scopes),
            groups=config.groups,
            groups_claim=config.groups_claim,
            without_group=config.without_group,
        )

    # -- visitors ---------------------------------------------------------------------------------------

    def _by_visitor_token(self, text: str, connection: HTTPConnection) -> Principal:
        ticket = self.tickets.read("token", text.removeprefix(VISITOR_PREFIX))
        if ticket is None or ticket.principal is None:
            raise Unauthorized("This visitor token is not valid any more; ask without it for a new one.")
        if connection.headers.get("origin") != ticket.extra.get("origin"):
            raise Unauthorized("This visitor token belongs to another site.")
        carried(connection.scope).is_standing = lambda: self.tickets.is_standing(ticket)
        return ticket.principal

    def _by_visitor(self, connection: HTTPConnection) -> Principal | None:
        if "anonymous" not in self._config().auth.modes:
            return None
        token = connection.query_params.get("visitor", "")
        if token.startswith(VISITOR_PREFIX):
            return self._by_visitor_token(token, connection)
        ticket = self.cookie(connection, "visitor")
        if ticket is None or ticket.principal is None:
            return None
        carried(connection.scope).is_standing = lambda: self.tickets.is_standing(ticket)
        if self._is_due(connection, "visitor", ticket):
            self.set_visitor(connection, ticket.principal)
        return ticket.principal

    def _new_visitor(self, connection: HTTPConnection) -> Principal:
        config = self._config().visitors
        subject = VISITOR_MARK + secrets.token_urlsafe(18) + self._mark_of_page(connection)
        principal = Principal(config.tenant, subject, "visitor", VISITOR_SCOPES)
        carried(connection.scope).is_new_visitor = True
        origin = connection.headers.get("origin")
        if origin is not None and is_listed(origin, config.origins) and not _is_same_site(connection):
            text = self.tickets.issue(
                "token",
                seconds=config.days * _DAY_SECONDS,
                principal=principal,
                extra={"origin": str(origin)},
            )
            _add_header(connection, VISITOR_HEADER, VISITOR_PREFIX + text)
        else:
            self.set_visitor(connection, principal)
        return principal

    def _mark_of_page(self, connection: HTTPConnection) -> str:
        """The end of a visitor's subject that says on a page of which listed origin it was met; no other
        visitor's subject has a dot.
        """
        origin = connection.headers.get("origin")
        if origin is None or connection.headers.get("sec-fetch-site") == "same-origin":
            return ""
        if not is_listed(origin, self._config().visitors.origins):
            return ""
        return "." + hashlib.sha256(origin.lower().encode()).hexdigest()[:MARK_LETTERS]

    def is_on_listed_page(self, connection: HTTPConnection) -> bool:
        """Whether a page of a listed origin asks, and nothing says for whom."""
        return is_new_visitor(connection) and self._mark_of_page(connection) != ""

    def met_there(self, connection: HTTPConnection, owner: str) -> Principal | None:
        """The visitor of this name, if it was met on a page of the origin that asks now, and the request says
        nothing else of who it is.
        """
        tenant, _, subject = owner.partition("/")
        mark = self._mark_of_page(connection) if self.is_on_listed_page(connection) else ""
        is_visitor = subject.startswith(VISITOR_MARK) and tenant == self._config().visitors.tenant
        if not mark or not is_visitor or not subject.endswith(mark):
            return None
        return Principal(tenant, subject, "visitor", VISITOR_SCOPES)

    def set_visitor(self, connection: HTTPConnection, principal: Principal) -> None:
        """Makes a browser this visitor."""
        seconds = self._config().visitors.days * _DAY_SECONDS
        self.set_cookie(connection, "visitor", seconds=seconds, principal=principal)

    def visitor_of(self, connection: HTTPConnection) -> Principal | None:
        """The visitor that a browser was before it signed in."""
        ticket = self.cookie(connection, "visitor")
        return ticket.principal if ticket is not None else None

    # -- people who signed in ---------------------------------------------------------------------------

    async def _by_user_cookie(self, connection: HTTPConnection) -> Principal | None:
        ticket = self.cookie(connection, "user")
        principal = ticket.principal if ticket is not None else None
        if ticket is None or principal is None or not self._has_good_key(principal):
            return None
        is_confirmed = principal.key_id is None and self._are_confirmed
        current = await self.sign_ins.current(ticket) if is_confirmed else principal
        if current is None:
            raise SignInStale
        principal = current
        carried(connection.scope).is_standing = lambda: (
            self.tickets.is_standing(ticket)
            and self._has_good_key(current)
            and (not is_confirmed or self.sign_ins.is_good(ticket, current))
        )
        if is_confirmed:
            carried(connection.scope).stands_until_ms = self._wall_ms() + CONFIRM_SECONDS * 1000
        sign_in = self.sign_ins.of(ticket)
        is_newer = sign_in is not None and sign_in.extra()[CONFIRMED_AT] != ticket.extra.get(CONFIRMED_AT)
        if is_newer or self._is_due(connection, "user", ticket):
            self.set_user(connection, principal, sign_in=self.sign_in_of(ticket))
        return principal

    @property
    def _are_confirmed(self) -> bool:
        """True if sign-ins by the provider are confirmed while they last: if they give rights by groups."""
        config = self._config()
        return "oidc" in config.auth.modes and bool(config.oidc.groups)

    def sign_in_of(self, ticket: Ticket | None) -> dict[str, str]:
        """What a further ticket of the same sign-in says of it; nothing if it is of none."""
        if ticket is None or SIGN_IN not in ticket.extra:
            return {}
        sign_in = self.sign_ins.of(ticket)
        if sign_in is not None:
            return sign_in.extra()
        return {name: ticket.extra[name] for name in (SIGN_IN, CONFIRMED_AT) if name in ticket.extra}

    def begin_sign_in(self, principal: Principal, confirmed: Confirmed) -> dict[str, str]:
        """What the tickets of somebody say whom the provider has just signed in."""
        return self.sign_ins.begin(principal, confirmed).extra() if self._are_confirmed else {}

    def user_ticket(self, connection: HTTPConnection) -> Ticket | None:
        """The ticket of somebody who signed in, whether their sign-in is still confirmed or not."""
        return self.cookie(connection, "user")

    def sign_in_for_another(self, connection: HTTPConnection, principal: Principal) -> dict[str, str]:
        """What the ticket for another browser says of the caller's sign-in. Raises Forbidden for a person
        whom a proxy names with their groups: the proxy would not be asked for another browser.
        """
        if principal.kind != "user" or principal.key_id is not None:
            return {}
        config = self._config()
        if "proxy" in config.auth.modes and config.proxy.groups and self._by_proxy(connection) is not None:
            raise Forbidden("Sign in with the other browser itself: a proxy says what your rights are.")
        return self.sign_in_of(self.user_ticket(connection))

    def drop_stale(self, connection: HTTPConnection) -> None:
        """Takes the cookie of a sign-in back that has to be confirmed."""
        ticket = self.user_ticket(connection)
        if ticket is None or ticket.principal is None:
            return
        if self._are_confirmed and not self.sign_ins.is_good(ticket, ticket.principal):
            self.drop_cookie(connection, "user")

    def may_sign_in_silently(self, connection: HTTPConnection) -> bool:
        """True if the browser's sign-in has to be confirmed, and the provider answers as far as is known."""
        ticket = self.user_ticket(connection)
        if ticket is None or ticket.principal is None or ticket.principal.key_id is not None:
            return False
        sign_in = self.sign_ins.of(ticket)
        return self._are_confirmed and (sign_in is None or not sign_in.is_down)

    def set_user(
        self, connection: HTTPConnection, principal: Principal, *, sign_in: dict[str, str] | None = None
    ) -> None:
        """Signs a browser in; `sign_in` is what its ticket says of the sign-in, if that is confirmed."""
        seconds = self._config().oidc.hours * 3600
        self.set_cookie(connection, "user", seconds=seconds, principal=principal, extra=sign_in)

    # -- cookies ----------------------------------------------------------------------------------------

    def clear_cookies(self, connection: HTTPConnection) -> None:
        """Takes back every cookie that says who a browser is."""
        for use in ("user", "visitor"):
            self.drop_cookie(connection, use)

    def cookie(self, connection: HTTPConnection, use: CookieUse) -> Ticket | None:
        """The good ticket in a cookie of this gateway; what another secret signed counts as absent.

        One under an old name, or under that of another port, is exchanged for one of today's name.
        """
        for name in self._cookie_names(connection, use):
            ticket = self.tickets.read(use, connection.cookies.get(name, ""))
            if ticket is not None and (name != KINDS[use] or self._is_of_before(ticket)):
                return ticket
        return None

    def _is_of_before(self, ticket: Ticket) -> bool:
        """Whether a ticket was issued under an old name, and not too long ago."""
        days = (self._wall_ms() - ticket.issued_at) / (_DAY_SECONDS * 1000)
        return NAME not in ticket.extra and days <= cookies.OLD_NAME_DAYS

    def set_cookie(
        self,
        connection: HTTPConnection,
        use: CookieUse,
        *,
        seconds: float,
        principal: Principal | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        """Gives a browser a ticket of this use, and takes back the one of an old name."""
        name = self._cookie_name(connection, use)
        extra = {**(extra or {}), NAME: name}
        text = self.tickets.issue(use, seconds=seconds, principal=principal, extra=extra)
        self._put_cookie(connection, name, text, seconds=seconds)
        self._drop_own(connection, use, [KINDS[use]])

    def drop_cookie(self, connection: HTTPConnection, use: CookieUse) -> None:
        """Takes a cookie back, under any name. What another secret signed stays: it is another gateway's."""
        own, *others = self._cookie_names(connection, use)
        if own not in connection.cookies:
            self._put_cookie(connection, own, "", seconds=0)
        self._drop_own(connection, use, [own, *others])

    def _drop_own(self, connection: HTTPConnection, use: CookieUse, names: Sequence[str]) -> None:
        for name in names:
            given = connection.cookies.get(name)
            if given is not None and self.tickets.is_own(use, given):
                self._put_cookie(connection, name, "", seconds=0)

    def _cookie_names(self, connection: HTTPConnection, use: CookieUse) -> list[str]:
        """Today's name, those of other ports that the browser has, the old one."""
        kind, own = KINDS[use], self._cookie_name(connection, use)
        other = cookies.of_other_ports(kind, own, connection.cookies)
        return [own, *other, kind]

    def _cookie_name(self, connection: HTTPConnection, use: CookieUse) -> str:
        host, scheme = connection.headers.get("host", ""), connection.scope.get("scheme", "http")
        public_url = self._config().server.public_url
        return cookies.name_of(KINDS[use], public_url=public_url, host=host, scheme=scheme)

    def _put_cookie(self, connection: HTTPConnection, name: str, text: str, *, seconds: float) -> None:
        is_secure = is_by_https(connection, self._config().server)
        line = cookies.header(name, text, is_secure=is_secure, seconds=seconds)
        _add_header(connection, "Set-Cookie", line)

    def _is_due(self, connection: HTTPConnection, use: CookieUse, ticket: Ticket) -> bool:
        """Whether a cookie is to be made anew: because of its age, or because it has another name."""
        life = ticket.expires_at - ticket.issued_at
        is_old = self._wall_ms() - ticket.issued_at > life * RENEW_AFTER
        return is_old or ticket.extra.get(NAME) != self._cookie_name(connection, use)

    def _by_proxy(self, connection: HTTPConnection) -> Principal | None:
        config = self._config().proxy
        if "proxy" not in self._config().auth.modes or not is_within(
            carried(connection.scope).peer, config.peers
        ):
            return None
        subject = connection.headers.get(config.user_header, "")
        if not subject:
            return None
        for name in filter(None, (config.user_header, config.tenant_header, config.groups_header)):
            if len(connection.headers.getlist(name)) > 1:
                raise Unauthorized(f"The proxy must say {name} once: it adds its own to the caller's.")
        named = connection.headers.get(config.tenant_header, "") if config.tenant_header else ""
        groups = connection.headers.get(config.groups_header, "") if config.groups_header else ""
        if config.groups:  # what stays open asks the proxy again
            ends = self._wall_ms() + CONFIRM_SECONDS * 1000
            carried(connection.scope).is_standing = lambda: self._wall_ms() < ends
            carried(connection.scope).stands_until_ms = ends
        return principal_from(
            {
                "sub": subject,
                "tenant": named or config.tenant,
                "groups": [name.strip() for name in groups.split(",")],
            },
            kind="user",
            tenant=config.tenant,
            tenant_claim="tenant",
            subject_claim="sub",
            scopes=config.scopes,
            groups=config.groups,
            groups_claim="groups",
            without_group=config.without_group,
        )


def principal_of(connection: HTTPConnection) -> Principal:
    """On whose behalf a request is made; it was admitted before."""
    principal = carried(connection.scope).principal
    if principal is None:
        raise BrokenInvariant
    return principal


def is_by_https(connection: HTTPConnection, server: ServerConfig) -> bool:
    """Whether the browser's way here is encrypted, as far as is known."""
    return server.is_https or connection.scope.get("scheme") in ("https", "wss")


def is_new_visitor(connection: HTTPConnection) -> bool:
    """Whether a request came without anything that says who asks; the next one like it is somebody else's."""
    return carried(connection.scope).is_new_visitor


def bearer(connection: HTTPConnection) -> str | None:
    """The credential of the Authorization header; of a WebSocket, which browsers give no headers, also of
    `?token=`.
    """
    given = next((value for name, value in connection.scope["headers"] if name == b"authorization"), b"")
    kind, _, text = given.decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and text.strip():
        return text.strip()
    if connection.scope["type"] == "websocket":
        return connection.query_params.get("token")
    return None


def _is_same_site(connection: HTTPConnection) -> bool:
    return connection.headers.get("sec-fetch-site") in ("same-origin", "same-site")


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client is not None else ""


def _add_header(connection: HTTPConnection, name: str, value: str) -> None:
    carried(connection.scope).answer_headers.append((name, value))
