"""The operator's door: a Unix socket in the data directory, over which the command line speaks HTTP.

Who may read the directory is the operator. The socket alone is not enough, because in `basic` workers may
run as the gateway's own user: its caller also shows a token from a file that no worker's walls let it read.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import socket
from collections.abc import Iterator
from typing import Final

SOCKET_NAME: Final = "operator.sock"
TOKEN_NAME: Final = "operator.key"  # noqa: S105 - a file name
PATH_BYTES: Final = 100
"""A socket's address holds 108 bytes (unix(7)); a longer path goes by way of its directory's descriptor."""


def make_token(data_path: pathlib.Path) -> str:
    """A new token, in a file that only the gateway's user may read. Raises OSError."""
    token = secrets.token_urlsafe(32)
    path = data_path / TOKEN_NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token


def read_token(data_path: pathlib.Path) -> str:
    """The token of the gateway that runs there. Raises OSError."""
    return (data_path / TOKEN_NAME).read_text("utf-8")


def open_door(data_path: pathlib.Path, name: str = SOCKET_NAME) -> socket.socket:
    """The bound socket; what another gateway left is removed. Raises OSError."""
    (data_path / name).unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with address(data_path, name) as path:
        door.bind(path)
    (data_path / name).chmod(0o600)
    return door


@contextlib.contextmanager
def address(data_path: pathlib.Path, name: str = SOCKET_NAME) -> Iterator[str]:
    """A socket's address, short enough for the kernel."""
    path = str(data_path / name)
    if len(os.fsencode(path)) <= PATH_BYTES:
        yield path
        return
    directory = os.open(data_path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)
