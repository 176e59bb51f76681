"""API keys, tenants, ownership: who gets in, and to what."""

from __future__ import annotations

import pathlib

import aiohttp
import pytest

from gateway.client import Refused
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.shared import SHARED, ask, forged, fresh_id, shared_gateway
from tests.streams import open_stream

pytestmark = SHARED

CONFIG = """
[auth]
modes = ["keys"]
[tenants.acme]
[tenants.beta]
[tenants.closed]
is_disabled = true
"""
gateway = shared_gateway(CONFIG)


async def code_of(response: aiohttp.ClientResponse) -> str:
    return str((await response.json())["error"]["code"])


async def test_without_a_key_nobody_gets_in_and_is_told_how(gateway: RunningGateway) -> None:
    async with gateway.http.get("/api/sessions") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "Bearer" in (await response.json())["error"]["message"]
    async with gateway.http.get("/health") as response:
        assert response.status == 200
    async with gateway.http.get("/api/auth") as response:
        assert await response.json() == {
            "modes": ["keys"],
            "sign_in": ["key"],
            "me": None,
            "shared_links": 0,
            "applications": ["shop", "product_chat", "shopping_assistant"],
        }


@pytest.mark.parametrize(
    "given",
    [
        "Bearer agw_aaaaaaaaaaaa_" + "a" * 43,
        "Bearer agw_",
        "Bearer agw_é",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer agv_abc",
        "Basic YTpi",
        "Bearer",
        "agw_aaaaaaaaaaaa_" + "a" * 43,
    ],
)
async def test_malformed_and_unknown_keys_are_401(gateway: RunningGateway, given: str) -> None:
    async with gateway.http.get("/api/sessions", headers={"Authorization": given}) as response:
        assert response.status == 401
        assert given.removeprefix("Bearer ")[:12] not in (await response.text()).replace("Bearer", "")


async def test_a_key_is_a_person_with_sessions_of_its_own(gateway: RunningGateway) -> None:
    alice, bob = await gateway.mint("alice", tenant="acme"), await gateway.mint("bob", tenant="acme")
    name = fresh_id()
    async with gateway.caller(alice) as a, gateway.caller(bob) as b:
        for caller, word in ((a, "apple"), (b, "banana")):
            async with caller.post(
                "/api/chat?wait=240", json={"session_id": name, "message": f"/echo {word}"}
            ) as answer:
                assert answer.status == 200
                assert [m["content"] for m in (await answer.json())["messages"]] == [f"/echo {word}", word]
        async with a.get("/api/sessions") as answer:
            assert [found["session_id"] for found in (await answer.json())["sessions"]] == [name]
        async with a.get("/api/me") as answer:
            me = await answer.json()
            assert (me["tenant"], me["subject"], me["kind"]) == ("acme", "alice", "key")
            assert me["scopes"] == ["chat", "read"]


