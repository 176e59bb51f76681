"""The disk of PostgreSQL is full: people hear so in words, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from typing import Final

import asyncpg
import pytest

from tests.failover import missing
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.postgres import PostgresUnavailable, Server, needed, postgres
from tests.shared import ask

ROOM_BYTES: Final = 96 * 1024 * 1024
"""For an empty server twice over."""
MOST: Final = 100
"""So many messages are more than the pages have room for that PostgreSQL has already."""
_FULL: Final = {
    (507, "store_full"),
    *((503, code) for code in ("store_failed", "store_unreachable", "store_in_doubt")),
}


async def test_nothing_acknowledged_is_lost_and_it_goes_on_when_there_is_room(tmp_path: pathlib.Path) -> None:
    """First there is no room for tables, then none for PostgreSQL's own log, without which it ends."""
    needed()
    try:
        async with postgres(is_durable=True, room_bytes=ROOM_BYTES) as server:
            database = await server.database()
            async with gateway_inside(tmp_path, environ={"AGENT_GATEWAY_STORE": database}) as gateway:
                people = _Person(gateway)
                await people.until_taken()
                for is_without_log in (False, True):
                    await _fill(server, is_without_log=is_without_log)
                    await people.until_refused()
                    await server.make_room()
                    await people.until_taken()
                said = await people.said()
    except PostgresUnavailable as error:
        pytest.skip(str(error))
    assert missing(people.taken, said) == []
    assert len(set(said)) == len(said)


async def _fill(server: Server, *, is_without_log: bool) -> None:
    server.fill_disk()
    if is_without_log:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            async with server.connection() as connection:
                for _ in range(4):  # a new file each, of which some are there
                    await connection.execute("SELECT pg_switch_wal(), txid_current()")


class _Person:
    """Says one word after the other, each until it is taken."""

    def __init__(self, gateway: GatewayInside) -> None:
        self._gateway = gateway
        self.taken: list[str] = []

    async def _say(self) -> tuple[int, str]:
        word = f"word {len(self.taken)}"
        body = {"session_id": "s", "message": word}
        key = {"Idempotency-Key": word}
        answer = await ask(self._gateway.http, "POST", "/api/chat?wait=5", body, headers=key)
        if answer.status == 200:
            self.taken.append(word)
            return 200, ""
        assert answer.headers["Retry-After"]
        return answer.status, answer.code

    async def until_taken(self) -> None:
        async with within(20):
            while (await self._say())[0] != 200:
                await asyncio.sleep(0.1)

    async def until_refused(self) -> None:
        for _ in range(MOST):
            if (told := await self._say())[0] != 200:
                assert told in _FULL
                return
        raise AssertionError("there was room for everything")

    async def said(self) -> list[str]:
        """What the log has of it."""
        messages = (await self._gateway.state("s"))["messages"]
        return [one["content"] for one in messages if one["sender"] == "user"]
