"""The doors of a worker with the network `broker`: sockets that listen in the worker's own network namespace
and are served by the gateway, outside of it.

Guarantees: nothing leads out of the namespace but these sockets; every IPv4 address is the namespace's own
(AnyIP), so that a connection to any address ends at a door if its port has one, and is refused otherwise;
IPv6 leads nowhere. The sockets go to the gateway alone, and none stays in the worker.

Facts: rtnetlink(7); `ip route add local 0.0.0.0/0 dev lo`. All of it runs while there are capabilities.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import Final

from worker.spec import DOOR_PORT

_BACKLOG: Final = 512
_NEW_ROUTE: Final = 24
_REQUEST_ACK_CREATE: Final = 0x1 | 0x4 | 0x400
_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL = 255, 3, 254, 2
_OUT_INTERFACE: Final = 4
_HEADER_BYTES: Final = 16
_HTTP, _HTTPS, _NAMES = 80, 443, 53


def open_doors(channel: int, ports: tuple[int, ...]) -> None:
    """Opens them and sends them to the other end of a socket, which is closed here: the gateway's own, those
    of HTTPS, HTTP and names, then those of further ports. Raises OSError.
    """
    with socket.socket(fileno=channel) as out:
        _own_every_address()
        doors = [_listen("127.0.0.1", DOOR_PORT), _listen("", _HTTPS), _listen("", _HTTP), _take_names()]
        doors += [_listen("", port) for port in ports]
        numbers = array.array("i", [door.fileno() for door in doors])
        out.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        for door in doors:
            door.close()


def _listen(host: str, port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.bind((host, port))
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"door at port {port}") from None
    door.listen(_BACKLOG)
    return door


def _take_names() -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("", _NAMES))
    return door


def _own_every_address() -> None:
    """Adds the route by which every IPv4 address is local."""
    route = struct.pack(
        "BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL, 0
    )
    body = route + struct.pack("HHI", 8, _OUT_INTERFACE, socket.if_nametoindex("lo"))
    head = struct.pack("IHHII", _HEADER_BYTES + len(body), _NEW_ROUTE, _REQUEST_ACK_CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel_side:
        kernel_side.sendto(head + body, (0, 0))
        (code,) = struct.unpack_from("i", kernel_side.recv(4096), _HEADER_BYTES)
    if code:
        raise OSError(-code, os.strerror(-code), "the route to its doors")
