"""Where a log may be forked, and what of it is copied."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from gateway.errors import ForkRefused
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.sessions.fork_point import Copying, Outline, Point, closing

FACTS: tuple[ev.EventData, ...] = (
    ev.SessionCreated("s", "a"),  # 1
    ev.MessageAdded("u1", "user", "one", "t1"),
    ev.TurnStarted("t1", "u1", "r1"),
    ev.Usage(used=5, spending=ev.Spending(1.5)),
    ev.MessageAdded("u2", "user", "two", "t2"),  # 5: waits
    ev.QueueChanged((ev.WaitingMessage("u2", "t2", "two"),)),
    ev.EgressAsked("e1", "host", 443),
    ev.WalletChanged("{}"),
    ev.TurnEnded("t1", "end_turn"),  # 9
    ev.TurnStarted("t2", "u2", "r2"),  # 10
    ev.QueueChanged(()),
    ev.BudgetSpent("spent", "subject.x", 1, 1),
    ev.TurnInterrupted("t2", "killed", "killed"),  # 13
    ev.OptionChosen("mode", "plan"),
    ev.MessageAdded("u3", "user", "three", "t3"),  # 15
    ev.TurnStarted("t3", "u3", "r3"),
)


def events(count: int = len(FACTS)) -> list[Event]:
    return [Event(seq, 1000 + seq, data) for seq, data in enumerate(FACTS[:count], 1)]


def point(*, count: int = len(FACTS), at: int | None = None, before: str | None = None) -> Point:
    outline = Outline()
    outline.add(events(count))
    return outline.point(at_seq=at, before_message=before)


def copied(found: Point, *, is_same_agent: bool = True) -> list[ev.EventData]:
    copying = Copying(found, session_id="new", agent="b", is_same_agent=is_same_agent)
    kept = [copying(event) for event in events() if event.seq <= found.through]
    return [event.data for event in kept if event is not None]


def test_the_last_point_leaves_out_the_turn_that_runs() -> None:
    found = point()
    assert (found.through, found.is_running, found.is_end, found.files_before) == (15, True, False, None)
    assert not [
        data for data in copied(found) if isinstance(data, ev.MessageAdded) and data.message_id == "u3"
    ]
    done = point(count=14)
    assert (done.through, done.is_running, done.is_end) == (14, False, True)


def test_the_end_of_a_turn_has_no_message_that_waited_there() -> None:
    found = point(at=9)
    assert (found.through, found.files_before, found.is_end) == (9, 13, False)
    kept = copied(found)
    assert [data.message_id for data in kept if isinstance(data, ev.MessageAdded)] == ["u1"]
    assert closing(found) == [
        ev.QueueChanged(()),
        ev.WalletChanged(None),
        ev.EgressAnswered("e1", "cancelled"),
    ]


def test_before_a_message_is_where_its_turn_began() -> None:
    assert point(before="u1").through == 2
    assert point(before="u1").is_beginning
    assert point(before="u2").through == 9
    assert point(before="u3").through == 15
    assert point(before="u2", count=6).through == 2  # it waits while the first turn runs


@pytest.mark.parametrize("at", [3, 8, 10, 12, 16, 17])
def test_the_middle_of_a_turn_is_refused(at: int) -> None:
    with pytest.raises(ForkRefused):
        point(at=at)


def test_a_message_that_is_not_there_is_refused() -> None:
    with pytest.raises(ForkRefused):
        point(before="r1")


def test_costs_begin_anew_and_another_agents_options_stay_behind() -> None:
    found = point(at=14)
    kept = copied(found)
    assert kept[0] == ev.SessionCreated("new", "b")
    assert [data.spending for data in kept if isinstance(data, ev.Usage)] == [UNSET]
    assert not [data for data in kept if isinstance(data, ev.BudgetSpent)]
    assert [data for data in kept if isinstance(data, ev.OptionChosen)]
    assert not [data for data in copied(found, is_same_agent=False) if isinstance(data, ev.OptionChosen)]
