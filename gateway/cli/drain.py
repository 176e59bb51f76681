"""`agent-gateway drain`: ends the gateway as SIGTERM does, and returns when it is gone."""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from typing import Final

from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import reached, spoken
from gateway.config.tables import Config
from gateway.maintenance.lock import is_held
from gateway.telemetry import terminal

DRAIN_EXTRA_SECONDS: Final = 30.0
"""Beyond the turns' grace: for connections, workers and the store to close."""
DRAIN_POLL_SECONDS: Final = 0.05


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_common(parser)
    run_by(parser, _drain)


def _drain(options: argparse.Namespace) -> int:
    config = configured(options)
    if not is_held(config.data_path):
        terminal.complain(f"agent-gateway: no gateway runs on {config.data_path}")
        return 1
    return spoken(_drained(config))


async def _drained(config: Config) -> int:
    began = time.monotonic()
    async with reached(config) as client:
        begun = await client.drain()
    bound = math.inf if begun.grace_seconds is None else begun.grace_seconds + DRAIN_EXTRA_SECONDS
    while is_held(config.data_path):
        if time.monotonic() - began > bound:
            terminal.complain(f"agent-gateway: it has not ended after {bound:g} s")
            return 1
        await asyncio.sleep(DRAIN_POLL_SECONDS)
    terminal.say(f"drained in {time.monotonic() - began:.1f} s")
    return 0
