"""Benchmarks, one after another, each in a short form and within its time: under twenty minutes in all.

    python -m benchmarks.run [NAME …] [--whole] [--json FILE]

Without a name: those of `PARTS`. `--whole` runs the long forms, without a bound, and so does a name that is
not there. What each prints is kept in FILE, too (bench.json), with how
long it took; a table of that comes last. A part that is not done in its time is ended, and the run fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Final

import psutil
from msgspec import Struct


class Part(Struct, frozen=True):
    """How one benchmark is run in short: its arguments and the seconds that it may take."""

    seconds: float
    arguments: tuple[str, ...] = ()


PARTS: Final = {
    "access": Part(50, ("--requests", "500", "--burst", "100")),
    "churn": Part(50, ("1000",)),
    "durability": Part(90, ("--quick",)),
    "egress": Part(80, ("1", "--churn", "30")),
    "gateway": Part(60, ("--quick",)),
    "growth": Part(120),
    "http": Part(50, ("--seconds", "1", "--rounds", "3")),
    "peer_identity": Part(50, ("100",)),
    "peers": Part(70, ("10",)),
    "shop": Part(60, ("--quick",)),
    "snapshots": Part(50, ("5",)),
    "sockets": Part(50, ("200", "10", "1000")),
    "streams": Part(150, ("--quick",)),
    "talkers": Part(60, ("text",)),
    "walls": Part(120, ("50",)),
    "workspaces": Part(50, (tempfile.gettempdir(), "200", "2")),
}
LONGEST_SECONDS: Final = 20 * 60
assert sum(part.seconds for part in PARTS.values()) < LONGEST_SECONDS


class PartResult(Struct):
    """What came of one."""

    name: str
    seconds: float
    bound_seconds: float | None
    exit_code: int
    """-1: it was not done in its time."""
    lines: list[str]


def main() -> int:
    """Runs the named ones, or those of `PARTS`; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--whole", action="store_true", help="the long forms")
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("bench.json"))
    asked = parser.parse_args()
    for name in asked.names:
        if importlib.util.find_spec(f"benchmarks.{name}") is None:
            print(f"there is no benchmark {name}", file=sys.stderr)
            return 2
    results = []
    for name in asked.names or PARTS:
        part = None if asked.whole else PARTS.get(name)
        bound = "" if part is None else f", at most {part.seconds:g} s"
        print(f"\n== {name}{bound}", flush=True)
        results.append(run(name, part))
        asked.json.write_text(json.dumps(document(results), indent=1))
    show(results)
    return int(any(result.exit_code for result in results))


def run(name: str, part: Part | None) -> PartResult:
    """Runs one in a process of its own, which ends with what it started when its time is up."""
    arguments = () if part is None else part.arguments
    began, lines = time.monotonic(), list[str]()
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    is_late = threading.Event()
    timer = threading.Timer(part.seconds if part else 24 * 3600, _end, (process, is_late))
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.rstrip())
    code = process.wait()
    timer.cancel()
    seconds = round(time.monotonic() - began, 1)
    return PartResult(name, seconds, part and part.seconds, -1 if is_late.is_set() else code, lines)


def _end(process: subprocess.Popen[str], is_late: threading.Event) -> None:
    """As Ctrl-C does, so that it ends its gateways; then for good."""
    is_late.set()
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in family:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)


def document(results: list[PartResult]) -> dict[str, object]:
    """Everything, with the machine that it was measured on."""
    return {
        "machine": {
            "cores": os.cpu_count(),
            "linux": os.uname().release,
            "python": sys.version.split()[0],
            "memory_bytes": psutil.virtual_memory().total,
            "load": os.getloadavg(),
        },
        "parts": [{name: getattr(result, name) for name in result.__struct_fields__} for result in results],
    }


def show(results: list[PartResult]) -> None:
    """One line each."""
    print(f"\n{'part':16}{'seconds':>9}{'bound':>9}   outcome")
    for result in results:
        outcome = {0: "done", -1: "not done in its time"}.get(result.exit_code, f"exit {result.exit_code}")
        bound = "-" if result.bound_seconds is None else f"{result.bound_seconds:g}"
        print(f"{result.name:16}{result.seconds:9.1f}{bound:>9}   {outcome}")
    print(f"{'in all':16}{sum(result.seconds for result in results):9.1f}")


if __name__ == "__main__":
    sys.exit(main())
