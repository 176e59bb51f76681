"""What operators' charts, alarms and searches are made of, without a gateway."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from gateway.config.tables import DAY_MILLISECONDS
from gateway.sights import Overview
from gateway.telemetry import alarms
from gateway.telemetry.alarms import Signals, raised
from gateway.telemetry.audit import FILE_NAME, Audit
from gateway.telemetry.audit_reading import cursor_of, search
from gateway.telemetry.history import LINES, ROWS_MOST, DayHistory
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recent_log import CHARACTERS_MOST, LINES_KEPT, RecentLog
from gateway.telemetry.tallies import Growth, Lately

MINUTE_MS = 60_000
OVERVIEW = msgspec.convert(
    {
        **dict.fromkeys(Overview.__struct_fields__, 0),
        "version": "1",
        "at": "",
        "is_draining": False,
        "states": {},
        "tenants": [],
        "nodes": [],
        "sessions": 3,
        "start_p99_seconds": None,
    },
    Overview,
)


def noted(history: DayHistory, *times: int) -> DayHistory:
    for at in times:
        history.note(OVERVIEW, at=at, errors=1.5)
    return history


def test_a_history_keeps_a_day_and_no_more_rows_than_that() -> None:
    history = noted(DayHistory(None), *(n * MINUTE_MS for n in range(1, ROWS_MOST + 100)))
    shown = history.shown()
    assert len(shown.at) == ROWS_MOST
    assert {len(line) for line in shown.lines.values()} == {ROWS_MOST}
    assert set(shown.lines) == {*LINES, "errors_per_minute"}
    assert shown.lines["sessions"][-1] == 3
    assert shown.lines["start_p99_seconds"][-1] is None
    noted(history, 10 * DAY_MILLISECONDS)
    assert history.shown().at == [10 * DAY_MILLISECONDS], (
        "what is older than a day is gone, however few rows there are"
    )


def test_its_times_only_grow_when_the_clock_is_set_back() -> None:
    assert noted(DayHistory(None), 1000, 2000, 3000, 1500).shown().at == [1000, 1500]


def test_it_outlives_a_restart_but_not_a_day(tmp_path: pathlib.Path) -> None:
    noted(DayHistory(tmp_path), 1000, 2000).save()
    again = DayHistory(tmp_path)
    again.load(now=5000)
    assert noted(again, 5000).shown().at == [1000, 2000, 5000]
    late = DayHistory(tmp_path)
    late.load(now=1500 + DAY_MILLISECONDS)
    assert late.shown().at == [2000]
    before = DayHistory(tmp_path)
    before.load(now=1500)
    assert before.shown().at == [1000], "a row of the future would stop all others"


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff", b'{"lines": ["other"], "rows": [[1, [2], 3]]}', b"[]"])
def test_a_file_that_says_nothing_costs_only_the_history(tmp_path: pathlib.Path, junk: bytes) -> None:
    (tmp_path / "history.json").write_bytes(junk)
    history = DayHistory(tmp_path)
    history.load(now=10_000)
    assert noted(history, 10_000).shown().at == [10_000]


def test_a_disk_that_is_full_costs_only_the_history(tmp_path: pathlib.Path) -> None:
    noted(DayHistory(tmp_path / "missing"), 1000).save()
    assert not list(tmp_path.iterdir())


def test_growth_is_that_of_the_window() -> None:
    now = [0.0]
    metrics = Metrics(version="1", monotonic=lambda: now[0])
    lately = Lately(metrics, monotonic=lambda: now[0])
    for minute in range(30):
        metrics.turn_ended("error" if minute < 20 else "end_turn", 1.0, tenant="t")
        metrics.errors.labels("not_found").inc()
        now[0] += 60
        lately.note()
    five = lately.since(300)
    assert (five.of("turns"), five.of("turns_failed"), five.seconds) == (5, 0, 300)
    assert five.labelled("errors/") == {"not_found": 5}
    assert lately.since(900).of("turns_failed") == 5
    assert lately.since(86_400).seconds <= 960, "bounded, whatever is asked for"
    assert lately.now().counts["errors/not_found"] == 30


def signals(**changed: Any) -> Signals:
    nothing = Growth(seconds=300, counts={})
    well = Signals(
        five=nothing,
        ten=nothing,
        fifteen=nothing,
        workers=1,
        worker_limit=10,
        start_p99_seconds=None,
        loop_lag_p99_seconds=0.01,
        store_waiting=0,
        is_store_lost=False,
        damaged=0,
        disk_free_bytes=10,
        disk_low_bytes=5,
        tasks_down=0,
        is_memory_short=False,
    )
    return msgspec.structs.replace(well, **changed)


def grown(**counts: float) -> Growth:
    return Growth(seconds=300, counts={name.replace("__", "/"): count for name, count in counts.items()})


CASES: dict[str, tuple[Signals, Signals]] = {
    "StoreLost": (signals(is_store_lost=True), signals()),
    "StoreDamaged": (signals(damaged=1), signals()),
    "StoreFails": (signals(five=grown(store_failures=1)), signals(ten=grown(store_failures=1))),
    "StoreSilent": (
        signals(five=grown(errors__store_unreachable=1)),
        signals(five=grown(errors__not_found=1)),
    ),
    "PlaceLost": (signals(ten=grown(fenced=1)), signals(fifteen=grown(fenced=1))),
    "DiskFills": (signals(disk_free_bytes=4), signals(disk_free_bytes=0, disk_low_bytes=0)),
    "TaskFails": (signals(tasks_down=1), signals()),
    "Survivors": (signals(ten=grown(survivors=1)), signals()),
    "TurnsFail": (
        signals(five=grown(turns=10, turns_failed=2)),
        signals(five=grown(turns=2, turns_failed=2)),
    ),
    "WorkersNearlyAll": (signals(workers=10), signals(workers=9)),
    "Rejects": (
        signals(five=grown(rejections__a=301)),
        signals(five=grown(rejections__a=299, rejections__b=9)),
    ),
    "SlowStarts": (signals(start_p99_seconds=3.0), signals(start_p99_seconds=2.0)),
    "LoopLags": (signals(loop_lag_p99_seconds=0.3), signals(loop_lag_p99_seconds=0.2)),
    "MemoryShort": (signals(is_memory_short=True), signals()),
    "StoreBehind": (signals(store_waiting=10_001), signals(store_waiting=10_000)),
    "WorkersDie": (signals(five=grown(worker_deaths=61)), signals(five=grown(worker_deaths=59))),
    "ModelFails": (
        signals(five=grown(model_calls=10, model_failures=2)),
        signals(five=grown(model_calls=10, model_failures=1)),
    ),
}


@pytest.mark.parametrize("name", [rule.name for rule in alarms.RULES])
def test_each_alarm_is_raised_and_stays_silent(name: str) -> None:
    loud, silent = CASES[name]
    assert [one.name for one in raised(loud)] == [name]
    assert not list(raised(silent))


ROOT = pathlib.Path(__file__).parent.parent.parent


def test_every_alarm_is_an_alert_rule_and_says_what_to_do() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    told = (ROOT / "docs" / "alarms.md").read_text()
    names = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
    assert {f"AgentGateway{rule.name}" for rule in alarms.RULES} == set(names) - {"AgentGatewayDown"}
    assert [f"AgentGateway{name}" for name in headings(told)] == names


def headings(text: str) -> list[str]:
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


@pytest.fixture
def audit(tmp_path: pathlib.Path) -> Any:
    made = Audit(tmp_path, wall_ms=lambda: 0, monotonic=lambda: 0.0, file_bytes=900)
    made.open()
    yield made
    made.close()


def test_the_audit_log_is_read_back_over_files_that_move_meanwhile(
    tmp_path: pathlib.Path, audit: Audit
) -> None:
    for number in range(60):
        audit.note(None, "did", target=f"t{number}")
    assert len(list(tmp_path.glob(f"{FILE_NAME}*"))) > 3
    seen, before, pages = [], None, 0
    while True:
        found = search(tmp_path, lambda line: True, before=before, limit=7)
        seen += [line.target for line in found.lines]
        pages += 1
        audit.note(None, "later", target="new")  # moves files aside now and then
        if found.next is None:
            break
        before = cursor_of(found.next)
    assert seen == [f"t{number}" for number in reversed(range(60))]
    assert pages == 9


def test_a_search_of_it_is_bounded_and_junk_is_left_out(tmp_path: pathlib.Path, audit: Audit) -> None:
    for number in range(10):
        audit.note(None, "did", target=f"t{number}")
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b"no json\n\xff\xfe\n" + b"x" * 300_000)
    found = search(tmp_path, lambda line: line.target == "t0", before=None, limit=5)
    assert [line.target for line in found.lines] == ["t0"]
    little = search(tmp_path, lambda line: False, before=None, limit=5, bytes_most=100)
    assert (little.lines, little.next is not None) == ([], True)
    assert cursor_of("1.x") is None


def test_the_last_lines_of_the_log_are_found_by_words_and_level() -> None:
    recent, logger = RecentLog(), logging.getLogger("tests.recent")
    logger.setLevel("DEBUG")
    with recent.listening():
        for number in range(LINES_KEPT + 5):
            logger.info("line %d", number)
        logger.error("the disk %s", "x" * 2 * CHARACTERS_MOST)
    logger.info("nobody listens")
    everything = recent.found("", level="debug", before=None, limit=10_000).lines
    assert len(everything) == LINES_KEPT
    worse = recent.found("THE disk", level="warning", before=None, limit=10).lines
    assert [(line.level, len(line.message)) for line in worse] == [("error", CHARACTERS_MOST)]
    page = recent.found("line", level="debug", before=None, limit=3)
    assert page.next is not None
    following = recent.found("line", level="debug", before=int(page.next), limit=3)
    assert [line.number for line in (*page.lines, *following.lines)] == list(
        range(page.lines[0].number, page.lines[0].number - 6, -1)
    )


@contextlib.contextmanager
def alone_with(recent: RecentLog) -> Iterator[logging.Handler]:
    """Its listener, to be told lines that pytest, which keeps what tests log, does not hear of."""
    before = set(logging.root.handlers)
    with recent.listening():
        [listener] = set(logging.root.handlers) - before
        yield listener


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("tests.recent", logging.ERROR, __file__, 1, message, None, None)


def test_no_line_of_the_log_is_an_object_of_its_own() -> None:
    """One would hold the memory that was freed around it."""
    recent = RecentLog()
    with alone_with(recent) as listener:
        listener.handle(record("the first"))
        before = sys.getallocatedblocks()
        for number in range(1_000):
            listener.handle(record(f"line {number} of a session {'x' * 30}"))
        assert sys.getallocatedblocks() - before < 500


def test_half_a_character_in_the_log_is_shown_as_none() -> None:
    recent = RecentLog()
    with alone_with(recent) as listener:
        listener.handle(record("half \ud83d and é"))
    [line] = recent.found("", level="error", before=None, limit=10).lines
    assert line.message == "half ? and é"
