"""What earlier versions wrote opens with this version and goes on: data directories that were killed in the
middle of work, configurations, backups, keys, cookies and links. `make.py` made them.

The gateway's wall clock begins a minute after the kill, so that a cookie which is read for some days only, as
one with an old name, is read for ever here.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sys
import tarfile
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio
from msgspec import Struct

from gateway.events.facts import iso
from gateway.sessions.log import EventLog
from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.integration.test_command_line import typed
from tests.old.make import (
    CHAT,
    KEPT,
    ONCE,
    ONCE_KEY,
    PRODUCT_CHAT,
    SHOPPING,
    Answer,
    Kept,
    answered,
    events_of_one_more,
    readings,
    say,
    shop_rows,
)
from tests.old.since import DISABLED, NEWER, has_newer, take_back
from tests.old.versions import CONFIG, Asker, lay_out, serving
from tests.shared import SHARED
from tests.streams import open_stream, state_when

pytestmark = SHARED
VERSIONS: Final = sorted(path.parent.name for path in KEPT.glob("*/answers.json"))
MINUTE_MS: Final = 60_000
CUT: Final = ("asks", "waits")
"""Sessions with a turn that the kill cut: each version says in its own words, and events, that it was."""


class Opened(Struct, frozen=True):
    """A kept data directory under this version, and what it answered at first."""

    gateway: RunningGateway
    asker: Asker
    kept: Kept
    answers: list[Answer]
    shop: dict[str, list[list[Any]]]


def kept_of(version: str) -> Kept:
    return msgspec.json.decode((KEPT / version / "answers.json").read_bytes(), type=Kept)


def put(version: str, place: pathlib.Path) -> str:
    """Lays out a kept data directory with its configuration; the text of this."""
    lay_out(KEPT / version, place, python=sys.executable, **kept_of(version).endpoints)
    with tarfile.open(KEPT / version / "data.tar.xz") as tar:
        tar.extractall(place, filter="tar")
    return (place / CONFIG).read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Opened]]:
    """Every kept data directory, each with a gateway of its own for the whole module."""
    async with contextlib.AsyncExitStack() as stack:
        yield {
            version: await stack.enter_async_context(opening(version, tmp_path_factory.mktemp("place")))
            for version in VERSIONS
        }


@contextlib.asynccontextmanager
async def opening(version: str, place: pathlib.Path) -> AsyncIterator[Opened]:
    kept, config = kept_of(version), put(version, place)
    async with (
        gateway_inside(place, config=config, at_ms=kept.made_at_ms + MINUTE_MS) as gateway,
        Asker(gateway.url, kept.who) as asker,
    ):
        answers = await readings(asker, kept.share, kept.version)
        yield Opened(gateway, asker, kept, answers, shop_rows(place / "data" / "gateway.db"))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(version: str, all_opened: dict[str, Opened]) -> Opened:
    return all_opened[version]


NEW: Final = frozenset(("cost", "egress", "options", "questions", "rules"))
"""Fields of State that are younger than these versions."""
NEW_IN_LISTS: Final = frozenset(
    ("unread", "pinned", "archived", "tags", "last_message", "last_sender", "waiting_since")
)
"""Members of a session's summary that are younger."""
NOT_CHOSEN: Final = frozenset(("gemini",))
"""Agents that the tenants of the configuration do not have."""


LAST: Final = frozenset(("last_active_at", "last_used_at"))
"""Times that asking changes."""
LEFT_OUT: Final = {"0.4.0": frozenset(f"/api/state?session_id={name}" for name in ("asked", "asks"))}
"""Where a version left out an answer without a word, so that what followed had its time."""


def known(value: Any, until: str) -> Any:
    """A body without what is later than `until`, and without what differs each time."""
    if isinstance(value, list):
        return [known(one, until) for one in value if not _is_later(one, until)]
    if isinstance(value, dict):
        return {
            name: known(one, until)
            for name, one in value.items()
            if name != "request_id" and not (name in LAST and one and one > until)
        }
    return value


def _is_later(one: Any, until: str) -> bool:
    return isinstance(one, dict) and (one.get("at") or one.get("timestamp") or "") > until


