"""Workspaces on bad days: hostile repositories and folders, servers that are down, setups that never end."""

from __future__ import annotations

import asyncio
import pathlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from msgspec import Struct

from gateway.files.workspaces_disk import Folders
from tests import shell_agent
from tests.git_host import HOST, GitHost, git_host
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, eventually

pytestmark = SHARED

HOSTILE: Final = {
    "README.md": "hello\n",
    ".gitattributes": "* filter=evil diff=evil merge=evil\n*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "large.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c touch% ran\n',
    "sub": "1" * 40,
    "link": "/etc/passwd",
}
LIMITED: Final = {
    "endless": 'setup = "sleep 600"\nsetup_seconds = 1\n',
    "filling": 'setup = "head -c 9000000 /dev/zero > zeros"\nlimits = {file_bytes = 1000000}\n',
    "failing": 'setup = "echo the reason; exit 3"\n',
    "gone": 'ref = "gone"\n',
    "large": "max_bytes = 1048576\n",
}
PASSWORD: Final = "canary-1f8a7c52d0e94b36"


class Place(Struct):
    """A server and a gateway."""

    gateway: GatewayInside
    host: GitHost
    path: pathlib.Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: Any) -> AsyncIterator[Place]:
    path = tmp_path_factory.mktemp("bad-days")
    async with git_host(path / "repos") as host:
        host.make("app", {"README.md": "hello\n"})
        host.make("moving", {"README.md": "hello\n"})
        host.make("hostile", HOSTILE, modes={"sub": "160000", "link": "120000"})
        host.make("large", {"large": secrets.token_hex(3 << 20)})
        config = f'default_agent = "shell"\n{shell_agent.toml()}\n'
        config += f'[credentials.git]\nhosts = ["{HOST}:{host.port}"]\nscheme = "Basic"\nper = "person"\n'
        for name, rest in {"moving": "", "hostile": "", **LIMITED}.items():
            repo = host.url(name if name in ("moving", "hostile", "large") else "app")
            config += f'[workspaces.{name}]\nrepo = "{repo}"\n{rest}\n'
        config += f'[workspaces.private]\nrepo = "{host.url("app")}"\ncredential = "git"\n'
        async with gateway_inside(path, config=config) as gateway:
            yield Place(gateway, host, path)


async def begin(place: Place, session_id: str, workspace: str) -> None:
    await place.gateway.post("/api/sessions", {"session_id": session_id, "workspace": workspace}, status=201)


async def say(place: Place, session_id: str, text: str) -> str:
    state = await place.gateway.chat(session_id, text)
    return str(state["messages"][-1]["content"])


async def push(place: Place, session_id: str, name: str, *, status: int = 201) -> Any:
    body = {"name": name, "message": "Work"}
    answer = await place.gateway.post(f"/api/sessions/{session_id}/branch", body, status=status)
    return answer if status == 201 else answer["error"]


async def changes(place: Place, session_id: str, kind: str = "diff") -> str:
    async with place.gateway.http.get(f"/api/sessions/{session_id}/changes.{kind}") as answer:
        found = await answer.text()
        assert answer.status == 200, found
        return found


async def test_nothing_of_a_hostile_repository_or_folder_runs(place: Place) -> None:
    await begin(place, "hostile", "hostile")
    said = await say(place, "hostile", "cat large.bin; ls sub | wc -l; readlink link; git config -l --local")
    assert "git-lfs" in said
    assert "submodule" not in said
    work = pathlib.Path(place.gateway.data_path / "sessions")
    evil = (
        "git config core.fsmonitor 'touch ran; false'; git config core.hooksPath hooks; mkdir -p hooks;"
        " printf '#!/bin/sh\\ntouch ran\\n' > hooks/pre-commit; chmod +x hooks/pre-commit;"
        " for key in clean smudge process; do git config filter.evil.$key 'touch ran; cat'; done;"
        " git config diff.evil.command 'touch ran'; git config diff.evil.textconv 'touch ran; cat';"
        " git config core.sshCommand 'touch ran'; git config core.worktree /; "
        " git init -q nested; git -C nested config core.fsmonitor 'touch ../ran';"
        " echo two >> README.md; rm -f ran"
    )
    await say(place, "hostile", evil)
    for kind in ("diff", "patch"):
        assert "+two" in await changes(place, "hostile", kind)
    await push(place, "hostile", "agent/hostile")
    await say(place, "hostile", "mv .git real; ln -s real .git; echo three >> README.md; rm -rf nested")
    assert "+three" in await changes(place, "hostile")
    await say(place, "hostile", "cp .gitmodules kept; echo '\tupdate = !touch ran' >> .gitmodules")
    assert "disallowed" in (await push(place, "hostile", "agent/hostile", status=502))["message"]
    await say(place, "hostile", "mv kept .gitmodules")
    pushed = await push(place, "hostile", "agent/hostile")
    assert place.host.git("hostile", "rev-parse", "agent/hostile") == pushed["commit"]
    assert place.host.git("hostile", "show", "agent/hostile:large.bin").startswith("version")
    assert [path for path in work.rglob("ran") if path.is_file()] == []


