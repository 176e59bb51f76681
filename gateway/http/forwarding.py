"""Any gateway takes any request: one about a session of another goes on to that one, and the answer back.

A layer inside the guard, built only if gateways share a store. A handler that asks for such a session raises
SessionElsewhere; no handler knows more of it.

Guarantees:

- A request is passed on once, never further: a gateway that does not have the session (any more) answers 421,
  and the one that was asked looks again.
- Nothing is done twice: a request is sent again only if nothing of it can have been done, or if doing it
  again is the same (its method, or its Idempotency-Key, says so). Otherwise its caller is told so.
- An answer that broke off does not look whole.
- A stream of events goes on within the same connection if its gateway dies, or gives the session away: from
  the last whole frame on, without a gap and without a repeat. Whoever loses the right to read it reads
  nothing more from that moment.
- A way between gateways that swallows what goes one way, or both, is given up in bounded time: while another
  gateway is silent it is asked, on another connection, if it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.node_tickets import HEADER, NodeTickets, Said, digest, new_mark
from gateway.auth.permits import Permit
from gateway.config.tables import Config
from gateway.egress.http_wire import AnswerCut
from gateway.egress.node_http import (
    HandshakeRefused,
    NodeAnswer,
    NodeHttp,
)
from gateway.egress.node_wire import NodeSilent, NodeUnreachable
from gateway.errors import GatewayError, OutcomeUnknown, SessionElsewhere
from gateway.http.event_stream import HEARTBEAT_SECONDS
from gateway.http.frames import FrameSplitter
from gateway.http.operation import json_response
from gateway.http.passing import (
    KEPT_BYTES,
    Answering,
    KeptBody,
    brought_back,
    host_of,
    is_event_stream,
    sent_on,
    target_of,
)
from gateway.http.scope import BodyRules, Carried, Told, carried
from gateway.http.socket_relay import LOST, MOVED, RESTART, Handshake, refusal, relay
from gateway.telemetry import logs
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

MISDIRECTED: Final = 421
MARK_HEADER: Final = "x-agw-elsewhere"
"""Of an answer that one gateway gives the other; it says the mark of the ticket."""
REFUSED_HEADER: Final = "x-agw-refused"
"""Of an answer to a ticket that is not good."""
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
PAUSES: Final = (0.25, 1.25, 3.0)
"""Before the handler is asked again, in seconds: together as long as it takes to find a gateway dead."""
MOVED_PAUSES: Final = (0.0, 0.25, 1.0)
"""The same after a 421: whoever has it now has it already."""
STREAM_PAUSE: Final = 0.25
STREAM_SECONDS: Final = 60.0
"""How long a stream that nobody can serve asks for somebody."""
SILENT_SECONDS: Final = 35.0
"""Streams say something every HEARTBEAT_SECONDS: a gateway that has not for so long is asked for again."""
LOOK_SECONDS: Final = 1.0
PING_SECONDS: Final = 5.0
"""A gateway that has not answered for so long is asked if it is there."""
_NO_STREAM: Final = "reach_port"
"""The operation whose streams are an agent's own: nobody knows how to go on with them."""
_AGAIN: Final = (429, 502, 503)
"""A stream asks again after these."""


class Whereabouts(Struct, frozen=True):
    """Which gateway has a session."""

    node: int
    url: str
    session_id: str | None


NOWHERE: Final = Whereabouts(0, "", None)
"""Nobody has it now, as far as is known."""


def place_of(error: SessionElsewhere) -> Whereabouts:
    """Where an error leads."""
    return Whereabouts(error.node, error.url, error.session_id)


