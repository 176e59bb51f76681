"""A session goes on at another gateway, with another data directory, and finds its files there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import stat
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from gateway.sessions import files as session_files
from tests.contract.engines import migrated_database
from tests.gateway.test_forks import items
from tests.inside import GatewayInside, gateway_inside
from tests.postgres import connected
from tests.shared import ask, eventually, free_port

SHELL: Final[dict[str, Any]] = {"repeat": True, "load": {}, "turns": [[{"run": "$PROMPT"}]]}
ID: Final = "trip"
TREE: Final = """
mkdir -p src/deep/er empty "odd name" && chmod 700 src/deep && chmod 555 empty
printf one > src/a && printf two > src/deep/er/b && printf '\\0\\1' > "odd name/c" && chmod 755 src/a
touch -d 2001-02-03T04:05:06 src/a
ln -s ../../../../etc/passwd src/out && ln -s a src/in && ln -s none gone
mkdir -p "$HOME/.agent" && printf memory > "$HOME/.agent/notes" && chmod 400 "$HOME/.agent/notes"
mkdir -p node_modules/x && printf made > node_modules/x/y
"""


class Places:
    """Gateways on one database, one after the other, each with a data directory of its own."""

    def __init__(self, directory: pathlib.Path, files: str) -> None:
        self.directory = directory
        self.database = migrated_database()
        self.files = files
        (directory / "shared").mkdir()

    @contextlib.asynccontextmanager
    async def at(self, name: str, config: str = "", **cluster: str) -> AsyncIterator[GatewayInside]:
        """One gateway while the block runs."""
        data = self.directory / name
        data.mkdir(exist_ok=True)
        settings = {
            "NAME": name,
            "URL": f"http://127.0.0.1:{free_port()}",
            "FILES": self.files.format(shared=self.directory / "shared"),
            **cluster,
        }
        environ = {f"AGENT_GATEWAY_CLUSTER_{key}": value for key, value in settings.items()}
        environ["AGENT_GATEWAY_STORE"] = self.database
        async with gateway_inside(data, agents={"shell": SHELL}, environ=environ, config=config) as gateway:
            yield gateway


@pytest.fixture
def places(tmp_path: pathlib.Path) -> Places:
    return Places(tmp_path, "store")


def looked_at(root: pathlib.Path) -> dict[str, tuple[object, ...]]:
    """Everything of a session: kind, mode, time, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        if stat.S_ISLNK(status.st_mode):
            found[name] = "link", os.readlink(path)
        elif stat.S_ISDIR(status.st_mode):
            found[name] = "folder", stat.S_IMODE(status.st_mode)
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = "file", stat.S_IMODE(status.st_mode), status.st_mtime_ns, content
    return found


def folder(gateway: GatewayInside, name: str = ID) -> pathlib.Path:
    workspaces = gateway.inner.workers.workspaces
    return pathlib.Path(workspaces.path(gateway.session(name).record.key))


async def made(gateway: GatewayInside) -> None:
    await gateway.post("/api/sessions", {"session_id": ID, "agent": "shell"}, status=201)


async def notices(gateway: GatewayInside, code: str) -> list[dict[str, Any]]:
    return [one for one in await items(gateway, ID, "notice") if one["code"] == code]


@pytest.mark.parametrize("files", ["store", "file://{shared}"])
async def test_a_session_that_is_moved_three_times_finds_every_file_as_it_was(
    tmp_path: pathlib.Path, files: str
) -> None:
    places = Places(tmp_path, files)
    async with places.at("a") as first:
        await made(first)
        await first.chat(ID, TREE)
        before = looked_at(folder(first))
    for turn, name in enumerate(("b", "a", "c"), start=1):
        async with places.at(name) as gateway:
            await gateway.chat(ID, f"printf {turn} > turn{turn}")
            now = looked_at(folder(gateway))
            expected = {
                path: seen for path, seen in before.items() if not path.startswith("work/node_modules")
            }
            assert {path: seen for path, seen in now.items() if path != f"work/turn{turn}"} == expected
            started = (await items(gateway, ID, "agent_started"))[-1]
            assert started["how"] == "loaded"
            told = await notices(gateway, "files_brought")
            assert told, "people are told that it goes on elsewhere"
            assert "left behind" in told[-1]["text"]
            if os.geteuid() == 0:
                owners = {path.lstat().st_uid for path in folder(gateway).rglob("*")}
                assert owners == {gateway.inner.workers.workspaces.worker_uid(folder(gateway).name, None)}
            before = now


