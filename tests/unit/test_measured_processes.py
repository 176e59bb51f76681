"""What is read of processes while this one may open no more files."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

from gateway.workers import memory


@contextlib.contextmanager
def no_file_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_cannot_be_looked_at_counts_as_nothing_and_is_not_called_idle() -> None:
    me = os.getpid()
    assert memory.process_bytes(me) > 0
    with no_file_left():
        found = (memory.process_bytes(me), memory.tree_bytes(me), memory.cpu_seconds("", me))
        is_at_work = memory.is_at_work(me)
    assert found == (0, 0, 0)
    assert is_at_work
