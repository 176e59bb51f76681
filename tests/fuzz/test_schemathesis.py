"""Schemathesis against the document of a running gateway: no 5xx, no status and no answer that it does not
name. `FUZZ_EXAMPLES` says how many requests each operation gets.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
import time
from typing import Final

import pytest

from tests.gateways import RunningGateway
from tests.patience import soon
from tests.scrapes import scrape
from tests.shared import SHARED, crowding, shared_gateway

pytestmark = [SHARED, pytest.mark.timeout(3600)]

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "2"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
CHECKS: Final = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance"),
)
HANG_SECONDS: Final = 30
RUN_SECONDS: Final = 100 + 5 * EXAMPLES

gateway = shared_gateway(
    """
[limits]
address_requests_per_second = 100000
address_burst = 1000000
session_requests_per_second = 100000
session_burst = 1000000
[sessions]
park_after_seconds = 0.5
sweep_interval_seconds = 0.2
"""
)
"""Rates are tested elsewhere; here they would answer instead of what is to be found."""


async def test_every_operation_holds_what_its_description_says(
    gateway: RunningGateway, tmp_path: pathlib.Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        *("--request-timeout", str(HANG_SECONDS), "--continue-on-failure", "--no-color"),
        *("--exclude-operation-id", "stream"),  # it never ends; its tests are its own
        *("--exclude-operation-id", "shared_stream"),  # whose `../` a client makes the other of
        *("--exclude-operation-id", "watch_files"),  # never ends either
        *("--exclude-operation-id", "drain_gateway"),  # it ends the gateway
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        report, _ = await soon(process.communicate(), RUN_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, report.decode()[-20_000:]
    assert "Traceback" not in gateway.log()
    began = time.monotonic()
    assert (await scrape(gateway)).value("turns_total") > 0, "something was accepted"
    assert time.monotonic() - began < 1 * crowding()
