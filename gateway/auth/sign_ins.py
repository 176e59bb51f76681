"""Sign-ins by a provider while they last: whether the groups of who signed in are still theirs.

If the configuration gives rights by groups, a sign-in is confirmed every CONFIRM_SECONDS: with the refresh
token that the provider gave, or else by its userinfo endpoint. What was given is kept in memory only. If the
provider gave nothing to ask with, if it does not confirm, or if the gateway was restarted since, the sign-in
ends, and the browser goes through the provider again, which asks nothing of a person who is signed in there
(`prompt=none`).

Guarantees: no sign-in is good for longer than CONFIRM_SECONDS after it was confirmed, but for GRACE_SECONDS
more while the provider does not answer; rights that changed hold from the confirmation on, and what is open
with others ends.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from gateway.auth.oidc import Confirmed, NotConfirmed, Provider, ProviderFailed
from gateway.auth.permits import Permits
from gateway.auth.tickets import Ticket
from gateway.errors import GatewayError
from gateway.principal import Principal

log = logging.getLogger(__name__)

CONFIRM_SECONDS: Final = 900
EARLY_SECONDS: Final = 600
"""From this age on a sign-in that is used is confirmed beside the requests, so that none waits for it."""
GRACE_SECONDS: Final = 900
"""How much longer a sign-in is good while the provider does not answer."""
RETRY_SECONDS: Final = 30
"""After a provider that did not answer. Also how often sign-ins are looked at."""
AT_ONCE: Final = 10
"""Sign-ins that are confirmed at the same time by the task that looks at them."""
KNOWN: Final = 20_000
"""Sign-ins that are remembered; of more, the longest unused has to go through the provider again."""
SIGN_IN: Final = "sign_in"
CONFIRMED_AT: Final = "confirmed_at"
"""In a ticket's `extra`: which sign-in it is of, and when that was confirmed (milliseconds since 1970)."""


class SignIn:
    """One that lasts, in as many browsers as it was handed to."""

    def __init__(self, name: str, principal: Principal, confirmed: Confirmed, *, at: int) -> None:
        self.name = name
        self.principal = principal
        self.confirmed = confirmed
        self.confirmed_at = at
        self.used_at = at
        self.asked_at = at
        self.is_down = False
        """True while the provider does not answer."""
        self.is_over = False
        self.asking: asyncio.Task[None] | None = None

    def extra(self) -> dict[str, str]:
        """What its tickets say."""
        return {SIGN_IN: self.name, CONFIRMED_AT: str(self.confirmed_at)}


