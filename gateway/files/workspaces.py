"""WorkspaceKeeper: the warm copies of this gateway, and what sessions are given of them.

A repository whose credential is each person's (or tenant's) has a warm copy for each of them: what one may
read of a server says nothing of what another may.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import pathlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from gateway.config.tables import Config
from gateway.config.workspaces import WorkspaceConfig
from gateway.errors import GatewayError, UnknownWorkspace, WorkspaceFailed
from gateway.events.facts import iso
from gateway.files import git
from gateway.files.workspaces_again import PAIRS, lacking, put, target
from gateway.files.workspaces_disk import About, Folders, Tree, has_room, made
from gateway.files.workspaces_fetching import Tools
from gateway.files.workspaces_given import (
    Author,
    Given,
    configurations,
    given_before,
    is_bare,
    no_more_bare,
    place,
    tree_key,
)
from gateway.files.workspaces_history import RepositoryHistory
from gateway.files.workspaces_warm import WarmCopy, copy
from gateway.principal import Account, tenant_of
from gateway.workers import trees
from gateway.workers.home_files import write_files
from worker.spec import MIB, Limits

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether a warm copy is to be refreshed."""
RETRY_SECONDS: Final = 60.0
"""A refresh in the background that failed is tried again after so long."""
SETUP_RETRY_SECONDS: Final = 900.0
"""The same if the repository or its `setup` is at fault, which costs more and seldom mends itself."""
AT_ONCE: Final = 4
"""So many are refreshed at a time."""
GONE: Final = ".gone-"
"""How the folders of copies begin that are being removed."""
GATEWAY_OWNER: Final = "default/workspaces"
"""Whose copies are that everybody shares."""


