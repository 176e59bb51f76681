"""A database that is damaged somewhere inside: what lies there is lost loudly, what does not goes on."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sqlite3
from typing import Any

import pytest

from gateway.errors import StoreDamaged
from gateway.stores.sqlite import log_rows, writer
from gateway.stores.sqlite.file import damage
from gateway.stores.sqlite.store import SqliteStore
from tests.contract.engines import Collector, delta, filled, record
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.integration.test_command_line import typed

PAGE_BYTES = 4096
MARK = b"DAMAGED-HERE-"


def settle(database: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        log_rows.settle(connection)


def destroy_page_of(database: pathlib.Path, mark: bytes) -> None:
    """Overwrites a page that holds nothing but a part of one long text, and by which no search for another
    log comes: a search compares whole rows, long ones too.
    """
    whole = database.read_bytes()
    full = PAGE_BYTES // len(mark) - 1
    for place in range(0, len(whole), PAGE_BYTES):
        if whole.count(mark, place, place + PAGE_BYTES) >= full:
            database.write_bytes(whole[:place] + b"\xa5" * PAGE_BYTES + whole[place + PAGE_BYTES :])
            if others_are_found(database, mark):
                return
    raise AssertionError("a search for another log comes by every page of this text")


def others_are_found(database: pathlib.Path, mark: bytes) -> bool:
    """Whether the logs without this text are found to their ends."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for (session,) in connection.execute("SELECT id FROM sessions").fetchall():
            try:
                log_rows.last_seq(connection, session)
            except sqlite3.DatabaseError:
                title = connection.execute("SELECT title FROM sessions WHERE id = ?", (session,)).fetchone()
                if mark.decode() not in str(title):
                    return False
    return True


async def asked(gateway: RunningGateway, method: str, path: str, body: object = None) -> tuple[int, Any]:
    async with gateway.http.request(method, path, json=body) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("has_settled", [True, False])
async def test_who_lies_elsewhere_goes_on_beside_a_damaged_page(
    tmp_path: pathlib.Path, has_settled: bool
) -> None:
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("well", "/echo before")
        await gateway.chat("hurt", "/echo " + MARK.decode() * 2_000)
    database = tmp_path / "data" / "gateway.db"
    if has_settled:
        settle(database)
    destroy_page_of(database, MARK)
    assert damage(database) is not None
    async with gateway_inside(tmp_path) as gateway:
        status, answer = await asked(gateway, "GET", "/api/state?session_id=hurt")
        assert (status, answer["error"]["code"]) == (500, "store_damaged")
        assert "damaged" in answer["error"]["message"]
        status, answer = await asked(gateway, "POST", "/api/chat", {"session_id": "hurt", "message": "hi"})
        assert (status, answer["error"]["code"]) == (500, "store_damaged")
        state = await gateway.chat("well", "/echo after")
        assert [message["content"] for message in state["messages"]][1::2] == ["before", "after"]
        assert "THE DATABASE IS DAMAGED" in gateway.log()
        assert "Traceback" not in gateway.log()
        code, out, _ = await typed("doctor", "--data-dir", str(tmp_path / "data"))
        assert code == 1
        assert "is DAMAGED" in out
    async with gateway_inside(tmp_path) as gateway:  # it was not replaced
        assert len((await gateway.state("well"))["messages"]) == 4


async def test_logs_move_past_one_that_cannot(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.db"
    store = SqliteStore(path)
    await store.open()
    sinks = [Collector(record(name).key) for name in ("a", "b", "c")]
    for name in ("a", "b", "c"):
        await store.sessions.create(record(name))
    await filled(store, sinks[0], [delta(1, MARK.decode() * 4_000)])
    for sink in sinks[1:]:
        await filled(store, sink, [delta(1, "one"), delta(2, "two")])
    await store.close()
    destroy_page_of(path, MARK)
    store = SqliteStore(path)
    await store.open()
    made, *compacted = await asyncio.gather(
        store.sessions.create(record("d")),
        *(store.logs.compact(sink.key, through=2) for sink in sinks),
        return_exceptions=True,
    )
    assert made is None
    assert isinstance(compacted[0], StoreDamaged)
    assert compacted[1:] == [1, 1], "whoever shares a commit with what is damaged is not hurt"
    monkeypatch.setattr(writer, "SETTLE_ROWS", 1)
    await filled(store, sinks[1], [delta(3, "three")])
    await store.sessions.update(record("d"))
    assert await store.read(log_rows.unsettled) == [1]
    assert [event.seq for event in await store.logs.read_events(sinks[1].key, after=0, limit=9)] == [2, 3]
    await store.close()
