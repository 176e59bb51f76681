"""Some tests of the other modules here with everything stored in PostgreSQL, where all of them can run
(tests/stored.py), and what a gateway finds there when it is started again.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Final

import pytest

from tests.gateway import test_finding as finding
from tests.gateway import test_together as together
from tests.inside import gateway_inside
from tests.shared import SHARED, ask, shared_gateway
from tests.stored import stored_in

pytestmark = SHARED


@pytest.fixture(scope="module", autouse=True)
def on_postgresql() -> Iterator[None]:
    with stored_in("postgresql"):
        yield


gateway = shared_gateway(together.CONFIG, agents={"titled": finding.TITLED})
test_what_was_said_is_found = finding.test_what_was_said_is_found_by_whom_it_belongs_to
test_a_session_is_filed = finding.test_a_session_is_filed_and_listed_so
test_a_title_is_listed = (
    finding.test_the_agents_title_takes_the_place_of_the_first_words_and_never_of_a_persons
)
test_links_are_listed = together.test_links_are_listed_with_their_kind_and_uses

CHAT: Final = "/api/chat?wait=240"


async def test_what_was_kept_is_there_when_the_gateway_is_started_again(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=together.CONFIG) as first:
        key = await first.mint("ann", tenant="acme")
        async with first.caller(key) as ann:
            said = {"session_id": "a", "message": "/echo the umbrella"}
            assert (await ask(ann, "POST", CHAT, said, headers={"Idempotency-Key": "k"})).status == 200
            await ask(ann, "PUT", "/api/sessions/a/labels", {"pinned": True, "tags": ["home"]})
            link = (await ask(ann, "POST", "/api/sessions/a/shares", {"kind": "view"})).body["token"]
            assert (await ask(ann, "POST", CHAT, {"session_id": "b", "message": "/echo x"})).status == 200
            assert (await ask(ann, "DELETE", "/api/sessions/b")).status == 200
        assert not list(first.data_path.glob("*.db*")), "nothing is in a file"
    async with gateway_inside(tmp_path, config=together.CONFIG) as again, again.caller(key) as ann:
        rows = (await ask(ann, "GET", "/api/sessions")).body["sessions"]
        assert [(row["session_id"], row["pinned"], row["tags"]) for row in rows] == [("a", True, ["home"])]
        hits = (await ask(ann, "GET", "/api/search?q=umbrel")).body["hits"]
        assert {hit["sender"] for hit in hits if "message_id" in hit} == {"user", "agent"}
        assert (await ask(ann, "GET", "/api/sessions/b")).status in (404, 410)
        async with again.caller() as guest:
            shown = await ask(guest, "GET", f"/api/shared/{link}")
            assert shown.status == 200, shown.body
        assert (await ask(ann, "GET", "/api/usage")).body["total"]["wall_seconds"] > 0
        once = await ask(ann, "POST", CHAT, said, headers={"Idempotency-Key": "k"})
        assert [one["content"] for one in once.body["messages"]].count("/echo the umbrella") == 1
