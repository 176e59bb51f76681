"""Where sessions of other gateways were a moment ago."""

from __future__ import annotations

from gateway.sessions.recent_places import PLACE_SECONDS, RecentPlaces
from gateway.stores.directory import NodePlace

A, B = NodePlace(1, "a", "http://a"), NodePlace(2, "b", "http://b")


def test_a_place_is_forgotten_soon_and_whatever_else_is_asked() -> None:
    now = 10.0
    places = RecentPlaces(lambda: now)
    for step in range(20):
        places.note(("t/s", str(step)), A)
        assert places.find(("t/s", str(step))) == A
        now += PLACE_SECONDS / 2
    assert places.find(("t/s", "19")) == A
    assert places.find(("t/s", "15")) is None
    now += 2 * PLACE_SECONDS
    assert places.find(("t/s", "19")) is None
    assert not places._now | places._before, "it does not grow"


def test_a_gateway_that_did_not_have_it_is_forgotten_at_once() -> None:
    now = 0.0
    places = RecentPlaces(lambda: now)
    places.note(("t/s", "old"), A)
    now = PLACE_SECONDS
    places.note(("t/s", "new"), A)
    places.note(("t/s", "other"), B)
    places.forget(A.id)
    assert [places.find(("t/s", name)) for name in ("old", "new", "other")] == [None, None, B]
