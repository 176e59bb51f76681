"""A session of a workspace goes on at another gateway: what its snapshots leave out is made again there."""

from __future__ import annotations

import pathlib

from tests.gateway.test_files_travel import ID, Places, folder, notices, said
from tests.git_host import git_host

FILES = {
    "README.md": "hello\n",
    "src/app.py": "one\n",
    "old/x.py": "x\n",
    ".gitignore": "built\n*.o\nmine\n",
}
SETUP = (
    "mkdir -p node_modules/p old/node_modules $HOME/.cache/tool; touch old/node_modules/q; echo p >"
    " node_modules/p/q; ln -s p node_modules/l; echo made > built; echo o > src/a.o; echo kept >"
    " $HOME/.cache/tool/a; echo run >> $HOME/.cache/runs"
)
LOOK = "cat built src/a.o node_modules/l/q $HOME/.cache/tool/a; ls -A; git log --oneline | wc -l"


async def test_what_setup_made_is_there_again_at_the_next_gateway_and_the_agents_work_on_top(
    tmp_path: pathlib.Path,
) -> None:
    places = Places(tmp_path, "store")
    async with git_host(tmp_path / "repos") as host:
        host.make("app", FILES)
        config = (
            f'[workspaces.app]\nrepo = "{host.url("app")}"\nagent = "shell"\nsetup = "{SETUP}"\n'
            'cache = [".cache/tool"]\n'
        )
        async with places.at("a", config) as first:
            await first.post("/api/sessions", {"session_id": ID, "workspace": "app"}, status=201)
            before = await said(first, LOOK)
            assert before.split()[:4] == ["made", "o", "p", "kept"], before
            await first.chat(ID, "echo two > src/app.py; rm -r old; echo mine > mine; echo mine > src/b.o")
        async with places.at("b", config) as second:
            assert (await said(second, LOOK)).split() == [
                word for word in before.split() if word not in ("old",)
            ]
            assert (await said(second, "cat src/app.py; git status --short -uno; ls src")).split() == [
                *("two", "D", "old/x.py", "M", "src/app.py"),
                *("a.o", "app.py"),
            ]
            assert not (folder(second) / "work" / "old").exists(), "the agent has removed it"
            (told,) = await notices(second, "workspace_again")
            assert told["level"] == "info"
            await second.chat(ID, "rm -r node_modules")
            asked = len(host.asked)
        async with places.at("b", config) as second:
            assert "node_modules" not in await said(second, "ls"), "nothing comes back that is not missing"
            assert len(await notices(second, "workspace_again")) == 1
        assert asked > 0


async def test_a_session_goes_on_without_them_if_they_cannot_be_made(tmp_path: pathlib.Path) -> None:
    places = Places(tmp_path, "store")
    async with git_host(tmp_path / "repos") as host:
        host.make("app", FILES)
        config = (
            f'[workspaces.app]\nrepo = "{host.url("app")}"\nagent = "shell"\nsetup = "echo made > built"\n'
        )
        async with places.at("a", config) as first:
            await first.post("/api/sessions", {"session_id": ID, "workspace": "app"}, status=201)
            await first.chat(ID, "echo two > src/app.py")
        host.is_down = True
        async with places.at("b", config) as second:
            assert (await said(second, "cat src/app.py; ls")).split() == ["two", "README.md", "old", "src"]
            (told,) = await notices(second, "workspace_again")
            assert told["level"] == "warning"
            host.is_down = False
        async with places.at("b", config) as second:
            assert await said(second, "cat src/app.py built") == "two\nmade\n"
