"""The alarm for a disk that fills up: once, then hour by hour, and not at every breath at the edge."""

from __future__ import annotations

import logging
import os
import pathlib

import pytest

from gateway.api.readiness import disk_check
from gateway.config.tables import Config
from gateway.maintenance.disk import AGAIN_SECONDS, DiskAlarm, free_bytes

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


def test_readiness_looks_at_the_disk_of_the_database_too() -> None:
    config = Config(data_dir="/data", store="sqlite:////elsewhere/gateway.db")
    room = {"/data": 900 * MIB, "/elsewhere": 0}
    check = disk_check(config, is_store_full=False, free=lambda place: room[str(place)])
    assert (check.is_well, check.words.partition(";")[0]) == (False, "0 bytes are free at /elsewhere")


@pytest.mark.parametrize("figure", [900, 24], ids=["enough", "less than is asked for"])
def test_a_write_without_room_is_believed_before_the_figure_of_the_file_system(figure: int) -> None:
    config = Config(data_dir="/data")
    check = disk_check(config, is_store_full=True, free=lambda _: figure * MIB)
    assert not check.is_well
    assert "A write found no room" in check.words
    assert "are free; server" not in check.words
    assert disk_check(config, is_store_full=True, free=lambda _: 0).words.startswith("0 bytes are free;")
    assert disk_check(config, is_store_full=False, free=lambda _: 900 * MIB).is_well


@pytest.mark.parametrize(("files_left", "free"), [(5, 4096 * 7), (0, 0)])
def test_without_a_file_left_nothing_is_free(
    monkeypatch: pytest.MonkeyPatch, files_left: int, free: int
) -> None:
    figures = os.statvfs_result((4096, 4096, 100, 9, 7, 10, files_left, files_left, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: figures)
    assert free_bytes(pathlib.Path("/data")) == free