async def test_two_keys_of_one_subject_share_its_sessions(gateway: RunningGateway) -> None:
    first = await gateway.mint("laptop", tenant="acme", subject="carol")
    second = await gateway.mint("phone", tenant="acme", subject="carol")
    same_name = await gateway.mint("laptop", tenant="beta", subject="carol")
    name = fresh_id()
    async with gateway.caller(first) as caller:
        await ask(caller, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo hi"})
    for key, count in ((second, 2), (same_name, 0)):
        async with gateway.caller(key) as caller, caller.get(f"/api/state?session_id={name}") as answer:
            assert len((await answer.json())["messages"]) == count


async def test_a_key_that_may_read_may_not_chat(gateway: RunningGateway) -> None:
    key = await gateway.mint("reader", tenant="acme", scopes=("read",))
    async with gateway.caller(key) as caller:
        async with caller.get("/api/sessions") as answer:
            assert answer.status == 200
        async with caller.post("/api/chat", json={"message": "hi"}) as answer:
            assert answer.status == 403
            assert "scope chat" in (await answer.json())["error"]["message"]


async def test_a_revoked_key_ends_at_once(gateway: RunningGateway) -> None:
    key = await gateway.mint("short", tenant="acme")
    async with gateway.caller(key) as caller:
        async with caller.get("/api/sessions") as answer:
            assert answer.status == 200
        async with gateway.operator() as operator:
            known = next(found for found in await operator.keys() if found.name == "short")
            assert known.last_used_at is not None
            assert (await operator.revoke_key(known.id)).state == "revoked"
        async with caller.get("/api/sessions") as answer:
            assert (answer.status, await code_of(answer)) == (401, "unauthorized")


async def test_an_open_stream_ends_with_its_key_and_shows_nothing_more(gateway: RunningGateway) -> None:
    reader = await gateway.mint("listens", tenant="acme", subject="eve")
    writer = await gateway.mint("talks", tenant="acme", subject="eve")
    name = fresh_id()
    async with gateway.caller(reader) as listening, gateway.caller(writer) as talking:
        said = {"session_id": name, "message": "/echo before"}
        await ask(talking, "POST", "/api/chat?wait=240", said)
        for view in ("events", "state"):
            async with open_stream(listening, name, view=view) as stream:
                await stream.until(lambda frame: "before" in str(frame.data))
                if view == "events":
                    continue
                async with gateway.operator() as operator:
                    await operator.revoke_key(reader.split("_")[1])
                await ask(talking, "POST", "/api/chat?wait=240", said | {"message": "/echo AFTERWARDS"})
                assert "AFTERWARDS" not in str(await stream.to_end())


async def test_a_rotated_key_overlaps(gateway: RunningGateway) -> None:
    old = await gateway.mint("turning", tenant="acme")
    async with gateway.operator() as operator:
        known = next(found for found in await operator.keys() if found.name == "turning")
        new = await operator.rotate_key(known.id, overlap_hours=1)
        assert (new.summary.subject, new.summary.scopes) == ("turning", ("chat",))
    for key in (old, new.key):
        async with gateway.caller(key) as caller, caller.get("/api/me") as answer:
            assert (await answer.json())["subject"] == "turning"


async def test_a_key_of_a_disabled_or_unknown_tenant_is_403(gateway: RunningGateway) -> None:
    key = await gateway.mint("late", tenant="closed")
    async with gateway.caller(key) as caller, caller.get("/api/sessions") as answer:
        assert (answer.status, await code_of(answer)) == (403, "tenant_disabled")
    async with gateway.operator() as operator:
        with pytest.raises(Refused, match="There is no tenant 'nowhere'; there are: default, acme"):
            await operator.mint_key("x", tenant="nowhere")


async def test_an_administrator_of_a_tenant_reaches_only_that(gateway: RunningGateway) -> None:
    admin = await gateway.mint("boss", tenant="acme", scopes=("admin",))
    foreign = await gateway.mint("stranger", tenant="beta")
    async with gateway.caller(admin) as caller:
        async with caller.get("/api/admin/keys") as answer:
            assert {key["tenant"] for key in (await answer.json())["keys"]} == {"acme"}
        async with caller.post("/api/admin/keys", json={"name": "x", "tenant": "beta"}) as answer:
            assert answer.status == 403
        async with caller.post("/api/admin/keys", json={"name": "x", "tenant": "acme"}) as answer:
            assert answer.status == 201
        async with caller.delete(f"/api/admin/keys/{foreign.split('_')[1]}") as answer:
            assert (answer.status, await code_of(answer)) == (404, "key_not_found")
        async with caller.get("/api/admin/tenants") as answer:
            assert [tenant["name"] for tenant in (await answer.json())["tenants"]] == ["acme"]
        async with caller.post("/api/admin/reload", json={}) as answer:
            assert answer.status == 403


async def test_operators_keys_are_made_by_operators(gateway: RunningGateway) -> None:
    operator = await gateway.mint("watch", scopes=("operate",))
    async with gateway.caller(operator) as caller:
        async with caller.get("/api/admin/tenants") as answer:
            assert answer.status == 200
        async with caller.post("/api/admin/keys", json={"name": "x"}) as answer:
            assert answer.status == 403
        async with caller.get("/api/sessions") as answer:
            assert answer.status == 403


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "days": 0},
        {"name": "x", "days": -1},
        {"name": "x", "subject": "~visitor"},
        {"name": "x", "tenant": "../default"},
        {"name": 5},
    ],
)
async def test_keys_that_cannot_be_are_422(gateway: RunningGateway, body: dict[str, object]) -> None:
    admin = await gateway.mint("root", scopes=("admin",))
    async with gateway.caller(admin) as caller, caller.post("/api/admin/keys", json=body) as answer:
        assert answer.status == 422, await answer.text()


async def test_an_idempotency_key_of_somebody_else_is_just_a_key(gateway: RunningGateway) -> None:
    keys = [await gateway.mint(f"idem-{number}", tenant="acme") for number in range(2)]
    for key in keys:
        async with gateway.caller(key, **{"Idempotency-Key": "same"}) as caller:
            async with caller.post(
                "/api/chat?wait=240", json={"session_id": "i", "message": "/echo x"}
            ) as answer:
                assert answer.status == 200
                assert len((await answer.json())["messages"]) == 2


