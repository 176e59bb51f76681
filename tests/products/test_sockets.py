"""Product chat over WebSockets: one order for everybody, no loss, no repeat, and bad clients hurt nobody."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
import socket as sockets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import websockets

from tests.patience import soon, within
from tests.products.shop import ADMIN_CHATS, CHATS, PASSWORD, Browser, Shop, running_shop, shared_shop
from tests.shared import SHARED, crowding, eventually

TCP_REPAIR = 19
MOST = 30
"""Sockets of one address, of ten times as many."""

shop = shared_shop(session_rate=60000, visitor_rate=60000, address_rate=60000, sockets_per_address=200)
pytestmark = SHARED


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(shop: Shop) -> AsyncIterator[Browser]:
    async with shop.visitor() as browser:
        yield browser


def said(frames: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(f["sender_type"], f["message"]) for f in frames if f["type"] == "chat_message"]


async def test_frames_name_the_peer_the_connection_and_the_product(visitor: Browser) -> None:
    name = await visitor.begin()
    async with (
        visitor.chat_socket(name) as one,
        visitor.socket(f"/ws/chat/session/{name}?user_name=Peer") as two,
    ):
        mine = (await one.until("connection_status"))["connection_id"]
        await one.until("user_joined", user_name="Peer")
        await one.send("chat_message", message="/echo by socket")
        frame = await two.until("chat_message", sender_type="customer")
        assert (frame["connection_id"], "product_id" in frame) == (mine, False)
        await visitor.say(name, "/echo by rest")
        frame = await two.until("chat_message", message="/echo by rest")
        assert (frame["connection_id"], frame["product_id"]) == (None, 1)
        await one.send("message_read", message_ids=[5, 999_999])
        assert (await two.until("message_read"))["message_ids"] == [5, 999_999]


async def test_everybody_sees_everything_in_one_order_and_nobody_an_echo(
    shop: Shop, visitor: Browser
) -> None:
    name = await visitor.begin(customer_name="Dana")
    async with (
        shop.staff() as ruth,
        visitor.chat_socket(name) as one,
        visitor.chat_socket(name, query="?customer_name=Dana+B") as two,
        ruth.socket(f"/ws/chat/session/{name}?admin_name=Ruth") as three,
    ):
        hello = await one.next()
        assert hello["type"] == "connection_status"
        assert (hello["status"], set(hello)) == (
            "connected", {"type", "status", "connection_id", "timestamp"}
        )  # fmt: skip
        await one.until("user_joined", user_name="Dana B", user_type="customer")
        await one.until("user_joined", user_name="Ruth", user_type="admin")
        await one.send("typing_indicator", is_typing=True)
        assert (await two.until("typing_indicator"))["user_name"] == "Dana"
        await one.send("chat_message", message="/echo by socket")
        frame = await two.until("chat_message", sender_type="customer")
        assert (frame["message"], frame["sender_name"], frame["session_id"]) == (
            "/echo by socket",
            "Dana",
            name,
        )
        assert isinstance(frame["message_id"], int)
        await two.until("chat_message", message="by socket", sender_type="assistant")
        await visitor.say(name, "/echo by rest")
        await one.until("chat_message", message="/echo by rest")
        for socket in (one, two, three):
            await socket.until("chat_message", message="by rest")
        await three.send("chat_message", message="I am Ruth")
        await one.until("chat_message", message="I am Ruth", sender_type="admin")
        messages = await visitor.history(name)
        await one.send("message_read", message_ids=[messages[-1]["id"]])
        assert (await three.until("message_read"))["message_ids"] == [messages[-1]["id"]]
        for socket in (one, two, three):
            await socket.settled()
        rows = [(m["sender_type"], m["message_text"]) for m in messages]
        assert said(one.frames) == [row for row in rows if row != ("customer", "/echo by socket")]
        assert said(two.frames) == rows
        assert said(three.frames) == [row for row in rows if row != ("admin", "I am Ruth")]
        for socket in (one, two, three):
            seqs = [f["seq"] for f in socket.frames if "seq" in f]
            assert seqs == sorted(set(seqs))
    assert {f["type"] for f in one.frames} >= {"typing_indicator", "session_status"}


async def test_who_leaves_is_missed(visitor: Browser) -> None:
    name = await visitor.begin()
    async with visitor.chat_socket(name) as one:
        async with visitor.chat_socket(name, query="?customer_name=Two"):
            await one.until("user_joined", user_name="Two")
        await one.until("user_left", user_name="Two")


async def test_coming_back_with_the_last_seq_brings_what_was_missed_once(visitor: Browser) -> None:
    name = await visitor.begin(initial_message="/echo first")
    async with visitor.chat_socket(name, query="?after=0") as socket:
        await socket.until("chat_message", message="first")
        await socket.settled()
        seen = max(f["seq"] for f in socket.frames if "seq" in f)
    await visitor.say(name, "/echo missed")
    await visitor.until(name, lambda found: len(found) == 4)
    async with visitor.chat_socket(name, query=f"?after={seen}") as socket:
        await socket.until("chat_message", message="missed")
        assert said(await socket.settled()) == [("customer", "/echo missed"), ("assistant", "missed")]


async def test_a_message_that_is_sent_again_after_a_lost_answer_stands_once(visitor: Browser) -> None:
    name = await visitor.begin()
    numbers = []
    for _ in range(2):
        async with visitor.chat_socket(name) as socket:
            await socket.send("chat_message", message="/echo once", client_id="k")
            numbers.append((await socket.until("message_sent", client_id="k"))["message_id"])
    assert numbers[0] == numbers[1]
    messages = await visitor.until(name, lambda found: len(found) == 2)
    assert [m["message_text"] for m in messages] == ["/echo once", "once"]


async def test_the_staff_hears_of_new_and_urgent_messages_and_answers_from_one_socket(
    shop: Shop, visitor: Browser
) -> None:
    async with shop.staff() as ruth, ruth.socket("/ws/chat/admin/1?admin_name=Ruth") as desk:
        await desk.until("connection_status")
        name = await visitor.begin(2, customer_name="Dana", initial_message="I want a refund")
        notice = await desk.until("new_customer_message", session_id=name)
        assert (notice["product_id"], notice["customer_name"], notice["message"], notice["priority"]) == (
            2, "Dana", "I want a refund", "urgent",
        )  # fmt: skip
        async with visitor.chat_socket(name, product=2) as socket:
            await socket.until("connection_status")
            await desk.send("chat_message", session_id=name, message="Of course")
            frame = await socket.until("chat_message", sender_type="admin")
            assert (frame["message"], frame["sender_name"]) == ("Of course", "Ruth")
            await desk.send("chat_message", session_id="nobody", message="hm")
            assert (await desk.until("error"))["error"] == "Chat session not found"
        stats = (await ruth.ask("GET", "/api/websocket/stats")).json
        assert stats["admin_connections"] == 1
        where = f"/api/websocket/sessions/{name}"
        assert (await ruth.ask("GET", where)).json["session_id"] == name
        debug = (await ruth.ask("GET", "/api/debug/websocket-status")).json
        assert set(debug) == {"timestamp", "rate_limiter", "connection_pool", "websocket_manager"}


async def test_a_ping_is_answered(visitor: Browser) -> None:
    name = await visitor.begin()
    async with visitor.chat_socket(name) as socket:
        await socket.send("ping", timestamp=12)
        await socket.until("pong", timestamp=12)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ("{", "Invalid JSON format"), ("[1]", "Invalid JSON format"), ("", "Invalid JSON format"),
        ('{"type": 7}', "Invalid JSON format"), (b"\x00\xff", "Invalid JSON format"),
        ("[" * 60_000, "Invalid JSON format"),
        ('{"type": "dance"}', "Unknown message type"),
        ('{"type": "chat_message", "message": ""}', "Message text cannot be empty"),
        ('{"type": "chat_message", "message": "%s"}' % ("x" * 2001),
         "Message text cannot exceed 2000 characters"),
        ('{"type": "message_read", "message_ids": ["x"]}', "Invalid JSON format"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_said_and_the_socket_stays_open(
    visitor: Browser, frame: str | bytes, error: str
) -> None:
    name = await visitor.begin()
    async with visitor.chat_socket(name) as socket:
        await socket.connection.send(frame)
        found = await socket.until("error")
        assert found["error"] == error
        assert "timestamp" in found
        await socket.send("ping", timestamp=1)
        await socket.until("pong")


async def test_a_frame_of_ten_megabytes_is_refused_and_the_client_hears_why(
    shop: Shop, visitor: Browser
) -> None:
    name = await visitor.begin()
    reader, writer = await asyncio.open_connection(*address_of(shop))
    writer.write(handshake(shop, visitor, f"/ws/chat/customer/1/{name}"))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81\xff" + (10_000_000).to_bytes(8, "big") + b"mask" + b"x" * 10_000_000)
    rest = await soon(reader.read(), 15)
    writer.close()
    await writer.wait_closed()
    assert b"\x03\xf1" in rest, rest[-200:]


def address_of(shop: Shop) -> tuple[str, int]:
    host, _, port = shop.gateway.url.removeprefix("http://").partition(":")
    return host, int(port)


def handshake(shop: Shop, visitor: Browser, path: str) -> bytes:
    """The head of a visitor's handshake, for sockets that no library opens."""
    cookies = "; ".join(f"{c.key}={c.value}" for c in visitor.http.cookie_jar)
    host = shop.gateway.url.removeprefix("http://")
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nCookie: {cookies}\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


