"""Disabling a person: every credential is refused, everything that is open or runs ends, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import aiohttp
import psutil
import pytest
import pytest_asyncio

from gateway.api import stream as stream_module
from gateway.client import Refused
from gateway.models.budgets import Amount
from gateway.principal import Account, ConversationKey
from gateway.stores.secrets import SecretName
from tests.gateways import RunningGateway, is_running
from tests.inside import GatewayInside, gateway_inside
from tests.issuer import CLIENT, Issuer
from tests.mcp_clients import call, post
from tests.products.shop import CHATS, PASSWORD, Browser, Socket, config
from tests.shared import SHARED, Answer, ask, crowding, eventually, fresh_id
from tests.streams import StreamReader, open_stream

pytestmark = SHARED

LIMIT_SECONDS: Final = 5
ISSUER: Final = Issuer()
MORE: Final = """
[jwt]
issuer = "https://issuer.example"
audience = "{audience}"
jwks_file = "{keys}"
tenant_claim = "org"
[tenants.acme]
[tenants.beta]
"""
SLOW: Final = {"turns": [[{"say": "begun"}, {"hang": True}]], "repeat": True}
STUBBORN: Final = {
    "start": [{"ignore": "eof"}, {"ignore": "sigterm"}],
    "turns": [[{"say": "begun"}, {"ignore": "cancel"}, {"hang": True}]],
    "repeat": True,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayInside]:
    directory = tmp_path_factory.mktemp("people")
    keys = directory / "keys.json"
    keys.write_text(json.dumps(ISSUER.jwks()))
    settings = config().replace('"keys"]', '"keys", "jwt"]') + MORE.format(audience=CLIENT, keys=keys)
    agents = {"slow": SLOW, "stubborn": STUBBORN}
    async with gateway_inside(directory, config=settings, agents=agents) as running:
        yield running


async def disable(gateway: RunningGateway, owner: str) -> float:
    """Disables somebody; when that was asked for."""
    began = time.monotonic()
    tenant, _, subject = owner.partition("/")
    async with gateway.operator() as operator:
        assert (await operator.disable_person(tenant, subject)).is_disabled
    return began


async def enable(gateway: RunningGateway, owner: str) -> None:
    tenant, _, subject = owner.partition("/")
    async with gateway.operator() as operator:
        assert not (await operator.enable_person(tenant, subject)).is_disabled


def check_in_time(began: float) -> None:
    assert time.monotonic() - began < LIMIT_SECONDS * crowding()


async def refused(asking: Awaitable[Answer]) -> None:
    answer = await asking
    assert (answer.status, answer.code) == (403, "person_disabled")
    assert "This account is disabled" in answer.body["error"]["message"]


@contextlib.asynccontextmanager
async def callers(gateway: RunningGateway, name: str) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
    """Somebody of acme, once for each kind of credential."""
    key, other = await gateway.mint(name, tenant="acme"), await gateway.mint("x", tenant="acme", subject=name)
    origin = {"Origin": gateway.url}
    token = ISSUER.token(name, org="acme")
    async with (
        gateway.caller(key) as by_key,
        gateway.caller(other) as by_other_key,
        gateway.caller(token) as by_jwt,
        gateway.caller(**origin) as by_cookie,
        gateway.caller(**origin) as moved,
    ):
        assert (await ask(by_cookie, "POST", "/api/auth/sign-in", {"key": key})).status == 200
        link = (await ask(by_cookie, "POST", "/api/auth/handover", {})).body["token"]
        assert (await ask(moved, "POST", "/api/auth/handover/claim", {"token": link})).status == 200
        yield {
            "key": by_key,
            "other key": by_other_key,
            "JWT": by_jwt,
            "cookie": by_cookie,
            "another browser": moved,
        }


async def visitor_of(browser: aiohttp.ClientSession) -> str:
    me = (await ask(browser, "GET", "/api/me")).body
    assert me["kind"] == "visitor"
    return f"{me['tenant']}/{me['subject']}"


async def test_every_credential_is_refused_and_enabling_brings_each_of_them_back(
    gateway: GatewayInside,
) -> None:
    async with callers(gateway, "ann") as people:
        said = {"session_id": "kept", "message": "/echo before"}
        assert (await ask(people["key"], "POST", "/api/chat?wait=240", said)).status == 200
        link = (await ask(people["cookie"], "POST", "/api/auth/handover", {})).body["token"]
        share = (await ask(people["key"], "POST", "/api/sessions/kept/shares", {})).body["token"]
        await disable(gateway, "acme/ann")
        for caller in people.values():
            await refused(ask(caller, "GET", "/api/me"))
            await refused(ask(caller, "GET", "/api/auth"))
            await refused(ask(caller, "GET", "/api/chat/stream?session_id=kept"))
            await refused(ask(caller, "POST", "/api/chat", {"session_id": "kept", "message": "hello"}))
            status, *body = await post(caller, call("view_cart"))
            assert (status, "This account is disabled" in str(body)) == (403, True)
        async with gateway.caller(Origin=gateway.url) as fresh:
            key = await gateway.mint("late", tenant="acme", subject="ann")
            await refused(ask(fresh, "POST", "/api/auth/sign-in", {"key": key}))
            await refused(ask(fresh, "POST", "/api/auth/handover/claim", {"token": link}))
            shared = await ask(fresh, "GET", f"/api/shared/{share}")
            assert (shared.status, shared.code) == (403, "person_disabled")
        await enable(gateway, "acme/ann")
        for caller in people.values():
            state = (await ask(caller, "GET", "/api/state?session_id=kept")).body
            assert [message["content"] for message in state["messages"]] == ["/echo before", "before"]
        async with gateway.caller() as fresh:
            assert (await ask(fresh, "GET", f"/api/shared/{share}")).status == 200


@pytest.fixture
def without_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that are idle say nothing for ever."""
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 3600)


