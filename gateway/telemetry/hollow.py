"""Packages of which only their modules are wanted, not what the package itself imports; and modules that
libraries import whole, of which a gateway that nobody asks for more uses nothing.

Uvicorn's package imports its command line, with all of click and multiprocessing; that of prometheus_client
two web servers of its own, which the gateway never uses. Starlette imports an HTTP client for the words of a
status, logging a serialiser. The command line makes them hollow before the program is imported: 6 MB.

Guarantees: whoever asks for more gets it, in whichever thread; nobody sees a module half loaded but itself.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

HOLLOW: Final[Mapping[str, Mapping[str, str]]] = {
    "csv": {},
    "html": {},
    "http.client": {},
    "importlib.metadata": {},
    "itsdangerous": {"Signer": "itsdangerous.signer:Signer"},
    "logging.config": {},
    "pickle": {},
    "prometheus_client": {"values": "prometheus_client.values"},
    "uvicorn": {"Config": "uvicorn.config:Config"},
    "webbrowser": {},
    "zipfile": {},
}
"""Packages and modules, and where the names are that a package's own modules ask it for."""


def hollow(name: str, places: Mapping[str, str]) -> None:
    """From now on modules of this package can be imported alone. What it imports itself is there as soon as
    somebody asks the package for any name but those of `places`. Nothing happens if it is imported already.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader, package, lock = spec.loader, importlib.util.module_from_spec(spec), threading.RLock()
    is_loading = False

    def ask(attribute: str) -> Any:
        nonlocal is_loading
        if attribute in places:
            return pkgutil.resolve_name(places[attribute])
        with lock:
            if is_loading:  # by itself, or by what it imports
                raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
            if package.__dict__.get("__getattr__") is ask:
                is_loading = True
                try:
                    loader.exec_module(package)
                finally:
                    is_loading = False
                if package.__dict__.get("__getattr__") is ask:
                    del package.__dict__["__getattr__"]
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = ask
    sys.modules[name] = package
    above, _, last = name.rpartition(".")
    if above:
        setattr(sys.modules[above], last, package)
