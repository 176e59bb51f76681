"""Answers of status 1xx before the one that counts: a bounded number of them (RFC 9110, 15.2).

A client takes any number, and a host that sends them without end would be heard for ever.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final, TypeVar

import aiohttp

INTERIM: Final = 16

Connector = TypeVar("Connector", bound=aiohttp.BaseConnector)


class BoundedHandler(aiohttp.client_proto.ResponseHandler):
    """Ends a connection that brings interim answers without end."""

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        self._interim = self._interim + 1 if 100 <= data[0].code < 200 else 0
        if self._interim > INTERIM:
            if self.transport is not None:
                self.transport.abort()
            return
        super().feed_data(data, size)


def bounded(connector: Connector) -> Connector:
    """The connector, whose connections end so."""
    made: Any = functools.partial(BoundedHandler, loop=asyncio.get_running_loop())
    connector._factory = made
    return connector
