"""Requests that another gateway has to answer: two gateways, one of which is asked."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from multidict import CIMultiDict

from gateway.auth.node_tickets import HEADER, Said, digest
from gateway.auth.tickets import Tickets
from gateway.errors import SessionElsewhere
from gateway.events.lifecycle import CloseReason
from gateway.http import forwarding
from gateway.principal import LOCAL, Principal
from tests.pairs import IDS, Pair, at_owner, bad_owner, pair
from tests.shared import SHARED, Answer, ask, forged, free_port, fresh_id
from tests.streams import StreamReader, open_stream

pytestmark = SHARED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    directory = tmp_path_factory.mktemp("two")
    async with pair(
        directory, config="[limits]\nsession_burst = 1000\n", agents={"fast": "streams_fast"}
    ) as found:
        yield found


@contextlib.contextmanager
def lost_by_owner(two: Pair, session_id: str, *, times: int) -> Iterator[None]:
    """So often the owner, too, says that another one has it."""
    check, left = two.check, times

    def checked(index: int, name: str) -> None:
        nonlocal left
        if index == 1 and name == session_id and left > 0:
            left -= 1
            raise SessionElsewhere(node=IDS[0], url=two.urls[0], session_id=name)
        check(index, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two, "check", checked)
        yield


# -- verbs ------------------------------------------------------------------------------------------------


async def test_a_message_goes_to_the_gateway_that_has_the_session(two: Pair) -> None:
    session_id = at_owner(two)
    state = await two.edge.chat(session_id, "/count 3 1")
    assert state == await two.owner.state(session_id)
    assert await two.edge.state(session_id) == state
    assert two.edge.inner.manager.get("default/local", session_id) is None


async def test_an_answer_has_each_header_once(two: Pair) -> None:
    session_id = at_owner(two)
    await two.owner.chat(session_id, "hello")
    async with two.edge.http.get(
        "/api/state",
        params={"session_id": session_id},
        headers={"Origin": two.edge.url, "X-Request-Id": "mine"},
    ) as there:
        names = [name.lower() for name, _ in there.raw_headers]
        assert sorted(set(names)) == sorted(names)
        assert there.headers["x-request-id"] == "mine"
        assert there.headers["access-control-allow-origin"] == two.edge.url


async def test_errors_of_the_other_gateway_are_its_own(two: Pair) -> None:
    session_id = at_owner(two)
    answer = await ask(two.edge.http, "DELETE", f"/api/sessions/{session_id}")
    assert (answer.status, answer.code) == (404, "session_not_found")
    answer = await ask(two.edge.http, "POST", "/api/chat", {"message": " ", "session_id": session_id})
    assert answer.status == 422


def assert_whole(stream: StreamReader, *texts: str) -> None:
    """Nothing came twice, and of these answers nothing is missing."""
    ids = [int(frame.id) for frame in stream.frames if frame.id]
    assert ids == sorted(set(ids))
    assert stream.text == "".join(texts)
    assert [frame.event for frame in stream.frames].count("turn_ended") == len(texts)


def counted(number: int) -> str:
    return " ".join(map(str, range(1, number + 1)))


async def test_a_stream_is_relayed(two: Pair) -> None:
    session_id = at_owner(two)
    before = two.forwarded("stream")
    async with open_stream(two.edge.http, session_id) as stream:
        await two.edge.chat(session_id, "/count 3 1")
        await stream.until_event("turn_ended")
        await two.owner.chat(session_id, "/count 40 1")
        await stream.until_event("turn_ended")
    assert_whole(stream, counted(3), counted(40))
    assert two.forwarded("stream") == before + 1


async def test_a_stream_survives_its_gateways_connections(two: Pair) -> None:
    session_id = at_owner(two)
    cuts, before = 5, two.failures("lost")
    async with open_stream(two.edge.http, session_id) as stream:
        await two.owner.send(session_id, "/count 300 3")
        for _ in range(cuts):
            await stream.until_event("text_delta")
            two.cut_owner()
        await stream.until_event("turn_ended")
    assert_whole(stream, counted(300))
    assert two.failures("lost") > before + 1  # some cuts find no connection, between two of them


async def test_a_stream_of_states_begins_again_with_a_whole_one(two: Pair) -> None:
    session_id = at_owner(two)
    await two.owner.chat(session_id, "hello")
    async with open_stream(two.edge.http, session_id, view="state") as stream:
        first = await stream.until(lambda frame: frame.data is not None)
        two.cut_owner()
        assert (await stream.until(lambda frame: frame.data is not None)).data == first.data


async def test_a_stream_goes_on_where_its_session_goes(two: Pair) -> None:
    """It begins at the gateway that was asked, which gives the session away."""
    session_id = fresh_id()
    await two.edge.chat(session_id, "/count 3 1")
    last = two.edge.session(session_id).log.last_seq
    while session_id not in two.has:  # the owner has a longer log of its own
        await two.owner.chat(session_id, "/count 3 1")
        if two.owner.session(session_id).log.last_seq > last + 10:
            two.has[session_id] = 1
    there = two.owner.session(session_id).log.last_seq
    del two.has[session_id]
    async with open_stream(two.edge.http, session_id) as stream:
        await stream.until_event("turn_ended")
        two.has[session_id] = 1
        await two.edge.inner.manager.close(two.edge.session(session_id), CloseReason.IDLE)
        await two.edge.chat(session_id, "/count 4 1")
        await stream.until(lambda frame: frame.event == "turn_ended" and int(frame.id or 0) > there)
    ids = [int(frame.id) for frame in stream.frames if frame.id]
    assert ids == sorted(set(ids))
    assert stream.text.endswith(counted(4))


# -- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1024 * 1024, 20 * 1024 * 1024])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_files_arrive_and_come_back_whole(two: Pair, size: int, is_chunked: bool) -> None:
    session_id = at_owner(two)
    await two.owner.chat(session_id, "hello")
    content = random.Random(size).randbytes(size)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield content[start : start + 100_000]

    path = f"/api/sessions/{session_id}/files/content?path=a.bin"
    headers = {"Content-Type": "application/octet-stream"}
    body = parts() if is_chunked else io.BytesIO(content)
    async with two.edge.http.put(path, data=body, headers=headers) as response:
        assert response.status in (200, 201), await response.text()
    async with two.edge.http.get(path, headers={"Accept": "application/octet-stream"}) as response:
        assert await response.read() == content
    if size:
        ranged = {"Accept": "application/octet-stream", "Range": "bytes=10-19"}
        async with two.edge.http.get(path, headers=ranged) as response:
            assert response.status == 206
            assert await response.read() == content[10:20]


async def test_a_body_is_refused_before_it_is_sent(two: Pair) -> None:
    session_id = at_owner(two, "nothing")
    content = io.BytesIO(bytes(20 * 1024 * 1024))
    path = f"/api/sessions/{session_id}/files/content?path=a.bin"
    async with two.edge.http.put(path, data=content, headers={"Expect": "100-continue"}) as response:
        assert response.status == 404, await response.text()


# -- what goes wrong --------------------------------------------------------------------------------------


async def test_nobody_there_is_said_after_a_while(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PAUSES", (0.01, 0.01, 0.01))
    session_id, asked = at_owner(two), two.asked
    monkeypatch.setattr(two, "urls", [two.urls[0], f"http://127.0.0.1:{free_port()}"])
    answer = await ask(two.edge.http, "POST", "/api/chat", {"message": "hi", "session_id": session_id})
    assert (answer.status, answer.code) == (503, "session_elsewhere")
    assert answer.headers["retry-after"]
    assert two.asked == asked + 4


async def test_what_may_have_been_done_is_not_done_again(two: Pair) -> None:
    session_id = at_owner(two)
    async with bad_owner(two) as bad:
        answer = await ask(two.edge.http, "POST", "/api/chat", {"message": "hi", "session_id": session_id})
    assert (answer.status, answer.code) == (503, "outcome_unknown")
    assert "retry-after" not in answer.headers
    assert len(bad.heads) == 1


async def test_what_is_the_same_when_done_twice_is_asked_for_again(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "PAUSES", (0.01, 0.01, 0.01))
    session_id = at_owner(two)
    body, key = {"message": "hi", "session_id": session_id}, {"Idempotency-Key": "k"}
    async with bad_owner(two, until=2) as bad:
        answer = await ask(two.edge.http, "POST", "/api/chat", body, headers=key)
        assert (answer.status, len(bad.heads)) == (200, 2)
    async with bad_owner(two, until=3) as bad:
        await two.edge.state(session_id)
        assert len(bad.heads) == 3


async def test_a_dead_gateway_is_not_waited_for(two: Pair) -> None:
    """Its machine takes everything and answers nothing; the store finds that it is dead."""
    session_id = at_owner(two)
    async with bad_owner(two, closes=False) as bad:
        asking = asyncio.create_task(two.edge.state(session_id))
        await bad.arrived.wait()
        two.edge.inner.watches.gone(IDS[1])
        assert (await asking)["session_id"] == session_id


async def test_a_request_is_passed_on_once(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other gateway does not have it any more: it says so, and the first one looks again."""
    monkeypatch.setattr(forwarding, "MOVED_PAUSES", (0.0, 0.01, 0.01))
    session_id, before = at_owner(two), two.failures("misdirected")
    with lost_by_owner(two, session_id, times=2):
        await two.edge.state(session_id)
    assert two.failures("misdirected") == before + 2
    with lost_by_owner(two, session_id, times=100):
        answer = await ask(two.edge.http, "GET", f"/api/state?session_id={session_id}")
    assert (answer.status, answer.code) == (503, "session_elsewhere")
    assert two.failures("misdirected") == before + 6


