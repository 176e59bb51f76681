"""HTTP/1.1 below ASGI: uvicorn's httptools protocol, with the deadlines, limits and words that it lacks.

Guarantees, whatever arrives on the socket:

- The head of a request is whole within its deadline (408) and bounded (414, 431); so is its body, also one
  that no handler reads. A connection without a request is closed.
- What is not one HTTP/1.0 or 1.1 request after the other is refused and never guessed at: 400, 501, 505.
- Every refusal is the gateway's own JSON error, comes after the answers that were due before it, and reaches
  the client: the connection lingers for a moment instead of being reset over what is still arriving.
- A reader is cut when it takes nothing for the stall deadline, never because it is slow; what it has not
  taken is bounded, since a response waits above 16 KiB.
- An address may hold only its share of the connections; one more is answered 503. Others are not affected.
- Below `/ws/` a connection may become a WebSocket (sockets.py), nowhere else. Other offers to
  upgrade are ignored, as HTTP allows (RFC 9110, 7.8): the request is answered as if it made none.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import urllib.parse
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.http.connections import Connections, Reader
from gateway.http.scope import BodyRules, carried
from gateway.models.routes import BODY_BYTES, ROOT
from gateway.server.cycle import Cycle, Outlet, Signal
from gateway.server.refusals import (
    BAD_TARGET,
    BODY_LARGE,
    BODY_LATE,
    CHUNKED_1_0,
    HEAD_BYTES,
    HEAD_LARGE,
    HEAD_LATE,
    MALFORMED,
    NO_HOST,
    OVER_LIMIT,
    PIPELINE_LONG,
    TARGET_BYTES,
    TARGET_LONG,
    UNKNOWN_CODING,
    UNKNOWN_VERSION,
    UPGRADE_WITH_BODY,
    Refusal,
    answer,
    unparsable,
)
from gateway.server.websockets import SocketProtocol, is_for_socket
from gateway.workers.peer_identity import ELSEWHERE

log = logging.getLogger(__name__)

HEADER_COUNT: Final = 256
BODY_OVERHEAD: Final = 8
"""Times the body limit: as many raw bytes may a body take, since a chunk of one byte is six on the wire."""
BODY_GRACE_SECONDS: Final = 1.0
"""A handler that reads a body has the same deadline and better words; it goes first."""
PIPELINED_REQUESTS: Final = 64
PIPELINED_UNPAUSED: Final = 8
"""Behind so few, reading goes on: who does not read does not see that the client has left."""
WRITE_BUFFER_BYTES: Final = 16 * 1024
"""A response waits while more than this is unsent, beside what the kernel keeps; with the slice that was
given to it and the one in hand it stays below 96 KiB.
"""
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 16 * 1024 * 1024
HALF_CLOSED_SECONDS: Final = 5.0
"""A client that has sent everything and closed its half (`nc`) is answered, if that takes no longer."""

_VERSIONS: Final = ("1.1", "1.0")


class _Refused(Exception):
    """Leaves the parser from inside one of its callbacks."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


class Phase(enum.Enum):
    """What the next byte of a connection belongs to."""

    IDLE = "idle"
    """No request, or a whole one that is being answered."""
    HEAD = "head"
    BODY = "body"
    DEAF = "deaf"
    """Nothing: answers that are due are still given, and input is thrown away."""
    LINGER = "linger"
    """Nothing: the last answer is written."""


