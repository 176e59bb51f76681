"""The ledger as a store keeps it: once each, sums that agree with the calls, and nothing of who is erased."""

from __future__ import annotations

import asyncio
import pathlib

import msgspec
import pytest

from gateway.stores.contract import Store
from gateway.stores.ledger import (
    DAY_MILLISECONDS,
    DIMENSIONS,
    ERASED,
    Chosen,
    LedgerCall,
    LedgerUse,
    UsageSum,
)
from tests.contract.engines import ENGINES, record, tombstone

EVER = Chosen(from_day=0, to_day=10_000)


def call(name: str = "c1", *, day: int = 5, **fields: object) -> LedgerCall:
    whose = {"owner": "acme/alice", "session_key": "k1", "agent": "built-in", "key_id": "k"}
    what = {"provider": "p", "model": "m", "dialect": "chat", "input": 10, "output": 3, "cost": 7}
    values = {"id": name, "at": day * DAY_MILLISECONDS + 1, "status": 200, **whose, **what, **fields}
    return LedgerCall(**values)  # type: ignore[arg-type]


def reserved(made: LedgerCall) -> LedgerCall:
    return msgspec.structs.replace(made, status=None, output=4096, cost=999, is_estimated=True)


async def total(store: Store, chosen: Chosen = EVER) -> UsageSum:
    rows = await store.ledger.sums((), chosen, limit=10)
    assert len(rows) <= 1
    return rows[0].total if rows else UsageSum()


async def test_nothing_used_is_no_row(store: Store) -> None:
    assert await store.ledger.sums((), EVER, limit=10) == []
    assert await store.ledger.sums(DIMENSIONS, EVER, limit=10) == []


async def test_a_call_is_reserved_and_settled_and_counts_once(store: Store) -> None:
    made = call(first_byte_ms=12, model_answered="m-2026", cache_read=1, cache_write=2, reasoning=4)
    await store.ledger.put([reserved(made)])
    assert await store.ledger.in_flight() == [reserved(made)]
    assert await total(store) == UsageSum(), "what is only reserved is not used"
    await store.ledger.put([made])
    assert list(await store.ledger.in_flight()) == []
    assert await store.ledger.calls(limit=10) == [made]
    again = msgspec.structs.replace(made, output=1_000, cost=1_000)
    await store.ledger.put([made, again, reserved(again)])
    await store.ledger.put([again])
    assert await store.ledger.calls(limit=10) == [made]
    expected = UsageSum(calls=1, input=10, cache_read=1, cache_write=2, output=3, reasoning=4, cost=7)
    assert await total(store) == expected
    assert (await total(store)).tokens == 20


async def test_a_refused_call_that_used_nothing_is_of_no_model_in_the_sums(store: Store) -> None:
    refused = call("a", status=404, model="made-up", input=0, output=0, cost=0)
    cut = call("b", status=499, model="m")
    await store.ledger.put([refused, cut])
    rows = await store.ledger.sums(("model",), EVER, limit=9)
    assert {row.names["model"]: row.total.calls for row in rows} == {"": 1, "m": 1}
    assert {one.model for one in await store.ledger.calls(limit=9)} == {"made-up", "m"}


async def test_settled_without_a_reservation_and_both_in_one_go(store: Store) -> None:
    await store.ledger.put([call("a"), reserved(call("b")), call("b")])
    assert (await total(store)).calls == 2
    assert list(await store.ledger.in_flight()) == []


async def test_a_hundred_at_once_are_a_hundred(store: Store) -> None:
    await asyncio.gather(*(store.ledger.put([call(f"c{number}")]) for number in range(100)))
    await asyncio.gather(*(store.ledger.put([call(f"c{number}")]) for number in range(100)))
    assert (await total(store)).input == 1_000


async def test_sums_by_everything_between_two_days(store: Store) -> None:
    await store.ledger.put(
        [
            call("a"),
            call("b", day=6, owner="acme/bob", session_key="k2", key_id="", model="n", cost=None),
            call("c", day=7, owner="other/eve", session_key="k3", provider="q", is_estimated=True, status=0),
            LedgerUse(
                at=6 * DAY_MILLISECONDS, owner="acme/bob", session_key="k2", agent="claude", told_tokens=5,
                cpu_ms=1, memory_mb_seconds=2, wall_ms=3, stored_bytes=-4,
            ),
        ]
    )  # fmt: skip
    whole = await total(store)
    assert (whole.calls, whole.unpriced_calls, whole.estimated_calls, whole.cost) == (3, 1, 1, 14)
    assert (whole.told_tokens, whole.cpu_ms, whole.memory_mb_seconds) == (5, 1, 2)
    assert (whole.wall_ms, whole.stored_bytes) == (3, -4)
    for name in DIMENSIONS:
        rows = await store.ledger.sums((name,), EVER, limit=100)
        together = UsageSum()
        for row in rows:
            together.add(row.total)
        assert together == whole, name
        assert len({row.names[name] for row in rows}) == len(rows) >= 2, name
    by_day = await store.ledger.sums(("day", "model"), Chosen(from_day=6, to_day=7, tenant="acme"), limit=100)
    assert [(row.names, row.total.input) for row in by_day] == [
        ({"day": "6", "model": "n"}, 10),
        ({"day": "6", "model": ""}, 0),
    ]
    bobs = await store.ledger.sums(("agent",), Chosen(from_day=0, to_day=9, owner="acme/bob"), limit=100)
    assert {row.names["agent"] for row in bobs} == {"built-in", "claude"}
    assert await store.ledger.sums((), Chosen(from_day=8, to_day=9), limit=1) == []


