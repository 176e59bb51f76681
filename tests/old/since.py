"""What people use that is younger than 0.2.0, each from the version on that has it: options that they chose,
rules of a session, questions, links to write, keys of their own, what models cost, people who are disabled,
snapshots and forks, and a workspace.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tests.old.versions import Asker
from tests.patience import within

NEWER: Final = "0.6.0"
"""From this version on."""
DISABLED: Final = "mallory"
OWN_KEY: Final = "kept-value-of-alice"
_TALKS: Final = ("chosen", "ruled", "questioned", "priced", "filed", "branch", "work")
_READINGS: Final = (
    *(("alice", f"/api/state?session_id={name}") for name in _TALKS),
    *(("alice", f"/api/sessions/{name}/export?format=jsonl") for name in _TALKS),
    ("alice", "/api/sessions/chosen/options"),
    ("alice", "/api/sessions/ruled/rules"),
    ("alice", "/api/sessions/chosen/shares"),
    ("alice", "/api/me/keys"),
    ("alice", "/api/usage?by=model"),
    ("alice", "/api/workspaces"),
    ("alice", "/api/sessions/filed/files"),
    ("alice", "/api/sessions/filed/files/content?path=notes.txt"),
    ("alice", "/api/sessions/branch/files/content?path=notes.txt"),
    ("alice", "/api/sessions/work/files/content?path=README.md"),
    ("operator", "/api/admin/people"),
    ("operator", "/api/admin/usage?by=tenant"),
    (DISABLED, "/api/me"),
)


def has_newer(version: str) -> bool:
    return _numbers(version) >= _numbers(NEWER)


def newer_readings(version: str) -> tuple[tuple[str, str], ...]:
    """Who reads what, in the versions that have it."""
    return _READINGS if has_newer(version) else ()


async def use_newer(asker: Asker) -> None:
    """What people do before the backup."""
    await _talk(asker, "chosen", "chooser", "tell")
    await asker.done("alice", "POST", "/api/sessions/chosen/options", {"option_id": "mode", "value": "plan"})
    await asker.done("alice", "POST", "/api/sessions/chosen/shares", {"kind": "drive"})
    await _rule(asker)
    await _question(asker)
    await _talk(asker, "priced", "built-in", "what does it cost")
    await asker.done("alice", "PUT", "/api/me/keys/git", {"key": OWN_KEY})
    await asker.done(DISABLED, "GET", "/api/me")
    body = {"tenant": "acme", "subject": DISABLED}
    await asker.done("operator", "POST", "/api/admin/people/disable", body)
    await _files(asker)
    await asker.done("alice", "POST", "/api/sessions", {"session_id": "work", "workspace": "app"})
    await _say(asker, "work", "cat README.md")


async def take_back(asker: Asker, session: str) -> Any:
    """Undoes what the last turn did to the files."""
    events = await asker.done("alice", "GET", f"/api/sessions/{session}/export?format=jsonl")
    ended = max(event["seq"] for event in events if event["type"] == "turn_ended")
    return await asker.done("alice", "POST", f"/api/sessions/{session}/files/restore", {"at_seq": ended - 1})


async def _talk(asker: Asker, session: str, agent: str, text: str) -> None:
    await asker.done("alice", "POST", "/api/sessions", {"session_id": session, "agent": agent})
    await _say(asker, session, text)


async def _say(asker: Asker, session: str, text: str) -> None:
    await asker.done("alice", "POST", "/api/chat?wait=240", {"session_id": session, "message": text})


async def _rule(asker: Asker) -> None:
    """Something is allowed for ever, so that the next request is answered by a rule."""
    await asker.done("alice", "POST", "/api/sessions", {"session_id": "ruled", "agent": "ruler"})
    await asker.done("alice", "POST", "/api/chat", {"session_id": "ruled", "message": "tidy"})
    state = await _state(asker, "ruled", "pending_permission")
    answer = {"permission_id": state["pending_permission"]["permission_id"], "option_id": "always"}
    await asker.done("alice", "POST", "/api/sessions/ruled/permission", answer)
    await _say(asker, "ruled", "tidy again")


async def _question(asker: Asker) -> None:
    """One question is answered."""
    await asker.done("alice", "POST", "/api/sessions", {"session_id": "questioned", "agent": "questioner"})
    await asker.done("alice", "POST", "/api/chat", {"session_id": "questioned", "message": "go"})
    (question,) = (await _state(asker, "questioned", "questions"))["questions"]
    path = f"/api/sessions/questioned/questions/{question['question_id']}"
    await asker.done("alice", "POST", path, {"action": "accept", "content": {"name": "Ann"}})


async def _files(asker: Asker) -> None:
    """A turn changes files, another changes them once more; a fork has those of between."""
    await _talk(asker, "filed", "shell", "echo first > notes.txt")
    await _changed(asker, "filed", count=1)
    forked = {"session_id": "branch"}
    await asker.done("alice", "POST", "/api/sessions/filed/fork", forked)
    await _say(asker, "filed", "echo second > notes.txt")
    await _changed(asker, "filed", count=2)


async def _changed(asker: Asker, session: str, *, count: int) -> None:
    """Returns when so many events say what turns changed."""
    async with within(60):
        while True:
            events = await asker.done("alice", "GET", f"/api/sessions/{session}/export?format=jsonl")
            if sum(event["type"] == "files_changed" for event in events) >= count:
                return
            await asyncio.sleep(0.05)


async def _state(asker: Asker, session: str, member: str) -> Any:
    """State, once it has a member that says something."""
    async with within(60):
        while True:
            state = await asker.done("alice", "GET", f"/api/state?session_id={session}")
            if state.get(member):
                return state
            await asyncio.sleep(0.05)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
