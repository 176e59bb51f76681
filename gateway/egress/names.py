"""Names in a worker's own network: every host name has an address there, which leads to the gateway alone.

No name is looked up here, and nothing that is asked goes anywhere: who asks for a name gets an address of
198.18.0.0/15 (RFC 2544), and only a connection to it is decided upon. So a refusal is told in words at the
door, instead of as a name that does not exist, and a name carries nothing out.

Guarantees: the same name has the same address as long as the worker lives; no packet raises, is answered
twice or answered if it is an answer itself; at most `NAMES` names are kept, and who asks for more is told
that the server fails.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.egress.pace import NAME_SECONDS, READ_SECONDS, LoopShare

NAMES: Final = 4096
"""Of one worker: a build that fetches from everywhere asks for some hundreds."""
_FIRST: Final = int(IPv4Address("198.18.0.1"))
_LOOPBACK: Final = "127.0.0.1"
_SECONDS: Final = 300
"""How long an address may be kept by who asked."""
_PACKETS: Final = 4
"""Answered in one go, before others have their turn."""
_PACKET_BYTES: Final = 4096
_IP_PKTINFO: Final = 8
"""ip(7): which address a packet was sent to, and which one it is answered from."""
_PKTINFO_BYTES: Final = 12
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_PKTINFO_BYTES)
_HEADER: Final = struct.Struct("!HHHHHH")
_IS_ANSWER, _IS_RECURSIVE, _CAN_RECURSE, _OPERATION = 0x8000, 0x0100, 0x0080, 0x7800
_OK, _MALFORMED, _FAILS, _UNKNOWN_OPERATION = 0, 1, 2, 4
_ADDRESS, _INTERNET = 1, 1
_NAME_BYTES: Final = 255
_LABEL_BYTES: Final = 63
_HOST: Final = re.compile(rb"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_REPLIES: Final = 1024
"""Kept as they were said, of one worker: a program that asks again, asks in the same bytes."""
_REPLY_BYTES: Final = 320
"""One that is longer is not kept: it belongs to no name."""


class Names:
    """The addresses of one worker's names."""

    def __init__(self, limit: int = NAMES) -> None:
        self._limit = limit
        self.refused = ""
        """The last name that was one too many."""
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def address_of(self, name: str) -> str | None:
        """The address of a name, in lower case and without a dot at its end; None if there are too many."""
        if name == "localhost" or name.endswith(".localhost"):
            return _LOOPBACK
        known = self._addresses.get(name)
        if known is None and len(self._addresses) < self._limit:
            known = self._addresses[name] = str(IPv4Address(_FIRST + len(self._addresses)))
            self._names[known] = name
        if known is None:
            self.refused = name
        return known

    def name_of(self, address: str) -> str:
        """The name that was given this address; empty if none was."""
        return self._names.get(address, "")


def answer(packet: bytes, names: Names) -> bytes | None:
    """What to say to a question; None to what is no question."""
    if len(packet) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(packet)
    if flags & _IS_ANSWER:
        return None
    if flags & _OPERATION:
        return _reply(number, flags, _UNKNOWN_OPERATION)
    asked = _question(packet) if questions == 1 else None
    if asked is None:
        return _reply(number, flags, _MALFORMED)
    labels, kind, of_class, end = asked
    question = packet[_HEADER.size : end]
    name = b".".join(labels)
    is_host = _HOST.fullmatch(name) is not None and name.count(b".") == len(labels) - 1
    if kind != _ADDRESS or of_class != _INTERNET or not is_host:
        return _reply(number, flags, _OK, question)
    address = names.address_of(name.decode("ascii"))
    if address is None:
        return _reply(number, flags, _FAILS, question)
    return _reply(number, flags, _OK, question, socket.inet_aton(address))


