"""Earlier versions of the gateway, run from the history of the repository.

`unpacked` puts the code of a commit into a directory, with an interpreter that finds this code and the
libraries that are installed now. The gateway is then a process of that interpreter, and so are its workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sysconfig
import tarfile
import venv
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from tests.patience import soon

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
START_SECONDS: Final = 60
PLAYS: Final = "plays"
CONFIG: Final = "config.toml"
LONG_WORDS: Final = 40_000
"""Of a text that is longer than what is kept in memory at once."""
_URL: Final = re.compile(r"http://\S+")
_WITHHELD: Final = ("AGENT_", "OPENAI_", "PYTHON")


class NoHistory(Exception):
    """The commit is not in this copy of the repository: a shallow clone, or a tarball."""


class Version(Struct, frozen=True):
    """An unpacked version: where its interpreter is."""

    python: pathlib.Path

    async def typed(self, *words: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of its `agent-gateway WORDS`."""
        process = await asyncio.create_subprocess_exec(
            *self.program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await soon(process.communicate(), START_SECONDS)
        return process.returncode or 0, out.decode(), err.decode()

    @property
    def program(self) -> tuple[str, ...]:
        """Its command line."""
        return (str(self.python), "-I", "-m", "gateway")


class Serving(Struct, frozen=True):
    """A running gateway of some version."""

    process: asyncio.subprocess.Process
    url: str


@contextlib.asynccontextmanager
async def serving(program: Sequence[str], place: pathlib.Path) -> AsyncIterator[Serving]:
    """A gateway with the configuration of `place`; the block's end kills it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    with (place / "gateway.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *program,
            *("serve", "--config", str(place / CONFIG)),
            env=environ,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        line = (await soon(process.stdout.readline(), START_SECONDS)).decode()
        found = _URL.search(line)
        assert found, f"it did not start: {line!r} {(place / 'gateway.log').read_text()}"
        yield Serving(process, found[0])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Asker:
    """People with credentials of their own, at one gateway."""

    def __init__(self, url: str, who: Mapping[str, Mapping[str, str]]) -> None:
        """`who`: name → headers."""
        self._who = {
            name: aiohttp.ClientSession(url, headers=dict(headers), cookie_jar=aiohttp.CookieJar(unsafe=True))
            for name, headers in who.items()
        }

    async def __aenter__(self) -> Asker:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for http in self._who.values():
            await http.close()

    def __getitem__(self, who: str) -> aiohttp.ClientSession:
        return self._who[who]

    async def ask(
        self, who: str, method: str, path: str, body: object = None, **kwargs: Any
    ) -> tuple[int, Any]:
        """(status, body); lines of JSON come as a list, and what is no JSON as text."""
        async with self._who[who].request(method, path, json=body, **kwargs) as response:
            raw = await response.read()
            kind = response.content_type
        if kind == "application/x-ndjson":
            return response.status, [msgspec.json.decode(line) for line in raw.splitlines()]
        if kind == "application/json":
            return response.status, msgspec.json.decode(raw)
        return response.status, raw.decode() or None

    async def done(self, who: str, method: str, path: str, body: object = None, **kwargs: Any) -> Any:
        """The body of an answer that must be a success."""
        status, answer = await self.ask(who, method, path, body, **kwargs)
        assert status < 300, f"{who} {method} {path}: {status} {answer}"
        return answer


def unpacked(commit: str, directory: pathlib.Path) -> Version:
    """The version of a commit, below `directory`. Raises NoHistory."""
    git = shutil.which("git")
    if git is None:
        raise NoHistory("git is not installed")
    made = subprocess.run(
        [git, "-C", str(ROOT), "archive", commit, "gateway", "worker"], capture_output=True, check=False
    )
    if made.returncode:
        raise NoHistory(made.stderr.decode(errors="replace").strip())
    code, interpreter = directory / "code", directory / "python"
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as tar:
        tar.extractall(code, filter="data")
    venv.create(interpreter, symlinks=True)
    own = sysconfig.get_path("purelib", "venv", {"base": str(interpreter), "platbase": str(interpreter)})
    # Paths that a .pth file adds are not searched for further .pth files: the checkout that is installed here
    # in editable form stays out.
    lines = [str(code), *dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))]
    (pathlib.Path(own) / "version.pth").write_text("\n".join(lines) + "\n")
    return Version(interpreter / "bin" / "python")


def lay_out(kept: pathlib.Path, place: pathlib.Path, *, python: str, **endpoints: str) -> None:
    """Puts a kept configuration, and what it names, into `place`. `endpoints`: the addresses of `{model}` and
    `{git}`.
    """
    (place / PLAYS).mkdir(parents=True, exist_ok=True)
    values = {"{directory}": str(place), "{python}": python, "{long}": "letters " * LONG_WORDS}
    values |= {f"{{{name}}}": url for name, url in endpoints.items()}
    for path in (kept / CONFIG, *(kept / PLAYS).iterdir()):
        text = path.read_text()
        for name, value in values.items():
            text = text.replace(name, value)
        written = place / path.relative_to(kept)
        written.write_text(text)
        written.chmod(0o644)  # whatever the umask: agents, which have uids of their own, read theirs
    (place / PLAYS).chmod(0o755)