async def test_what_cannot_be_made_ready_is_said_and_leaves_nothing(place: Place) -> None:
    words = {
        "endless": "did not end within 1 seconds",
        "filling": "The setup of the workspace filling",
        "failing": "the reason",
        "gone": "has no branch or tag 'gone'",
        "large": "larger than the 1 MiB",
    }

    async def check(name: str) -> None:
        await begin(place, name, name)
        said = await say(place, name, "pwd")
        assert words[name] in said, said
        answer = await place.gateway.post(f"/api/sessions/{name}/branch", {"name": "agent/x"}, status=409)
        assert answer["error"]["code"] == "no_workspace"

    await asyncio.gather(*map(check, words))
    root = place.gateway.data_path / "workspaces"
    for store in (path for path in root.iterdir() if path.name.partition("-")[0] in words):
        assert list((store / "trees").iterdir()) == []
    log = next(root.glob("failing-*")) / "setup.log"
    assert log.read_text() == "the reason\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_persons_credential_is_used_and_never_given_away(place: Place) -> None:
    gateway, host = place.gateway, place.host
    host.passwords = {"ann": PASSWORD}
    try:
        await begin(place, "p", "private")
        assert "PUT /api/me/keys/git" in await say(place, "p", "pwd")
        async with gateway.http.put("/api/me/keys/git", json={"key": "ann:wrong"}) as answer:
            assert answer.status == 200
        assert "did not accept the credential" in await say(place, "p", "pwd")
        async with gateway.http.put("/api/me/keys/git", json={"key": f"ann:{PASSWORD}"}) as answer:
            assert answer.status == 200
        said = await say(place, "p", "cat README.md; env; cat .git/config; ls -R .git ~")
        assert said.startswith("hello")
        assert PASSWORD not in said
        assert (await push(place, "p", "agent/p", status=409))["code"] == "nothing_changed"
        await say(place, "p", "echo two >> README.md")
        first = await push(place, "p", "agent/p")
        assert "ann POST /app/git-receive-pack" in host.asked
        await say(place, "p", "echo three >> README.md")
        second = await push(place, "p", "agent/p")
        assert host.git("app", "rev-parse", "agent/p") == second["commit"] != first["commit"]
        theirs = host.commit("app", {"theirs": "x\n"}, branch="agent/p")
        assert (await push(place, "p", "agent/p", status=409))["code"] == "branch_conflict"
        assert host.git("app", "rev-parse", "agent/p") == theirs
        assert (await push(place, "p", "main", status=422))["code"] == "invalid_field"
        host.passwords = {"ann": "another"}
        assert (await push(place, "p", "agent/q", status=403))["code"] == "repository_refused"
        host.passwords, host.is_down = {"ann": PASSWORD}, True
        assert (await push(place, "p", "agent/q", status=502))["code"] == "repository_unreachable"
        host.is_down = False
        await push(place, "p", "agent/q")
        assert host.git("app", "show", "agent/q:README.md") == "hello\ntwo\nthree"
    finally:
        host.passwords, host.is_down = {}, False
    held = (path for path in gateway.data_path.rglob("*") if path.is_file() and not path.is_symlink())
    assert [path for path in held if PASSWORD.encode() in path.read_bytes()] == []
    assert PASSWORD not in gateway.log()


async def test_a_refresh_holds_up_nobody_who_has_files_to_begin_with(place: Place) -> None:
    gateway, host = place.gateway, place.host
    await begin(place, "one", "moving")
    assert "hello" in await say(place, "one", "cat README.md")
    host.hold = asyncio.Event()
    host.commit("moving", {"README.md": "newer\n"})
    gateway.clock.advance(10_000)
    await begin(place, "two", "moving")
    assert "hello" in await say(place, "two", "cat README.md")
    host.hold.set()
    host.hold = None
    keeper = gateway.inner.services.workers.repositories
    warm = await keeper.warm("moving", keeper.get("default/local", "moving"), "default/local")
    commit = host.git("moving", "rev-parse", "main")

    async def is_newer() -> bool:
        return warm.tree is not None and warm.tree.commit == commit

    await eventually(is_newer)
    await begin(place, "three", "moving")
    assert "newer" in await say(place, "three", "cat README.md")
    assert "hello" in await say(place, "one", "git status -s; git show HEAD:README.md")
    host.is_down = True
    try:
        gateway.clock.advance(10_000)

        async def has_failed() -> bool:
            return bool(warm.trouble)

        await eventually(has_failed)
        await begin(place, "four", "moving")
        assert "newer" in await say(place, "four", "cat README.md")
    finally:
        host.is_down = False
    async with gateway.http.get("/api/sessions/four/export") as answer:
        assert "cannot be reached now" in await answer.text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/data/workspaces")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folders, "publish", full)
        with pytest.raises(OSError, match="No space"):
            await warm.refresh(keeper.get("default/local", "moving"))
    assert warm.trouble == "No space left on device"
    await begin(place, "five", "moving")
    assert "newer" in await say(place, "five", "cat README.md")