async def test_the_latest_day_and_the_dearest_come_first_and_rows_are_bounded(store: Store) -> None:
    await store.ledger.put(
        [call(f"{day}.{cost}", day=day, cost=cost, model=f"m{cost}") for day in (1, 2) for cost in (1, 3, 2)]
    )
    rows = await store.ledger.sums(("day", "model"), EVER, limit=4)
    assert [(row.names["day"], row.total.cost) for row in rows] == [("2", 3), ("2", 2), ("2", 1), ("1", 3)]


async def test_calls_of_a_session_newest_first(store: Store) -> None:
    await store.ledger.put([call("a", day=1), call("b", day=2), call("c", day=3, session_key="k2")])
    assert [one.id for one in await store.ledger.calls(session_key="k1", limit=9)] == ["b", "a"]
    assert [one.id for one in await store.ledger.calls(since=2 * DAY_MILLISECONDS, limit=1)] == ["c"]


async def test_an_erased_session_leaves_sums_and_its_person_but_no_session(store: Store) -> None:
    made = record("a", owner="acme/alice")
    await store.sessions.create(made)
    await store.ledger.put([call("a", session_key=made.key), call("b", session_key="k2")])
    before = await total(store)
    await store.sessions.delete(made.key, tombstone("acme/alice"))
    assert await total(store) == before
    rows = await store.ledger.sums(("person", "session"), EVER, limit=9)
    assert {(row.names["person"], row.names["session"]) for row in rows} == {
        ("acme/alice", ""),
        ("acme/alice", "k2"),
    }
    assert {one.session_key for one in await store.ledger.calls(limit=9)} == {"", "k2"}


async def test_an_erased_session_of_a_visitor_leaves_no_visitor(store: Store) -> None:
    made = record("a", owner="acme/~5f3a")
    await store.sessions.create(made)
    await store.ledger.put([call("a", session_key=made.key, owner="acme/~5f3a")])
    await store.sessions.delete(made.key, tombstone("acme/~5f3a"))
    rows = await store.ledger.sums(("tenant", "person"), EVER, limit=9)
    assert [row.names for row in rows] == [{"tenant": "acme", "person": f"acme/{ERASED}"}]
    assert [one.owner for one in await store.ledger.calls(limit=9)] == [f"acme/{ERASED}"]


async def test_an_erased_person_leaves_sums_of_nobody(store: Store) -> None:
    await store.ledger.put([call("a"), call("b", day=6), call("c", owner="acme/bob")])
    before = await total(store)
    assert await store.ledger.forget_person("acme/alice")
    assert not await store.ledger.forget_person("acme/alice")
    assert await total(store) == before
    rows = await store.ledger.sums(("person", "session", "key"), EVER, limit=9)
    assert {tuple(row.names.values()) for row in rows} == {
        (f"acme/{ERASED}", "", ""),
        ("acme/bob", "k1", "k"),
    }
    assert [one.owner for one in await store.ledger.calls(limit=9)] == ["acme/bob"]


async def test_old_calls_go_and_their_sums_stay_without_sessions(store: Store) -> None:
    await store.ledger.put([call("a", day=1), call("b", day=3, session_key="k2"), call("c", day=5)])
    await store.ledger.forget(calls_before_day=5, sums_before_day=2)
    assert [one.id for one in await store.ledger.calls(limit=9)] == ["c"]
    rows = await store.ledger.sums(("day", "session"), EVER, limit=9)
    assert [tuple(row.names.values()) for row in rows] == [("5", "k1"), ("3", "")]


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "memory"])
async def test_it_is_there_after_a_restart(name: str, tmp_path: pathlib.Path) -> None:
    for is_first in (True, False):
        store = ENGINES[name].made(tmp_path)
        await store.open()
        if is_first:
            await store.ledger.put([call("a"), reserved(call("b"))])
        else:
            assert [one.id for one in await store.ledger.in_flight()] == ["b"]
            assert (await total(store)).calls == 1
        await store.close()
