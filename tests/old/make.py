"""Makes what is kept of a version: `python -m tests.old.make 0.1.0 COMMIT`.

Runs that version from the history with `VERSION/config.toml` and `VERSION/plays/`, which are written by
hand, kills it once early, lets people use it, makes a backup, kills it in the middle of work, and writes
beside them:

    data.tar.xz     the data directory as the kill left it
    backup.tar.xz   the backup, as that version made it
    answers.json    who asked what, and what that version answered when it was started again after the kill

For a new version: copy the folder of the one before, use its new settings in config.toml, run this, and the
tests take the folder up by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import pathlib
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from tests.fake_model import fake_model
from tests.git_host import git_host
from tests.old.since import DISABLED, has_newer, newer_readings, use_newer
from tests.old.versions import CONFIG, Asker, Version, lay_out, serving, unpacked
from tests.patience import within

KEPT: Final = pathlib.Path(__file__).parent
LEFT_OUT: Final = ("gateway.lock", "operator", "forkserver.json")
"""What only the process needs, with pids and secrets of the machine that it ran on."""
CHAT: Final = "/api/products/1/chat/sessions"
PRODUCT_CHAT: Final = "session_1_kept_a1b2c3d4e5"
SHOPPING: Final = "/api/v1/shopping"
BROWSER: Final = {"Sec-Fetch-Site": "same-origin"}
ONCE: Final = {"session_id": "finished", "message": "/echo hello"}
ONCE_KEY: Final = {"Idempotency-Key": "kept-1"}
LONG_TEXT: Final = 2_000
PASSWORD: Final = "open sesame"
SESSIONS: Final = ("finished", "tools", "asked", "asks", "waits", "shared", "basket", "long")
READINGS: Final = (
    ("alice", "/api/me"),
    ("alice", "/api/agents"),
    ("alice", "/api/sessions"),
    *(("alice", f"/api/state?session_id={name}") for name in (*SESSIONS, "gone")),
    *(("alice", f"/api/sessions/{name}") for name in (*SESSIONS, "gone")),
    *(("alice", f"/api/sessions/{name}/export?format=jsonl") for name in SESSIONS),
    ("alice", "/api/sessions/shared/shares"),
    ("alice", f"{SHOPPING}/session/basket/cart"),
    ("alice", f"{SHOPPING}/session/basket/info"),
    ("alice", f"{SHOPPING}/session/basket/conversation"),
    ("bob", "/api/sessions"),
    ("bob", "/api/state?session_id=finished"),
    ("visitor", "/api/me"),
    ("visitor", "/api/sessions"),
    ("visitor", "/api/state?session_id=mine"),
    ("visitor", f"{CHAT}/{PRODUCT_CHAT}/messages?order=asc&limit=50"),
    ("ruth", f"/api/admin/chat/sessions/{PRODUCT_CHAT}/messages?order=asc&limit=50"),
    ("ruth", "/api/admin/chat/sessions"),
)
SHOP_TABLES: Final = ("shop_items", "shop_preferences", "shop_purchases", "shop_sessions", "shop_words")


class Answer(Struct):
    """What somebody asked, and what came."""

    who: str
    path: str
    status: int
    body: Any


class Kept(Struct):
    """The file answers.json."""

    version: str
    commit: str
    made_at_ms: int
    """When the gateway was killed."""
    who: dict[str, dict[str, str]]
    """Name → headers: keys and cookies that this version made, which open nothing elsewhere."""
    share: str
    """The token of the shared link."""
    answers: list[Answer]
    shop: dict[str, list[list[Any]]]
    """The rows of the shop's tables."""
    next_seqs: dict[str, list[tuple[int, str]]]
    """Session → seq and type of the events that one more message made."""
    endpoints: dict[str, str] = {}
    """Where its model and its git server were."""


async def until(holds: Callable[[Any], bool], asker: Asker, session: str) -> Any:
    """The first State of a session of alice's that fits."""
    async with within(60):
        while True:
            state = await asker.done("alice", "GET", f"/api/state?session_id={session}")
            if holds(state):
                return state
            await asyncio.sleep(0.05)


async def use(asker: Asker) -> str:
    """What people do before the kill; the token of a shared link."""
    await asker.done("alice", "POST", "/api/sessions", {"session_id": "long", "agent": "talker"})
    await say(asker, "long", "tell me everything")
    await park(asker, "talker")
    await asker.done("alice", "POST", "/api/chat?wait=240", ONCE, headers=ONCE_KEY)
    await say(asker, "finished", "/echo שלום again 🎈")
    await asker.done("alice", "PATCH", "/api/sessions/finished", {"title": "Two finished turns"})
    await park(asker, "built-in")
    for name, agent in (("tools", "worker"), ("waits", "sleeper")):
        await asker.done("alice", "POST", "/api/sessions", {"session_id": name, "agent": agent})
    await say(asker, "tools", "tidy up")
    await say(asker, "tools", "and once more")
    await say(asker, "shared", "/echo for others")
    share = await asker.done("alice", "POST", "/api/sessions/shared/shares", {})
    await say(asker, "gone", "/echo erase me")
    await asker.done("alice", "DELETE", "/api/sessions/gone")
    await shop(asker)
    await talk(asker)
    return str(share["token"])


