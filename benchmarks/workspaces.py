"""How soon a session answers that starts from a large repository, in a folder of your choice.

`python -m benchmarks.workspaces FOLDER [FILES] [ROUNDS]`: files of a megabyte each (1,000) in one commit, a
git server and a gateway on loopback; each round is a new session whose agent answers one message. Whether
files are cloned or copied depends on the file system of FOLDER. Needs git.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
from typing import Final

from tests import shell_agent
from tests.git_host import GitHost, git_host
from tests.inside import GatewayInside, gateway_inside

FOLDER: Final = sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()
FILES: Final = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
ROUNDS: Final = int(sys.argv[3]) if len(sys.argv) > 3 else 5
FILE_BYTES: Final = 1 << 20
READY_SECONDS: Final = 600


def commit_all(host: GitHost) -> None:
    """One commit with all files, which have one content: git has it once, the file system many times."""
    index = {"GIT_INDEX_FILE": str(host.root / "index")}
    blob = host.git("app", "rev-parse", "main:README.md")
    names = (f"d{number // 100}/f{number}" for number in range(FILES))
    entries = [word for name in names for word in ("--cacheinfo", f"100644,{blob},{name}")]
    host.git("app", "update-index", "--add", *entries, **index)
    commit = host.git("app", "commit-tree", host.git("app", "write-tree", **index), "-m", "all")
    host.git("app", "update-ref", "refs/heads/main", commit)


async def answered(gateway: GatewayInside, session_id: str) -> float:
    """Seconds from the request for a session to its agent's answer."""
    began = time.perf_counter()
    await gateway.post("/api/sessions", {"session_id": session_id, "workspace": "app"}, status=201)
    await gateway.chat(session_id, "ls | wc -l")
    return time.perf_counter() - began


async def ready(gateway: GatewayInside) -> None:
    """Waits until the warm copy is there, and its contents are read."""
    repositories = gateway.inner.services.workers.repositories
    warm = await repositories.warm("app", repositories.get("default/local", "app"), "default/local")
    async with asyncio.timeout(READY_SECONDS):
        while warm.keeping is None:
            await asyncio.sleep(0.1)
        await warm.keeping


async def run(folder: pathlib.Path) -> None:
    """All rounds."""
    text = "some text of one file " * (FILE_BYTES // 22)
    async with git_host(folder / "repos") as host:
        host.make("app", {"README.md": text})
        commit_all(host)
        config = f'default_agent = "shell"\n{shell_agent.toml()}\n[workers]\ndisk_bytes = {1 << 34}\n'
        config += f'[workspaces.app]\nrepo = "{host.url("app")}"\nagent = "shell"\n'
        async with gateway_inside(folder, config=config) as gateway:
            await ready(gateway)
            times = [await answered(gateway, f"s{number}") for number in range(ROUNDS)]
            async with gateway.http.get("/api/sessions/s0/export") as export:
                said = re.search(r"[0-9,]+ files, [^\"]*", await export.text())
    print(f"  {said[0] if said else 'no files'}")
    print(f"  answered: median {statistics.median(times):.2f} s, least {min(times):.2f} s, n {len(times)}")


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=FOLDER) as directory:
        pathlib.Path(directory).chmod(0o755)
        asyncio.run(run(pathlib.Path(directory)))


if __name__ == "__main__":
    main()
