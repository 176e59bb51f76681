"""The parts of a session: what a turn takes is given back together; the greatest wish prevails."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any, Final

import pytest

from gateway.app import Gateway
from gateway.apps.product_chat.facts import ChatOpened
from gateway.config.tables import Config, LimitsConfig, Quota, QuotasConfig
from gateway.errors import QuotaExceeded, WorkerLimit
from gateway.events.fold import ChatState
from gateway.events.lifecycle import CloseReason
from gateway.principal import Account
from gateway.sessions import record, seat, session, turns
from gateway.sessions.host import WorkerHost
from gateway.sessions.log import EventLog
from gateway.sessions.record import Record
from gateway.sessions.seat import Seat, Wish
from gateway.sessions.services import Services
from gateway.stores.contract import SessionRecord
from tests.asked import inside_gateway

OWNER: Final = "default/local"
ALICE: Final = Account(OWNER, "k", "alice's key")
BOB: Final = Account(OWNER, "k", "bob's key")


def services_of(directory: pathlib.Path, **tables: Any) -> Services:
    return Gateway(Config(data_dir=str(directory), store="memory://", **tables)).services


def seat_of(services: Services, key: str = "k") -> Seat:
    """A seat whose log is in memory alone."""
    fold = ChatState("s")
    kept = SessionRecord(
        key=key, owner=OWNER, session_id="s", agent="built-in", created_at=0, last_active_at=0
    )
    log = EventLog(
        key,
        store=services.store.logs,
        wall_ms=lambda: 1,
        on_visible=fold.apply,
        max_events=100,
        max_bytes=100_000,
    )
    return Seat(Record(kept, fold, services), log, services)


def held(services: Services) -> tuple[int, int, int]:
    """Answers and workers that Alice's key holds, and workers of all."""
    of_key = services.quotas._held.get(("key", ALICE.key_id or ""))
    return (of_key.running, of_key.live, services.slots.taken) if of_key else (0, 0, services.slots.taken)


async def test_an_admission_gives_back_all_it_took_unless_it_is_kept(tmp_path: pathlib.Path) -> None:
    services = services_of(tmp_path)
    one = seat_of(services)
    with contextlib.suppress(RuntimeError), one.admission(ALICE):
        assert held(services) == (1, 1, 1)
        raise RuntimeError("a planted fault")
    assert held(services) == (0, 0, 0)
    with one.admission(ALICE):
        pass
    assert held(services) == (0, 0, 0)
    with one.admission(ALICE) as taken:
        kept = taken.pop_all()
    assert held(services) == (1, 1, 1)
    kept.close()
    assert held(services) == (0, 0, 0)


@pytest.mark.parametrize(
    ("tables", "error"),
    [
        ({"limits": LimitsConfig(max_live_workers=1, waiting_turns=0)}, WorkerLimit),
        ({"quotas": QuotasConfig(subject=Quota(sessions_live=1))}, QuotaExceeded),
    ],
)
async def test_what_is_refused_in_the_middle_of_an_admission_leaves_nothing_taken(
    tmp_path: pathlib.Path, tables: dict[str, Any], error: type[Exception]
) -> None:
    services = services_of(tmp_path, **tables)
    with seat_of(services, "other").admission(BOB) as taken:
        other = taken.pop_all()
    with pytest.raises(error), seat_of(services).admission(ALICE):
        pytest.fail("it was admitted")
    assert held(services) == (0, 0, 1)
    other.close()
    assert held(services) == (0, 0, 0)


async def test_the_greatest_wish_prevails_and_the_first_reason_counts(tmp_path: pathlib.Path) -> None:
    one = seat_of(services_of(tmp_path))
    assert one.wish is Wish.STAY
    one.ask_to_park()
    assert one.is_parking
    one.ask_to_close(CloseReason.IDLE)
    one.ask_to_close(CloseReason.DELETED)
    one.ask_to_park()
    one.start_over()
    assert (one.wish, one.close_reason) == (Wish.CLOSE, CloseReason.IDLE)


async def test_an_answer_is_given_back_to_those_whose_message_began_it(tmp_path: pathlib.Path) -> None:
    """In a product chat a new line sends what is held: the turn is the oldest line's, the new one pays."""
    async with inside_gateway(tmp_path) as inside:
        chat = await inside.gateway.manager.get_or_create(OWNER, "a")
        await chat.note(ChatOpened(1, "Rice"))
        await chat.chat("/permission May I?", account=ALICE)
        await chat.chat("/echo held", account=ALICE)
        await chat.interrupt()
        turn = await chat.chat("/echo new", account=BOB)
        await turn.done
        quotas = inside.gateway.quotas
        answers = {name: held.running for name, held in quotas._held.items() if held.running}
        assert answers == {}


async def test_a_worker_whose_memory_cannot_be_read_is_ended_all_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside_gateway(tmp_path) as inside:
        await inside.chat("a", "/echo before")
        [one] = inside.gateway.manager.sessions()

        def fails(_host: WorkerHost) -> int:
            raise ValueError("a planted fault")

        monkeypatch.setattr(WorkerHost, "memory_bytes", fails)
        assert await one.park()
        monkeypatch.undo()
        assert list(inside.gateway.spawner.workers) == []
        assert (await inside.chat("a", "/echo after"))[-1] == "after"
        assert inside.gateway.manager.sessions() == [one], "it is the same life"


async def test_a_session_that_a_quota_refuses_gives_its_uid_back(tmp_path: pathlib.Path) -> None:
    quotas = QuotasConfig(subject=Quota(sessions_stored=1))
    async with inside_gateway(tmp_path, quotas=quotas) as inside:
        workspaces = inside.gateway.services.workers.workspaces
        assert (await inside.ask("POST", "/api/sessions", {"session_id": "a"})).status == 201
        taken = len(workspaces._taken)
        if not taken:
            pytest.skip("NOT TESTED: only a gateway that runs as root hands out uids")
        for _ in range(3):
            assert (await inside.ask("POST", "/api/sessions", {})).status == 429
        assert len(workspaces._taken) == taken


def test_no_class_of_the_session_family_inherits_from_another() -> None:
    family = [
        value
        for module in (record, seat, session, turns)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    assert {"Session", "Turns", "Seat", "Record"} <= {kind.__name__ for kind in family}
    assert [kind for kind in family if set(kind.__bases__) & set(family)] == []
