"""Providers: every call to a model, from the built-in agent and from commands, over one client that keeps
its connections.

Guarantees:
- a key goes to the configured address only: redirects are not followed, cookies are not kept, and no error,
  log line, header or body that comes back shows it from its eighth character on;
- an answer is read no faster than its caller takes it; cancelling a call closes its connection at once;
- a passing failure is tried again a bounded number of times before the first byte of the answer, and only
  then; what fails again and again is not called for a while (`Breaker`), and its fallback is;
- a call is reserved before it is made and settled once, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import logging
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import Struct

from gateway.config.models import PROVIDER_TOOLS, ProviderConfig
from gateway.egress.http_wire import AnswerCut, AnswerMissing, EndKind
from gateway.egress.own_keys import CallKey, OwnKeys
from gateway.egress.provider_http import (
    ConnectFailed,
    Destination,
    ProviderAnswer,
    ProviderHttp,
    Unsendable,
    destination_of,
)
from gateway.egress.routes import RouteAnswer
from gateway.errors import OwnKeyMissing
from gateway.models.breaker import Breaker
from gateway.models.dialects.contract import AskedCall, CallRules, Tongue
from gateway.models.dialects.usage import UsageReader
from gateway.models.meter import ASSUMED_OUTPUT, CallUsage, Meter, ModelCall, Reservation
from gateway.models.redaction import Redactor
from gateway.principal import Account
from gateway.telemetry.heavy import lazily
from gateway.telemetry.metrics import OTHER, Metrics

if TYPE_CHECKING:
    import urllib.request as requests
else:
    requests = lazily("urllib.request")

REFUSAL_READ_BYTES: Final = 64 * 1024
BACKOFF_SECONDS: Final = 0.5
"""Before the first new try; doubled for each further one, with jitter: sessions must not return in step."""
BACKOFF_LIMIT_SECONDS: Final = 8.0
RETRY_AFTER_LIMIT_SECONDS: Final = 10.0
"""An endpoint that asks for a longer pause is reported to the caller instead of waited for."""
TRAILER_SECONDS: Final = 5.0
"""How long the words of a refusal may take."""
BREAKERS: Final = 1_024
"""So many keys and models have a breaker at once; the one that was used least lately goes first."""
GONE: Final = 499
"""The status of a call that its caller gave up."""
UNSEEN_TOKENS_A_SECOND: Final = 20
"""Counted of such a call if nothing more is known: what slow models make. An agent that gave up each of its
calls before the end would else use a provider without any budget.
"""
_SENT: Final = {
    "Accept": "text/event-stream, application/json",
    "Accept-Encoding": "identity",  # compressors hold tokens back
    "User-Agent": "agent-gateway",
}
_SENT_WITH_BODY: Final = {"Content-Type": "application/json"}
_PASSED_HEADERS: Final = ("content-type", "request-id", "x-request-id", "retry-after", "retry-after-ms")
_PASSED_PREFIXES: Final = ("anthropic-ratelimit-", "x-ratelimit-")
_HEADER_CHARACTERS: Final = 1_024
_UNAUTHORIZED: Final = (401, 403)
UNAVAILABLE: Final = "provider_unavailable"

log = logging.getLogger(__name__)

BrokenKind = Literal["connect_timeout", "silent", "refused", "no_http", "bad_address", "cut", "closed"]


class Broken(Struct, frozen=True):
    """A try that brought no answer, or not all of it."""

    kind: BrokenKind

    @property
    def is_passing(self) -> bool:
        """Whether a new try may help."""
        return self.kind in ("connect_timeout", "silent", "refused", "cut")

    @property
    def words(self) -> str:
        """For agents and operators."""
        return _BROKEN_WORDS[self.kind]


_BROKEN_WORDS: Final[dict[BrokenKind, str]] = {
    "connect_timeout": "it did not take the connection in time",
    "silent": "it said nothing for too long",
    "refused": "it cannot be reached",
    "no_http": "it does not speak HTTP; its address may be wrong",
    "bad_address": "its address or key is not a valid one",
    "cut": "the connection broke",
    "closed": "the gateway is shutting down",
}


class Trouble(Struct, frozen=True, kw_only=True):
    """Why a provider did not answer a call, as its caller hears it."""

    status: int
    code: str
    words: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    """The provider's own words, without the key."""
    may_fall_back: bool = True


