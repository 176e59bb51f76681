"""The campaign in its long form, with its figures: `python -m tests.ledger --turns 1000 --kills 60`."""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys
import tempfile

from tests.ledger.campaign import Campaign


def main() -> int:
    """Runs a campaign; exit code 1 where the counts differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.ledger")
    parser.add_argument("--turns", type=int, default=1_000, help="requests to the provider (1000)")
    parser.add_argument("--kills", type=int, default=100, help="kill -9 of the gateway, at most (100)")
    parser.add_argument("--sessions", type=int, default=6, help="people who talk at once (6)")
    parser.add_argument("--seconds", type=float, default=900, help="at most so long (900)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="ledger-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        text, is_clean = asyncio.run(_run(directory, options))
    print(text)  # noqa: T201 - the figures are for a person
    return 0 if is_clean else 1


async def _run(directory: pathlib.Path, options: dict[str, int]) -> tuple[str, bool]:
    campaign = Campaign(directory, **options)
    await campaign.run()
    return "\n".join((campaign.table(), *campaign.faults[:20])), not campaign.faults


if __name__ == "__main__":
    sys.exit(main())
