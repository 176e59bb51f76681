"""The campaign in its long form, with its figures: `python -m tests.flood --rounds 10`."""

from __future__ import annotations

import argparse
import os
import sys

import uvloop

from gateway.telemetry import processor
from tests.flood.campaign import Flood


def main() -> int:
    """Runs a campaign; exit code 1 if something was lost or is left."""
    parser = argparse.ArgumentParser(prog="python -m tests.flood")
    parser.add_argument("--rounds", type=int, default=10, help="of each window, which take turns (10)")
    parser.add_argument("--connections", type=int, default=10_000, help="in all rounds together (10000)")
    parser.add_argument("--names", type=int, default=1_000, help="the same (1000)")
    parser.add_argument("--megabytes", type=int, default=10_240, help="the same (10240)")
    parser.add_argument("--seconds", type=float, default=2.5, help="of a window alone (2.5)")
    parser.add_argument("--limit", type=float, default=330, help="seconds; no round that ends later (330)")
    processor.go_first()  # as a gateway does
    flood = Flood(**vars(parser.parse_args()))
    print(f"strict walls, load {os.getloadavg()[0]:.1f}")  # noqa: T201 - the figures are for a person
    uvloop.run(flood.run())
    print("\n".join((flood.table(), *flood.faults[:20])))  # noqa: T201
    return 1 if flood.faults else 0


if __name__ == "__main__":
    sys.exit(main())
