"""A session's copy of a repository takes no place where the file system can clone files (XFS)."""

from __future__ import annotations

import os
import pathlib

import pytest

from tests import shell_agent
from tests.filesystems import NoFilesystem, mounted
from tests.git_host import git_host
from tests.inside import gateway_inside

FILES = 20
FILE_BYTES = 1 << 20


async def test_files_of_a_workspace_are_cloned(tmp_path: pathlib.Path) -> None:
    try:
        with mounted("xfs", tmp_path) as folder:
            await _cloned(folder)
    except NoFilesystem as error:
        pytest.skip(str(error))


async def _cloned(folder: pathlib.Path) -> None:
    folder.chmod(0o755)
    async with git_host(folder / "repos") as host:
        host.make("app", {f"f{number}": f"{number} " * (FILE_BYTES // 2) for number in range(FILES)})
        config = f'default_agent = "shell"\n{shell_agent.toml()}\n[files]\nsnapshots = false\n'
        config += f'[workspaces.app]\nrepo = "{host.url("app")}"\nagent = "shell"\n'
        async with gateway_inside(folder, config=config) as gateway:

            async def answer(session_id: str) -> str:
                await gateway.post(
                    "/api/sessions", {"session_id": session_id, "workspace": "app"}, status=201
                )
                state = await gateway.chat(session_id, "cat f7 | wc -c")
                return str(state["messages"][-1]["content"]).strip()

            first = await answer("first")
            os.sync()
            before = _used(folder)
            assert await answer("second") == first
            os.sync()
            assert _used(folder) - before < FILES * FILE_BYTES / 2
            async with gateway.http.get("/api/sessions/second/export") as export:
                assert "cloned in" in await export.text()


def _used(folder: pathlib.Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