async def test_an_answer_that_broke_off_does_not_look_whole(two: Pair) -> None:
    session_id = at_owner(two)
    await two.owner.chat(session_id, "hello")
    path = f"/api/sessions/{session_id}/files/content?path=b.bin"
    async with two.owner.http.put(path, data=io.BytesIO(bytes(20 * 1024 * 1024))) as response:
        assert response.status in (200, 201), await response.text()
    async with two.edge.http.get(path, headers={"Accept": "application/octet-stream"}) as response:
        await response.content.readany()
        two.cut_owner()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


# -- the port for other gateways --------------------------------------------------------------------------


async def asked_of_node(two: Pair, path: str = "/api/sessions", **kwargs: Any) -> Answer:
    """A request to the owner's port for other gateways."""
    async with aiohttp.ClientSession(two.urls[1]) as http:
        return await ask(http, kwargs.pop("method", "GET"), path, **kwargs)


def ticket(two: Pair, path: str, *, method: str = "GET", to: int = IDS[1], **more: Any) -> dict[str, str]:
    """The header of a good one, from the edge."""
    host = two.urls[1].partition("://")[2].encode()
    said = Said(
        edge=IDS[0],
        to=to,
        mark="m",
        asked=digest("http", method, path.encode(), host),
        client="10.0.0.1",
        **more,
    )
    return {HEADER.decode(): two.edge.inner.node_tickets.write(said, LOCAL)}


