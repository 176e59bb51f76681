"""Search, labels and titles over HTTP."""

from __future__ import annotations

from typing import Any, Final

import aiohttp

from tests.inside import GatewayInside
from tests.shared import SHARED, ask, fresh_id, shared_gateway

pytestmark = SHARED

CONFIG: Final = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n'
TITLED: Final[Any] = {
    "turns": [
        [{"update": {"sessionUpdate": "session_info_update", "title": "By the agent"}}, {"say": "done"}]
    ],
    "repeat": True,
}
gateway = shared_gateway(CONFIG, agents={"titled": TITLED})


async def say(http: aiohttp.ClientSession, name: str, text: str, **more: Any) -> Any:
    body = {"session_id": name, "message": text, **more}
    answer = await ask(http, "POST", "/api/chat?wait=240", body)
    assert answer.status == 200, answer.body
    return answer.body


async def listed(http: aiohttp.ClientSession, name: str, query: str = "") -> dict[str, Any]:
    rows = (await ask(http, "GET", f"/api/sessions{query}")).body["sessions"]
    return next(row for row in rows if row["session_id"] == name)


async def labelled(http: aiohttp.ClientSession, name: str, **labels: Any) -> Any:
    answer = await ask(http, "PUT", f"/api/sessions/{name}/labels", labels)
    assert answer.status == 200, answer.body
    return answer.body


async def test_what_was_said_is_found_by_whom_it_belongs_to(gateway: GatewayInside) -> None:
    mine, others = fresh_id(), fresh_id()
    async with (
        gateway.caller(await gateway.mint(fresh_id("ann"), tenant="acme")) as ann,
        gateway.caller(await gateway.mint(fresh_id("bob"), tenant="acme")) as bob,
    ):
        await say(ann, mine, "/echo the Umbrella is by the door")
        await say(bob, others, "/echo my umbrella is lost")
        answer = (await ask(ann, "GET", "/api/search?q=umbrel%20DOOR")).body
        assert answer["is_complete"]
        assert "following" not in answer
        assert {hit["session_id"] for hit in answer["hits"]} == {mine}
        title, *messages = answer["hits"]
        assert "message_id" not in title
        assert {hit["sender"] for hit in messages} == {"user", "agent"}
        for hit in answer["hits"]:
            marked = [hit["excerpt"][start:end].lower() for start, end in hit["marks"]]
            assert marked == ["umbrel", "door"]
        state = (await ask(ann, "GET", f"/api/sessions/{mine}/history")).body
        assert {hit["message_id"] for hit in messages} <= {item.get("id") for item in state["items"]}
        some = (await ask(ann, "GET", "/api/search?q=umbrel&limit=1")).body
        rest = (await ask(ann, "GET", f"/api/search?q=umbrel&after={some['following']}")).body
        assert (some["is_complete"], rest["is_complete"], rest["hits"]) == (False, True, [])
        await ask(ann, "DELETE", f"/api/sessions/{mine}")
        assert (await ask(ann, "GET", "/api/search?q=umbrella")).body["hits"] == []
        for wrong in ("", "?q=", "?q=%20", "?q=" + "x" * 501, "?q=x&after=nothing", "?q=x&limit=0"):
            assert (await ask(ann, "GET", f"/api/search{wrong}")).status == 422, wrong


async def test_a_session_is_filed_and_listed_so(gateway: GatewayInside) -> None:
    name = fresh_id()
    async with gateway.caller(await gateway.mint(fresh_id("ann"), tenant="acme")) as ann:
        seq = (await say(ann, name, "/echo one"))["seq"]
        assert {"pinned", "archived", "tags"}.isdisjoint(await listed(ann, name))
        assert (await listed(ann, name))["unread"] is True
        row = await labelled(ann, name, pinned=True, tags=["a  b", "", "a b", "ü"], seen_seq=seq)
        assert (row["pinned"], row["tags"], "unread" in row) == (True, ["a b", "ü"], False)
        await say(ann, fresh_id(), "/echo another, used later")
        row = await listed(ann, name, "?limit=1")
        assert (row["pinned"], row["tags"]) == (True, ["a b", "ü"]), "pinned ones are always in the list"
        await labelled(ann, name, pinned=False, archived=True, tags=None)
        row = await listed(ann, name)
        assert ("pinned" in row, row["archived"], row["tags"]) == (False, True, ["a b", "ü"])
        await say(ann, name, "/echo two")
        assert (await ask(ann, "GET", f"/api/sessions/{name}")).body["unread"] is True
        for wrong in ({"tags": ["x" * 41]}, {"tags": [str(n) for n in range(21)]}, {"seen_seq": -1}):
            assert (await ask(ann, "PUT", f"/api/sessions/{name}/labels", wrong)).status == 422
        assert (await ask(ann, "PUT", f"/api/sessions/{fresh_id()}/labels", {"pinned": True})).status == 404


async def test_the_agents_title_takes_the_place_of_the_first_words_and_never_of_a_persons(
    gateway: GatewayInside,
) -> None:
    name = fresh_id()
    async with gateway.caller(await gateway.mint(fresh_id("ann"), tenant="acme")) as ann:
        await say(ann, name, "plain words", agent="titled")
        assert (await listed(ann, name))["title"] == "By the agent"
        await ask(ann, "PATCH", f"/api/sessions/{name}", {"title": "By me"})
        found = (await ask(ann, "GET", "/api/search?q=by%20me")).body["hits"]
        assert [hit["excerpt"] for hit in found] == ["By me"]
        await say(ann, name, "go on")
        assert (await listed(ann, name))["title"] == "By me"