async def say(asker: Asker, session: str, text: str, *, who: str = "alice") -> Any:
    """A whole turn."""
    return await asker.done(who, "POST", "/api/chat?wait=240", {"session_id": session, "message": text})


async def park(asker: Asker, agent: str) -> None:
    """Lets the worker of the one session of this agent go, upon which its log is compacted."""
    listed = (await asker.done("operator", "GET", "/api/admin/sessions"))["sessions"]
    key = next(one["key"] for one in listed if one["agent"] == agent)
    await asker.done("operator", "POST", f"/api/admin/sessions/{key}/park")


async def shop(asker: Asker) -> None:
    """A question, preferences, a purchase, and a cart."""
    session = f"{SHOPPING}/session/basket"
    await asker.done("alice", "POST", f"{SHOPPING}/query", {"q": "show me quinoa", "sessionId": "basket"})
    await asker.done("alice", "POST", f"{session}/preferences", {"diet": "vegan", "budget": 120})
    await asker.done("alice", "POST", f"{session}/cart/add", {"name": "Lamp", "price": 54})
    await asker.done("alice", "POST", f"{session}/cart/checkout")
    await asker.done(
        "alice", "POST", f"{SHOPPING}/query", {"q": "add two of the first", "sessionId": "basket"}
    )
    await asker.done("alice", "POST", f"{session}/cart/add", {"name": "מנורה", "price": 12.5})
    await asker.done("alice", "POST", f"{session}/consent", {"counted": True})


async def talk(asker: Asker) -> None:
    """A visitor's own session, and a product chat in which a person answers in between."""
    await say(asker, "mine", "/echo a visitor", who="visitor")
    chat = f"{CHAT}/{PRODUCT_CHAT}"
    opening = {"session_id": PRODUCT_CHAT, "customer_name": "Dana", "initial_message": "/echo good day"}
    await asker.done("visitor", "POST", CHAT, opening)
    for number in (1, 2):
        text = {"message_text": f"/echo question {number}", "client_id": f"m{number}"}
        await asker.done("visitor", "POST", f"{chat}/messages", text)
        await answered(asker, chat, count=2 * number + 2)
    staff = f"/api/admin/chat/sessions/{PRODUCT_CHAT}"
    await asker.done("ruth", "POST", f"{staff}/respond", {"message_text": "Ruth here: it does."})
    await asker.done("visitor", "POST", f"{chat}/messages", {"message_text": "Thank you"})
    await asker.done("ruth", "POST", f"{staff}/hand-back")
    await asker.done("visitor", "PUT", f"{chat}/messages/read", {"mark_all": True})


async def answered(asker: Asker, chat: str, *, count: int) -> None:
    """Returns when the chat has so many messages."""
    async with within(60):
        while len(await asker.done("visitor", "GET", f"{chat}/messages?limit=50")) < count:
            await asyncio.sleep(0.05)


async def leave_a_question(asker: Asker, session: str) -> None:
    """A permission that waits."""
    await asker.done("alice", "POST", "/api/sessions", {"session_id": session, "agent": "asker"})
    await asker.done("alice", "POST", "/api/chat", {"session_id": session, "message": "delete it"})
    await until(lambda state: state["pending_permission"] is not None, asker, session)


async def leave_work(asker: Asker) -> None:
    """A permission that waits, a turn that does not end, and a message behind it."""
    await leave_a_question(asker, "asks")
    await asker.done("alice", "POST", "/api/chat", {"session_id": "waits", "message": "begin"})
    await until(lambda state: "It takes its time" in str(state), asker, "waits")
    await asker.done("alice", "POST", "/api/chat", {"session_id": "waits", "message": "and then this"})
    await asker.done("alice", "POST", "/api/system", {"session_id": "waits", "message": "Mind the gap."})


async def logged_in(asker: Asker) -> None:
    """Makes `ruth` somebody of the staff."""
    given = await asker.done("ruth", "POST", "/api/login", {"username": "ruth", "password": PASSWORD})
    asker["ruth"].headers["Authorization"] = f"Bearer {given['access_token']}"


async def readings(asker: Asker, share: str, version: str) -> list[Answer]:
    """What the readings of a version answer at this gateway."""
    await logged_in(asker)
    found = []
    for who, path in (*READINGS, *newer_readings(version), ("nobody", f"/api/shared/{share}")):
        status, body = await asker.ask(who, "GET", path)
        found.append(Answer(who, path, status, shortened(body)))
    return found


