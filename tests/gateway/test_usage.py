"""What was used, as its owner, an operator and the command line are told."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gateway.answers import UsageReport
from gateway.events.facts import iso
from gateway.models.meter import CallUsage, ModelCall
from gateway.principal import Account
from tests.inside import GatewayInside, gateway_inside
from tests.integration.test_command_line import typed
from tests.shared import SHARED, Answer, ask, eventually
from tests.stored import IN_A_FILE

pytestmark = SHARED
CONFIG = """
[auth]
modes = ["keys"]
[sessions]
park_after_seconds = 0.3
[tenants.acme]
[model.prices.m]
input = 1.0
output = 2.0
"""


class World(msgspec.Struct, frozen=True):
    """A gateway in which two people of two tenants have used models."""

    gateway: GatewayInside
    alice: str
    eve: str
    operator: str
    tenants_operator: str
    alices_session: str

    async def ask(self, key: str, path: str) -> Answer:
        async with self.gateway.caller(key) as caller:
            return await ask(caller, "GET", path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: Any) -> AsyncIterator[World]:
    async with gateway_inside(tmp_path_factory.mktemp("gateway"), config=CONFIG) as gateway:
        alice = await gateway.mint("alice", tenant="acme", subject="alice")
        eve = await gateway.mint("eve", tenant="default", subject="=eve")
        operator = await gateway.mint("op", tenant="default", subject="op", scopes=["operate"])
        tenants = await gateway.mint("acme-op", tenant="acme", subject="acme-op", scopes=["operate"])
        async with gateway.caller(alice) as caller:
            body = {"session_id": "mine", "message": "/echo x"}
            assert (await ask(caller, "POST", "/api/chat?wait=240", body)).status == 200
        [session] = gateway.inner.manager.sessions()
        ledger = gateway.inner.ledger
        for owner, key in (("acme/alice", session.record.key), ("default/=eve", "k2")):
            for name in ("m", "=unpriced()"):
                call = ModelCall(
                    id=f"{owner}{name}", account=Account(owner, key, agent="built-in"), provider="default",
                    model=name, dialect="chat",
                )  # fmt: skip
                ledger.reserve(call).settle(CallUsage(input=1_000, output=500), status=200)

        async def is_parked() -> bool:
            return session.running is None

        await eventually(is_parked)
        yield World(gateway, alice, eve, operator, tenants, session.record.key)


async def test_people_see_what_their_own_sessions_used_by_their_own_ids(world: World) -> None:
    async def is_complete() -> bool:
        report = (await world.ask(world.alice, "/api/usage")).body
        return bool(report["total"]["wall_seconds"] > 0 and report["total"]["calls"] == 2)

    await eventually(is_complete)
    report = (await world.ask(world.alice, "/api/usage?by=session,model,day")).body
    today = iso(world.gateway.clock.wall_ms())[:10]
    assert report["by"] == ["day", "session", "model"]
    assert {tuple(row["names"].values()) for row in report["rows"]} == {
        (today, "mine", "m"),
        (today, "mine", "=unpriced()"),
        (today, "mine", ""),
    }
    total = report["total"]
    assert (total["calls"], total["tokens"], total["cost_usd"]) == (2, 3_000, 0.002)
    assert (total["unpriced_calls"], total["estimated_calls"]) == (1, 0)
    assert total["stored_bytes"] > 0
    assert total["wall_seconds"] > 0
    assert report["to_day"] == today
    assert world.alices_session not in str(report)


async def test_people_do_not_see_others(world: World) -> None:
    assert (await world.ask(world.alice, "/api/admin/usage")).status == 403
    refused = await world.ask(world.alice, "/api/usage?by=person")
    assert (refused.status, refused.body["error"]["code"]) == (422, "invalid_field")


async def test_an_operator_sees_everybody_and_one_of_a_tenant_its_tenant(world: World) -> None:
    people = (await world.ask(world.operator, "/api/admin/usage?by=tenant,person")).body["rows"]
    assert {row["names"]["person"] for row in people} >= {"acme/alice", "default/=eve"}
    people = (await world.ask(world.operator, "/api/admin/usage?by=person&tenant=acme")).body["rows"]
    assert {row["names"]["person"] for row in people} == {"acme/alice"}
    people = (await world.ask(world.tenants_operator, "/api/admin/usage?by=person")).body["rows"]
    assert {row["names"]["person"] for row in people} == {"acme/alice"}
    other = "/api/admin/usage?by=person&tenant=default"
    assert (await world.ask(world.tenants_operator, other)).status == 403


async def test_days_and_rows_are_bounded(world: World) -> None:
    async def report(words: str) -> Any:
        return (await world.ask(world.operator, f"/api/admin/usage?{words}")).body

    assert (await report("from=2020-01-01&to=2020-12-31"))["rows"] == []
    assert (await report("from=0001-01-01&to=9999-12-31"))["total"]["calls"] == 4
    first = await report("by=model&limit=1")
    assert (len(first["rows"]), first["has_more"]) == (1, True)
    for words in (
        "by=",
        "by=day,nonsense",
        "by=day,day",
        "from=x",
        "from=2026-02-01&to=2026-01-01",
        "format=x",
    ):
        status = (await world.ask(world.operator, f"/api/admin/usage?{words}")).status
        assert status == (200 if words == "by=" else 422), words


async def test_a_table_is_read_by_table_calculations_and_runs_nothing_in_them(world: World) -> None:
    async with world.gateway.caller(world.operator) as caller:
        answer = await caller.get("/api/admin/usage?by=person,model&format=csv")
        assert answer.headers["Content-Type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert {row["model"] for row in rows} >= {"m", "'=unpriced()"}
    assert sum(int(row["calls"]) for row in rows) == 4


@pytest.mark.parametrize("form", ["table", "csv", "json"])
async def test_the_command_line_says_it(world: World, form: str) -> None:
    data = str(world.gateway.data_path)
    code, out, err = await typed(
        "usage", "--by", "model", "--tenant", "acme", "--format", form, "--data-dir", data
    )
    assert code == 0, err
    assert "unpriced()" in out
    if form == "table":
        assert "0.0020 USD" in out
        assert "1 calls are of models without a price" in err
    elif form == "json":
        assert msgspec.json.decode(out, type=UsageReport).total.calls == 2


async def test_the_command_line_says_what_is_wrong(world: World) -> None:
    code, out, err = await typed("usage", "--by", "colour", "--data-dir", str(world.gateway.data_path))
    assert (code, out) == (1, "")
    assert "by is one or more of day, tenant, person" in err


@IN_A_FILE
async def test_it_is_there_after_a_backup_and_a_restore(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        call = ModelCall(
            id="a", account=Account("default/local", "k"), provider="p", model="m", dialect="chat"
        )
        gateway.inner.ledger.reserve(call).settle(CallUsage(input=7), status=200)
        await gateway.chat("a", "/echo x")
        data, file = str(gateway.data_path), str(tmp_path / "b.tar")
        assert (await typed("backup", file, "--data-dir", data))[0] == 0
    assert (await typed("restore", "--replace", file, "--data-dir", data))[0] == 0
    code, out, err = await typed("usage", "--format", "json", "--data-dir", data)
    assert code == 0, err
    assert msgspec.json.decode(out, type=UsageReport).total.tokens == 7


async def test_a_person_is_forgotten_and_the_sums_stay(tmp_path: pathlib.Path) -> None:
    config = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n'
    async with gateway_inside(tmp_path, config=config) as gateway:
        admin = await gateway.mint("admin", tenant="acme", subject="admin", scopes=["admin"])
        for owner in ("acme/alice", "default/bob"):
            call = ModelCall(id=owner, account=Account(owner, "k"), provider="p", model="m", dialect="chat")
            gateway.inner.ledger.reserve(call).settle(CallUsage(input=7), status=200)
        await gateway.inner.ledger.close()
        async with gateway.caller(admin) as caller:
            path = "/api/admin/usage/forget"
            assert (await ask(caller, "POST", path, {"owner": "default/bob"})).status == 403
            assert (await ask(caller, "POST", path, {"owner": "acme/alice"})).body == {"was_known": True}
            rows = (await ask(caller, "GET", "/api/admin/usage?by=person")).body["rows"]
        assert [(row["names"]["person"], row["tokens"]) for row in rows] == [("acme/~erased", 7)]
        data = str(gateway.data_path)
        code, out, _ = await typed("usage", "--forget", "default/bob", "--data-dir", data)
        assert (code, out) == (0, "default/bob is forgotten\n")
