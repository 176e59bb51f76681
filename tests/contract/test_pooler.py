"""PostgreSQL behind a pooler in transaction mode: what every store does with sessions and logs, and a gateway
with a turn.
"""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
import pytest_asyncio

from gateway.errors import StoreFailed
from gateway.stores.contract import Store
from gateway.stores.opening import Options, open_store
from tests.contract import test_stores as every
from tests.contract.engines import MIGRATIONS, migrated_database
from tests.inside import gateway_inside
from tests.integration.test_backup import said
from tests.integration.test_command_line import typed
from tests.pgbouncer import pooler
from tests.postgres import shared_database
from tests.shared import SHARED

pytestmark = SHARED
Shared = Callable[[], str]
DONE: Final = (
    every.test_an_id_is_taken_once_by_one_owner,
    every.test_a_refused_creation_takes_nothing_else_with_it,
    every.test_a_session_is_created_with_what_its_log_begins_with,
    every.test_records_are_replaced,
    every.test_sessions_are_listed_last_active_first,
    every.test_events_come_back_in_order_above_a_cursor,
    every.test_two_sessions_events_do_not_mix,
    every.test_numbers_are_reserved_and_gaps_are_kept,
    every.test_a_deleted_session_leaves_a_tombstone_and_nothing_else,
    every.test_compaction_keeps_the_text_and_the_last_seq,
    every.test_a_sequence_gives_each_number_to_one_caller,
    every.test_a_fork_has_its_beginning_and_leaves_the_other_as_it_was,
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database() -> AsyncIterator[Shared]:
    """Makes a database; its URL is the pooler's."""
    async with pooler(shared_database()) as behind:
        yield lambda: behind(migrated_database())


@pytest_asyncio.fixture(loop_scope="module")
async def store(database: Shared) -> AsyncIterator[Store]:
    made = open_store(database(), Options(migrations=MIGRATIONS))
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("does", DONE, ids=lambda one: one.__name__.removeprefix("test_"))
async def test_it_does_as_every_store(store: Store, does: Callable[[Store], Awaitable[None]]) -> None:
    await does(store)


async def test_a_gateway_behind_it_has_a_turn(database: Shared, tmp_path: pathlib.Path) -> None:
    url = database()
    async with gateway_inside(tmp_path, config=f'store = "{url}"\n') as gateway:
        await gateway.chat("s", "/echo one")
        with pytest.raises(StoreFailed, match="Another gateway uses this database: the one on "):
            await open_store(url, Options(migrations=MIGRATIONS)).open()
        _, out, _ = await typed("doctor", "--config", str(tmp_path / "config.toml"))
        assert "ok    a pooler is in between" in out
    async with gateway_inside(tmp_path, config=f'store = "{url}"\n') as gateway:
        assert said(await gateway.state("s"), "user") == ["one"]
