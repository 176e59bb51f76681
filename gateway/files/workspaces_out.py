"""What a session changed, taken out again: as a diff, as a patch, or as a branch on the server.

The folder belongs to the agent, so nothing of its `.git` is read, and no git runs there but behind walls:
with the session's rights, without a network, over a repository of ours that is made for it and thrown away.
For a branch, the new objects leave these walls as a pack. A second git, behind other walls and without a
credential, checks every object of it and makes the commit; a third one, with the credential, pushes that.

Guarantees: the author is who asked for it, whatever the request or the folder says; a branch is replaced only
if it is still as this session pushed it; if anything fails, the session's files are as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import secrets
import stat
from collections.abc import AsyncIterator
from typing import Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from gateway.config.workspaces import PULL_REQUESTS, WorkspaceConfig
from gateway.errors import (
    BranchConflict,
    ChangesTooLarge,
    NothingChanged,
    RepositoryRefused,
    RepositoryUnreachable,
    WorkspaceFailed,
)
from gateway.files import git
from gateway.files.beneath import Folder
from gateway.files.workspaces import WorkspaceKeeper
from gateway.files.workspaces_disk import ALTERNATES, NOT_TAKEN, made
from gateway.files.workspaces_fetching import SHELL, Tools
from gateway.files.workspaces_given import Author, submodules_of
from gateway.files.workspaces_warm import WarmCopy
from gateway.principal import Account
from gateway.workers import trees
from gateway.workers.home_files import write_files
from worker.spec import MIB, Limits

AT_ONCE: Final = 2
"""So many are taken out at a time: each reads every file of a session."""
SECONDS: Final = 120.0
COMMITTER: Final = Author("Agent Gateway", "agent-gateway@agent-gateway.invalid")
_ID: Final = re.compile(r"[0-9a-f]{40}")
_SIZED: Final = Limits(
    file_bytes=4 * git.OUTPUT_BYTES, disk_bytes=8 * git.OUTPUT_BYTES, temporary_bytes=64 * MIB
)

Kind = Literal["diff", "patch", "pack"]
_ADDED: Final = (
    "{ git update-index -q --refresh >/dev/null || true; } &&"
    ' { git add -A --ignore-errors --pathspec-from-file="$HOME/taken.$NUMBER" || true; } &&'
    " tree=$(git write-tree)"
)
_TREE: Final = (
    'export GIT_DIR="$HOME/git" GIT_WORK_TREE=. NUMBER=0 && git read-tree "$START" && ' + _ADDED + " && "
)
"""The tree of everything in the folder that is not ignored, and not in a submodule."""
_DIFF: Final = (
    "git diff-tree -r -p -M --binary --full-index --no-color --no-ext-diff --no-textconv"
    ' --src-prefix="a/$BELOW" --dst-prefix="b/$BELOW"'
)
_INNER: Final = (
    " && while IFS= read -r FOLDER && IFS= read -r COMMIT; do NUMBER=$((NUMBER + 1));"
    ' (export GIT_INDEX_FILE="$HOME/index.$NUMBER"; cd "./$FOLDER" && git read-tree "$COMMIT" && '
    + _ADDED
    + ' && if [ "$tree" != "$(git rev-parse "$COMMIT^{tree}")" ]; then INNER; fi)'
    ' || exit 1; done < "$HOME/submodules"'
)
"""The same for each submodule; what differs is done with as `INNER` says."""
_INNER_DIFF: Final = _INNER.replace("INNER", 'BELOW="$FOLDER/"; ' + _DIFF + ' "$COMMIT" "$tree"')
_INNER_TOLD: Final = _INNER.replace(
    "INNER", 'echo "What changed in the submodule $FOLDER is in the diff only." >&2'
)
_SCRIPTS: Final[dict[Kind, str]] = {
    "diff": 'BELOW=""; ' + _DIFF + ' "$START" "$tree"' + _INNER_DIFF,
    "patch": (
        'commit=$(printf "%s\\n" "$MESSAGE" | git commit-tree "$tree" -p "$START") &&'
        ' git format-patch --stdout --binary --no-ext-diff --no-textconv --no-signature -1 "$commit"'
    ),
    "pack": (
        'echo "$tree" && git rev-parse "$START^{tree}" &&'
        ' printf "%s\\n^%s\\n" "$tree" "$START" | git pack-objects -q --revs --stdout' + _INNER_TOLD
    ),
}
_COMMIT: Final = (
    'export GIT_DIR="$HOME/git" && git index-pack --stdin --strict --max-input-size="$MOST" >/dev/null &&'
    ' printf "%s\\n" "$MESSAGE" | git commit-tree "$TREE" -p "$START"'
)
_PUSH: Final = (
    'export GIT_DIR="$HOME/git" && git push --porcelain --no-verify'
    ' --force-with-lease="refs/heads/$BRANCH:$EXPECTED" "$URL" "$COMMIT:refs/heads/$BRANCH"'
)


class StartedFrom(Struct, frozen=True, kw_only=True):
    """What a session started from, and where its files are."""

    workspace: str
    commit: str
    branch: str
    store: str
    key: str
    owner: str
    uid: int | None


class Pushed(Struct, frozen=True):
    """A branch on the server."""

    branch: str
    commit: str
    pull_request_url: str
    left_out: str
    """What git said of files that it could not take; empty if it took all."""


class Outbox:
    """See the module."""

    def __init__(self, keeper: WorkspaceKeeper, tools: Tools) -> None:
        self._keeper = keeper
        self._tools = tools
        self._places = asyncio.Semaphore(AT_ONCE)

    async def text(
        self, origin: StartedFrom, kind: Literal["diff", "patch"], *, author: Author, message: str
    ) -> bytes:
        """A diff against the commit that the session started from, or a patch with its author. Raises
        NothingChanged, ChangesTooLarge, WorkspaceFailed.
        """
        done = await self._of_session(origin, kind, author=author, message=message)
        if not done.out and kind == "patch":
            raise NothingChanged
        return done.out

    async def push(
        self,
        origin: StartedFrom,
        workspace: WorkspaceConfig,
        *,
        owner: str,
        branch: str,
        expected: str,
        author: Author,
        message: str,
    ) -> Pushed:
        """Commits what changed and pushes it. `expected`: the commit that this session pushed to the branch
        before; empty: there must be no such branch. Raises what `text` raises, BranchConflict,
        RepositoryRefused, RepositoryUnreachable.
        """
        secret = await self._tools.secret(workspace, Account(owner, origin.key))
        packed = await self._of_session(origin, "pack", author=author, message=message)
        head, before, pack = (*packed.out.split(b"\n", 2), b"", b"")[:3]
        tree = head.decode("ascii", "replace")
        if not _ID.fullmatch(tree):
            raise WorkspaceFailed("What changed could not be read: git printed no tree.")
        if head == before:
            raise NothingChanged(git.last_words(packed.err)) if packed.err.strip() else NothingChanged
        warm = await self._keeper.warm(origin.workspace, workspace, owner)
        if warm.folders.path.name != origin.store:
            raise WorkspaceFailed(
                "The workspace has another repository now than the one this session began with."
            )
        async with self._repository(warm, origin) as place:
            env = {"START": origin.commit, "TREE": tree, "MESSAGE": message, "MOST": str(git.OUTPUT_BYTES)}
            done = await self._run(_COMMIT, place, env | _people(author), stdin=pack)
            git.raise_for(done, doing="checking what changed", host=origin.workspace)
            commit = done.out.decode("ascii", "replace").strip()
            await self._send(workspace, place, secret, branch=branch, commit=commit, expected=expected)
        link = pull_request_url(workspace, branch=branch, base=origin.branch)
        return Pushed(branch, commit, link, git.last_words(packed.err))

    # -- the session's side -----------------------------------------------------------------------------

    async def _of_session(self, origin: StartedFrom, kind: Kind, *, author: Author, message: str) -> git.Done:
        uids = self._tools.uids
        folder = uids.path(origin.key)
        if not (folder / "work").is_dir():
            raise WorkspaceFailed("The files of this session are not here.")
        objects = self._keeper.objects(origin.store)
        async with self._places:
            uid = uids.worker_uid(origin.key, origin.uid)
            await self._find_history(origin, uid)
            out = await asyncio.to_thread(made, folder / f".out-{secrets.token_hex(4)}", uid)
            try:
                ends = await asyncio.to_thread(self._keeper.shallow, origin.store)
                await asyncio.to_thread(_lay, out / "home", objects, origin.commit, uid, ends)
                await asyncio.to_thread(_lay_lists, out / "home", folder, uid)
                place = git.Room(
                    home=str(out / "home"),
                    work=str(folder / "work"),
                    uid=uid,
                    readable=(objects,),
                    limits=msgspec.structs.replace(_SIZED, disk_bytes=0),
                )
                env = {"START": origin.commit, "MESSAGE": message}
                done = await self._run(_TREE + _SCRIPTS[kind], place, env | _people(author))
            finally:
                await asyncio.to_thread(trees.remove, out)
        git.raise_for(done, doing="reading what changed", host=origin.workspace)
        return done

    async def _find_history(self, origin: StartedFrom, uid: int | None) -> None:
        """Raises WorkspaceFailed if what the session started from is gone."""
        if await asyncio.to_thread(self._keeper.history.is_lost, origin.key, origin.store):
            trouble = await self._keeper.mend(
                *(origin.workspace, origin.owner),
                key=origin.key,
                uid=uid,
                commit=origin.commit,
                store=origin.store,
            )
            if trouble:
                raise WorkspaceFailed(f"The history of this session's repository is not here. {trouble}")

    async def _run(
        self, script: str, place: git.Room, env: dict[str, str], *, stdin: bytes = b""
    ) -> git.Done:
        try:
            return await git.run(
                self._tools.spawner,
                (SHELL, "-c", script),
                place=place,
                env=git.environment(env),
                seconds=SECONDS,
                stdin=stdin,
            )
        except TimeoutError:
            raise WorkspaceFailed(f"What changed could not be read within {SECONDS:g} seconds.") from None
        except git.TooMuch:
            raise ChangesTooLarge(
                f"What changed is more than {git.OUTPUT_BYTES // MIB} MiB; download the files instead."
            ) from None

    # -- the server's side ------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _repository(self, warm: WarmCopy, origin: StartedFrom) -> AsyncIterator[git.Room]:
        """A clean repository that reads the objects of the warm copy, thrown away afterwards."""
        objects = str(warm.folders.objects)
        async with warm.place(_SIZED) as place:
            home = pathlib.Path(place.home)
            ends = await asyncio.to_thread(warm.folders.shallow)
            await asyncio.to_thread(_lay, home, objects, origin.commit, place.uid, ends)
            yield msgspec.structs.replace(place, readable=(objects,))

    async def _send(
        self,
        workspace: WorkspaceConfig,
        place: git.Room,
        secret: git.Secret | None,
        *,
        branch: str,
        commit: str,
        expected: str,
    ) -> None:
        readable = (secret.ca_file,) if secret is not None and secret.ca_file else ()
        host = workspace.place[0]
        try:
            done = await git.run(
                self._tools.spawner,
                (SHELL, "-c", _PUSH),
                place=msgspec.structs.replace(place, network="shared", readable=(*place.readable, *readable)),
                env=git.environment(
                    {"URL": workspace.repo, "BRANCH": branch, "COMMIT": commit, "EXPECTED": expected},
                    secret=secret,
                    is_plain=workspace.is_plain,
                ),
                seconds=workspace.fetch_seconds,
            )
        except TimeoutError:
            raise RepositoryUnreachable(
                f"{host} did not take the branch within {workspace.fetch_seconds:g} seconds."
            ) from None
        done = git.masked(done, secret)
        _refuse(done.out.decode("utf-8", "replace"), branch, host)
        try:
            git.raise_for(done, doing="pushing", host=host)
        except RepositoryRefused:
            self._tools.refused(workspace)
            raise


def _refuse(printed: str, branch: str, host: str) -> None:
    """Raises for a branch that the server did not take (git-push(1), `--porcelain`)."""
    for line in printed.splitlines():
        flag, _, rest = line.partition("\t")
        if flag != "!":
            continue
        why = rest.rpartition("\t")[2]
        if "[remote rejected]" in why:
            raise RepositoryRefused(
                f"{host} did not take the branch {branch}: {why.removeprefix('[remote rejected] ')}"
            )
        raise BranchConflict(
            f"{host} has a branch {branch} already, with commits that this session did not push. Nothing was "
            "changed there; choose another name."
        )


def _lay(home: pathlib.Path, objects: str, commit: str, uid: int | None, ends: str) -> None:
    """Writes a bare repository with no objects of its own. Raises OSError."""
    files = {
        "HEAD": "ref: refs/heads/main\n",
        "config": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n",
        ALTERNATES: f"{objects}\n",
        "info/exclude": NOT_TAKEN,
        "refs/heads/main": f"{commit}\n",
    }
    if ends:
        files["shallow"] = ends
    write_files(str(home), {f"git/{path}": text for path, text in files.items()}, uid=uid)


def _lay_lists(home: pathlib.Path, folder: pathlib.Path, uid: int | None) -> None:
    """Writes which submodules there are, and which names of each repository are taken: not those of its
    submodules, whose commits the server may not have. Raises OSError.
    """
    with Folder(folder / "work") as work:
        inner = [one for one in submodules_of(folder) if _is_folder(work, one.path)]
    files = {"submodules": "".join(f"{one.path}\n{one.commit}\n" for one in inner)}
    for number, path in enumerate(("", *(one.path for one in inner))):
        below = [one.path.removeprefix(f"{path}/" if path else "") for one in inner if one.inside == path]
        files[f"taken.{number}"] = ".\n" + "".join(f":(exclude,literal){name}\n" for name in below)
    write_files(str(home), files, uid=uid)


def _is_folder(work: Folder, path: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(work.look(path).st_mode)
    return False


def _people(author: Author) -> dict[str, str]:
    return {
        "GIT_AUTHOR_NAME": author.name,
        "GIT_AUTHOR_EMAIL": author.email,
        "GIT_COMMITTER_NAME": COMMITTER.name,
        "GIT_COMMITTER_EMAIL": COMMITTER.email,
    }


def author_of(owner: str, workspace: WorkspaceConfig) -> Author:
    """The person as git writes people: without what it would read as markup."""
    tenant, _, subject = owner.partition("/")
    name = re.sub(r"[<>\x00-\x1f\x7f]", "", subject).strip(" .,:;'\"") or "somebody"
    if re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", subject):
        return Author(name, subject)
    plain = {"subject": subject, "tenant": tenant}
    email = workspace.author_email
    for field, value in plain.items():
        email = email.replace("{" + field + "}", re.sub(r"[^A-Za-z0-9._+~-]", "-", value))
    return Author(name, email)


def pull_request_url(workspace: WorkspaceConfig, *, branch: str, base: str) -> str:
    """Where a pull request is opened; empty if it is not known."""
    pattern = PULL_REQUESTS.get(workspace.pull_request_url, workspace.pull_request_url)
    repo = workspace.repo.removesuffix("/").removesuffix(".git")
    values = {"repo": repo, "branch": quote(branch, safe="/"), "base": quote(base, safe="/")}
    for field, value in values.items():
        pattern = pattern.replace("{" + field + "}", value)
    return pattern
