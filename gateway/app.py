"""Composition: the one file that knows everything. Builds the parts, opens and closes them in order, and
gives every error its status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import errors, orphans
from gateway.agents import AgentCatalogue
from gateway.api import page
from gateway.api.chat import ChatFace
from gateway.api.guard import Guard
from gateway.api.operation import json_response, openapi
from gateway.api.ops import OpsFace
from gateway.api.sessions import SessionsFace
from gateway.auth import Gate
from gateway.broker import Broker
from gateway.config import Config
from gateway.limits import TokenBuckets
from gateway.lock import DataLock
from gateway.manager import SessionManager
from gateway.reaper import Reaper
from gateway.services import Services
from gateway.slots import WorkerSlots
from gateway.stores.base import Store
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from gateway.version import VERSION
from gateway.walls import WalledSpawner
from gateway.workspace import Workspaces

log = logging.getLogger(__name__)

STATUSES: Final[dict[type[errors.GatewayError], int]] = {
    errors.BadRequest: 400,
    errors.InvalidField: 422,
    errors.MalformedSessionId: 422,
    errors.WrongMediaType: 415,
    errors.BodyTooLarge: 413,
    errors.RequestTimeout: 408,
    errors.MessageTooLong: 413,
    errors.UnknownAgent: 422,
    errors.IdempotencyMismatch: 422,
    errors.RouteNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.SessionNotFound: 404,
    errors.SessionExists: 409,
    errors.SessionEnded: 409,
    errors.QueueFull: 429,
    errors.PermissionNotPending: 409,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.ForbiddenHost: 403,
    errors.ForbiddenOrigin: 403,
    errors.RateLimited: 429,
    errors.TooManyStreams: 429,
    errors.SessionLimit: 503,
    errors.WorkerLimit: 503,
    errors.Draining: 503,
    errors.StoreFull: 507,
    errors.StoreFailed: 503,
    errors.BrokenInvariant: 500,
}
"""The status of every error; a test checks that every leaf has one."""


class Gateway:
    """The parts of one gateway, built from its configuration."""

    def __init__(self, config: Config) -> None:
        limits = config.limits
        self.config = config
        self.slots = WorkerSlots(limits.max_live_workers, lambda: self.manager.sessions())
        self.spawner = WalledSpawner(config.workers, directory=config.data_path / "sessions")
        self.services = Services(
            config=config,
            store=_store(config),
            spawner=self.spawner,
            broker=Broker(config.model),
            agents=AgentCatalogue(config),
            workspaces=Workspaces(config.data_path, config.workers),
            slots=self.slots,
            monotonic=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.lock = DataLock(config.data_path)
        self.manager = SessionManager(self.services)
        self.reaper = Reaper(self.manager, self.services)
        self.gate = Gate()
        self.app = self._asgi()

    def _asgi(self) -> Starlette:
        operations = [
            *ChatFace(self.manager, self.services).operations(),
            *SessionsFace(self.manager, self.services).operations(),
            *OpsFace(
                version=VERSION,
                is_draining=lambda: self.manager.is_draining,
                monotonic=self.services.monotonic,
                wall_ms=self.services.wall_ms,
            ).operations(),
        ]
        document = msgspec.json.encode(openapi(operations, version=VERSION))

        async def describe(_request: Request) -> Response:
            return json_response(document)

        routes = [operation.route(self.gate.admit) for operation in operations]
        app = Starlette(
            routes=[*routes, Route("/openapi.json", describe, methods=["GET"]), *page.routes()],
            lifespan=lambda _app: self.lifespan(),
        )
        limits = self.config.limits
        rates = TokenBuckets(
            rate=limits.address_requests_per_second,
            burst=limits.address_burst,
            monotonic=self.services.monotonic,
        )
        app.add_middleware(Guard, config=self.config, statuses=STATUSES, rates=rates)
        return app

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Opens the parts in order and closes them in reverse."""
        services = self.services
        async with contextlib.AsyncExitStack() as stack:
            self.lock.take()
            stack.callback(self.lock.release)
            await asyncio.to_thread(orphans.sweep, self.config.data_path)
            services.workspaces.open()
            await services.store.open()
            stack.push_async_callback(services.store.close)
            services.workspaces.claim_uids(await services.store.taken_uids())
            await services.spawner.open()
            orphans.note(self.config.data_path, self.spawner.server_pid)
            stack.push_async_callback(services.spawner.close)
            stack.push_async_callback(services.broker.close)
            await stack.enter_async_context(self.manager)
            if recovered := await self.manager.recover():
                log.warning("%d turns were cut by the end of the last gateway", recovered)
            sweeping = asyncio.create_task(self.reaper.run(), name="reaper")
            stack.push_async_callback(_cancelled, sweeping)
            yield


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _store(config: Config) -> Store:
    limits = config.limits
    if config.store == "memory://":
        return MemoryStore(max_events=limits.events_per_session, max_bytes=limits.event_bytes_per_session)
    return SqliteStore(config.database_path)


def create_app(config: Config | None = None) -> Starlette:
    """The gateway as an ASGI application, for those who bring a server of their own."""
    return Gateway(config or Config()).app
