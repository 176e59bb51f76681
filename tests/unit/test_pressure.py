"""How much memory is left: read from files as the kernel writes them."""

from __future__ import annotations

import pathlib

from gateway.config.memory import MemoryConfig
from gateway.sessions.memory import BUILT_IN_BYTES, MemoryAdmission
from gateway.telemetry.metrics import Metrics
from gateway.workers.pressure import MemoryMeter, MemoryRoom

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n"
STALLS = "some avg10=9.00 avg60=0 avg300=0 total=1\nfull avg10={} avg60=0 avg300=0 total=1\n"


def machine(
    place: pathlib.Path, *, groups: str, mounts: str, files: dict[str, dict[str, str]], stalls: str = "0.00"
) -> MemoryMeter:
    """A meter of a machine whose control groups have these files."""
    proc = place / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "pressure").mkdir()
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "pressure" / "memory").write_text(STALLS.format(stalls))
    (proc / "self" / "cgroup").write_text(groups)
    (proc / "self" / "mountinfo").write_text(mounts)
    for group, contents in files.items():
        (place / group).mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (place / group / name).write_text(text)
    return MemoryMeter(proc)


def test_without_groups_it_is_the_machines(tmp_path: pathlib.Path) -> None:
    meter = machine(tmp_path, groups="", mounts="", files={}, stalls="3.50")
    assert meter.read() == MemoryRoom(1000 * 1024, 600 * 1024, 3.5)


def test_the_tightest_group_of_version_2_counts(tmp_path: pathlib.Path) -> None:
    limited = {"memory.max": "400000\n", "memory.current": "350000\n", "memory.pressure": STALLS.format("7")}
    meter = machine(
        tmp_path,
        groups="0::/outer/inner/leaf\n",
        mounts=f"30 20 0:26 /outer {tmp_path}/fs rw shared:4 - cgroup2 cgroup2 rw\n",
        files={
            "fs": {"memory.max": "max\n", "memory.current": "1\n", "memory.stat": ""},
            "fs/inner": {**limited, "memory.stat": "inactive_file 20000\nactive_file 4000\nanon 1\n"},
            "fs/inner/leaf": {"memory.max": "max\n", "memory.current": "1\n", "memory.stat": ""},
        },
    )
    assert meter.read() == MemoryRoom(400_000, 400_000 - 350_000 + 20_000 + 2_000, 7.0)
    (tmp_path / "fs/inner/memory.current").write_text("10\n")
    assert meter.read() == MemoryRoom(400_000, 400_000 - 10 + 22_000, 7.0)
    (tmp_path / "fs/inner/memory.max").write_text("max\n")
    assert meter.read().limit_bytes == 1000 * 1024


def test_a_group_of_version_1_counts(tmp_path: pathlib.Path) -> None:
    none = str(2**63 - 4096)
    meter = machine(
        tmp_path,
        groups="8:pids:/\n4:memory:/a/b\n0::/\n",
        mounts=(
            f"30 20 0:26 / {tmp_path}/pids rw - cgroup cgroup rw,pids\n"
            f"31 20 0:27 / {tmp_path}/fs rw - cgroup cgroup rw,memory\n"
            f"32 20 0:28 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
        ),
        files={
            "fs/a/b": {
                "memory.limit_in_bytes": "300000\n",
                "memory.usage_in_bytes": "290000\n",
                "memory.stat": "inactive_file 1\ntotal_inactive_file 500\ntotal_active_file 20\n",
            },
            "fs/a": {"memory.limit_in_bytes": none, "memory.usage_in_bytes": "1", "memory.stat": ""},
        },
    )
    assert meter.read() == MemoryRoom(300_000, 10_510)


class Changing:
    """Memory as a test says."""

    def __init__(self, available: int, stalled: float = 0.0) -> None:
        self.available, self.stalled, self.now = available, stalled, 0.0

    def __call__(self) -> MemoryRoom:
        return MemoryRoom(1_000, self.available, self.stalled)

    def clock(self) -> float:
        self.now += 1
        return self.now


def admission(memory: Changing, config: MemoryConfig | None = None) -> MemoryAdmission:
    config = config or MemoryConfig()
    metrics = Metrics(version="1", monotonic=memory.clock)
    return MemoryAdmission(memory, config=lambda: config, monotonic=memory.clock, metrics=metrics)


def test_memory_is_short_below_what_is_kept_and_enough_again_clearly_above() -> None:
    memory = Changing(50)
    gate = admission(memory)
    assert (gate.is_short, gate.has_room(0), gate.has_room(1)) == (False, True, False)
    memory.available = 49
    assert (gate.is_short, gate.has_room(0)) == (True, False)
    memory.available = 60
    assert gate.is_short
    memory.available = 63
    assert not gate.is_short


def test_stalls_count_only_where_little_is_left() -> None:
    memory = Changing(149, stalled=10.0)
    gate = admission(memory)
    assert gate.is_short
    memory.available = 500
    assert not gate.is_short, "a worker at the limit of its own group stalls, too"
    memory.available = 149
    assert not admission(memory, MemoryConfig(stalled_percent=0)).is_short


def test_it_can_be_turned_off_and_what_is_kept_is_bounded() -> None:
    gate = admission(Changing(0), MemoryConfig(admission=False))
    assert (gate.is_short, gate.has_room(10**9)) == (False, True)
    assert MemoryConfig().kept_free(64 << 30) == 1 << 30
    assert MemoryConfig().kept_free(2 << 30) == round((2 << 30) / 20)


def test_the_next_worker_is_expected_to_be_as_large_as_those_before() -> None:
    gate = admission(Changing(0))
    assert gate.expected_bytes("built-in", is_built_in=True) == BUILT_IN_BYTES
    gate.note_size("large", 600)
    assert gate.expected_bytes("large", is_built_in=False) == 600
    gate.note_size("large", 0)  # it was not measured
    gate.note_size("large", 500)
    assert gate.expected_bytes("large", is_built_in=False) == 590
    gate.note_size("large", 700)
    assert gate.expected_bytes("large", is_built_in=False) == 700