async def test_what_a_gateway_had_before_is_replaced_and_not_merged(places: Places) -> None:
    async with places.at("a") as first:
        await made(first)
        await first.chat(ID, "echo old > stays; echo old > goes; mkdir node_modules; touch node_modules/x")
    async with places.at("b") as second:
        await second.chat(ID, "rm goes; printf new > stays")
    async with places.at("a") as first:
        assert "stays" in await said(first, "ls; cat stays")
        assert sorted(os.listdir(folder(first) / "work")) == ["stays"]
        assert (folder(first) / "work" / "stays").read_text() == "new"


async def said(gateway: GatewayInside, command: str) -> str:
    return str((await gateway.chat(ID, command))["messages"][-1]["content"])


async def test_files_are_read_uploaded_and_forked_where_the_session_never_was(places: Places) -> None:
    async with places.at("a") as first:
        await made(first)
        await first.chat(ID, "printf one > a")
    async with places.at("b") as second:
        listed = await second.get(f"/api/sessions/{ID}/files")
        assert [entry["name"] for entry in listed["entries"]] == ["a"]
        answer = await ask(second.http, "PUT", f"/api/sessions/{ID}/files/content?path=b", data=b"two")
        assert answer.status in (200, 201), answer.body
        forked = await second.post(f"/api/sessions/{ID}/fork", {}, status=201)
        child = forked["session"]["session_id"]
    async with places.at("c") as third:
        assert await said(third, "cat a b") == "onetwo"
        shown = (await third.chat(child, "cat a b"))["messages"][-1]
        assert shown["content"] == "onetwo"
        turns = await items(third, ID, "files_changed")
        changed = await third.get(f"/api/sessions/{ID}/files/changes?turn={turns[0]['turn']}")
        assert [one["path"] for one in changed["files"]] == ["a"], "what a turn changed elsewhere is shown"
        await ask(third.http, "DELETE", f"/api/sessions/{ID}")
        await ask(third.http, "DELETE", f"/api/sessions/{child}")

        async def is_all_gone() -> bool:
            async with connected(places.database) as connection:
                tables = ("file_contents", "file_manifests", "file_holders")
                queries = [f"SELECT count(*) FROM {table}" for table in tables]  # noqa: S608
                counts = [await connection.fetchval(query) for query in queries]
            return counts == [0, 0, 0] and not any((places.directory / "shared").iterdir())

        await eventually(is_all_gone)


async def test_files_of_sessions_that_went_elsewhere_are_removed_here(places: Places) -> None:
    async with places.at("a") as first:
        await made(first)
        await first.chat(ID, "printf one > a")
        root = folder(first)
        assert await first.inner.services.snapshots.clear_stale() == 0
    async with places.at("b") as second:
        await second.chat(ID, "printf two > a")
        assert await second.inner.services.snapshots.clear_stale() == 0
    assert root.is_dir()
    async with places.at("a") as first:
        assert await first.inner.services.snapshots.clear_stale() == 1
        assert not root.exists()
        assert await said(first, "cat a") == "two"
    async with places.at("b") as second:
        assert await said(second, "cat a") == "two"
        left = folder(second)
        await ask(second.http, "DELETE", f"/api/sessions/{ID}")
    assert not left.exists()
    async with places.at("a") as first:
        assert root.is_dir(), "of a session that was deleted elsewhere"
        cleared = [await first.inner.services.snapshots.clear_stale() for _ in range(2)]
        assert cleared == [0, 1]
        assert not root.exists()


