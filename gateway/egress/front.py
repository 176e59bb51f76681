"""HTTP/1.1 at a worker's doors: the gateway's own routes, a proxy, and plain HTTP to port 80.

Guarantees, whatever arrives:

- a head is whole within its deadline and bounded in bytes and fields; the body of a route, too;
- what can be read in two ways is refused: a message has one length, one host and one target;
- one request at a time: what is sent behind it in the same breath is not read, and the connection ends;
- of a request to another host, the host that was checked is the one that is sent and connected to; one
  connection out carries one request, so that no answer is taken for another's;
- a handler is cancelled when its caller is gone, and waits while its caller is slow;
- a header that would break the framing of an answer is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import re
import socket
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

import httptools
from msgspec import Struct

from gateway.egress.admission import Admission, Admitted, NotAdmitted
from gateway.egress.pace import UNSENT_BYTES, Drain, LoopShare, Stalled, Tap
from gateway.egress.routes import RouteHandler, RouteRequest
from gateway.egress.spoken import FIELDS, HEAD_BYTES, REASONS, chunk, last_answer
from gateway.egress.tunnel import REPORTED_BYTES, TransferCount, Unreachable, dial, sent_at_once
from worker.spec import DOOR_PORT, MIB

log = logging.getLogger(__name__)

BODY_BYTES: Final = 32 * MIB
"""Of a request to the gateway itself: a conversation with pictures in it."""
EARLY_BYTES: Final = 64 * 1024
"""Kept of the next request while the last answer is still being written."""
LINGER_SECONDS: Final = 2.0
OWN_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
_AUTHORITY: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,255}))(?::([0-9]{1,5}))?", re.ASCII
)
_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_VALUE: Final = re.compile(rb"[^\0\r\n]*")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset({"connection", "transfer-encoding", "keep-alive", "upgrade", "trailer"})
_HOP_BY_HOP: Final = _FRAMING | {"proxy-connection", "proxy-authorization", "te", "expect", "host"}
_BODYLESS: Final = frozenset({204, 304})


class TunnelRequest(Struct, frozen=True):
    """A client asked for a tunnel; its socket was taken from the loop, with nothing unread in it."""

    client: socket.socket
    host: str
    port: int


class DoorTimes(Struct, frozen=True, kw_only=True):
    """How long a door waits, in seconds."""

    head: float = 30.0
    """For the head of a request from its first byte, or for the first message of TLS."""
    body: float = 60.0
    """For the whole body of a request to the gateway itself."""
    idle: float = 60.0
    """For a request on a connection."""
    forwarded: float = 300.0
    """For the next byte of a request or an answer that is passed on."""


class House(Protocol):
    """What a connection needs of the door that it came in by."""

    @property
    def admission(self) -> Admission: ...

    @property
    def routes(self) -> RouteHandler | None: ...

    @property
    def times(self) -> DoorTimes: ...

    @property
    def share(self) -> LoopShare: ...

    @property
    def stalled(self) -> Stalled: ...

    def rests(self, front: Front) -> None:
        """It waits for a request: if there are too many connections, it may be ended."""

    def works(self, front: Front) -> None:
        """It has one."""

    def passes(self, front: Front, found: Admitted | None) -> None:
        """Its request goes to this host, and no longer if the rules change so; None: nowhere any more."""

    def take_bytes(self, size: int) -> bool:
        """Holds memory for a body; False if the session holds too much."""

    def give_bytes(self, size: int) -> None:
        """Gives memory back."""


class _Refusal(Exception):
    """Leaves the parser from inside one of its callbacks."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        self.words = words
        super().__init__(words)


class FrontPhase(enum.Enum):
    """What the next byte of a connection belongs to."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"
    """The request is whole, and the gateway answers it."""
    FORWARDING = "forwarding"
    """The request is passed on to another host, body and all."""
    TALKING = "talking"
    """Another protocol has begun; every byte is passed on."""
    DEAF = "deaf"
    """Nothing: the last answer is being sent."""


def authority(text: str, *, default_port: int = 0) -> tuple[str, int] | None:
    """Host and port, as they are written; None if they are no host, or no port."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    port = int(found[3]) if found[3] else default_port
    return (found[1] or found[2], port) if 0 < port < 65_536 else None