def shortened(value: Any) -> Any:
    """A body in which a digest is in the place of each long text."""
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return f"{len(value)} characters, SHA-256 {hashlib.sha256(value.encode()).hexdigest()}"
    if isinstance(value, list):
        return [shortened(one) for one in value]
    return {name: shortened(one) for name, one in value.items()} if isinstance(value, dict) else value


async def events_of_one_more(asker: Asker, session: str) -> list[tuple[int, str]]:
    """(seq, type) of what one more message of alice's appends."""
    path = f"/api/sessions/{session}/export?format=jsonl"
    before = await asker.done("alice", "GET", path)
    await say(asker, session, "/echo more")
    after = await asker.done("alice", "GET", path)
    return [(event["seq"], event["type"]) for event in after if event["seq"] > before[-1]["seq"]]


async def until_use_is_written(database: pathlib.Path) -> None:
    """Returns when it is on the disk what alice has used so far, which is written every few seconds."""
    async with within(60):
        while not _rows(database, "usage"):
            await asyncio.sleep(0.1)


def shop_rows(database: pathlib.Path) -> dict[str, list[list[Any]]]:
    """The rows of the shop's tables."""
    return {table: _rows(database, table) for table in SHOP_TABLES}


def _rows(database: pathlib.Path, table: str) -> list[list[Any]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 - a constant
        return [list(row) for row in rows]


def packed(directory: pathlib.Path, target: pathlib.Path) -> None:
    """Keeps a data directory, without what only the process needs."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = member.name.partition("/")[2]
        is_plain = member.isfile() or member.isdir() or member.issym()
        return member if is_plain and not name.startswith(LEFT_OUT) else None

    with tarfile.open(target, "w:xz") as tar:
        tar.add(directory, "data", filter=kept)


async def make(version: str, commit: str) -> None:
    """Writes the files of a version."""
    folder = KEPT / version
    async with contextlib.AsyncExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        model = await stack.enter_async_context(fake_model())
        host = await stack.enter_async_context(git_host(pathlib.Path(name) / "repositories"))
        host.make("app", {"README.md": "kept\n"})
        endpoints = {"model": model.url, "git": host.url("").rstrip("/")}
        place = pathlib.Path(name) / "place"
        old = unpacked(commit, pathlib.Path(name))
        _, out, _ = await old.typed("--version")
        assert out.split()[-1] == version, out
        lay_out(folder, place, python=str(old.python), **endpoints)
        async with serving(old.program, place) as running:
            who = {"nobody": {}, "visitor": BROWSER, "ruth": {}} | await keys(old, place)
            async with Asker(running.url, who) as asker:
                await leave_a_question(asker, "asked")
        async with serving(old.program, place) as running, Asker(running.url, who) as asker:
            await logged_in(asker)
            share = await use(asker)
            if has_newer(version):
                await use_newer(asker)
            cookie = next(c for c in asker["visitor"].cookie_jar if "visitor" in c.key)
            file = str(place / "backup.tar")
            code, _, err = await old.typed("backup", file, "--config", str(place / CONFIG))
            assert code == 0, err
            await until_use_is_written(place / "data" / "gateway.db")
            await leave_work(asker)
        killed_at = time.time_ns() // 1_000_000
        packed(place / "data", folder / "data.tar.xz")
        with tarfile.open(folder / "backup.tar.xz", "w:xz") as tar:
            tar.add(place / "backup.tar", "backup.tar")
        who["visitor"] = {**BROWSER, "Cookie": f"{cookie.key}={cookie.value}"}
        async with serving(old.program, place) as running, Asker(running.url, who) as asker:
            answers = await readings(asker, share, version)
            rows = shop_rows(place / "data" / "gateway.db")
            more = {session: await events_of_one_more(asker, session) for session in ("finished", "tools")}
        kept = Kept(version, commit, killed_at, who, share, answers, rows, more, endpoints)
        text = msgspec.json.format(msgspec.json.encode(kept), indent=1)
        for told in (name, str(pathlib.Path.cwd()), str(old.python)):
            assert told.encode() not in text, f"a path of this machine: {told}"
        (folder / "answers.json").write_bytes(text + b"\n")


async def keys(old: Version, place: pathlib.Path) -> dict[str, dict[str, str]]:
    """Name → headers of people with keys."""
    found = {}
    for name, tenant, scopes in (
        ("alice", "acme", "chat"),
        ("bob", "default", "chat"),
        (DISABLED, "acme", "chat"),
        ("operator", "default", "operate,admin"),
    ):
        code, out, err = await old.typed(
            *("keys", "create", name, "--tenant", tenant, "--scopes", scopes),
            *("--config", str(place / CONFIG)),
        )
        assert code == 0, err
        found[name] = {"Authorization": f"Bearer {out.strip()}"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("commit")
    options = parser.parse_args()
    asyncio.run(make(options.version, options.commit))


if __name__ == "__main__":
    main()
