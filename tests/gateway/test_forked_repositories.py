"""A session that started from a repository: its files are no turn's work, and its forks have them."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.gateway.test_workspaces import begin, place, say


@pytest.mark.asyncio
async def test_a_fork_has_the_repository_and_the_first_turn_changed_only_its_own(
    tmp_path: pathlib.Path,
) -> None:
    async with place(tmp_path, "") as (gateway, _):
        await begin(gateway)
        await say(gateway, "echo mine > mine; git add mine; git commit -qm mine")
        session = gateway.inner.manager.get("default/local", "s")
        assert session is not None
        await session.files.until_kept()
        [changed] = [item for item in session.fold.snapshot()["items"] if item["kind"] == "files_changed"]
        shown = await gateway.get("/api/sessions/s/files/changes", turn=changed["turn"])
        names = [one["path"] for one in shown["files"] if not one["path"].startswith(".git/")]
        assert names == ["mine"]
        await gateway.post("/api/sessions/s/fork", {"session_id": "child"}, status=201)
        child = gateway.inner.manager.get("default/local", "child")
        assert child is not None
        work = gateway.data_path / "sessions" / child.record.key / "work"
        assert ((work / "README.md").read_text(), (work / "mine").read_text()) == ("hello\n", "mine\n")
        git = ["git", "-c", f"safe.directory={work}", "-C", str(work)]
        logged = subprocess.run([*git, "log", "--format=%s"], capture_output=True, text=True, check=True)  # noqa: ASYNC221 - a moment
        assert logged.stdout.split("\n")[0] == "mine"
