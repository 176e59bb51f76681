"""The campaign in its long form, with its figures: `python -m tests.torture --kills 200 --sessions 12`."""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import re
import sys
import tempfile

from tests.torture.campaign import Campaign


def main() -> int:
    """Runs a campaign; exit code 1 where anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--kills", type=int, default=200, help="kill -9 of the gateway (200)")
    parser.add_argument("--sessions", type=int, default=12, help="people who talk at once (12)")
    parser.add_argument("--seconds", type=float, default=900, help="at most so long (900)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        text, is_clean = asyncio.run(_run(directory, options))
        lines = (directory / "gateway.log").read_text().splitlines()
    complaints = [line for line in lines if re.search(r"ERROR|CRITICAL|WARNING|Traceback", line)]
    text += "\n".join(("", "", f"complaints in the gateways' logs: {len(complaints)}", *complaints[-20:]))
    print(text)  # noqa: T201 - the figures are for a person
    return 0 if is_clean else 1


async def _run(directory: pathlib.Path, options: argparse.Namespace) -> tuple[str, bool]:
    campaign = Campaign(
        directory,
        kills=options.kills,
        sessions=options.sessions,
        seconds=options.seconds,
        seed=options.seed,
    )
    await campaign.run()
    return f"{campaign.table()}\n\n{campaign.history.words()}", campaign.history.is_clean


if __name__ == "__main__":
    sys.exit(main())
