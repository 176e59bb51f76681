"""What `worker_http` connects with: aiohttp, and to workers alone. It is imported when it is first used."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Final

import aiohttp

from gateway.egress.interim import bounded
from gateway.workers import ports
from gateway.workers.forks import ForkWorker
from gateway.workers.ports import PortClosed

KEPT: Final = 32
"""Connections to one port of one worker."""


class WorkerConnector(aiohttp.BaseConnector):
    """Connects to the worker that a URL's host names."""

    def __init__(self) -> None:
        super().__init__(limit=0, limit_per_host=KEPT)
        bounded(self)
        self.workers: weakref.WeakValueDictionary[str, ForkWorker] = weakref.WeakValueDictionary()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, _traces: Any, _timeout: Any
    ) -> aiohttp.client_proto.ResponseHandler:
        worker = self.workers.get(req.url.host or "")
        if worker is None or req.url.port is None:
            raise PortClosed
        made = await ports.connect(worker, req.url.port)
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(self._factory, sock=made)
        except BaseException:
            made.close()
            raise
        return protocol