class FailedTry(Struct, frozen=True):
    """A try that was not answered."""

    trouble: Trouble
    is_passing: bool = False
    """Whether a new try may help."""
    wanted: float | None = None
    """The pause that the provider wants before it, in seconds."""
    is_our_fault: bool = False
    """Whether it is made again at once, in another way."""


class Forwarded(Struct, frozen=True, kw_only=True):
    """A call that is sent on."""

    tongue: Tongue
    asked: AskedCall
    sent: Mapping[str, str]
    """The caller's headers, of which the dialect lets some through."""
    account: Account
    unavailable: Callable[[str], None] = lambda _words: None
    """Hears that the provider cannot be used, in words for the session's people."""


class ModelProvider:
    """One provider, as it is configured."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self.config = config
        self.rules = CallRules(
            has_model=config.has_model,
            default_model=next(iter(config.named_models), ""),
            tools=frozenset(config.provider_tools),
        )
        self.asks_usage = True
        """False once it has refused `stream_options`."""

    def label(self, model: str) -> str:
        """The model in figures: one that is configured by name, or `other`."""
        return model if model in self.config.named_models else OTHER


class Upstream:
    """A provider's answer, read piece by piece."""

    def __init__(self, answer: ProviderAnswer) -> None:
        self._answer = answer
        self.status = answer.status

    @property
    def retry_after(self) -> float | None:
        """How long the provider asks to wait, in seconds."""
        return retry_after(self._answer.header("retry-after"))

    @property
    def is_compressed(self) -> bool:
        """Whether it is, although it was asked not to be."""
        return (self._answer.header("content-encoding") or "identity").strip().lower() != "identity"

    @property
    def is_events(self) -> bool:
        """Whether it is a stream of events."""
        kind = self._answer.header("content-type") or ""
        return kind.partition(";")[0].strip().lower() == "text/event-stream"

    @property
    def at_eof(self) -> bool:
        """Whether all of it was read."""
        return self._answer.is_over

    def headers(self, redactor: Redactor) -> tuple[tuple[str, str], ...]:
        """Those that are passed on."""
        return tuple(_passed(self._answer.headers, redactor))

    async def read(self, seconds: float | None = None) -> bytes | Broken:
        """What has come; b"" at the end of the body. Failures are returned, not raised."""
        try:
            if seconds is None:
                return await self._answer.part()
            async with asyncio.timeout(seconds):
                return await self._answer.part()
        except AnswerCut as cut:
            return _ended(cut.kind)
        except TimeoutError:
            return Broken("silent")

    async def refusal(self) -> bytes:
        """The body of an answer that is not 200, as far as it is read."""
        body = b""
        while len(body) < REFUSAL_READ_BYTES:
            chunk = await self.read(TRAILER_SECONDS)
            if isinstance(chunk, Broken) or not chunk:
                break
            body += chunk
        return body[:REFUSAL_READ_BYTES]

    def close(self) -> None:
        """Ends the connection, unless all was read: then it can be used again."""
        self._answer.close()


