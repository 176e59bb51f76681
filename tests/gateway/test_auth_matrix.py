"""Every route × every kind of wrong caller, made from the route table: a new route without a rule fails."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import pytest
import pytest_asyncio
from msgspec import Struct

from gateway.answers import OwnKeySummary
from gateway.app import Gateway
from gateway.config.tables import Config
from gateway.principal import IMPLIED
from gateway.stores.secrets import SecretName
from tests.gateways import RunningGateway
from tests.inside import GatewayInside
from tests.issuer import Issuer
from tests.shared import SHARED, Answer, ask, shared_gateway

pytestmark = SHARED

CONFIG = """
[auth]
modes = ["keys"]
[approvals]
require_scope = true
[limits]
wrong_credentials_per_minute = 100_000
[credentials.git]
hosts = ["git.example.test"]
per = "person"
[credentials.jira]
hosts = ["jira.example.test"]
per = "tenant"
[tenants.acme]
[tenants.beta]
"""
gateway = shared_gateway(CONFIG)

CANARY: Final = "canary-8f14e45fceea167a"
VICTIM: Final = "victims-session"

PUBLIC: Final = {
    *(("GET", f"/health{rest}") for rest in ("", "/live", "/ready")),
    *(("GET", f"/api/v1/shopping/health{rest}") for rest in ("", "/live", "/ready")),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/api/auth"),
    ("POST", "/api/auth/sign-in"),
    ("GET", "/api/auth/oidc/start"),
    ("GET", "/api/auth/oidc/callback"),
    ("POST", "/api/auth/handover/claim"),
    ("GET", "/api/shared/{token}"),
    ("GET", "/api/shared/{token}/history"),
    ("GET", "/api/shared/{token}/link"),
    ("GET", "/api/shared/{token}/stream"),
    *(("POST", "/api/shared/{token}/" + verb) for verb in ("chat", "interrupt", "permission")),
    ("POST", "/api/shared/{token}/questions/{question_id}"),
    ("GET", "/api/files/{token}"),
    *(("GET", "/api/products/{product_id}" + rest) for rest in ("", "/chat")),
    ("POST", "/api/login"),
}
"""Routes that anybody may call; each proves by itself what it wants."""

BODIES: Final[dict[str, object]] = {
    "chat": {"session_id": VICTIM, "message": "/echo foreign"},
    "interrupt": {"session_id": VICTIM},
    "system": {"session_id": VICTIM, "message": "foreign"},
    "mcp_command": {"session_id": VICTIM, "command": "set_network", "args": {"network": "foreign"}},
    "create_session": {"session_id": "somebody-elses"},
    "fork_session": {"session_id": "fork-of-foreign"},
    "restore_files": {"at_seq": 0},
    "rename_session": {"title": "foreign"},
    "label_session": {"pinned": True, "tags": ["foreign"]},
    "answer_egress": {"answer": "always"},
    "put_file": {"foreign": True},
    "upload_files": {"foreign": True},
    "answer_permission": {"permission_id": "p", "option_id": "o"},
    "answer_question": {"action": "decline"},
    "push_branch": {"name": "agent/foreign"},
    "choose_option": {"option_id": "mode", "value": "plan"},
    "edit_queue": {"action": "drop"},
    "change_queued": {"message": "foreign"},
    "set_budget": {"cost": 1.0},
    "set_budget_by_key": {"cost": 1.0},
    "share_session": {},
    "link_file": {"path": "foreign"},
    "sign_out": {},
    "hand_over": {},
    "forget_usage": {"owner": "acme/nobody"},
    "mint_key": {"name": "foreign", "tenant": "acme"},
    "rotate_key": {},
    "revoke_browsers": {"tenant": "acme", "subject": "victim"},
    "make_tenant": {"name": "foreign"},
    "disable_person": {"tenant": "acme", "subject": "victim"},
    "enable_person": {"tenant": "acme", "subject": "victim"},
    "reload_config": {},
    "set_own_key": {"key": "foreign"},
    "set_tenant_key": {"key": "foreign"},
    "open_product_chat": {"session_id": VICTIM},
    "send_product_message": {"message_text": "foreign"},
    "broadcast_product_message": {"message_text": "foreign"},
    "mark_product_messages": {"mark_all": True},
    "respond_to_product_chat": {"message_text": "foreign"},
    "take_product_chat_over": {},
    "hand_product_chat_back": {},
    "set_product_chat_status": {},
    "shop_query": {"q": "foreign", "sessionId": VICTIM},
    "shop_query_stream": {"q": "foreign", "sessionId": VICTIM},
    "shop_prefer": {"foreign": True},
    "shop_consent": {"counted": True},
    "shop_add": {"name": "foreign", "price": 1},
    "shop_remove": {"id": "foreign"},
    "shop_checkout": {},
}
"""A good body of every operation that takes one and is not public."""

LIKE_UNUSED: Final = {
    *("chat", "state", "stream", "interrupt", "system", "mcp_command"),
    *("shop_query", "shop_query_stream", "shop_conversation", "shop_cart"),
}
"""The six verbs, and the shopping assistant's: on them a foreign id is simply a new id of one's own."""
NOT_ABOUT_A_SESSION: Final = {
    *(
        "list_sessions",
        "create_session",
        "count_sessions",
        "list_agents",
        "list_workspaces",
        "me",
        "sign_out",
        "hand_over",
    ),
    *("list_own_keys", "set_own_key", "erase_own_keys"),
    *("list_tenant_keys", "set_tenant_key", "remove_tenant_key"),
    *("list_keys", "mint_key", "revoke_browsers", "list_tenants", "reload_config", "list_refused_hosts"),
    *("list_people", "disable_person", "enable_person"),
    "search_sessions",
    *("own_usage", "all_usage", "forget_usage"),
    *(
        "metrics",
        "show_overview",
        "list_all_sessions",
        "list_operator_rules",
        "list_owned_sessions",
        "shop_products",
        "tenant_insights",
    ),
    *("read_gateway_health", "read_gateway_history", "search_audit", "search_log"),
    *("make_tenant", "disable_tenant", "enable_tenant"),
    *("list_product_chats", "list_canned_answers", "socket_stats", "socket_debug"),
}
ONES_OWN: Final = "remove_own_key"
"""It is there if the same caller has set it before."""
ENDS_THE_GATEWAY: Final = "drain_gateway"
"""Whoever may operate may do it: the tests call it as nobody else but those who may not."""
IN_USE: Final = {"open_product_chat"}
"""Ids of product chats are the whole gateway's: taking one that is taken is a conflict, whoever has it."""
BODYLESS: Final = {
    *("restart_session", "end_turn", "park_session", "kill_session", ENDS_THE_GATEWAY),
    *("disable_tenant", "enable_tenant", "want_person"),
}
ABOUT_A_FILE: Final = {"put_file", "show_upload"}


