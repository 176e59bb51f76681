"""All benchmarks, one after another: `python -m benchmarks.run [NAME …]`."""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

NOT_ALONE = {
    *("__init__", "bare_mcp", "bare_relay", "egress_client"),
    *("relays", "run", "socket_peers", "stamping_agent"),
}


def main() -> int:
    """Runs the named ones, or all; 1 where one failed."""
    here = pathlib.Path(__file__).parent
    names = sys.argv[1:] or sorted(path.stem for path in here.glob("*.py") if path.stem not in NOT_ALONE)
    failed = False
    for name in names:
        if importlib.util.find_spec(f"benchmarks.{name}") is None:
            print(f"there is no benchmark {name}", file=sys.stderr)
            return 2
        print(f"\n== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