@pytest.mark.parametrize("path", ["/api/sessions", "/", "/livez", "/metrics", "/openapi.json", "/_node/ping"])
async def test_without_a_ticket_nothing_is_served(two: Pair, path: str) -> None:
    answer = await asked_of_node(two, path)
    assert (answer.status, answer.code) == (401, "unauthorized")


async def test_a_ticket_is_good_once_and_for_one_request(two: Pair) -> None:
    path = "/api/sessions"
    good = ticket(two, path)
    assert (await asked_of_node(two, path, headers=good)).status == 200
    assert "used before" in (await asked_of_node(two, path, headers=good)).body["error"]["message"]
    for other in ("/api/sessions?limit=1", "/api/me", "/_node/ping"):
        answer = await asked_of_node(two, other, headers=ticket(two, path))
        assert "another request" in answer.body["error"]["message"]
    answer = await asked_of_node(two, path, headers=ticket(two, path), method="DELETE")
    assert answer.status == 401
    assert (await asked_of_node(two, path, headers={**ticket(two, path), "Host": "other"})).status == 401
    assert (await asked_of_node(two, path, headers=ticket(two, path, to=7))).status == 421


async def test_a_ticket_of_another_secret_or_another_kind_is_refused(two: Pair) -> None:
    path, wall_ms = "/api/sessions", two.edge.clock.wall_ms
    foreign = Tickets(wall_ms=wall_ms)
    foreign.open(bytes(32))
    for text in (
        forged(ticket(two, path)[HEADER.decode()]),
        foreign.issue("node", seconds=30, principal=LOCAL),
        two.edge.inner.auth.tickets.issue("user", seconds=30, principal=LOCAL),
        two.edge.inner.auth.tickets.issue("node", seconds=-1, principal=LOCAL),
        two.edge.inner.auth.tickets.issue("node", seconds=3600, principal=LOCAL),
        "",
        "x",
    ):
        answer = await asked_of_node(two, path, headers={HEADER.decode(): text})
        assert (answer.status, answer.code) == (401, "unauthorized"), text


async def test_two_tickets_are_none(two: Pair) -> None:
    path = "/api/sessions"
    headers = [*ticket(two, path).items(), *ticket(two, path).items()]
    assert (await asked_of_node(two, path, headers=CIMultiDict(headers))).status == 401


async def test_a_ticket_means_nothing_at_the_public_port(two: Pair) -> None:
    path = "/api/sessions"
    host = two.owner.url.partition("://")[2].encode()
    said = Said(edge=IDS[0], to=IDS[1], mark="m", asked=digest("http", "GET", path.encode(), host))
    text = two.edge.inner.node_tickets.write(said, Principal("default", "somebody"))
    await two.owner.chat(fresh_id(), "hello")
    answer = await ask(two.owner.http, "GET", path, headers={HEADER.decode(): text})
    assert answer.body["sessions"]  # somebody has none


async def test_what_a_client_says_of_connections_and_gateways_stays_here(two: Pair) -> None:
    session_id = at_owner(two)
    async with bad_owner(two, closes=True, until=4) as bad:
        asking = ask(
            two.edge.http,
            "POST",
            "/api/chat",
            {"message": "hi", "session_id": session_id},
            headers={
                HEADER.decode(): "mine",
                "X-Agw-Elsewhere": "mine",
                "Connection": "keep-alive, X-Dropped",
                "X-Dropped": "1",
                "Keep-Alive": "1",
                "TE": "trailers",
                "Proxy-Authorization": "x",
                "X-Kept": "1",
            },
        )
        assert (await asking).status == 503
    head = bad.heads[0].lower()
    assert head.count(HEADER + b":") == 1
    assert b"x-kept: 1" in head
    for dropped in (b"mine", b"x-dropped", b"keep-alive:", b"te:", b"proxy-authorization"):
        assert dropped not in head, head
    assert head.count(b"content-length:") == 1
    assert b"transfer-encoding" not in head
