"""The campaign in its long form, with its card: `python -m tests.hostile --seconds 600`."""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys
import tempfile

from tests.hostile.campaign import Campaign


def main() -> int:
    """Runs a campaign; exit code 1 if a neighbour noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--seconds", type=float, default=600, help="so long (600)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        card = asyncio.run(Campaign(directory, seconds=options.seconds, seed=options.seed).run())
    print(card)  # noqa: T201 - the figures are for a person
    return 1 if card.errors or card.exit_code or card.left else 0


if __name__ == "__main__":
    sys.exit(main())
