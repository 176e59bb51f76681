"""What is read from PostgreSQL costs one question each."""

from __future__ import annotations

import pathlib
from typing import Any

from gateway.stores.postgresql.store import PostgresqlStore
from tests.contract.engines import ENGINES, record


async def test_what_is_read_asks_the_server_once(tmp_path: pathlib.Path) -> None:
    """A pool that cleans each connection when it is given back asks twice."""
    store = ENGINES["postgresql"].made(tmp_path)
    assert isinstance(store, PostgresqlStore)
    await store.open()
    asked: list[str] = []
    try:
        await store.sessions.create(record("a"))
        async with store._readers.one() as connection:
            some: Any = connection
            some.add_query_logger(lambda query: asked.append(query.query))
        for _ in range(3):
            assert await store.sessions.find("t/s", "a") is not None
        assert await store.labels.find("t/s", "a") is None
        assert await store.logs.read_events(record("a").key, after=0, limit=9) == []
    finally:
        await store.close()
    assert len(asked) == 5
