"""A database with very many sessions: whatever asks for some of them finds them by an index."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

from gateway.config.cluster import ClusterConfig
from gateway.stores.postgresql.connections import ReadPool
from gateway.stores.postgresql.store import PostgresqlStore
from tests.contract.core_store import running
from tests.postgres import connected, gateways_database
from tests.shared import SHARED

pytestmark = SHARED

SESSIONS: Final = 5_000
"""So many are searched by an index; with a million the plans are the same."""
_FILL: Final = """
INSERT INTO sessions (key, owner, session_id, agent, created_at, last_active_at, expires_at, has_open_turn)
SELECT 'key-' || i, CASE WHEN i % 2 = 0 THEN 't/much' ELSE 'u/s' || i % 1000 END, 's' || i, 'built-in', i, i,
9000000000000 + i, CASE WHEN i % 2500 = 0 THEN 1 ELSE 0 END FROM generate_series(1, $1::int) AS i
"""
_SCAN: Final = "Seq Scan on sessions"


class Explaining:
    """A connection that notes how each statement would be done."""

    def __init__(self, connection: Any, plans: list[str]) -> None:
        self._connection = connection
        self._plans = plans

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, query: str, /, *values: Any) -> Any:
        await self._explain(query, values)
        return await self._connection.fetch(query, *values)

    async def fetchrow(self, query: str, /, *values: Any) -> Any:
        await self._explain(query, values)
        return await self._connection.fetchrow(query, *values)

    async def fetchval(self, query: str, /, *values: Any) -> Any:
        await self._explain(query, values)
        return await self._connection.fetchval(query, *values)

    async def _explain(self, query: str, values: tuple[Any, ...]) -> None:
        rows = await self._connection.fetch(f"EXPLAIN {query}", *values)
        self._plans.append("\n".join(row[0] for row in rows))


async def scans(
    store: PostgresqlStore, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Awaitable[object]]
) -> list[str]:
    """The plans that read all sessions."""
    plans: list[str] = []
    real = ReadPool.one

    @contextlib.asynccontextmanager
    async def one(pool: ReadPool) -> AsyncIterator[Any]:
        async with real(pool) as connection:
            yield Explaining(connection, plans)

    with monkeypatch.context() as patch:
        patch.setattr(ReadPool, "one", one)
        await ask()
    assert plans
    return [plan for plan in plans if _SCAN in plan]


async def test_no_question_about_some_sessions_reads_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    url = gateways_database()
    store = PostgresqlStore(url, cluster=ClusterConfig(name="a", url="http://a:1"))
    async with running(store):
        async with connected(url) as connection:
            await connection.execute(_FILL, SESSIONS)
            await connection.execute("VACUUM ANALYZE sessions")
            sessions, directory = store.sessions, store.directory
            assert directory is not None
            asked: dict[str, Callable[[], Awaitable[object]]] = {
                "find": lambda: sessions.find("t/much", "s2"),
                "newest": lambda: sessions.newest("t/much"),
                "of_owner": lambda: sessions.of_owner("t/much", limit=100),
                "of_all": lambda: sessions.of_all(tenant=None, limit=100),
                "of_all of a large tenant": lambda: sessions.of_all(tenant="t", limit=100),
                "of_all of no tenant": lambda: sessions.of_all(tenant="none", limit=100),
                "expired": lambda: sessions.expired(1, limit=100),
                "with_open_turn": sessions.with_open_turn,
                "waiting_for_budget": sessions.waiting_for_budget,
                "last_used": lambda: sessions.last_used(has_visitors=False),
                "stand": lambda: store.logs.stand("key-2"),
                "claim": lambda: directory.claim("t/much", "s2"),
                "claim_open": lambda: directory.claim_open(limit=100),
                "claim_expired": lambda: directory.claim_expired(1, limit=100),
                "holder": lambda: directory.holder("t/much", "s2"),
                "holders": lambda: directory.holders([("t/much", "s2"), ("t/much", "")]),
                "has_key": lambda: directory.has_key("key-2"),
            }
            found = {name: await scans(store, monkeypatch, ask) for name, ask in asked.items()}
            assert {name: plans for name, plans in found.items() if plans} == {}
            await connection.execute("DROP INDEX sessions_by_last_use")
            assert await scans(store, monkeypatch, asked["of_all"])
