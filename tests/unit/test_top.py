"""What `top` draws, at the width of an ordinary terminal."""

from __future__ import annotations

import pytest

from gateway.cli.top import Sight, drawn
from gateway.sights import Overview, TenantNumbers, WatchedSession, WatchedSessions

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
