"""The repository that a session starts from, and what the warm copies need of the gateway around them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from gateway.agents.catalogue import AgentCatalogue
from gateway.config.tables import Config
from gateway.config.workspaces import WorkspaceConfig, place_of
from gateway.egress.control import EgressControl
from gateway.egress.credential_values import CredentialValues, ValueMissing
from gateway.egress.door import DoorKeeper
from gateway.egress.session_admission import SessionAdmission
from gateway.errors import GatewayError, RepositoryRefused
from gateway.events import facts as ev
from gateway.events.fold import ChatState, EgressFold
from gateway.files import git
from gateway.files.scan import ScanFailed
from gateway.files.snapshots import Snapshots
from gateway.files.workspaces import WorkspaceKeeper
from gateway.files.workspaces_out import StartedFrom, author_of
from gateway.principal import Account, tenant_of
from gateway.sessions.log import EventLog
from gateway.stores.contract import SessionRecord
from gateway.workers.spawner import Spawner, Worker
from gateway.workers.workspace import Workspaces
from worker.spec import MIB, Limits, Sandbox

if TYPE_CHECKING:
    from gateway.sessions.record import Record

log = logging.getLogger(__name__)

NOTICE: Final = "workspace"


class SessionWorkspace:
    """Of one session; does nothing for one that starts from no repository."""

    def __init__(self, record: Record, fold: ChatState, log: EventLog, keeper: WorkspaceKeeper) -> None:
        self._record = record
        self._fold = fold
        self._log = log
        self._keeper = keeper

    @property
    def _config(self) -> WorkspaceConfig | None:
        """Its settings now; None if there are none any more."""
        of = self._fold.workspace
        return self._keeper.usable(self._record.kept.owner).get(of.name) if of is not None else None

    @property
    def env(self) -> dict[str, str]:
        """Variables for its agent."""
        config = self._config
        return config.env if config is not None else {}

    @property
    def readable(self) -> tuple[str, ...]:
        """What its worker reads of the warm copy: the objects of its repository."""
        of = self._fold.workspace
        return (self._keeper.objects(of.store),) if of is not None and of.store else ()

    def limits(self, agents: Limits) -> Limits:
        """Its agent's limits, with those of the workspace in their place."""
        config = self._config
        return msgspec.structs.replace(agents, **config.limits) if config is not None else agents

    def has_limit(self, setting: str) -> str:
        """The name of the workspace, if that sets this limit; else nothing."""
        of, config = self._fold.workspace, self._config
        return of.name if of is not None and config is not None and setting in config.limits else ""

    @property
    def wait_seconds(self) -> float:
        """How long its files may take to be ready."""
        config = self._config
        return config.wait_seconds if config is not None else 0.0

    @property
    def is_due(self) -> bool:
        """Whether its files are to be made ready before its agent starts."""
        return self._fold.workspace is not None and not self._fold.workspace.commit

    async def is_incomplete(self) -> bool:
        """Whether its repository may not find its history (after a restore, or an erasure), or lacks what can
        be made again (after it came from another gateway).
        """
        of = self._fold.workspace
        if of is None or not of.commit or not of.store:
            return False
        return await self._keeper.is_incomplete(self._record.key, of.store)

    async def prepare(self, *, uid: int | None, limits: Limits) -> None:
        """Puts the files there, and says so in the conversation. Raises GatewayError, OSError."""
        of, owner = self._fold.workspace, self._record.kept.owner
        if of is None:
            return
        if of.commit:
            await self._mend(of, uid)
            if await self._keeper.is_bare(self._record.key):
                await self._make_again(of, uid)
            return
        config = self._keeper.get(owner, of.name)
        await self._say_if_it_takes_time(of.name)
        given = await self._keeper.give(
            of.name, owner, key=self._record.key, uid=uid, author=author_of(owner, config), limits=limits
        )
        chosen = ev.WorkspaceChanged(of.name, given.commit, given.branch, given.store)
        await self._log.say(chosen)  # the walls of its worker are built by what is on the disk
        how = "cloned" if given.how == "cloned" else "copied, because this file system cannot clone them"
        at = f"{given.branch} at {given.commit[:12]}" if given.branch else given.commit[:12]
        words = (
            f"These files are those of {of.name}, {at}: {given.files:,} files, {given.bytes / MIB:,.1f} MiB, "
            f"{how} in {given.milliseconds / 1000:.1f} s. {given.stale}"
        )
        self._say(
            words.strip(),
            is_stale=bool(given.stale),
            workspace=of.name,
            at=at,
            files=given.files,
            kind="stale" if given.stale else "ready",
            why=given.stale,
        )
        if given.left_out:
            left_out = "; ".join(given.left_out)
            words = f"Submodules that were not fetched: {left_out}."
            self._notice("workspace_submodules", words, "warning", which=left_out)

    async def _mend(self, of: ev.WorkspaceChanged, uid: int | None) -> None:
        """Says so if the history cannot be had; the files are there all the same."""
        owner, key = self._record.kept.owner, self._record.key
        trouble = await self._keeper.mend(of.name, owner, key=key, uid=uid, commit=of.commit, store=of.store)
        if trouble:
            self._notice(
                "workspace_history",
                "The history of this session's repository is not here, so git does not work in it; its files "
                f"are whole. It is fetched again when the agent starts next. {trouble}",
                "warning",
                why=trouble,
            )

    async def _make_again(self, of: ev.WorkspaceChanged, uid: int | None) -> None:
        """Says what came of it; its own files are there all the same."""
        owner, key, name = self._record.kept.owner, self._record.key, of.name
        try:
            if name in self._keeper.usable(owner):
                await self._say_if_it_takes_time(name)
            commit = await self._keeper.make_again(name, owner, key=key, uid=uid)
        except (GatewayError, ScanFailed, OSError) as error:
            why = getattr(error, "strerror", None) or str(error)
            words = f"Packages and caches that {name} makes are not here. It is tried again when the agent"
            told = {"kind": "failed", "workspace": name, "why": why}
            self._notice("workspace_again", f"{words} starts next. {why}", "warning", **told)
            return
        if commit:
            at = commit[:12]
            words = f"Packages and caches are here again: {name} has made them here, at {at}."
            if commit != of.commit:
                words += f" This conversation began with {of.commit[:12]}."
            kind = "made" if commit == of.commit else "later"
            told = {"kind": kind, "workspace": name, "at": at, "began": of.commit[:12]}
            self._notice("workspace_again", words, "info", **told)

    async def _say_if_it_takes_time(self, name: str) -> None:
        if not await self._keeper.is_ready(name, self._record.kept.owner):
            words = f"The workspace {name} is being made ready: its repository is fetched and set up. …"
            self._say(words, workspace=name, kind="preparing")

    def _say(self, words: str, *, is_stale: bool = False, **values: str | int) -> None:
        self._notice(NOTICE, words, "warning" if is_stale else "info", **values)

    def _notice(self, code: str, words: str, level: Literal["info", "warning"], **values: str | int) -> None:
        self._log.append(ev.Notice(code, level, code, words, values=values), durable=True)


