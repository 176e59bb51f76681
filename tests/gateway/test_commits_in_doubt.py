"""PostgreSQL is lost in the middle of a commit: who waits for it is answered, and nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from typing import Final

import asyncpg

from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.postgres import Server, connected, needed, postgres
from tests.shared import Answer, ask

_HELD: Final = 1
_COMMITS_WAIT: Final = f"""
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_xact_lock_shared({_HELD}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER waiting AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION wait();
SELECT pg_advisory_lock({_HELD});
"""
"""A commit that has events waits, at its very end, for as long as this connection lives."""
_WAITING: Final = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


async def test_who_waits_for_a_commit_in_doubt_is_answered_and_asks_again(tmp_path: pathlib.Path) -> None:
    needed()
    async with postgres(is_durable=True) as server:
        database = await server.database()
        async with gateway_inside(tmp_path, environ={"AGENT_GATEWAY_STORE": database}) as gateway:
            assert (await _say(gateway, "before")).status == 200
            answer = await _lost_in_its_commit(gateway, server, database)
            assert (answer.status, answer.code) == (503, "store_in_doubt")
            assert answer.headers["Retry-After"]
            await server.start_again()
            async with within(30):
                while (await _say(gateway, "in doubt")).status != 200:
                    await asyncio.sleep(0.1)
            messages = (await gateway.state("s"))["messages"]
    assert [one["content"] for one in messages if one["sender"] == "user"] == ["before", "in doubt"]


async def _lost_in_its_commit(gateway: GatewayInside, server: Server, database: str) -> Answer:
    """What is answered to a message whose commit has begun when the server is killed."""
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with connected(database) as other:
            await other.execute(_COMMITS_WAIT)
            asked = asyncio.create_task(_say(gateway, "in doubt"))
            async with within(20):
                while not await other.fetchval(_WAITING):
                    await asyncio.sleep(0.02)
            await server.kill()
    async with within(30):
        return await asked


async def _say(gateway: GatewayInside, word: str) -> Answer:
    body = {"session_id": "s", "message": word}
    return await ask(gateway.http, "POST", "/api/chat?wait=5", body, headers={"Idempotency-Key": word})