@pytest.mark.usefixtures("without_heartbeat")
async def test_idle_streams_end_at_once_however_their_reader_is_known(gateway: GatewayInside) -> None:
    """The stream of a shared link, too."""
    async with callers(gateway, "bob") as people, contextlib.AsyncExitStack() as stack:
        said = {"session_id": "s", "message": "/echo before"}
        assert (await ask(people["key"], "POST", "/api/chat?wait=240", said)).status == 200
        share = (await ask(people["key"], "POST", "/api/sessions/s/shares", {})).body["token"]
        streams = [
            await stack.enter_async_context(open_stream(caller, session_id, view=view))
            for caller in people.values()
            for view in ("events", "state")
            for session_id in ("s", "not-there-yet")
        ]
        reader = await stack.enter_async_context(gateway.caller())
        response = await stack.enter_async_context(reader.get(f"/api/shared/{share}/stream"))
        streams.append(StreamReader(response))
        for stream in streams:
            assert await stream.next() is not None
        began = await disable(gateway, "acme/bob")
        await asyncio.gather(*(stream.to_end(seconds=LIMIT_SECONDS) for stream in streams))
        check_in_time(began)
        assert not [f for stream in streams for f in stream.frames if f.event == "moved"]
        await enable(gateway, "acme/bob")


async def test_a_visitors_streams_and_sockets_end_and_their_cookie_and_token_are_refused(
    gateway: GatewayInside,
) -> None:
    elsewhere = "http://localhost:1"
    browser, page = Browser(gateway), gateway.caller(Origin=elsewhere)
    async with browser.http, page:
        name = await browser.begin()
        owner = await visitor_of(browser.http)
        async with page.get("/api/me") as response:
            token = response.headers["X-Visitor-Token"]
        by_token = gateway.caller(token, Origin=elsewhere)
        async with by_token, browser.chat_socket(name) as socket, open_stream(by_token, "t") as stream:
            await socket.until("connection_status")
            other = await visitor_of(by_token)
            for each in (owner, other):
                began = await disable(gateway, each)
            assert await socket.closed() == 1008
            await stream.to_end(seconds=LIMIT_SECONDS)
            check_in_time(began)
            await refused(ask(browser.http, "GET", "/api/me"))
            await refused(ask(by_token, "GET", "/api/me"))
            assert (await browser.ask("GET", f"{CHATS.format(1)}/{name}/messages")).status == 403
            for each in (owner, other):
                await enable(gateway, each)
            assert await visitor_of(browser.http) == owner
            assert await visitor_of(by_token) == other
            await browser.history(name)


async def test_the_staffs_sockets_end_and_their_log_in_is_refused(gateway: GatewayInside) -> None:
    """By a key and by a password; the chat of the visitor goes on."""
    key = await gateway.mint("helper", scopes=("support",))
    login = {"username": "ruth", "password": PASSWORD}
    token = (await gateway.post("/api/login", login))["access_token"]
    visitor, helper, ruth = Browser(gateway), Browser(gateway, key), Browser(gateway, token)
    async with visitor.http, helper.http, ruth.http:
        name = await visitor.begin()
        sockets: list[Callable[[], Any]] = [
            lambda: helper.socket("/ws/chat/admin/1"),
            lambda: helper.socket(f"/ws/chat/session/{name}"),
            lambda: ruth.socket("/ws/chat/admin/1"),
            lambda: ruth.socket(f"/ws/chat/session/{name}"),
        ]
        async with contextlib.AsyncExitStack() as stack:
            opened: list[Socket] = [await stack.enter_async_context(each()) for each in sockets]
            for socket in opened:
                await socket.until("connection_status")
            watching = await stack.enter_async_context(visitor.chat_socket(name))
            await watching.until("connection_status")
            await disable(gateway, "default/helper")
            began = await disable(gateway, "default/ruth")
            assert [await socket.closed() for socket in opened] == [1008] * 4
            check_in_time(began)
            await watching.settled()
        async with gateway.http.post("/api/login", json=login) as answer:
            assert (answer.status, "disabled" in await answer.text()) == (403, True)
        for owner in ("default/helper", "default/ruth"):
            await enable(gateway, owner)
        assert (await gateway.post("/api/login", login))["access_token"]