def as_then(body: Any, version: str) -> Any:
    """A body without what this version did not say."""
    if not isinstance(body, dict):
        return body
    if "is_processing" in body:  # an answer without a word was in State
        body = {**body, "messages": [one for one in body["messages"] if one["content"]]}
    body = {name: one for name, one in body.items() if name not in NEW_IN_LISTS}
    body.pop("may_command", None)  # who a caller is said nothing of commands
    if isinstance(body.get("sessions"), list):
        rows = [{n: row[n] for n in row if n not in NEW_IN_LISTS} for row in body["sessions"]]
        body = {**body, "sessions": rows}
    if isinstance(body.get("people"), list):
        body = {**body, "people": [{n: row[n] for n in row if n != "limits"} for row in body["people"]]}
    if has_newer(version):
        return body
    body = {name: one for name, one in body.items() if name not in NEW}
    if "agents" in body:  # they listed those that a person may not choose, too
        later = {"network", "network_advice"}
        kept = [one for one in body["agents"] if one["name"] not in NOT_CHOSEN]
        body["agents"] = [{name: one[name] for name in one if name not in later} for one in kept]
    if "shares" in body:  # each of them only read
        assert all(one.get("kind", "view") == "view" for one in body["shares"])
        later = {"kind", "uses", "last_used_at"}
        body["shares"] = [{n: one[n] for n in one if n not in later} for one in body["shares"]]
    return body


def worded(body: Any, path: str, version: str) -> Any:
    """A State without what its version left out."""
    if path not in LEFT_OUT.get(version, ()):
        return body
    return {**body, "messages": [one["content"] for one in body["messages"] if one["sender"] == "user"]}


def comparable(answer: Answer, until: str, version: str) -> Answer:
    """An answer without what depends on how, and when, a version said that a turn was cut."""
    body = worded(as_then(known(answer.body, until), version), answer.path, version)
    if (
        answer.path == "/api/sessions"
    ):  # the last used come first, and all that were cut are used at the start
        body = sorted(map(_uncounted, body["sessions"]), key=lambda one: str(one["session_id"]))
    elif answer.path.startswith("/api/sessions/") and "messages" in body:
        body = _uncounted(body)
    elif answer.path in {f"/api/state?session_id={name}" for name in CUT}:
        body = {name: one for name, one in body.items() if name not in {"seq", "pending_permission"}}
    return Answer(answer.who, answer.path, answer.status, body)


def _uncounted(summary: dict[str, Any]) -> dict[str, Any]:
    is_cut = summary["session_id"] in CUT
    return {name: one for name, one in summary.items() if not (is_cut and name == "messages")}


async def test_everything_answers_as_it_did(opened: Opened) -> None:
    """Who somebody is, lists, States, event logs, the cart, product chat, the shared link."""
    until = iso(opened.kept.made_at_ms)
    assert len(opened.kept.answers) == len(opened.answers)
    for old, new in zip(opened.kept.answers, opened.answers, strict=True):
        version = opened.kept.version
        assert comparable(new, until, version) == comparable(old, until, version)


COMMIT_SECONDS: Final = 0.2


