"""The alarm for a disk that fills up: once, then hour by hour, and not at every breath at the edge."""

from __future__ import annotations

import logging
import pathlib

import pytest

from gateway.disk import AGAIN_SECONDS, DiskAlarm

MIB = 1024 * 1024


def test_it_is_said_once_then_hourly_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    free, now = 900 * MIB, 0.0
    alarm = DiskAlarm(
        pathlib.Path("/data"), low_bytes=lambda: 500 * MIB, monotonic=lambda: now, free=lambda _: free
    )

    def looked(*, at: float, with_free: int) -> list[str]:
        nonlocal free, now
        free, now = with_free * MIB, at
        caplog.clear()
        alarm.look()
        return [record.getMessage() for record in caplog.records]

    assert looked(at=0, with_free=900) == []
    assert "499 MiB are left" in looked(at=1, with_free=499)[0]
    assert alarm.is_low
    assert looked(at=2, with_free=400) == []
    assert looked(at=3, with_free=510) == [], "at the edge it does not flap"
    assert "300 MiB are left" in looked(at=1 + AGAIN_SECONDS, with_free=300)[0]
    assert looked(at=2 + AGAIN_SECONDS, with_free=700) == ["the disk of /data has room again: 700 MiB"]
    assert not alarm.is_low
    assert looked(at=3 + AGAIN_SECONDS, with_free=700) == []
    assert "1 MiB are left" in looked(at=4 + AGAIN_SECONDS, with_free=1)[0]


def test_a_disk_that_cannot_be_looked_at_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def gone(_: pathlib.Path) -> int:
        raise OSError("gone")

    DiskAlarm(pathlib.Path("/data"), low_bytes=lambda: 1, monotonic=lambda: 0.0, free=gone).look()
    assert "cannot be looked at: gone" in caplog.text
