"""Sends what the webhook's receiver should hear, and tries again.

Guarantees: a message says which session and why, and no word of the conversation; each is signed
(`signing.py`) and has one id at every try; it is tried at once and then, with growing pauses, for about
sixteen hours, also over a restart of the gateway once the first try has failed, or if the gateway ended in
order; every outcome is counted and every failure logged; nobody who uses a session waits for any of it;
the address is dialled by the rules of `egress.addresses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from gateway.config.tables import Config
from gateway.config.webhook import key_of
from gateway.egress.addresses import AddressRules
from gateway.egress.caller import CallFailed, CallRefused, HttpCaller
from gateway.events.facts import iso
from gateway.telemetry.metrics import Metrics
from gateway.version import VERSION
from gateway.webhooks.signing import signed_headers
from gateway.webhooks.spool import WebhookMessage, WebhookSpool

log = logging.getLogger(__name__)

PAUSES: Final = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800)
"""Seconds before each further try: about sixteen hours together, so that a night's outage loses nothing."""
WAITING: Final = 1_000
"""So many messages wait at most; the oldest go first."""
AT_ONCE: Final = 4
LOOK_SECONDS: Final = 1.0
_GONE: Final = 410
"""The receiver wants no more of this."""
_WHO: Final = "webhook"


class Webhooks:
    """See the module."""

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        metrics: Metrics,
        wall_ms: Callable[[], int],
        own_url: Callable[[], str],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._wall_ms = wall_ms
        rules = AddressRules(private_hosts=self._private_hosts, own_url=own_url)
        self._caller = HttpCaller(rules)
        self._spool = WebhookSpool(config().data_path / "webhook")
        self._waiting: dict[str, WebhookMessage] = {}
        self._bell = asyncio.Event()

    def put(self, kind: str, about: Mapping[str, Any]) -> None:
        """Something happened of which the receiver should hear, if it wants to. `about` has no words of
        anybody's conversation.
        """
        if not self._config().webhook.wants(kind):
            return
        now = self._wall_ms()
        body = msgspec.json.encode({"type": kind, "timestamp": iso(now), "data": about}).decode()
        message = WebhookMessage(id=f"msg_{secrets.token_hex(12)}", kind=kind, body=body, due_at=now)
        if len(self._waiting) >= WAITING:
            self._let_go(next(iter(self._waiting.values())), f"more than {WAITING} wait")
        self._waiting[message.id] = message
        self.wake()

    def wake(self) -> None:
        """Looks at once what is due."""
        self._bell.set()

    async def run(self) -> None:
        """Sends what is due, for as long as the gateway runs; what is left then is kept."""
        for message in await asyncio.to_thread(self._spool.read):
            self._waiting.setdefault(message.id, message)
        try:
            while True:
                self._bell.clear()
                due = [one for one in self._waiting.values() if one.due_at <= self._wall_ms()][:AT_ONCE]
                await asyncio.gather(*map(self._send, due))
                if not due:
                    await self._pause()
        finally:
            for message in self._waiting.values():
                self._spool.keep(message)

    async def _pause(self) -> None:
        """Until there is something new; a little while at most, if something waits."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), LOOK_SECONDS if self._waiting else None)

    async def _send(self, message: WebhookMessage) -> None:
        """One try."""
        settings = self._config().webhook
        if not settings.url:
            self._let_go(message, "the configuration names no webhook any more")
            return
        try:
            status = await self._post(settings.url, key_of(settings.secret) or b"", message)
            problem = "" if 200 <= status < 300 else f"the receiver answered {status}"
        except CallRefused as error:
            status, problem = 0, f"{error} Only the webhook may call it with webhook.allow_private = true."
        except CallFailed as error:
            status, problem = 0, str(error)
        if message.id not in self._waiting:  # others pushed it out meanwhile
            return
        if not problem:
            self._end(message, "delivered")
            log.info("webhook %s: %s was delivered", message.id, message.kind)
        elif status == _GONE or message.tries >= len(PAUSES):
            self._let_go(message, problem)
        else:
            await self._try_later(message, problem)

    async def _post(self, url: str, key: bytes, message: WebhookMessage) -> int:
        """The status of the receiver's answer. Raises CallFailed."""
        body = message.body.encode()
        now = self._wall_ms() // 1000
        headers = {"Content-Type": "application/json", "User-Agent": f"agent-gateway/{VERSION}"}
        secret = signed_headers(key, message_id=message.id, timestamp=now, body=body)
        target = self._caller.check(url)
        async with self._caller.calls(session=message.id, owner=_WHO) as calls:
            async with calls.send("POST", target, body, headers, secrets=secret) as answer:
                return answer.status

    async def _try_later(self, message: WebhookMessage, problem: str) -> None:
        seconds = PAUSES[message.tries] * random.uniform(1, 1.2)
        due = self._wall_ms() + round(seconds * 1000)
        later = msgspec.structs.replace(message, tries=message.tries + 1, due_at=due)
        self._waiting[message.id] = later
        self._metrics.webhooks.labels("failed").inc()
        words = "webhook %s: %s was not delivered, the next try is in %d s: %s"
        log.warning(words, message.id, message.kind, seconds, problem)
        await asyncio.to_thread(self._spool.keep, later)

    def _let_go(self, message: WebhookMessage, why: str) -> None:
        self._end(message, "given_up")
        log.error("webhook %s: %s is given up: %s", message.id, message.kind, why)

    def _end(self, message: WebhookMessage, outcome: str) -> None:
        self._waiting.pop(message.id, None)
        self._metrics.webhooks.labels(outcome).inc()
        self._spool.forget(message)

    def _private_hosts(self) -> tuple[str, ...]:
        """The hosts that may be private: those of the workers, and the receiver if the operator says so."""
        config = self._config()
        parts = urlsplit(config.webhook.url)
        if not config.webhook.allow_private or parts.hostname is None:
            return config.egress.private_hosts
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return (*config.egress.private_hosts, f"{host}:{port}")
