"""A gateway's lease, and the deaths of others, by clocks that only go on."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BrokenInvariant
from gateway.sessions.lease import LEASE_ARROWS, Lease, LeaseState
from gateway.stores.sightings import NodeRow, Sightings

SECONDS: Final = 3.0
BEAT: Final = 0.5
S = LeaseState


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def lease(hand: Hand, *, state: LeaseState = S.HELD) -> Lease:
    """One in a state, by the shortest way."""
    made = Lease(lease_seconds=SECONDS, monotonic=hand)
    if state is not S.JOINING:
        made.joined(sent=hand.now)
    if state is S.DOUBTFUL:
        hand.now += SECONDS
        made.look()
    elif state is S.DRAINING:
        made.drain()
    elif state is S.FENCED:
        made.fence()
    elif state is S.GONE:
        made.leave()
    assert made.state is state
    return made


def expire(made: Lease, hand: Hand) -> None:
    hand.now += SECONDS
    made.look()


DEEDS: Final[dict[str, Callable[[Lease, Hand], None]]] = {
    "answered": lambda made, hand: made.answered(sent=hand.now, is_mine=True),
    "row gone": lambda made, hand: made.answered(sent=hand.now, is_mine=False),
    "fenced": lambda made, _: made.fence(),
    "time": expire,
    "drain": lambda made, _: made.drain(),
    "leave": lambda made, _: made.leave(),
}
ARROWS: Final = {
    S.HELD: (S.HELD, S.FENCED, S.FENCED, S.DOUBTFUL, S.DRAINING, S.GONE),
    S.DOUBTFUL: (S.HELD, S.FENCED, S.FENCED, S.DOUBTFUL, S.DRAINING, S.GONE),
    S.DRAINING: (S.DRAINING, S.FENCED, S.FENCED, S.DRAINING, S.DRAINING, S.GONE),
    S.FENCED: (S.FENCED,) * 6,
    S.GONE: (S.GONE,) * 6,
}


def test_every_arrow() -> None:
    for state, expected in ARROWS.items():
        for (name, deed), to in zip(DEEDS.items(), expected, strict=True):
            hand = Hand()
            made = lease(hand, state=state)
            deed(made, hand)
            assert made.state is to, (state, name)
            assert made.may_work_now() is (to in (S.HELD, S.DRAINING) and hand.now < made.deadline), (
                state,
                name,
            )


def test_another_arrow_is_a_bug() -> None:
    made = lease(Hand(), state=S.JOINING)
    with pytest.raises(BrokenInvariant, match="cannot go from joining to fenced"):
        made.answered(sent=0, is_mine=False)
    made.fence()
    assert made.state is S.JOINING, "it had no place to lose"
    assert set(LEASE_ARROWS) == set(LeaseState)


def test_a_lease_counts_from_before_the_beat_was_sent() -> None:
    hand = Hand()
    made = lease(hand)
    sent = hand.now
    hand.now += 2.5
    made.answered(sent=sent, is_mine=True)
    assert made.seconds_left == 0.5
    hand.now += 0.5
    assert not made.may_work_now(), "the clock says so, before anybody has looked"
    assert made.state is S.HELD
    assert state_after_a_look(made) is S.DOUBTFUL


def state_after_a_look(made: Lease) -> LeaseState:
    made.look()
    return made.state


def test_an_answer_that_comes_after_its_own_lease_brings_nothing_back() -> None:
    hand = Hand()
    made = lease(hand, state=S.DOUBTFUL)
    sent = hand.now
    hand.now += SECONDS
    made.answered(sent=sent, is_mine=True)
    assert (made.state, made.may_work_now()) == (S.DOUBTFUL, False)
    made.answered(sent=hand.now, is_mine=True)
    assert (made.state, made.may_work_now()) == (S.HELD, True)
    made.answered(sent=sent, is_mine=True)
    assert made.seconds_left == SECONDS, "an older answer takes nothing away"


def test_a_row_that_was_made_too_slowly_does_not_let_it_work() -> None:
    hand = Hand()
    made = lease(hand, state=S.JOINING)
    hand.now += 10
    made.joined(sent=hand.now - SECONDS)
    assert made.state is S.DOUBTFUL


def row(beat: int, *, node: int = 1) -> NodeRow:
    return NodeRow(node, beat)


def seen(*beats: int, every: float = BEAT) -> tuple[Sightings, float, list[NodeRow]]:
    """The beats that each answer showed; what was dead by the last."""
    sightings, now, dead = Sightings(lease_seconds=SECONDS), 50.0, list[NodeRow]()
    for beat in beats:
        now += every
        dead = sightings.see([row(beat)], at=now)
    return sightings, now, dead


def test_one_that_beats_no_more_is_dead_after_a_lease() -> None:
    assert seen(4, *[5] * 6)[2] == []
    assert seen(4, *[5] * 7)[2] == [row(5)]
    assert seen(4, *[5] * 6, 6)[2] == []


def test_silence_counts_only_while_ones_own_answers_come() -> None:
    sightings, now, _ = seen(*[5] * 6)
    assert sightings.see([row(5)], at=now + SECONDS) == [], "this one slept itself"
    sightings, now, _ = seen(*[5] * 6)
    sightings.forget()
    assert sightings.see([row(5)], at=now + BEAT) == [], "the store did not answer this one either"


def test_two_that_watch_each_other_are_dead_to_none_while_both_beat() -> None:
    sightings, now = Sightings(lease_seconds=SECONDS), 0.0
    for beat in range(20):
        now += BEAT
        assert sightings.see([row(beat, node=1), row(beat // 2, node=2)], at=now) == []


# -- never two at once ----------------------------------------------------------------------------------


class FromItsAnswer(Lease):
    """A planted fault: the lease counts from when the answer came."""

    def answered(self, *, sent: float, is_mine: bool) -> None:
        super().answered(sent=self._monotonic(), is_mine=is_mine)


class Hasty(Sightings):
    """A planted fault: a row is dead as soon as it was not seen to beat for a part of the lease."""

    def see(self, others: object, *, at: float) -> list[NodeRow]:
        return list(super().see(others, at=at * 2))  # type: ignore[arg-type]


class Careless(Lease):
    """A planted fault: nobody looks at the clock between two answers."""

    def may_work_now(self) -> bool:
        return self.state in (S.HELD, S.DRAINING)


class Rows:
    """The directory of the model: rows, and who has the session."""

    def __init__(self) -> None:
        self.beats: dict[int, int] = {}
        self.owner: int | None = None

    def beat(self, node: int) -> tuple[bool, list[NodeRow]]:
        """Whether its row is there, and the others'."""
        if node in self.beats:
            self.beats[node] += 1
        others = [row(beat, node=each) for each, beat in self.beats.items() if each != node]
        return node in self.beats, others

    def remove(self, found: NodeRow) -> None:
        if self.beats.get(found.id) == found.beat:
            del self.beats[found.id]

    def claims(self, node: int) -> bool:
        """Whether it gets the session: nobody living has it."""
        if node in self.beats and self.owner not in self.beats:
            self.owner = node
        return self.owner == node


