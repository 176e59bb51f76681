"""Sessions that start from a repository, and what they changed, taken out again: with a real git server."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from gateway.events.lifecycle import CloseReason
from gateway.files import scan as scanning
from gateway.files.beneath import Folder
from gateway.files.taking import Taker, Taking
from tests import shell_agent
from tests.gateway.test_forks import turns_of
from tests.git_host import GitHost, git_host
from tests.inside import GatewayInside, gateway_inside
from tests.shared import eventually

FILES: Final = {"README.md": "hello\n", "src/app.py": "print('one')\n", ".gitignore": "ignored\n"}


@asynccontextmanager
async def place(
    tmp_path: pathlib.Path,
    workspace: str = "",
    *,
    more: str = "",
    prepare: Callable[[GitHost], None] = lambda host: None,
) -> AsyncIterator[tuple[GatewayInside, GitHost]]:
    """A server with the repository `app`, and a gateway with a workspace of it."""
    async with git_host(tmp_path / "repos") as host:
        host.make("app", FILES)
        prepare(host)
        config = (
            f'default_agent = "shell"\n{more}\n{shell_agent.toml()}\n'
            f'[workspaces.app]\nrepo = "{host.url("app")}"\nagent = "shell"\n{workspace}\n'
        ).replace("PORT", str(host.port))
        async with gateway_inside(tmp_path, config=config) as gateway:
            yield gateway, host


async def begin(gateway: GatewayInside, session_id: str = "s", **body: Any) -> Any:
    body = {"session_id": session_id, "workspace": "app", **body}
    return await gateway.post("/api/sessions", body, status=201)


async def say(gateway: GatewayInside, text: str, session_id: str = "s") -> str:
    """What the agent answers."""
    state = await gateway.chat(session_id, text)
    return str(state["messages"][-1]["content"])


async def text(gateway: GatewayInside, path: str, status: int = 200) -> str:
    async with gateway.http.get(path) as answer:
        found = await answer.text()
        assert answer.status == status, found
        return found


async def push(gateway: GatewayInside, name: str, status: int = 201, **body: Any) -> Any:
    return await gateway.post("/api/sessions/s/branch", {"name": name, **body}, status=status)


@pytest.mark.asyncio
async def test_a_session_starts_from_a_repository_and_its_branch_arrives(tmp_path: pathlib.Path) -> None:
    setup = 'setup = "echo made > built; mkdir -p $HOME/.cache/tool; echo kept > $HOME/.cache/tool/a"\n'
    rest = 'cache = [".cache/tool"]\nenv = {GREETING = "hi"}\npull_request_url = "gitea"\n'
    async with place(tmp_path, setup + rest) as (gateway, host):
        assert (await gateway.get("/api/workspaces"))["workspaces"][0]["name"] == "app"
        await begin(gateway)
        printed = "cat README.md built $HOME/.cache/tool/a; echo $GREETING"
        said = await say(gateway, f"{printed}; git status -s; git log --oneline | wc -l")
        assert said.split() == ["hello", "made", "kept", "hi", "??", "built", "1"], said
        state = await gateway.state("s")
        start = host.git("app", "rev-parse", "main")
        assert state["workspace"] == {"name": "app", "commit": start, "branch": "main", "pushed_branch": ""}
        edits = "echo two >> README.md; rm src/app.py; echo new > 'a b'; echo x > ignored"
        await say(gateway, f"{edits}; git add -A; git commit -qm mine; rm built")
        await gateway.inner.manager.close_all("default/local", CloseReason.IDLE)
        diff = await text(gateway, "/api/sessions/s/changes.diff")
        assert "+two" in diff
        assert "deleted file mode 100644" in diff
        assert "a b" in diff
        assert "ignored" not in diff
        patch = await text(gateway, "/api/sessions/s/changes.patch")
        assert "From: local <local@agent-gateway.invalid>" in patch
        assert "+two" in patch
        pushed = await push(gateway, "agent/one", message="Say two")
        assert pushed["pull_request_url"] == host.url("app") + "/compare/main...agent/one"
        shown = host.git("app", "log", "-1", "--format=%an|%ae|%cn|%s|%P", "agent/one")
        assert shown == f"local|local@agent-gateway.invalid|Agent Gateway|Say two|{start}"
        assert host.git("app", "show", "agent/one:README.md") == "hello\ntwo"
        assert host.git("app", "ls-tree", "--name-only", "agent/one").split("\n") == [
            ".gitignore", "README.md", "a b",
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_what_a_person_put_there_first_takes_nothing_of_the_repository_away(
    tmp_path: pathlib.Path,
) -> None:
    async with place(tmp_path) as (gateway, _):
        await begin(gateway)
        for path, headers in (("src/mine.txt", {}), ("cut.bin", {"Content-Range": "bytes 0-3/10"})):
            where = f"/api/sessions/s/files/content?path={path}"
            async with gateway.http.put(where, data=b"mine", headers=headers) as answer:
                assert answer.status == 200, await answer.text()
        assert await say(gateway, "ls src; git status --short") == "app.py\nmine.txt\n?? src/mine.txt\n"
        changed = await text(gateway, "/api/sessions/s/changes.diff")
        assert ("src/mine.txt" in changed, "cut.bin" in changed, "deleted" in changed) == (True, False, False)


async def test_a_fork_has_no_agent_that_its_workspace_does_not_allow(tmp_path: pathlib.Path) -> None:
    more = '[agents.other]\ncommand = "true"\n'
    async with place(tmp_path, 'agents = ["shell"]\n', more=more) as (gateway, _):
        await begin(gateway)
        await say(gateway, "echo hello")
        wanted = {"session_id": "child", "agent": "other"}
        answer = await gateway.post("/api/sessions/s/fork", wanted, status=422)
        assert answer["error"]["code"] == "unknown_workspace"


async def test_a_workspace_is_for_its_tenants_and_agents_alone(tmp_path: pathlib.Path) -> None:
    more = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n[tenants.beta]\n[agents.other]\ncommand = "true"\n'
    async with place(tmp_path, 'tenants = ["acme"]\nagents = ["shell"]\n', more=more) as (gateway, _):
        keys = {name: await gateway.mint(name, tenant=name) for name in ("acme", "beta")}
        seen: dict[object, object] = {}
        for name, key in keys.items():
            async with gateway.caller(key) as caller:
                async with caller.get("/api/workspaces") as answer:
                    seen[name] = [one["name"] for one in (await answer.json())["workspaces"]]
                for agent in ("shell", "other"):
                    body = {"workspace": "app", "agent": agent}
                    async with caller.post("/api/sessions", json=body) as answer:
                        seen[name, agent] = answer.status
        assert seen == {
            "acme": ["app"],
            "beta": [],
            ("acme", "shell"): 201,
            ("acme", "other"): 422,
            ("beta", "shell"): 422,
            ("beta", "other"): 422,
        }


async def test_the_first_snapshot_of_a_session_reads_nothing_that_its_workspace_gave(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    once = Taker._read_once

    def noted(self: Taker, taking: Taking, folder: Folder, path: bytes) -> Any:
        read.append(path)
        return once(self, taking, folder, path)

    monkeypatch.setattr(scanning, "RACY_NS", 0)
    async with place(tmp_path, "refresh_seconds = 1000\n") as (gateway, host):
        await begin(gateway, "first")
        await say(gateway, "true", "first")
        [warm] = gateway.inner.services.workers.repositories._copies.values()
        assert warm.keeping is not None
        await warm.keeping
        monkeypatch.setattr(Taker, "_read_once", noted)
        await begin(gateway)
        await say(gateway, "echo two > README.md; rm src/app.py; chmod +x .gitignore; pwd")
        [turn] = await turns_of(gateway, "s", 1)
        assert {path for path in read if b"/.git/" not in path} == {b"work/README.md", b"work/.gitignore"}
        kept = gateway.data_path / "snapshots"
        [old] = kept.glob("tree.*")
        host.commit("app", {"README.md": "newer\n"})
        gateway.clock.advance(10_000)

        async def is_replaced() -> bool:
            return [path.name for path in kept.glob("tree.*")] not in ([], [old.name])

        await eventually(is_replaced)
        await gateway.post("/api/sessions/s/files/restore", {"at_seq": turn["turn"] - 1})
        for path in ("README.md", "src/app.py"):
            assert await text(gateway, f"/api/sessions/s/files/content?path={path}") == FILES[path]
