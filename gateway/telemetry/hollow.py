"""Packages of which only their modules are wanted, not what the package itself imports.

Uvicorn's imports its command line, with all of click and multiprocessing; that of prometheus_client two web
servers of its own, which the gateway never uses. The command line makes them hollow before the program is
imported: 4 MB.
"""

from __future__ import annotations

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