class Route(Struct, frozen=True):
    """A route as the gateway declares it."""

    method: str
    path: str
    name: str
    scope: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ROUTES: Final = [
    Route(op.method, op.path, op.handler.__name__, op.scope)
    for op in Gateway(Config(store="memory://")).operations
]
GUARDED: Final = [route for route in ROUTES if route.scope]
SOCKETS: Final = [
    Route("WS", socket.path, socket.handler.__name__, socket.scope)
    for socket in Gateway(Config(store="memory://")).sockets
    if socket.scope
]


class World(Struct):
    """A victim with a session, and everybody who must not reach it."""

    key: str
    key_id: str
    share_id: str
    wrong: dict[str, str | None]
    scoped: dict[str, str]
    stranger: str
    namesake: str
    """Somebody who may take the victim's id for a session of their own."""

    def path(self, route: Route) -> str:
        """The path with the victim's ids in it."""
        parts = {"session_id": VICTIM, "key": VICTIM, "key_id": self.key_id, "share_id": self.share_id}
        parts |= {"rule_id": "r1", "tenant": "acme", "name": "jira" if "{tenant}" in route.path else "git"}
        asked = {"ask_id": "a", "question_id": "t.q1", "message_id": "u1", "upload": f"{CANARY}.txt"}
        path = route.path.format(**parts, **asked, product_id=1, admin_id=1, path="nowhere")
        path += "?status=closed" if route.name == "set_product_chat_status" else ""
        path += f"?path=uploads/{CANARY}.txt" if route.name in ABOUT_A_FILE else ""
        path += "?turn=1" if route.name == "list_turn_changes" else ""
        path += f"?q={CANARY}" if route.name == "search_sessions" else ""
        return f"{path}?session_id={VICTIM}" if route.name in ("state", "stream") else path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(gateway: RunningGateway) -> AsyncIterator[World]:
    key = await gateway.mint("victim", tenant="acme")
    async with gateway.caller(key) as victim:
        await ask(victim, "POST", "/api/chat?wait=240", {"session_id": VICTIM, "message": f"/echo {CANARY}"})
        await ask(victim, "POST", "/api/products/1/chat/sessions", {"session_id": VICTIM})
        share = (await ask(victim, "POST", f"/api/sessions/{VICTIM}/shares", {})).body
        path = f"/api/sessions/{VICTIM}/files/content"
        await ask(victim, "PUT", "/api/me/keys/git", {"key": CANARY})
        await ask(victim, "PUT", f"{path}?path=uploads/{CANARY}.txt", {"theirs": True})
    async with gateway.operator() as operator:
        await operator._json("PUT", "/api/admin/tenants/acme/keys/jira", OwnKeySummary, body={"key": CANARY})
    revoked = await gateway.mint("revoked", tenant="acme", scopes=("chat", "admin"))
    expired = await gateway.mint("expired", tenant="acme", scopes=("chat", "admin"), days=1e-8)
    async with gateway.operator() as operator:
        await operator.revoke_key(revoked.split("_")[1])
    wrong = {
        "nobody": None,
        "malformed": "agw_x",
        "unknown": "agw_" + "a" * 12 + "_" + "a" * 43,
        "wrong secret": key[:-8] + "AAAAAAAA",
        "revoked": revoked,
        "expired": expired,
        "a JWT of nobody": Issuer().token(),
        "a visitor's token": "agv_x.y",
        "the operator's": (gateway.data_path / "operator.key").read_text(),
    }
    scoped = {scope: await gateway.mint(f"only-{scope}", tenant="acme", scopes=(scope,)) for scope in IMPLIED}
    stranger = await gateway.mint("victim", tenant="beta", scopes=tuple(IMPLIED))
    namesake = await gateway.mint("namesake", tenant="beta", scopes=tuple(IMPLIED))
    yield World(key, key.split("_")[1], share["share_id"], wrong, scoped, stranger, namesake)


