"""What `agent-gateway doctor` says of a database: a line each, True if all is well.

Nothing in it is changed: what is committed, to see how long that takes, is a message in the write-ahead log.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

from gateway.errors import StoreFailed
from gateway.stores.bulk import COPYING
from gateway.stores.postgresql import schema
from gateway.stores.postgresql.connections import OLDEST, READERS, connect, is_pooled
from gateway.stores.postgresql.errors import OF_THE_DRIVER, worded
from gateway.stores.postgresql.urls import shown

COMMITS: Final = 20
SLOW_COMMIT_MS: Final = 50
"""From here on people notice: a message is answered once it is committed."""
CONNECTIONS: Final = READERS + 4
"""Of one gateway: those that read, one that writes, one that says that it lives, and some to spare."""
CLOCKS_APART_SECONDS: Final = 2.0
_COMMIT: Final = "SELECT pg_logical_emit_message(true, 'agent-gateway', 'doctor')"
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_GATEWAY: Final = "SELECT place || ', since ' || to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"

Findings = list[tuple[bool, str]]


async def examine(url: str) -> Findings:
    """Looks at it."""
    name = shown(url)
    try:
        pooled = await is_pooled(url)
        connection = await connect(url, keeps=not pooled)
        try:
            return [
                *await _server(connection, name),
                _pooler(is_pooled=pooled),
                *await _durable(connection),
                await _latency(connection),
                *await _clocks(connection),
                *await _connections(connection),
                *await _tables(connection),
            ]
        finally:
            await connection.close(timeout=5)
    except (StoreFailed, *OF_THE_DRIVER) as error:
        return [(False, f"database {name}: {worded(error).message}")]


async def _setting(connection: Any, name: str) -> str:
    return str(await connection.fetchval("SELECT current_setting($1)", name))


async def _server(connection: Any, name: str) -> Findings:
    number = int(await _setting(connection, "server_version_num")) // 10_000
    words = f"database {name}: PostgreSQL {(await _setting(connection, 'server_version')).split()[0]}"
    findings = [(number >= OLDEST, words if number >= OLDEST else f"{words}; {OLDEST} or later is needed")]
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        words = "this server only reads, it follows another: add target_session_attrs=read-write to the URL"
        findings.append((False, words))
    return findings


def _pooler(*, is_pooled: bool) -> tuple[bool, str]:
    if is_pooled:
        return (True, "a pooler is in between: nothing is prepared, and a restart takes three seconds more")
    return (True, "no pooler in between")


async def _durable(connection: Any) -> Findings:
    """Whether what is committed is kept if a machine is lost."""
    findings = [
        (False, f"{name} = off: what is committed is lost with the machine's power")
        for name in ("fsync", "full_page_writes")
        if await _setting(connection, name) == "off"
    ]
    commit, standbys = [
        await _setting(connection, name) for name in ("synchronous_commit", "synchronous_standby_names")
    ]
    if commit == "off":
        return [*findings, (False, "synchronous_commit = off: the last messages are lost with the server")]
    if standbys and commit != "local":
        words = f"synchronous_commit = {commit}, with the standbys {standbys}: a failover loses nothing"
        return [*findings, (True, words)]
    words = f"synchronous_commit = {commit}, no synchronous standby: a failover may lose the last messages"
    return [*findings, (True, words)]


async def _latency(connection: Any) -> tuple[bool, str]:
    took = []
    for _ in range(COMMITS):
        began = time.monotonic()
        await connection.execute(_COMMIT)
        took.append((time.monotonic() - began) * 1000)
    half, most = statistics.median(took), max(took)
    words = f"commits: p50 {half:.1f} ms, p99 {most:.1f} ms of {COMMITS}"
    if half > SLOW_COMMIT_MS:
        words += "; every message waits for one: bring the database nearer, or look at its disk"
    return (half <= SLOW_COMMIT_MS, words)


async def _clocks(connection: Any) -> Findings:
    before = time.time()
    apart = float(await connection.fetchval(_NOW)) - (before + time.time()) / 2
    if abs(apart) < CLOCKS_APART_SECONDS:
        return []
    return [(True, f"note: its clock is {apart:+.0f} s from this machine's; only its own log shows that")]


async def _connections(connection: Any) -> Findings:
    """A pooler's own bound is not known."""
    most, kept = [
        int(await _setting(connection, name))
        for name in ("max_connections", "superuser_reserved_connections")
    ]
    used = int(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL"))
    words = f"connections: {used} of {most - kept} are used, a gateway needs {CONNECTIONS}"
    return [(most - kept >= CONNECTIONS, words)]


async def _tables(connection: Any) -> Findings:
    if not await schema.has_table(connection, "nodes"):
        return [(True, "no tables yet: the gateway makes them at its first start")]
    if await schema.has_table(connection, COPYING):
        return [(False, "a copy into it was cut short: run agent-gateway store copy again")]
    rows = await connection.fetch(f"{_GATEWAY} FROM nodes")
    return [(True, f"in use by the gateway on {row[0]} UTC") for row in rows]
