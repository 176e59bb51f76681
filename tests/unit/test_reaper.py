"""The reaper and clocks that jump."""

from __future__ import annotations

import pathlib

import msgspec

from gateway.app import Gateway
from gateway.config.tables import Config
from gateway.sessions.reaper import Reaper
from gateway.stores.contract import SessionRecord

TEN_YEARS = 10 * 365 * 24 * 3600 * 1000
HOUR = 3600 * 1000


async def purged(tmp_path: pathlib.Path, *, jump: int, expires_in: int, seconds: float = 0) -> bool:
    """Whether a stored session is gone after a sweep, when the wall clock jumped after the start."""
    gateway = Gateway(Config(data_dir=str(tmp_path), store="memory://"))
    wall, monotonic = [1_000 * HOUR], [0.0]
    services = msgspec.structs.replace(
        gateway.services, wall_ms=lambda: wall[0], monotonic=lambda: monotonic[0]
    )
    record = SessionRecord(
        key="k", owner="o", session_id="s", agent="built-in", created_at=0, last_active_at=0,
        expires_at=wall[0] + expires_in,
    )  # fmt: skip
    await services.store.sessions.create(record)
    reaper = Reaper(gateway.manager, services)
    wall[0] += jump
    monotonic[0] += seconds
    await reaper.sweep()
    return await services.store.sessions.find("o", "s") is None


async def test_a_clock_that_jumps_ten_years_ahead_purges_nothing(tmp_path: pathlib.Path) -> None:
    assert not await purged(tmp_path, jump=TEN_YEARS, expires_in=HOUR)


async def test_what_has_expired_is_purged(tmp_path: pathlib.Path) -> None:
    assert await purged(tmp_path, jump=2 * HOUR, seconds=7200, expires_in=HOUR)
    assert not await purged(tmp_path / "later", jump=2 * HOUR, seconds=7200, expires_in=3 * HOUR)


async def test_a_clock_set_back_purges_nothing(tmp_path: pathlib.Path) -> None:
    assert not await purged(tmp_path, jump=-24 * HOUR, seconds=7200, expires_in=HOUR)
