"""What the kernel knows of the other end of a connection on the same machine: who made that socket, its inode
and its control group (sock_diag(7), netlink(7), linux/inet_diag.h), and which addresses are the machine's own
(rtnetlink(7)).

Guarantees: one question, one answer, some microseconds; no privilege is needed; the answer is the socket with
exactly these addresses and ports, or nothing. A socket that its process has closed counts as none.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Final

from msgspec import Struct

NETLINK_ROUTE: Final = 0
NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_RTM_GETROUTE: Final = 26
_RTN_LOCAL: Final = 2
_RTA_DST, _RTA_OIF = 1, 4
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_TCP_LISTEN: Final = 10
_INET_DIAG_CGROUP_ID: Final = 21
"""Linux 5.8: the version 2 group in which the socket was made, by the inode of its directory."""
_ANY: Final = 0xFFFF_FFFF
_ANSWER_BYTES: Final = 8192
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins inside IPv6 (::ffff:0:0/96)."""

_header: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, pid."""
_request: Final = struct.Struct("=BBBBI")
"""inet_diag_req_v2 before the addresses: family, protocol, extensions, padding, states."""
_ports: Final = struct.Struct(">HH")
_interface: Final = struct.Struct("=III")
"""The interface, and the cookie that means any."""
_found_at, _owner_at, _attributes_at = 16, 16 + 64, 16 + 72
"""Where inet_diag_msg, its uid and inode, and its attributes begin."""
_pair: Final = struct.Struct("=II")
_attribute: Final = struct.Struct("=HH")
_route: Final = struct.Struct("=BBBBBBBBI")

Address = tuple[str, int] | tuple[str, int, int, int]
"""As `getpeername` says it."""


class SocketPeer(Struct, frozen=True):
    """The other end of a TCP connection."""

    uid: int
    """Of the process that made the socket, as this process's user namespace counts."""
    inode: int
    group: int | None = None
    """Its control group of version 2; None if the kernel does not say."""


class SockDiag:
    """Asks the kernel; `close` it."""

    def __init__(self) -> None:
        """Raises OSError if such questions are not allowed."""
        self._sequence = 0
        self._diag = _netlink(NETLINK_SOCK_DIAG)
        try:
            self._routes = _netlink(NETLINK_ROUTE)
        except OSError:
            self._diag.close()
            raise

    def close(self) -> None:
        """Ends it."""
        self._diag.close()
        self._routes.close()

    def find(self, peer: Address, own: Address) -> SocketPeer | None:
        """The socket of this machine that is bound to `peer` and connected to `own`, if there is one.

        Raises OSError.
        """
        (family, source), (_, target) = _raw(peer[0]), _raw(own[0])
        scope = peer[3] if len(peer) == 4 else 0
        body = (
            _request.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY)
            + _ports.pack(peer[1], own[1])
            + source.ljust(16, b"\0")
            + target.ljust(16, b"\0")
            + _interface.pack(scope, _ANY, _ANY)
        )
        answer = self._ask(self._diag, _SOCK_DIAG_BY_FAMILY, body)
        if answer is None or len(answer) < _attributes_at:
            return None
        uid, inode = _pair.unpack_from(answer, _owner_at)
        is_listening = answer[_found_at + 1] == _TCP_LISTEN
        if is_listening or not inode or _ports.unpack_from(answer, _found_at + 4) != (peer[1], own[1]):
            return None  # a listener at that port, or one that its process has closed
        return SocketPeer(uid, inode, _group(answer))

    def is_own(self, address: Address) -> bool:
        """Whether an address is one of this machine's. Raises OSError."""
        family, raw = _raw(address[0])
        body = _route.pack(family, 8 * len(raw), 0, 0, 0, 0, 0, 0, 0)
        body += _attribute.pack(_attribute.size + len(raw), _RTA_DST) + raw
        if len(address) == 4 and address[3]:
            body += _attribute.pack(_attribute.size + 4, _RTA_OIF) + struct.pack("=I", address[3])
        answer = self._ask(self._routes, _RTM_GETROUTE, body)
        return (
            answer is not None and len(answer) > _header.size + 7 and answer[_header.size + 7] == _RTN_LOCAL
        )

    def _ask(self, channel: socket.socket, kind: int, body: bytes) -> bytes | None:
        """The answer; None if there is no such thing. The kernel answers before `send` returns."""
        self._sequence = (self._sequence + 1) & _ANY
        channel.send(_header.pack(_header.size + len(body), kind, _NLM_F_REQUEST, self._sequence, 0) + body)
        while True:
            answer = channel.recv(_ANSWER_BYTES)
            _, found, _, sequence, _ = _header.unpack_from(answer)
            if sequence != self._sequence:
                continue  # of a question that was given up
            if found != _NLMSG_ERROR:
                return answer
            code = -struct.unpack_from("=i", answer, _header.size)[0]
            if code in (errno.ENOENT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENODEV, errno.EINVAL):
                return None
            raise OSError(code, os.strerror(code))


def _netlink(protocol: int) -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, protocol)
    try:
        channel.bind((0, 0))
    except OSError:
        channel.close()
        raise
    channel.setblocking(False)
    return channel


def _raw(host: str) -> tuple[int, bytes]:
    """Family and bytes of an address; one of IPv4 inside IPv6 is one of IPv4, as it is to the kernel."""
    if ":" not in host:
        return socket.AF_INET, socket.inet_pton(socket.AF_INET, host)
    raw = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return (socket.AF_INET, raw[12:]) if raw.startswith(_MAPPED) else (socket.AF_INET6, raw)


def _group(answer: bytes) -> int | None:
    place = _attributes_at
    while place + _attribute.size <= len(answer):
        length, kind = _attribute.unpack_from(answer, place)
        if length < _attribute.size:
            return None
        if kind == _INET_DIAG_CGROUP_ID:
            return int.from_bytes(answer[place + 4 : place + 12], "little")
        place += (length + 3) & ~3
    return None
