"""Counts what there is: for the scrape, for operators, for `top`. Everything is derived from the map when
somebody asks, so that no number drifts; a hundred thousand sessions are counted in slices, with room for
others between them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from gateway.events.facts import iso
from gateway.events.lifecycle import SessionState
from gateway.principal import subject_of
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import Services
from gateway.sessions.session import Session
from gateway.sights import NodeNumbers, Overview, TenantNumbers, WatchedSession, WatchedSessions
from gateway.telemetry.metrics import Readers, Standing
from gateway.version import VERSION
from gateway.workers.memory import process_bytes
from gateway.workers.usage import WorkerUsage

SLICE_SESSIONS: Final = 1_000
"""Looked at in one go, about a millisecond."""
TURNING: Final = frozenset({SessionState.RUNNING, SessionState.WAITING, SessionState.INTERRUPTING})


class Wanted(Struct, frozen=True, kw_only=True):
    """Which sessions an operator asks for; what is empty asks for nothing."""

    words: tuple[str, ...] = ()
    """All of them are in the key, the tenant, the agent, the state or the person."""
    state: str = ""
    agent: str = ""
    tenant: str = ""

    def holds(self, session: Session, *, shows_people: bool) -> bool:
        """True if it is one of them. Who may not see people finds nothing by them."""
        record, state = session.record, str(session.state)
        if self.state not in ("", state) or self.agent not in ("", record.agent):
            return False
        if self.tenant not in ("", session.tenant):
            return False
        person = subject_of(record.owner) if shows_people else ""
        text = " ".join((record.key, session.tenant, record.agent, state, person)).casefold()
        return all(word in text for word in self.words)


ANY: Final = Wanted()


class Census:
    """See the module."""

    def __init__(
        self, manager: SessionManager, services: Services, *, readers: Callable[[], dict[str, Readers]]
    ) -> None:
        self._manager = manager
        self._services = services
        self._readers = readers
        self._began = services.monotonic()

    async def standing(self) -> Standing:
        """What a scrape says of this moment."""
        usages = await self._usages()
        standing = Standing(
            readers=self._readers(),
            store_waiting=self._services.store.logs.backlog(),
            worker_limit=self._services.config.limits.max_live_workers,
            waiting_turns=self._services.slots.waiting,
            is_draining=self._manager.is_going,
        )
        if self._services.membership is not None:
            standing.lease_seconds = self._services.membership.lease.seconds_left
            standing.nodes = max(1, len(self._services.membership.nodes))
        for name in (agent.name for agent in self._services.agents.all()):
            standing.workers[name] = standing.worker_bytes[name] = 0
            standing.spares[name] = standing.frozen[name] = 0
        standing.spares |= self._services.workers.spares.counts()
        for index, session in enumerate(self._manager.sessions()):
            if index % SLICE_SESSIONS == 0:
                await asyncio.sleep(0)
            _count(standing, session, usages.get(session.record.key))
        return standing

    async def sessions(
        self, *, limit: int, tenant: str | None, wanted: Wanted = ANY, shows_people: bool = False
    ) -> WatchedSessions:
        """Those that were used last, of a tenant or of all; whose they are only if `shows_people`."""
        usages = await self._usages()
        known = [session for session in self._manager.sessions() if tenant in (None, session.tenant)]
        found = [session for session in known if wanted.holds(session, shows_people=shows_people)]
        found.sort(key=lambda session: session.idle_seconds)
        rows = [self._row(session, usages.get(session.record.key), shows_people) for session in found[:limit]]
        return WatchedSessions(
            sessions=rows,
            total=len(found),
            agents=sorted({session.record.agent for session in known}),
            tenants=sorted({session.tenant for session in known}),
            states=dict(Counter(str(session.state) for session in known)),
        )

    async def overview(self) -> Overview:
        """Everything at a glance."""
        services, metrics = self._services, self._services.metrics
        standing, usages = await self.standing(), await self._usages()
        states: Counter[str] = Counter()
        for (state, _agent), count in standing.sessions.items():
            states[state] += count
        return Overview(
            version=VERSION,
            at=iso(services.wall_ms()),
            uptime_seconds=round(services.monotonic() - self._began, 3),
            is_draining=standing.is_draining,
            sessions=states.total(),
            states=dict(states),
            workers=sum(standing.workers.values()),
            worker_limit=standing.worker_limit,
            worker_memory_bytes=sum(standing.worker_bytes.values()),
            worker_cpu_seconds=round(sum(usage.cpu_seconds for usage in usages.values()), 3),
            gateway_memory_bytes=await asyncio.to_thread(process_bytes, os.getpid()),
            gateway_cpu_seconds=round(sum(os.times()[:2]), 3),
            turns_running=standing.turns_running,
            queued=standing.queued,
            streams=sum(readers.count for readers in standing.readers.values()),
            starts_per_minute=round(metrics.starts.count_per_minute(), 2),
            turns_per_minute=round(metrics.turns_lately.per_minute(), 2),
            tokens_per_minute=round(metrics.tokens_lately.per_minute(), 2),
            start_p50_seconds=metrics.starts.quantile(0.5),
            start_p99_seconds=metrics.starts.quantile(0.99),
            first_token_p50_seconds=metrics.first_tokens.quantile(0.5),
            first_token_p99_seconds=metrics.first_tokens.quantile(0.99),
            loop_lag_p99_seconds=metrics.loop_lags.quantile(0.99),
            store_waiting=standing.store_waiting,
            tenants=self._tenants(usages),
            nodes=self._nodes(),
        )

    def _nodes(self) -> list[NodeNumbers] | UnsetType:
        membership, directory = self._services.membership, self._services.store.directory
        if membership is None or directory is None:
            return UNSET
        return [
            NodeNumbers(
                name=node.name,
                version=node.version,
                url=node.url,
                state="silent" if membership.is_silent(node.id) else node.load.state,
                sessions=node.load.sessions,
                workers=node.load.workers,
                worker_limit=node.load.worker_limit,
                still_seconds=round(membership.still_seconds(node.id), 1),
                is_this=node.id == directory.node,
            )
            for node in membership.nodes
        ]

    def _tenants(self, usages: dict[str, WorkerUsage]) -> list[TenantNumbers]:
        metrics = self._services.metrics
        sessions: Counter[str] = Counter()
        workers: Counter[str] = Counter()
        memory: Counter[str] = Counter()
        for session in self._manager.sessions():
            tenant, usage = session.tenant, usages.get(session.record.key)
            sessions[tenant] += 1
            workers[tenant] += session.is_live
            memory[tenant] += usage.memory_bytes if usage else 0
        turns, tokens = metrics.turns_lately.by_tenant(), metrics.tokens_lately.by_tenant()
        return [
            TenantNumbers(
                tenant=tenant,
                sessions=sessions[tenant],
                workers=workers[tenant],
                memory_bytes=memory[tenant],
                turns_per_minute=round(turns.get(tenant, 0.0), 2),
                tokens_per_minute=round(tokens.get(tenant, 0.0), 2),
            )
            for tenant in sorted({*sessions, *turns, *tokens})
        ]

    def _row(self, session: Session, usage: WorkerUsage | None, shows_people: bool) -> WatchedSession:
        record, idle = session.record, session.idle_seconds
        return WatchedSession(
            key=record.key,
            tenant=session.tenant,
            agent=record.agent,
            state=str(session.state),
            created_at=iso(record.created_at),
            last_used_at=iso(self._services.wall_ms() - round(idle * 1000)),
            idle_seconds=round(idle, 1),
            memory_bytes=usage.memory_bytes if usage else 0,
            cpu_seconds=round(usage.cpu_seconds, 3) if usage else 0.0,
            messages=len(session.fold.messages),
            queued=session.waiting_count,
            network=session.worker_network or UNSET,
            person=subject_of(record.owner) if shows_people else UNSET,
        )

    async def _usages(self) -> dict[str, WorkerUsage]:
        """Internal key → usage, of every session with a worker."""
        running = [worker for session in self._manager.sessions() if (worker := session.running) is not None]
        return await self._services.workers.usage.sample(running)


def _count(standing: Standing, session: Session, usage: WorkerUsage | None) -> None:
    agent = session.record.agent
    key = (str(session.state), agent)
    standing.sessions[key] = standing.sessions.get(key, 0) + 1
    standing.turns_running += session.state in TURNING
    standing.queued += session.waiting_count
    if session.is_live:
        standing.workers[agent] = standing.workers.get(agent, 0) + 1
        standing.frozen[agent] = standing.frozen.get(agent, 0) + session.is_frozen
    if usage is not None:
        standing.worker_bytes[agent] = standing.worker_bytes.get(agent, 0) + usage.memory_bytes


class LoopLag:
    """A small task that notes how late the event loop wakes it."""

    EVERY_SECONDS: Final = 0.25

    def __init__(self, services: Services) -> None:
        self._metrics = services.metrics
        self._monotonic = services.monotonic

    async def run(self) -> None:
        """For ever."""
        while True:
            due = self._monotonic() + self.EVERY_SECONDS
            await asyncio.sleep(self.EVERY_SECONDS)
            lag = max(0.0, self._monotonic() - due)
            self._metrics.loop_lag.observe(lag)
            self._metrics.loop_lags.note(lag)
