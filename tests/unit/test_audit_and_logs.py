"""Those parts of watching that need no gateway: rates, the audit file, the ids of log lines, usage."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
import sys
from typing import Any

import pytest

from gateway.principal import LOCAL
from gateway.telemetry import logs
from gateway.telemetry.audit import FILES_KEPT, REFUSALS_AT_ONCE, Audit
from gateway.telemetry.recent import Recent
from gateway.workers.usage import FRESH_SECONDS, Running, UsageSampler
from tests.patience import within


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rates_and_percentiles_are_of_the_window_only() -> None:
    clock = Clock()
    recent = Recent(clock, window_seconds=120)
    assert (recent.quantile(0.5), recent.per_minute()) == (None, 0)
    for value in range(1, 101):
        recent.note(value, "a" if value % 2 else "b")
    assert (recent.quantile(0.5), recent.quantile(0.99), recent.quantile(1)) == (50, 99, 100)
    assert recent.count_per_minute() == 100, "a gateway that is a second old is not said to do thousands"
    clock.now += 120
    assert recent.by_tenant() == {"a": 1250, "b": 1275}
    recent.note(7, "a")
    clock.now += 1
    assert (recent.count_per_minute(), recent.per_minute(), recent.by_tenant()) == (0.5, 3.5, {"a": 3.5})


def audit(directory: pathlib.Path, **kwargs: Any) -> Audit:
    made = Audit(directory, wall_ms=lambda: 1_700_000_000_000, monotonic=Clock(), **kwargs)
    made.open()
    return made


def lines(directory: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "audit.jsonl").read_text().splitlines()]


def test_an_act_is_a_line_that_only_its_owner_reads(tmp_path: pathlib.Path) -> None:
    one = audit(tmp_path)
    logs.begin(request_id="r1")
    one.note(LOCAL, "session.deleted")
    one.note(None, "request.refused", target="chat\nforged", outcome="refused", detail="forbidden_host")
    one.close()
    first, second = lines(tmp_path)
    assert (first["action"], first["tenant"], first["subject"], first["outcome"], first["request_id"]) == (
        *("session.deleted", "default", "local", "ok", "r1"),
    )
    assert second["target"] == "chat\nforged", "what was sent cannot begin a line of its own"
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    again = audit(tmp_path)
    again.note(LOCAL, "gateway.drained")
    again.close()
    assert len(lines(tmp_path)) == 3, "what was written is added to"


def test_a_large_audit_file_moves_aside_and_the_oldest_goes(tmp_path: pathlib.Path) -> None:
    one = audit(tmp_path, file_bytes=400)
    for number in range(100):
        one.note(LOCAL, "session.deleted", target=str(number))
    one.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 1 + FILES_KEPT
    assert all(
        path.stat().st_size <= 400 and path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir()
    )
    assert lines(tmp_path)[-1]["target"] == "99"


def test_a_flood_of_refusals_is_thinned_and_counted(tmp_path: pathlib.Path) -> None:
    one = audit(tmp_path)
    for _ in range(REFUSALS_AT_ONCE + 50):
        one.refused(None, "chat", code="unauthorized")
    one.note(LOCAL, "session.deleted")
    one.close()
    found = lines(tmp_path)
    assert len(found) == REFUSALS_AT_ONCE + 1
    assert (found[-1]["action"], found[-1]["left_out"]) == ("session.deleted", 50)


def test_an_audit_file_that_cannot_be_written_stops_nobody(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = audit(tmp_path)
    assert one._file is not None
    assert one._file.stream is not None
    os.dup2(full := os.open("/dev/full", os.O_WRONLY), one._file.stream.fileno())
    os.close(full)
    with caplog.at_level(logging.INFO):
        one.note(LOCAL, "session.deleted", target="k1")
    one.close()
    assert "the audit log cannot be written" in caplog.text
    assert '"target":"k1"' in caplog.text


def formatted(form: logging.Formatter, words: str) -> str:
    return form.format(logging.LogRecord("gateway.x", logging.INFO, "", 0, words, None, None))


async def test_a_line_carries_the_ids_of_its_context() -> None:
    logs.begin(request_id="r1", tenant="acme")

    async def life() -> None:
        ids = logs.begin(tenant="acme", session="k1")

        async def reader() -> str:
            ids["turn"] = "t1"
            return formatted(logs.JsonFormatter(), "in a turn")

        line = json.loads(await asyncio.create_task(reader()))
        assert (line["tenant"], line["session"], line["turn"]) == ("acme", "k1", "t1")
        assert "request_id" not in line, "a session outlives the request that began it"
        ids.pop("turn")
        assert "turn" not in json.loads(formatted(logs.JsonFormatter(), "after it"))

    await asyncio.create_task(life())
    assert formatted(logs.LineFormatter("%(message)s"), "a\nb") == "a [request_id=r1 tenant=acme]\n    b"


async def test_cpu_time_only_grows_and_nothing_of_it_is_counted_twice() -> None:
    clock, used = Clock(), []
    sampler = UsageSampler(clock, lambda agent, seconds: used.append((agent, seconds)))
    burning = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        worker, gone = Running("k1", "a", burning.pid), Running("k2", "b", 2**22 - 3)
        async with within(20):
            while not used:
                clock.now += FRESH_SECONDS
                found = await sampler.sample([worker, gone])
                await asyncio.sleep(0.02)
        assert list(found) == ["k1"]
        assert found["k1"].memory_bytes > 1_000_000
        again = await sampler.sample([worker])
        assert again == found, "figures that are fresh are given again"
    finally:
        burning.kill()
        await burning.wait()
    sampler.ended(worker, 99.5)
    assert sum(seconds for _, seconds in used) == pytest.approx(99.5)
    assert {agent for agent, _ in used} == {"a"}
