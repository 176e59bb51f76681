"""What a forked worker does not carry: importing the agent brings in no event loop and no HTTP client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"aiohttp", "asyncio", "gateway", "http", "logging", "mcp", "pydantic", "socket", "ssl", "subprocess"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_agent_is_light() -> None:
    assert modules_after("import worker.agent.agent") & HEAVY == set()


def test_turns_import_nothing_and_warming_up_leaves_nothing_open() -> None:
    code = (
        "import os, sys, worker.agent.agent as agent\n"
        "before = set(sys.modules), os.listdir('/proc/self/fd')\n"
        "agent.warm_up()\n"
        "print(set(sys.modules) - before[0], os.listdir('/proc/self/fd') == before[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set() True\n"
    assert done.stderr == ""
