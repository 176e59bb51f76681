"""Submodules of a workspace, and histories that are not where they were: with a real git server."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Final

import pytest

from gateway.config.workspaces import WorkspaceConfig
from gateway.events.lifecycle import CloseReason
from gateway.files.submodules import absolute, found
from tests.gateway.test_workspaces import begin, place, push, say, text
from tests.git_host import HOST, GitHost
from tests.inside import GatewayInside

HOSTILE: Final = {
    "file": "file:///etc",
    "ext": "ext::sh -c touch% ran",
    "near": "http://127.0.0.1:9/x",
    "other": "https://169.254.169.254/latest",
}


def with_submodules(host: GitHost) -> None:
    """`app` has `lib`, which has `in`, and some that must not be fetched."""
    inner = host.make("inner", {"i": "inner\n"})
    settings = '[submodule "in"]\n\tpath = in\n\turl = ../inner\n'
    lib = host.make("lib", {"l": "lib\n", ".gitmodules": settings, "in": inner}, modes={"in": "160000"})
    settings = '[submodule "the lib"]\n\tpath = lib\n\turl = ./../lib\n[core]\n\tfsmonitor = touch ran\n'
    settings += "".join(
        f'[submodule "{one}"]\n\tpath = {one}\n\turl = {url}\n' for one, url in HOSTILE.items()
    )
    links = {"lib": lib} | dict.fromkeys((*HOSTILE, "unnamed"), "1" * 40)
    host.commit("app", {".gitmodules": settings, **links}, modes=dict.fromkeys(links, "160000"))


@pytest.mark.asyncio
async def test_submodules_of_the_same_server_are_there_and_no_others(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path, "submodules = true\n", prepare=with_submodules) as (gateway, host):
        await begin(gateway)
        shown = "cat lib/l lib/in/i; git submodule status lib; git -C lib log --oneline | wc -l; ls file ext"
        said = await say(gateway, f"{shown}; git status --short; git -C lib/in remote get-url origin")
        assert said.startswith("lib\ninner\n"), said
        assert f" {host.git('lib', 'rev-parse', 'main')} lib" in said
        assert f"1\next:\n\nfile:\n{host.url('inner')}\n" in said, said
        export = await text(gateway, "/api/sessions/s/export")
        for name in (*HOSTILE, "unnamed"):
            assert f"{name}: " in export
        asked = {line.split()[-1].split("/")[1] for line in host.asked}
        assert asked == {"app", "lib", "inner"}
        await say(
            gateway, "echo two >> lib/l; echo new > lib/in/n; cd lib && git add l && git commit -qm mine"
        )
        assert "lib is in the diff only" in (await push(gateway, "agent/a", 409))["error"]["message"]
        await say(gateway, "echo three >> README.md")
        fork = await gateway.post("/api/sessions/s/fork", {"session_id": "child"}, status=201)
        assert fork["session"]["session_id"] == "child"
        for session_id in ("s", "child"):
            diff = await text(gateway, f"/api/sessions/{session_id}/changes.diff")
            for line in ("+++ b/lib/l", "+two", "+++ b/lib/in/n", "+new", "+++ b/README.md", "+three"):
                assert f"\n{line}\n" in diff
            assert diff.count("diff --git") == 3
        pushed = await push(gateway, "agent/a")
        assert "lib/in is in the diff only" in pushed["left_out"]
        tree = host.git("app", "ls-tree", "agent/a", "lib")
        assert tree == host.git("app", "ls-tree", "main", "lib")
        assert [path for path in gateway.data_path.rglob("ran") if path.is_file()] == []


@pytest.mark.parametrize(
    ("path", "url", "why"),
    [
        ("../up", "../lib", "leads out"),
        ("a/.GIT/x", "../lib", "leads out"),
        ("-x", "../lib", "not plain"),
        ("x", "--upload-pack=touch", "its URL"),
        ("x", "file:///etc", "its URL"),
        ("x", "ext::sh -c touch% x", "its URL"),
        ("x", "https://git.example.test@evil.test/lib", "its URL"),
        ("x", "https://git.example.test\\@evil.test/lib", "its URL"),
        ("x", "https://evil.test/#@git.example.test/lib", "its URL"),
        ("x", "http://git.example.test/lib", "its URL"),
        ("x", "ssh://git.example.test/lib", "its URL"),
        ("x", "git@git.example.test:lib", "its URL"),
        ("x", "https://git.example.test:444/lib", "444 is not among"),
        ("x", "https://evil.test/lib", "evil.test:443 is not among"),
        ("x", "https://libs.example.test/lib", ""),
        ("x", "../../../lib", ""),
    ],
)
def test_what_gitmodules_may_name(path: str, url: str, why: str) -> None:
    workspace = WorkspaceConfig(
        repo="https://git.example.test/acme/app", submodules=True, submodule_hosts=("libs.example.test",)
    )
    printed = (
        f"160000 commit {'1' * 40}\t{path}\0\nsubmodule.x.path\n{path}\0submodule.x.url\n{url}\0".encode()
    )
    listed = found(printed, workspace, url=workspace.repo)
    assert len(listed.submodules) == (not why)
    assert why in "".join(listed.left_out)


def test_a_relative_url_begins_at_the_repository() -> None:
    base = "https://git.example.test/acme/app.git"
    assert absolute("../lib.git", base) == "https://git.example.test/acme/lib.git"
    assert absolute("./lib", base) == "https://git.example.test/acme/app.git/lib"
    assert absolute("https://x.test/y", base) == "https://x.test/y"


async def revived(gateway: GatewayInside) -> None:
    """Its agent starts again, and hears what was said before."""
    await gateway.inner.manager.close_all("default/local", CloseReason.IDLE)
    await say(gateway, "exit")


@pytest.mark.asyncio
async def test_a_history_that_is_gone_is_fetched_again_and_found_elsewhere(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as (gateway, host):
        await begin(gateway)
        await say(gateway, "echo two >> README.md; git commit -qam mine")
        host.commit("app", {"README.md": "other\n"})
        host.git("app", "update-ref", "refs/heads/kept", "main~1")
        host.git("app", "update-ref", "refs/heads/main", "main~1")
        await gateway.inner.manager.close_all("default/local", CloseReason.IDLE)
        root = gateway.data_path / "workspaces"
        [store] = root.iterdir()
        keeper = gateway.inner.services.workers.repositories
        keeper._copies.clear()
        shutil.rmtree(store)
        [session] = (gateway.data_path / "sessions").iterdir()
        alternates = session / "work/.git/objects/info/alternates"
        owner = alternates.stat().st_uid
        alternates.write_text(f"/other\n/old/data/workspaces/{store.name}/git/objects\n")
        host.is_down = True
        await revived(gateway)
        assert await say(gateway, "tail -1 README.md") == "two\n"
        assert "is not here, so git does not work" in await text(gateway, "/api/sessions/s/export")
        missing = await text(gateway, "/api/sessions/s/changes.diff", 502)
        assert "is not here" in missing
        assert "cannot be reached now" in missing
        host.is_down = False
        assert "+two" in await text(gateway, "/api/sessions/s/changes.diff")
        await revived(gateway)
        said = await say(gateway, "git log --format=%s; git status --short; cat .git/objects/info/alternates")
        assert said.startswith(f"mine\nwork\n/other\n{store}/git/objects\n"), said
        assert alternates.stat().st_uid == owner
        workspace = gateway.inner.config.workspaces["app"]
        await keeper.refresh_soon(
            keeper._copies[store.name], workspace
        )  # or it is counted, too, when it comes
        asked = len(host.asked)
        await revived(gateway)
        assert "mine" in await say(gateway, "git log --format=%s")
        assert len(host.asked) == asked


@pytest.mark.asyncio
async def test_what_was_fetched_for_a_person_goes_with_the_person(tmp_path: pathlib.Path) -> None:
    more = f'[credentials.git]\nhosts = ["{HOST}:PORT"]\nscheme = "Basic"\nper = "person"\n'
    async with place(tmp_path, 'credential = "git"\n', more=more) as (gateway, host):
        host.passwords = {"ann": "word"}
        async with gateway.http.put("/api/me/keys/git", json={"key": "ann:word"}) as answer:
            assert answer.status == 200
        await begin(gateway)
        assert await say(gateway, "cat README.md") == "hello\n"
        root = gateway.data_path / "workspaces"
        assert len(os.listdir(root)) == 1
        async with gateway.http.delete("/api/me/keys") as answer:
            assert (await answer.json())["removed"] == 1
        assert "work" in await say(gateway, "git log --format=%s")
        await gateway.delete("s")
        assert os.listdir(root) == []
        keeper = gateway.inner.services.workers.repositories
        await keeper.warm("app", keeper.get("default/local", "app"), "default/local")
        assert len(os.listdir(root)) == 1
        async with gateway.http.delete("/api/me/keys") as answer:
            assert answer.status == 200
        assert os.listdir(root) == os.listdir(gateway.data_path / "snapshots") == []