@pytest.mark.parametrize("agent", ["slow", "stubborn"])
async def test_a_running_turn_ends_with_its_worker_and_what_waits_is_held(
    gateway: GatewayInside, agent: str
) -> None:
    name, subject = fresh_id(), f"turning-{agent}"
    key = await gateway.mint(subject, tenant="acme")
    async with gateway.caller(key) as caller:
        said = {"session_id": name, "message": "first", "agent": agent}
        await ask(caller, "POST", "/api/chat", said)
        async with open_stream(caller, name) as stream:
            await stream.until_event("text_delta")
        await ask(caller, "POST", "/api/chat", said | {"message": "second"})
        session = gateway.inner.manager.get(f"acme/{subject}", name)
        assert session is not None
        assert session.is_live
        granted = ConversationKey("acme", f"acme/{subject}", name)
        card = gateway.inner.services.workers.passes.issue(lambda: granted, toolsets=("shop",))
        waiting = asyncio.ensure_future(
            ask(
                caller, "POST", "/api/chat?wait=240", {"session_id": name, "message": "third", "agent": agent}
            )
        )
        await eventually(lambda: _has_waiting(session, 2))
        assert session.running is not None
        worker = psutil.Process(session.running.pid)
        began = await disable(gateway, f"acme/{subject}")
        await refused(waiting)
        assert gateway.inner.manager.get(f"acme/{subject}", name) is None
        assert not is_running(worker)
        check_in_time(began)
        headers = {"Authorization": f"Bearer {card}"}
        assert (await post(gateway.http, call("view_cart"), **headers))[0] == 403
        async with gateway.operator(owner=f"acme/{subject}") as operator:
            with pytest.raises(Refused, match="This account is disabled"):
                await operator.chat(name, "on their behalf")
            assert [known.session_id for known in await operator.sessions()] == [name]
        await enable(gateway, f"acme/{subject}")
        assert (await post(gateway.http, call("view_cart"), **headers))[0] == 200
        gateway.inner.services.workers.passes.revoke(card)
        state = (await ask(caller, "GET", f"/api/state?session_id={name}")).body
        assert (state["is_processing"], state["queued"]) == (False, 2)
        words = [message["content"] for message in state["messages"]]
        assert "This account was disabled before the answer was complete." in words
        send = {"action": "send"}
        assert (await ask(caller, "POST", f"/api/sessions/{name}/queue", send)).status == 200
        async with open_stream(caller, name, after=state["seq"]) as stream:
            await stream.until_event("text_delta")
        assert (await ask(caller, "DELETE", f"/api/sessions/{name}")).status == 200


async def _has_waiting(session: Any, count: int) -> bool:
    return bool(session.waiting_count == count)


async def test_a_worker_that_is_starting_ends_too(tmp_path: pathlib.Path) -> None:
    agents = {"slow": {"start": [{"sleep": 60_000}]}}
    settings = '[auth]\nmodes = ["keys"]\n'
    async with gateway_inside(tmp_path, config=settings, agents=agents) as gateway:
        key = await gateway.mint("ann")
        async with gateway.caller(key) as caller:
            await ask(caller, "POST", "/api/chat", {"session_id": "s", "message": "x", "agent": "slow"})
            session = gateway.inner.manager.get("default/ann", "s")
            assert session is not None
            await eventually(lambda: _has_worker(session))
            assert session.running is not None
            worker = psutil.Process(session.running.pid)
            began = await disable(gateway, "default/ann")
            assert not is_running(worker)
            check_in_time(began)


async def _has_worker(session: Any) -> bool:
    return session.running is not None


async def test_a_disabled_visitor_takes_nothing_along_into_another_account(gateway: GatewayInside) -> None:
    key = await gateway.mint("zoe", tenant="acme")
    async with gateway.caller(Origin=gateway.url) as browser, gateway.caller(key) as zoe:
        said = {"session_id": "mine", "message": "/echo before"}
        await ask(browser, "POST", "/api/chat?wait=240", said)
        owner = await visitor_of(browser)
        await disable(gateway, owner)
        assert (await ask(browser, "POST", "/api/auth/sign-in", {"key": key})).status == 200
        assert (await ask(zoe, "GET", "/api/sessions")).body["sessions"] == []
        async with gateway.operator(owner=owner) as operator:
            assert len(await operator.sessions()) == 1


