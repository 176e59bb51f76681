"""A session's hosts through its routes: what it may reach, what was refused, and who answers a question."""

from __future__ import annotations

import asyncio
import pathlib
import sys
from typing import Any

import aiohttp
import pytest

from gateway.egress.admission import Admitted, NotAdmitted
from gateway.sessions.session import Session
from tests.gateways import ROOT
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.streams import Frame, StreamReader

pytestmark = SHARED

CONFIG = """
[auth]
modes = ["keys"]
[egress]
hosts = ["packages.example", "localhost:9"]
denied = ["bad.example"]
private_hosts = ["localhost"]
unlisted = "ask"
[tenants.acme]
hosts = ["api.acme.example"]
[tenants.beta]
[agents.coder]
command = "true"
network = "broker"
hosts = ["*.docs.example"]
[agents.open]
command = "true"
network = "shared"
"""
gateway = shared_gateway(CONFIG)


async def made(gateway: GatewayInside, key: str, **body: object) -> str:
    session_id = fresh_id()
    body = {"session_id": session_id, "agent": "coder", **body}
    async with gateway.caller(key) as caller:
        answer = await ask(caller, "POST", "/api/sessions", body)
    assert answer.status == 201, answer.body
    return session_id


async def key_of(
    gateway: GatewayInside, subject: str, *, tenant: str = "acme", scopes: Any = ("chat",)
) -> str:
    return await gateway.mint(subject, tenant=tenant, subject=subject, scopes=scopes)


def session_of(gateway: GatewayInside, owner: str, session_id: str) -> Session:
    session = gateway.inner.manager.get(owner, session_id)
    assert session is not None
    return session


async def egress(gateway: GatewayInside, key: str, session_id: str) -> Any:
    async with gateway.caller(key) as caller:
        answer = await ask(caller, "GET", f"/api/sessions/{session_id}/egress")
        state = await ask(caller, "GET", f"/api/state?session_id={session_id}")
    assert answer.status == 200
    assert state.body["egress"] == answer.body
    return answer.body


async def asked(caller: aiohttp.ClientSession, session_id: str, host: str) -> str:
    """The id of the question about a host, as soon as its person can see it."""

    def asks(frame: Frame) -> bool:
        return any(one["host"] == host for one in _questions(frame))

    async with caller.get(f"/api/chat/stream?view=events&session_id={session_id}") as response:
        frame = await StreamReader(response).until(asks)
    return next(str(one["ask_id"]) for one in _questions(frame) if one["host"] == host)


def _questions(frame: Frame) -> list[Any]:
    if frame.event == "egress_asked":
        return [frame.data]
    return list(frame.data["chat"].get("egress", {}).get("asked", [])) if frame.event == "resync" else []


async def test_the_lists_of_operator_agent_and_tenant_are_shown(gateway: GatewayInside) -> None:
    key = await key_of(gateway, "ann")
    shown = await egress(gateway, key, await made(gateway, key))
    assert shown["mode"] == "broker"
    assert shown["hosts"] == ["packages.example", "localhost:9", "*.docs.example", "api.acme.example"]
    assert (shown["denied"], shown["asked"]) == ([], [])
    other = await egress(gateway, key, await made(gateway, key, agent="open"))
    assert (other["mode"], other["hosts"]) == ("shared", [])


async def test_a_session_narrows_its_lists_when_it_is_made_and_never_widens_them(
    gateway: GatewayInside,
) -> None:
    key = await key_of(gateway, "ann")
    wanted = {"hosts": ["Packages.example:443", "a.docs.example"]}
    session_id = await made(gateway, key, egress=wanted)
    assert (await egress(gateway, key, session_id))["hosts"] == ["packages.example:443", "a.docs.example"]
    admission = session_of(gateway, "acme/ann", session_id).admission
    refused = await admission.admit("api.acme.example", 443)
    assert isinstance(refused, NotAdmitted)
    assert (await egress(gateway, key, await made(gateway, key, egress={"hosts": []})))["hosts"] == []
    async with gateway.caller(key) as caller:
        for body, code in (
            ({"agent": "coder", "egress": {"hosts": ["evil.example"]}}, "egress_not_narrower"),
            ({"agent": "coder", "egress": {"hosts": ["packages.example:22"]}}, "egress_not_narrower"),
            ({"agent": "coder", "egress": {"hosts": ["*.example"]}}, "invalid_field"),
            ({"agent": "coder", "egress": {"hosts": ["10.0.0.1"]}}, "invalid_field"),
            ({"agent": "coder", "egress": {"hosts": ["packages.example"] * 201}}, "invalid_field"),
            ({"agent": "open", "egress": {"hosts": []}}, "egress_not_narrower"),
        ):
            answer = await ask(caller, "POST", "/api/sessions", {"session_id": (lost := fresh_id())} | body)
            assert (answer.status, answer.code) == (422, code)
            assert (await ask(caller, "GET", f"/api/sessions/{lost}")).status == 404, "nothing was made"


async def test_a_refusal_is_seen_by_its_person_and_by_operators_of_the_tenant(gateway: GatewayInside) -> None:
    key = await key_of(gateway, "ann")
    session_id = await made(gateway, key)
    session = session_of(gateway, "acme/ann", session_id)
    for _ in range(3):
        assert isinstance(await session.admission.admit("bad.example", 443), NotAdmitted)
    session.admission.end()
    denied = (await egress(gateway, key, session_id))["denied"]
    assert [(one["host"], one["port"], one["why"], one["count"]) for one in denied] == [
        ("bad.example", 443, "denied", 3)
    ]
    for tenant, is_shown in (("acme", True), ("beta", False), ("default", True)):
        operator = await key_of(gateway, f"op-{tenant}", tenant=tenant, scopes=("operate",))
        async with gateway.caller(operator) as caller:
            rows = (await ask(caller, "GET", "/api/admin/egress")).body["hosts"]
        assert any(row["host"] == "bad.example" and row["agent"] == "coder" for row in rows) == is_shown


