"""The table of states, and what every error carries."""

from __future__ import annotations

import importlib
import pathlib
import re
from typing import Final

import pytest

from gateway.config.applications import SHIPPED
from gateway.errors import GatewayError
from gateway.events.lifecycle import ARROWS, BUSY, LIVE, SessionState, is_allowed

ERRORS_PAGE: Final = pathlib.Path(__file__).parent.parent.parent / "docs" / "errors.md"


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


def leaves() -> list[type[GatewayError]]:
    """Every error of the gateway and its applications."""
    for name in SHIPPED:
        importlib.import_module(f"gateway.apps.{name}.errors")
    return [kind for kind in GatewayError.__subclasses__() if kind.__module__.startswith("gateway.")]


@pytest.mark.parametrize("leaf", leaves())
def test_every_error_has_a_status_a_slug_and_words(leaf: type[GatewayError]) -> None:
    assert 400 <= vars(leaf)["status"] <= 599
    assert vars(leaf)["code"] != GatewayError.code
    assert leaf().message.endswith(".")
    assert not leaf.__subclasses__()


def test_slugs_are_unique() -> None:
    slugs = [leaf.code for leaf in leaves()]
    assert len(slugs) == len(set(slugs))


def test_the_table_of_errors_names_each_with_its_status_and_words() -> None:
    table = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \|$", ERRORS_PAGE.read_text(), re.M)
    said = [(str(leaf.status), leaf.code, " ".join((leaf.__doc__ or "").split())) for leaf in leaves()]
    assert sorted(table) == sorted(said)
    assert [status for status, _, _ in table] == sorted(status for status, _, _ in table)
