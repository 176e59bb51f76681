"""A server of git repositories on loopback: git's own http-backend behind HTTP with Basic credentials."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import web

GIT: Final = shutil.which("git") or "/usr/bin/git"
HOST: Final = "git.localhost"
"""Leads to loopback everywhere (RFC 6761), and is a name as credentials have them."""
_PEOPLE: Final = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.test",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.test",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


class GitHost:
    """Repositories below a folder; who may come in, and how it is today."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.port = 0
        self.passwords: dict[str, str] = {}
        """Of people; empty: anyone may come in."""
        self.is_down = False
        self.hold: asyncio.Event | None = None
        """While it is there and not set, packs wait for it."""
        self.asked: list[str] = []
        """Who asked for what: `user METHOD /path`."""

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self.port}/{name}"

    def git(self, name: str, *argv: str, **env: str) -> str:
        """Runs git on a repository of the server's."""
        return _git(self.root / name, *argv, **env)

    def make(self, name: str, files: Mapping[str, str], *, modes: Mapping[str, str] = {}) -> str:
        """A new repository with one commit on `main`; the commit. `modes`: of entries that are no files."""
        path = self.root / name
        _git(self.root, "init", "-q", "--bare", "-b", "main", name)
        _git(path, "config", "http.receivepack", "true")
        return self.commit(name, files, modes=modes)

    def commit(
        self, name: str, files: Mapping[str, str], *, branch: str = "main", modes: Mapping[str, str] = {}
    ) -> str:
        """One more commit; what is there of other files stays."""
        path = self.root / name
        index = {"GIT_INDEX_FILE": str(path / "test-index")}
        head = _try(path, "rev-parse", "-q", "--verify", f"refs/heads/{branch}")
        if head:
            _git(path, "read-tree", head, **index)
        for file, text in files.items():
            mode = modes.get(file, "100644")
            found = text if mode == "160000" else _git(path, "hash-object", "-w", "--stdin", stdin=text)
            _git(path, "update-index", "--add", "--cacheinfo", f"{mode},{found},{file}", **index)
        tree = _git(path, "write-tree", **index)
        parents = ("-p", head) if head else ()
        commit = _git(path, "commit-tree", tree, *parents, "-m", "work")
        _git(path, "update-ref", f"refs/heads/{branch}", commit)
        return commit

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request, answered by http-backend."""
        user = self._user(request)
        self.asked.append(f"{user} {request.method} {request.path}")
        if self.is_down:
            return web.Response(status=503)
        if user is None:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        if self.hold is not None and request.path.endswith("git-upload-pack"):
            await self.hold.wait()
        body = await request.read()
        process = await asyncio.create_subprocess_exec(
            *(GIT, "http-backend"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "REMOTE_USER": user,
                "REMOTE_ADDR": "127.0.0.1",
                "PATH_INFO": request.path,
                "QUERY_STRING": request.query_string,
                "REQUEST_METHOD": request.method,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": "",
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            },
        )
        out, _ = await process.communicate(body)
        head, _, rest = out.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        return web.Response(status=status, body=rest, headers=fields)

    def _user(self, request: web.Request) -> str | None:
        if not self.passwords:
            return "anyone"
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            user, _, password = base64.b64decode(value).decode().partition(":")
            if scheme == "Basic" and self.passwords.get(user) == password:
                return user
        return None


@contextlib.asynccontextmanager
async def git_host(root: pathlib.Path) -> AsyncIterator[GitHost]:
    """Serves a folder on a free port of loopback."""
    root.mkdir(exist_ok=True)
    host = GitHost(root)
    application = web.Application(client_max_size=1 << 28)
    application.router.add_route("*", "/{path:.*}", host.serve)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host.port = runner.addresses[0][1]
    try:
        yield host
    finally:
        if host.hold is not None:
            host.hold.set()
        await runner.cleanup()


def _git(path: pathlib.Path, *argv: str, stdin: str = "", **env: str) -> str:
    done = subprocess.run(
        (GIT, "-C", str(path), *argv),
        input=stdin.encode(),
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]} | _PEOPLE | env,
    )
    return done.stdout.decode().strip()


def _try(path: pathlib.Path, *argv: str) -> str:
    with contextlib.suppress(subprocess.CalledProcessError):
        return _git(path, *argv)
    return ""
