"""Libraries that take long to import and much memory, each imported when something of it is first used.

A gateway that calls no MCP server, signs nobody in and reads no worker's TLS never loads what only these
need: it starts in half the time. A module that uses such a library says so at its top:

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = lazily("aiohttp")

They are aiohttp and yarl (calls to issuers, MCP servers, servers in workers), PyJWT (tokens),
cryptography (certificates for workers, keys of people) and argon2 (passwords of staff). A test holds
the list.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any


class Lazy:
    """Stands for a module; the first look at one of its names imports it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self._name), name)
        if not name.startswith("__"):
            self.__dict__[name] = found
        return found


def lazily(name: str) -> Any:
    """The module of this name, which is not imported yet."""
    return Lazy(name)


async def loaded(*names: str) -> None:
    """Imports modules in a thread, if they are not there: the loop goes on meanwhile."""
    missing = [name for name in names if name not in sys.modules]
    if missing:
        await asyncio.to_thread(lambda: [importlib.import_module(name) for name in missing])
