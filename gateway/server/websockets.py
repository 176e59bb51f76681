"""WebSocket below ASGI: uvicorn's sans-IO protocol, with the bounds that it lacks.

Guarantees, whatever arrives on the socket:

- A connection stays counted, and is held to the same stall deadline, after it has become a WebSocket.
- A message is bounded (1009), also by its number of fragments; so is what a client that does not read makes
  us keep: its pings and messages are not read on before it has taken the answers.
- A peer that answers no ping is closed (1011); one that is slow to take what it is sent is not.
- A closing reason reaches the client: the connection lingers instead of being reset over what still arrives.
- The server's end is 1012, after which clients come back.
- What comes right behind the handshake waits until the handshake is answered: only then are there frames, and
  a bad one can be answered with a close of its own (1002, 1007).
- A peer may close in the middle of a message.
- Nothing of a request is logged: an address may hold a token.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.config.addresses import is_agents_server
from gateway.http.connections import Connections, Reader
from gateway.http.scope import carried
from gateway.server.refusals import MALFORMED, answer
from gateway.workers.peer_identity import PeerOrigin

PREFIX: Final = "/ws/"
_OF_PORTS: Final = re.compile(r"/api/sessions/[^/]+/ports/")


def is_for_socket(path: str, host: str) -> bool:
    """Whether connections may become WebSockets here: below `PREFIX`, and where agents' servers are shown."""
    is_agents = is_agents_server(path, host) or _OF_PORTS.match(path) is not None
    return is_agents or path.startswith(PREFIX)


WRITE_BUFFER_BYTES: Final = 64 * 1024
FRAGMENTS: Final = 1_024
"""Of one message; an empty fragment costs memory too."""
EARLY_BYTES: Final = 64 * 1024
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 16 * 1024 * 1024
RESTART: Final = 1012
"""Service restart: clients that take 1001 for a farewell come back after this one."""
TOO_BIG: Final = 1009
SWITCHED: Final = 101

_silent: Final = logging.getLogger("gateway.server.websockets.silent")
_silent.setLevel(logging.CRITICAL + 1)


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection that was upgraded; see the module."""

    def __init__(self, *args: Any, connections: Connections, origin: PeerOrigin, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hub = connections
        self.origin = origin
        self.logger = self.conn.logger = _silent
        self._is_clogged = False
        """Whether the client leaves so much unread that nothing more is read of it."""
        self._is_lingering = False
        self._early = bytearray()
        """What came before the handshake was answered."""
        self.conn.recv_frame = self._recv_frame  # type: ignore[method-assign]
        self._arrived = 0
        self.made_at = 0.0
        self.has_spoken = True  # it asked to become one

    # -- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        real = cast("asyncio.Transport", transport)
        self.reader = Reader(real)
        real.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.transport = cast("asyncio.Transport", _Outlet(real, self))

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.release(self)
        self._is_lingering = True
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent and self.conn.state is OPEN:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": RESTART})
            self.conn.send_close(RESTART, "the gateway stops")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()

    def finish(self, transport: asyncio.Transport) -> None:
        """Ends the connection when what is written has left and the client has heard it."""
        if self._is_lingering or transport.is_closing():
            return
        self._is_lingering = True
        transport.resume_reading()
        transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, transport.close)

    @property
    def is_lingering(self) -> bool:
        """Whether nothing is written any more."""
        return self._is_lingering

    # -- what arrives -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._arrived += len(data)
            if self._arrived > LINGER_BYTES:
                self.transport.abort()
            return
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            if len(self._early) > EARLY_BYTES:
                self.transport.pause_reading()
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            line = b"HTTP/1.1 400 Bad Request\r\n"
            self.transport.write(answer(MALFORMED, status_line=line, default_headers=self.default_headers))
            self.handshake_complete = self.close_sent = True
            self.transport.close()

    def _take_early(self) -> None:
        data, self._early = bytes(self._early), bytearray()
        if len(data) > EARLY_BYTES and not self._is_clogged:
            self.transport.resume_reading()
        if data:
            self.data_received(data)

    def _recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.conn.current_size = None  # the message that was begun does not come any more
        ServerProtocol.recv_frame(self.conn, frame)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == SWITCHED:
            carried(cast("dict[str, Any]", self.scope)).origin = self.origin

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < FRAGMENTS:
            super().handle_cont(event)
        elif self.conn.state is OPEN:
            self.conn.fail(TOO_BIG, "too many fragments")
            self.handle_parser_exception()

    # -- backpressure -----------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_clogged = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_clogged = False
        if not self.read_paused:
            self.transport.resume_reading()

    async def send(self, message: Any) -> None:
        is_answer = not self.handshake_complete
        await super().send(message)
        if is_answer and self.handshake_complete:
            self._take_early()

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if not self._is_clogged:
                self.transport.resume_reading()
        return message

    def keepalive_timeout(self) -> None:
        if self._is_clogged:  # the ping waits behind what the client has not read
            self.pong_timer = None
            self.schedule_ping()
            return
        super().keepalive_timeout()


class _Outlet:
    """The transport as uvicorn's protocol sees it: closing lets the client hear why."""

    def __init__(self, transport: asyncio.Transport, protocol: SocketProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.pause_reading = transport.pause_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        if data and not self._protocol.is_lingering:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.is_lingering or self._transport.is_closing()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        self._protocol.finish(self._transport)
