"""Who may watch: a scraper's key, operators of the machine, and nobody else; tenants are told apart by name
only, and quotas are counted.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from gateway.client import Refused
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.scrapes import parsed
from tests.shared import SHARED, ask, fresh_id, shared_gateway

pytestmark = SHARED

gateway = shared_gateway(
    """
[auth]
modes = ["keys"]
[tenants.acme]
[tenants.beta]
[tenants.beta.quota]
sessions_stored = 1
"""
)
WATCHING = (
    ("GET", "/metrics"),
    ("GET", "/api/admin/overview"),
    ("GET", "/api/admin/sessions"),
    ("POST", "/api/admin/sessions/nobody/park"),
    ("POST", "/api/admin/sessions/nobody/kill"),
    ("POST", "/api/admin/drain"),
)


def audited(gateway: RunningGateway) -> list[Any]:
    return [json.loads(line) for line in (gateway.data_path / "audit.jsonl").read_text().splitlines()]


async def test_without_the_scope_nobody_watches_or_ends_anything_and_it_is_noted(
    gateway: RunningGateway,
) -> None:
    key = await gateway.mint("talks", tenant="acme", subject="ann", scopes=("chat",))
    async with gateway.caller(key) as caller, gateway.caller() as stranger:
        for method, path in WATCHING:
            assert (await ask(stranger, method, path)).status == 401
            assert (await ask(caller, method, path)).status == 403
    noted = audited(gateway)[-2 * len(WATCHING) :]
    assert [line["detail"] for line in noted] == ["unauthorized", "forbidden"] * len(WATCHING)
    assert all((line["tenant"], line["subject"]) == ("acme", "ann") for line in noted[1::2])
    assert all(line["key_id"] == key.split("_")[1] for line in noted[1::2]), "by which key"
    assert all("tenant" not in line for line in noted[::2])
    assert key not in json.dumps(noted)
    for path in ("/livez", "/readyz", "/health"):
        assert (await ask(gateway.http, "GET", path)).status == 200


async def test_a_scrapers_key_scrapes_and_sees_every_tenant_but_no_content(gateway: RunningGateway) -> None:
    talk = {name: await gateway.mint(name, tenant=name, scopes=("chat",)) for name in ("acme", "beta")}
    for name, key in talk.items():
        async with gateway.caller(key) as caller:
            body = {"message": f"/echo canary-{name}", "session_id": fresh_id("canary-id")}
            assert (await ask(caller, "POST", "/api/chat?wait=240", body)).status == 200
            if name == "beta":
                refusal = await ask(caller, "POST", "/api/sessions", {})
                assert (refusal.status, refusal.code) == (429, "quota_exceeded")
    watch = await gateway.mint("prometheus", scopes=("operate",))
    async with gateway.caller(watch) as scraper:
        scraped = parsed((await ask(scraper, "GET", "/metrics")).body)
        rows = (await ask(scraper, "GET", "/api/admin/sessions")).body["sessions"]
        overview = (await ask(scraper, "GET", "/api/admin/overview")).body
        assert (await ask(scraper, "POST", "/api/chat", {"message": "hi"})).status == 403
        acme = next(row for row in rows if row["tenant"] == "acme")
        killed = await ask(scraper, "POST", f"/api/admin/sessions/{acme['key']}/kill")
    assert scraped.value("sessions") == len(rows)
    assert scraped.value("rejections_total", limit="sessions_stored") == 1
    assert "acme" not in scraped.text
    assert {row["tenant"] for row in rows} == {"acme", "beta"}
    told = {tenant["tenant"]: tenant["sessions"] for tenant in overview["tenants"]}
    assert told == {name: sum(row["tenant"] == name for row in rows) for name in ("acme", "beta")}
    assert "canary" not in json.dumps([rows, overview])
    assert killed.body["had_worker"]
    last = audited(gateway)[-1]
    assert (last["action"], last["target"], last["tenant"]) == ("session.killed", acme["key"], "default")


async def test_operators_of_a_tenant_reach_that_alone(tmp_path: pathlib.Path) -> None:
    config = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n[tenants.beta]\n'
    async with gateway_inside(tmp_path, config=config) as own:
        await _of_a_tenant(own)


async def _of_a_tenant(gateway: RunningGateway) -> None:
    talk = {name: await gateway.mint(f"{name}-talks", tenant=name) for name in ("acme", "beta")}
    for key in talk.values():
        async with gateway.caller(key) as caller:
            await ask(caller, "POST", "/api/chat?wait=240", {"message": "/echo x", "session_id": "mine"})
    async with gateway.operator() as operator:
        everybodys = (await operator.watched_sessions(limit=100)).sessions
    watch = await gateway.mint("watches", tenant="acme", scopes=("operate",))
    async with gateway.caller(watch) as caller:
        rows = (await ask(caller, "GET", "/api/admin/sessions")).body["sessions"]
        assert {row["tenant"] for row in rows} == {"acme"}
        count = (await ask(caller, "GET", "/api/sessions/count")).status
        assert count == 403
        for row in everybodys:
            for act in ("park", "kill"):
                answer = await ask(caller, "POST", f"/api/admin/sessions/{row.key}/{act}")
                assert answer.status in ((200, 409) if row.tenant == "acme" else (404,))
        for method, path in (
            ("GET", "/metrics"),
            ("GET", "/api/admin/overview"),
            ("POST", "/api/admin/drain"),
        ):
            assert (await ask(caller, method, path)).status == 403, path
    async with gateway.caller(talk["acme"]) as caller:
        own = len((await ask(caller, "GET", "/api/sessions")).body["sessions"])
        assert (await ask(caller, "GET", "/api/sessions/count")).body["active_sessions"] == own


async def test_content_is_read_only_where_its_tenant_grants_it_and_either_way_it_is_noted(
    tmp_path: pathlib.Path,
) -> None:
    config = '[auth]\nmodes = ["keys"]\n[tenants.shy]\n[tenants.frank]\noperators_see_content = true\n'
    async with gateway_inside(tmp_path, config=config) as own:
        for name in ("shy", "frank"):
            async with own.caller(await own.mint(name, tenant=name)) as caller:
                await ask(caller, "POST", "/api/chat?wait=240", {"message": f"/echo canary-{name}"})
        watch = await own.mint("watch", scopes=("operate",))
        async with own.caller(watch) as caller:
            rows = (await ask(caller, "GET", "/api/admin/sessions")).body["sessions"]
            answers = {
                row["tenant"]: await ask(caller, "GET", f"/api/admin/sessions/{row['key']}/state")
                for row in rows
            }
        assert answers["shy"].status == 403
        assert "canary" not in str(answers["shy"].body)
        assert answers["frank"].body["messages"][-1]["content"] == "canary-frank"
        read = [line for line in audited(own) if line["action"] == "session.read"]
        assert sorted(line["outcome"] for line in read) == ["ok", "refused"]
        assert "canary" not in str(read)


async def test_what_is_done_with_credentials_is_noted_without_secrets(tmp_path: pathlib.Path) -> None:
    config = '[auth]\nmodes = ["keys", "anonymous"]\n[tenants.acme]\n'
    async with gateway_inside(tmp_path, config=config) as own:
        key = await own.mint("ann", tenant="acme")
        async with own.caller(Origin=own.url) as browser:
            await ask(browser, "POST", "/api/sessions", {"session_id": "client-id-canary"})
            share = (await ask(browser, "POST", "/api/sessions/client-id-canary/shares", {})).body
            await ask(browser, "DELETE", f"/api/sessions/client-id-canary/shares/{share['share_id']}")
            await ask(browser, "POST", "/api/auth/sign-in", {"key": key})
            await ask(browser, "POST", "/api/auth/sign-out", {})
        async with own.operator() as operator:
            minted = (await operator.keys())[0]
            await operator.rotate_key(minted.id, overlap_hours=1)
            await operator.revoke_key(minted.id)
            await operator.reload()
            (tmp_path / "config.toml").write_text("nonsense = 1\n")
            with pytest.raises(Refused):
                await operator.reload()
        lines = audited(own)
        assert [line["action"] for line in lines] == [
            *("key.made", "share.made", "share.revoked", "signed_in", "signed_out"),
            *("key.rotated", "key.revoked", "config.reloaded", "config.reloaded"),
        ]
        assert [line["outcome"] for line in lines[-2:]] == ["ok", "refused"]
        text = json.dumps(lines)
        assert key[-30:] not in text
        assert share["token"][-30:] not in text
        assert "client-id-canary" not in text


async def test_the_operator_at_the_machine_watches_with_the_typed_client(gateway: RunningGateway) -> None:
    key = await gateway.mint("parks", tenant="acme", subject="bob", scopes=("chat",))
    async with gateway.caller(key) as caller:
        body = {"message": "/echo hi", "session_id": fresh_id()}
        assert (await ask(caller, "POST", "/api/chat?wait=240", body)).status == 200
    async with gateway.operator() as operator:
        row = (await operator.watched_sessions(limit=1)).sessions[0]
        assert (row.tenant, row.state) == ("acme", "idle")
        assert (await operator.park(row.key)).had_worker
        assert not (await operator.kill(row.key)).had_worker
        assert (await operator.overview()).states["parked"] >= 1
