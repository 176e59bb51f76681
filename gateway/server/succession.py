"""Taking the place of a gateway that runs, and giving one's own away; what they say: succession_wire.py.

Guarantees: connections wait in the listener that both have, and none is refused; nothing is handed over
before the successor is ready; a running turn goes on where it is, and its readers with it; if the successor
ends before its predecessor has, the predecessor takes everything back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import pathlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import GatewayError, StoreFailed
from gateway.server import succession_wire as wire
from gateway.server.operators_socket import read_token
from gateway.server.succession_wire import (
    Channel,
    HandedSession,
    Hello,
    Here,
    Kept,
    Left,
    NotHandedOver,
    Take,
)
from gateway.sessions.manager import SessionKey, SessionManager
from gateway.sessions.succession import Succession, hand_over
from gateway.stores.directory import NodePlace
from gateway.stores.sessions import SessionStore
from gateway.version import VERSION

log = logging.getLogger(__name__)


class Giving(Protocol):
    """What a predecessor gives away, and how it stops."""

    manager: SessionManager

    @property
    def lock_fd(self) -> int:
        """The lock of the data directory."""

    @property
    def listener_fd(self) -> int:
        """The listener that people connect to."""

    @property
    def objection(self) -> str:
        """Why nothing can be handed over; empty if it can be."""

    def uids(self) -> list[int]:
        """Those that its sessions have, stored or not."""

    async def listen_for_other(self) -> str:
        """Opens the listener for the other gateway; its URL."""

    async def rest(self) -> None:
        """Accepts no connection any more, and starts nothing by itself."""

    async def resume(self) -> None:
        """Undoes that."""

    def succeeded_by(self, successor: NodePlace) -> Succession:
        """What is not in the map is the successor's from now on."""


class SuccessionDoor:
    """Hears of a successor; `run` serves one after the other, and returns when one has taken everything."""

    def __init__(self, data_path: pathlib.Path, giving: Giving) -> None:
        self._data_path = data_path
        self._giving = giving

    async def run(self) -> None:
        """See the class. Raises OSError if the socket cannot be made."""
        loop = asyncio.get_running_loop()
        with contextlib.closing(wire.listen(self._data_path)) as door:
            while True:
                sock, _ = await loop.sock_accept(door)
                sock.settimeout(wire.ANSWER_SECONDS)
                try:
                    if await self._serve(sock):
                        return
                except (OSError, StoreFailed) as error:
                    log.warning("a successor did not take over: %s", error)
                finally:
                    sock.close()

    async def _serve(self, sock: socket.socket) -> bool:
        """Whether it has taken everything."""
        hello = await asyncio.to_thread(wire.receive_hello, sock)
        giving = self._giving
        is_operator = hmac.compare_digest(hello.token.encode(), read_token(self._data_path).encode())
        words = giving.objection if is_operator else "Only who may read the directory takes over."
        if words:
            await asyncio.to_thread(wire.say_first, sock, NotHandedOver(words))
            return False
        here = Here(os.getpid(), VERSION, await giving.listen_for_other(), giving.uids())
        fds = giving.lock_fd, giving.listener_fd
        await asyncio.to_thread(wire.send_with_fds, sock, here, fds)
        log.info("a gateway of version %s asks to take over", hello.version)
        channel = await Channel.over(sock)
        try:
            return await self._give(channel)
        finally:
            await channel.aclose()

    async def _give(self, channel: Channel) -> bool:
        take = await channel.hear(Take)
        if take is None:
            log.warning("the successor ended before it was ready; nothing has changed")
            return False
        giving = self._giving
        await giving.rest()
        succession = giving.succeeded_by(NodePlace(take.pid, "successor", take.url))
        kept = giving.manager.names()
        channel.say(Kept([HandedSession(*name) for name in kept]))
        log.info("process %d takes over; %d sessions are still here", take.pid, len(kept))
        handing = asyncio.create_task(
            hand_over(giving.manager, kept, lambda name, _: channel.say(Left(HandedSession(*name)))),
            name="handing over",
        )
        ending = asyncio.create_task(channel.hear(Left), name="successor's end")
        await asyncio.wait([handing, ending], return_when=asyncio.FIRST_COMPLETED)
        is_done = handing.done()
        for task in (handing, ending):
            task.cancel()
        await asyncio.gather(handing, ending, return_exceptions=True)
        if not is_done:
            log.error("the successor has ended: this gateway takes everything back")
            succession.ended()
            await giving.resume()
        return is_done


class Predecessor:
    """The gateway whose place this one takes. `ask` for it, `take` it over, then `follow` it to its end."""

    def __init__(self, sock: socket.socket, here: Here, lock_fd: int, listener: socket.socket) -> None:
        self._sock = sock
        self._here = here
        self._channel: Channel | None = None
        self.lock_fd = lock_fd
        self.listener = listener

    @classmethod
    def ask(cls, data_path: pathlib.Path) -> Predecessor:
        """Asks the gateway that runs on this directory. Waits; raises OSError if none answers, StoreFailed
        if it refuses.
        """
        sock = wire.connect(data_path)
        try:
            wire.say_first(sock, Hello(read_token(data_path), VERSION))
            here, lock_fd, listener_fd = wire.receive_with_fds(sock)
        except BaseException:
            sock.close()
            raise
        return cls(sock, here, lock_fd, socket.socket(fileno=listener_fd))

    @property
    def uids(self) -> set[int]:
        """Those that its sessions have."""
        return set(self._here.uids)

    async def take(self, url: str, store: SessionStore) -> Succession:
        """Has it hand over, now that this gateway is ready and listens for it there. Raises StoreFailed."""
        self._channel = channel = await Channel.over(self._sock)
        channel.say(Take(os.getpid(), url))
        kept = await channel.hear(Kept)
        if kept is None:
            raise StoreFailed("The gateway that runs there ended while it was taken over. Start again.")
        place = NodePlace(self._here.pid, "predecessor", self._here.url)
        return Succession(place, store, kept=[_name(session) for session in kept.sessions])

    async def follow(
        self,
        succession: Succession,
        *,
        on_left: Callable[[SessionKey], None],
        on_end: Callable[[], Awaitable[None]],
    ) -> None:
        """Hears which sessions it lets go of; returns when it has ended, and all is this gateway's. What goes
        wrong then is logged.
        """
        assert self._channel is not None  # noqa: S101 - it was taken over
        try:
            while (left := await self._channel.hear(Left)) is not None:
                name = _name(left.session)
                succession.left(name)
                on_left(name)
            await self._channel.aclose()
            succession.ended()
            await on_end()
        except GatewayError as error:
            log.error("not all that the predecessor left is well: %s", error)


def _name(session: HandedSession) -> SessionKey:
    return session.owner, session.session_id