class Model:
    """Gateways whose every step takes as long as it likes, on one time line; each has a clock of its own."""

    def __init__(self, delays: list[float], lease_kind: type[Lease], sightings_kind: type[Sightings]) -> None:
        self.now = 0.0
        self._delays = itertools.cycle(delays)
        self._lease_kind, self._sightings_kind = lease_kind, sightings_kind
        self._due: list[tuple[float, int, Iterator[float]]] = []
        self._ids = itertools.count(1)
        self.rows = Rows()
        self.working: dict[int, Lease] = {}
        """Those that were given the session, with what they believe."""
        self.takeovers = 0
        for shift in (0.0, 5_000.0, -70.0):
            self._start(self._node(shift))

    def _start(self, life: Iterator[float]) -> None:
        heapq.heappush(self._due, (self.now, next(self._ids), life))

    def run(self, seconds: float) -> bool:
        """Whether there were ever two that believed they might work for the session."""
        while self._due and self.now < seconds:
            self.now, _, life = heapq.heappop(self._due)
            pause = next(life)
            if sum(each.may_work_now() for each in self.working.values()) > 1:
                return True
            heapq.heappush(self._due, (self.now + pause, next(self._ids), life))
        return False

    def _node(self, shift: float) -> Iterator[float]:
        """Each `yield` is an await that takes so long: under way, asleep, stopped."""
        while True:
            me = next(self._ids)
            made = self._lease_kind(lease_seconds=SECONDS, monotonic=lambda: self.now + shift)
            sightings = self._sightings_kind(lease_seconds=SECONDS)
            sent = self.now + shift
            yield next(self._delays)
            self.rows.beats[me] = 0
            yield next(self._delays)
            made.joined(sent=sent)
            while not made.has_ended:
                yield from self._beat(me, made, sightings, shift)
            yield BEAT

    def _beat(self, me: int, made: Lease, sightings: Sightings, shift: float) -> Iterator[float]:
        sent = self.now + shift
        yield next(self._delays)
        is_mine, others = self.rows.beat(me)
        yield next(self._delays)
        made.answered(sent=sent, is_mine=is_mine)
        for dead in sightings.see(others, at=self.now + shift):
            yield next(self._delays)
            self.rows.remove(dead)
        if made.may_work_now() and self.rows.claims(me) and me not in self.working:
            self.takeovers += bool(self.working)
            self.working[me] = made
        made.look()
        yield BEAT


DELAYS: Final = st.lists(
    st.sampled_from([0.0, 0.01, 0.01, 0.01, 0.05, 0.05, 0.3, 0.9, 1.6, 2.9, 3.1, 8.0]),
    min_size=20,
    max_size=60,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(DELAYS)
def test_never_two_believe_that_they_may_work_for_the_same_session(delays: list[float]) -> None:
    assert not Model(delays, Lease, Sightings).run(60)


def schedules() -> Iterator[list[float]]:
    """Nearly everything is quick but one step."""
    for place, slow in itertools.product(range(0, 40, 3), (2.9, 3.1, 8.0)):
        yield [0.01] * place + [slow] + [0.01] * 60


@pytest.mark.parametrize(
    ("lease_kind", "sightings_kind"),
    [(FromItsAnswer, Sightings), (Careless, Sightings), (Lease, Hasty)],
)
def test_the_check_finds_what_is_planted(lease_kind: type[Lease], sightings_kind: type[Sightings]) -> None:
    assert any(Model(delays, lease_kind, sightings_kind).run(30) for delays in schedules())


def test_sessions_are_taken_over_in_the_model() -> None:
    models = [Model(delays, Lease, Sightings) for delays in schedules()]
    assert not any(model.run(30) for model in models)
    assert sum(model.takeovers for model in models) > 0