async def test_nothing_waits_for_a_place_that_is_away_and_it_is_tried_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_files, "RETRY_SECONDS", 0.2)
    places = Places(tmp_path, "file://{shared}")
    async with places.at("a") as first:
        await made(first)
        await first.chat(ID, "printf one > a")
        await eventually(lambda: is_kept(places, 1))
        (tmp_path / "shared").rename(tmp_path / "away")
        await first.chat(ID, "printf two > a")

        async def is_told() -> bool:
            return bool(await notices(first, "snapshots_unkept"))

        await eventually(is_told)
        (told,) = await notices(first, "snapshots_unkept")
        assert "is it mounted" in told["text"]
        assert await said(first, "cat a") == "two", "turns go on"
        (tmp_path / "away").rename(tmp_path / "shared")
        name = hashlib.sha256(b"two").hexdigest()

        async def is_kept_again() -> bool:
            return bool(list((tmp_path / "shared").glob(f"*/blobs/{name}")))

        await eventually(is_kept_again)
    (tmp_path / "shared").rename(tmp_path / "away")
    async with places.at("b") as second:
        words = (await second.chat(ID, "cat a"))["messages"][-1]
        assert words["sender"] == "system"
        assert "could not be fetched" in words["content"]
        (tmp_path / "away").rename(tmp_path / "shared")
        assert await said(second, "cat a") == "two", "nothing began with an empty folder meanwhile"


async def is_kept(places: Places, count: int) -> bool:
    """Whether so many manifests are."""
    async with connected(places.database) as connection:
        found = await connection.fetchval("SELECT count(*) FROM file_manifests")
    return bool(found >= count)


async def test_people_are_told_before_files_are_too_many_to_be_kept(places: Places) -> None:
    async with places.at("a", FILES_MAX_BYTES=str(1024 * 1024)) as first:
        await made(first)
        await first.chat(ID, "printf early > early")
        await first.chat(ID, "head -c 950000 /dev/urandom > large")

        async def are_told(code: str) -> bool:
            return bool(await notices(first, code))

        await eventually(lambda: are_told("snapshots_nearly_full"))
        (nearly,) = await notices(first, "snapshots_nearly_full")
        assert nearly["values"] == {"percent": "90"}
        assert not await notices(first, "snapshots")
        await first.chat(ID, "head -c 200000 /dev/urandom > more")
        await eventually(lambda: are_told("snapshots"))
        (full,) = await notices(first, "snapshots")
        assert "larger than the 1 MB" in full["text"]
        assert "an earlier turn" in full["text"]
    async with places.at("b") as second:
        assert (await said(second, "ls")).split() == ["early", "large"]
        (brought,) = await notices(second, "files_brought")
        assert (brought["level"], "an earlier turn" in brought["text"]) == ("warning", True)


async def test_a_damaged_file_is_left_out_and_said(places: Places) -> None:
    async with places.at("a") as first:
        await made(first)
        await first.chat(ID, "printf whole > whole; printf broken > broken")
    digest = hashlib.sha256(b"broken").digest()
    async with connected(places.database) as connection:
        await connection.execute(
            "UPDATE file_contents SET body = set_byte(body, 3, 255) WHERE digest = $1", digest
        )
    async with places.at("b") as second:
        assert (await said(second, "ls")).split() == ["whole"]
        (brought,) = await notices(second, "files_brought")
        assert "1 file was damaged" in brought["text"]


async def test_many_small_files_go_along(places: Places) -> None:
    async with places.at("a", FILES_MAX_BYTES=str(200 * 1024 * 1024)) as first:
        await made(first)
        await first.chat(
            ID, "head -c 104857600 /dev/zero | split -a 4 -b 50k - f; for f in f*; do echo $f >> $f; done"
        )
        before = looked_at(folder(first))
        assert len(before) > 2_000
    async with places.at("b") as second:
        await second.chat(ID, "true")
        assert looked_at(folder(second)) == before
