"""What a service manager that starts us says and hears: a listening socket passed on, and that we are ready.

The protocols of sd_listen_fds(3) and sd_notify(3), which others than systemd speak, too. A socket that the
manager holds goes on taking connections while no gateway runs: a restart refuses no connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

FIRST_FD: Final = 3


def passed_listener() -> socket.socket | None:
    """The listening socket that was passed to this process; None if none was. Removes its environment
    variables, so that no child mistakes the socket for its own.

    Raises OSError if it was passed something other than one listening TCP socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit() or count == "0":
        return None
    if count != "1":
        raise OSError(f"{count} sockets were passed; pass one")
    listener = socket.socket(fileno=FIRST_FD)
    listener.set_inheritable(False)
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise OSError("what was passed is no TCP socket that listens")
    return listener


def notify(state: str) -> None:
    """Tells the service manager, if there is one, READY=1, STOPPING=1, or that it shall have patience."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.sendall(state.encode())
