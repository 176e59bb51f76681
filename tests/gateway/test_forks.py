"""Snapshots, forks and undo over HTTP, with real workers that write real files."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.events.lifecycle import CloseReason
from gateway.files.putting_back import PuttingBack
from gateway.sessions import forks
from tests.inside import GatewayInside
from tests.shared import SHARED, ask, eventually, fresh_id, shared_gateway

pytestmark = SHARED

SHELL: dict[str, Any] = {"repeat": True, "turns": [[{"run": "$PROMPT"}]]}
gateway = shared_gateway(
    agents={
        "shell": SHELL,
        "forking": SHELL | {"fork": {}, "load": {}},
        "slow": {"repeat": True, "turns": [[{"run": "$PROMPT"}, {"hang": True}]]},
    }
)


async def made(gateway: GatewayInside, agent: str = "shell") -> str:
    name = fresh_id("fork")
    await gateway.post("/api/sessions", {"session_id": name, "agent": agent}, status=201)
    return name


async def says(gateway: GatewayInside, session_id: str, command: str) -> str:
    """What a command prints in a session."""
    last = (await gateway.chat(session_id, command))["messages"][-1]
    return str(last["content"]) if last["sender"] == "agent" else ""  # it printed nothing


async def items(gateway: GatewayInside, session_id: str, kind: str) -> list[dict[str, Any]]:
    """The events of a type, as the export has them."""
    async with gateway.http.get(f"/api/sessions/{session_id}/export?format=jsonl") as answer:
        return [e for e in map(json.loads, (await answer.text()).splitlines()) if e["type"] == kind]


async def turns_of(gateway: GatewayInside, session_id: str, count: int) -> list[dict[str, Any]]:
    """The events that say what turns changed, once there are so many."""

    async def are_there() -> bool:
        return len(await items(gateway, session_id, "files_changed")) >= count

    await eventually(are_there)
    return await items(gateway, session_id, "files_changed")


async def forked(gateway: GatewayInside, source: str, **body: object) -> Any:
    return await gateway.post(f"/api/sessions/{source}/fork", body, status=201)


async def test_both_branches_of_a_fork_go_on_with_different_files(gateway: GatewayInside) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > app.txt; ln -s /etc/passwd out; echo secret > $HOME/notes")
    await gateway.chat(name, "echo two > app.txt; rm out; echo more > extra.txt")
    first, second = await turns_of(gateway, name, 2)
    assert (first["added"], second["added"], second["changed"], second["removed"]) == (2, 1, 1, 1)

    answer = await forked(gateway, name, at_seq=first["turn"])
    child = answer["session"]["session_id"]
    assert (answer["files"], answer["missing"], answer["session"]["parent"]) == ("snapshot", 0, name)

    assert "one\nsecret\n/etc/passwd" in await says(
        gateway, child, "cat app.txt $HOME/notes; readlink out; ls"
    )
    await gateway.chat(child, "echo child > app.txt")
    assert "two\nmore" in await says(gateway, name, "cat app.txt extra.txt")
    assert "child" in await says(gateway, child, "cat app.txt")

    state = await gateway.state(child)
    assert state["parent"] == name
    assert state["messages"][0]["content"].startswith("echo one")
    listed = {one["session_id"]: one for one in (await gateway.get("/api/sessions"))["sessions"]}
    assert listed[child]["parent"] == name
    assert "parent" not in listed[name]

    await gateway.delete(name)
    listed = {one["session_id"]: one for one in (await gateway.get("/api/sessions"))["sessions"]}
    assert "parent" not in listed[child]
    assert "parent" not in await gateway.state(child)
    await gateway.inner.manager.close_all("default/local", CloseReason.IDLE)
    assert "parent" not in await gateway.state(child)
    grandchild = (await forked(gateway, child, at_seq=first["turn"]))["session"]["session_id"]
    assert "one" in await says(gateway, grandchild, "cat app.txt")


async def test_what_a_turn_changed_is_shown_and_taken_back(gateway: GatewayInside) -> None:
    name = await made(gateway)
    path = f"/api/sessions/{name}/files"
    await gateway.chat(name, "mkdir -p src; printf 'a\\n' > src/app.py; printf '\\0x' > blob")
    await gateway.chat(name, "printf 'b\\n' > src/app.py; rm blob; mkdir new; echo n > new/n")
    first, second = await turns_of(gateway, name, 2)
    shown = await gateway.get(f"{path}/changes", turn=second["turn"])
    assert [(f["path"], f["change"], f["before"], f["after"], f["binary"]) for f in shown["files"]] == [
        ("blob", "removed", None, None, True),
        ("new/n", "added", None, "n\n", False),
        ("src/app.py", "changed", "a\n", "b\n", False),
    ]

    undone = await gateway.post(f"{path}/restore", {"at_seq": second["turn"] - 1})
    assert (undone["files"], undone["failed"]) == (3, [])
    assert "a\nblob\nsrc" in await says(gateway, name, "cat src/app.py; ls")
    assert (await items(gateway, name, "files_restored"))[0]["seq"] == undone["seq"]
    told = [m["content"] for m in (await gateway.state(name))["messages"] if m["sender"] == "system"]
    assert "3 files changed" in told[0]

    again = await gateway.post(f"{path}/restore", {"at_seq": undone["seq"] - 1})
    assert again["files"] == 3
    assert "b\nnew\nsrc" in await says(gateway, name, "cat src/app.py; ls")

    everything = await gateway.post(f"{path}/restore", {"at_seq": first["turn"] - 1})
    assert everything["files"] == 2
    assert await says(gateway, name, "ls -A") == ""


async def test_a_turn_that_changed_nothing_writes_nothing(gateway: GatewayInside) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > a")
    await turns_of(gateway, name, 1)
    key = gateway.inner.manager.get("default/local", name)
    assert key is not None
    folder = gateway.data_path / "snapshots" / key.record.key

    def written() -> list[str]:
        return sorted(str(path) for path in folder.rglob("*"))

    before = written()
    await gateway.chat(name, "cat a")
    await key.files.until_kept()
    assert written() == before
    ended = (await items(gateway, name, "turn_ended"))[-1]["seq"]
    assert (await gateway.get(f"/api/sessions/{name}/files/changes", turn=ended))["files"] == []
    missing = await ask(gateway.http, "GET", f"/api/sessions/{name}/files/changes?turn=x")
    assert missing.status == 422
    await gateway.delete(name)
    assert not folder.exists()


async def test_a_fork_leaves_out_a_turn_that_runs_and_undo_waits_for_it(gateway: GatewayInside) -> None:
    name = await made(gateway, "slow")
    sent = await gateway.post("/api/chat", {"session_id": name, "message": "echo torn > a"})
    assert sent["is_processing"]
    answer = await forked(gateway, name)
    child = answer["session"]["session_id"]
    assert (await gateway.state(child))["messages"] == []
    refused = await ask(gateway.http, "POST", f"/api/sessions/{name}/files/restore", {"at_seq": 1})
    assert (refused.status, refused.code) == (409, "session_busy")
    started = (await items(gateway, name, "turn_started"))[0]["seq"]
    inside = await ask(gateway.http, "POST", f"/api/sessions/{name}/fork", {"at_seq": started})
    assert (inside.status, inside.code) == (409, "fork_refused")
    await gateway.post("/api/interrupt", {"session_id": name})
    await gateway.post(f"/api/sessions/{name}/fork", {}, status=201)


async def test_a_fork_before_a_message_has_neither_it_nor_its_files(gateway: GatewayInside) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > a")
    await gateway.chat(name, "echo two > b")
    await turns_of(gateway, name, 2)
    messages = [m for m in await items(gateway, name, "message") if m["sender"] == "user"]
    child = (await forked(gateway, name, before_message=messages[1]["message_id"]))["session"]["session_id"]
    assert [m["content"] for m in (await gateway.state(child))["messages"]][:1] == ["echo one > a"]
    assert await says(gateway, child, "ls") == "a\n"
    first = await forked(gateway, name, before_message=messages[0]["message_id"])
    assert await says(gateway, first["session"]["session_id"], "ls") == ""


async def test_a_reaped_session_is_forked_and_not_revived(gateway: GatewayInside) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > a")
    await turns_of(gateway, name, 1)
    session = gateway.inner.manager.get("default/local", name)
    assert session is not None
    gateway.clock.advance(100_000)

    async def has_left() -> bool:
        await gateway.inner.reaper.sweep()
        return session.left.done()

    await eventually(has_left)
    child = (await forked(gateway, name))["session"]["session_id"]
    assert gateway.inner.manager.get("default/local", name) is None
    assert await says(gateway, child, "cat a") == "one\n"


async def test_an_agent_that_can_forks_its_own_session(gateway: GatewayInside) -> None:
    name = await made(gateway, "forking")
    await gateway.chat(name, "echo one | tee a")
    await turns_of(gateway, name, 1)
    child = (await forked(gateway, name))["session"]["session_id"]
    await gateway.chat(child, "ls")
    assert [one["how"] for one in await items(gateway, child, "agent_started")] == ["new", "forked"]
    other = (await forked(gateway, name, agent="shell"))["session"]
    assert other["agent"] == "shell"
    await gateway.chat(other["session_id"], "ls")
    assert (await items(gateway, other["session_id"], "agent_started"))[-1]["how"] == "transcript"


async def test_one_key_makes_one_fork(gateway: GatewayInside) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > a")
    path, headers = f"/api/sessions/{name}/fork", {"Idempotency-Key": fresh_id("key")}
    refused = await ask(gateway.http, "POST", path, {"at_seq": 10_000}, headers=headers)
    assert refused.status == 409  # and the key is not used up
    twice = [ask(gateway.http, "POST", path, {}, headers=headers) for _ in range(2)]
    first, second = await asyncio.gather(*twice)
    assert (first.status, second.status) == (201, 201)
    assert first.body["session"]["session_id"] == second.body["session"]["session_id"]
    await says(gateway, name, "echo two > a")
    child = first.body["session"]["session_id"]
    await gateway.chat(child, "echo three > a")
    third = await ask(gateway.http, "POST", path, {}, headers=headers)
    told = [{key: value for key, value in one.body.items() if key != "session"} for one in (first, third)]
    assert told[0] == told[1]
    assert third.headers["X-Session-Id"] == child
    other = await ask(gateway.http, "POST", path, {"at_seq": first.body["at_seq"]}, headers=headers)
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    taken = {"Idempotency-Key": fresh_id("key")}
    for _ in range(2):  # an id that another request made is not the answer to this one
        refused = await ask(gateway.http, "POST", path, {"session_id": child}, headers=taken)
        assert (refused.status, refused.code) == (409, "session_exists")
    await gateway.delete(child)
    again = await ask(gateway.http, "POST", path, {}, headers=headers)
    assert again.status == 201
    assert again.body["session"]["session_id"] != child


async def test_what_is_not_there_cannot_be_forked(gateway: GatewayInside) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > a")
    for path, body, status in (
        ("/api/sessions/nobody/fork", {}, 404),
        (f"/api/sessions/{name}/fork", {"session_id": name}, 409),
        (f"/api/sessions/{name}/fork", {"at_seq": 10_000}, 409),
        (f"/api/sessions/{name}/fork", {"at_seq": -1}, 422),
        (f"/api/sessions/{name}/fork", {"at_seq": 1, "before_message": "x"}, 422),
        (f"/api/sessions/{name}/fork", {"before_message": "x"}, 409),
        (f"/api/sessions/{name}/fork", {"agent": "nobody"}, 422),
        (f"/api/sessions/{name}/files/restore", {"at_seq": 0}, 200),
    ):
        answer = await ask(gateway.http, "POST", path, body)
        assert answer.status == status, (path, body, answer.body)
    await gateway.delete(name)
    deleted = await ask(gateway.http, "POST", f"/api/sessions/{name}/fork", {})
    assert deleted.status == 404


async def test_a_fork_that_fails_in_the_middle_leaves_nothing(
    gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await made(gateway)
    await gateway.chat(name, "echo one > a; echo two > b")
    await turns_of(gateway, name, 1)
    before = {path.name for path in (gateway.data_path / "sessions").iterdir()}
    kept = {path.name for path in (gateway.data_path / "snapshots").iterdir()}
    uids = set(gateway.inner.services.workers.workspaces._taken)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PuttingBack, "_write_content", full)
    refused = await ask(gateway.http, "POST", f"/api/sessions/{name}/fork", {"session_id": "half"})
    assert (refused.status, refused.code) == (507, "store_full")
    await gateway.chat(name, "rm a b")
    [_, second] = await turns_of(gateway, name, 2)
    back = {"at_seq": second["turn"] - 1}
    undo = await ask(gateway.http, "POST", f"/api/sessions/{name}/files/restore", back)
    assert (undo.status, undo.code) == (409, "files_not_restored")
    assert await says(gateway, name, "ls -A") == ""
    monkeypatch.undo()
    assert {path.name for path in (gateway.data_path / "sessions").iterdir()} == before
    assert {path.name for path in (gateway.data_path / "snapshots").iterdir()} == kept
    assert set(gateway.inner.services.workers.workspaces._taken) == uids
    assert list((gateway.data_path / forks.HALF).iterdir()) == []
    assert (await forked(gateway, name, session_id="half"))["session"]["session_id"] == "half"


async def test_a_fork_that_fails_leaves_no_uid_where_each_machine_has_its_own(
    gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspaces = gateway.inner.services.workers.workspaces
    monkeypatch.setattr(workspaces, "has_own_uids", True)
    name = await made(gateway)
    await gateway.chat(name, "echo one > a")
    await turns_of(gateway, name, 1)
    before = dict(workspaces._own)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PuttingBack, "_write_content", full)
    refused = await ask(gateway.http, "POST", f"/api/sessions/{name}/fork", {"session_id": "half-own"})
    assert (refused.status, refused.code) == (507, "store_full")
    assert workspaces._own == before
