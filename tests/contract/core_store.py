"""A store on PostgreSQL without applications, which its tests open with more than a URL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from gateway.config.cluster import ClusterConfig
from gateway.stores.postgresql.store import PostgresqlStore
from tests.patience import within


@contextlib.asynccontextmanager
async def running(store: PostgresqlStore) -> AsyncIterator[PostgresqlStore]:
    """Open while the block runs."""
    async with within(30):
        await store.open()
    try:
        yield store
    finally:
        async with within(30):
            await store.close()


@contextlib.asynccontextmanager
async def opened(
    url: str, ends: list[str] | None = None, *, lease_seconds: float = 3.0
) -> AsyncIterator[PostgresqlStore]:
    cluster = ClusterConfig(lease_seconds=lease_seconds, beat_seconds=min(lease_seconds / 5, 0.5))
    store = PostgresqlStore(url, on_end=(ends if ends is not None else []).append, cluster=cluster)
    async with running(store):
        yield store
