"""What another gateway on the same database does to credentials holds here within a second. The other one is
what it writes: its stores, on connections of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from gateway.auth.keys import KeyRing
from gateway.auth.tickets import keep_secret, read_secret
from gateway.egress.vault import Vault
from gateway.errors import StoreFailed
from gateway.stores.postgresql.beside import PostgresqlTables
from gateway.stores.postgresql.credentials import PostgresqlCredentials
from gateway.stores.postgresql.people import PostgresqlPeople
from gateway.stores.postgresql.secrets import PostgresqlSecrets
from gateway.stores.postgresql.tenants import PostgresqlTenants
from gateway.stores.secrets import SecretName
from gateway.stores.tenants import KeptTenant
from tests.inside import GatewayInside, gateway_inside
from tests.postgres import connected, gateways_database
from tests.shared import SHARED, ask, crowding, eventually, free_port, fresh_id

pytestmark = SHARED
SECOND: Final = 1.0
CONFIG: Final = """
[auth]
modes = ["keys"]
[limits]
wrong_credentials_per_minute = 10000
[tenants.acme]
[tenants.beta]
"""
"""Tests ask until a credential is refused, again and again on a busy machine, and all have one address."""


class Other:
    """Another gateway, as far as the database knows of it."""

    def __init__(self, url: str, database: PostgresqlTables) -> None:
        self.url = url
        self.credentials = PostgresqlCredentials(database)
        self.keys = KeyRing(self.credentials, wall_ms=lambda: time.time_ns() // 1_000_000)
        self.people = PostgresqlPeople(database)
        self.tenants = PostgresqlTenants(database)
        self.secrets = PostgresqlSecrets(database)


def clustered(url: str) -> dict[str, str]:
    return {
        "AGENT_GATEWAY_STORE": url,
        "AGENT_GATEWAY_CLUSTER_URL": f"http://127.0.0.1:{free_port()}",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> str:
    return gateways_database()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, url: str) -> AsyncIterator[GatewayInside]:
    directory = tmp_path_factory.mktemp("other")
    async with gateway_inside(directory, config=CONFIG, environ=clustered(url)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(gateway: GatewayInside, url: str) -> AsyncIterator[Other]:
    database = PostgresqlTables(url)
    await database.open()
    yield Other(url, database)
    await database.close()


@contextlib.asynccontextmanager
async def streaming(
    gateway: GatewayInside, subject: str, *, tenant: str = "acme"
) -> AsyncIterator[tuple[aiohttp.ClientSession, aiohttp.ClientResponse]]:
    """Somebody with a session who follows it."""
    key = await gateway.mint(subject, tenant=tenant)
    async with gateway.caller(key) as caller:
        said = {"session_id": "s", "message": "/echo x"}
        assert (await ask(caller, "POST", "/api/chat?wait=240", said)).status == 200
        async with caller.get("/api/chat/stream?session_id=s") as response:
            assert response.status == 200
            await response.content.readany()
            yield caller, response


async def ended(response: aiohttp.ClientResponse, began: float) -> None:
    async for _ in response.content.iter_any():
        pass
    assert time.monotonic() - began < SECOND * crowding()


async def until(holds: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return holds()

    await eventually(asked)


async def test_a_key_revoked_elsewhere_ends_what_is_open_by_it(gateway: GatewayInside, other: Other) -> None:
    async with streaming(gateway, fresh_id()) as (caller, response):
        await other.keys.open()
        newest = other.keys.all()[-1]
        began = time.monotonic()
        await other.keys.revoke(newest.id)
        await ended(response, began)
        assert (await ask(caller, "GET", "/api/sessions")).status == 401


async def test_a_key_made_elsewhere_is_good_here_at_once(gateway: GatewayInside, other: Other) -> None:
    _, text = await other.keys.mint("acme", "new", name="n", scopes=("chat",))
    async with gateway.caller(text) as caller:
        answer = await ask(caller, "GET", "/api/sessions")
        while answer.status == 429:  # another test had many looked for
            await asyncio.sleep(int(answer.headers["Retry-After"]))
            answer = await ask(caller, "GET", "/api/sessions")
        assert answer.status == 200
    async with gateway.caller(text[:-2] + "xx") as caller:
        assert (await ask(caller, "GET", "/api/sessions")).status == 401


async def test_how_often_an_unknown_key_is_looked_for_is_bounded(
    gateway: GatewayInside, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def learn(text: str) -> None:
        asked.append(text)

    monkeypatch.setattr(gateway.inner.auth.keys, "learn", learn)
    async with gateway.caller("agw_aaaaaaaaaaaa_" + "a" * 43) as caller:
        answers = [await ask(caller, "GET", "/api/sessions") for _ in range(80)]
    assert {(answer.status, answer.code) for answer in answers} == {
        (401, "unauthorized"),
        (429, "rate_limited"),
    }
    assert len(asked) == sum(answer.status == 401 for answer in answers)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status == 429)
    monkeypatch.undo()

    async def is_served() -> bool:
        async with gateway.caller(text) as caller:
            return (await ask(caller, "GET", "/api/sessions")).status == 200

    _, text = await other.keys.mint("acme", "new", name="n", scopes=("chat",))
    await eventually(is_served)  # heard of, or looked for after that


async def test_a_person_disabled_elsewhere_is_refused_and_their_sessions_end(
    gateway: GatewayInside, other: Other
) -> None:
    subject = fresh_id()
    async with streaming(gateway, subject) as (caller, response):
        began = time.monotonic()
        await other.people.disable(f"acme/{subject}", 5)
        await ended(response, began)
        assert (await ask(caller, "GET", "/api/sessions")).code == "person_disabled"
        await until(lambda: gateway.inner.manager.get(f"acme/{subject}", "s") is None)
        await other.people.enable(f"acme/{subject}")

        async def is_served() -> bool:
            return (await ask(caller, "GET", "/api/sessions")).status == 200

        await eventually(is_served)


async def test_a_tenant_disabled_elsewhere_is_refused_and_its_sessions_end(
    gateway: GatewayInside, other: Other
) -> None:
    async with streaming(gateway, "ann", tenant="beta") as (caller, response):
        began = time.monotonic()
        await other.tenants.put(KeptTenant(name="beta", is_disabled=True))
        await ended(response, began)
        assert (await ask(caller, "GET", "/api/sessions")).code == "tenant_disabled"
        await until(lambda: gateway.inner.manager.get("beta/ann", "s") is None)


async def test_a_link_revoked_elsewhere_ends_what_is_open_by_it(gateway: GatewayInside, other: Other) -> None:
    async with streaming(gateway, subject := fresh_id()) as (caller, _):
        link = (await ask(caller, "POST", "/api/sessions/s/shares", {"kind": "view"})).body
        async with gateway.caller() as guest, guest.get(f"/api/shared/{link['token']}/stream") as followed:
            assert followed.status == 200
            await followed.content.readany()
            record = await gateway.inner.services.store.sessions.find(f"acme/{subject}", "s")
            assert record is not None
            began = time.monotonic()
            assert await other.credentials.delete_share(record.key, link["share_id"])
            await ended(followed, began)


async def test_what_was_revoked_for_a_browser_elsewhere_is_revoked_here(
    gateway: GatewayInside, other: Other
) -> None:
    owner = f"acme/{fresh_id()}"
    await other.credentials.revoke(owner, 7)
    await until(lambda: gateway.inner.auth.tickets.revoked.get(owner) == 7)


async def test_a_value_set_elsewhere_opens_here(gateway: GatewayInside, other: Other) -> None:
    vault = Vault(other.secrets, wall_ms=lambda: 5)
    await vault.open(read_secret("", gateway.data_path))
    name = SecretName("provider", "acme/ann", "p")
    await vault.set(name, "the value")
    await until(lambda: gateway.inner.auth.vault.get(name) == "the value")
    await vault.remove(name)
    await until(lambda: gateway.inner.auth.vault.get(name) is None)


async def test_all_gateways_of_a_database_sign_with_one_secret(tmp_path: pathlib.Path) -> None:
    """The first one's own, so that what it gave away stays good; and each keeps it for its backup."""
    url = gateways_database()
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        (directory / "data").mkdir(parents=True)
    keep_secret(b"1" * 32, first / "data")
    for directory in (first, second):
        async with gateway_inside(directory, config=CONFIG, environ=clustered(url)) as running:
            signed = running.inner.auth.tickets.issue("state", seconds=60)
        assert (directory / "data" / "cookies.key").read_bytes() == b"1" * 32
    third = tmp_path / "third"
    (third / "data").mkdir(parents=True)
    async with gateway_inside(third, config=CONFIG, environ=clustered(url)) as running:
        assert running.inner.auth.tickets.read("state", signed) is not None


async def test_a_gateway_with_another_secret_is_refused_in_words(
    gateway: GatewayInside, other: Other
) -> None:
    auth = gateway.inner.auth
    await auth.open_secret()
    async with connected(other.url) as connection:
        await connection.execute("INSERT INTO nodes (name, place, has_lock) VALUES ('lives', '', false)")
        await connection.execute("UPDATE signing_digest SET digest = 'of another'")
        with pytest.raises(StoreFailed, match=r"^auth\.secret_file: the other gateways"):
            await auth.open_secret()
        await connection.execute("DELETE FROM nodes WHERE name = 'lives'")
    await auth.open_secret()
