"""Libraries that take long to import and much memory, each imported when something of it is first used.

A gateway that calls no provider, signs nobody in and reads no worker's TLS never loads what only these need:
it starts in half the time. A module that uses such a library says so at its top:

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = lazily("aiohttp")

They are aiohttp and yarl (calls to providers, issuers, MCP servers, servers in workers), PyJWT (tokens),
cryptography (certificates for workers, keys of people) and argon2 (passwords of a shop's staff). A test holds
the list.

Of other libraries only what their package itself imports is heavy: uvicorn's is its command line, with all of
click and multiprocessing, that of prometheus_client two web servers of its own, which the gateway never uses.
The command line makes them `hollow` before the program is imported: 4 MB.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any, Final

HOLLOW: Final = {
    "prometheus_client": {"values": "prometheus_client.values"},
    "uvicorn": {"Config": "uvicorn.config:Config"},
}
"""Packages, and where the names are that their own modules ask them for."""


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


def hollow(name: str, places: Mapping[str, str]) -> None:
    """From now on modules of this package can be imported alone. What it imports itself is there as soon as
    somebody asks the package for any name but those of `places`. Nothing happens if it is imported already.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader, package = spec.loader, importlib.util.module_from_spec(spec)

    def ask(attribute: str) -> Any:
        if attribute in places:
            return pkgutil.resolve_name(places[attribute])
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = ask
    sys.modules[name] = package


async def loaded(*names: str) -> None:
    """Imports modules in a thread, if they are not there: the loop goes on meanwhile."""
    missing = [name for name in names if name not in sys.modules]
    if missing:
        await asyncio.to_thread(lambda: [importlib.import_module(name) for name in missing])