async def test_a_message_in_too_many_fragments_is_refused_and_a_fragmented_one_is_not(
    visitor: Browser,
) -> None:
    name = await visitor.begin()
    async with visitor.chat_socket(name) as socket:
        await socket.connection.send(iter(['{"type": "pi', 'ng", "time', 'stamp": 5}']))
        await socket.until("pong", timestamp=5)
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.connection.send(iter([""] * 5_000))
        assert await socket.closed() == 1009


async def test_a_flood_is_closed_and_others_do_not_notice(visitor: Browser) -> None:
    name, calm = await visitor.begin(), await visitor.begin()
    async with visitor.chat_socket(name) as socket, visitor.chat_socket(calm) as other:
        with contextlib.suppress(websockets.ConnectionClosed):
            for number in range(20_000):
                await socket.send("ping", timestamp=number)
        await other.settled()
        assert await socket.closed() == 1008


@pytest.mark.parametrize("path", ["/ws/chat/customer/1/nobody", "/ws/chat/customer/999/NAME",
                                  "/ws/chat/customer/x/NAME", "/ws/chat/customer/2/NAME",
                                  "/ws/chat/session/nobody", "/ws/chat/session/a%20b"])  # fmt: skip
async def test_a_socket_of_nothing_is_told_so_and_closed_for_good(visitor: Browser, path: str) -> None:
    name = await visitor.begin()
    async with visitor.socket(path.replace("NAME", name)) as socket:
        assert await socket.closed() == 1008
        assert [f["type"] for f in socket.frames] == ["error"]


