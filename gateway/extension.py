"""The interface for applications: what one declares, what it is given, and what it adds to the gateway.

An application is an `Application` that an entry point of the group `agent_gateway.applications` names. A
gateway that runs it calls `open` with a `Context` and adds the `Faces` that it returns; nothing of it is
there otherwise. What is named here stays from version to version as docs/applications.md says; everything
else may change.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.routing import BaseRoute

from gateway.agents.toolsets import Answer, Caller, Tool, Toolset, Widget, by_name
from gateway.auth.permits import Permit
from gateway.buckets import MemoryBuckets, TokenBuckets
from gateway.config.applications import Application, Outliving, OwnAgent, enabled, resolved
from gateway.config.file import ConfigError
from gateway.config.tables import Config, Table
from gateway.http.gate import Gate
from gateway.http.operation import Operation, Socket
from gateway.principal import Account, ConversationKey, Principal, Scope, reach, tenant_of
from gateway.sessions.manager import SessionManager
from gateway.sessions.observers import Observer
from gateway.sessions.queue import Turn
from gateway.sessions.reader import Events, Gap, follow
from gateway.sessions.session import Session
from gateway.sessions.tenures import Tenure
from gateway.stores.database import Database, MemoryTables, PostgresqlDatabase, Statements, Tables
from gateway.telemetry.audit import Audit
from gateway.telemetry.heavy import lazily
from gateway.telemetry.metrics import Metrics

__all__ = [
    "Account",
    "Answer",
    "Application",
    "Caller",
    "Context",
    "ConversationKey",
    "Database",
    "Events",
    "Faces",
    "Gap",
    "MemoryBuckets",
    "MemoryTables",
    "Observer",
    "Operation",
    "Outliving",
    "OwnAgent",
    "Permit",
    "PostgresqlDatabase",
    "Principal",
    "Scope",
    "Session",
    "SessionManager",
    "Socket",
    "Statements",
    "Table",
    "Tables",
    "Tenure",
    "TokenBuckets",
    "Tool",
    "Toolset",
    "Turn",
    "Widget",
    "follow",
    "lazily",
    "reach",
    "tenant_of",
]

T = TypeVar("T", bound=Table)


class Context(Struct, frozen=True, kw_only=True):
    """What a gateway gives to an application that it opens."""

    config: Callable[[], Config]
    """The configuration as it is now: a reload replaces it."""
    sessions: SessionManager
    """`get_or_create`, `find` and `create` a session, then use its verbs; read its `fold` and its `log`."""
    tables: Tables
    """For tables of its own. `Database` is the SQLite file that the sessions are in, `PostgresqlDatabase` the
    database on PostgreSQL; `MemoryTables` belongs to a store that keeps nothing.
    """
    gate: Gate
    """Who calls; `add_staff` and `access_token` for people of its own that log in."""
    metrics: Metrics
    audit: Audit
    monotonic: Callable[[], float]
    """Seconds of a clock that is never set."""
    wall_ms: Callable[[], int]
    """Milliseconds since 1970 UTC."""
    health: Callable[[], Struct]
    """What `GET /health` answers."""
    readiness: Callable[[], Awaitable[Mapping[str, Any]]]
    """What must hold for this gateway to take work, by name: `is_well` and `words`."""
    notify: Callable[[Session, str, Mapping[str, Any]], None]
    """Tells the webhook's receiver that one of its `Application.webhook_events` happened in a session, with
    values that say more: no words of the conversation.
    """
    watching: Callable[[Session], contextlib.AbstractContextManager[None]]
    """Somebody follows a session by a way of its own, for as long as the block runs: then a turn's end is not
    one that nobody saw.
    """
    others: Mapping[str, Any]
    """The `public` of the applications that were opened before it, by their names."""
    tell_others: Callable[[bytes], None] = lambda _said: None
    """Tells the same application at every other gateway on the store a piece of JSON, which its `Faces.hear`
    gets there. Best effort and bounded: nobody waits for it, and what matters is in the store.
    """

    def settings(self, kind: type[T]) -> T:
        """Its own settings as they are now."""
        return self.config().of(kind)


def _nothing() -> contextlib.AbstractAsyncContextManager[Any]:
    return contextlib.nullcontext()


class Faces(Struct, frozen=True, kw_only=True):
    """What an application adds to the gateway."""

    operations: tuple[Operation, ...] = ()
    sockets: tuple[Socket, ...] = ()
    routes: tuple[BaseRoute, ...] = ()
    """What is no operation: pictures, pages of its own. They are served without credentials."""
    pages: Mapping[str, str] = {}
    """Pages that come with the gateway's: path → file name."""
    files: Mapping[str, Mapping[str, str]] = {}
    """Files of the same folder that any page may load: name → headers."""
    toolsets: tuple[Toolset, ...] = ()
    """Offered at `/mcp`, and to the agents whose `tools` name them."""
    observers: tuple[Observer, ...] = ()
    hear: Callable[[bytes], None] | None = None
    """Hears what the same application at another gateway told with `Context.tell_others`."""
    public: Any = None
    """What an application that is built on this one may use."""
    page_part: str = ""
    """The address of the module with its part of the page, below the gateway's own; empty: the page has the
    part, or there is none.
    """
    lifespan: Callable[[], contextlib.AbstractAsyncContextManager[Any]] = _nothing
    """Entered when the store is open and before requests come, left when they have ended."""


def opened(
    config: Config, context: Context, *, tell: Callable[[str, bytes], None] = lambda _name, _said: None
) -> dict[str, Faces]:
    """What the applications that run add, by their names. `tell` says something to an application's like at
    other gateways.
    """
    found: dict[str, Faces] = {}
    for application in enabled(config):
        others = {name: faces.public for name, faces in found.items()}
        given = msgspec.structs.replace(
            context, others=others, tell_others=functools.partial(tell, application.name)
        )
        found[application.name] = resolved(application.open)(given)
    return found


def joined(opened: Mapping[str, Faces]) -> Faces:
    """What several applications add, as one. Raises ConfigError if two have a tool of one name."""
    faces = list(opened.values())
    return Faces(
        operations=tuple(operation for one in faces for operation in one.operations),
        sockets=tuple(socket for one in faces for socket in one.sockets),
        routes=tuple(route for one in faces for route in one.routes),
        pages={path: name for one in faces for path, name in one.pages.items()},
        files={name: headers for one in faces for name, headers in one.files.items()},
        toolsets=tuple(by_name(toolset for one in faces for toolset in one.toolsets).values()),
        observers=tuple(observer for one in faces for observer in one.observers),
        lifespan=lambda: _all_of(faces),
    )


def refuse_taken(operations: Iterable[Operation]) -> None:
    """Raises ConfigError if two operations have one method and path, or handlers of one name."""
    seen: set[str] = set()
    for operation in operations:
        for what in (f"{operation.method} {operation.path}", f"the name {operation.handler.__name__}"):
            if what in seen:
                raise ConfigError([f"[applications] enabled: two operations have {what}; leave one out"])
            seen.add(what)


@contextlib.asynccontextmanager
async def _all_of(faces: Iterable[Faces]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for one in faces:
            await stack.enter_async_context(one.lifespan())
        yield