class SignIns:
    """See the module."""

    def __init__(
        self,
        *,
        provider: Callable[[], Provider | None],
        principal_of: Callable[[dict[str, Any]], Principal],
        permits: Permits,
        lasts_seconds: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        """`principal_of` says who claims speak of, by the configuration as it is now; it raises GatewayError
        for who is not let in. `lasts_seconds`: how long a sign-in lasts without use.
        """
        self._lasts_seconds = lasts_seconds
        self._provider = provider
        self._principal_of = principal_of
        self._permits = permits
        self._wall_ms = wall_ms
        self._known: OrderedDict[str, SignIn] = OrderedDict()

    def begin(self, principal: Principal, confirmed: Confirmed) -> SignIn:
        """Somebody has signed in."""
        sign_in = SignIn(secrets.token_urlsafe(18), principal, confirmed, at=self._wall_ms())
        self._known[sign_in.name] = sign_in
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return sign_in

    def of(self, ticket: Ticket) -> SignIn | None:
        """The sign-in that a ticket is of; None if it is forgotten."""
        return self._known.get(ticket.extra.get(SIGN_IN, ""))

    def forget(self, owner: str) -> None:
        """Forgets an owner's sign-ins, whose tickets were revoked."""
        for name in [name for name, one in self._known.items() if one.principal.owner == owner]:
            del self._known[name]

    def _forget_unused(self) -> None:
        """Forgets those whose cookies have ended."""
        before = self._wall_ms() - round(self._lasts_seconds() * 1000)
        while self._known and next(iter(self._known.values())).used_at < before:
            self._known.popitem(last=False)

    def is_good(self, ticket: Ticket, principal: Principal) -> bool:
        """True if the ticket's sign-in is good now and has these rights."""
        sign_in = self.of(ticket)
        if sign_in is None:
            return self._wall_ms() < _confirmed_at(ticket) + CONFIRM_SECONDS * 1000
        return self._is_good(sign_in) and sign_in.principal == principal

    async def current(self, ticket: Ticket) -> Principal | None:
        """Who the ticket's sign-in is of, with the rights of now; None if it is to be confirmed by the
        browser. Asks the provider if that is due.
        """
        sign_in = self.of(ticket)
        if sign_in is None:
            principal = ticket.principal
            return principal if principal is not None and self.is_good(ticket, principal) else None
        self._known.move_to_end(sign_in.name)
        sign_in.used_at = self._wall_ms()
        if self._is_due(sign_in):
            asking = self._ask(sign_in)
            if self._age(sign_in) >= CONFIRM_SECONDS and not sign_in.is_down:
                await asyncio.wait([asking])
        return sign_in.principal if self._is_good(sign_in) else None

    async def confirm_for_ever(self) -> None:
        """Confirms those that something is open for, again and again."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            self._forget_unused()
            await self.confirm_open()

    async def confirm_open(self) -> None:
        """Confirms those that something is open for and that are due."""
        owners, room = self._permits.owners(), asyncio.Semaphore(AT_ONCE)

        async def confirm(sign_in: SignIn) -> None:
            async with room:
                await asyncio.wait([self._ask(sign_in)])

        open_ = [one for one in self._known.values() if one.principal.owner in owners and not one.is_over]
        await asyncio.gather(*(confirm(one) for one in open_ if self._is_due(one)))
        for owner in {one.principal.owner for one in open_ if not self._is_good(one)}:
            self._permits.look_again(owner)

    # -- inner ------------------------------------------------------------------------------------------

    def _age(self, sign_in: SignIn) -> float:
        return (self._wall_ms() - sign_in.confirmed_at) / 1000

    def _is_good(self, sign_in: SignIn) -> bool:
        allowed = CONFIRM_SECONDS + (GRACE_SECONDS if sign_in.is_down else 0)
        return not sign_in.is_over and self._age(sign_in) < allowed

    def _is_due(self, sign_in: SignIn) -> bool:
        if sign_in.is_over or self._age(sign_in) < EARLY_SECONDS:
            return False
        return not sign_in.is_down or self._wall_ms() - sign_in.asked_at >= RETRY_SECONDS * 1000

    def _ask(self, sign_in: SignIn) -> asyncio.Task[None]:
        """Asks the provider, once however many wait for it."""
        if sign_in.asking is None or sign_in.asking.done():
            sign_in.asking = asyncio.create_task(self._confirm(sign_in), name="sign-in")
        return sign_in.asking

    async def _confirm(self, sign_in: SignIn) -> None:
        provider, now = self._provider(), self._wall_ms()
        sign_in.asked_at = now
        if provider is None:
            sign_in.is_over = True
            return
        try:
            confirmed = await provider.confirm(sign_in.confirmed)
            principal = self._principal_of(confirmed.claims)
        except ProviderFailed as error:
            sign_in.is_down = True
            log.warning("a sign-in could not be confirmed for now: %s", error)
            return
        except (NotConfirmed, GatewayError) as error:
            log.info("a sign-in ends: %s", error)
            sign_in.is_over = True
            return
        before, sign_in.principal = sign_in.principal, principal
        sign_in.confirmed, sign_in.confirmed_at, sign_in.is_down = confirmed, now, False
        if before != principal:
            self._permits.look_again(before.owner)


def _confirmed_at(ticket: Ticket) -> int:
    text = ticket.extra.get(CONFIRMED_AT, "")
    return int(text) if text.isdecimal() else 0
