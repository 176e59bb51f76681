"""A restore brings nothing back that was ended since the backup, as far as the replaced database tells."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sqlite3
from typing import Any, Final

import aiohttp

from gateway.models.meter import CallUsage, ModelCall
from gateway.principal import Account
from gateway.stores.sqlite import file_watch
from tests.inside import gateway_inside
from tests.integration.test_backup import back_up, said
from tests.integration.test_command_line import typed
from tests.mcp_clients import cart
from tests.shared import ask

CONFIG: Final = """
[auth]
modes = ["anonymous", "keys"]
[tenants.acme]
"""
CANARY: Final = "erased-canary"


async def restored(directory: pathlib.Path, file: pathlib.Path, *words: str) -> tuple[str, str]:
    """What a restore says, and what it warns of."""
    code, out, err = await typed("restore", str(file), *words, "--data-dir", str(directory / "data"))
    assert code == 0, err
    return out, err


async def say(http: aiohttp.ClientSession, session_id: str, word: str, **headers: str) -> Any:
    body = {"session_id": session_id, "message": f"/echo {word}"}
    answer = await ask(http, "POST", "/api/chat?wait=240", body, headers=headers)
    assert answer.status == 200, answer
    return answer.body


async def words(http: aiohttp.ClientSession, session_id: str) -> list[str]:
    return said((await ask(http, "GET", f"/api/state?session_id={session_id}")).body, "user")


def holds(directory: pathlib.Path, text: str) -> list[str]:
    """The files below a directory with this text in them, but for what a restore has set aside."""
    found = (path for path in directory.rglob("*") if path.is_file() and "replaced-" not in str(path))
    return [str(path) for path in found if text.encode() in path.read_bytes()]


def homes(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Session id → the directory of its files."""
    with contextlib.closing(sqlite3.connect(directory / "data" / "gateway.db")) as connection:
        rows = connection.execute("SELECT session_id, key FROM sessions").fetchall()
    return {session_id: directory / "data" / "sessions" / key for session_id, key in rows}


async def test_what_was_erased_after_the_backup_is_not_brought_back(tmp_path: pathlib.Path) -> None:
    """Rows, files, carts and remembered requests; what was erased and made anew before it stays."""
    async with gateway_inside(tmp_path) as gateway:
        http = gateway.http
        for name in ("gone", "again"):
            await say(http, name, CANARY, **{"Idempotency-Key": f"key-{name}"})
            item = {"name": CANARY, "price": 9}
            await gateway.post(f"/api/v1/shopping/session/{name}/cart/add", item)
        await say(http, "renewed", "of its first life")
        await gateway.delete("renewed")
        for name in ("renewed", "kept"):
            await say(http, name, "stays")
        for name, home in homes(tmp_path).items():
            (home / "home" / "notes.txt").write_text(CANARY if name in ("gone", "again") else "stays")
        file = await back_up(tmp_path, "one.tar")
        for name in ("gone", "again"):
            await gateway.delete(name)
        await say(http, "again", "of its second life")
        await say(http, "since", "lost")
        await gateway.delete("since")
    assert CANARY.encode() in file.read_bytes(), "else nothing is proven"
    for time in range(2):  # the second time its own tombstones tell it
        out, err = await restored(tmp_path, file, "--replace")
        assert "4 sessions as of" in out
        assert "erased again, as it was erased after that: 2 sessions;" in out
        assert err == ""
        assert holds(tmp_path / "data", CANARY) == []
        assert sorted(homes(tmp_path)) == ["kept", "renewed"]
        assert all(home.joinpath("home", "notes.txt").exists() for home in homes(tmp_path).values())
        async with gateway_inside(tmp_path) as gateway:
            for name in ("renewed", "kept"):
                assert (await words(gateway.http, name))[0] == "stays"
            assert (await cart(gateway.http, "gone"))["items"] == []
            assert '"deleted"' in json.dumps(await gateway.state("since")), "its tombstone is carried over"
            state = await say(gateway.http, "gone", f"new-{time}", **{"Idempotency-Key": "key-gone"})
            assert said(state, "user") == [f"new-{time}"], "the request of before is forgotten, too"
            await gateway.delete("gone")