async def call(gateway: RunningGateway, route: Route, world: World, key: str | None) -> Answer:
    body = BODIES.get(route.name) if route.method != "GET" else None
    async with gateway.caller(key) as caller:
        return await ask(caller, route.method, world.path(route), body)


async def test_every_route_is_public_on_purpose_or_asks_for_a_scope() -> None:
    assert {(route.method, route.path) for route in ROUTES if not route.scope} == PUBLIC
    assert all(route.scope in IMPLIED for route in GUARDED)


async def test_every_route_that_takes_a_body_has_one_here() -> None:
    taking = {route.name for route in GUARDED if route.method in ("POST", "PUT", "PATCH")}
    assert taking - BODYLESS <= set(BODIES)


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_wrong_credentials_get_nowhere(gateway: RunningGateway, world: World, route: Route) -> None:
    for name, key in world.wrong.items():
        if name == "nobody":
            async with gateway.caller() as caller:
                answer = await ask(caller, route.method, world.path(route), BODIES.get(route.name, {}))
        else:
            answer = await call(gateway, route, world, key)
        assert (answer.status, answer.code) == (401, "unauthorized"), name
        assert CANARY not in str(answer.body)


@pytest.mark.parametrize("route", GUARDED, ids=str)
async def test_a_lower_scope_is_not_enough(gateway: RunningGateway, world: World, route: Route) -> None:
    for scope, key in world.scoped.items():
        if route.scope in IMPLIED[scope]:
            continue
        answer = await call(gateway, route, world, key)
        assert (answer.status, answer.code) == (403, "forbidden"), scope