async def test_nobody_signs_in_with_a_wrong_key_and_trying_on_is_429(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as own:
        statuses = []
        for _ in range(40):
            async with own.http.post("/api/auth/sign-in", json={"key": "agw_nothing"}) as answer:
                statuses.append(answer.status)
        assert statuses[0] == 401
        assert statuses[-1] == 429
        async with own.caller(await own.mint("fine")) as caller, caller.get("/api/me") as answer:
            assert answer.status == 200


async def test_a_pasted_key_signs_a_browser_in_and_out(gateway: RunningGateway) -> None:
    key = await gateway.mint("dora", tenant="acme")
    async with gateway.caller() as browser:
        async with browser.post("/api/auth/sign-in", json={"key": key}) as answer:
            me = await answer.json()
            assert (me["subject"], me["kind"]) == ("dora", "user")
            cookie = answer.headers["Set-Cookie"] + str(answer.headers)
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert key not in cookie
        async with browser.get("/api/me") as answer:
            assert (await answer.json())["subject"] == "dora"
        async with browser.post("/api/chat", json={"message": "hi"}) as answer:
            assert (answer.status, await code_of(answer)) == (403, "csrf_missing")
        token = {"X-CSRF-Token": me["csrf_token"]}
        async with browser.post("/api/chat", json={"message": "hi"}, headers=token) as answer:
            assert answer.status == 200
        origin = {"Origin": gateway.url}
        async with browser.post("/api/chat", json={"message": "hi"}, headers=origin) as answer:
            assert answer.status == 200
        async with browser.post("/api/auth/sign-out", json={}, headers=token) as answer:
            assert answer.status == 204
        async with browser.get("/api/me") as answer:
            assert answer.status == 401


async def test_a_cookie_dies_with_the_key_that_it_came_from(gateway: RunningGateway) -> None:
    key = await gateway.mint("fleeting", tenant="acme")
    async with gateway.caller() as browser:
        await ask(browser, "POST", "/api/auth/sign-in", {"key": key})
        async with gateway.operator() as operator:
            known = next(found for found in await operator.keys() if found.name == "fleeting")
            await operator.revoke_key(known.id)
        async with browser.get("/api/me") as answer:
            assert answer.status == 401


async def test_the_operators_socket_wants_its_token(gateway: RunningGateway) -> None:
    connector = aiohttp.UnixConnector(str(gateway.data_path / "operator.sock"))
    if len(str(gateway.data_path)) > 90:
        pytest.skip("the socket's path is too long for this client")
    async with aiohttp.ClientSession("http://localhost", connector=connector) as http:
        async with http.get("/api/admin/keys") as answer:
            assert answer.status == 401
        async with http.get("/api/admin/keys", headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == 401
    mode = (gateway.data_path / "operator.key").stat().st_mode & 0o777
    assert mode == 0o600
    assert (gateway.data_path / "operator.sock").stat().st_mode & 0o777 == 0o600


async def test_the_operators_token_is_worth_nothing_elsewhere(gateway: RunningGateway) -> None:
    token = (gateway.data_path / "operator.key").read_text()
    async with gateway.caller(token) as caller, caller.get("/api/admin/keys") as answer:
        assert answer.status == 401


async def test_a_shared_link_shows_one_session_until_it_is_revoked(gateway: RunningGateway) -> None:
    key = await gateway.mint("sharer", tenant="acme")
    name = fresh_id()
    async with gateway.caller(key) as owner, gateway.caller() as stranger:
        await ask(owner, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo shown"})
        async with owner.post(f"/api/sessions/{name}/shares", json={"hours": 1}) as answer:
            assert answer.status == 201
            share = await answer.json()
        shared = f"/api/shared/{share['token']}"
        async with stranger.get(shared) as answer:
            assert [m["content"] for m in (await answer.json())["messages"]] == ["/echo shown", "shown"]
        async with open_stream(stranger, None, path=f"{shared}/stream") as stream:
            await stream.until(lambda frame: frame.event == "turn_ended")
            await ask(owner, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo more"})
            await stream.until(lambda frame: frame.event == "turn_ended")
            async with owner.delete(f"/api/sessions/{name}/shares/{share['share_id']}") as answer:
                assert (await answer.json())["revoked"] is True
            await ask(owner, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo SECRET"})
            frames = await stream.to_end()
            assert "SECRET" not in str(frames)
        async with stranger.get(shared) as answer:
            assert (answer.status, await code_of(answer)) == (404, "share_not_found")
        for token in ("x", "ags_" + "a" * 16 + "." + "b" * 43, forged(share["token"])):
            async with stranger.get(f"/api/shared/{token}") as answer:
                assert answer.status == 404
        async with owner.get(f"/api/sessions/{name}/shares") as answer:
            assert await answer.json() == {"shares": []}


async def test_only_the_owner_shares(gateway: RunningGateway) -> None:
    owner, other = await gateway.mint("o1", tenant="acme"), await gateway.mint("o2", tenant="acme")
    name = fresh_id()
    async with gateway.caller(owner) as caller:
        await ask(caller, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo x"})
    async with gateway.caller(other) as caller:
        for hours in (0, -1, 1e9):
            async with caller.post(f"/api/sessions/{name}/shares", json={"hours": hours}) as answer:
                assert answer.status == 422
        async with caller.post(f"/api/sessions/{name}/shares", json={}) as answer:
            assert answer.status == 404
