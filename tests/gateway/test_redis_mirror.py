"""What the shopping assistant remembers, shown in Redis: as its page says, and never in anybody's way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import pathlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
import pytest_asyncio

from gateway.apps.shopping_assistant.layout import owner_hash
from gateway.apps.shopping_assistant.redis_server import RedisServer, Script, examine
from gateway.apps.shopping_assistant.remembered import ShopMemory
from gateway.config.file import shown
from gateway.errors import SessionElsewhere
from tests.certificates import Authority
from tests.inside import GatewayInside, gateway_inside
from tests.patience import soon
from tests.scrapes import scrape
from tests.shared import SHARED, ask, eventually
from tests.valkey import Valkey, needed, valkey

pytestmark = SHARED
PREFIX: Final = "/api/v1/shopping"
PAGE: Final = pathlib.Path(__file__).parent.parent.parent / "docs" / "shopping-assistant.md"
KEYS: Final = '[auth]\nmodes = ["keys"]\n'
PASSWORD: Final = "op/en:s@me"
QUICK_SECONDS: Final = 2.0
"""What a question may take on a machine that is not busy: less than a server of Redis is waited for."""
_databases = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Valkey]:
    """One for all that do it no harm, who take a database each."""
    needed()
    async with valkey() as running:
        yield running


def settings(url: str, mirror: str = "seed") -> str:
    return f'[redis]\nurl = "{url}"\nmirror = "{mirror}"\n'


async def query(http: Any, session_id: str, question: str = "show me quinoa") -> Any:
    answer = await ask(http, "POST", PREFIX + "/query", {"q": question, "sessionId": session_id})
    assert answer.status == 200, answer.body
    return answer.body["data"]


async def data(gateway: GatewayInside, path: str) -> Any:
    return (await ask(gateway.http, "GET", PREFIX + path)).body["data"]


async def shows(server: Valkey, session_id: str, messages: int, *, database: int = 0) -> list[dict[str, str]]:
    """What the list of a session has, the newest first, once it has so many messages."""

    async def has() -> bool:
        return bool(
            await server.cli(f"LLEN session:{session_id}:conversation", database=database) == messages
        )

    await eventually(has)
    lines = await server.cli(f"LRANGE session:{session_id}:conversation 0 -1", database=database)
    return [json.loads(line) for line in lines]


def logged(gateway: GatewayInside, words: str) -> int:
    return gateway.log_path.read_text().count(words)


async def test_the_commands_of_the_page_work(server: Valkey, tmp_path: pathlib.Path) -> None:
    database = next(_databases)
    commands = re.findall(r"^redis-cli (.+)$", PAGE.read_text(), flags=re.M)
    assert len(commands) == 8
    async with gateway_inside(tmp_path, config=settings(server.url(database))) as gateway:
        await query(gateway.http, "alice")
        await query(gateway.http, "alice", "add two of the first")
        listed = await shows(server, "alice", 4, database=database)

        answers = {command: await server.cli(command, database=database) for command in commands}
        info, said = "session:alice:info", "session:alice:conversation"
        assert sorted(answers["KEYS session:alice:*"]) == sorted([info, said, "session:alice:owner"])
        assert 0 < 86_400 - answers[f"TTL {info}"] + 1 < 60
        assert 0 < 7_200 - answers[f"TTL {said}"] + 1 < 60
        assert (answers[f"TYPE {said}"], answers[f"LLEN {said}"]) == ("list", 4)
        assert json.loads(answers[f"LINDEX {said} 0"]) == listed[0]
        assert [line["role"] for line in listed] == ["assistant", "user", "assistant", "user"]
        assert listed[-1]["content"] == "show me quinoa"

        told = await data(gateway, "/session/alice/conversation")
        assert told["conversation"] == listed[::-1]
        kept = json.loads(await server.cli(f"GET {info}", database=database))
        assert kept == (await data(gateway, "/session/alice/info"))["session_info"]
        assert (kept["conversation_count"], kept["shopping_cart"][0]["quantity"]) == (4, 2)
        assert await server.cli("GET session:alice:owner", database=database) == owner_hash("default/local")


async def test_what_changes_is_changed_and_what_is_deleted_goes(
    server: Valkey, tmp_path: pathlib.Path
) -> None:
    database = next(_databases)

    async def info() -> Any:
        text = await server.cli("GET session:bob:info", database=database)
        return json.loads(text) if text else None

    async with gateway_inside(tmp_path, config=settings(server.url(database))) as gateway:
        await query(gateway.http, "bob")
        await shows(server, "bob", 2, database=database)
        item = {"name": "tea", "price": 3.5}
        await ask(gateway.http, "POST", PREFIX + "/session/bob/cart/add", item)
        await ask(gateway.http, "POST", PREFIX + "/session/bob/preferences", {"diet": "vegan"})

        async def is_told() -> bool:
            found = await info()
            return bool(found["preferences"] == {"diet": "vegan"} and found["shopping_cart"])

        await eventually(is_told)
        assert (await info())["shopping_cart"][0]["name"] == "tea"

        gateway.clock.advance(7_300)  # what was said is too long ago, the cart is not
        await ask(gateway.http, "DELETE", PREFIX + "/session/bob/cart/clear")

        async def is_emptied() -> bool:
            return not (await info())["shopping_cart"]

        await eventually(is_emptied)
        assert await server.cli("EXISTS session:bob:conversation", database=database) == 0
        assert (await info())["conversation_count"] == 0

        assert (await scrape(gateway)).value("agent_gateway_redis_mirror_total", outcome="erased") == 0

    async with gateway_inside(tmp_path, config=settings(server.url(database))) as gateway:
        assert (await ask(gateway.http, "DELETE", "/api/sessions/bob")).status == 200

        async def is_gone() -> bool:
            return not await server.cli("KEYS *", database=database)

        await eventually(is_gone)  # though this gateway has written none of it
        assert (await scrape(gateway)).value("agent_gateway_redis_mirror_total", outcome="erased") == 1


async def test_of_two_owners_with_one_id_the_first_has_the_flat_names(
    server: Valkey, tmp_path: pathlib.Path
) -> None:
    database = next(_databases)
    async with gateway_inside(tmp_path, config=KEYS + settings(server.url(database))) as gateway:
        one, two = [gateway.caller(await gateway.mint(name)) for name in ("ann", "ben")]
        async with one, two:
            await query(one, "s", "show me rice")
            await shows(server, "s", 2, database=database)
            for session_id in ("s", "t"):
                await query(two, session_id, "show me tea")
                await query(two, session_id, "show me tea")
            await shows(server, "t", 4, database=database)
            listed = await shows(server, "s", 2, database=database)
            assert listed[-1]["content"] == "show me rice"

            async def is_said() -> bool:
                return logged(gateway, "two owners have a session") == 1

            await eventually(is_said)
            assert (await ask(two, "DELETE", "/api/sessions/s")).status == 200  # which is not ann's
            await query(one, "s", "show me rice")
            assert len(await shows(server, "s", 4, database=database)) == 4
        assert logged(gateway, "two owners have a session") == 1


async def test_names_with_an_owner_are_there_for_both(server: Valkey, tmp_path: pathlib.Path) -> None:
    database = next(_databases)
    config = KEYS + settings(server.url(database), "owned")
    async with gateway_inside(tmp_path, config=config) as gateway:
        for name in ("ann", "ben"):
            async with gateway.caller(await gateway.mint(name)) as caller:
                await query(caller, "s", f"show me {name}")
            listed = await shows(server, f"{owner_hash(f'default/{name}')}:s", 2, database=database)
            assert listed[-1]["content"] == f"show me {name}"
        assert len(await server.cli("KEYS *", database=database)) == 4


async def test_the_messages_of_a_session_elsewhere_are_left_to_that_gateway(
    server: Valkey, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = next(_databases)

    async def elsewhere(*_: object) -> list[Any]:
        raise SessionElsewhere(node=2, url="http://10.0.0.5:8081")

    async with gateway_inside(tmp_path, config=settings(server.url(database))) as gateway:
        await query(gateway.http, "far")
        before = await shows(server, "far", 2, database=database)
        monkeypatch.setattr(ShopMemory, "messages", elsewhere)
        await ask(gateway.http, "POST", PREFIX + "/session/far/preferences", {"diet": "vegan"})

        async def is_told() -> bool:
            return "vegan" in await server.cli("GET session:far:info", database=database)

        await eventually(is_told)
        info = json.loads(await server.cli("GET session:far:info", database=database))
        assert info["conversation_count"] == 2
        assert await shows(server, "far", 2, database=database) == before
        monkeypatch.undo()
        await query(gateway.http, "far", "show me rice")
        assert (await shows(server, "far", 4, database=database))[2:] == before


async def test_a_gateway_does_without_and_catches_up(tmp_path: pathlib.Path) -> None:
    needed()
    async with (
        valkey(starts=False) as server,
        gateway_inside(tmp_path, config=settings(server.url())) as gateway,
    ):
        await query(gateway.http, "early")
        await query(gateway.http, "gone")

        async def is_said() -> bool:
            failed = (await scrape(gateway)).value("agent_gateway_redis_mirror_total", outcome="failed")
            return failed >= 2

        await eventually(is_said)
        assert logged(gateway, "nothing is mirrored to Redis") == 1
        assert (await ask(gateway.http, "GET", PREFIX + "/health/ready")).status == 200
        assert (await ask(gateway.http, "DELETE", "/api/sessions/gone")).status == 200
        await server.start()
        await shows(server, "early", 2)
        assert await server.cli("KEYS session:gone:*") == []
        assert (logged(gateway, "nothing is mirrored"), logged(gateway, "Redis goes on")) == (1, 1)


async def test_a_server_that_is_killed_under_load_costs_nothing(tmp_path: pathlib.Path) -> None:
    needed()
    async with valkey() as server, gateway_inside(tmp_path, config=settings(server.url())) as gateway:
        names = [f"load-{number}" for number in range(6)]

        async def ask_often(name: str) -> None:
            for number in range(4):
                await query(gateway.http, name, f"show me rice {number}")

        running = asyncio.gather(*map(ask_often, names))
        for _ in range(3):
            await shows_anything(server, unless=running.done)
            await server.kill()
            await server.start()  # with nothing of before
        await running
        for name in names:
            assert len((await data(gateway, f"/session/{name}/conversation"))["conversation"]) == 8
            await query(gateway.http, name, "show me tea")
            listed = await shows(server, name, 10)
            assert listed == (await data(gateway, f"/session/{name}/conversation"))["conversation"][::-1]

        before = logged(gateway, "nothing is mirrored to Redis")
        await server.kill()  # what is then to be written once is not forgotten
        path = f"{PREFIX}/session/{names[0]}/preferences"
        assert (await ask(gateway.http, "POST", path, {"diet": "vegan"})).status == 200

        async def is_said() -> bool:
            return logged(gateway, "nothing is mirrored to Redis") > before

        await eventually(is_said)
        await server.start()

        async def is_told() -> bool:
            return "vegan" in (await server.cli(f"GET session:{names[0]}:info") or "")

        await eventually(is_told)


async def shows_anything(server: Valkey, *, unless: Callable[[], bool] = lambda: False) -> None:
    async def has() -> bool:
        return unless() or bool(await server.cli("DBSIZE"))

    await eventually(has)


async def test_a_server_that_stands_still_delays_nobody(tmp_path: pathlib.Path) -> None:
    needed()
    async with valkey() as server, gateway_inside(tmp_path, config=settings(server.url())) as gateway:
        for name in ("still", "once"):
            await query(gateway.http, name)
            await shows(server, name, 2)
        server.stand_still()
        try:
            answer = await ask(gateway.http, "POST", PREFIX + "/session/once/preferences", {"diet": "vegan"})
            assert answer.status == 200
            slowest = 0.0
            for number in range(5):
                began = time.monotonic()
                await query(gateway.http, "still", f"show me rice {number}")
                slowest = max(slowest, time.monotonic() - began)

            async def is_said() -> bool:
                return logged(gateway, "nothing is mirrored to Redis") == 1

            await eventually(is_said, seconds=30)
        finally:
            server.go_on()
        await shows(server, "still", 12)
        assert "vegan" in await server.cli("GET session:once:info")  # of which nothing was said again
        assert slowest < QUICK_SECONDS, slowest


async def test_who_waits_for_the_server_can_be_ended_at_any_moment(server: Valkey) -> None:
    """Else a gateway that ends might wait for ever: the library loses cancellations with Python 3.11."""
    redis = RedisServer(server.url(next(_databases)))

    async def write_for_ever() -> None:
        while True:
            await redis.run([Script("return 1", ["a"], [1])])

    await redis.look()
    for number in range(60):
        writing = asyncio.create_task(write_for_ever())
        await asyncio.sleep(0.001 * (number % 7))
        writing.cancel()
        await soon(asyncio.wait([writing]), 5)
        assert writing.cancelled()
    await redis.close()


async def test_a_full_server_and_one_that_drops_keys_are_said_once(tmp_path: pathlib.Path) -> None:
    needed()
    async with valkey() as server, gateway_inside(tmp_path, config=settings(server.url())) as gateway:
        await query(gateway.http, "full")
        await shows(server, "full", 2)
        await server.cli("CONFIG SET maxmemory 1")
        for number in range(3):
            await query(gateway.http, "full", f"show me rice {number}")

            async def has_failed(times: int = number + 1) -> bool:
                found = await scrape(gateway)
                return found.value("agent_gateway_redis_mirror_total", outcome="failed") >= times

            await eventually(has_failed)
        assert (logged(gateway, "nothing is mirrored to Redis"), logged(gateway, "Redis goes on")) == (1, 0)
        assert logged(gateway, "used memory > 'maxmemory'") == 1
        await server.cli("CONFIG SET maxmemory 0")
        await server.cli("CONFIG SET maxmemory-policy allkeys-lru")
        await query(gateway.http, "full", "show me tea")
        await shows(server, "full", 10)
        assert logged(gateway, "Redis goes on") == 1
        assert logged(gateway, "its maxmemory-policy is allkeys-lru") == 1
        told = await examine(gateway.inner.config)
        assert [is_well for is_well, _ in told] == [True, False]
        assert "allkeys-lru" in told[1][1]
    assert await examine(gateway.inner.config) != told  # it has ended


async def test_a_password_is_used_and_never_said(tmp_path: pathlib.Path) -> None:
    needed()
    secret = tmp_path / "url"
    config = f'[redis]\nurl_file = "{secret}"\nmirror = "seed"\n'
    async with valkey(password="right") as server:
        secret.write_text(f"redis://:{'op%2Fen%3As%40me'}@127.0.0.1:{server.port}/0")
        async with gateway_inside(tmp_path, config=config) as gateway:
            await query(gateway.http, "closed")

            async def is_said() -> bool:
                return logged(gateway, "nothing is mirrored to Redis") == 1

            await eventually(is_said)
            text = gateway.log_path.read_text() + shown(gateway.inner.config)
            assert "password" in text or "WRONGPASS" in text
            assert PASSWORD not in text
            assert "op%2Fen" not in text
        secret.write_text(server.url())
        async with gateway_inside(tmp_path, config=config) as gateway:
            await query(gateway.http, "closed")
            await shows(server, "closed", 4)


async def test_tls_is_spoken_and_checked(server: Valkey, tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path)
    database = next(_databases)
    for name, reads in (("localhost", True), ("elsewhere.example", False)):
        async with behind_tls(server, authority.server(name)) as port:
            url = f"valkeys://localhost:{port}/{database}?ssl_ca_certs={authority.root_file}"
            directory = tmp_path / name
            directory.mkdir()
            async with gateway_inside(directory, config=settings(url)) as gateway:
                await query(gateway.http, "safe")
                if reads:
                    await shows(server, "safe", 2, database=database)
                    continue

                async def is_refused(gateway: GatewayInside = gateway) -> bool:
                    return logged(gateway, "CERTIFICATE_VERIFY_FAILED") == 1

                await eventually(is_refused)


@contextlib.asynccontextmanager
async def behind_tls(server: Valkey, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port at which the server is reached with TLS."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, forth), pump(back, writer))

    listener = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