def origin_of(record: SessionRecord, fold: ChatState) -> StartedFrom | None:
    """Where a session's files are and what they began as; None if it has none of a repository."""
    of = fold.workspace
    if of is None or not of.commit:
        return None
    return StartedFrom(
        workspace=of.name,
        commit=of.commit,
        branch=of.branch,
        store=of.store,
        key=record.key,
        owner=record.owner,
        uid=record.uid,
    )


class SetupSubject:
    """A `setup`, as the rules of its connections see it. Implements `EgressSubject`."""

    turn_id = None

    def __init__(self, name: str, *, agent: str, tenant: str) -> None:
        self.key = f"workspace {name}"
        self.agent = agent
        self.tenant = tenant
        self.egress = EgressFold()

    def say(self, event: ev.EgressDenied | ev.EgressAsked | ev.EgressAnswered) -> None:
        """Nobody is there to answer: what was refused is logged."""
        if isinstance(event, ev.EgressDenied):
            log.warning("%s: its setup was refused %s:%d: %s", self.key, event.host, event.port, event.why)


class WorkspaceTools:
    """What warm copies need. Implements `files.workspaces_fetching.Tools`."""

    def __init__(
        self,
        *,
        spawner: Spawner,
        uids: Workspaces,
        snapshots: Snapshots,
        wall_ms: Callable[[], int],
        config: Callable[[], Config],
        agents: Callable[[], AgentCatalogue],
        values: CredentialValues,
        egress: EgressControl,
        doors: DoorKeeper,
    ) -> None:
        self.spawner = spawner
        self.uids = uids
        self.snapshots = snapshots
        self.wall_ms = wall_ms
        self._config = config
        self._agents = agents
        self._values = values
        self._egress = egress
        self._doors = doors

    async def secret(
        self, workspace: WorkspaceConfig, account: Account, *, url: str = ""
    ) -> git.Secret | None:
        """The header for its server, or for that of a submodule; None if it needs none. Raises
        RepositoryRefused.
        """
        credential = self._config().credentials.get(workspace.credential)
        if credential is None or (url and place_of(url) not in credential.places):
            return None
        try:
            value = await self._values.header(workspace.credential, credential, account)
        except ValueMissing as error:
            raise RepositoryRefused(str(error)) from None
        return git.Secret(
            url or workspace.repo,
            f"{credential.header}: {value.text.decode('ascii')}",
            tuple(masked.decode("ascii") for masked in value.masked),
            credential.ca_file,
        )

    def refused(self, workspace: WorkspaceConfig) -> None:
        """The server did not take the value: a command is asked again for the next call."""
        self._values.refused(workspace.credential)

    def walls(self, workspace: WorkspaceConfig) -> tuple[Sandbox, Limits]:
        """Those of the agent that its sessions get by default."""
        agent = self._agents().of(workspace.agent or self._agents().default)
        return agent.walls(), msgspec.structs.replace(agent.limits, **workspace.limits)

    def attend(self, worker: Worker, workspace: WorkspaceConfig, account: Account) -> None:
        """Serves the doors of a `setup` whose network is `broker`, by the lists of its agent."""
        if worker.doors is None or worker.exited.done():  # its doors are closed with it
            return
        agent = workspace.agent or self._agents().default
        subject = SetupSubject(account.session_key, agent=agent, tenant=tenant_of(account.owner))
        admission = SessionAdmission(subject, self._egress)
        self._doors.open(worker.doors, msgspec.structs.replace(account, agent=agent), admission)
