"""The table of states, and that every error has a status."""

from __future__ import annotations

import inspect

import pytest

from gateway import errors
from gateway.app import STATUSES
from gateway.events.lifecycle import ARROWS, BUSY, LIVE, SessionState, is_allowed


def test_every_state_has_its_arrows() -> None:
    assert set(ARROWS) == set(SessionState)


def test_every_state_is_reached_from_parked() -> None:
    reached, frontier = {SessionState.PARKED}, [SessionState.PARKED]
    while frontier:
        for to in ARROWS[frontier.pop()] - reached:
            reached.add(to)
            frontier.append(to)
    assert reached == set(SessionState)


@pytest.mark.parametrize("state", SessionState)
def test_every_living_state_can_close_and_closed_is_the_end(state: SessionState) -> None:
    if state is SessionState.CLOSED:
        assert not ARROWS[state]
    elif state is not SessionState.CLOSING:
        assert is_allowed(state, SessionState.CLOSING)


def test_a_parked_session_is_neither_busy_nor_live() -> None:
    assert SessionState.PARKED not in BUSY | LIVE


def leaves() -> list[type[errors.GatewayError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    return [
        kind for kind in found if issubclass(kind, errors.GatewayError) and kind is not errors.GatewayError
    ]


@pytest.mark.parametrize("leaf", leaves())
def test_every_error_has_a_status_a_slug_and_words(leaf: type[errors.GatewayError]) -> None:
    assert 400 <= STATUSES[leaf] <= 599
    assert leaf.code != errors.GatewayError.code
    assert leaf().message.endswith(".")
    assert leaf.__base__ is errors.GatewayError


def test_slugs_are_unique() -> None:
    slugs = [leaf.code for leaf in leaves()]
    assert len(slugs) == len(set(slugs))
