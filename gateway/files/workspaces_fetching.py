"""What is fetched for a warm copy, by gits behind walls: a branch or tag, submodules, single commits.

Guarantees: each program is a user that nothing else is, with folders of its own; only the server of the
repository, and those that the operator named for submodules, are asked, each with the credential that is for
it; what a fetch that was cut left is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.config.workspaces import WorkspaceConfig, place_of
from gateway.errors import RepositoryRefused, WorkspaceFailed
from gateway.files import git, submodules
from gateway.files.snapshots import Snapshots
from gateway.files.workspaces_disk import Folders
from gateway.principal import Account
from gateway.workers import trees
from gateway.workers.spawner import Spawner, Worker
from gateway.workers.workspace import Workspaces
from worker.spec import Limits, Sandbox

LOCAL_SECONDS: Final = 300.0
"""How long programs may take that only read and write files."""
CURRENT: Final = "refs/warm/current"
KEPT: Final = "refs/warm/kept"
"""Commits that the branch does not lead to: of submodules, and those that sessions began with."""
SHELL: Final = "/bin/sh"
_FETCH: Final = (
    "git init -q --bare . && git fetch -q --no-tags --no-write-fetch-head $DEPTH"
    ' "$URL" "+$WANTED:$REF" && git rev-parse "$REF^{commit}"'
)
_HAS: Final = 'git cat-file -e "$COMMIT^{tree}"'


class Tools(Protocol):
    """What a warm copy needs of the gateway around it."""

    spawner: Spawner
    uids: Workspaces
    snapshots: Snapshots
    wall_ms: Callable[[], int]

    def secret(
        self, workspace: WorkspaceConfig, account: Account, *, url: str = ""
    ) -> Awaitable[git.Secret | None]:
        """The credential for its server, or for that of a submodule's `url`; None if it needs none, and if
        the credential is not for that server. Raises RepositoryRefused if there is none now.
        """

    def refused(self, workspace: WorkspaceConfig) -> None:
        """The server did not take the credential."""

    def walls(self, workspace: WorkspaceConfig) -> tuple[Sandbox, Limits]:
        """Those of `setup`."""

    def attend(self, worker: Worker, workspace: WorkspaceConfig, account: Account) -> None:
        """Answers the connections of a `setup`."""


class Remote(Struct, frozen=True):
    """What a server says of a ref."""

    ref: str
    commit: str
    branch: str


class WarmRooms:
    """Places for programs that run for a warm copy."""

    def __init__(self, folders: Folders, tools: Tools) -> None:
        self._folders = folders
        self._tools = tools

    @contextlib.asynccontextmanager
    async def uid(self) -> AsyncIterator[int | None]:
        """A user that nothing else runs as, for a while."""
        uids = self._tools.uids
        uid = uids.take_uid()
        if uid is None and uids.has_uids:
            raise WorkspaceFailed("All the user ids of this gateway are taken (workers.uid_count).")
        try:
            yield uid
        finally:
            uids.give_back_uid(uid)

    @contextlib.asynccontextmanager
    async def place(self, limits: Limits | None = None) -> AsyncIterator[git.Room]:
        """Two empty folders and a user, for one program."""
        async with self.uid() as uid:
            path = await asyncio.to_thread(self._folders.scratch, uid)
            try:
                home, work = str(path / "home"), str(path / "work")
                yield git.Room(home=home, work=work, uid=uid, limits=limits or Limits())
            finally:
                await asyncio.to_thread(trees.remove, path)


class Fetching:
    """See the module."""

    def __init__(self, folders: Folders, account: Account, tools: Tools) -> None:
        self._folders = folders
        self._account = account
        self._tools = tools
        self._rooms = WarmRooms(folders, tools)

    async def ask(self, workspace: WorkspaceConfig, secret: git.Secret | None) -> Remote:
        """What the server has of the ref. Raises GatewayError, TimeoutError."""
        wanted = (
            ("HEAD",)
            if not workspace.ref
            else (f"refs/heads/{workspace.ref}", *(f"refs/tags/{workspace.ref}{end}" for end in ("", "^{}")))
        )
        async with self._rooms.place() as place:
            done = await self._git(
                ("git", "ls-remote", "--symref", workspace.repo, *wanted), workspace, place, secret
            )
        return remote_of(done.out.decode("utf-8", "replace"), workspace)

    async def fetch(
        self, workspace: WorkspaceConfig, wanted: str, ref: str, secret: git.Secret | None, *, url: str = ""
    ) -> str:
        """Brings what is new of the history of `wanted`, and calls that `ref`; the commit. `url`: of a
        submodule. Raises GatewayError, TimeoutError, OSError.
        """
        folders = self._folders
        limits = Limits(disk_bytes=workspace.max_bytes, file_bytes=workspace.max_bytes)
        async with self._rooms.place(limits) as place:
            await asyncio.to_thread(folders.lend, folders.git, place.uid)
            try:
                here = msgspec.structs.replace(place, work=str(folders.git))
                depth = f"--depth={workspace.depth}" if workspace.depth else ""
                done = await self._git(
                    (SHELL, "-c", _FETCH),
                    workspace,
                    here,
                    secret,
                    {
                        "URL": url or workspace.repo,
                        "WANTED": wanted,
                        "REF": ref,
                        "DEPTH": depth,
                        "GIT_DIR": ".",
                    },
                )
            finally:
                await asyncio.to_thread(folders.open_git)
        return done.out.decode("ascii", "replace").strip()

    async def fetch_submodules(self, workspace: WorkspaceConfig, commit: str) -> submodules.Listed:
        """Fetches the submodules of a commit, and theirs, if the workspace has them; each comes after the one
        that it is in. Raises GatewayError, TimeoutError, OSError.
        """
        all_of = submodules.Listed([], [])
        level = [(commit, workspace.repo, "")] if workspace.submodules else []
        for _ in range(submodules.DEEPEST):
            inner: list[submodules.Submodule] = []
            for at, url, inside in level:
                done = await self._read(submodules.LISTING, at)
                listed = submodules.found(done.out, workspace, url=url, inside=inside)
                inner += listed.submodules
                all_of.left_out.extend(listed.left_out)
            all_of.submodules.extend(inner)
            if len(all_of.submodules) > submodules.MOST:
                raise WorkspaceFailed(f"The repository has more than {submodules.MOST} submodules.")
            for one in inner:
                await self._fetch_submodule(workspace, one)
            level = [(one.commit, one.url, one.path) for one in inner]
        all_of.left_out.extend(
            f"{path}: submodules are fetched {submodules.DEEPEST} deep" for *_, path in level
        )
        return all_of

    async def _fetch_submodule(self, workspace: WorkspaceConfig, one: submodules.Submodule) -> None:
        if await self.has(one.commit):
            return
        try:
            secret = await self._tools.secret(workspace, self._account, url=one.url)
            await self.fetch(workspace, one.commit, f"{KEPT}/{one.commit}", secret, url=one.url)
        except (RepositoryRefused, WorkspaceFailed) as error:
            raise WorkspaceFailed(f"The submodule {one.path} was not fetched: {error}") from error

    async def has(self, commit: str) -> bool:
        """Whether its history is here. Raises WorkspaceFailed, TimeoutError, OSError."""
        return (self._folders.git / "HEAD").is_file() and (await self._read(_HAS, commit)).is_good

    async def _read(self, script: str, commit: str) -> git.Done:
        """Runs git on what was fetched, without a network."""
        async with self._rooms.place() as place:
            return await git.run(
                self._tools.spawner,
                (SHELL, "-c", script),
                place=msgspec.structs.replace(place, readable=(str(self._folders.git),)),
                env=git.environment({"COMMIT": commit, "GIT_DIR": str(self._folders.git)}),
                seconds=LOCAL_SECONDS,
            )

    async def _git(
        self,
        argv: tuple[str, ...],
        workspace: WorkspaceConfig,
        place: git.Room,
        secret: git.Secret | None,
        env: dict[str, str] | None = None,
    ) -> git.Done:
        """Runs git with the network. Raises GatewayError, TimeoutError."""
        readable = (secret.ca_file,) if secret is not None and secret.ca_file else ()
        place = msgspec.structs.replace(place, network="shared", readable=(*place.readable, *readable))
        done = await git.run(
            self._tools.spawner,
            argv,
            place=place,
            env=git.environment(env or {}, secret=secret, is_plain=workspace.is_plain),
            seconds=workspace.fetch_seconds,
        )
        done = git.masked(done, secret)
        host = place_of((env or {}).get("URL", workspace.repo))[0]
        try:
            git.raise_for(done, doing="fetching", host=host, most_bytes=workspace.max_bytes)
        except RepositoryRefused:
            self._tools.refused(workspace)
            raise
        return done


def remote_of(printed: str, workspace: WorkspaceConfig) -> Remote:
    """What `git ls-remote --symref` printed. Raises WorkspaceFailed if the ref is not there."""
    found: dict[str, str] = {}
    default = ""
    for line in printed.splitlines():
        value, _, ref = line.partition("\t")
        if value.startswith("ref: "):
            default = value.removeprefix("ref: ").strip()
        else:
            found[ref] = value
    branch, tag = f"refs/heads/{workspace.ref}", f"refs/tags/{workspace.ref}"
    if not workspace.ref and "HEAD" in found:
        name = default.removeprefix("refs/heads/") if default.startswith("refs/heads/") else ""
        return Remote(default or "HEAD", found["HEAD"], name)
    if workspace.ref and branch in found:
        return Remote(branch, found[branch], workspace.ref)
    if workspace.ref and tag in found:
        return Remote(tag, found.get(tag + "^{}", found[tag]), "")
    what = f"has no branch or tag {workspace.ref!r}" if workspace.ref else "is empty"
    raise WorkspaceFailed(f"The repository {what}. The operator can name another (ref of the workspace).")
