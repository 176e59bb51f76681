"""Agent Gateway: serve any ACP agent to many people from one box, one process per session.

The names in `__all__` are what others may rely on. Each is imported when it is asked for, so that a program
which needs the version, or the client, does not load the server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from gateway.version import VERSION

if TYPE_CHECKING:
    from gateway.app import Gateway, create_app
    from gateway.client import GatewayClient
    from gateway.config.tables import Config

__all__ = ["VERSION", "Config", "Gateway", "GatewayClient", "create_app"]
__version__ = VERSION

_HOMES: Final = {
    "Config": "gateway.config.tables",
    "Gateway": "gateway.app",
    "GatewayClient": "gateway.client",
    "create_app": "gateway.app",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