async def test_a_stranger_cannot_listen(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin()
    async with shop.visitor() as stranger, stranger.chat_socket(name) as socket:
        assert await socket.closed() == 1008
        assert socket.frames[0]["error"] == "Chat session not found"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws/chat/session/x", {"Origin": "http://evil.example"}, 403),
        ("/ws/chat/session/x", {"Host": "evil.example"}, 403),
        ("/ws/chat/admin/1", {}, 403),
        ("/ws/chat/admin/1?token=aga_forged", {}, 401),
        ("/ws/chat/admin/1?token=agk_forged", {}, 401),
        ("/ws/nowhere", {}, 404),
        ("/", {}, 400),
        ("/api/state", {}, 400),
    ],
)
async def test_a_handshake_that_may_not_be_is_answered_before_it_is_one(
    shop: Shop, visitor: Browser, path: str, headers: dict[str, str], status: int
) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers,
    }  # fmt: skip
    async with visitor.http.get(path, headers=upgrade) as response:
        assert response.status == status
        assert response.headers["X-Request-Id"]
        assert (await response.json()).keys() & {"error", "detail"}
    assert "forged" not in shop.gateway.log()


async def test_a_broken_handshake_is_a_bad_request(shop: Shop) -> None:
    upgrade = b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    heads = [
        b"GET /ws/x HTTP/1.1\r\n%b\r\n" % upgrade,
        b"GET /ws/x HTTP/1.1\r\n%b%b\r\n" % (upgrade, key),
        b"GET /ws/x HTTP/1.1\r\n%b%b\r\n" % (upgrade, b"".join(b"X-H%d: y\r\n" % n for n in range(200))),
        b"GET /ws/%b HTTP/1.1\r\n%b\r\n" % (b"x" * 12_000, upgrade),
    ]
    for head in heads:
        reader, writer = await asyncio.open_connection(*address_of(shop))
        writer.write(head)
        answer = await soon(reader.read(), 15)
        writer.close()
        await writer.wait_closed()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 426")), answer[:200]
    assert "Traceback" not in shop.gateway.log()