async def test_what_was_revoked_after_the_backup_stays_revoked(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        good, bad = [await gateway.mint(name, tenant="acme") for name in ("good", "bad")]
        admin = await gateway.mint("admin", scopes=("admin",))
        rotated = await gateway.mint("rotated", tenant="acme")
        async with gateway.caller(good) as owner, gateway.caller(Origin=gateway.url) as browser:
            await say(owner, "a", "shared")
            links = [(await ask(owner, "POST", "/api/sessions/a/shares", {})).body for _ in range(2)]
            me = (await ask(browser, "GET", "/api/me")).body
            cookies = "; ".join(f"{cookie.key}={cookie.value}" for cookie in browser.cookie_jar)
            handover = (await ask(browser, "POST", "/api/auth/handover", {})).body["token"]
            file = await back_up(tmp_path, "one.tar")
            async with gateway.caller(Origin=gateway.url) as other:
                claimed = await ask(other, "POST", "/api/auth/handover/claim", {"token": handover})
                assert claimed.status == 200
            await ask(owner, "DELETE", f"/api/sessions/a/shares/{links[0]['share_id']}")
        async with gateway.caller(admin) as caller:
            body = {"tenant": me["tenant"], "subject": me["subject"]}
            assert (await ask(caller, "POST", "/api/admin/revoke", body)).status == 200
        async with gateway.operator() as operator:
            await operator.revoke_key(bad.split("_")[1])
            await operator.rotate_key(rotated.split("_")[1], overlap_hours=0)
    out, err = await restored(tmp_path, file, "--replace")
    assert "0 sessions; ended again: 2 API keys, 1 people's sign-ins, 1 shared links" in out
    assert err == ""
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        for key, status in ((good, 200), (bad, 401), (rotated, 401)):
            async with gateway.caller(key) as caller:
                assert (await ask(caller, "GET", "/api/sessions")).status == status
        for link, status in zip(links, (404, 200), strict=True):
            assert (await ask(gateway.http, "GET", f"/api/shared/{link['token']}")).status == status
        anew = await ask(gateway.http, "GET", "/api/me", headers={"Cookie": cookies})
        assert anew.body["subject"] != me["subject"], "the cookie was refused"
        async with gateway.caller(Origin=gateway.url) as other:
            again = await ask(other, "POST", "/api/auth/handover/claim", {"token": handover})
            assert again.status == 401, "a link for one use was used"


async def test_what_a_visitor_took_along_and_then_erased_is_not_brought_back(tmp_path: pathlib.Path) -> None:
    """In the backup it is the visitor's still; its tombstone names whom they became."""
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        key = await gateway.mint("zoe", tenant="acme")
        async with gateway.caller(Origin=gateway.url) as browser:
            await say(browser, "mine", CANARY)
            await say(browser, "other", "stays")
            file = await back_up(tmp_path, "one.tar")
            assert (await ask(browser, "POST", "/api/auth/sign-in", {"key": key})).status == 200
            assert (await ask(browser, "DELETE", "/api/sessions/mine")).status == 200
    out, _ = await restored(tmp_path, file, "--replace")
    assert "after that: 1 sessions;" in out
    assert holds(tmp_path / "data", CANARY) == []
    assert list(homes(tmp_path)) == ["other"]


async def erased(directory: pathlib.Path) -> pathlib.Path:
    """A backup of sessions `a` and `b`; `a` was erased after it."""
    async with gateway_inside(directory) as gateway:
        await say(gateway.http, "a", CANARY)
        await say(gateway.http, "b", "stays")
        file = await back_up(directory, "one.tar")
        await gateway.delete("a")
    return file


async def test_where_nothing_can_tell_it_a_restore_says_that_it_is_back(tmp_path: pathlib.Path) -> None:
    file, data = await erased(tmp_path), tmp_path / "data"
    out, err = await restored(tmp_path / "elsewhere", file)
    assert "erased again" not in out
    assert "no database was there to tell what was erased or revoked since: it is back" in err
    (data / "gateway.db").write_bytes(b"no database" * 1000)
    out, err = await restored(tmp_path, file, "--replace")
    assert "erased again" not in out
    assert f"{data / 'gateway.db'} cannot be read: what only it knows" in err
    assert sorted(homes(tmp_path)) == ["a", "b"]


async def test_a_database_that_was_set_aside_as_damaged_still_tells_what_it_can(
    tmp_path: pathlib.Path,
) -> None:
    file, database = await erased(tmp_path), tmp_path / "data" / "gateway.db"
    shutil.copy2(database, tmp_path / "copy.db")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        events = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tail'").fetchone()[0]
    with database.open("r+b") as raw:  # damage, but not where erasures are noted
        raw.seek((events - 1) * page_size)
        raw.write(b"\xff" * page_size)
    database.rename(database.with_name("gateway.db.damaged-20260101-000000"))
    file_watch.forget(database)
    async with gateway_inside(tmp_path) as gateway:
        await say(gateway.http, "c", "begun anew")
    out, err = await restored(tmp_path, file, "--replace")
    assert "after that: 1 sessions;" in out
    assert err == ""
    assert list(homes(tmp_path)) == ["b"]


async def test_a_restore_that_was_cut_short_knows_it_when_it_is_run_again(tmp_path: pathlib.Path) -> None:
    """What it replaces was moved away already."""
    file, data = await erased(tmp_path), tmp_path / "data"
    aside = data / "replaced-20260101-000000"
    aside.mkdir()
    for name in ("gateway.db", "sessions"):
        shutil.move(data / name, aside / name)
    (data / "restore.unfinished").touch()
    out, err = await restored(tmp_path, file)
    assert "after that: 1 sessions;" in out
    assert err == ""
    assert list(homes(tmp_path)) == ["b"]


async def test_a_backup_that_is_older_than_tombstones_are_kept_says_what_is_not_known(
    tmp_path: pathlib.Path,
) -> None:
    file = await erased(tmp_path)
    (tmp_path / "short.toml").write_text("[sessions]\ntombstone_days = 0\n")
    out, err = await restored(tmp_path, file, "--replace", "--config", str(tmp_path / "short.toml"))
    assert "after that: 1 sessions;" in out
    assert "older than 0 days: what was erased longer ago is back" in err


async def test_another_gateways_older_tombstone_of_the_same_name_erases_nothing(
    tmp_path: pathlib.Path,
) -> None:
    await erased(tmp_path)
    (tmp_path / "other").mkdir()
    async with gateway_inside(tmp_path / "other") as gateway:
        await say(gateway.http, "a", "of another gateway")
        file = await back_up(tmp_path / "other", "two.tar")
    out, _ = await restored(tmp_path, file, "--replace")
    assert "after that: 0 sessions;" in out
    assert list(homes(tmp_path)) == ["a"]


async def test_what_an_erased_session_used_is_counted_without_it_after_a_restore(
    tmp_path: pathlib.Path,
) -> None:
    """Of a visitor, without the visitor as well."""
    async with gateway_inside(tmp_path, config=CONFIG) as gateway, gateway.caller() as visitor:
        await say(visitor, "gone", "x")
        [session] = gateway.inner.manager.sessions()
        record = session.record
        account = Account(record.owner, record.key)
        call = ModelCall(id="a", account=account, provider="p", model="m", dialect="chat")
        gateway.inner.ledger.reserve(call).settle(CallUsage(input=7), status=200)
        await gateway.inner.ledger.close()
        file = await back_up(tmp_path, "one.tar")
        csrf = (await ask(visitor, "GET", "/api/me")).body.get("csrf_token") or ""
        deleted = await ask(visitor, "DELETE", "/api/sessions/gone", headers={"X-CSRF-Token": csrf})
        assert deleted.status == 200, deleted
    await restored(tmp_path, file, "--replace")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as connection:
        calls = connection.execute("SELECT owner, session_key, input FROM ledger_calls").fetchall()
        sums = connection.execute("SELECT DISTINCT owner, session_key FROM ledger_sums").fetchall()
    assert calls == [("default/~erased", "", 7)]
    assert sums == [("default/~erased", "")]
    assert record.key.encode() not in (tmp_path / "data" / "gateway.db").read_bytes()