class Again(Exception):
    """A gateway could not answer, and to ask for the session again does no harm."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    @property
    def pauses(self) -> Sequence[float]:
        """Before it is asked again, one after the other."""
        return MOVED_PAUSES if self.reason == "misdirected" else PAUSES


class Watches:
    """Who waits for which gateway: they are told when it is dead, since its machine may go on answering."""

    def __init__(self) -> None:
        self._waiting: defaultdict[int, set[asyncio.Task[Any]]] = defaultdict(set)
        self._gone: set[asyncio.Task[Any]] = set()
        """Those that were told, until they have heard."""
        self._bell = asyncio.Event()
        self._showing: set[asyncio.Task[Any]] = set()
        """Those that show a stream of another gateway."""

    def end_streams(self) -> None:
        """This gateway ends: so does what it shows of others, and its readers ask elsewhere."""
        for task in self._showing:
            self.give_up(task)

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """A block within `of` that shows a stream."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - requests are
        self._showing.add(task)
        try:
            yield
        finally:
            self._showing.discard(task)

    def gone(self, node: int) -> None:
        """This gateway is dead: what waits for it does not wait any longer."""
        for task in self._waiting.pop(node, ()):
            self.give_up(task)
        self.ring()

    def give_up(self, task: asyncio.Task[Any] | None) -> None:
        """What this task waits for does not come."""
        if task is not None:
            self._gone.add(task)
            task.cancel()

    def ring(self) -> None:
        """It is worth while to ask again."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Waits so long, or until a gateway is found dead."""
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._bell.wait()

    @contextlib.contextmanager
    def of(self, node: int) -> Iterator[None]:
        """A block that waits for a gateway. Raises NodeSilent when that is dead."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - requests are
        before = task.cancelling()
        self._waiting[node].add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._gone or task.uncancel() > before:
                raise  # somebody else's
            raise NodeSilent("it is dead, or cannot be heard") from None
        finally:
            self._gone.discard(task)
            if (others := self._waiting.get(node)) is not None:
                others.discard(task)
                if not others:
                    del self._waiting[node]


class Passed:
    """One request that may be passed on."""

    def __init__(self, scope: Scope, body: KeptBody, answering: Answering) -> None:
        self.scope = scope
        self.body = body
        self.answering = answering
        self.found: Carried = carried(scope)
        self.mark = ""
        """Of its last ticket."""

    @property
    def method(self) -> str:
        return str(self.scope.get("method", "GET"))

    @property
    def may_be_repeated(self) -> bool:
        """Whether doing it twice is the same as once: its method or its key says so."""
        return self.method in IDEMPOTENT or any(n == b"idempotency-key" for n, _ in self.scope["headers"])

    @property
    def length(self) -> bytes | None:
        """How long its body is, if it says so."""
        found = (value for name, value in self.scope["headers"] if name == b"content-length")
        return next(found, None)

    @property
    def is_stream(self) -> bool:
        """Whether it may be gone on with if its answer is a stream."""
        return self.method == "GET" and self.found.operation != _NO_STREAM

    def look_again(self, last_id: bytes = b"") -> None:
        """The handler is to be run once more: for who was admitted already, from where the reader is."""
        found = self.found
        if found.told is None:
            found.told = Told(
                principal=found.principal,
                is_new_visitor=found.is_new_visitor,
                has_met=found.has_met,
                met=found.met,
            )
        self.body.rewind()
        if last_id:
            others = [header for header in self.scope["headers"] if header[0] != b"last-event-id"]
            self.scope["headers"] = [*others, (b"last-event-id", last_id)]


class ReaderLeft(Exception):
    """Who asked has left: nobody wants the answer."""


@contextlib.contextmanager
def reading(answering: Answering) -> Iterator[None]:
    """A block that is of use only while somebody reads. Raises ReaderLeft."""
    if not answering.has_line:
        yield
        return
    is_through = False
    with answering.ends_with_reader():
        yield
        is_through = True
    if not is_through:
        raise ReaderLeft


class Liveliness:
    """While frames of another gateway are shown: says that the stream is alive if that one is silent, and
    gives up if it is for long.
    """

    def __init__(self, answering: Answering, give_up: Callable[[], None]) -> None:
        self._answering = answering
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS / 2, self._look)

    def __enter__(self) -> Liveliness:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        silent = self._loop.time() - self.heard_at
        if silent >= SILENT_SECONDS:
            self._give_up()
            return
        if silent >= HEARTBEAT_SECONDS:
            self._answering.beat()
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS / 2, self._look)


class LinkWatch:
    """While an answer is waited for: asks again and again if its gateway is there, and gives up if not."""

    def __init__(self, ping: Callable[[], Awaitable[bool]], give_up: Callable[[], None]) -> None:
        self._ping = ping
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._timer = self._later()
        self._asking: asyncio.Task[None] | None = None

    def __enter__(self) -> LinkWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nothing is waited for any more, or something else looks."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _later(self) -> asyncio.TimerHandle:
        return self._loop.call_later(PING_SECONDS, self._look)

    def _look(self) -> None:
        self._asking = self._loop.create_task(self._ask(), name="ping a node")

    async def _ask(self) -> None:
        if await self._ping():
            self._timer = self._later()
        else:
            self._give_up()


class Forwarding:
    """ASGI middleware; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        own: Callable[[], int],
        tickets: NodeTickets,
        http: NodeHttp,
        watches: Watches,
        permit: Callable[[HTTPConnection], Permit],
        config: Callable[[], Config],
        metrics: Metrics,
        is_draining: Callable[[], bool],
        forget: Callable[[int], None],
        ping: Callable[[int, str], Awaitable[bool]],
    ) -> None:
        """`own`: the id of this gateway's row. `is_draining`: it gives its sessions away. `forget` hears of a
        gateway that does not have what it was asked for, or does not answer. `ping` asks a gateway, by its
        row and URL, if it is there.
        """
        self._app = app
        self._own = own
        self._tickets = tickets
        self._http = http
        self._watches = watches
        self._permit = permit
        self._config = config
        self._metrics = metrics
        self._is_draining = is_draining
        self._forget = forget
        self._ping = ping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = carried(scope)
        answering = Answering(scope, send, found.line)
        if found.told is not None and found.told.is_forwarded:
            await self._as_owner(scope, receive, answering, found.told)
            return
        if found.line is not None:
            found.line = answering
        passed = Passed(scope, KeptBody(receive), answering)
        if (place := await self._ask(passed)) is None:
            return
        with contextlib.suppress(ReaderLeft):
            if answering.has_started or (place := await self._answered(passed, place)) is not None:
                await self._follow(passed, place)

    # -- as the gateway that has the session ------------------------------------------------------------

    async def _as_owner(self, scope: Scope, receive: Receive, answering: Answering, told: Told) -> None:
        answering.is_given_away = self._is_draining
        try:
            await self._app(scope, receive, answering)
        except SessionElsewhere as error:
            if answering.has_started:
                answering.cut()
                return
            await misdirected(place_of(error), told)(scope, receive, answering)

    # -- as the gateway that was asked ------------------------------------------------------------------

    async def _ask(self, passed: Passed) -> Whereabouts | None:
        """Runs the handler. Where the session is; None: it was answered here."""
        try:
            await self._app(passed.scope, passed.body, passed.answering)
        except SessionElsewhere as error:
            return place_of(error)
        return None

    async def _answered(self, passed: Passed, place: Whereabouts) -> Whereabouts | None:
        """Passes a request on of which nothing is answered yet, to whoever has the session then. None: it is
        answered; else an answer has begun and not ended. Raises SessionElsewhere if nobody could be asked.
        """
        for asked in range(len(PAUSES) + 1):
            try:
                await self._relay(passed, place)
                return None
            except Again as again:
                if passed.answering.has_started:
                    return NOWHERE
                if asked == len(PAUSES):
                    break
                pause = again.pauses[asked]
            with reading(passed.answering):
                await self._watches.pause(pause)
            passed.look_again()
            found = await self._ask(passed)
            if found is None or passed.answering.has_started:
                return found
            place = found
        raise SessionElsewhere(session_id=place.session_id)

    async def _relay(self, passed: Passed, place: Whereabouts) -> None:
        """Has another gateway answer. Raises Again, OutcomeUnknown."""
        body, answering = await self._body_of(passed), passed.answering
        headers = self._headers(passed, place)
        try:
            with reading(answering), self._watches.of(place.node), self._link(place) as link:
                asked = self._http.asked(
                    place.url,
                    method=passed.method,
                    target=target_of(passed.scope),
                    headers=headers,
                    body=body,
                )
                async with asked as answer:
                    await self._bring_back(passed, answer, place, link)
        except NodeUnreachable as error:
            log.info("node %d at %s cannot be reached: %s", place.node, place.url, error)
            raise self._again("unreachable", place) from None
        except (NodeSilent, AnswerCut) as error:
            log.info("node %d at %s was lost: %s", place.node, place.url, error)
            if answering.has_started:
                raise self._again("lost", place) from None
            if not passed.may_be_repeated:
                self._forget(place.node)
                self._metrics.forward_failures.labels("unknown").inc()
                raise OutcomeUnknown(session_id=place.session_id) from None
            raise self._again("lost", place) from None

    def _link(self, place: Whereabouts) -> LinkWatch:
        """Gives up what this task waits for if the gateway at a place is not there."""
        task = asyncio.current_task()
        return LinkWatch(
            functools.partial(self._is_there, place), functools.partial(self._watches.give_up, task)
        )

    async def _is_there(self, place: Whereabouts) -> bool:
        if await self._ping(place.node, place.url):
            return True
        log.warning("node %d at %s does not answer, and is not waited for", place.node, place.url)
        return False

    def _again(self, reason: str, place: Whereabouts) -> Again:
        self._forget(place.node)
        self._metrics.forward_failures.labels(reason).inc()
        return Again(reason)

    async def _body_of(self, passed: Passed) -> bytes | AsyncIterator[bytes] | None:
        """The body to send: whole if it is not long, else as it comes. Raises SessionElsewhere if it was read
        in part and cannot be sent from its beginning.
        """
        given, body = dict(passed.scope["headers"]), passed.body
        length = given.get(b"content-length", b"0")
        if length == b"0" and b"transfer-encoding" not in given:
            return None
        if body.is_lost:
            raise SessionElsewhere
        if not body.is_complete and b"transfer-encoding" not in given and int(length) <= KEPT_BYTES:
            async for _ in body.parts():
                pass
        if (whole := body.whole) is not None:
            return whole
        files = self._config().files  # what takes long bodies is uploads; their rules hold there
        passed.found.body_rules = BodyRules(files.request_bytes, files.upload_silence_seconds)
        return body.parts()

    def _headers(self, passed: Passed, place: Whereabouts) -> list[tuple[bytes, bytes]]:
        headers = sent_on(passed.scope, is_at_machine=passed.found.operator is not None)
        headers += [
            (b"host", host_of(passed.scope)),
            (HEADER, self.ticket(passed, place).encode()),
        ]
        if not passed.body.is_complete and (length := passed.length) is not None:
            headers.append((b"content-length", length))
        if place.session_id and not any(name == b"x-session-id" for name, _ in headers):
            headers.append((b"x-session-id", place.session_id.encode()))  # what the handler found it to be
        return headers

    def ticket(self, passed: Passed, place: Whereabouts) -> str:
        """What says to another gateway who asks, and what for."""
        scope, found = passed.scope, passed.found
        client, told = scope.get("client"), found.told
        passed.mark = new_mark()
        said = Said(
            edge=self._own(),
            to=place.node,
            mark=passed.mark,
            asked=digest(scope["type"], passed.method, target_of(scope), host_of(scope)),
            request_id=logs.current().get("request_id", ""),
            client=client[0] if client else "",
            peer=found.peer,
            scheme=scope.get("scheme", "http"),
            is_new_visitor=found.is_new_visitor,
            is_at_machine=found.operator is not None,
            has_met=found.has_met,
            met=found.met,
            stands_until_ms=found.stands_until_ms,
        )
        return self._tickets.write(said, found.principal if told is None else told.principal)

    async def _bring_back(
        self, passed: Passed, answer: NodeAnswer, place: Whereabouts, link: LinkWatch
    ) -> None:
        """Shows an answer. Raises Again, NodeSilent, AnswerCut."""
        answering = passed.answering
        if answer.status == MISDIRECTED and answer.header(MARK_HEADER.encode()) == passed.mark:
            raise self._again("misdirected", place)
        if answer.status == 401 and answer.header(REFUSED_HEADER.encode()):
            words = (await answer.whole()).decode("utf-8", "replace")
            log.error("node %d at %s takes no request of this gateway: %s", place.node, place.url, words)
            raise self._again("refused", place)
        is_stream = answer.status == 200 and passed.is_stream and is_event_stream(answer.headers)
        if not answering.has_started:
            headers = brought_back(answer.headers)
            await answering({"type": "http.response.start", "status": answer.status, "headers": headers})
        elif not is_stream:
            if answer.status in _AGAIN:
                raise self._again("lost", place)
            await answering.end()
            return
        self._metrics.forwarded.labels("stream" if is_stream else "verb").inc()
        if is_stream:
            link.stop()  # a stream says something again and again
            await self._bring_frames(passed, answer)
        else:
            await self._bring_body(passed, answer)

    async def _bring_body(self, passed: Passed, answer: NodeAnswer) -> None:
        answering, permit = passed.answering, None
        while part := await answer.part():
            is_last = answer.is_over
            if not is_last:
                permit = permit or self._permit_of(passed)
                if permit is not None and not permit():
                    answering.cut()
                    return
            await answering({"type": "http.response.body", "body": part, "more_body": not is_last})
        await answering.end()

    async def _bring_frames(self, passed: Passed, answer: NodeAnswer) -> None:
        """Shows a stream to its own end, or to that of the right to read it."""
        answering, permit, task = passed.answering, self._permit_of(passed), asyncio.current_task()
        if self._is_draining():  # there is no time for a stream any more: its reader asks elsewhere
            await answering.end()
            return
        frames = answering.relayed()
        give_up = functools.partial(self._watches.give_up, task)
        with Liveliness(answering, give_up) as alive, permitted(permit), self._watches.showing():
            await _shown(answer, answering, frames, alive, permit)
        await answering.end()

    def _permit_of(self, passed: Passed) -> Permit | None:
        """Whether who reads may go on to; None: only the other gateway can tell."""
        found = passed.found
        if found.permit is None and found.principal is not None:
            found.permit = self._permit(HTTPConnection(passed.scope))
        return found.permit

    # -- a stream that has broken off -------------------------------------------------------------------

    async def _follow(self, passed: Passed, place: Whereabouts) -> None:
        """Goes on with an answer that has begun: a stream, wherever its session is from now on."""
        answering, clock = passed.answering, asyncio.get_running_loop().time
        until = clock() + STREAM_SECONDS
        pause = 0.0
        while answering.is_stream and passed.is_stream and answering.is_whole:
            if place is not NOWHERE:
                began = clock()
                passed.look_again(answering.last_id)
                with contextlib.suppress(Again):
                    await self._relay(passed, place)
                    return
                if clock() - began > STREAM_PAUSE:
                    until, pause = clock() + STREAM_SECONDS, 0.0
            permit = self._permit_of(passed)
            if self._is_draining() or clock() > until or (permit is not None and not permit()):
                await answering.end()
                return
            with reading(answering):
                await self._watches.pause(pause)
            pause = STREAM_PAUSE
            answering.beat(every=HEARTBEAT_SECONDS)
            began = clock()
            passed.look_again(answering.last_id)
            try:
                found = await self._ask(passed)
            except GatewayError as error:
                found = NOWHERE if error.status in _AGAIN else None
            if found is None:
                await answering.end()
                return
            place = found
            if clock() - began > STREAM_PAUSE:
                until = clock() + STREAM_SECONDS
        answering.cut()

    # -- WebSockets -------------------------------------------------------------------------------------

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        shake, told = Handshake(receive, send), carried(scope).told
        passed = Passed(scope, KeptBody(receive), Answering(scope, send, None))
        for asked in range(len(PAUSES) + 1):
            try:
                await self._app(scope, shake.receive, shake.send)
                return
            except SessionElsewhere as error:
                place = place_of(error)
            if shake.is_open:
                await shake.close(RESTART, MOVED)
                return
            if told is not None and told.is_forwarded:
                await misdirected(place, told)(scope, shake.receive, shake.send)
                return
            try:
                await self._socket_there(passed, shake, place)
                return
            except Again as again:
                if asked == len(PAUSES):
                    break
                pause = again.pauses[asked]
            await self._watches.pause(pause)
            passed.look_again()
            shake.rewind()
        raise SessionElsewhere(session_id=place.session_id)

    async def _socket_there(self, passed: Passed, shake: Handshake, place: Whereabouts) -> None:
        """Opens it at another gateway, and passes on what is said. Raises Again if it is not open there."""
        shake.rewind()
        await shake.receive()  # websocket.connect
        opened = self._http.socket(
            place.url,
            target=target_of(passed.scope),
            headers=self._headers(passed, place),
            protocols=passed.scope.get("subprotocols", ()),
        )
        try:
            with self._watches.of(place.node):
                async with opened as far:
                    self._metrics.forwarded.labels("socket").inc()
                    await shake.send({"type": "websocket.accept", "subprotocol": far.protocol})
                    await relay(far, shake, self._permit_of(passed))
        except HandshakeRefused as error:
            given = dict(error.headers)
            if error.status == MISDIRECTED and given.get(MARK_HEADER.encode()) == passed.mark.encode():
                raise self._again("misdirected", place) from None
            if REFUSED_HEADER.encode() in given:
                log.error("node %d at %s takes no socket of this gateway", place.node, place.url)
                raise self._again("refused", place) from None
            headers, body = refusal(error.headers)
            start = {"type": "websocket.http.response.start", "status": error.status}
            await shake.send({**start, "headers": brought_back(headers)})
            await shake.send({"type": "websocket.http.response.body", "body": body})
        except NodeUnreachable:
            raise self._again("unreachable", place) from None
        except NodeSilent:
            if not shake.is_open:
                raise self._again("lost", place) from None
            await shake.close(RESTART, LOST)


