"""What operators see of a real gateway: the scrape agrees with what happened, probes say the truth, operators
end workers and no session, and nothing of a conversation is ever shown.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import signal
import sys
from typing import Any, Final

import aiohttp
import psutil
import pytest

from gateway.workers import orphans
from tests.fake_model import Behaviour, fake_model
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.patience import counting, soon, within
from tests.scrapes import scrape
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED

AGENTS: Final[dict[str, Any]] = {
    "asks": "asks_permission",
    "crashes": "crash_mid_answer",
    "slow-start": {"initialize": {"steps": [{"sleep": 60_000}]}},
    "chatty": {"turns": [[{"say": {"text": "word $N ", "times": 2_000, "delay_ms": 10}}]], "repeat": True},
}
gateway = shared_gateway('[server]\nlog_format = "json"\n', agents=AGENTS)


async def row_of(gateway: RunningGateway, state: str) -> Any:
    """The row of the session that was used last, once it is in this state."""
    found: list[Any] = []

    async def is_there() -> bool:
        found[:] = (await gateway.get("/api/admin/sessions"))["sessions"][:1]
        return bool(found) and found[0]["state"] == state

    await eventually(is_there)
    return found[0]


def audited(gateway: RunningGateway) -> list[Any]:
    return [json.loads(line) for line in (gateway.data_path / "audit.jsonl").read_text().splitlines()]


# -- the scrape --------------------------------------------------------------------------------------------


async def test_the_scrape_agrees_with_what_happened(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, agents=AGENTS) as gateway:
        for name in ("a", "b"):
            await gateway.chat(name, "/echo one")
        await gateway.chat("a", "/echo two")
        crashed = await gateway.post(
            "/api/chat?wait=240", {"message": "go", "session_id": "c", "agent": "crashes"}
        )
        assert not crashed["is_processing"]
        key = (await gateway.get("/api/admin/sessions"))["sessions"][-1]["key"]
        await gateway.post(f"/api/admin/sessions/{key}/park", {})
        await gateway.chat("b", "/echo awake")
        await gateway.chat("d", "/echo four")
        await gateway.delete("d")
        async with open_stream(gateway.http, "b"), open_stream(gateway.http, "b", view="state"):
            await gateway.get("/api/state", session_id="b")
            now = await scrape(gateway)
        events = 0
        for name in ("a", "b", "c"):
            async with gateway.http.get(f"/api/sessions/{name}/export") as response:
                events += len((await response.text()).splitlines())
        assert (await scrape(gateway)).value("errors_total") == 0
        async with gateway.http.get("/api/sessions/nobody") as response:
            assert response.status == 404
        async with gateway.http.post("/api/chat", json={"message": "/echo hi", "agent": "none"}) as response:
            assert response.status == 422
        after = await scrape(gateway)

    assert now.value("sessions") == 3
    assert now.value("sessions", state="idle", agent="built-in") == 2
    assert now.value("sessions", state="parked", agent="crashes") == 1
    assert (now.value("workers"), now.value("workers", agent="built-in")) == (2, 2)
    assert now.value("worker_memory_bytes", agent="built-in") > 1_000_000
    assert now.value("turns_total", outcome="end_turn") == 5
    assert now.value("turns_total", outcome="exited") == 1
    assert now.value("turn_seconds_count") == 6
    assert now.value("time_to_first_token_seconds_count") == 6
    assert now.value("spawn_seconds_count", agent="built-in") == 3
    assert now.value("spawn_seconds_count", agent="crashes") == 1
    assert now.value("wake_seconds_count", agent="built-in") == 1
    assert now.value("park_seconds_count") == 1
    ends = {labels["reason"]: count for labels, count in now.samples["agent_gateway_worker_ends_total"]}
    assert ends == {"exited": 1, "parked": 1, "closed": 1}
    assert now.value("teardown_seconds_count") == 3
    assert now.value("teardown_survivors_total") == 0
    assert now.value("teardown_processes_total") >= 3
    assert now.value("teardown_bytes_total") > 0
    assert (now.value("stream_readers", view="events"), now.value("stream_readers", view="state")) == (1, 1)
    assert now.value("stream_lag_max_events") <= now.value("events_total")
    assert now.value("events_total") >= events > 30
    assert now.value("http_requests_total", operation="chat", status="2xx") == 6
    assert now.value("http_requests_total", operation="delete_session", status="2xx") == 1
    assert now.value("store_commit_seconds_count") > 6
    assert now.value("turns_running") == now.value("queued_messages") == now.value("draining") == 0
    assert after.value("errors_total", code="session_not_found") == 1
    assert after.value("errors_total", code="unknown_agent") == 1
    assert after.value("http_requests_total", operation="chat", status="4xx") == 1
    assert after.value("stream_readers") == 0
    assert after.value("turns_total") == now.value("turns_total")


async def test_what_runs_and_waits_is_counted_while_it_does(gateway: RunningGateway) -> None:
    session_id = fresh_id("busy")
    before = await scrape(gateway)
    await gateway.send(session_id, "go", agent="chatty")
    for words in ("next", "and next"):
        await gateway.send(session_id, words)
    await row_of(gateway, "running")
    during = await scrape(gateway)
    assert during.value("turns_running") - before.value("turns_running") == 1
    assert during.value("queued_messages") - before.value("queued_messages") == 2
    assert during.value("sessions", state="running", agent="chatty") == 1
    await gateway.delete(session_id)
    after = await scrape(gateway)
    assert after.value("turns_running") == before.value("turns_running")
    assert after.value("turns_total", outcome="closed") == before.value("turns_total", outcome="closed") + 1


async def test_limits_are_counted_by_their_names(tmp_path: pathlib.Path) -> None:
    limits = "[limits]\nmax_sessions = 1\nsession_burst = 2\nsession_requests_per_second = 0.01\n"
    async with gateway_inside(tmp_path, config=limits) as gateway:
        await gateway.send("one", "/echo hi")
        await gateway.post("/api/chat", {"message": "/echo hi", "session_id": "two"}, status=503)
        await gateway.send("one", "/echo hi")
        await gateway.post("/api/chat", {"message": "/echo hi", "session_id": "one"}, status=429)
        now = await scrape(gateway)
        rejected = {labels["limit"]: count for labels, count in now.samples["agent_gateway_rejections_total"]}
        assert rejected == {"max_sessions": 1, "session_requests_per_second": 1}
        assert now.value("errors_total", code="rate_limited") == 1


async def test_model_calls_and_tokens_have_the_names_that_dashboards_know(tmp_path: pathlib.Path) -> None:
    async with fake_model() as model:
        environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "k"}
        config = '[server]\nlog_format = "json"\n[model]\nretries = 0\n'
        async with gateway_inside(tmp_path, environ=environ, config=config) as gateway:
            await gateway.chat("m", "good morning")
            model.behaviour = Behaviour(status=500)
            await gateway.chat("m", "and now?")
            now = await scrape(gateway)
            overview = await gateway.get("/api/admin/overview")
            lines = [
                json.loads(line) for line in gateway.log().splitlines() if '"gateway.agents.broker"' in line
            ]
            key = (await gateway.get("/api/admin/sessions"))["sessions"][0]["key"]
    calls, tokens = "gen_ai_client_operation_duration_seconds_count", "gen_ai_client_token_usage"
    assert now.value(calls, gen_ai_request_model="fake-model", error_type="") == 1
    assert now.value(calls, error_type="model_unavailable") == 1
    assert now.value(f"{tokens}_count", gen_ai_token_type="input") == 1
    used = now.value(f"{tokens}_sum")
    assert used > 0
    assert overview["tokens_per_minute"] == overview["tenants"][0]["tokens_per_minute"] == used
    failed = next(line for line in lines if "model call failed" in line["message"])
    assert (failed["tenant"], failed["session"], "turn" in failed) == ("default", key, True)


@pytest.mark.alone
async def test_a_scrape_of_two_hundred_sessions_holds_up_nobody(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        await asyncio.gather(*(gateway.chat(f"w{n}", "/echo hi") for n in range(150)))
        await asyncio.gather(
            *(gateway.post("/api/sessions", {"session_id": f"p{n}"}, status=201) for n in range(50))
        )
        await gateway.get("/livez")
        answered = 0
        scraping = asyncio.create_task(scrape(gateway))
        while not scraping.done():
            await gateway.get("/livez")
            answered += 1
        assert answered > 3, "others waited for the measuring of the workers"
        found = await scraping
        assert (found.value("sessions"), found.value("workers")) == (200, 150)
        rows = await gateway.get("/api/admin/sessions", limit=50)
        assert (len(rows["sessions"]), rows["total"]) == (50, 200)


# -- nothing is shown --------------------------------------------------------------------------------------


async def test_no_word_no_id_and_no_secret_is_shown_anywhere(tmp_path: pathlib.Path) -> None:
    secret, words, named = "sk-canary-c21f99ab", "canary-words-5e1b", "canary-id-77f0"
    async with fake_model() as model:
        environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": secret}
        config = '[server]\nlog_format = "json"\nlog_level = "debug"\n'
        async with gateway_inside(tmp_path, environ=environ, config=config) as gateway:
            await gateway.chat(named, f"say {words}")
            await gateway.post("/api/system", {"message": words, "session_id": named})
            model.behaviour = Behaviour(status=401, error={"message": f"bad key {secret}"})
            await gateway.chat(named, f"again {words}")
            async with gateway.http.get(f"/api/sessions/{named}/export") as response:
                assert words in await response.text()
            key = (await gateway.get("/api/admin/sessions"))["sessions"][0]["key"]
            await gateway.post(f"/api/admin/sessions/{key}/kill", {})
            shown = {
                "scrape": (await scrape(gateway)).text,
                "overview": json.dumps(await gateway.get("/api/admin/overview")),
                "sessions": json.dumps(await gateway.get("/api/admin/sessions")),
                "ready": json.dumps(await gateway.get("/readyz")),
            }
            await gateway.delete(named)
            shown["audit"] = (gateway.data_path / "audit.jsonl").read_text()
            shown["log"] = gateway.log()
    for place, text in shown.items():
        for canary in (secret, words, named):
            assert canary not in text, f"{canary} in the {place}"
    assert key in shown["audit"], "what was done is told by the internal key"
    assert key not in shown["scrape"], "a scrape tells no sessions apart"


# -- the audit log -----------------------------------------------------------------------------------------


async def test_what_is_done_and_who_is_refused_is_audited(gateway: RunningGateway) -> None:
    session_id = fresh_id("audited")
    await gateway.chat(session_id, "/echo hi")
    key = (await row_of(gateway, "idle"))["key"]
    async with gateway.http.get(f"/api/sessions/{session_id}/export?format=markdown") as response:
        assert response.status == 200
    await gateway.post(f"/api/admin/sessions/{key}/park", {})
    async with gateway.http.delete(
        f"/api/sessions/{session_id}", headers={"X-Request-Id": "mine-1"}
    ) as response:
        assert response.status == 200
    headers = {"Host": "evil.example"}
    async with gateway.http.post("/api/chat", json={"message": "hi"}, headers=headers) as response:
        assert response.status == 403
    found = audited(gateway)
    mine = [
        f"{line['action']} {line['outcome']} {line['subject']}" for line in found if line.get("target") == key
    ]
    assert mine == ["session.exported ok local", "session.parked ok local", "session.deleted ok local"]
    assert [line for line in found if line.get("target") == key][-1]["request_id"] == "mine-1"
    assert (found[-1]["action"], found[-1]["detail"]) == ("request.refused", "forbidden_host")
    assert (gateway.data_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


# -- operators ---------------------------------------------------------------------------------------------


async def test_a_kill_ends_the_turn_with_words_and_the_session_goes_on(gateway: RunningGateway) -> None:
    session_id = fresh_id("killed")
    await gateway.send(session_id, "/count 1000 20")
    key = (await row_of(gateway, "running"))["key"]
    answer = await gateway.post(f"/api/admin/sessions/{key}/kill", {})
    assert answer == {"key": key, "state": "parked", "had_worker": True}
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    assert "An operator ended" in state["messages"][-1]["content"]
    state = await gateway.chat(session_id, "/echo still here")
    assert state["messages"][-1]["content"] == "still here"
    for _ in range(4):
        key = (await row_of(gateway, "idle"))["key"]
        assert (await gateway.post(f"/api/admin/sessions/{key}/kill", {}))["had_worker"]
        assert (await gateway.chat(session_id, "/echo no loop"))["messages"][-1]["content"] == "no loop"


async def test_a_worker_that_starts_or_waits_for_a_person_is_killed_as_well(gateway: RunningGateway) -> None:
    for agent, state in (("slow-start", "starting"), ("asks", "waiting")):
        session_id = fresh_id(agent)
        await gateway.send(session_id, "go", agent=agent)
        key = (await row_of(gateway, state))["key"]
        async with within(10):
            answer = await gateway.post(f"/api/admin/sessions/{key}/kill", {})
        assert (answer["had_worker"], answer["state"]) == (True, "parked")
        shown = await gateway.state(session_id)
        assert not shown["is_processing"]
        assert "An operator ended" in shown["messages"][-1]["content"]


async def test_a_busy_session_is_not_parked_and_an_unknown_one_is_404(gateway: RunningGateway) -> None:
    session_id = fresh_id("parked")
    await gateway.send(session_id, "/count 1000 20")
    key = (await row_of(gateway, "running"))["key"]
    refusal = await gateway.post(f"/api/admin/sessions/{key}/park", {}, status=409)
    assert refusal["error"]["code"] == "session_busy"
    await gateway.post("/api/interrupt", {"session_id": session_id})
    answer = await gateway.post(f"/api/admin/sessions/{key}/park", {})
    assert answer == {"key": key, "state": "parked", "had_worker": True}
    assert not (await gateway.post(f"/api/admin/sessions/{key}/park", {}))["had_worker"]
    for verb in ("park", "kill"):
        for name in ("nobody", session_id, "a%2Fb"):
            async with gateway.http.post(f"/api/admin/sessions/{name}/{verb}") as response:
                assert response.status == 404, "a client's id is no internal key"


async def test_the_overview_adds_up(gateway: RunningGateway) -> None:
    await gateway.chat(fresh_id("seen"), "/echo hi")
    overview = await gateway.get("/api/admin/overview")
    rows = await gateway.get("/api/admin/sessions")
    assert overview["sessions"] == sum(overview["states"].values()) == rows["total"]
    assert overview["workers"] == sum(tenant["workers"] for tenant in overview["tenants"])
    assert overview["worker_memory_bytes"] > 0
    assert overview["turns_per_minute"] > 0
    assert 0 < overview["start_p50_seconds"] <= overview["start_p99_seconds"]
    assert overview["gateway_memory_bytes"] > 10_000_000
    assert set(rows["sessions"][0]) == {
        *("key", "tenant", "agent", "state", "created_at", "last_used_at", "idle_seconds", "memory_bytes"),
        *("cpu_seconds", "messages", "queued", "network", "person"),
    }


# -- readiness ---------------------------------------------------------------------------------------------


async def ready(gateway: RunningGateway) -> tuple[int, dict[str, Any]]:
    async with gateway.http.get("/readyz") as response:
        return response.status, (await response.json())["checks"]


async def test_without_its_fork_server_it_is_not_ready_and_with_a_new_one_it_is(
    tmp_path: pathlib.Path,
) -> None:
    async with running_gateway(tmp_path) as gateway:
        assert (await ready(gateway))[0] == 200
        [server] = psutil.Process(gateway.pid).children()
        server.kill()
        checks: dict[str, Any] = {}

        async def says(status: int) -> bool:
            found, checks["now"] = await ready(gateway)
            return found == status

        await eventually(lambda: says(503))
        unwell = [name for name, check in checks["now"].items() if not check["is_well"]]
        assert unwell == ["forkserver"]
        await eventually(lambda: says(200))
        assert (await gateway.get("/livez"))["status"] == "ok"


async def test_too_little_room_on_the_disk_is_named(tmp_path: pathlib.Path) -> None:
    config = f"[server]\nready_disk_bytes = {2**62}\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        status, checks = await ready(gateway)
        assert (status, checks["disk"]["is_well"], checks["store"]["is_well"]) == (503, False, True)
        assert "ready_disk_bytes" in checks["disk"]["words"]


async def test_a_drain_is_what_sigterm_is(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.send("s", counting(30, 1.5))
        async with open_stream(gateway.http, "s") as stream:
            await stream.until_event("text_delta")
            assert (await gateway.post("/api/admin/drain", {}, status=202))["grace_seconds"] == 30
            await eventually(lambda: _is_unready(gateway))
            await gateway.post("/api/chat", {"message": "more", "session_id": "t"}, status=503)
            assert (await scrape(gateway)).value("draining") == 1
            await stream.to_end()
            assert stream.text.endswith("30"), "the turn had its grace"
        assert await soon(gateway.process.wait(), 20) == 0
        assert audited(gateway)[-1]["action"] == "gateway.drained"


async def _is_unready(gateway: RunningGateway) -> bool:
    status, checks = await ready(gateway)
    return status == 503 and not checks["draining"]["is_well"]


async def test_what_the_last_gateway_left_is_counted(tmp_path: pathlib.Path) -> None:
    left = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    (tmp_path / "data").mkdir()
    orphans.note(tmp_path / "data", left.pid)
    async with running_gateway(tmp_path) as gateway:
        assert (await scrape(gateway)).value("orphans_swept_total") == 1
        assert await soon(left.wait(), 5) == -signal.SIGKILL


async def test_readiness_is_public_and_small(gateway: RunningGateway) -> None:
    async with aiohttp.ClientSession() as stranger, stranger.get(f"{gateway.url}/readyz") as response:
        body = await response.text()
        assert (response.status, len(body) < 500) == (200, True)