async def test_no_reader_is_shown_that_a_cut_turn_runs(
    version: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a disk that takes its time."""
    kept, config, committed = kept_of(version), put(version, tmp_path), EventLog.committed
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        EventLog, "committed", lambda *told: loop.call_later(COMMIT_SECONDS, committed, *told)
    )
    async with (
        gateway_inside(tmp_path, config=config, at_ms=kept.made_at_ms + MINUTE_MS) as gateway,
        Asker(gateway.url, kept.who) as asker,
    ):
        states = [await asker.done("alice", "GET", f"/api/state?session_id={name}") for name in CUT]
        assert [state["is_processing"] for state in states] == [False, False]


@pytest.mark.parametrize("session", CUT)
async def test_a_cut_turn_ends_with_the_number_that_it_would_have_had(opened: Opened, session: str) -> None:
    def first_after_the_kill(answers: list[Answer]) -> int:
        path = f"/api/sessions/{session}/export?format=jsonl"
        events = next(answer.body for answer in answers if answer.path == path)
        until = iso(opened.kept.made_at_ms)
        return next(int(event["seq"]) for event in events if event["at"] > until)

    assert first_after_the_kill(opened.answers) == first_after_the_kill(opened.kept.answers)


async def test_the_shops_rows_are_as_they_were(opened: Opened) -> None:
    assert opened.shop == opened.kept.shop
    assert len(opened.shop["shop_purchases"]) == 1


@pytest.mark.parametrize("session", ["finished", "tools"])
async def test_a_next_message_goes_on_with_the_next_seq(opened: Opened, session: str) -> None:
    """The first number is the one that the old version would have used: none is used twice, none skipped."""
    path = f"/api/state?session_id={session}"
    before = next(answer for answer in opened.kept.answers if answer.path == path)
    async with open_stream(opened.asker["alice"], session, after=before.body["seq"]) as stream:
        made = await events_of_one_more(opened.asker, session)
        assert made[0][0] == opened.kept.next_seqs[session][0][0]
        assert [seq for seq, _ in made] == list(range(made[0][0], made[0][0] + len(made)))
        # Numbers that the kill burnt lie between, so that a reader begins anew, and then follows.
        first = await stream.next()
        assert first is not None
        ended = await stream.until_event("turn_ended")
        assert ended.data["seq"] in [seq for seq, kind in made if kind == "turn_ended"]


async def test_a_message_that_was_sent_once_is_not_sent_again_by_its_key(opened: Opened) -> None:
    def times(state: Any) -> int:
        return [message["content"] for message in state["messages"]].count(ONCE["message"])

    state = await opened.asker.done("alice", "POST", "/api/chat", ONCE, headers=ONCE_KEY)
    assert times(state) == 1


async def test_a_held_message_can_be_sent_or_dropped(opened: Opened) -> None:
    state = await opened.asker.done("alice", "GET", "/api/state?session_id=waits")
    assert state["queued"] == 1
    await opened.asker.done("alice", "POST", "/api/sessions/waits/queue", {"action": "drop"})
    state = await opened.asker.done("alice", "GET", "/api/state?session_id=waits")
    assert state["queued"] == 0


@pytest.mark.parametrize("session", ["asked", "asks"])
async def test_what_was_asked_before_the_kill_is_asked_no_more(opened: Opened, session: str) -> None:
    """Also if the old version took the session up without saying so, and shows the question for ever."""
    asker, path = opened.asker, f"/api/sessions/{session}"
    events = await asker.done("alice", "GET", f"{path}/export?format=jsonl")
    asked = next(event for event in events if event["type"] == "permission_asked")
    answer = {"permission_id": asked["permission_id"], "option_id": "yes"}
    status, body = await asker.ask("alice", "POST", f"{path}/permission", answer)
    assert (status, body["error"]["code"]) == (409, "permission_not_pending")
    await state_when(asker["alice"], session, lambda state: state["pending_permission"] is None)
    await asker.done("alice", "POST", "/api/chat", {"session_id": session, "message": "again"})
    await state_when(asker["alice"], session, lambda state: state["pending_permission"] is not None)
    await asker.done("alice", "POST", "/api/interrupt", {"session_id": session})


async def test_an_erased_session_stays_erased_and_its_numbers_are_not_used_again(opened: Opened) -> None:
    path = "/api/state?session_id=gone"
    before = next(answer for answer in opened.answers if answer.path == path)
    assert before.body["ended"]["reason"] == "deleted"
    await say(opened.asker, "gone", "/echo new")
    events = await opened.asker.done("alice", "GET", "/api/sessions/gone/export?format=jsonl")
    assert events[0]["seq"] > before.body["seq"]
    assert "erase me" not in str(events)


async def test_the_cart_can_be_bought(opened: Opened) -> None:
    path = f"{SHOPPING}/session/basket/cart"
    cart = (await opened.asker.done("alice", "GET", path))["data"]
    bought = await opened.asker.done("alice", "POST", f"{path}/checkout")
    assert str(cart["total"]) in str(bought)
    assert not (await opened.asker.done("alice", "GET", path))["data"]["cart"]


async def test_a_product_chat_goes_on_with_the_next_number(opened: Opened) -> None:
    path = f"{CHAT}/{PRODUCT_CHAT}/messages"
    before = await opened.asker.done("visitor", "GET", f"{path}?order=asc&limit=50")
    sent = await opened.asker.done("visitor", "POST", path, {"message_text": "/echo one more"})
    assert sent["message_id"] == before["messages"][-1]["id"] + 1
    await answered(opened.asker, f"{CHAT}/{PRODUCT_CHAT}", count=len(before["messages"]) + 2)


async def test_the_configuration_has_no_mistake_and_serves(version: str, tmp_path: pathlib.Path) -> None:
    """By the command line, with nothing but the file."""
    put(version, tmp_path)
    code, out, err = await typed("config", "check", "--config", str(tmp_path / CONFIG))
    assert (code, out.partition(";")[0].rstrip()) == (0, "the configuration has no mistakes")
    told = [line for line in err.splitlines() if "network" not in line]  # the default one is another now
    assert told == []
    kept = kept_of(version)
    program = (sys.executable, "-m", "gateway")
    async with serving(program, tmp_path) as running, Asker(running.url, kept.who) as asker:
        await asker.done("nobody", "GET", "/readyz")
        assert (await asker.done("alice", "GET", "/api/me"))["subject"] == "alice"
        state = await say(asker, "finished", "/echo served")
        assert state["messages"][-1]["content"] == "served"


async def test_a_backup_of_it_restores(version: str, tmp_path: pathlib.Path) -> None:
    lay_out(KEPT / version, tmp_path, python=sys.executable, **kept_of(version).endpoints)
    with tarfile.open(KEPT / version / "backup.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    file, settings = str(tmp_path / "backup.tar"), ("--config", str(tmp_path / CONFIG))
    code, out, err = await typed("restore", file, "--check", *settings)
    assert code == 0, err
    assert f"made by {version}" in out
    code, out, err = await typed("restore", file, *settings)
    assert code == 0, err
    kept = kept_of(version)
    config, at_ms = (tmp_path / CONFIG).read_text(), kept.made_at_ms + MINUTE_MS
    async with (
        gateway_inside(tmp_path, config=config, at_ms=at_ms) as gateway,
        Asker(gateway.url, kept.who) as asker,
    ):
        new = {
            (answer.who, answer.path): answer for answer in await readings(asker, kept.share, kept.version)
        }
        for old in kept.answers:
            if _is_in_backup(old):
                assert _said(new[old.who, old.path], version) == _said(old, version)
        assert (await say(asker, "finished", "/echo restored"))["messages"][-1]["content"] == "restored"


def _is_in_backup(answer: Answer) -> bool:
    """Whether it is the same as of the backup: work that was left afterwards is not in it."""
    is_listing = answer.path in {"/api/sessions", "/api/me"} and answer.who == "alice"
    is_listing = is_listing or answer.path in {"/api/admin/people", "/api/sessions/filed/files"}
    return not is_listing and not any(name in answer.path for name in CUT)


def _said(answer: Answer, version: str) -> object:
    """An answer, but for the numbers that a restore skips, and the size of what was said afterwards."""
    body = worded(as_then(answer.body, version), answer.path, version)
    if "/usage" in answer.path:
        return _unsized(body)
    if isinstance(body, dict):
        return {name: one for name, one in body.items() if name not in {"seq", "request_id"}}
    return body


def _unsized(report: dict[str, Any]) -> object:
    rows = [*report["rows"], report["total"]]
    return [{name: one for name, one in row.items() if name != "stored_bytes"} for row in rows]


async def test_what_came_later_goes_on(all_opened: dict[str, Opened]) -> None:
    """Chosen options, rules, snapshots, forks, workspaces, keys of one's own, and people who are disabled."""
    opened = all_opened[NEWER]
    asker = opened.asker
    chosen = {"session_id": "another", "agent": "chooser"}
    await asker.done("alice", "POST", "/api/sessions", chosen)
    assert (await say(asker, "another", "tell"))["options"] == {"mode": "plan"}
    state = await say(asker, "ruled", "tidy once more")
    assert state["messages"][-1]["content"].endswith("That was answered.")
    assert (await take_back(asker, "filed"))["files"] == 1
    for session, text in (("filed", "first\n"), ("branch", "first\n"), ("work", "kept\n")):
        name = "README.md" if session == "work" else "notes.txt"
        state = await say(asker, session, f"cat {name}")
        assert state["messages"][-1]["content"] == text, session
    assert (await asker.done("alice", "DELETE", "/api/me/keys/git"))["state"] == "not_set"
    person = {"tenant": "acme", "subject": DISABLED}
    assert (await asker.ask(DISABLED, "GET", "/api/me"))[0] == 403
    await asker.done("operator", "POST", "/api/admin/people/enable", person)
    assert (await asker.done(DISABLED, "GET", "/api/me"))["subject"] == DISABLED