class GatewayProtocol(HttpToolsProtocol):
    """One connection; see the module."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hub = connections
        self._phase = Phase.IDLE
        self._timer: asyncio.TimerHandle | None = None
        self._arrived = 0
        """Raw bytes of this head, of this body or since the last answer."""
        self._head_bytes = 0
        self._has_host = False
        self._has_coding = False
        self._has_length = False
        self._offered: bytes | None = None
        """What this request would rather speak."""
        self._has_ended = False  # a request, in the bytes that are being parsed
        self._is_half_closed = False
        """Whether the client has said its last."""
        self._becomes_socket = False
        self._ignores_upgrade = False
        self._running: Cycle | None = None
        self._refusal: Refusal | None = None
        self.origin = ELSEWHERE
        self.made_at = self.loop.time()
        self.has_spoken = False
        """Whether the head of a request has arrived."""

    # -- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow._is_writable_event = Signal()
        self.flow._is_writable_event.set()
        self.origin = self._hub.origin(transport)
        self.reader = Reader(transport)
        self._outlet = cast("asyncio.Transport", Outlet(transport, finish=self.finish))
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES, low=WRITE_BUFFER_BYTES - 1)
        if self._hub.admit(self):
            self._arm(self._hub.config.idle_connection_seconds, self.finish)
        elif self._hub.is_crowded:
            transport.abort()
        else:
            self._refuse(OVER_LIMIT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.release(self)
        self._disarm()
        self._unset_keepalive_if_required()
        running = self._running
        super().connection_lost(exc)  # which tells the last request alone, and that may wait for its turn
        if running is not None and not running.response_complete:
            running.lost()
        self._running = None
        self.pipeline.clear()
        self._outlet.close = self.transport.close  # type: ignore[method-assign] # else they hold each other

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps the other half open for an answer that is due, unless it is a model's, which costs."""
        is_due = self._phase in (Phase.IDLE, Phase.DEAF) and self._is_answering and not self._is_model_call
        if not is_due or self._running is None or self._running.response_started:
            return None
        self.cycle.keep_alive = False
        self._is_half_closed = True
        self._enter(Phase.DEAF)
        self._arm(HALF_CLOSED_SECONDS, self.transport.close)
        return True

    def finish(self) -> None:
        """Ends the connection when what is written has left."""
        self._unset_keepalive_if_required()
        if self._phase is Phase.LINGER or self.transport.is_closing():
            return
        if self._is_half_closed or (self._phase is Phase.IDLE and not self.flow.read_paused):
            self._disarm()
            self.transport.close()
            return
        self._enter(Phase.LINGER)
        self.pipeline.clear()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._arm(LINGER_SECONDS, self.transport.close)

    # -- what arrives -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._phase in (Phase.DEAF, Phase.LINGER):
            self._throw_away(len(data))
            return
        self._has_ended = False
        size = len(data)
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserCallbackError as error:
            self._refuse(_refusal_in(error))
        except httptools.HttpParserError as error:
            self._refuse(unparsable(error))
        else:
            if self._phase not in (Phase.DEAF, Phase.LINGER):
                self._watch(size)

    def _parse(self, data: bytes) -> bytes:
        """Feeds the parser; what it has to be fed again, because a request offered an unwanted upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._ignores_upgrade:
                return self._head_without_upgrade() + rest
            self._enter(Phase.DEAF)  # the request is answered as any other; what follows is no HTTP
            if self._becomes_socket:
                self._become_socket(rest)
        return b""

    def _head_without_upgrade(self) -> bytes:
        """The head that was just parsed, without its offer: a parser that saw one reads no body."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                named = (option.strip() for option in value.split(b","))
                value = b", ".join(option for option in named if option.lower() != b"upgrade")
            if name not in (b"upgrade", b"http2-settings"):
                lines.append(b"%b: %b" % (name, value))
        self._ignores_upgrade = False
        return b"\r\n".join((*lines, b"", b""))

    def _watch(self, size: int) -> None:
        """Bounds what has begun and not ended: its bytes, and from now on its time."""
        if self._phase is Phase.IDLE:
            if self._has_ended:
                return
            self._enter(Phase.HEAD)  # empty lines, which may precede a request, but not for ever
        if not self._has_ended:
            self._arrived += size
        config = self._hub.config
        if self._phase is Phase.HEAD:
            if self._arrived > HEAD_BYTES:
                self._refuse(TARGET_LONG if len(self.url or b"") > TARGET_BYTES else HEAD_LARGE)
            elif self._timer is None:
                self._arm(config.header_deadline_seconds, self._head_late)
        elif self._arrived > BODY_OVERHEAD * self._body_limit():
            self._refuse(BODY_LARGE)
        elif (rules := self._body_rules) is not None:
            self._arm(rules.silence_seconds + BODY_GRACE_SECONDS, self._body_late)
        elif self._timer is None:
            self._arm(config.body_deadline_seconds + BODY_GRACE_SECONDS, self._body_late)

    @property
    def _body_rules(self) -> BodyRules | None:
        """Those of the handler that reads this body, once it has said them."""
        cycle = self.cycle
        return carried(cast("dict[str, Any]", cycle.scope)).body_rules if cycle is not None else None

    @property
    def _is_model_call(self) -> bool:
        return (self.url or b"").startswith(ROOT.encode())

    def _body_limit(self) -> int:
        limit = self._hub.config.body_limit_bytes
        if (rules := self._body_rules) is not None:
            return rules.limit_bytes
        return max(limit, BODY_BYTES) if self._is_model_call else limit

    def _head_late(self) -> None:
        self._refuse(HEAD_LATE)

    def _body_late(self) -> None:
        if self.pipeline:  # its turn has not come, so nobody reads it
            self._arm(self._hub.config.body_deadline_seconds, self._body_late)
        else:
            self._refuse(BODY_LATE)

    def _throw_away(self, size: int) -> None:
        self._arrived += size
        if self._arrived > LINGER_BYTES:
            self.transport.abort()

    # -- the parser's callbacks -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._enter(Phase.HEAD)
        self._head_bytes = 0
        self._has_host = self._has_coding = self._has_length = False
        self._offered = None
        carried(cast("dict[str, Any]", self.scope)).origin = self.origin

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > TARGET_BYTES:
            raise _Refused(TARGET_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not Phase.HEAD:
            return  # a trailer, which must not change the head after it was judged
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES or len(self.headers) >= HEADER_COUNT:
            raise _Refused(HEAD_LARGE)
        name, value = name.lower(), value.rstrip(b" \t")
        match name:
            case b"host":
                if self._has_host:
                    raise _Refused(NO_HOST)
                self._has_host = True
            case b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise _Refused(UNKNOWN_CODING)
                self._has_coding = True
            case b"content-length":
                self._has_length = True
            case b"upgrade":
                self._offered = b",".join((self._offered, value)) if self._offered else value
            case b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        is_upgrade = self.parser.should_upgrade()
        if is_upgrade and self._offered is not None and b"websocket" not in self._offered.lower():
            self._ignores_upgrade = True
            return
        self._check_head(version, is_upgrade=is_upgrade)
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self._put_target()
        if is_upgrade and self._asks_for_socket():
            self._becomes_socket = True
            return
        cycle = Cycle(
            scope=self.scope,
            transport=self._outlet,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=Signal(),
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=version != "1.0" and not is_upgrade and self._may_be_kept(),
            on_response=self.on_response_complete,
        )
        is_waiting = self._is_answering
        self.has_spoken = True
        self.cycle = cycle
        self._enter(Phase.BODY)
        if is_waiting:
            if len(self.pipeline) >= PIPELINED_UNPAUSED:
                self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def _may_be_kept(self) -> bool:
        return self.parser.should_keep_alive() and not self._hub.is_closing

    def on_message_complete(self) -> None:
        if self._becomes_socket or self._ignores_upgrade:
            return
        super().on_message_complete()
        self._has_ended = True
        if self._phase is not Phase.LINGER:
            self._enter(Phase.IDLE)

    def _check_head(self, version: str, *, is_upgrade: bool) -> None:
        if version not in _VERSIONS:
            raise _Refused(UNKNOWN_VERSION)
        if version == "1.1" and not self._has_host:
            raise _Refused(NO_HOST)
        if version == "1.0" and self._has_coding:
            raise _Refused(CHUNKED_1_0)
        if is_upgrade and (self._has_coding or self._has_length):
            raise _Refused(UPGRADE_WITH_BODY)
        if len(self.pipeline) >= PIPELINED_REQUESTS:
            raise _Refused(PIPELINE_LONG)

    def _asks_for_socket(self) -> bool:
        host = next((value for name, value in self.headers if name == b"host"), b"").decode("latin-1")
        is_get = self.scope["method"] == "GET" and is_for_socket(self.scope["path"], host)
        asked = b",".join(value for name, value in self.headers if name == b"upgrade").lower()
        return is_get and b"websocket" in asked and not self._is_answering

    def _become_socket(self, rest: bytes) -> None:
        """Gives the connection, its head and what follows that to the WebSocket protocol."""
        self.connections.discard(self)
        head = [b"GET ", self.url, b" HTTP/1.1\r\n"]
        head += [b"%b: %b\r\n" % header for header in self.scope["headers"]]
        protocol = SocketProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.app_state,
            connections=self._hub,
            origin=self.origin,
        )
        self._hub.hand_over(self, protocol)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(b"".join((*head, b"\r\n")))
        if rest:
            protocol.data_received(rest)

    def _put_target(self) -> None:
        """Path and query of the target; a whole URL (RFC 9112, 3.2.2) names the Host besides."""
        try:
            target = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            raise _Refused(BAD_TARGET) from None
        raw_path = target.path or b"/"
        if target.host is not None:
            host = target.host if target.port is None else b"%b:%d" % (target.host, target.port)
            self.headers[:] = [(n, v) for n, v in self.headers if n != b"host"] + [(b"host", host)]
        elif not raw_path.startswith(b"/"):
            raise _Refused(BAD_TARGET)
        path = raw_path.decode("ascii")
        self.scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = target.query or b""

    # -- answers ----------------------------------------------------------------------------------------

    @property
    def _is_answering(self) -> bool:
        running = self._running
        is_running = running is not None and not running.response_complete and not running.disconnected
        return is_running or bool(self.pipeline)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cast("Cycle", cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self._phase is Phase.LINGER:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        self._refuse_if_due()

    def _refuse(self, refusal: Refusal) -> None:
        """Answers what cannot be read on, after what was asked before it, and ends the connection."""
        if self._phase in (Phase.DEAF, Phase.LINGER):
            return
        is_in_body = self._phase is Phase.BODY
        log.debug("refused: %d %s", refusal.status, refusal.message)
        self._enter(Phase.DEAF)
        self._refusal = refusal
        if is_in_body and not self._take_back():
            self.transport.abort()
            return
        self._refuse_if_due()

    def _take_back(self) -> bool:
        """Takes the request that turned out bad from its handler; False if that has begun to answer."""
        cycle = self.cycle
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            return True
        if cycle.response_started:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _refuse_if_due(self) -> None:
        if self._refusal is None or self._is_answering or self.transport.is_closing():
            return
        refusal, self._refusal = self._refusal, None
        status_line, default = STATUS_LINE[refusal.status], self.server_state.default_headers
        self.transport.write(answer(refusal, status_line=status_line, default_headers=default))
        self.finish()

    # -- phases and their deadlines ---------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        """The one writer of the phase."""
        self._phase = phase
        self._arrived = 0
        self._disarm()

    def _arm(self, seconds: float, act: Any) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._fire, act)

    def _fire(self, act: Any) -> None:
        self._timer = None
        act()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _refusal_in(error: BaseException) -> Refusal:
    """What one of our callbacks refused with; anything else is our mistake, not the client's."""
    cause = error.__context__
    if isinstance(cause, _Refused):
        return cause.refusal
    log.error("a request could not be parsed", exc_info=cause)
    return MALFORMED