def misdirected(place: Whereabouts, told: Told) -> Response:
    """What a gateway answers another that thinks the session is here."""
    body = {"node": place.node, "url": place.url}
    return json_response(body, status=MISDIRECTED, headers={MARK_HEADER: told.mark})


@contextlib.contextmanager
def permitted(permit: Permit | None) -> Iterator[None]:
    """A block that is ended, without an error, when the permit is lost."""
    task = asyncio.current_task()
    if permit is None or task is None:
        yield
        return
    before = task.cancelling()
    permit.waits(task)
    try:
        yield
    except asyncio.CancelledError:
        if not permit.is_cut or task.uncancel() > before:
            raise  # somebody else's
    finally:
        permit.waits(None)


async def _shown(
    answer: NodeAnswer, answering: Answering, frames: FrameSplitter, alive: Liveliness, permit: Permit | None
) -> None:
    """Shows frames to the stream's end. What ends a permit by itself, a time, is looked at once a second."""
    clock, looks_at = asyncio.get_running_loop().time, 0.0
    if permit is not None and not permit():
        return
    while True:
        part = await answer.part()
        alive.heard_at = now = clock()
        if permit is not None and now >= looks_at:
            if not permit():
                return
            looks_at = now + LOOK_SECONDS
        if not part:
            if rest := frames.end():
                await answering.show(rest)
            return
        if whole := frames.feed(part):
            await answering.show(whole)