class Front(asyncio.Protocol):
    """One connection; see the module. `ended` is done when it is lost, or with the tunnel that it wants."""

    def __init__(self, house: House, *, is_own: bool, name: str = "") -> None:
        """`is_own`: at the gateway's own door, and not at port 80; `name` is then what was looked up for the
        address that the client connected to.
        """
        self._house = house
        self._is_own = is_own
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.tap = Tap(house.share)
        self._drain = Drain(house.stalled)
        self._parser = httptools.HttpRequestParser(self)
        self._phase = FrontPhase.IDLE
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._early = bytearray()
        self._is_last = False
        """Whether the connection ends after this answer."""
        self._refusal: _Refusal | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._upstream: _Upstream | None = None
        self.ended: asyncio.Future[TunnelRequest | None] = self._loop.create_future()
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._arrived = self._head_bytes = 0
        self._headers: list[tuple[str, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._tunnel: tuple[str, int] | None = None
        self._is_complete = False
        self._answer: _Answer | None = None

    # -- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.tap.attach(transport)
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._rest()

    def _rest(self) -> None:
        self._phase = FrontPhase.IDLE
        self._arm(self._house.times.idle, self.abort)
        self._house.rests(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._house.works(self)
        self._house.passes(self, None)
        self._drain.is_done()
        self._drop_body()
        self._can_write.set()
        if self._task is not None:
            self._task.cancel()
        if self._upstream is not None:
            self._upstream.abort()
        self._end(None)

    def _end(self, asked: TunnelRequest | None) -> None:
        if not self.ended.done():
            self.ended.set_result(asked)
        elif asked is not None:
            asked.client.close()

    def abort(self) -> None:
        """Ends it now."""
        if self._transport is not None:
            self._transport.abort()

    def forget(self) -> None:
        """Nobody waits for the tunnel that it may have asked for."""
        if self.ended.done() and not self.ended.cancelled() and (asked := self.ended.result()) is not None:
            asked.client.close()

    def pause_writing(self) -> None:
        self._can_write.clear()
        if self._transport is not None:
            self._drain.is_slow(self._transport)
        if self._upstream is not None:
            self._upstream.tap.hold("slow")

    def resume_writing(self) -> None:
        self._drain.is_done()
        self._can_write.set()
        if self._upstream is not None:
            self._upstream.tap.release("slow")

    def _arm(self, seconds: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, act)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what arrives -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.tap.passed(len(data))
        match self._phase:
            case FrontPhase.TALKING:
                self._pass_on(data)
            case FrontPhase.ANSWERING:
                self._keep(data)
            case FrontPhase.FORWARDING if self._is_complete:
                self._is_last = True
            case FrontPhase.DEAF:
                pass
            case _:
                self._feed(data)

    def _keep(self, data: bytes) -> None:
        """The next request, before this one's answer is whole."""
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.tap.hold("early")

    def _feed(self, data: bytes) -> None:
        if self._phase in (FrontPhase.IDLE, FrontPhase.HEAD):
            self._arrived += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._leave_http(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._refusal is not None:
                self._refuse(self._refusal.status, self._refusal.words)
            elif not self._is_complete:
                self._refuse(400, "This is no HTTP/1.1 request that can be read in one way only.")
        else:
            if self._phase is FrontPhase.HEAD and self._arrived > HEAD_BYTES:
                self._refuse(431, "The head of the request is too large.")
        if self._is_complete and self._phase is FrontPhase.BODY:
            self._handle()

    def on_message_begin(self) -> None:
        if self._phase is not FrontPhase.IDLE:
            self._is_last = True  # what was sent in the same breath is never read
            raise _Refusal(400, "One request at a time.")
        self._phase = FrontPhase.HEAD
        self._house.works(self)
        self._arm(self._house.times.head, self.abort)

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if len(self._headers) >= FIELDS:
            self._stop(431, "The head of the request has too many fields.")
        if _VALUE.fullmatch(value) is None:
            self._stop(400, "A header's value must be one line.")
        self._headers.append((name.decode("latin-1").lower(), value.rstrip(b" \t")))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._stop(431, "The head of the request is too large.")

    def _stop(self, status: int, words: str) -> NoReturn:
        self._refusal = _Refusal(status, words)
        raise self._refusal

    def _values(self, name: str) -> list[bytes]:
        return [value for known, value in self._headers if known == name]

    def on_headers_complete(self) -> None:
        self._check_head()
        method = self._parser.get_method().decode("ascii")
        target = self._target.decode("latin-1")
        if _TARGET.fullmatch(target) is None:
            self._stop(400, "The target of the request is malformed.")
        if method == "CONNECT":
            self._begin_tunnel(target)
        elif target.startswith("/"):
            self._begin_plain(method, target)
        elif target.lower().startswith("http://"):
            self._begin_absolute(method, target)
        else:
            self._stop(400, "The target of the request is neither a path nor an http:// URL.")

    def _check_head(self) -> None:
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._stop(505, "HTTP/1.1 is spoken here.")
        hosts, codings, lengths = map(self._values, ("host", "transfer-encoding", "content-length"))
        if len(hosts) > 1 or (version == "1.1" and not hosts):
            self._stop(400, "A request names one Host.")
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            self._stop(501, "Only chunked transfer encoding is supported.")
        if len(lengths) > 1 or (codings and (lengths or version == "1.0")):
            self._stop(400, "A request has one length.")
        if self._parser.should_upgrade() and (codings or lengths not in ([], [b"0"])):
            self._stop(400, "A request that has a body cannot change the protocol.")
        if not self._parser.should_keep_alive() or version == "1.0":
            self._is_last = True

    def _begin_tunnel(self, target: str) -> None:
        found = authority(target)
        if not self._is_own or found is None:
            self._stop_malformed(target)
        self._tunnel = found

    def _begin_plain(self, method: str, target: str) -> None:
        if self._is_own:
            self._begin_route(method, target)
            return
        hosts = self._values("host")
        text = hosts[0].decode("latin-1") if hosts else self._name
        found = authority(text, default_port=80)
        if found is None:
            self._stop_malformed(text)
        self._begin_forward(method, found[0], 80, target)

    def _begin_absolute(self, method: str, target: str) -> None:
        text, slash, path = target[len("http://") :].partition("/")
        found = authority(text.partition("?")[0], default_port=80)
        if found is None or "#" in target:
            self._stop_malformed(text)
        query = text[len(text.partition("?")[0]) :]
        path = f"{slash}{path}" if slash and not query else f"/{query}{slash}{path}"
        host, port = found
        if host.lower() in OWN_HOSTS and port == DOOR_PORT:
            self._begin_route(method, path)
        else:
            self._begin_forward(method, host, port, path)

    def _stop_malformed(self, text: str) -> NoReturn:
        refused = self._house.admission.refuse(text[:255], 0, "malformed")
        self._stop(400, refused.words)

    # -- requests to the gateway itself -----------------------------------------------------------------

    def _begin_route(self, method: str, target: str) -> None:
        handler = self._house.routes
        if handler is None:
            self._stop(404, "The gateway answers nothing here.")
        if any(b"websocket" in value.lower() for value in self._values("upgrade")):
            self._stop(426, "This is spoken over HTTP/1.1, without a WebSocket.")
        lengths = self._values("content-length")
        if lengths and int(lengths[0]) > BODY_BYTES:
            self._stop(413, "The body of the request is too large.")
        self._handler, self._route = handler, (method, target)
        self._phase = FrontPhase.BODY
        self._arm(self._house.times.body, self.abort)
        self._continue()

    def _continue(self) -> None:
        if b"100-continue" in (value.lower() for value in self._values("expect")):
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.send(self._framed(data))
            return
        if self._body_bytes + len(data) > BODY_BYTES:
            self._stop(413, "The body of the request is too large.")
        if not self._house.take_bytes(len(data)):
            self._stop(503, "This session sends too much at a time. Try again shortly.")
        self._body_bytes += len(data)
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._is_complete = True
        if self._phase is FrontPhase.FORWARDING and self._upstream is not None:
            self._upstream.send(b"0\r\n\r\n" if self._is_chunked else b"")

    def _handle(self) -> None:
        """The request is whole: its handler runs."""
        self._disarm()
        self._phase = FrontPhase.ANSWERING
        method, target = self._route
        headers = tuple((name, value.decode("latin-1")) for name, value in self._headers)
        request = RouteRequest(method=method, target=target, headers=headers, body=b"".join(self._body))
        self._body.clear()
        self._answer = _Answer(self, is_new=self._parser.get_http_version() == "1.1", method=method)
        running = self._run(self._handler, request, self._answer)
        self._task = self._loop.create_task(running, name="door route")

    async def _run(self, handler: RouteHandler, request: RouteRequest, answer: _Answer) -> None:
        try:
            await handler(request, answer)
        except ConnectionError:
            self.abort()
        except Exception:
            log.exception("a request at a worker's door failed")
            if answer.has_started:
                self.abort()
            else:
                self._refuse(500, "The gateway could not answer; its log says more.")
        else:
            if answer.finish():
                self._after_answer()
            else:
                self.abort()
        finally:
            self._task = None

    def _after_answer(self) -> None:
        self._drop_body()
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_last:
            self._transport.close()
            return
        self._begin()
        self._parser = httptools.HttpRequestParser(self)
        self._rest()
        early, self._early = bytes(self._early), bytearray()
        self.tap.release("early")
        if early:
            self._feed(early)

    def _drop_body(self) -> None:
        self._house.give_bytes(self._body_bytes)
        self._body_bytes = 0
        self._body.clear()

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after this answer."""
        return self._is_last

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Sends, and waits while the client is slow. Raises ConnectionError if it is gone."""
        self.write_soon(data)
        if not self._can_write.is_set():
            await self._can_write.wait()

    def write_soon(self, data: bytes) -> None:
        """Sends. Raises ConnectionError if the client is gone."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        self._transport.write(data)

    # -- refusals ---------------------------------------------------------------------------------------

    def _refuse(self, status: int, words: str) -> None:
        """The last answer; what still arrives is thrown away for a moment, so that it is read."""
        if self._phase is FrontPhase.DEAF or self._transport is None:
            return
        self._phase = FrontPhase.DEAF
        self._house.works(self)
        self._drop_body()
        if self._upstream is not None:
            self._upstream.abort()
        self._write(last_answer(status, words))
        if not self._transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
            self.tap.release("early")
            self.tap.release("slow")
        self._arm(LINGER_SECONDS, self.abort)

    # -- tunnels and other protocols --------------------------------------------------------------------

    def _leave_http(self, rest: bytes) -> None:
        """The parser has come to the end of HTTP."""
        if self._tunnel is not None:
            self._detach(*self._tunnel, rest)
        elif (
            self._phase is FrontPhase.FORWARDING and self._upstream is not None and self._upstream.is_upgraded
        ):
            self._phase = FrontPhase.TALKING
            if rest:
                self._pass_on(rest)
        else:
            self._is_last = True

    def _detach(self, host: str, port: int, rest: bytes) -> None:
        """Takes the socket from the loop: what comes next on it is for somebody else."""
        if rest or self._transport is None:
            self._refuse(400, "Wait for the answer to CONNECT before you send more.")
            return
        self._disarm()
        self._transport.pause_reading()
        held = self._transport.get_extra_info("socket")
        client = socket.socket(fileno=os.dup(held.fileno()))
        client.setblocking(False)
        self._phase = FrontPhase.DEAF
        self._end(TunnelRequest(client, host, port))
        self._transport.abort()

    # -- requests to others -----------------------------------------------------------------------------

    def _begin_forward(self, method: str, host: str, port: int, path: str) -> None:
        self._phase = FrontPhase.FORWARDING
        self._is_last = True
        self._is_chunked = bool(self._values("transfer-encoding"))
        is_websocket = any(value.lower() == b"websocket" for value in self._values("upgrade"))
        is_upgraded = is_websocket and self._parser.should_upgrade()
        upstream = _Upstream(self, house=self._house, is_upgraded=is_upgraded)
        self._upstream = upstream
        self._arm(self._house.times.forwarded, self._look_whether_it_moves)
        self._continue()
        forwarding = self._forward(upstream, method, host, port, path)
        self._task = self._loop.create_task(forwarding, name="door forward")

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._is_chunked else data

    async def _forward(self, upstream: _Upstream, method: str, host: str, port: int, path: str) -> None:
        admission = self._house.admission
        try:
            found = await admission.admit(host, port)
            if isinstance(found, Admitted) and found.credential:
                found = admission.refuse(found.host, port, "credential")
            if isinstance(found, NotAdmitted):
                self._refuse(403, found.words)
                return
            self._house.passes(self, found)
            try:
                made = await dial(found)
            except Unreachable:
                self._refuse(502, admission.refuse(found.host, port, "unreachable").words)
                return
            await upstream.take(made, self._head(method, found.host, port, path), admission)
        except (OSError, RuntimeError):
            self.abort()
        finally:
            self._task = None

    def _head(self, method: str, host: str, port: int, path: str) -> bytes:
        """The head of the request as it is sent on: the host that was checked, and nothing of this hop."""
        named = b",".join(self._values("connection")).decode("latin-1").lower()
        dropped = _HOP_BY_HOP | {name.strip() for name in named.split(",")}
        where = host if port == 80 else f"{host}:{port}"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {where}"]
        kept = [(n, v) for n, v in self._headers if n not in dropped or n == "content-length"]
        lines += [f"{name}: {value.decode('latin-1')}" for name, value in kept]
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        is_upgraded = self._upstream is not None and self._upstream.is_upgraded
        lines += ["Connection: Upgrade", "Upgrade: websocket"] if is_upgraded else ["Connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _pass_on(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.send(data)

    def answered(self, data: bytes) -> None:
        """Bytes of the other host's answer."""
        if self._phase is not FrontPhase.DEAF:
            self._write(data)

    def upstream_lost(self, *, is_clean: bool, has_answered: bool) -> None:
        """The other host has closed the connection."""
        if self._transport is None or self._phase is FrontPhase.DEAF:
            return
        if not has_answered:
            self._refuse(502, "The host closed the connection without an answer.")
        elif is_clean:
            self._phase = FrontPhase.DEAF
            self._transport.close()
            self._arm(self._house.times.forwarded, self.abort)
        else:
            self._transport.abort()

    def _look_whether_it_moves(self) -> None:
        if self._upstream is not None and self._upstream.has_moved():
            self._arm(self._house.times.forwarded, self._look_whether_it_moves)
        else:
            self.abort()


class _Upstream(asyncio.Protocol):
    """The connection out of one request that is passed on."""

    def __init__(self, front: Front, *, house: House, is_upgraded: bool) -> None:
        self.tap = Tap(house.share)
        self._drain = Drain(house.stalled)
        self.is_upgraded = is_upgraded
        """Whether another protocol follows the request."""
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._tally: TransferCount | None = None
        self._has_answered = self._has_moved = False
        self._is_aborted = False

    async def take(self, made: socket.socket, head: bytes, admission: Admission) -> None:
        """Sends the request over a connection. Raises OSError."""
        self._tally = TransferCount(admission, on_spent=self._front.abort)
        sent = sent_at_once(made, head)
        self._tally.sent(sent)
        if sent < len(head):
            self._unsent.insert(0, head[sent:])
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, made)
        except BaseException:
            made.close()
            raise

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self.tap.attach(transport)
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        if self._is_aborted:
            transport.abort()
            return
        unsent, self._unsent = self._unsent, []
        self._front.tap.release("slow")
        for data in unsent:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Sends, or keeps it until there is a connection; the client is held up meanwhile."""
        self._has_moved = True
        if self._transport is None:
            self._unsent.append(data)
            self._unsent_bytes += len(data)
            if self._unsent_bytes > REPORTED_BYTES:
                self._front.tap.hold("slow")
        elif data and not self._transport.is_closing():
            self._transport.write(data)
            if self._tally is not None:
                self._tally.sent(len(data))

    def data_received(self, data: bytes) -> None:
        self._has_answered = self._has_moved = True
        self._front.answered(data)
        self.tap.passed(len(data))
        if self._tally is not None:
            self._tally.received(len(data))

    def has_moved(self) -> bool:
        """Whether a byte passed since this was asked."""
        moved, self._has_moved = self._has_moved, False
        return moved

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._drain.is_slow(self._transport)
        self._front.tap.hold("slow")

    def resume_writing(self) -> None:
        self._drain.is_done()
        self._front.tap.release("slow")

    def connection_lost(self, exc: Exception | None) -> None:
        self._drain.is_done()
        if self._tally is not None:
            self._tally.report()
        self._front.upstream_lost(is_clean=exc is None, has_answered=self._has_answered)

    def abort(self) -> None:
        """Ends it now."""
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()


class _Answer:
    """What a handler writes, in the framing of HTTP/1.1 or 1.0."""

    def __init__(self, front: Front, *, is_new: bool, method: str) -> None:
        self._front = front
        self._is_new = is_new
        self._is_head = method == "HEAD"
        self._is_chunked = False
        self._left: int | None = None
        """Bytes that are still to come of a body whose length was said."""
        self.has_started = False

    def start(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """See RouteAnswer."""
        self.has_started = True
        kept = [(name, value) for name, value in headers if _is_fit(name, value)]
        lengths = [value for name, value in kept if name.lower() == "content-length"]
        if self._is_head or status in _BODYLESS:
            self._left = 0
        elif len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit():
            self._left = int(lengths[0])
        else:
            kept = [(name, value) for name, value in kept if name.lower() != "content-length"]
            self._is_chunked = self._is_new
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in kept]
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        if self._front.is_last:
            lines.append("Connection: close")
        self._front.write_soon(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))

    async def write(self, data: bytes) -> None:
        """See RouteAnswer."""
        if not data or self._left == 0:
            return
        if self._is_chunked:
            data = chunk(data)
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        await self._front.write(data)

    def finish(self) -> bool:
        """The last byte; False if the answer is not whole, so that the connection must not go on."""
        if not self.has_started or self._left:
            return False
        if self._is_chunked:
            with contextlib.suppress(ConnectionError):
                self._front.write_soon(b"0\r\n\r\n")
        return True


def _is_fit(name: str, value: str) -> bool:
    """Whether a header may be sent: it is one line, and not of the framing."""
    is_one_line = _NAME.fullmatch(name) is not None and not any(sign in value for sign in "\r\n\0")
    return is_one_line and name.lower() not in _FRAMING
