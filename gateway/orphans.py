"""What a dead gateway may have left: its fork server, and below it every worker.

Known by pid and start time, never by name: a pid alone is soon somebody else's. Usually there is nothing,
because the fork server ends with its gateway; this is for the day on which it did not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
from typing import Final

import msgspec
import psutil
from msgspec import Struct

log = logging.getLogger(__name__)

FILE_NAME: Final = "forkserver.json"
KILL_SECONDS: Final = 5.0


class Known(Struct, frozen=True):
    """A process, in a way that outlives its pid: `created` is its start in seconds since 1970 (psutil)."""

    pid: int
    created: float


def note(data_path: pathlib.Path, pid: int) -> None:
    """Remembers the fork server of this gateway for the next one. Raises OSError."""
    with contextlib.suppress(psutil.NoSuchProcess):
        known = Known(pid, psutil.Process(pid).create_time())
        (data_path / FILE_NAME).write_bytes(msgspec.json.encode(known))


def sweep(data_path: pathlib.Path) -> int:
    """Ends what the last gateway of this data directory left; how many processes that were."""
    try:
        known = msgspec.json.decode((data_path / FILE_NAME).read_bytes(), type=Known)
        process = psutil.Process(known.pid)
        if process.create_time() != known.created or known.pid == os.getpid():
            return 0
        left = [process, *process.children(recursive=True)]
    except (OSError, msgspec.DecodeError, psutil.Error):
        return 0
    for orphan in left:
        with contextlib.suppress(psutil.Error):
            orphan.kill()
    _, alive = psutil.wait_procs(left, timeout=KILL_SECONDS)
    log.warning("swept %d processes that the last gateway left; %d survived", len(left), len(alive))
    return len(left)
