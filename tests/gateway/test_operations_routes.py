"""What the operations page reads and does, through the routes: health, history, sessions, limits, logs."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import pytest
from msgspec import UNSET

from gateway.client import GatewayClient, Refused
from gateway.telemetry.history import STEP_SECONDS
from tests.gateways import RunningGateway
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.shared import SHARED, ask, fresh_id, shared_gateway

pytestmark = SHARED

gateway = shared_gateway(
    """
[auth]
modes = ["keys"]
[tenants.acme]
[tenants.acme.quota]
messages_per_day = 100
cost_per_day = 5.0
[tenants.acme.subject_quota]
messages_per_day = 1
[tenants.beta]
"""
)


async def get(gateway: RunningGateway, key: str, path: str) -> Any:
    async with gateway.caller(key) as caller:
        answer = await ask(caller, "GET", path)
    assert answer.status == 200, answer.body
    return answer.body


async def talk(gateway: RunningGateway, key: str, words: str = "/echo hi") -> int:
    async with gateway.caller(key) as caller:
        body = {"message": words, "session_id": fresh_id()}
        return (await ask(caller, "POST", "/api/chat?wait=240", body)).status


async def test_health_says_what_holds_and_names_the_errors(gateway: RunningGateway) -> None:
    key = await gateway.mint("health", scopes=("operate",))
    async with gateway.caller(key) as caller:
        assert (await ask(caller, "GET", "/api/admin/keys")).status == 403
    health = await get(gateway, key, "/api/admin/health")
    assert set(health["checks"]) == {"store", "disk", "forkserver", "tasks", "draining"}
    assert all(check["is_well"] for check in health["checks"].values())
    assert health["errors"]["forbidden"] >= 1
    assert health["failed_answers"] == 0
    assert health["walls"] in ("strict", "basic", "none")
    assert health["database_bytes"] > 0
    assert health["uptime_seconds"] > 0


async def test_history_is_kept_each_minute_and_outlives_a_restart(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as own:
        await own.chat("a", "/echo hi")
        for _ in range(3):
            own.clock.advance(STEP_SECONDS)
            await own.inner.own.pulse.beat()
        before = await own.get("/api/admin/history")
        ahead = own.clock.wall_ms()
    assert before["lines"]["sessions"] == [1, 1, 1]
    assert len(before["at"]) == 3
    async with gateway_inside(tmp_path, at_ms=ahead) as own:
        await own.inner.own.pulse.beat()
        after = await own.get("/api/admin/history")
    assert after["at"][:3] == before["at"]
    assert after["lines"]["sessions"] == [1, 1, 1, 0]
    assert after["step_seconds"] == STEP_SECONDS


async def critical(gateway: RunningGateway, key: str) -> list[Any]:
    """Alarms that a busy machine does not raise."""
    alarms = (await get(gateway, key, "/api/admin/health"))["alarms"]
    return [one for one in alarms if one["severity"] == "critical"]


async def test_an_alarm_is_raised_with_the_time_since_when_and_ends(gateway: GatewayInside) -> None:
    key = await gateway.mint("alarms", scopes=("operate",))
    metrics = gateway.inner.services.metrics
    free, low = metrics.disk_now
    metrics.disk_seen(low - 1, low)
    first = await critical(gateway, key)
    gateway.clock.advance(3)
    second = await critical(gateway, key)
    assert [one["name"] for one in first] == ["DiskFills"]
    assert first == second, "it is the same alarm, since the same time"
    metrics.disk_seen(free, low)
    assert await critical(gateway, key) == []


async def test_sessions_are_found_by_words_and_filters_and_show_people_to_administrators_alone(
    gateway: RunningGateway,
) -> None:
    for tenant, subject in (("acme", "find-ann"), ("acme", "find-bob"), ("beta", "find-cat")):
        assert await talk(gateway, await gateway.mint(subject, tenant=tenant)) == 200
    admin = await gateway.mint("finds", scopes=("admin",))
    watch = await gateway.mint("watches", scopes=("operate",))
    path = "/api/admin/sessions"
    found = await get(gateway, admin, f"{path}?q=FIND-+acme")
    assert {row["person"] for row in found["sessions"]} == {"find-ann", "find-bob"}
    assert found["total"] == 2
    assert found["agents"] == ["built-in"]
    assert {"acme", "beta"} <= set(found["tenants"])
    assert found["states"]["idle"] >= 3
    assert [
        row["person"] for row in (await get(gateway, admin, f"{path}?q=find-&tenant=beta"))["sessions"]
    ] == ["find-cat"]
    assert (await get(gateway, admin, f"{path}?q=find-&state=parked"))["total"] == 0
    assert (await get(gateway, admin, f"{path}?q=find-&agent=other"))["total"] == 0
    plain = await get(gateway, watch, path)
    assert plain["total"] >= 3
    assert not any("person" in row for row in plain["sessions"])
    assert (await get(gateway, watch, f"{path}?q=find-"))["total"] == 0, "nor are they found by their names"


async def test_an_operator_ends_a_turn_and_its_session_goes_on(gateway: RunningGateway) -> None:
    key = await gateway.mint("ends", tenant="beta")
    admin = await gateway.mint("ends-others", scopes=("admin",))
    async with gateway.caller(key) as caller, gateway.caller(admin) as operator:
        await ask(caller, "POST", "/api/chat", {"message": "/count 1000 20", "session_id": "long"})
        row = (await ask(operator, "GET", "/api/admin/sessions?q=beta+ends")).body["sessions"][0]
        assert row["state"] in ("starting", "running")
        done = await ask(operator, "POST", f"/api/admin/sessions/{row['key']}/end")
        assert done.status == 200
        assert done.body["state"] not in ("running", "interrupting")
        state = (await ask(caller, "GET", "/api/state?session_id=long")).body
        assert not state["is_processing"]
        body = {"message": "/echo again", "session_id": "long"}
        again = (await ask(caller, "POST", "/api/chat?wait=240", body)).body
        assert again["messages"][-1]["content"] == "again"


async def test_people_and_tenants_come_with_their_limits_and_what_is_used(gateway: RunningGateway) -> None:
    key = await gateway.mint("limited", tenant="acme")
    assert [await talk(gateway, key) for _ in range(2)] == [200, 429]
    admin = await gateway.mint("sees-limits", scopes=("admin",))
    people = (await get(gateway, admin, "/api/admin/people?tenant=acme"))["people"]
    limited = next(one for one in people if one["subject"] == "limited")
    assert limited["limits"] == [{"name": "messages_per_day", "used": 1, "allowed": 1}]
    tenants = (await get(gateway, admin, "/api/admin/tenants"))["tenants"]
    limits = {one["name"]: {limit["name"]: limit for limit in one["limits"]} for one in tenants}
    assert limits["beta"] == {}
    assert limits["acme"]["messages_per_day"]["used"] >= 1
    assert limits["acme"]["cost_per_day"] == {"name": "cost_per_day", "used": 0, "allowed": 5.0}


async def test_the_audit_log_is_searched_page_by_page_and_a_tenant_finds_its_own_lines(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.mint("audits", scopes=("admin",))
    mine = await gateway.mint("audits-acme", tenant="acme", scopes=("admin",))
    for name in ("audit-one", "audit-two"):
        async with gateway.caller(mine) as caller:
            assert (
                await ask(caller, "POST", "/api/admin/keys", {"name": name, "tenant": "acme"})
            ).status == 201
    async with gateway.caller(admin) as caller:
        await ask(caller, "POST", "/api/admin/keys", {"name": "audit-three", "tenant": "beta"})
    path = "/api/admin/audit?q=key.made+AUDIT-&outcome=ok"
    page = await get(gateway, admin, f"{path}&limit=2")
    rest = await get(gateway, admin, f"{path}&limit=2&before={page['next']}")
    names = [line["detail"] for line in (*page["lines"], *rest["lines"])]
    assert names[:3] == ["beta/audit-three", "acme/audit-two", "acme/audit-one"]
    theirs = await get(gateway, mine, "/api/admin/audit?limit=500")
    assert {line["tenant"] for line in theirs["lines"]} == {"acme"}
    assert "audit-three" not in json.dumps(theirs)
    async with gateway.caller(admin) as caller:
        for query in ("before=x", "outcome=well", "limit=0"):
            assert (await ask(caller, "GET", f"/api/admin/audit?{query}")).status == 422, query


async def test_the_log_is_for_the_gateways_own_administrators(gateway: RunningGateway) -> None:
    admin = await gateway.mint("logs", scopes=("admin",))
    logging.getLogger("tests.operations").warning("the canary %s", "sings")
    page = await get(gateway, admin, "/api/admin/log?q=canary+sings&level=warning")
    assert [(line["level"], line["message"]) for line in page["lines"]] == [("warning", "the canary sings")]
    assert (await get(gateway, admin, "/api/admin/log?q=canary&level=error"))["lines"] == []
    others = await gateway.mint("logs-acme", tenant="acme", scopes=("admin",))
    async with gateway.caller(others) as caller:
        for path in ("/api/admin/log", "/api/admin/health", "/api/admin/history"):
            assert (await ask(caller, "GET", path)).status == 403, path


async def test_the_typed_client_reads_a_long_answer_event_by_event(tmp_path: pathlib.Path) -> None:
    config = "[limits]\nmessage_bytes = 300_000\n"
    async with gateway_inside(tmp_path, config=config) as own, GatewayClient(own.url) as client:
        long = "א" * 100_000
        await client.chat("s", f"/echo {long}", wait_seconds=30)
        seen: list[dict[str, Any]] = []
        async with within(20):
            async for event in client.events("s"):
                seen.append(event)
                if event["type"] == "turn_ended":
                    break
        assert [event["seq"] for event in seen] == sorted(event["seq"] for event in seen)
        assert any(event.get("content") == f"/echo {long}" for event in seen)
        behind = seen[-2]["seq"]
        async with within(20):
            async for event in client.events("s", after=behind):
                assert event["seq"] > behind
                break


async def test_the_typed_client_finds_sessions_and_files_them(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as own, GatewayClient(own.url) as client:
        for number in range(16):  # more than one answer of a search has
            await client.chat(f"s{number}", f"/echo a kingfisher, number {number}", wait_seconds=30)
        hits = [hit async for hit in client.search("kingfisher")]
        assert {hit.session_id for hit in hits} == {f"s{number}" for number in range(16)}
        first, last = hits[0].marks[0]
        assert hits[0].excerpt[first:last].casefold() == "kingfisher"
        assert [hit async for hit in client.search("kingfisher heron")] == []
        assert (await client.rename("s1", "Birds")).title == "Birds"
        assert "s1" in [hit.session_id async for hit in client.search("birds") if hit.message_id is UNSET]
        await client.label("s1", pinned=True, tags=["river", "blue"])
        filed = await client.label("s1", archived=True)
        assert (filed.pinned, filed.archived, filed.tags) == (True, True, ("river", "blue"))
        assert (await client.label("s1", pinned=False, tags=[])).tags is UNSET
        with pytest.raises(Refused) as refused:
            await client.label("nobody", pinned=True)
        assert (refused.value.status, refused.value.code) == (404, "session_not_found")