async def test_a_person_allows_a_host_for_the_session_and_no_one_else_does(gateway: GatewayInside) -> None:
    key, stranger = await key_of(gateway, "ann"), await key_of(gateway, "bob")
    session_id = await made(gateway, key)
    session = session_of(gateway, "acme/ann", session_id)
    waiting = asyncio.create_task(session.admission.admit("localhost.example", 443))
    async with gateway.caller(key) as caller:
        ask_id = await asked(caller, session_id, "localhost.example")
    path = f"/api/sessions/{session_id}/egress/{ask_id}"
    async with gateway.caller(stranger) as caller:
        assert (await ask(caller, "POST", path, {"answer": "session"})).status == 404
    async with gateway.caller(key) as caller:
        assert (await ask(caller, "POST", path, {"answer": "always"})).status == 403
        assert (await ask(caller, "POST", path, {"answer": "perhaps"})).status == 422
        answer = await ask(caller, "POST", path, {"answer": "deny"})
        assert (answer.status, answer.body["asked"]) == (200, [])
        again = await ask(caller, "POST", path, {"answer": "session"})
        assert (again.status, again.code) == (409, "egress_not_asked")
    refused = await waiting
    assert isinstance(refused, NotAdmitted)
    assert refused.why == "denied"
    assert "egress.answered" in (gateway.data_path / "audit.jsonl").read_text()


async def test_only_an_operator_allows_a_host_for_good(gateway: GatewayInside) -> None:
    key = await key_of(gateway, "olga", tenant="beta", scopes=("chat", "operate"))
    session_id = await made(gateway, key)
    session = session_of(gateway, "beta/olga", session_id)
    waiting = asyncio.create_task(session.admission.admit("always.example", 8443))
    async with gateway.caller(key) as caller:
        ask_id = await asked(caller, session_id, "always.example")
    async with gateway.caller(key) as caller:
        answer = await ask(
            caller, "POST", f"/api/sessions/{session_id}/egress/{ask_id}", {"answer": "always"}
        )
    assert answer.status == 200
    assert "always.example:8443" in answer.body["hosts"]
    await waiting
    shown = await egress(gateway, key, await made(gateway, key))
    assert "always.example:8443" in shown["hosts"]
    place = ("--config", str(gateway.log_path.with_name("config.toml")), "--data-dir", str(gateway.data_path))
    taken_back = ("egress", "rm", "--agent", "coder", "--tenant", "beta", "always.example:8443")
    command = (sys.executable, "-m", "gateway", *taken_back, *place)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await process.wait() == 0
    assert "always.example:8443" not in (await egress(gateway, key, session_id))["hosts"]


async def test_a_guest_with_a_link_sees_the_conversation_and_not_the_lists(gateway: GatewayInside) -> None:
    key = await key_of(gateway, "ann")
    session_id = await made(gateway, key)
    async with gateway.caller(key) as caller:
        share = (await ask(caller, "POST", f"/api/sessions/{session_id}/shares", {})).body
    async with gateway.caller() as guest:
        shared = await ask(guest, "GET", f"/api/shared/{share['token']}")
    assert shared.status == 200
    assert shared.body["egress"] is None


RELOADED = """
[egress]
hosts = ["localhost:9"]
private_hosts = ["localhost"]
unlisted = "ask"
[agents.coder]
command = "true"
network = "broker"
"""


@pytest.mark.asyncio(loop_scope="function")
async def test_what_was_decided_outlives_the_gateway_and_a_reload_takes_hosts_away(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config=RELOADED) as gateway:
        body = {"session_id": "s1", "agent": "coder", "egress": {"hosts": ["localhost:9"]}}
        assert (await ask(gateway.http, "POST", "/api/sessions", body)).status == 201
        await ask(gateway.http, "POST", "/api/sessions", {"session_id": "s2", "agent": "coder"})
        session = session_of(gateway, "default/local", "s2")
        lost = asyncio.create_task(session.admission.admit("lost.example", 443))
        waiting = asyncio.create_task(session.admission.admit("kept.invalid", 443))
        path = f"/api/sessions/s2/egress/{await asked(gateway.http, 's2', 'kept.invalid')}"
        assert (await ask(gateway.http, "POST", path, {"answer": "session"})).status == 200
        found = await waiting
        assert isinstance(found, NotAdmitted)
        assert found.why == "unknown", "it was looked up, and leads nowhere"
    assert isinstance(await lost, NotAdmitted)
    async with gateway_inside(tmp_path, config=RELOADED) as gateway:
        assert (await ask(gateway.http, "GET", "/api/sessions/s1/egress")).body["hosts"] == ["localhost:9"]
        await ask(gateway.http, "POST", "/api/sessions/s1/queue", {"action": "drop"})
        admission = session_of(gateway, "default/local", "s1").admission
        assert isinstance(await admission.admit("localhost", 9), Admitted)
        await ask(gateway.http, "POST", "/api/sessions/s2/queue", {"action": "drop"})
        other = session_of(gateway, "default/local", "s2")
        assert other.fold.egress.asked == {}
        found = await other.admission.admit("kept.invalid", 443)
        assert isinstance(found, NotAdmitted)
        assert found.why == "unknown"
        heard: list[bool] = []
        admission.on_changed(lambda: heard.append(admission.may_go_on("localhost", 9)))
        (tmp_path / "config.toml").write_text(RELOADED.replace("localhost:9", "elsewhere.example"))
        gateway.inner.reload()
        assert heard[0] is False
        assert isinstance(await admission.admit("localhost", 9), NotAdmitted)