def _question(packet: bytes) -> tuple[list[bytes], int, int, int] | None:
    """Labels in lower case, type, class and where it ends; None if it is malformed."""
    labels, at = [], _HEADER.size
    while True:
        size = packet[at] if at < len(packet) else _LABEL_BYTES + 1
        if size > _LABEL_BYTES or at + 1 + size > len(packet) or at - _HEADER.size + size >= _NAME_BYTES:
            return None
        at += 1
        if not size:
            break
        labels.append(packet[at : at + size].lower())
        at += size
    if at + 4 > len(packet):
        return None
    kind, of_class = struct.unpack_from("!HH", packet, at)
    return labels, kind, of_class, at + 4


def _reply(number: int, flags: int, code: int, question: bytes = b"", address: bytes = b"") -> bytes:
    kept = flags & (_OPERATION | _IS_RECURSIVE)
    head = _HEADER.pack(number, _IS_ANSWER | _CAN_RECURSE | kept | code, bool(question), bool(address), 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, _ADDRESS, _INTERNET, _SECONDS, 4) + address if address else b""
    return head + question + record


class NameServer:
    """Answers on a worker's socket. `on_full` hears, once, that there are too many names."""

    def __init__(
        self, door: socket.socket, names: Names, *, share: LoopShare, on_full: Callable[[], None]
    ) -> None:
        self._share = share
        self._is_open = False
        self._door = door
        self._names = names
        self._on_full: Callable[[], None] | None = on_full
        self._loop = asyncio.get_running_loop()
        self._replies: dict[bytes, bytes] = {}
        """By what was asked, both without the number of the question."""

    def open(self) -> None:
        """Begins to answer."""
        self._door.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._is_open = True
        self._go_on()

    def _go_on(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._door.fileno(), self._read)

    def close(self) -> None:
        """Stops answering; the socket stays open."""
        self._is_open = False
        self._on_full = None
        self._loop.remove_reader(self._door.fileno())

    def _read(self) -> None:
        if self._share.spend(READ_SECONDS + self._answer_some() * NAME_SECONDS):
            self._loop.remove_reader(self._door.fileno())
            self._share.take_turn(self._go_on)

    def _answer_some(self) -> int:
        """How many it answered."""
        count = 0
        for _ in range(_PACKETS):
            try:
                packet, ancillary, _, sender = self._door.recvmsg(_PACKET_BYTES, _ANCILLARY_BYTES)
                reply = self._reply_to(packet)
                if reply is not None:
                    self._door.sendmsg([reply], _from_where_it_was_asked(ancillary), 0, sender)
            except BlockingIOError:
                break
            except OSError:  # who asked is gone, or does not read
                reply = None
            count += 1
            if reply is not None and reply[3] & 0xF == _FAILS:
                self._tell_full()
        return count

    def _reply_to(self, packet: bytes) -> bytes | None:
        """A question that was answered is not read again: its name has the same address for good."""
        asked = packet[2:]
        if (known := self._replies.get(asked)) is not None:
            return packet[:2] + known
        reply = answer(packet, self._names)
        is_good = reply is not None and reply[3] & 0xF == _OK
        if reply is not None and is_good and len(asked) <= _REPLY_BYTES and len(self._replies) < _REPLIES:
            self._replies[asked] = reply[2:]
        return reply

    def _tell_full(self) -> None:
        tell, self._on_full = self._on_full, None
        if tell is not None:
            tell()


def _from_where_it_was_asked(
    ancillary: list[tuple[int, int, bytes]],
) -> tuple[tuple[int, int, bytes], ...]:
    """Clients take an answer only from the address that they asked."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _PKTINFO_BYTES:
            return _source(data)
    return ()


@functools.lru_cache(maxsize=64)
def _source(asked: bytes) -> tuple[tuple[int, int, bytes], ...]:
    """As a packet is sent from the address that one was sent to; most ask at one and the same."""
    _, _, address = struct.unpack_from("=i4s4s", asked)
    return ((socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, address, bytes(4))),)