@pytest.mark.usefixtures("without_heartbeat")
async def test_a_revoked_keys_idle_stream_ends_at_once(gateway: GatewayInside) -> None:
    key = await gateway.mint("short", tenant="acme")
    async with gateway.caller(key) as caller, open_stream(caller, "quiet") as stream:
        assert await stream.next() is not None
        began = time.monotonic()
        async with gateway.operator() as operator:
            await operator.revoke_key(key.split("_")[1])
        await stream.to_end(seconds=LIMIT_SECONDS)
        check_in_time(began)


async def test_an_administrator_reaches_the_people_of_their_tenant_and_not_themselves(
    gateway: GatewayInside,
) -> None:
    boss = await gateway.mint("boss", tenant="acme", scopes=("admin",))
    await gateway.mint("carl", tenant="beta")
    async with gateway.caller(boss) as caller:

        async def tried(tenant: str, subject: str, what: str = "disable") -> Answer:
            body = {"tenant": tenant, "subject": subject}
            return await ask(caller, "POST", f"/api/admin/people/{what}", body)

        assert (await tried("beta", "carl")).status == 403
        assert (await tried("beta", "carl", "enable")).status == 403
        own = await tried("acme", "boss")
        assert (own.status, "your own account" in own.body["error"]["message"]) == (403, True)
        assert (await tried("acme", "dora")).body["is_disabled"]
        listed = (await ask(caller, "GET", "/api/admin/people")).body["people"]
        assert {person["tenant"] for person in listed} == {"acme"}
        assert "dora" in [person["subject"] for person in listed if person["is_disabled"]]
        assert (await ask(caller, "GET", "/api/admin/people?tenant=beta")).body["people"] == []
        assert not (await tried("acme", "dora", "enable")).body["is_disabled"]
    async with gateway.operator() as operator:
        for subject in ("", "~", "a\nb", "x" * 256):
            with pytest.raises(Refused, match="A subject is"):
                await operator.disable_person("acme", subject)
        with pytest.raises(Refused, match="There is no tenant 'nowhere'"):
            await operator.disable_person("nowhere", "ann")
    lines = [json.loads(line) for line in (gateway.data_path / "audit.jsonl").read_text().splitlines()]
    done = [(line["action"], line["subject"]) for line in lines if line.get("target") == "acme/dora"]
    assert done == [("person.disabled", "boss"), ("person.enabled", "boss")]


async def test_people_are_listed_with_what_they_have_and_use(gateway: GatewayInside) -> None:
    key = await gateway.mint("lea", tenant="beta")
    await gateway.mint("max", tenant="beta")
    async with gateway.caller(key) as caller, gateway.caller() as visitor:
        for name in ("one", "two"):
            await ask(caller, "POST", "/api/chat?wait=240", {"session_id": name, "message": "/echo hi"})
        owner = await visitor_of(visitor)
        said = {"session_id": "v", "message": "/echo hi"}
        await ask(visitor, "POST", "/api/chat?wait=240", said, headers={"Origin": gateway.url})
        auth, ledger = gateway.inner.auth, gateway.inner.ledger
        await auth.vault.set(SecretName("provider", "beta/lea", "maker"), "sk-of-lea")
        ledger.budgets.add(Account("beta/lea", "k"), Amount(1_250_000, 10), at=ledger.wall_ms())
        async with gateway.operator() as operator:
            listed = (await operator.people(tenant="beta")).people
            lea = listed[0]
            assert lea.subject == "lea"
            assert (lea.sessions_stored, lea.keys, lea.messages, lea.is_disabled) == (2, 1, 2, False)
            assert lea.sessions_live == 2
            assert (lea.own_keys, lea.cost_usd) == (("maker",), 1.25)
            assert lea.last_used_at is not None
            unused = next(person for person in listed if person.subject == "max")
            assert (unused.keys, unused.sessions_stored, unused.last_used_at) == (1, 0, None)
            names = {f"{p.tenant}/{p.subject}" for p in (await operator.people()).people}
            everyone = {f"{p.tenant}/{p.subject}" for p in (await operator.people(visitors=True)).people}
            assert owner not in names
            assert owner in everyone
    async with gateway.caller(await gateway.mint("chief", scopes=("admin",))) as chief:
        page = (await ask(chief, "GET", "/api/admin/people?limit=1")).body
        assert (len(page["people"]), page["has_more"]) == (1, True)
