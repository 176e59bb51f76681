"""What a gateway keeps of its last commits, to do them again if PostgreSQL has lost them."""

from __future__ import annotations

import time

import pytest

from gateway.stores.grouping import WriteGroup
from gateway.stores.postgresql.recent import RecentCommits
from tests.contract.engines import Collector, delta


def test_what_is_kept_is_bounded_and_says_if_it_reaches_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Collector("k")
    kept = RecentCommits(seconds=30.0, most_bytes=3 * delta(1, "x").size_bytes)
    for number in range(1, 6):
        kept.add(kept.next(), WriteGroup({sink: [delta(number, "x")]}, []))
    assert kept.missing(2) == (list(kept._kept), True)
    assert [commit.number for commit in kept.missing(3)[0]] == [4, 5]
    assert kept.missing(1)[1] is False
    assert (kept.is_behind(4), kept.is_behind(5), kept.is_behind(None)) == (True, False, False)
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    kept.add(kept.next(), WriteGroup({sink: [delta(6, "x")]}, []))
    assert [commit.number for commit in kept._kept] == [6]
