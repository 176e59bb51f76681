"""What is read from PostgreSQL costs one question each."""

from __future__ import annotations

import pathlib
from typing import Any

import asyncpg
import pytest

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


async def test_a_connection_that_is_ended_between_two_steps_of_a_question_is_replaced(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver then raises no error of its own."""
    store = ENGINES["postgresql"].made(tmp_path)
    assert isinstance(store, PostgresqlStore)
    await store.open()
    prepare, times = asyncpg.Connection._get_statement, 0

    async def prepare_and_end(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal times
        statement, times = await prepare(self, *args, **kwargs), times + 1
        if times == 1:
            store._readers.interrupt()
        return statement

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", prepare_and_end)
    try:
        assert await store._readers.query(lambda connection: connection.fetchval("SELECT 7")) == 7
    finally:
        await store.close()
    assert times > 1
