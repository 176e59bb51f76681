"""What fails inside the gateway ends as little as it can: a background task starts again and is known as down
until then; a session's own task ends that session.
"""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.sessions.record import Record
from gateway.sessions.seat import Seat
from gateway.sessions.session import Session
from gateway.sessions.turns import Turns
from gateway.telemetry import tasks
from gateway.workers.workspace import Workspaces
from tests.asked import Inside, inside_gateway
from tests.shared import eventually


async def ready(inside: Inside) -> tuple[int, Any]:
    """The status of /readyz, and what it says of the background tasks."""
    answer = await inside.ask("GET", "/readyz")
    return answer.status, answer.json["checks"]["tasks"]


@pytest.fixture
async def inside(tmp_path: pathlib.Path) -> AsyncIterator[Inside]:
    async with inside_gateway(tmp_path) as gateway:
        yield gateway


@pytest.mark.parametrize(
    "name", ["reaper", "parker", "loop lag", "disk alarm", "use", "watchdog", "fork server"]
)
async def test_a_background_task_that_fails_is_down_and_starts_again(
    name: str, inside: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    background = inside.gateway.tasks
    assert await ready(inside) == (200, {"is_well": True, "words": ""})
    monkeypatch.setattr(background, "_first_pause_seconds", 1.0)
    known = background._tasks[name].get_coro().cr_frame.f_locals["run"]  # type: ignore[union-attr]
    failures = iter([RuntimeError("a planted fault")])

    async def fails_once() -> None:
        for failure in failures:
            raise failure
        await known()

    await background.stop(name)
    background.start(name, fails_once)
    await eventually(lambda: _is(name in background.down))
    status, check = await ready(inside)
    assert (status, check["is_well"]) == (503, False)
    assert name in check["words"]
    metrics = (await inside.ask("GET", "/metrics")).text
    assert f'agent_gateway_background_task_up{{task="{name}"}} 0.0' in metrics
    assert "a planted fault" in caplog.text
    assert (await inside.chat("a", "/echo meanwhile"))[-1] == "meanwhile"
    await eventually(lambda: _is(not background.down))
    assert (await ready(inside))[0] == 200
    metrics = (await inside.ask("GET", "/metrics")).text
    assert f'agent_gateway_background_task_up{{task="{name}"}} 1.0' in metrics
    assert f'agent_gateway_background_task_failures_total{{task="{name}"}} 1.0' in metrics


async def _is(value: bool) -> bool:
    return value


async def test_a_sessions_own_task_that_fails_ends_that_session_in_words_and_nothing_else(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await inside.chat("neighbour", "/echo before")
    serve = Session._serve

    async def fails(session: Session, *arguments: Any) -> None:
        if session.session_id == "a":
            raise RuntimeError("a planted fault")
        await serve(session, *arguments)

    monkeypatch.setattr(Session, "_serve", fails)
    said = await inside.chat("a", "/echo lost")
    assert "Something failed inside the gateway" in said[-1]
    assert (await inside.chat("neighbour", "/echo on"))[-1] == "on"
    monkeypatch.undo()
    assert (await inside.chat("a", "/echo again"))[-1] == "again"


@pytest.mark.parametrize(
    ("part", "place"), [(Turns, "cut"), (Record, "keep"), (Seat, "stop"), (Seat, "transition")]
)
async def test_a_session_whose_end_fails_leaves_no_worker_and_no_other_session_notices(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, part: type, place: str
) -> None:
    await inside.chat("neighbour", "/echo before")
    await inside.chat("a", "/echo x")
    [ending] = [session for session in inside.gateway.manager.sessions() if session.session_id == "a"]
    parts, whole = (ending._turns, ending._record, ending._seat), getattr(part, place)
    failures = iter([RuntimeError("a planted fault")])

    def fails(of: Any, *arguments: Any, **named: Any) -> Any:
        if of in parts and ending.close_reason is not None:
            for failure in failures:
                raise failure
        return whole(of, *arguments, **named)

    monkeypatch.setattr(part, place, fails)
    answer = await inside.ask("DELETE", "/api/sessions/a")
    assert answer.status == 200
    assert [worker.request.session_key for worker in inside.gateway.spawner.workers] == [
        session.record.key for session in inside.gateway.manager.sessions()
    ]
    assert (await inside.chat("neighbour", "/echo on"))[-1] == "on"


async def test_a_session_that_cannot_be_erased_says_so_and_no_other_one_notices(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await inside.chat("neighbour", "/echo before")
    await inside.chat("a", "/echo x")

    async def fails(_self: Workspaces, _key: str) -> None:
        raise RecursionError("a planted fault")

    monkeypatch.setattr(Workspaces, "remove", fails)
    answer = await inside.ask("DELETE", "/api/sessions/a")
    assert answer.status == 503
    assert "delete it again" in answer.json["error"]["message"]
    assert (await inside.chat("neighbour", "/echo on"))[-1] == "on"
    monkeypatch.undo()
    assert (await inside.ask("DELETE", "/api/sessions/a")).status == 200


def test_the_pauses_grow_and_have_an_end() -> None:
    assert 0 < tasks.FIRST_PAUSE_SECONDS < tasks.LONGEST_PAUSE_SECONDS <= 60