class Providers:
    """Every provider, the client, and the breakers; `close` ends every call in flight."""

    def __init__(
        self,
        tables: Mapping[str, ProviderConfig],
        *,
        meter: Meter | None = None,
        own_keys: OwnKeys | None = None,
        metrics: Metrics | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.meter: Meter = meter or _Uncounted()
        self._own_keys = own_keys
        self.sleep = sleep
        self._metrics = metrics
        self._monotonic = monotonic
        self._http = ProviderHttp()
        self._proxies: dict[str, str] | None = None
        self._is_closed = False
        self._breakers: OrderedDict[tuple[str, bytes, str], Breaker] = OrderedDict()
        self._providers: dict[str, ModelProvider] = {}
        self.configure(tables)

    def configure(self, tables: Mapping[str, ProviderConfig]) -> None:
        """Takes over changed tables: the next call goes by them, those in flight go on."""
        before = self._providers
        self._providers = {}
        for name, config in tables.items():
            known = before.get(name)
            is_same = known is not None and known.config == config
            self._providers[name] = known if known is not None and is_same else ModelProvider(name, config)
        if self._metrics is not None:
            self._metrics.know_providers(self._providers, tools=PROVIDER_TOOLS)

    def get(self, name: str) -> ModelProvider | None:
        """The provider of this name; None if there is none."""
        return self._providers.get(name)

    async def close(self) -> None:
        """Closes every connection; further calls fail."""
        self._is_closed = True
        self._http.close()

    # -- one try ----------------------------------------------------------------------------------------

    async def attempt(
        self, provider: ModelProvider, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Upstream | Broken:
        """One request. Failures are returned, as `Upstream.read` says why."""
        if self._is_closed:
            return Broken("closed")
        sent = {**_SENT, **_SENT_WITH_BODY, **headers} if body is not None else {**_SENT, **headers}
        try:
            place = destination_of(url)
            answer = await self._http.ask(
                place,
                sent,
                body,
                connect_seconds=provider.config.connect_timeout_seconds,
                silence_seconds=provider.config.silence_timeout_seconds,
                proxy=self._proxy(place),
            )
        except Unsendable as error:
            return _broken("bad_address", error)
        except ConnectFailed as error:
            return _broken("connect_timeout" if error.is_late else "refused", error)
        except AnswerMissing as error:
            return _ended(error.kind, is_before=True)
        return Upstream(answer)

    def _proxy(self, place: Destination) -> str | None:
        """The proxy of the environment for this address. That is read at the first call, all of it: it takes
        longer than most of a call.
        """
        if self._proxies is None:
            self._proxies = requests.getproxies()
        if not self._proxies or requests.proxy_bypass(place.host):
            return None
        return self._proxies.get(place.scheme)

    # -- breakers ---------------------------------------------------------------------------------------

    def breaker(self, provider: ModelProvider, key: CallKey, model: str = "") -> Breaker:
        """That of a provider and a key; with a model, of that model alone."""
        name = _breaker_name(provider, key, model)
        found = self._breakers.get(name)
        if found is None:
            found = self._breakers[name] = Breaker(self._monotonic)
            while len(self._breakers) > BREAKERS:
                self._breakers.popitem(last=False)
        self._breakers.move_to_end(name)
        return found

    def note_answer(self, provider: ModelProvider, key: CallKey, model: str) -> None:
        """A provider answered."""
        for one in self._known_breakers(provider, key, model):
            if one.succeeded():
                self._show_breakers(provider)

    def note_failure(
        self, provider: ModelProvider, key: CallKey, model: str, why: str, status: int = 0
    ) -> None:
        """A provider failed; `status` 401 opens its breaker at once, 403 that of the model: the key may be
        good for others.
        """
        of = self.breaker(provider, key, model if status == 403 else "")
        for one in self._known_breakers(provider, key, model):
            if one is not of:
                one.abandoned()
        if of.failed(why, at_once=status in _UNAUTHORIZED):
            log.error("provider %s is not called for a while: %s", provider.name, why)
            self._show_breakers(provider)

    def blocked(self, provider: ModelProvider, key: CallKey, model: str) -> Breaker | None:
        """The breaker that does not let a call through; None if it may be made."""
        let_through: list[Breaker] = []
        for one in self._known_breakers(provider, key, model):
            if not one.admits():
                for other in let_through:
                    other.abandoned()
                return one
            let_through.append(one)
        return None

    def abandon(self, provider: ModelProvider, key: CallKey, model: str) -> None:
        """A call ended without an answer, by its caller's will."""
        for one in self._known_breakers(provider, key, model):
            one.abandoned()

    def _known_breakers(self, provider: ModelProvider, key: CallKey, model: str) -> list[Breaker]:
        """That of the provider and that of the model, if this failed before."""
        digest = _digest(key)
        names = dict.fromkeys((model, ""))
        found = [self._breakers.get((provider.name, digest, name)) for name in names]
        return [one for one in found if one is not None]

    def _show_breakers(self, provider: ModelProvider) -> None:
        if self._metrics is not None:
            is_open = any(one.is_open for name, one in self._breakers.items() if name[0] == provider.name)
            self._metrics.model_breaker_open.labels(provider.name).set(int(is_open))

    # -- figures ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def metered(
        self, provider: ModelProvider, key: CallKey, asked: AskedCall, tongue: Tongue, account: Account
    ) -> AsyncIterator[Metering]:
        """Reserves a call, and settles it with the block's end. Raises BudgetReached."""
        call = ModelCall(
            id=secrets.token_hex(16),
            account=account,
            provider=provider.name,
            model=asked.model,
            dialect=tongue.name,
            input_tokens=asked.input_tokens,
            max_output_tokens=asked.max_output_tokens,
            key_owner=key.owner,
        )
        is_free = asked.operation != "generate"
        reservation = _Uncounted().reserve(call) if is_free else self.meter.reserve(call)
        began = self._monotonic()

        def settle(usage: CallUsage, status: int, model: str, first_byte_at: float | None) -> None:
            waited = None if first_byte_at is None else first_byte_at - began
            reservation.settle(
                usage,
                status=status,
                model=model,
                first_byte_milliseconds=None if waited is None else round(waited * 1000),
            )
            if self._metrics is not None:
                self._metrics.model_answered(
                    provider.name,
                    provider.label(asked.model),
                    tongue.name,
                    status=status,
                    first_byte_seconds=waited,
                )

        metering = Metering(asked, tongue, settle, self._monotonic)
        try:
            await reservation.kept()
            yield metering
        except (asyncio.CancelledError, ConnectionError):
            metering.status = GONE
            raise
        finally:
            metering.settle()

    def key_for(self, provider: ModelProvider, account: Account) -> CallKey:
        """The key of a call: a person's, a tenant's or the gateway's. Raises OwnKeyMissing."""
        key = provider.config.key.strip()
        if self._own_keys is None:
            return CallKey(key, "gateway")
        policy = provider.config.own_keys
        return self._own_keys.for_call(provider.name, account, own_keys=policy, gateway_key=key)

    # -- a whole call -----------------------------------------------------------------------------------

    async def forward(self, provider: ModelProvider, call: Forwarded, out: RouteAnswer) -> None:
        """Makes a call and writes its answer, or why there is none. Raises BudgetReached, and ConnectionError
        if the caller is gone or the answer broke off.
        """
        trouble = None
        for one in self._chain(provider, call):
            trouble = await self._through(one, call, out)
            if trouble is None:
                return
            if not trouble.may_fall_back:
                break
        if trouble is not None:
            if trouble.code == UNAVAILABLE:
                call.unavailable(trouble.words)
            await _say(trouble, call.tongue, out)

    def _chain(self, provider: ModelProvider, call: Forwarded) -> Iterator[ModelProvider]:
        """The provider, and the one that is called instead."""
        yield provider
        other = self._providers.get(provider.config.fallback)
        if other is not None and other is not provider and call.tongue.name in other.config.dialects:
            if not call.asked.model or other.config.has_model(call.asked.model):
                yield other

    async def _through(self, provider: ModelProvider, call: Forwarded, out: RouteAnswer) -> Trouble | None:
        """A call to one provider, with its tries; None if it was answered."""
        asked, tongue = call.asked, call.tongue
        try:
            key = self.key_for(provider, call.account)
        except OwnKeyMissing as missing:
            return Trouble(status=402, code=missing.code, words=missing.message, may_fall_back=False)
        if (blocking := self.blocked(provider, key, asked.model)) is not None:
            return _unavailable(provider, blocking.why, seconds=blocking.seconds_left)
        try:
            async with self.metered(provider, key, asked, tongue, call.account) as metering:
                return await self._tries(provider, key, call, out, metering)
        except BaseException:
            self.abandon(provider, key, asked.model)
            raise

    async def _tries(
        self, provider: ModelProvider, key: CallKey, call: Forwarded, out: RouteAnswer, metering: Metering
    ) -> Trouble | None:
        tries = 0
        while True:
            failure = await self._try(provider, key, call, out, metering)
            if failure is None:
                return None
            if failure.is_our_fault:
                continue
            pause = pause_before(tries, failure.wanted)
            may_try = failure.is_passing and tries < provider.config.retries
            if not may_try or pause is None or self.breaker(provider, key).is_open:
                return failure.trouble
            tries += 1
            log.info("provider %s: try %d failed: %s", provider.name, tries, failure.trouble.code)
            await self.sleep(pause)

    async def _try(
        self, provider: ModelProvider, key: CallKey, call: Forwarded, out: RouteAnswer, metering: Metering
    ) -> FailedTry | None:
        """One try; None if it was answered."""
        asked, tongue = call.asked, call.tongue
        asks_usage = provider.asks_usage
        body = None if asked.fields is None else tongue.encoded(asked, asks_usage=asks_usage)
        url = tongue.address(provider.config.url, asked)
        if body is not None:
            metering.sent()
        upstream = await self.attempt(
            provider, url, body, tongue.headers(key.value, call.sent, provider.rules)
        )
        if isinstance(upstream, Broken):
            metering.is_sent = upstream.kind in ("silent", "cut")
            return self._failed(provider, key, call, upstream.words, passing=upstream.is_passing)
        try:
            metering.status = upstream.status
            if upstream.is_compressed:
                return self._failed(provider, key, call, "it answers compressed, although asked not to")
            if 200 <= upstream.status < 300:
                return await self._pipe(provider, key, call, upstream, out, metering)
            metering.is_sent = False
            refusal = await upstream.refusal()
            if asks_usage and upstream.status in (400, 422) and b"stream_options" in refusal:
                if asked.is_stream and tongue.name == "chat":
                    provider.asks_usage = False
                    return FailedTry(Trouble(status=400, code="", words=""), is_our_fault=True)
            return self._refused(provider, key, call, upstream, refusal)
        finally:
            upstream.close()

    async def _pipe(
        self,
        provider: ModelProvider,
        key: CallKey,
        call: Forwarded,
        upstream: Upstream,
        out: RouteAnswer,
        metering: Metering,
    ) -> FailedTry | None:
        """Hands an answer on as it comes."""
        chunk = await upstream.read()
        if isinstance(chunk, Broken):
            return self._failed(provider, key, call, chunk.words, passing=chunk.is_passing)
        self.note_answer(provider, key, call.asked.model)
        metering.begun()
        redactor = Redactor(key.value)
        out.start(upstream.status, upstream.headers(redactor))
        while chunk:
            try:
                if sent := redactor.feed(chunk):
                    await out.write(sent)
            finally:
                metering.reader.feed(chunk)  # afterwards: the caller need not wait for it
            chunk = await upstream.read()
            if isinstance(chunk, Broken):
                self.note_failure(provider, key, call.asked.model, chunk.words)
                await self._break_off(call, upstream, out, f"The provider's answer broke off: {chunk.words}.")
                return None
        if rest := redactor.end():
            await out.write(rest)
        metering.is_whole = True
        return None

    async def _break_off(self, call: Forwarded, upstream: Upstream, out: RouteAnswer, words: str) -> None:
        """Tells the caller that no more of an answer comes: in a stream of events as one, else by ending the
        connection.
        """
        if not upstream.is_events:
            raise ConnectionAbortedError(words)
        error = call.tongue.error(502, "provider_cut", words)
        await out.write(b"\n\nevent: error\ndata: " + error + b"\n\n")

    def _failed(
        self, provider: ModelProvider, key: CallKey, call: Forwarded, why: str, *, passing: bool = False
    ) -> FailedTry:
        self.note_failure(provider, key, call.asked.model, why)
        return FailedTry(_unavailable(provider, why), is_passing=passing)

    def _refused(
        self, provider: ModelProvider, key: CallKey, call: Forwarded, upstream: Upstream, body: bytes
    ) -> FailedTry:
        """What an answer that is none means."""
        status = upstream.status
        if status in _UNAUTHORIZED:
            why = f"it does not accept the key ({status})"
            self.note_failure(provider, key, call.asked.model, why, status=status)
            return FailedTry(_unavailable(provider, why))
        if status < 400:
            why = f"it answers with status {status}; its address may be wrong"
            return self._failed(provider, key, call, why)
        is_failing = status >= 500 or status == 408
        if is_failing:
            self.note_failure(provider, key, call.asked.model, f"it has a problem ({status})")
        else:
            self.note_answer(provider, key, call.asked.model)
        redactor = Redactor(key.value)
        trouble = Trouble(
            status=status,
            code="provider_error",
            words=f"{provider.name} answers with status {status}.",
            headers=upstream.headers(redactor),
            body=redactor.whole(body) or None,
            may_fall_back=is_failing or status == 429,
        )
        return FailedTry(trouble, is_passing=is_failing or status == 429, wanted=upstream.retry_after)


def _unavailable(provider: ModelProvider, why: str, *, seconds: float = 0.0) -> Trouble:
    words = f"The provider {provider.name} cannot be used for the moment: {why}."
    headers = (("retry-after", str(round(seconds + 0.5))),) if seconds else ()
    return Trouble(status=502, code=UNAVAILABLE, words=words, headers=headers)


Settle = Callable[[CallUsage, int, str, float | None], None]


def _breaker_name(provider: ModelProvider, key: CallKey, model: str) -> tuple[str, bytes, str]:
    return provider.name, _digest(key), model


def _digest(key: CallKey) -> bytes:
    return hashlib.sha256(key.value.encode()).digest()


class Metering:
    """What one call comes to, until it is settled."""

    def __init__(
        self, asked: AskedCall, tongue: Tongue, settle: Settle, monotonic: Callable[[], float]
    ) -> None:
        self._asked = asked
        self._settle = settle
        self._monotonic = monotonic
        self._first_byte_at: float | None = None
        self._sent_at = monotonic()
        self._is_settled = False
        self.reader: UsageReader = tongue.usage(asked)
        self.status = 0
        self.is_sent = False
        """Whether the provider may have counted what was sent."""
        self.is_whole = False
        """Whether the answer was heard to its end."""

    def sent(self) -> None:
        """The call leaves now."""
        self.is_sent, self._sent_at = True, self._monotonic()

    def begun(self) -> None:
        """The first byte of the answer has come."""
        if self._first_byte_at is None:
            self._first_byte_at = self._monotonic()

    def settle(self) -> None:
        """Once, and whatever happened."""
        if self._is_settled:
            return
        self._is_settled = True
        used = CallUsage()
        if self._asked.operation == "generate" and (self.is_sent or self.reader.has_begun):
            used = self.reader.usage(is_whole=self.is_whole)
        if self.status == GONE and used.is_estimated:
            unseen = min(self._unseen_tokens(), self._asked.max_output_tokens or ASSUMED_OUTPUT)
            used = msgspec.structs.replace(used, output=max(used.output, unseen - used.reasoning))
        self._settle(used, self.status, self.reader.model, self._first_byte_at)

    def _unseen_tokens(self) -> int:
        """What the provider may have made since the call left: an answer in one piece shows nothing before
        its end, and thoughts are not shown.
        """
        return round((self._monotonic() - self._sent_at) * UNSEEN_TOKENS_A_SECOND)


class _Uncounted:
    """A meter, and its reservations, where nothing is counted."""

    def reserve(self, call: ModelCall) -> Reservation:
        return self

    async def kept(self) -> None:
        """At once."""

    def settle(
        self, usage: CallUsage, *, status: int, model: str = "", first_byte_milliseconds: int | None = None
    ) -> None:
        """Nothing to do."""


async def _say(trouble: Trouble, tongue: Tongue, out: RouteAnswer) -> None:
    if trouble.body is not None:
        out.start(trouble.status, trouble.headers)
        await out.write(trouble.body)
        return
    out.start(trouble.status, (("content-type", "application/json"), *trouble.headers))
    await out.write(tongue.error(trouble.status, trouble.code, trouble.words))


def _passed(items: Iterable[tuple[str, str]], redactor: Redactor) -> Iterator[tuple[str, str]]:
    for name, value in items:
        lower = name.lower()
        if lower not in _PASSED_HEADERS and not lower.startswith(_PASSED_PREFIXES):
            continue
        if value.isascii() and value.isprintable() and len(value) <= _HEADER_CHARACTERS:
            yield lower, redactor.whole(value.encode()).decode("ascii", "ignore")


def _broken(kind: BrokenKind, error: Exception) -> Broken:
    log.info("model endpoint: %s", error)
    return Broken(kind)


def _ended(kind: EndKind, *, is_before: bool = False) -> Broken:
    """What the end of a connection means, before an answer or within one."""
    log.info("model endpoint: the connection has ended (%s)", kind)
    if kind == "silent":
        return Broken("silent")
    return Broken("no_http" if kind == "malformed" and is_before else "cut")


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def pause_before(tries: int, asked: float | None) -> float | None:
    """Seconds before the next try; None if the endpoint wants more patience than a user has."""
    if asked is not None:
        return asked if asked <= RETRY_AFTER_LIMIT_SECONDS else None
    return min(BACKOFF_SECONDS * 2.0**tries, BACKOFF_LIMIT_SECONDS) * random.uniform(0.5, 1)