async def test_the_token_of_a_login_opens_the_desk_and_stands_in_no_log(shop: Shop) -> None:
    token = (await shop.gateway.post("/api/login", {"username": "ruth", "password": PASSWORD}))[
        "access_token"
    ]
    async with shop.visitor() as browser, browser.socket(f"/ws/chat/admin/1?token={token}") as desk:
        await desk.until("connection_status")
    assert token not in shop.gateway.log()


async def test_a_socket_ends_with_the_credential_that_opened_it(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin()
    key = await shop.gateway.mint("agent-of-the-shop", tenant="default", scopes=("support",))
    async with shop.visitor() as browser, browser.socket(f"/ws/chat/session/{name}?token={key}") as socket:
        await socket.until("connection_status")
        async with shop.gateway.operator() as operator:
            await operator.revoke_key(key.split("_")[1])
        await visitor.say(name, "/echo not for you")
        assert await socket.closed() == 1008
        assert not [frame for frame in socket.frames if frame["type"] == "chat_message"]


async def test_one_visitors_many_sockets_hurt_only_that_visitor(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin()
    async with within(30):
        opened = [visitor.chat_socket(name) for _ in range(15)]
        held = [await one.__aenter__() for one in opened]
        firsts = [await one.next() for one in held]
        codes = [frame.get("code") for frame in firsts]
        assert codes.count("CONNECTION_LIMIT_EXCEEDED") == 5
        refused = held[codes.index("CONNECTION_LIMIT_EXCEEDED")]
        assert await refused.closed() == 1008
        async with shop.visitor() as other:
            second = await other.begin()
            async with other.chat_socket(second) as fine:
                await fine.until("connection_status")
        for one in opened:
            await one.__aexit__(None, None, None)
    async with visitor.chat_socket(name) as again:
        await again.until("connection_status")


def vanish(peer: sockets.socket) -> None:
    """Ends a socket without a word to the other side."""
    try:
        peer.setsockopt(sockets.IPPROTO_TCP, TCP_REPAIR, 1)
    except PermissionError:
        pytest.skip("NOT TESTED: only root can make a peer vanish")
    peer.close()


async def test_hundreds_of_sockets_of_one_address_leave_the_shop_open(tmp_path: pathlib.Path) -> None:
    also = "[server]\nsocket_ping_seconds = 600\n"  # none of them is given up meanwhile
    limits: dict[str, Any] = {
        "sockets_per_visitor": 5000,
        "sockets_per_session": 5000,
        "sockets_per_address": MOST,
    }
    running = running_shop(tmp_path, also=also, is_process=True, **limits)
    async with running as shop, shop.visitor() as visitor:
        name = await visitor.begin()
        path, origin = f"/ws/chat/customer/1/{name}", visitor.gateway.url
        held, firsts = [], []
        for _ in range(10 * MOST):
            socket = await visitor.http.ws_connect(path, origin=origin)
            held.append(socket)
            firsts.append(await socket.receive_json())
        assert [frame["type"] for frame in firsts[:MOST]] == ["connection_status"] * MOST
        assert {frame.get("code") for frame in firsts[MOST:]} == {"CONNECTION_LIMIT_EXCEEDED"}
        assert (await visitor.say(name, "/echo still open")).status == 200
        await asyncio.gather(*(socket.close() for socket in held))


async def test_a_client_that_reads_nothing_delays_nobody(shop: Shop, visitor: Browser) -> None:
    name = await visitor.begin()
    deaf = sockets.create_connection(address_of(shop))
    deaf.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    deaf.sendall(handshake(shop, visitor, f"/ws/chat/customer/1/{name}"))
    async with shop.staff() as ruth, visitor.chat_socket(name) as socket:
        for number in range(200):
            await ruth.ask(
                "POST", f"{ADMIN_CHATS}/{name}/respond", {"message_text": f"{number} " + "x" * 1900}
            )
        for number in range(200):
            frame = await socket.until("chat_message", sender_type="admin")
            assert frame["message"].startswith(f"{number} ")
    deaf.close()


async def test_a_drain_closes_every_socket_so_that_its_client_comes_back(tmp_path: pathlib.Path) -> None:
    async with (
        running_shop(tmp_path, is_process=True) as shop,
        shop.visitor() as visitor,
        shop.staff() as ruth,
    ):
        name = await visitor.begin()
        async with visitor.chat_socket(name) as socket, ruth.socket("/ws/chat/admin/1") as desk:
            await socket.until("connection_status")
            await desk.until("connection_status")
            shop.gateway.process.send_signal(signal.SIGTERM)
            assert await socket.closed() == 1012
            assert await desk.closed() == 1012
        assert await soon(shop.gateway.process.wait(), 15) == 0
        assert "Traceback" not in shop.gateway.log()


@pytest.mark.parametrize("how", ["silent", "vanished"])
async def test_a_peer_that_answers_no_ping_is_found_and_missed(tmp_path: pathlib.Path, how: str) -> None:
    """A silent one still takes what it is sent; of a vanished one nothing is ever heard again."""
    also = "\n[server]\nsocket_ping_seconds = 0.5\nhalf_open_seconds = 60\n"
    async with running_shop(tmp_path, also=also) as shop, shop.visitor() as visitor, shop.staff() as ruth:
        name = await visitor.begin()
        async with ruth.socket(f"/ws/chat/session/{name}") as desk:
            await desk.until("connection_status")
            peer = sockets.create_connection(address_of(shop))
            peer.sendall(handshake(shop, visitor, f"/ws/chat/customer/1/{name}"))
            await desk.until("user_joined", user_type="customer")
            if how == "vanished":
                vanish(peer)
            began = asyncio.get_running_loop().time()
            await desk.until("user_left", user_type="customer")
            assert asyncio.get_running_loop().time() - began < 10 * crowding()
            stats = (await ruth.ask("GET", "/api/websocket/stats")).json
            assert stats["customer_connections"] == 0
        peer.close()


async def test_an_idle_socket_is_closed(tmp_path: pathlib.Path) -> None:
    async with running_shop(tmp_path, socket_idle_seconds=0.5) as shop, shop.visitor() as visitor:
        name = await visitor.begin()
        async with visitor.chat_socket(name) as socket:
            assert await socket.closed() == 1000


async def test_a_socket_outlives_the_sleep_of_its_session(tmp_path: pathlib.Path) -> None:
    more = (
        "\n[sessions]\nidle_timeout_seconds = 0.5\nsweep_interval_seconds = 0.1\npark_after_seconds = 0.1\n"
    )
    async with running_shop(tmp_path, also=more) as shop, shop.visitor() as visitor:
        name = await visitor.begin()
        async with visitor.chat_socket(name) as socket:
            await eventually(lambda: _nobody_is_in_memory(visitor))
            await visitor.say(name, "/echo awake")
            await socket.until("chat_message", message="awake")


async def test_a_deleted_chat_closes_its_sockets(visitor: Browser) -> None:
    name = await visitor.begin()
    async with visitor.chat_socket(name) as socket:
        await socket.until("connection_status")
        assert (await visitor.ask("DELETE", f"/api/sessions/{name}")).status == 200
        assert await socket.closed() == 1000
    assert (await visitor.ask("GET", f"{CHATS.format(1)}/{name}/messages")).status == 404


async def _nobody_is_in_memory(visitor: Browser) -> bool:
    return bool((await visitor.ask("GET", "/api/sessions/count")).json["active_sessions"] == 0)


async def test_a_page_of_another_site_uses_a_visitor_token(shop: Shop) -> None:
    """Where cookies of third parties are blocked: the token of the first answer, in header and address."""
    async with shop.visitor() as page:
        page.http.cookie_jar.clear()
        name, origin = "session_1_a_b", "http://localhost:1"
        first = await page.ask(
            "POST",
            CHATS.format(1),
            {"session_id": name},
            headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"},
        )
        token = first.headers["X-Visitor-Token"]
        assert "Set-Cookie" not in first.headers
        async with page.socket(f"/ws/chat/session/{name}?visitor={token}", origin=origin) as socket:
            await socket.until("connection_status")
        with pytest.raises(websockets.InvalidStatus):  # a token is bound to its page's origin
            await page.socket(
                f"/ws/chat/session/{name}?visitor={token}", origin=shop.gateway.url
            ).__aenter__()


async def test_signing_in_ends_the_visitors_sockets_and_the_staff_goes_on(shop: Shop) -> None:
    async with shop.visitor() as browser, shop.staff() as ruth:
        name = await browser.begin()
        async with (
            browser.chat_socket(name) as socket,
            ruth.socket(f"/ws/chat/session/{name}") as desk,
        ):
            await browser.say(name, "/echo before")
            for one in (socket, desk):
                await one.until("chat_message", sender_type="assistant")
            seen = max(frame.get("seq", 0) for frame in socket.frames)
            key = await shop.gateway.mint("dana")
            answer = await browser.ask("POST", "/api/auth/sign-in", {"key": key})
            assert answer.status == 200, answer.json
            assert await socket.closed() == 1012
            await browser.say(name, "/echo after")
            await desk.until("chat_message", message="after")
            assert not [frame for frame in socket.frames if "after" in str(frame)]
            await desk.send("chat_message", message="a person answers", client_id="r1")
            await desk.until("message_sent", client_id="r1")
            async with browser.chat_socket(name, query=f"?after={seen}") as again:
                await again.until("chat_message", message="a person answers")
                said = [frame["message"] for frame in again.frames if frame["type"] == "chat_message"]
                assert said == ["/echo after", "after", "a person answers"]
        async with shop.visitor() as stranger, stranger.chat_socket(name) as other:
            assert (await other.next())["type"] == "error"
            assert await other.closed() == 1008


async def test_half_an_emoji_by_socket_is_mended(visitor: Browser) -> None:
    name = await visitor.begin()
    async with visitor.chat_socket(name) as socket:
        await socket.connection.send('{"type": "chat_message", "message": "hi \\ud83d", "client_id": "h1"}')
        await socket.until("message_sent", client_id="h1")
    assert (await visitor.history(name))[0]["message_text"] == "hi \ufffd"
