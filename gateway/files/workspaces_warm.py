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
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.config.workspaces import WorkspaceConfig
from gateway.errors import WorkspaceFailed
from gateway.files import git, workspaces_copying
from gateway.files.workspaces_disk import Folders, Tree
from gateway.files.workspaces_fetching import CURRENT, KEPT, LOCAL_SECONDS, SHELL, Fetching, Tools, WarmRooms
from gateway.files.workspaces_given import tree_key
from gateway.principal import Account
from gateway.workers import trees
from gateway.workers.spawner import Spawner
from worker.spec import KIB, Limits

log = logging.getLogger(__name__)

SETUP_PRINTED_BYTES: Final = 256 * KIB
"""Of what `setup` prints, the end is kept."""
COPYING: Final = pathlib.Path(workspaces_copying.__file__).read_text()
_CHECK_OUT: Final = 'git read-tree --reset -u "$COMMIT"'
_CHECK_OUT_INNER: Final = (
    "while IFS= read -r COMMIT && IFS= read -r FOLDER; do"
    ' (cd "./$FOLDER" && git read-tree --reset -u "$COMMIT") || exit 1; done'
)


class WarmCopy:
    """See the module; `account` is whose credential is used, `folders` are its own."""

    def __init__(self, name: str, folders: Folders, account: Account, tools: Tools) -> None:
        self.name = name
        self.folders = folders
        self.account = account
        self._tools = tools
        self._fetching = Fetching(folders, account, tools)
        rooms = WarmRooms(folders, tools)
        self._uid, self.place = rooms.uid, rooms.place
        self._refreshing = asyncio.Lock()
        self._used: dict[str, int] = {}
        """Trees that are being copied, and how often."""
        self.trouble = ""
        """Why the last refresh failed, in words; empty if it did not."""
        self.tree: Tree | None = None
        self.keeping: asyncio.Task[None] | None = None
        """Reads the contents of the tree; its name is what they are kept under."""

    async def open(self) -> None:
        """Reads what there is. Raises OSError."""
        await asyncio.to_thread(self.folders.open)
        self.tree = await asyncio.to_thread(self.folders.current)
        await self._forget_trees()
        self._keep_soon()

    async def aclose(self) -> None:
        """Ends what it does in the background."""
        if self.keeping is not None:
            self._tools.snapshots.give_up(self.keeping.get_name())
            await asyncio.wait([self.keeping])

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
        remote = await self._fetching.ask(workspace, secret)
        now, tree = self._tools.wall_ms(), self.tree
        if tree is not None and self.is_good(workspace) and tree.commit == remote.commit:
            await self._publish(msgspec.structs.replace(tree, checked_at=now))
            return
        commit = await self._fetching.fetch(workspace, remote.ref, CURRENT, secret)
        listed = await self._fetching.fetch_submodules(workspace, commit)
        made = Tree(
            id="",
            commit=commit,
            branch=remote.branch,
            digest=digest(workspace),
            made_at=now,
            checked_at=now,
            submodules=tuple(listed.submodules),
            left_out=tuple(listed.left_out),
        )
        await self._publish(await self._made(workspace, made))
        log.info("workspace %s: %s is ready at %s", self.name, remote.ref, commit[:12])

    async def bring(self, workspace: WorkspaceConfig, commit: str) -> None:
        """Fetches a commit that a session began with, if it is not here. Raises GatewayError, TimeoutError,
        OSError.
        """
        if await self._fetching.has(commit):
            return
        async with self._refreshing:
            if not await self._fetching.has(commit):
                secret = await self._tools.secret(workspace, self.account)
                await self._fetching.fetch(workspace, commit, f"{KEPT}/{commit}", secret)

    async def _publish(self, tree: Tree) -> None:
        await asyncio.to_thread(self.folders.publish, tree)
        self.tree = tree
        await asyncio.to_thread(self.folders.remove_others, {tree.id, *self._used})
        await self._forget_trees()
        self._keep_soon()

    def _keep_soon(self) -> None:
        """Reads the contents of the tree for the snapshots of its sessions; nobody waits for that."""
        if self.tree is not None:
            key = tree_key(self.folders.path.name, self.tree.id)
            self.keeping = asyncio.create_task(self._keep(key, self.tree, self.keeping), name=key)

    async def _keep(self, key: str, tree: Tree, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            if before.get_name() != key:
                self._tools.snapshots.give_up(before.get_name())
            await asyncio.wait([before])
        if tree is self.tree:
            await self._tools.snapshots.keep_tree(key, self.folders.tree(tree.id))

    async def _forget_trees(self) -> None:
        """Of the trees that no session is given any more, no contents are kept."""
        store, now = self.folders.path.name, [self.tree.id] if self.tree is not None else []
        kept = {tree_key(store, tree) for tree in (*now, *self._used)}
        await self._tools.snapshots.forget_trees(tree_key(store), kept=kept)

    # -- a tree -----------------------------------------------------------------------------------------

    async def _made(self, workspace: WorkspaceConfig, tree: Tree) -> Tree:
        """Checks a commit out and sets it up. If that fails, nothing of it is kept."""
        folders = self.folders
        _, allowed = self._tools.walls(workspace)
        async with self._uid() as uid:
            path = await asyncio.to_thread(folders.new_tree, uid)
            try:
                place = git.Room(
                    home=str(path / "home"),
                    work=str(path / "work"),
                    uid=uid,
                    readable=(str(folders.objects),),
                    limits=Limits(
                        disk_bytes=workspace.max_bytes, file_bytes=workspace.max_bytes, files=allowed.files
                    ),
                )
                await self._check_out(tree, place)
                await self._keep_caches(workspace, place)
                if workspace.setup:
                    await self._set_up(workspace, place)
                await asyncio.to_thread(folders.take_back, path)
                size = await asyncio.to_thread(folders.measure, path, most_files=allowed.files or sys.maxsize)
            except trees.TooMany:
                await asyncio.to_thread(trees.remove, path)
                raise WorkspaceFailed(
                    f"The workspace {self.name} has more than {allowed.files:,} files (limits.files)."
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
        await self._check_out_by(_CHECK_OUT, tree, place)
        if tree.submodules:
            await asyncio.to_thread(self._lay_submodules, work, tree, place.uid)
            lines = "".join(f"{one.commit}\n{one.path}\n" for one in tree.submodules)
            await self._check_out_by(_CHECK_OUT_INNER, tree, place, stdin=lines.encode())

    def _lay_submodules(self, work: pathlib.Path, tree: Tree, uid: int | None) -> None:
        for one in tree.submodules:
            self.folders.lay_repository(work, commit=one.commit, branch="", uid=uid, below=one.path)

    async def _check_out_by(self, script: str, tree: Tree, place: git.Room, *, stdin: bytes = b"") -> None:
        env = git.environment({"COMMIT": tree.commit, "GIT_DIR": ".git", "GIT_WORK_TREE": "."})
        done = await git.run(
            self._tools.spawner,
            (SHELL, "-c", script),
            place=place,
            env=env,
            seconds=LOCAL_SECONDS,
            stdin=stdin,
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
                (SHELL, "-c", f"exec 2>&1\n{workspace.setup}"),
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
    made_by: tuple[object, ...] = (
        workspace.repo,
        workspace.ref,
        workspace.setup,
        workspace.cache,
        workspace.env,
        workspace.depth,
    )
    if workspace.submodules:
        made_by += (workspace.submodule_hosts,)
    return hashlib.sha256(msgspec.json.encode(made_by)).hexdigest()[:16]
