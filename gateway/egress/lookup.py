"""Looking up names without holding anybody up.

The system's resolver blocks for as long as it likes, half a minute if a name's servers are silent, and the
gateway's few threads for blocking work do the store's and the disk's. So each look-up has a thread of its
own, which nobody waits for at the end, and there is a bound on how many there are.

Guarantees: a caller waits no longer than its own deadline; a name whose servers are silent costs one thread
until the system gives up; past `LOOKUPS` of those the next caller hears so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

LOOKUPS: Final = 128
"""Threads at the same time: one that waits is a few pages of memory. Twice as many as calls, for a look-up
may outlive the call that wanted it.
"""


class LookupFailed(Exception):
    """A name leads nowhere, or it could not be found out where; the text says which."""


def system_addresses(host: str, port: int) -> list[str]:
    """Every address of a host, by the system's resolver. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Lookup:
    """Looks up names; see the module. `resolve` is who knows."""

    def __init__(self, resolve: Callable[[str, int], list[str]] = system_addresses) -> None:
        self._resolve = resolve
        self._running = 0

    async def addresses(self, host: str, port: int) -> list[str]:
        """Every address of a host, at least one. Raises LookupFailed."""
        if self._running >= LOOKUPS:
            raise LookupFailed("Too many names are being looked up. Try again shortly.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def tell(found: list[str] | Exception) -> None:
            self._running -= 1
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look() -> None:
            try:
                found: list[str] | Exception = self._resolve(host, port)
            except Exception as error:  # whatever it is, who asked must hear of it
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the caller
                loop.call_soon_threadsafe(tell, found)

        try:
            threading.Thread(target=look, name="lookup", daemon=True).start()
        except RuntimeError:  # the machine has no more threads
            raise LookupFailed("The name cannot be looked up now. Try again shortly.") from None
        self._running += 1
        try:
            found = await answer
        except Exception:
            found = []
        if not found:
            raise LookupFailed(f"{host} cannot be found: no address is known for this name.")
        return found


system_lookup: Final = Lookup()
"""What the operator named is looked up by this one: a proxy in front."""
