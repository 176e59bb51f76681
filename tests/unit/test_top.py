"""What `top` draws, at the width of an ordinary terminal."""

from __future__ import annotations

import msgspec
import pytest

from gateway.cli.top import Sight, drawn
from gateway.sights import NodeNumbers, Overview, TenantNumbers, WatchedSession, WatchedSessions

KEY = "0123456789abcdef01234567"
TENANT = TenantNumbers(
    tenant="a-tenant-with-a-long-name", sessions=12_345, workers=999, memory_bytes=123_456_789,
    turns_per_minute=123.4, tokens_per_minute=123_456.78,
)  # fmt: skip
SESSION = WatchedSession(
    key=KEY, tenant="a-tenant-with-a-long-name", agent="claude-agent-acp", state="interrupting",
    created_at="", last_used_at="", idle_seconds=36_000, memory_bytes=644_200_000, cpu_seconds=1234.5,
    messages=12_345, queued=12,
)  # fmt: skip
OVERVIEW = Overview(
    version="0.1.0", at="", uptime_seconds=123_456, is_draining=True, sessions=12_345,
    states={"parked": 12_000, "idle": 300, "running": 40, "waiting": 5}, workers=345, worker_limit=1000,
    worker_memory_bytes=64_420_000_000, worker_cpu_seconds=12_345.6, gateway_memory_bytes=123_000_000,
    gateway_cpu_seconds=12_345.6, turns_running=40, queued=123, streams=1234, starts_per_minute=123.45,
    turns_per_minute=1234.5, tokens_per_minute=123_456.0, start_p50_seconds=0.123, start_p99_seconds=1.2,
    first_token_p50_seconds=0.5, first_token_p99_seconds=5.1, loop_lag_p99_seconds=0.012, store_waiting=123,
    tenants=[TENANT],
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 110, 160])
def test_no_row_is_broken_and_no_key_or_number_cut(width: int) -> None:
    sight = Sight(OVERVIEW, WatchedSessions(sessions=[SESSION], total=2))
    lines = drawn(sight, width)
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if KEY in line)
    for part in ("interrupting", "10h00m", "644.2 MB", *(("12345", "1234.5 s") if width >= 110 else ())):
        assert part in row
    assert "store 123 waiting" in "\n".join(lines)
    assert len([line for line in lines if "MB" in line and "gateway" not in line]) == 2
    assert lines[-1].startswith("… 1 more")


def test_gateways_on_one_store_are_a_table() -> None:
    node = NodeNumbers(
        name="gw-0", version="0.8.0", url="http://10.0.0.5:8081", state="up", sessions=12, workers=3,
        worker_limit=40, still_seconds=0.0, is_this=True,
    )  # fmt: skip
    other = msgspec.structs.replace(node, name="gw-1", state="silent", still_seconds=3.24, is_this=False)
    nothing = WatchedSessions(sessions=[], total=0)
    lines = drawn(Sight(msgspec.structs.replace(OVERVIEW, nodes=[node, other]), nothing), 80)
    head, *rows = next(lines[at : at + 3] for at, line in enumerate(lines) if line.startswith("GATEWAY"))
    assert head.split() == ["GATEWAY", "STATE", "SESSIONS", "WORKERS", "BEAT", "VERSION"]
    assert [row.split() for row in rows] == [
        ["gw-0", "*", "up", "12", "3/40", "0.0", "s", "0.8.0"],
        ["gw-1", "silent", "12", "3/40", "3.2", "s", "0.8.0"],
    ]
    assert not any(line.startswith("GATEWAY") for line in drawn(Sight(OVERVIEW, nothing), 80))
