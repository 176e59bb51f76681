"""WarmCopy: a repository that is kept ready: fetched, checked out, set up.

Guarantees: one refresh at a time; sessions get the last tree that was complete, whatever becomes of the next
one; a refresh that fails, or is cut, changes nothing that sessions see; each program runs behind walls, as a
user that nothing else runs as.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import pathlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.config.workspaces import WorkspaceConfig
from gateway.errors import WorkspaceFailed
from gateway.files import git, workspaces_copying
from gateway.files.workspaces_disk import Folders, Tree
from gateway.principal import Account
from gateway.workers import trees
from gateway.workers.spawner import Spawner, Worker
from gateway.workers.workspace import Workspaces
from worker.spec import KIB, Limits, Sandbox

log = logging.getLogger(__name__)

SETUP_PRINTED_BYTES: Final = 256 * KIB
"""Of what `setup` prints, the end is kept."""
LOCAL_SECONDS: Final = 300.0
"""How long programs may take that only read and write files."""
MOST_FILES: Final = 500_000
"""As many as the limits `coding` let a session have."""
_SHELL: Final = "/bin/sh"
COPYING: Final = pathlib.Path(workspaces_copying.__file__).read_text()
_FETCH: Final = (
    "git init -q --bare . && git fetch -q --no-tags --no-write-fetch-head $DEPTH"
    ' "$URL" "+$REF:refs/warm/current"'
    " && git rev-parse 'refs/warm/current^{commit}'"
)
_CHECK_OUT: Final = 'git read-tree --reset -u "$COMMIT"'


class Tools(Protocol):
    """What a warm copy needs of the gateway around it."""

    spawner: Spawner
    uids: Workspaces
    wall_ms: Callable[[], int]

    def secret(self, workspace: WorkspaceConfig, account: Account) -> Awaitable[git.Secret | None]:
        """The credential for its server. Raises RepositoryRefused if there is none now."""

    def walls(self, workspace: WorkspaceConfig) -> tuple[Sandbox, Limits]:
        """Those of `setup`."""

    def attend(self, worker: Worker, workspace: WorkspaceConfig, account: Account) -> None:
        """Answers the connections of a `setup`."""


class Remote(Struct, frozen=True):
    """What a server says of a ref."""

    ref: str
    commit: str
    branch: str


class WarmCopy:
    """See the module; `account` is whose credential is used, `folders` are its own."""

    def __init__(self, name: str, folders: Folders, account: Account, tools: Tools) -> None:
        self.name = name
        self.folders = folders
        self.account = account
        self._tools = tools
        self._refreshing = asyncio.Lock()
        self._used: dict[str, int] = {}
        """Trees that are being copied, and how often."""
        self.trouble = ""
        """Why the last refresh failed, in words; empty if it did not."""
        self.tree: Tree | None = None

    async def open(self) -> None:
        """Reads what there is. Raises OSError."""
        await asyncio.to_thread(self.folders.open)
        self.tree = await asyncio.to_thread(self.folders.current)

    def is_good(self, workspace: WorkspaceConfig) -> bool:
        """Whether there is a tree that was made by these settings."""
        return self.tree is not None and self.tree.digest == digest(workspace)

    def is_due(self, workspace: WorkspaceConfig) -> bool:
        """Whether the server is to be asked again."""
        if not self.is_good(workspace) or self.tree is None:
            return True
        age = (self._tools.wall_ms() - self.tree.checked_at) / 1000
        return bool(workspace.refresh_seconds) and age >= workspace.refresh_seconds

    @contextlib.contextmanager
    def using(self, tree: Tree) -> Iterator[Tree]:
        """Keeps a tree from being removed."""
        self._used[tree.id] = self._used.get(tree.id, 0) + 1
        try:
            yield tree
        finally:
            self._used[tree.id] -= 1
            if not self._used[tree.id]:
                del self._used[tree.id]

    # -- refreshing -------------------------------------------------------------------------------------

    async def refresh(self, workspace: WorkspaceConfig) -> None:
        """Asks the server, and makes a new tree if there is something new. Raises GatewayError, OSError."""
        async with self._refreshing:
            if not self.is_due(workspace):
                return  # it was done while this waited
            try:
                await self._refresh(workspace)
            except TimeoutError:
                self.trouble = f"The server of {self.name} took longer than it may."
                raise WorkspaceFailed(self.trouble) from None
            except Exception as error:
                self.trouble = str(error)
                raise
            self.trouble = ""

    async def _refresh(self, workspace: WorkspaceConfig) -> None:
        secret = await self._tools.secret(workspace, self.account)
        remote = await self._ask(workspace, secret)
        now, tree = self._tools.wall_ms(), self.tree
        if tree is not None and self.is_good(workspace) and tree.commit == remote.commit:
            await self._publish(msgspec.structs.replace(tree, checked_at=now))
            return
        commit = await self._fetch(workspace, remote, secret)
        made = Tree(
            id="",
            commit=commit,
            branch=remote.branch,
            digest=digest(workspace),
            made_at=now,
            checked_at=now,
        )
        await self._publish(await self._made(workspace, made))
        log.info("workspace %s: %s is ready at %s", self.name, remote.ref, commit[:12])

    async def _publish(self, tree: Tree) -> None:
        await asyncio.to_thread(self.folders.publish, tree)
        self.tree = tree
        await asyncio.to_thread(self.folders.remove_others, {tree.id, *self._used})

    async def _ask(self, workspace: WorkspaceConfig, secret: git.Secret | None) -> Remote:
        """What the server has of the ref. Raises GatewayError, TimeoutError."""
        wanted = (
            ("HEAD",)
            if not workspace.ref
            else (f"refs/heads/{workspace.ref}", *(f"refs/tags/{workspace.ref}{end}" for end in ("", "^{}")))
        )
        async with self._place() as place:
            done = await self._git(
                ("git", "ls-remote", "--symref", workspace.repo, *wanted), workspace, place, secret
            )
        return remote_of(done.out.decode("utf-8", "replace"), workspace)

    async def _fetch(self, workspace: WorkspaceConfig, remote: Remote, secret: git.Secret | None) -> str:
        """Brings what is new of the history; the commit. Raises GatewayError, TimeoutError, OSError."""
        folders = self.folders
        limits = Limits(disk_bytes=workspace.max_bytes, file_bytes=workspace.max_bytes)
        async with self._place(limits) as place:
            await asyncio.to_thread(folders.lend, folders.git, place.uid)
            try:
                here = msgspec.structs.replace(place, work=str(folders.git))
                depth = f"--depth={workspace.depth}" if workspace.depth else ""
                done = await self._git(
                    (_SHELL, "-c", _FETCH),
                    workspace,
                    here,
                    secret,
                    {"URL": workspace.repo, "REF": remote.ref, "DEPTH": depth, "GIT_DIR": "."},
                )
            finally:
                await asyncio.to_thread(folders.open_git)
        return done.out.decode("ascii", "replace").strip()

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
        is_plain = workspace.repo.startswith("http://")
        done = await git.run(
            self._tools.spawner,
            argv,
            place=place,
            env=git.environment(env or {}, secret=secret, is_plain=is_plain),
            seconds=workspace.fetch_seconds,
        )
        done = git.masked(done, secret)
        host = workspace.place[0]
        git.raise_for(done, doing="fetching", host=host, most_bytes=workspace.max_bytes)
        return done

    # -- a tree -----------------------------------------------------------------------------------------

    async def _made(self, workspace: WorkspaceConfig, tree: Tree) -> Tree:
        """Checks a commit out and sets it up. If that fails, nothing of it is kept."""
        folders = self.folders
        async with self._uid() as uid:
            path = await asyncio.to_thread(folders.new_tree, uid)
            try:
                place = git.Room(
                    home=str(path / "home"),
                    work=str(path / "work"),
                    uid=uid,
                    readable=(str(folders.objects),),
                    limits=Limits(disk_bytes=workspace.max_bytes, file_bytes=workspace.max_bytes),
                )
                await self._check_out(tree, place)
                await self._keep_caches(workspace, place)
                if workspace.setup:
                    await self._set_up(workspace, place)
                await asyncio.to_thread(folders.take_back, path)
                size = await asyncio.to_thread(folders.measure, path, most_files=MOST_FILES)
            except trees.TooMany:
                await asyncio.to_thread(trees.remove, path)
                raise WorkspaceFailed(
                    f"The workspace {self.name} has more than {MOST_FILES:,} files."
                ) from None
            except BaseException:
                await asyncio.to_thread(trees.remove, path)
                raise
        return msgspec.structs.replace(tree, id=path.name, bytes=size.allocated_bytes, files=size.files)

    async def _check_out(self, tree: Tree, place: git.Room) -> None:
        work = pathlib.Path(place.work)
        await asyncio.to_thread(
            lambda: self.folders.lay_repository(work, commit=tree.commit, branch=tree.branch, uid=place.uid)
        )
        env = git.environment({"COMMIT": tree.commit, "GIT_DIR": ".git", "GIT_WORK_TREE": "."})
        done = await git.run(
            self._tools.spawner, (_SHELL, "-c", _CHECK_OUT), place=place, env=env, seconds=LOCAL_SECONDS
        )
        git.raise_for(done, doing="checking out", host=self.name, most_bytes=place.limits.disk_bytes)

    async def _keep_caches(self, workspace: WorkspaceConfig, place: git.Room) -> None:
        """What the last `setup` left in the folders of `cache` is there for the next."""
        if self.tree is None or not (workspace.setup and workspace.cache):
            return
        home = self.folders.tree(self.tree.id) / "home"
        pairs = [(str(home / folder), f"~/{folder}") for folder in workspace.cache]
        place = msgspec.structs.replace(place, readable=(str(home),))
        try:
            await copy(self._tools.spawner, pairs, place=place, most_bytes=workspace.max_bytes)
        except WorkspaceFailed as error:
            log.warning("workspace %s: set up without its caches: %s", self.name, error)

    async def _set_up(self, workspace: WorkspaceConfig, place: git.Room) -> None:
        """Runs `setup`. Raises WorkspaceFailed."""
        walls, limits = self._tools.walls(workspace)
        place = msgspec.structs.replace(
            place, network=walls.network, readable=(*place.readable, *walls.readable), limits=limits
        )
        try:
            done = await git.run(
                self._tools.spawner,
                (_SHELL, "-c", f"exec 2>&1\n{workspace.setup}"),
                place=place,
                env=workspace.env,
                seconds=workspace.setup_seconds,
                most_bytes=SETUP_PRINTED_BYTES,
                keeps_last=True,
                attend=lambda worker: self._tools.attend(worker, workspace, self.account),
            )
        except TimeoutError:
            raise WorkspaceFailed(
                f"The setup of the workspace {self.name} did not end within {workspace.setup_seconds:g} "
                "seconds."
            ) from None
        await asyncio.to_thread(self.folders.note_setup, done.out)
        if not done.is_good:
            why = f"reached its limit {done.exit.cause}" if done.exit.cause else f"failed ({done.exit})"
            log.error("workspace %s: setup %s; what it printed is in setup.log", self.name, why)
            said = git.last_words(done.out.decode("utf-8", "replace"))
            raise WorkspaceFailed(f"The setup of the workspace {self.name} {why}. {said}".strip())

    # -- places -----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _uid(self) -> AsyncIterator[int | None]:
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
    async def _place(self, limits: Limits | None = None) -> AsyncIterator[git.Room]:
        """Two empty folders and a user, for one program."""
        async with self._uid() as uid:
            path = await asyncio.to_thread(self.folders.scratch, uid)
            try:
                home, work = str(path / "home"), str(path / "work")
                yield git.Room(home=home, work=work, uid=uid, limits=limits or Limits())
            finally:
                await asyncio.to_thread(trees.remove, path)

    place = _place
    """For those who push."""


async def copy(
    spawner: Spawner, pairs: list[tuple[str, str]], *, place: git.Room, most_bytes: int
) -> dict[str, int]:
    """Copies folders, by clones of their files if the file system can; how much. Raises WorkspaceFailed."""
    words = [word for pair in pairs for word in pair]
    try:
        done = await git.run(
            spawner,
            (sys.executable, "-I", "-S", "-c", COPYING, *words, "--", str(most_bytes)),
            place=place,
            env={},
            seconds=LOCAL_SECONDS,
        )
    except TimeoutError:
        raise WorkspaceFailed(f"The files could not be copied within {LOCAL_SECONDS:g} seconds.") from None
    if not done.is_good:
        said = git.last_words(done.err) or done.exit.cause or str(done.exit)
        raise WorkspaceFailed(f"The files of the workspace could not be copied: {said}")
    found: dict[str, int] = msgspec.json.decode(done.out)
    return found


def digest(workspace: WorkspaceConfig) -> str:
    """Of the settings that a tree is made by."""
    made_by = (
        workspace.repo,
        workspace.ref,
        workspace.setup,
        workspace.cache,
        workspace.env,
        workspace.depth,
    )
    return hashlib.sha256(msgspec.json.encode(made_by)).hexdigest()[:16]


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