class WorkspaceKeeper:
    """See the module. `open` before anything else; `keep_for_ever` beside it."""

    def __init__(self, tools: Tools, *, config: Callable[[], Config], root: pathlib.Path) -> None:
        self._tools = tools
        self._config = config
        self._root = root
        self._copies: dict[str, WarmCopy] = {}
        self._opening = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self.history = RepositoryHistory(root, tools.uids)
        """Whether the history that sessions read is where they look for it."""
        self.leaving: set[str] = set()
        """People whose copies are removed with their last session."""

    def open(self) -> None:
        """Makes the root. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o711)
        found = map(_about, self._root.iterdir())
        self.leaving |= {one.scope for one in found if one is not None and one.is_leaving}

    async def aclose(self) -> None:
        """Ends what is being refreshed."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for copy_ in self._copies.values():
            await copy_.aclose()

    # -- which there are --------------------------------------------------------------------------------

    def usable(self, owner: str) -> dict[str, WorkspaceConfig]:
        """Those that an owner's tenant may use, by name."""
        tenant = tenant_of(owner)
        found = self._config().workspaces
        return {name: one for name, one in found.items() if not one.tenants or tenant in one.tenants}

    def get(self, owner: str, name: str) -> WorkspaceConfig:
        """The workspace of this name. Raises UnknownWorkspace, naming those there are."""
        usable = self.usable(owner)
        if name not in usable:
            known = f"There are: {', '.join(usable)}." if usable else "There is none that you may use."
            raise UnknownWorkspace(f"There is no workspace {name!r}. {known}")
        return usable[name]

    def check_agent(self, owner: str, name: str, agent: str) -> None:
        """Raises UnknownWorkspace if sessions of a workspace may not have this agent."""
        agents = self.get(owner, name).agents
        if agents and agent not in agents:
            names = ", ".join(agents)
            raise UnknownWorkspace(f"The workspace {name} is used with {names}, not with {agent}.")

    def objects(self, store: str) -> str:
        """The folder with the objects that a session's repository reads."""
        return str(self._root / store / "git" / "objects")

    def shallow(self, store: str) -> str:
        """Where the history that a warm copy has ends; empty if it has all of it."""
        return Folders(self._root / store, is_root=self._tools.uids.has_uids).shallow()

    # -- warm copies ------------------------------------------------------------------------------------

    async def warm(self, name: str, workspace: WorkspaceConfig, owner: str) -> WarmCopy:
        """The warm copy that an owner's sessions start from. Raises OSError."""
        scope = self._scope(workspace, owner)
        store = store_name(name, workspace.repo, scope)
        async with self._opening:
            if store not in self._copies:
                folders = Folders(self._root / store, is_root=self._tools.uids.has_uids)
                account = Account(scope or GATEWAY_OWNER, store)
                made = WarmCopy(name, folders, account, self._tools)
                await made.open()
                await asyncio.to_thread(_note_owner, folders, scope)
                self._copies[store] = made
        return self._copies[store]

    def _scope(self, workspace: WorkspaceConfig, owner: str) -> str:
        """Whose credential it is fetched with; empty: the gateway's."""
        credential = self._config().credentials.get(workspace.credential)
        match credential.per if credential is not None else "":
            case "person":
                return owner
            case "tenant":
                return f"{tenant_of(owner)}/workspaces"
        return ""

    def refresh_soon(self, copy_: WarmCopy, workspace: WorkspaceConfig) -> asyncio.Task[None]:
        """Refreshes a copy in the background; one that is under way is the same."""
        store = copy_.folders.path.name
        task = self._tasks.get(store)
        if task is None or task.done():
            task = asyncio.create_task(self._refresh(copy_, workspace), name=f"workspace {store}")
            task.add_done_callback(lambda ended: self._note(store, copy_.name, ended))
            self._tasks[store] = task
        return task

    async def _refresh(self, copy_: WarmCopy, workspace: WorkspaceConfig) -> None:
        async with self._places:
            await copy_.refresh(workspace)

    def _note(self, store: str, name: str, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        pause = SETUP_RETRY_SECONDS if isinstance(error, WorkspaceFailed) else RETRY_SECONDS
        self._not_before[store] = time.monotonic() + (pause if error else 0)
        if isinstance(error, GatewayError | OSError):
            log.warning("workspace %s: not refreshed: %s", name, error)
        elif error is not None:
            log.error("workspace %s: not refreshed", name, exc_info=error)

    async def keep_for_ever(self) -> None:
        """Keeps every copy fresh that all share, and those of people and tenants that are in use."""
        try:
            await asyncio.to_thread(self._remove_gone)  # of a gateway that was killed
        except OSError as error:
            log.error("workspaces: an old copy could not be removed: %s", error)
        while True:
            for name, workspace in self._config().workspaces.items():
                credential = self._config().credentials.get(workspace.credential)
                if credential is None or not credential.per:
                    with contextlib.suppress(OSError):
                        await self.warm(name, workspace, GATEWAY_OWNER)
            for store, copy_ in self._copies.items():
                workspace_now = self._config().workspaces.get(copy_.name)
                is_same = workspace_now is not None and store.endswith(
                    _mark(workspace_now.repo, self._scope(workspace_now, copy_.account.owner))
                )
                if workspace_now is None or not is_same or self._not_before.get(store, 0) > time.monotonic():
                    continue
                if copy_.is_due(workspace_now):
                    self.refresh_soon(copy_, workspace_now)
            await asyncio.sleep(LOOK_SECONDS)

    # -- leaving and mending ----------------------------------------------------------------------------

    async def forget(self, owner: str, *, has_sessions: bool) -> None:
        """Removes the copies that were fetched with a person's credential; while the person has sessions,
        which read them, it is remembered. What cannot be removed is logged.
        """
        stores: list[str] = []
        try:
            async with self._opening:
                stores = await asyncio.to_thread(self._stores_of, owner)
                for store in stores:
                    if has_sessions:
                        await asyncio.to_thread(_note_leaving, self._root / store)
                    else:
                        await self._put_away(store)
            await asyncio.to_thread(self._remove_gone)
        except OSError as error:
            log.error(
                "workspaces: not all that was fetched with a person's credential could be removed: %s", error
            )
        if has_sessions and stores:
            self.leaving.add(owner)
        else:
            self.leaving.discard(owner)

    async def _put_away(self, store: str) -> None:
        """Nobody finds it any more; removing it may take long."""
        copy_ = self._copies.pop(store, None)
        if (task := self._tasks.pop(store, None)) is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
        if copy_ is not None:
            await copy_.aclose()
        await self._tools.snapshots.forget_trees(tree_key(store))
        (self._root / store).rename(self._root / f"{GONE}{secrets.token_hex(8)}")

    def _remove_gone(self) -> None:
        for left in self._root.glob(f"{GONE}*"):
            trees.remove(left)

    def _stores_of(self, owner: str) -> list[str]:
        """The copies of a person; also those of an earlier version, which did not note whose they are."""
        named = {
            store_name(name, one.repo, owner)
            for name, one in self._config().workspaces.items()
            if self._scope(one, owner) == owner
        }
        return [
            path.name
            for path in self._root.iterdir()
            if path.name in named or ((about := _about(path)) is not None and about.scope == owner)
        ]

    async def is_incomplete(self, key: str, store: str) -> bool:
        """Whether a session's repository may not find its history, or lacks what was made for it."""
        folder = self._tools.uids.path(key)
        return await asyncio.to_thread(lambda: self.history.is_lost(key, store) or is_bare(folder))

    async def is_bare(self, key: str) -> bool:
        """Whether a session lacks what can be made again, because it came from another gateway."""
        return await asyncio.to_thread(is_bare, self._tools.uids.path(key))

    async def mend(self, name: str, owner: str, *, key: str, uid: int | None, commit: str, store: str) -> str:
        """Has a session's repository find its history again, after a restore into another place, or after the
        copy was removed; in words why it does not. Raises OSError.
        """
        trouble = ""
        workspace = self.usable(owner).get(name)
        try:
            if (
                workspace is not None
                and store_name(name, workspace.repo, self._scope(workspace, owner)) == store
            ):
                warm = await self.warm(name, workspace, owner)
                async with asyncio.timeout(workspace.wait_seconds):
                    await warm.bring(workspace, commit)
            elif not await asyncio.to_thread(os.path.isdir, self.objects(store)):
                trouble = f"the workspace {name} is not what it was when this session began."
        except TimeoutError:  # an OSError, too
            trouble = "the server took longer than it may."
        except GatewayError as error:
            trouble = str(error)
        await asyncio.to_thread(self.history.rewire, key, store, uid=uid, is_whole=not trouble)
        return trouble

    async def make_again(self, name: str, owner: str, *, key: str, uid: int | None) -> str:
        """Gives a session whose files came from another gateway what `setup` has made and snapshots leave
        out, from the warm copy here: the commit that it is of; empty if there is no such workspace any more.
        Waits for the warm copy. Raises GatewayError, ScanFailed, OSError.
        """
        folder, workspace = self._tools.uids.path(key), self.usable(owner).get(name)
        if workspace is None:
            return ""
        warm = await self.warm(name, workspace, owner)
        tree = await self._tree(warm, workspace)
        files = self._config().files
        with warm.using(tree):
            path = warm.folders.tree(tree.id)
            if not await asyncio.to_thread(has_room, self._root, tree.bytes):
                raise WorkspaceFailed("The disk of this gateway is full.")
            missing = await asyncio.to_thread(
                lambda: lacking(
                    *(path, folder),
                    uid=uid,
                    leaves_out=files.snapshot_leaves_out,
                    caches=workspace.cache,
                    max_files=files.snapshot_files,
                )
            )
            with self._part(key, uid) as part:
                place = _room(path, part, uid)
                for first in range(0, len(missing), PAIRS):
                    pairs = [(str(path / one), target(one)) for one in missing[first : first + PAIRS]]
                    await copy(self._tools.spawner, pairs, place=place, most_bytes=workspace.max_bytes * 8)
                await asyncio.to_thread(put, part, folder, missing, uid=uid)
        await asyncio.to_thread(no_more_bare, folder)
        return tree.commit

    # -- giving -----------------------------------------------------------------------------------------

    async def is_ready(self, name: str, owner: str) -> bool:
        """Whether a session would have nothing to wait for. Raises UnknownWorkspace, OSError."""
        workspace = self.get(owner, name)
        return (await self.warm(name, workspace, owner)).is_good(workspace)

    async def give(
        self, name: str, owner: str, *, key: str, uid: int | None, author: Author, limits: Limits
    ) -> Given:
        """Puts the files of a workspace into a session's folders, whose agent does not run yet.

        Waits for the warm copy, if there is none. Raises GatewayError, OSError.
        """
        began, workspace = time.monotonic(), self.get(owner, name)
        warm = await self.warm(name, workspace, owner)
        if (before := await asyncio.to_thread(given_before, self._tools.uids.path(key))) is not None:
            return before  # the gateway ended before that was said
        tree = await self._tree(warm, workspace)
        with warm.using(tree):
            most = min(filter(None, (workspace.max_bytes, limits.disk_bytes)))
            if tree.bytes > most:
                raise WorkspaceFailed(
                    f"The files of {name} take {tree.bytes // MIB:,} MiB; a session may have {most // MIB:,} "
                    "MiB (limits.disk_bytes of the workspace)."
                )
            if not await asyncio.to_thread(has_room, self._root, tree.bytes):
                raise WorkspaceFailed("The disk of this gateway is full; the files could not be copied.")
            with self._part(key, uid) as part:
                found = await self._copied(warm, tree, workspace, part, uid=uid)
                configs = configurations(tree, workspace, author)
                await asyncio.to_thread(write_files, str(part / "work"), configs, uid=uid)
                given = Given(
                    commit=tree.commit,
                    branch=tree.branch,
                    store=warm.folders.path.name,
                    how="cloned" if found["files"] and found["cloned"] == found["files"] else "copied",
                    files=found["files"],
                    bytes=found["bytes"],
                    milliseconds=round((time.monotonic() - began) * 1000),
                    stale=self._stale(warm, tree),
                    left_out=tree.left_out,
                    submodules=tree.submodules,
                    tree=tree_key(warm.folders.path.name, tree.id),
                )
                await asyncio.to_thread(place, part, self._tools.uids, key, given)
                await asyncio.to_thread(self.history.note, key, given.store)
        return given

    async def _tree(self, warm: WarmCopy, workspace: WorkspaceConfig) -> Tree:
        """What sessions get now; the first waits for it. Raises GatewayError, OSError."""
        if not warm.is_good(workspace):
            task = self.refresh_soon(warm, workspace)
            try:
                async with asyncio.timeout(workspace.wait_seconds):
                    await asyncio.shield(task)
            except TimeoutError:
                raise WorkspaceFailed(
                    f"The workspace {warm.name} is not ready after {workspace.wait_seconds:g} seconds; it is "
                    "still being made ready. Send your message again in a while."
                ) from None
        elif warm.is_due(workspace):
            self.refresh_soon(warm, workspace)
        if warm.tree is None:
            raise WorkspaceFailed(f"The workspace {warm.name} is not ready. {warm.trouble}".strip())
        return warm.tree

    @staticmethod
    def _stale(warm: WarmCopy, tree: Tree) -> str:
        if not warm.trouble:
            return ""
        return f"These files are those of {iso(tree.checked_at)[:16]}Z: {warm.trouble}"

    @contextlib.contextmanager
    def _part(self, key: str, uid: int | None) -> Iterator[pathlib.Path]:
        """Folders beside a session's own, to which the files are copied first; what was left is removed."""
        folder = self._tools.uids.path(key)
        for left in folder.glob(".part-*"):
            trees.remove(left)
        part = made(folder / f".part-{secrets.token_hex(4)}", uid)
        try:
            yield part
        finally:
            trees.remove(part)

    async def _copied(
        self, warm: WarmCopy, tree: Tree, workspace: WorkspaceConfig, part: pathlib.Path, *, uid: int | None
    ) -> dict[str, int]:
        path = warm.folders.tree(tree.id)
        place = _room(path, part, uid)
        pairs = [(str(path / "work"), ".")]
        pairs += [(str(path / "home" / folder), f"~/{folder}") for folder in workspace.cache]
        return await copy(self._tools.spawner, pairs, place=place, most_bytes=workspace.max_bytes * 8)


def _room(tree: pathlib.Path, part: pathlib.Path, uid: int | None) -> git.Room:
    """Where a session's copy of a tree is made."""
    return git.Room(
        home=str(part / "home"),
        work=str(part / "work"),
        uid=uid,
        readable=(str(tree),),
        limits=Limits(disk_bytes=0, file_bytes=0),
    )


def _about(path: pathlib.Path) -> About | None:
    return Folders(path, is_root=False).about()


def _note_leaving(path: pathlib.Path) -> None:
    folders = Folders(path, is_root=False)
    if (about := folders.about()) is not None:
        folders.note(msgspec.structs.replace(about, is_leaving=True))


def _note_owner(folders: Folders, scope: str) -> None:
    """Says whose a copy is. Raises OSError."""
    about = folders.about() or About(id=secrets.token_hex(8))
    folders.note(msgspec.structs.replace(about, scope=scope, is_leaving=False))


def store_name(name: str, repo: str, scope: str) -> str:
    """The folder of a warm copy."""
    return f"{name}-{_mark(repo, scope)}"


def _mark(repo: str, scope: str) -> str:
    return hashlib.sha256(msgspec.json.encode((repo, scope))).hexdigest()[:16]