@pytest.mark.parametrize("route", [route for route in GUARDED if route.name != ENDS_THE_GATEWAY], ids=str)
async def test_another_tenant_finds_nothing_of_the_victims(
    gateway: RunningGateway, world: World, route: Route
) -> None:
    if route.name == "stream":
        async with (
            gateway.caller(world.stranger) as caller,
            caller.get(f"{route.path}?session_id={VICTIM}") as response,
        ):
            assert response.status == 200
            assert CANARY.encode() not in await response.content.readany()
        return
    caller_key = world.namesake if route.name in LIKE_UNUSED else world.stranger
    answer = await call(gateway, route, world, caller_key)
    assert CANARY not in str(answer.body) + str(answer.headers)
    assert world.key_id not in str(answer.body)
    if route.name in LIKE_UNUSED:
        assert answer.status == 200
    elif route.name in IN_USE:
        assert answer.status == 409, answer.body
    elif route.name == ONES_OWN:
        assert answer.status in (200, 404), answer.body
    elif route.name in NOT_ABOUT_A_SESSION:
        assert answer.status in (200, 201, 204, 403), answer.body
    else:
        assert answer.status == 404, answer.body


async def knock(gateway: RunningGateway, path: str, key: str | None) -> int:
    """The status of a handshake; 1008 where the socket was opened, told something and closed."""
    async with gateway.caller(key) as caller:
        try:
            async with caller.ws_connect(path) as socket:
                said = await socket.receive_str()
                assert CANARY not in said
                await socket.receive()
                return socket.close_code or 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


@pytest.mark.parametrize("route", SOCKETS, ids=str)
async def test_a_socket_opens_to_nobody_else(gateway: RunningGateway, world: World, route: Route) -> None:
    path = world.path(route)
    for name, key in world.wrong.items():
        assert await knock(gateway, path, key) == 401, name
    for scope, key in world.scoped.items():
        if route.scope not in IMPLIED[scope]:
            assert await knock(gateway, path, key) == 403, scope
    if route.name != "admin":
        assert await knock(gateway, path, world.stranger) == 1008


async def test_after_all_that_the_victim_has_what_it_had(gateway: GatewayInside, world: World) -> None:
    async with gateway.caller(world.key) as victim:
        state = (await ask(victim, "GET", f"/api/state?session_id={VICTIM}")).body
        assert [message["content"] for message in state["messages"]] == [f"/echo {CANARY}", CANARY]
        assert state["ended"] is None
        shares = (await ask(victim, "GET", f"/api/sessions/{VICTIM}/shares")).body["shares"]
        assert [share["share_id"] for share in shares] == [world.share_id]
        path = f"/api/sessions/{VICTIM}/uploads/{CANARY}.txt"
        assert (await ask(victim, "GET", path)).body == '{"theirs": true}'
    values = {name: gateway.inner.auth.vault.get(name) for name in gateway.inner.auth.vault._secrets}
    mine = {name: value for name, value in values.items() if name.owner in ("acme/victim", "acme")}
    assert mine == {
        SecretName("credential", "acme/victim", "git"): CANARY,
        SecretName("credential", "acme", "jira"): CANARY,
    }


async def test_not_yours_and_not_there_take_the_same_time(gateway: RunningGateway, world: World) -> None:
    """The same words and the same work: medians of interleaved requests differ by less than their spread."""
    async with gateway.caller(world.stranger) as caller:
        times: dict[str, list[float]] = {VICTIM: [], "never-was": []}
        bodies = set()
        for _ in range(200):
            for name, taken in times.items():
                began = time.perf_counter()
                answer = await ask(caller, "GET", f"/api/sessions/{name}")
                taken.append(time.perf_counter() - began)
                assert answer.status == 404
                bodies.add(answer.body["error"]["message"])
    assert len(bodies) == 1
    there, not_there = (sorted(taken) for taken in times.values())
    spread = there[150] - there[50] + not_there[150] - not_there[50]
    assert abs(there[100] - not_there[100]) <= spread
